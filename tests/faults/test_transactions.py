"""Tasks whose results are recorded in transactions of their own: exactly once in the user's database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from mini_workflow import (
    Context,
    LocalRuntime,
    PostgresRuntime,
    RetryPolicy,
    UsageError,
    current_task,
    workflow,
)
from mini_workflow.core import events
from mini_workflow.testing import WorkflowEnvironment
from tests.postgres.server import PostgresServer
from tests.unit.local.child import Child
from tests.unit.local.flows import gate
from tests.waiting import WAIT

AGAIN = RetryPolicy(max_attempts=3, initial=0.01)


def pay(connection: Any, table: str, account: int) -> tuple[str, int]:
    """Take some money: each call leaves a row, and returns something else."""
    found = connection.execute(
        f"INSERT INTO {table} (account) VALUES (%s) RETURNING number", (account,)
    ).fetchone()
    return "paid", found[0]


def paid(url: str, table: str, account: int, trouble: str = "") -> tuple[str, int]:
    """A task: pay, once. With `trouble` its first attempt is lost behind the commit, or before it."""
    with psycopg.connect(url) as connection:
        once = current_task().transaction(connection)
        if trouble == "before" and current_task().attempt == 1:
            return once(lambda: (pay(connection, table, account), int("none"))[0])
        result = once(pay, connection, table, account=account)
        if trouble == "after" and current_task().attempt == 1:
            raise ConnectionError("lost behind the commit")
        return result


@workflow("transactions.pays")
async def pays(ctx: Context, url: str, table: str, trouble: str = "") -> Any:
    first = await ctx.task(paid, url, table, 1, trouble, retry=AGAIN)
    second = await ctx.task(paid, url, table, 2, retry=AGAIN)
    return [first, second]


@pytest.fixture
def schema(postgres: PostgresServer) -> str:
    return postgres.schema()


@pytest.fixture
def table(postgres: PostgresServer) -> Iterator[str]:
    name = f"payments_{postgres.schema()}"
    postgres.ask(f"CREATE TABLE {name} (number int GENERATED ALWAYS AS IDENTITY, account int)")
    yield name
    postgres.ask(f"DROP TABLE {name}")


def accounts(postgres: PostgresServer, table: str) -> list[int]:
    return [account for (account,) in postgres.ask(f"SELECT account FROM {table} ORDER BY number")]


@pytest.mark.parametrize("trouble", ["", "after", "before"])
def test_it_is_done_once_whatever_the_attempt_comes_to(
    trouble: str, postgres: PostgresServer, schema: str, table: str
) -> None:
    """What was committed is not done again, what was rolled back is."""
    with PostgresRuntime(postgres.url, schema=schema) as runtime:
        execution = runtime.start_execution(pays, postgres.url, table, trouble, id="one")
        first = execution.result(WAIT)
        assert first == payments(postgres, table)
        assert accounts(postgres, table) == [1, 2]
        # Another run, and another execution of the same id, pay for themselves.
        execution.restart()
        assert [*first, *execution.result(WAIT)] == payments(postgres, table)
        assert accounts(postgres, table) == [1, 2, 1, 2]
        execution.delete()
        assert postgres.ask(f"SELECT * FROM {schema}.results") == []
        again = runtime.start_execution(pays, postgres.url, table, id="one")
        assert again.result(WAIT) == payments(postgres, table)[4:]
        assert accounts(postgres, table) == [1, 2] * 3


def payments(postgres: PostgresServer, table: str) -> list[tuple[str, int]]:
    rows = postgres.ask(f"SELECT number FROM {table} ORDER BY number")
    return [("paid", number) for (number,) in rows]


KILLED = """
    import signal
    import psycopg
    from mini_workflow.stores.postgres.connection import Connection
    from tests.faults import test_transactions

    url, schema, table, n, after = path, *arguments
    left, after = int(n), after == "after"

    counted = ("payments_", ".results", ".append_", ".commit_")

    def dying(call):
        def run(self, *args, **options):
            global left
            its_last = False
            if call is end or any(word in str(args[0]) for word in counted):
                left -= 1
                its_last = left == 0
            if its_last and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(self, *args, **options)
            if its_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return found
        return run

    with PostgresRuntime(url, schema=schema) as runtime:
        end = psycopg.Transaction.__exit__
        psycopg.Cursor.execute = dying(psycopg.Cursor.execute)
        psycopg.Transaction.__exit__ = dying(end)
        runtime.start_execution(test_transactions.pays, url, table, id="one").result()
    say("done")
