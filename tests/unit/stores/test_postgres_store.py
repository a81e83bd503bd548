"""What the store in Postgres asks of the server, and which schemas it opens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import psycopg
import pytest

from mini_workflow import (
    ExecutionNotFound,
    LeaseLost,
    PostgresClient,
    PostgresRuntime,
    StoreTooNew,
    StoreUnavailable,
)
from mini_workflow.engine import engine_role
from mini_workflow.ports import Commit, Query, QueuedMessage
from mini_workflow.stores.postgres import PostgresBackend, schema
from mini_workflow.stores.postgres.connection import Address, Connection
from mini_workflow.testing import ManualClock
from mini_workflow.testing.contracts.backend import create, creation, head
from tests.postgres.server import PostgresServer
from tests.unit.local import flows
from tests.unit.stores.conftest import Open
from tests.waiting import WAIT

ROUND_TRIPS: Final = {
    "look up 1,000": 1,
    "start 1": 1,
    "start 1,000": 1,
    "a step": 1,
    "a step of 1,000 executions": 1,
    "a step with a message, a head and a parked message": 1,
    "load": 1,
    "head": 1,
    "history": 1,
    "extent": 1,
    "post": 1,
    "entries": 1,
    "due": 1,
    "next_wake": 1,
    "busy": 1,
    "list": 1,
    "count": 1,
    "renew": 1,
    "acquire, nothing is free": 1,
    "peers": 1,
}


def test_round_trips(open_backend: Open, request: pytest.FixtureRequest) -> None:
    """Each operation asks the server once, however much it is about."""
    one = open_backend()
    one.leases.acquire(0)
    many = [f"m{number}" for number in range(1_000)]
    create(one, "a")
    message = (QueuedMessage("a", "x", "k"),)
    calls: dict[str, Callable[[], Any]] = {
        "look up 1,000": lambda: one.store.lookup(many),
        "start 1": lambda: create(one, "b"),
        "start 1,000": lambda: one.store.commit([creation(each) for each in many]),
        "a step": lambda: one.store.commit([Commit("b", 1, ("x", "y"))]),
        "a step of 1,000 executions": lambda: one.store.commit(
            [Commit(each, 1, ("x",)) for each in many]
        ),
        "a step with a message, a head and a parked message": lambda: one.store.commit(
            [Commit("b", 3, ("z",), head("b", run=2), park=("p",), outbox=message)]
        ),
        "load": lambda: one.store.load("b"),
        "head": lambda: one.store.head("b"),
        "history": lambda: one.store.history("b"),
        "extent": lambda: one.store.extent("b"),
        "post": lambda: one.mailbox.post("b", "body", "key"),
        "entries": lambda: one.mailbox.entries(0, 100),
        "due": lambda: one.agenda.due(10, 10),
        "next_wake": one.agenda.next_wake,
        "busy": lambda: one.agenda.busy("", 10),
        "list": lambda: one.store.list(Query(limit=10)),
        "count": lambda: one.store.count(Query()),
        "renew": lambda: one.leases.renew(0),
        "acquire, nothing is free": lambda: one.leases.acquire(0),
        "peers": one.leases.peers,
    }
    counted: dict[str, int] = {}
    for what, call in calls.items():
        before = one.trips
        call()
        counted[what] = one.trips - before
    lines = [f"{what}: {trips}" for what, trips in counted.items()]
    request.node.add_report_section("call", "round trips", "\n".join(lines))
    assert counted == ROUND_TRIPS


def test_many_starts_with_ids_ask_the_server_a_few_times(
    postgres: PostgresServer, name: str
) -> None:
    """However many they are; and the results of what has run here are not read."""
    seldom = 24 * 3600.0
    with PostgresRuntime(postgres.url, schema=name, lease=seldom) as runtime:
        backend: Any = runtime._opened.backend
        runtime.start_execution(flows.steps, 1, id="first").result(WAIT)
        before = backend.trips
        ids = [f"e-{number}" for number in range(1_000)]
        started = runtime.start_executions(flows.echo, [(n,) for n in range(1_000)], ids=ids)
        assert backend.trips - before <= 10
        assert [execution.result(WAIT) for execution in started] == list(range(1_000))
        assert backend.trips - before <= 10
        with PostgresClient(postgres.url, schema=name) as client:
            other: Any = client._backend
            before = other.trips
            client.start_executions(
                flows.echo, [(n,) for n in range(1_000)], ids=[f"c-{n}" for n in range(1_000)]
            )
            assert other.trips - before <= 10


def test_the_tasks_of_a_gather_share_few_commits(
    postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of as many outcomes as a turn takes each, and not as many as there happen to be when one ends."""
    monkeypatch.setattr(engine_role, "QUIET", WAIT)
    monkeypatch.setattr(engine_role, "LONGEST", WAIT)
    with PostgresRuntime(postgres.url, schema=name, lease=24 * 3600.0) as runtime:
        runtime.start_execution(flows.gathered, 10).result(WAIT)
        counts = runtime._engine._group_commit.counts
        before = counts.commits
        assert runtime.start_execution(flows.gathered, 1_000).result(WAIT) == 1_000
        assert counts.commits - before <= 4


