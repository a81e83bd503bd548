"""Transactions of callers that stay open: they hold up nobody but those who want the same execution."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import psycopg
import pytest

from mini_workflow import PostgresClient, PostgresRuntime, StoreUnavailable
from mini_workflow.ports import Commit
from mini_workflow.stores.postgres import PostgresBackend, schema
from mini_workflow.stores.postgres.connection import Address, Connection
from mini_workflow.testing import ManualClock
from mini_workflow.testing.contracts.backend import creation
from tests.postgres.server import PostgresServer
from tests.unit.local import flows
from tests.waiting import WAIT, eventually

LEASE = 500

Open = Callable[..., PostgresBackend]


@pytest.fixture
def name(postgres: PostgresServer) -> str:
    return postgres.schema()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000)


@pytest.fixture
def open_backend(postgres: PostgresServer, name: str, clock: ManualClock) -> Iterator[Open]:
    made: list[PostgresBackend] = []

    def opened(owner: str) -> PostgresBackend:
        # Whoever waits for the end of a transaction here fails in the end.
        url = f"{postgres.url}&options=-c%20statement_timeout%3D{WAIT * 1000}"
        backend = PostgresBackend(
            url, schema=name, owner=owner, clock=clock, lease=LEASE, address=owner
        )
        made.append(backend)
        backend.leases.acquire(clock.now())
        return backend

    yield opened
    for backend in made:
        backend.close()


def test_a_takeover_leaves_what_such_a_transaction_has_started(
    postgres: PostgresServer, name: str, clock: ManualClock, open_backend: Open
) -> None:
    """The process that was to run it is gone: the others take the rest, and that one once it is there."""
    gone, one = open_backend("gone"), open_backend("one")
    assert gone.store.commit([creation(f"e{n}") for n in range(8)]) == [True] * 8
    one.leases.release()  # so that the start goes to the one that will be gone
    postgres.ask(f"UPDATE {name}.owners SET until = 9000000000000")  # by the clock of the server
    with psycopg.connect(postgres.url) as connection:
        with PostgresClient(connection=connection, schema=name) as client:
            client.start_execution(flows.steps, 1, id="late")
        gone.leases.release()
        other = open_backend("other")
        while other.leases.acquire(clock.now()):
            pass
        stored = [other.store.load(f"e{n}") for n in range(8)]
        assert sum(one is not None and one.held for one in stored) >= 7
        connection.commit()
    while other.leases.acquire(clock.now()):
        pass
    for late in ("late", *(f"e{n}" for n in range(8))):
        found = other.store.load(late)
        assert found is not None
        assert found.held, late


@pytest.mark.parametrize("begun", [False, True], ids=["commit", "begin_commit"])
def test_a_worker_does_not_wait_for_long_for_the_same_id(
    begun: bool, postgres: PostgresServer, name: str, open_backend: Open
) -> None:
    """It would lose its lease, and others would wait for its commit when they take over."""
    one = open_backend("one")
    with psycopg.connect(postgres.url) as connection:
        with PostgresClient(connection=connection, schema=name) as client:
            client.start_execution(flows.steps, 1, id="same")
        both = [creation("same"), creation("b")]
        end = one.store.begin_commit(both) if begun else partial(one.store.commit, both)
        with pytest.raises(StoreUnavailable, match="has started an execution with the same id"):
            end()
        assert one.store.commit([creation("b")]) == [True]
        assert one.store.commit([Commit("b", 1, ("more",))]) == [True]
        connection.rollback()
    assert one.store.commit([creation("same")]) == [True]


def test_what_has_waited_for_the_same_id_goes_on(postgres: PostgresServer, name: str) -> None:
    with PostgresRuntime(postgres.url, schema=name, lease=1) as runtime:
        with psycopg.connect(postgres.url) as connection:
            with PostgresClient(connection=connection, schema=name) as client:
                client.start_execution(flows.steps, 2, id="same")
            with pytest.raises(StoreUnavailable):
                runtime.start_execution(flows.steps, 2, id="same")
            connection.commit()
        assert runtime.start_execution(flows.steps, 2, id="same").result(WAIT) == 1


def older(postgres: PostgresServer, name: str, version: int) -> None:
    """Make the tables as a release before has made them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:version])
        address = Address(postgres.url, name)
        connection = Connection(address)
        assert schema.upgrade(connection, address) == list(range(1, version + 1))
        connection.close()


def test_an_upgrade_gives_way_to_those_who_write(
    postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All commits would wait behind an upgrade that waits for a transaction which only reads."""
    older(postgres, name, 3)
    monkeypatch.setattr(schema, "_IMPATIENT", "SET LOCAL lock_timeout = '10ms'")
    address = Address(postgres.url, name)
    connection = Connection(address)
    pauses: list[float] = []

    def write(seconds: float) -> None:
        pauses.append(seconds)
        postgres.ask(
            f"SET lock_timeout = {WAIT * 1000}; INSERT INTO {name}.owners "
            "(name, address, until, host, pid, born) VALUES ('o', '', 0, '', 0, '')"
        )

    with psycopg.connect(postgres.url) as reader:
        reader.execute(f"SELECT * FROM {name}.owners".encode())
        with pytest.raises(StoreUnavailable, match="another transaction holds"):
            schema.upgrade(connection, address, write)
        assert pauses == [schema.PAUSE] * (schema.ATTEMPTS - 1)
        assert postgres.ask(f"SELECT version FROM {name}.meta") == [(3,)]

        def end(seconds: float) -> None:
            pauses.append(seconds)
            reader.rollback()

        pauses.clear()
        done = schema.upgrade(connection, address, end)
    assert done == list(range(4, len(schema.MIGRATIONS) + 1))
    assert len(pauses) == 1
    connection.close()


def test_the_printed_statements_give_way_too(postgres: PostgresServer, name: str) -> None:
    older(postgres, name, 3)
    statements = schema.script(Address(postgres.url, name), 3)
    with psycopg.connect(postgres.url) as reader:
        reader.execute(f"SELECT * FROM {name}.owners".encode())
        with pytest.raises(psycopg.errors.LockNotAvailable):
            postgres.ask(statements.replace("'2s'", "'10ms'"))
    postgres.ask(statements)
    assert postgres.ask(f"SELECT version FROM {name}.meta") == [(len(schema.MIGRATIONS),)]


def test_an_upgrade_waits_for_another_one_whatever_the_user_may_wait_for(
    postgres: PostgresServer, name: str
) -> None:
    """Many processes are opened at a time after a deploy: each goes on once one of them has upgraded."""
    role = f"r{name}"
    postgres.ask(f"CREATE ROLE {role} SUPERUSER LOGIN")
    postgres.ask(f"ALTER ROLE {role} SET lock_timeout = 1")
    address = Address(postgres.url.replace("postgres@", f"{role}@"), name)
    connection = Connection(address)
    done: list[int] = []
    waiting = threading.Thread(target=lambda: done.extend(schema.upgrade(connection, address)))
    with psycopg.connect(postgres.url) as other:
        lock = "SELECT pg_advisory_xact_lock(hashtext(%s))"
        other.execute(lock, (f"mini-workflow {name}",))
        waiting.start()
        asked = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: postgres.ask(asked))
        other.rollback()
        waiting.join(WAIT)
    assert len(done) == len(schema.MIGRATIONS)
    connection.close()