"""


@pytest.mark.parametrize("after", ["before", "after"])
def test_a_crash_at_any_call(after: str, postgres: PostgresServer, schema: str, table: str) -> None:
    """At each statement and commit of the task, and of the engine: the process is killed there, and
    another one takes over. Each account has paid once, and the history says what the row says."""
    n, is_over = 0, False
    while not is_over:
        n += 1
        with Child(KILLED, postgres.url, schema, table, n, after) as child:
            is_over = child.hear() == "done"
            assert n < 50
        with PostgresRuntime(postgres.url, schema=schema) as runtime:
            execution = runtime.start_execution(pays, postgres.url, table, id="one")
            results = execution.result(WAIT)
            assert accounts(postgres, table) == [1, 2]
            assert results == payments(postgres, table)
            history = execution.history()
            assert sum(isinstance(e, events.TaskCompleted) for e in history) == 2
            execution.delete()
        postgres.ask(f"DELETE FROM {table}")
    assert n > 10


def held_open(url: str, table: str) -> tuple[str, int]:
    """A task whose first attempt is given up while its transaction is open."""
    attempt = current_task().attempt

    def slowly(connection: Any) -> tuple[str, int]:
        result = pay(connection, table, attempt)
        if attempt == 1:
            gate("open").go_through()
        return result

    if attempt == 2:
        gate("open").opened.set()
    with psycopg.connect(url) as connection:
        return current_task().transaction(connection)(slowly, connection)


@workflow("transactions.gives_up")
async def gives_up(ctx: Context, url: str, table: str) -> Any:
    return await ctx.task(held_open, url, table, retry=AGAIN, timeout=0.2)


def test_two_attempts_at_a_time(postgres: PostgresServer, schema: str, table: str) -> None:
    """The second one waits until the first has committed, and returns what that has recorded."""
    with PostgresRuntime(postgres.url, schema=schema) as runtime:
        execution = runtime.start_execution(gives_up, postgres.url, table)
        kind, _ = execution.result(WAIT)
        assert kind == "paid"
        assert accounts(postgres, table) == [1]


def refuses(url: str, how: str) -> None:
    with psycopg.connect(url) as connection:
        if how == "begun":
            connection.execute("SELECT 1")
        once = current_task().transaction(object() if how == "other" else connection)
        if how == "coroutine":
            once(asyncio.sleep, 0)
        if how == "value":
            once(threading.Lock)
        once(lambda: None)


@workflow("transactions.refused")
async def refused(ctx: Context, url: str, how: str) -> Any:
    if how == "inline":
        await ctx.task(refuses, url, how, inline=True)
    await ctx.task(refuses, url, how, retry=RetryPolicy(max_attempts=1))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("begun", "commit or roll back that transaction first"),
        ("other", "give a psycopg.Connection"),
        ("coroutine", "runs plain functions only"),
        ("elsewhere", "connect to that of the runtime"),
        ("inline", "not inline"),
    ],
)
def test_what_cannot_be_is_refused(
    how: str, message: str, postgres: PostgresServer, schema: str
) -> None:
    url = postgres.url
    if how == "elsewhere":
        postgres.ask(f"CREATE DATABASE {schema}")
        url = url.replace("/postgres?", f"/{schema}?")
    with PostgresRuntime(postgres.url, schema=schema) as runtime:
        with pytest.raises(UsageError, match=message):
            runtime.start_execution(refused, url, how).result(WAIT)
        assert postgres.ask(f"SELECT * FROM {schema}.results") == []


def test_a_result_that_cannot_be_encoded_rolls_back(postgres: PostgresServer, schema: str) -> None:
    with PostgresRuntime(postgres.url, schema=schema) as runtime:
        with pytest.raises(Exception, match="result of task"):
            runtime.start_execution(refused, postgres.url, "value").result(WAIT)
        assert postgres.ask(f"SELECT * FROM {schema}.results") == []


@pytest.mark.parametrize("kind", ["local", "environment", "workers"])
def test_other_runtimes_say_so(
    kind: str, postgres: PostgresServer, schema: str, tmp_path: Any
) -> None:
    opened = {
        "local": lambda: LocalRuntime(tmp_path / "state.db"),
        "environment": WorkflowEnvironment,
        "workers": lambda: PostgresRuntime(postgres.url, schema=schema, workers=1),
    }
    with opened[kind]() as runtime, pytest.raises(UsageError, match="takes a PostgresRuntime"):
        runtime.start_execution(refused, postgres.url, "").result(WAIT)
