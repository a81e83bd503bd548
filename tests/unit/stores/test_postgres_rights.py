"""The rights that docs/postgres.md lists are enough for a worker, a client and a reader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from mini_workflow import (
    Context,
    PostgresClient,
    PostgresRuntime,
    StoreUnavailable,
    current_task,
    workflow,
)
from mini_workflow.stores.postgres import schema
from mini_workflow.stores.postgres.connection import Address, Connection
from tests.postgres.server import PostgresServer
from tests.waiting import WAIT, eventually

PAGE = Path(__file__).parents[3] / "docs" / "postgres.md"


@workflow("postgres_rights.waits")
async def waits(ctx: Context) -> str:
    added: list[int] = []
    ctx.on_update("add", added.append)
    ctx.on_query("added", lambda: sum(added))
    first = await ctx.wait_for_signal("first")
    await ctx.task(lambda: current_task().heartbeat("half"))
    promise = ctx.promise("approval")
    await ctx.task(send, promise.token)
    return f"{first} {await promise} {sum(added)}"


TOKENS: list[str] = []


def send(token: str) -> None:
    TOKENS.append(token)


@pytest.fixture
def name(postgres: PostgresServer) -> str:
    return postgres.schema()


@pytest.fixture
def urls(postgres: PostgresServer, name: str) -> Iterator[dict[str, str]]:
    """The addresses of users with the rights that the page lists; the tables are older than the rights."""
    listed = re.search("```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert listed is not None
    address = Address(postgres.url, name)
    connection = Connection(address)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:-1])
        schema.upgrade(connection, address)
    roles = {role: f"orders_{role}_{name}" for role in ("worker", "client", "reader")}
    postgres.ask("; ".join(f"CREATE ROLE {role} LOGIN" for role in roles.values()))
    statements = listed[1].replace("mini_workflow", name)
    for role, called in roles.items():
        statements = statements.replace(f"orders_{role}", called)
    postgres.ask(statements)
    assert schema.upgrade(connection, address) == [len(schema.MIGRATIONS)]
    connection.close()
    yield {role: postgres.url.replace("postgres@", f"{one}@") for role, one in roles.items()}
    postgres.ask("; ".join(f"DROP OWNED BY {role}; DROP ROLE {role}" for role in roles.values()))


def test_the_listed_rights_are_enough(urls: dict[str, str], name: str) -> None:
    with (
        PostgresRuntime(urls["worker"], schema=name, migrate=False) as runtime,
        PostgresClient(urls["client"], schema=name, migrate=False) as client,
        PostgresClient(urls["reader"], schema=name, read_only=True) as reader,
    ):
        execution = client.start_execution(waits, id="one", tags={"a": "b"})
        execution.update("add", 2, timeout=WAIT)
        assert execution.query("added") == 2
        execution.pause()
        execution.resume()
        execution.signal("first", "signal")
        client.complete_promise(token(), "yes")
        assert execution.result(WAIT) == "signal yes 2"
        found = reader.list_executions(tags={"a": "b"})
        assert [one.id for one in found] == ["one"]
        assert reader.get_execution("one").describe().status == "completed"
        assert len(reader.get_execution("one").history()) > 5
        execution.restart()
        execution.cancel()
        for one in client.start_executions(waits, [() for _ in range(3)]):
            one.terminate()
        client.update_with_start(
            waits, id="two", update="add", update_args=[3], update_timeout=WAIT
        ).result(WAIT)
        execution.delete()
        with psycopg.connect(urls["client"]) as connection:
            with PostgresClient(connection=connection, schema=name) as joined:
                joined.start_execution(waits, id="three").signal("first", "joined")
            connection.commit()
        client.complete_promise(token(), "too")
        assert runtime.get_execution("three").result(WAIT) == "joined too 0"


def token() -> str:
    """The token of the promise that an execution has made last."""
    return eventually(lambda: TOKENS.pop() if TOKENS else None)


def test_less_is_refused(urls: dict[str, str], name: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"permission denied.*docs/postgres\.md"):
        PostgresRuntime(urls["client"], schema=name, migrate=False)
    with (
        PostgresClient(urls["reader"], schema=name, migrate=False) as client,
        pytest.raises(StoreUnavailable, match=r"permission denied.*docs/postgres\.md"),
    ):
        client.start_execution(waits)
