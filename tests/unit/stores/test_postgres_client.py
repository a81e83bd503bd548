"""Clients of a database, beside a runtime that has it open."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from mini_workflow import (
    Context,
    ExecutionNotFound,
    PostgresClient,
    PostgresRuntime,
    StoreUnavailable,
    UsageError,
    workflow,
)
from tests.postgres.server import PostgresServer
from tests.waiting import WAIT


@workflow("postgres_client.waits")
async def waits(ctx: Context, name: str) -> str:
    value = await ctx.wait_for_signal("go")
    return f"{name} {await ctx.task(str.upper, value)}"


@pytest.fixture
def schema(postgres: PostgresServer) -> str:
    return postgres.schema()


@pytest.fixture
def client(postgres: PostgresServer, schema: str) -> Iterator[PostgresClient]:
    with PostgresClient(postgres.url, schema=schema) as opened:
        yield opened


def opened(postgres: PostgresServer, schema: str) -> PostgresRuntime:
    return PostgresRuntime(postgres.url, schema=schema)


def test_what_a_client_starts_is_run_by_whoever_has_it_open(
    postgres: PostgresServer, schema: str, client: PostgresClient
) -> None:
    with opened(postgres, schema):
        execution = client.start_execution(waits, "a", id="a")
        execution.signal("go", "now")
        assert execution.result(WAIT) == "a NOW"
        assert client.start_execution(waits, "a", id="a").result(WAIT) == "a NOW"


def test_what_a_client_starts_before_anybody_runs_it_begins_later(
    postgres: PostgresServer, schema: str, client: PostgresClient
) -> None:
    assert not client.is_served()
    started = client.start_executions(waits, [(str(n),) for n in range(20)])
    for execution in started:
        execution.signal("go", "late")
    with opened(postgres, schema):
        assert client.is_served()
        assert [e.result(WAIT) for e in started] == [f"{n} LATE" for n in range(20)]


def test_a_client_shares_its_starts_between_the_processes_that_live(
    postgres: PostgresServer, schema: str, client: PostgresClient
) -> None:
    with opened(postgres, schema), opened(postgres, schema):
        executions = client.start_executions(waits, [(str(n),) for n in range(60)])
        held = postgres.ask(
            f"SELECT DISTINCT p.owner FROM {schema}.executions AS x "
            f"JOIN {schema}.partitions AS p ON p.id = x.partition"
        )
        assert len(held) == 2
        for execution in executions:
            execution.signal("go", "x")
        assert {e.result(WAIT)[-1] for e in executions} == {"X"}


def test_an_update_and_a_query_of_a_client(
    postgres: PostgresServer, schema: str, client: PostgresClient
) -> None:
    @workflow("postgres_client.counts")
    async def counts(ctx: Context) -> int:
        state = {"n": 0}

        def add(by: int) -> int:
            state["n"] += by
            return state["n"]

        ctx.on_update("add", add)
        ctx.on_query("n", lambda: state["n"])
        await ctx.wait_for(lambda: state["n"] >= 5)
        return state["n"]

    with opened(postgres, schema):
        execution = client.start_execution(counts)
        assert execution.update("add", 2, timeout=WAIT) == 2
        assert execution.query("n") == 2
        assert execution.update("add", 3, timeout=WAIT) == 5
        assert execution.result(WAIT) == 5


def test_a_start_and_a_signal_come_with_the_callers_transaction(
    postgres: PostgresServer, schema: str, client: PostgresClient
) -> None:
    with opened(postgres, schema), psycopg.connect(postgres.url) as connection:
        before = client.start_execution(waits, "b", id="before")
        connection.execute(f"CREATE TABLE {schema}.orders (id text)".encode())
        with PostgresClient(connection=connection, schema=schema) as joined:
            connection.execute(f"INSERT INTO {schema}.orders VALUES ('o')".encode())
            execution = joined.start_execution(waits, "t", id="together")
            execution.signal("go", "yes")
            joined.get_execution("before").signal("go", "too")
            assert execution.describe().status == "running"
            with pytest.raises(UsageError, match="transaction"):
                execution.result(1)
        with pytest.raises(ExecutionNotFound):
            client.get_execution("together")
        assert before.describe().status == "running"
        connection.commit()
        assert client.get_execution("together").result(WAIT) == "t YES"
        assert before.result(WAIT) == "b TOO"


def test_nothing_begins_when_the_caller_rolls_back(
    postgres: PostgresServer, schema: str, client: PostgresClient
) -> None:
    with opened(postgres, schema), psycopg.connect(postgres.url) as connection:
        with PostgresClient(connection=connection, schema=schema) as joined:
            joined.start_execution(waits, "t", id="together")
            with pytest.raises(ExecutionNotFound):
                joined.get_execution("nobody")
        connection.rollback()
        with pytest.raises(ExecutionNotFound):
            client.get_execution("together")
        assert not connection.closed


def test_a_client_that_only_reads_changes_nothing(
    postgres: PostgresServer, schema: str, client: PostgresClient
) -> None:
    client.start_execution(waits, "a", id="a")
    with PostgresClient(postgres.url, schema=schema, read_only=True) as reader:
        assert [one.id for one in reader.list_executions()] == ["a"]
        with pytest.raises(UsageError, match="read_only"):
            reader.get_execution("a").signal("go")
        with pytest.raises(StoreUnavailable):
            reader._backend.mailbox.post("a", "{}", "k")


def test_a_client_that_only_reads_makes_no_tables(postgres: PostgresServer, schema: str) -> None:
    with pytest.raises(StoreUnavailable, match="migrate"):
        PostgresClient(postgres.url, schema=schema, read_only=True)
    assert postgres.ask(f"SELECT 1 FROM pg_namespace WHERE nspname = '{schema}'") == []


@pytest.mark.parametrize(
    ("url", "schema", "says"),
    [
        ("postgresql://[", "x", "address of the Postgres database is wrong"),
        ("postgresql://h/d", "Drop; table", "schema="),
        ("nonsense=1", "x", "address of the Postgres database is wrong"),
    ],
)
def test_a_wrong_address_is_refused(url: str, schema: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        PostgresClient(url, schema=schema)


def test_a_server_that_is_not_there(tmp_path: object) -> None:
    with pytest.raises(StoreUnavailable, match="check that the server runs") as caught:
        PostgresRuntime(f"postgresql://user:secret@/d?host={tmp_path}")
    assert "secret" not in str(caught.value)