def test_what_is_run_again_elsewhere_is_not_answered_from_memory(
    postgres: PostgresServer, name: str
) -> None:
    with PostgresRuntime(postgres.url, schema=name) as runtime:
        execution = runtime.start_execution(flows.echo, 1, id="e")
        assert execution.result(WAIT) == 1
        execution.restart()
        assert execution.result(WAIT) == 1
        assert execution.describe().run == 2
        execution.delete()
        with pytest.raises(ExecutionNotFound):
            runtime.get_execution("e").result(WAIT)
        again = runtime.start_execution(flows.echo, 2, id="e")
        assert again.result(WAIT) == 2


def test_a_later_release_may_use_the_tables_at_the_same_time(
    postgres: PostgresServer, name: str, open_backend: Open
) -> None:
    """One that has only added something says so by `oldest`."""
    one = open_backend()
    one.leases.acquire(0)
    create(one, "a")
    postgres.ask(f"UPDATE {name}.meta SET version = version + 1")
    postgres.ask(f"ALTER TABLE {name}.executions ADD COLUMN added text")
    two = open_backend("two")
    assert two.store.head("a") == head("a")
    assert one.store.commit([Commit("a", 1, ("more",))]) == [True]
    assert postgres.ask(f"SELECT version FROM {name}.meta") == [(len(schema.MIGRATIONS) + 1,)]


def test_tables_that_take_a_later_release_are_left_alone(
    postgres: PostgresServer, name: str, open_backend: Open
) -> None:
    open_backend().close()
    later = len(schema.MIGRATIONS) + 2
    postgres.ask(f"UPDATE {name}.meta SET version = {later}, oldest = {later}")
    for migrate in (True, False):
        with pytest.raises(StoreTooNew, match=f"version {later}"):
            open_backend(migrate=migrate)
    assert postgres.ask(f"SELECT version, oldest FROM {name}.meta") == [(later, later)]


def test_many_that_open_an_empty_schema_make_the_tables_once(
    postgres: PostgresServer, name: str
) -> None:
    address = Address(postgres.url, name)
    done: list[list[int]] = []
    problems: list[BaseException] = []

    def upgrade() -> None:
        connection = Connection(address)
        try:
            done.append(schema.upgrade(connection, address))
        except BaseException as error:
            problems.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=upgrade) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sorted(map(len, done)) == [0] * 5 + [len(schema.MIGRATIONS)]


def test_a_user_without_rights_is_told_what_to_do(postgres: PostgresServer, name: str) -> None:
    role = f"r{name}"
    postgres.ask(f"CREATE ROLE {role} LOGIN")
    url = postgres.url.replace("postgres@", f"{role}@")
    clock = ManualClock(1_000_000)
    with pytest.raises(StoreUnavailable, match="mini-workflow migrate"):
        PostgresBackend(url, schema=name, owner="o", clock=clock)
    PostgresBackend(postgres.url, schema=name, owner="o", clock=clock).close()
    postgres.ask(f"GRANT USAGE ON SCHEMA {name} TO {role}")
    postgres.ask(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {role}")
    limited = PostgresBackend(url, schema=name, owner="o", clock=clock, migrate=False)
    limited.leases.acquire(clock.now())
    create(limited, "a")
    assert limited.store.head("a") == head("a")
    limited.close()


def test_two_that_create_the_same_in_another_order(
    open_backend: Open, postgres: PostgresServer, name: str
) -> None:
    """A deadlock is resolved by the server, and the commit is done again: each is created once."""
    one, two = open_backend("one"), open_backend("two")
    for backend in (one, two):
        backend.leases.acquire(0)
    names = [f"e{number:03}" for number in range(200)]
    answers: dict[str, list[bool]] = {}
    problems: list[BaseException] = []

    def commit(backend: PostgresBackend, key: str, order: list[str]) -> None:
        try:
            found = backend.store.commit([creation(each) for each in order])
            answers[key] = [made for _, made in sorted(zip(order, found, strict=True))]
        except BaseException as error:
            problems.append(error)

    threads = [
        threading.Thread(target=commit, args=(one, "one", names)),
        threading.Thread(target=commit, args=(two, "two", names[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [a != b for a, b in zip(answers["one"], answers["two"], strict=True)] == [True] * 200
    assert postgres.ask(f"SELECT count(*) FROM {name}.events") == [(200,)]


def test_a_commit_waits_for_nobody_who_reads(
    open_backend: Open, postgres: PostgresServer, name: str
) -> None:
    one = open_backend()
    one.leases.acquire(0)
    create(one, "a")
    with psycopg.connect(postgres.url) as report:
        report.execute(f"SELECT * FROM {name}.executions, {name}.events".encode())
        assert one.store.commit([Commit("a", 1, ("more",))]) == [True]


def test_a_lease_that_somebody_else_has_ended_is_lost(
    open_backend: Open, postgres: PostgresServer, name: str
) -> None:
    one = open_backend()
    one.leases.acquire(0)
    create(one, "a")
    postgres.ask(f"DELETE FROM {name}.owners")
    with pytest.raises(LeaseLost):
        one.store.commit([Commit("a", 1, ("more",))])
    assert one.leases.acquire(0)
    assert one.store.commit([Commit("a", 1, ("more",))]) == [True]
