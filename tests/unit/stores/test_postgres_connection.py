"""Connections to Postgres: the settings of users and databases, those of callers, and what errors say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest

from mini_workflow import (
    Context,
    PostgresClient,
    PostgresRuntime,
    StoreError,
    StoreUnavailable,
    UsageError,
    current_task,
    workflow,
)
from mini_workflow.ports import Commit
from mini_workflow.stores.postgres import PostgresBackend
from mini_workflow.stores.postgres.clock import DatabaseClock
from mini_workflow.stores.postgres.connection import Address, Connection
from mini_workflow.testing.contracts.backend import creation
from tests.postgres.pooler import Pooler
from tests.postgres.server import PostgresServer
from tests.unit.local import flows
from tests.waiting import WAIT


@pytest.fixture
def schema(postgres: PostgresServer) -> str:
    return postgres.schema()


def as_user(postgres: PostgresServer, name: str, *settings: str) -> str:
    """The address for a new user with settings of its own."""
    postgres.ask(f"CREATE ROLE r{name} SUPERUSER LOGIN")
    for setting in settings:
        postgres.ask(f"ALTER ROLE r{name} SET {setting}")
    return postgres.url.replace("postgres@", f"r{name}@")


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_a_user_whose_transactions_are_isolated(
    level: str, postgres: PostgresServer, schema: str
) -> None:
    """Whoever has waited for another takeover sees what that has done."""
    url = as_user(postgres, schema, f"default_transaction_isolation = '{level}'")
    one, two = [PostgresBackend(url, schema=schema, owner=name) for name in ("one", "two")]
    one.leases.acquire(one.clock.now())
    assert one.store.commit([creation("a")]) == [True]
    one.leases.release()
    with psycopg.connect(postgres.url) as other:
        connection = Connection(two.database)
        connection.row("SELECT 1")
        with connection.transaction() as opened:
            opened.run("SELECT 1")
            other.execute(f"UPDATE {schema}.meta SET version = version".encode())
            other.commit()
            opened.run("UPDATE @meta SET version = version")  # would not be serializable
        connection.close()
    assert two.leases.acquire(two.clock.now())
    assert two.store.commit([Commit("a", 1, ("more",))]) == [True]
    for backend in (one, two):
        backend.close()


def test_a_user_whose_transactions_are_isolated_behind_a_pooler(
    postgres: PostgresServer, pooler: Pooler, schema: str
) -> None:
    """No setting of a session is changed there, since others use it next."""
    address = Address(pooler.url, schema)
    connection = Connection(address)
    with connection.transaction() as opened:
        assert opened.run("SHOW transaction_isolation") == [("read committed",)]
    assert connection.raw.isolation_level is psycopg.IsolationLevel.READ_COMMITTED
    connection.close()


def test_a_server_that_has_vanished_is_noticed(postgres: PostgresServer, schema: str) -> None:
    """After a failover nobody may answer at the old address, nor refuse. The address may say otherwise."""
    raw = Address(postgres.url, schema).connect()
    found = raw.info.get_parameters()
    raw.close()
    assert (found["keepalives_idle"], found["tcp_user_timeout"]) == ("10", "20000")
    raw = Address(f"{postgres.url}&tcp_user_timeout=5000", schema).connect()
    assert raw.info.get_parameters()["tcp_user_timeout"] == "5000"
    raw.close()


Begin = Callable[[psycopg.Connection[Any]], Any]

CONNECTIONS: dict[str, tuple[dict[str, Any], Begin]] = {
    "plain": ({}, nullcontext),
    "raw cursors": ({"cursor_factory": psycopg.RawCursor}, nullcontext),
    "client cursors": ({"cursor_factory": psycopg.ClientCursor}, nullcontext),
    "dictionaries": ({"row_factory": psycopg.rows.dict_row}, nullcontext),
    "pipeline": ({}, psycopg.Connection.pipeline),
    "latin": ({"client_encoding": "LATIN1"}, nullcontext),
}
"""Connections as callers make them."""


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_any_connection_of_a_caller(kind: str, postgres: PostgresServer, schema: str) -> None:
    options, begin = CONNECTIONS[kind]
    with PostgresRuntime(postgres.url, schema=schema) as runtime:
        with (
            psycopg.connect(postgres.url, **options) as connection,
            begin(connection),
            PostgresClient(connection=connection, schema=schema) as client,
        ):
            execution = client.start_execution(flows.waits_for_go, id="one")
            execution.signal("go")
            assert execution.describe().status == "running"
        assert runtime.get_execution("one").result(WAIT) == "went"


def once(url: str, kind: str) -> str:
    options, begin = CONNECTIONS[kind]
    with psycopg.connect(url, **options) as connection, begin(connection):
        return current_task().transaction(connection)(lambda: "done")


@workflow("postgres_connection.pays")
async def pays(ctx: Context, url: str, kind: str) -> str:
    return await ctx.task(once, url, kind)


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_any_connection_of_a_task(kind: str, postgres: PostgresServer, schema: str) -> None:
    with PostgresRuntime(postgres.url, schema=schema) as runtime:
        assert runtime.start_execution(pays, postgres.url, kind).result(WAIT) == "done"
        assert len(postgres.ask(f"SELECT result FROM {schema}.results")) == 1


def test_a_connection_that_cannot_be_used_is_refused(postgres: PostgresServer, schema: str) -> None:
    PostgresBackend(postgres.url, schema=schema, owner="o").close()
    other: Any = object()
    with pytest.raises(UsageError, match=r"object of object.*give a psycopg\.Connection"):
        PostgresClient(connection=other, schema=schema)
    with (
        psycopg.connect(postgres.url, client_encoding="SQL_ASCII") as connection,
        pytest.raises(UsageError, match="client_encoding=UTF8"),
    ):
        PostgresClient(connection=connection, schema=schema)
    with psycopg.connect(postgres.url) as connection:
        client = PostgresClient(connection=connection, schema=schema)
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(UsageError, match="has failed: roll it back"):
            client.start_execution(flows.steps, 1)
        with pytest.raises(UsageError, match="has failed: roll it back"):
            PostgresClient(connection=connection, schema=schema)
        assert str(postgres.folder) in client.path
    with client, pytest.raises(StoreUnavailable, match="connection is closed"):
        client.start_execution(flows.steps, 1)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("25006", "a standby, or default_transaction_read_only is on"),
        ("57014", "statement_timeout of this user or of the database is too short"),
        ("25P04", "transaction_timeout of this user or of the database is too short"),
        ("55P03", "end it, and try again"),
    ],
)
def test_settings_that_get_in_the_way_are_named(
    state: str, says: str, postgres: PostgresServer, schema: str
) -> None:
    connection = Connection(Address(postgres.url, schema))
    raised = f"DO $$ BEGIN RAISE EXCEPTION 'the server says so' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(StoreUnavailable, match=f"the server says so; .*{says}") as caught:
        connection.once(raised)
    assert "PL/pgSQL" not in str(caught.value)  # nor the statement, which may be long
    connection.close()


def test_a_schema_that_the_server_keeps_for_itself(postgres: PostgresServer) -> None:
    with pytest.raises(UsageError, match="does not begin with a digit or pg_"):
        PostgresRuntime(postgres.url, schema="pg_workflow")


def test_an_answer_that_was_long_under_way_does_not_put_the_clock_ahead() -> None:
    """Else a process that had to connect again would take over from others that live."""
    clock = DatabaseClock()
    clock.set(1_000_000, 5_000, 5_010)
    assert clock._offset == 994_995
    clock.set(1_060_000, 5_000, 65_000)  # it was read at the end of that minute
    assert clock._offset == 995_000
    clock.set(1_061_000, 66_000, 66_020)
    assert clock._offset == 995_000
    clock.set(4_660_000, 65_000, 65_020)  # the server's clock was set ahead
    assert clock._offset == 4_594_980
    clock.set(1_060_000, 65_000, 65_020)  # and back
    assert clock._offset == 995_000


def test_what_the_server_says_is_not_lost(postgres: PostgresServer, schema: str) -> None:
    connection = Connection(Address(postgres.url, schema))
    raised = "DO $$ BEGIN RAISE EXCEPTION 'a.' USING DETAIL = 'b', HINT = 'c'; END $$"
    with pytest.raises(StoreError, match=r": a\. b\. c$"):
        connection.once(raised)
    connection.close()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("CONNECTION LIMIT 0", r"too many connections.*raise max_connections"),
        ("NOLOGIN", r"not permitted to log in.*correct the address"),
    ],
)
def test_a_server_that_refuses_a_connection(
    option: str, says: str, postgres: PostgresServer, schema: str
) -> None:
    """It runs, and says why: the driver has no code for that."""
    url = as_user(postgres, schema)
    postgres.ask(f"ALTER ROLE r{schema} NOSUPERUSER {option}")
    with pytest.raises(StoreUnavailable, match=says):
        PostgresRuntime(url, schema=schema)


def test_an_address_of_something_that_is_not_there(postgres: PostgresServer, schema: str) -> None:
    for url in (
        postgres.url.replace("/postgres?", f"/{schema}?"),
        postgres.url.replace("postgres@", f"{schema}@"),
    ):
        with pytest.raises(StoreUnavailable, match=r"does not exist; .*correct the address"):
            PostgresRuntime(url, schema=schema)
