"""Postgres behind PgBouncer in transaction mode: each transaction may meet another session."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from mini_workflow import PostgresClient, PostgresRuntime, StoreUnavailable
from mini_workflow.core import events
from mini_workflow.stores.postgres import wakeups
from mini_workflow.stores.postgres.connection import Address, Connection
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from tests.faults.test_postgres import NEVER_LOOKS, parent, until_available
from tests.postgres.databases import databases
from tests.postgres.pooler import Pooler, pooler
from tests.postgres.server import PostgresServer
from tests.unit.engine.harness import MakeState, check, run_through, stepping
from tests.unit.local import flows
from tests.waiting import WAIT, eventually


@pytest.fixture
def schema(postgres: PostgresServer) -> str:
    return postgres.schema()


@pytest.fixture
def behind(pooler: Pooler) -> Iterator[MakeState]:
    with databases(pooler) as made:
        yield made


def test_the_pooler_lends_a_session_for_one_transaction(pooler: Pooler) -> None:
    """What the other tests here rely on: sessions are shared, and a prepared statement is gone."""
    with psycopg.connect(pooler.url, autocommit=True) as one:
        with psycopg.connect(pooler.url, autocommit=True) as two:
            asked = "SELECT pg_backend_pid()"
            assert one.execute(asked).fetchone() == two.execute(asked).fetchone()
        one.prepare_threshold = 0
        one.execute("SELECT 1")
        with psycopg.connect(pooler.url) as two:
            two.execute(asked)  # the session is taken
            with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                one.execute("SELECT 1")


@pytest.mark.parametrize("name", ["fan_out", "nested", "retries", "sequence"])
def test_a_crash_at_any_call_of_the_ports(name: str, behind: MakeState) -> None:
    shape, n, met = SHAPES[name], 1, 1
    while met:
        with Ledger() as ledger, stepping(behind, shape) as stepper:
            met = run_through(stepper, shape, [(n, n % 2 == 0)])
            check(stepper, shape, ledger, lost=met * 10)
        n += 5
    assert n > 9


class _Ending:
    """Ends something at the n-th commit: before it, or after it was done."""

    def __init__(self, end: Any, n: int, *, after: bool) -> None:
        self.met = False
        self._end, self._left, self._after = end, n, after
        self._call = Connection._run

    def run(self) -> Any:
        """What stands in for `Connection._run`."""

        def run(connection: Connection, sql: str, parameters: Any) -> list[Any]:
            if "@append" in sql or "@commit" in sql:
                self._left -= 1
                if self._left == 0:
                    return self._take(connection, sql, parameters)
            return self._call(connection, sql, parameters)

        return run

    def _take(self, connection: Connection, sql: str, parameters: Any) -> list[Any]:
        self.met = True
        if self._after:
            assert self._call(connection, sql, parameters)
        self._end()
        if not self._after:
            return self._call(connection, sql, parameters)
        connection.raw.close()
        raise psycopg.OperationalError("the answer was lost")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("what", ["sessions", "pooler"])
def test_sessions_or_the_pooler_end_at_any_commit(
    what: str, after: bool, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is done once, and the execution goes on, whatever has ended."""
    with pooler(postgres) as own:

        def end() -> None:
            if what == "pooler":
                own.kill()
                own.start()
            else:
                postgres.ask(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )

        n, met = 0, True
        while met:
            n += 1
            with (
                PostgresRuntime(own.url, schema=postgres.schema()) as runtime,
                monkeypatch.context() as patch,
            ):
                ending = _Ending(end, n, after=after)
                patch.setattr(Connection, "_run", ending.run())
                execution = until_available(lambda r=runtime: r.start_execution(parent, id="p"))
                assert execution.result(WAIT) == [1, 20, 3]
                met = ending.met
                history = until_available(execution.history)
                completed = [e for e in history if isinstance(e, events.TaskCompleted)]
                assert len(completed) == 2
        assert n > 5


def test_what_cannot_be_heard_is_looked_for_and_said(
    pooler: Pooler, schema: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal reaches the process that holds the execution, which nobody can wake."""
    monkeypatch.setattr(wakeups, "_LOOK", 0.01)
    with (
        caplog.at_level(logging.WARNING, "mini_workflow.postgres"),
        PostgresRuntime(pooler.url, schema=schema, lease=NEVER_LOOKS) as runtime,
        PostgresClient(pooler.url, schema=schema) as client,
    ):
        execution = runtime.start_execution(flows.waits_for_go, id="one")
        client.get_execution("one").signal("go")
        assert execution.result(WAIT) == "went"
        assert client.start_execution(flows.steps, 3).result(WAIT) == 3
        eventually(lambda: "direct_url=" in caplog.text)
    assert "reads the database four times a second" in caplog.text


def test_a_direct_address_is_heard_at(
    postgres: PostgresServer, pooler: Pooler, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it nobody looks: wake-ups through the pooler arrive."""
    monkeypatch.setattr(wakeups, "_LOOK", NEVER_LOOKS)
    with (
        PostgresRuntime(
            pooler.url, schema=schema, direct_url=postgres.url, lease=NEVER_LOOKS
        ) as runtime,
        PostgresClient(pooler.url, schema=schema) as client,
    ):
        execution = runtime.start_execution(flows.waits_for_go, id="one")
        client.get_execution("one").signal("go")
        assert execution.result(WAIT) == "went"


def test_a_pooler_that_keeps_sessions_is_heard_through(
    postgres: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wake-up of its own shows that they arrive: then nobody looks."""
    heard: list[bool] = []
    with pooler(postgres, "session", 20) as own:
        database = Address(own.url, schema)
        monkeypatch.setattr(wakeups, "_LOOK", NEVER_LOOKS)
        listening = wakeups.Wakeups(database)
        listening.listen(lambda: heard.append(True))
        try:
            eventually(lambda: len(heard) == 2)  # it listens, and has notified itself
        finally:
            listening.close()


def test_a_client_that_only_reads_changes_nothing_and_spoils_no_session(
    pooler: Pooler, schema: str
) -> None:
    with PostgresRuntime(pooler.url, schema=schema) as runtime:
        assert runtime.start_execution(flows.steps, 3, id="one").result(WAIT) == 3
        with PostgresClient(pooler.url, schema=schema, read_only=True) as reader:
            assert reader.get_execution("one").describe().status == "completed"
            address = reader._backend.database
            assert address.is_pooled
            connection = Connection(address)
            with pytest.raises(StoreUnavailable, match="read-only"):
                connection.rows("DELETE FROM @events")
            connection.close()
            assert runtime.start_execution(flows.steps, 3).result(WAIT) == 3
        assert len(runtime.get_execution("one").history()) == 8


def test_in_the_callers_own_transaction(pooler: Pooler, schema: str) -> None:
    with PostgresRuntime(pooler.url, schema=schema) as runtime:
        with psycopg.connect(pooler.url, prepare_threshold=None) as connection:
            with PostgresClient(connection=connection, schema=schema) as client:
                for number in range(10):
                    client.start_execution(flows.steps, 3, id=f"e-{number}")
            connection.commit()
        for number in range(10):
            assert runtime.get_execution(f"e-{number}").result(WAIT) == 3
