"""The command line on a Postgres database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import conninfo_to_dict

from mini_workflow import PostgresRuntime
from mini_workflow.cli import postgres_checks
from mini_workflow.cli.app import cli
from mini_workflow.cli.backends import PostgresTarget, open_backend
from mini_workflow.cli.config import find_config
from mini_workflow.stores.postgres.schema import MIGRATIONS
from tests.postgres.server import PostgresServer

Run = Callable[..., Result]


@pytest.fixture
def schema(postgres: PostgresServer) -> str:
    return postgres.schema()


@pytest.fixture
def run(postgres: PostgresServer, schema: str) -> Run:
    def run(*arguments: str) -> Result:
        backend = f"{postgres.url}&schema={schema}"
        return CliRunner().invoke(cli, ["--backend", backend, *arguments])

    return run


@pytest.mark.parametrize("words", [("vacuum",), ("backup", "copy.db"), ("dlq", "ls")])
def test_commands_for_other_stores_name_this_one(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(cli, ["--backend", "postgresql://ann@db/orders", *words])
    assert said.exit_code == 2
    assert "ostgres" in said.stderr
    assert "SQLite file has no" not in said.stderr
    assert "are on AWS" not in said.stderr


def test_dev_hands_on_the_address_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[dict[str, str]] = []
    monkeypatch.setattr(
        "mini_workflow.cli.development.supervise",
        lambda command, variables, *others: handed.append(variables),
    )
    addresses = ["--backend", "postgresql://pooler/a", "--direct-url", "postgresql://server/a"]
    said = CliRunner().invoke(cli, [*addresses, "dev", "flows", "--port", "0"])
    assert said.exit_code == 0, said.output
    assert handed == [
        {
            "MINI_WORKFLOW_BACKEND": "postgresql://pooler/a",
            "MINI_WORKFLOW_DIRECT_URL": "postgresql://server/a",
        }
    ]


def test_migrate_makes_the_tables_once(run: Run) -> None:
    first = run("migrate", "--json")
    assert first.exit_code == 0, first.output
    every = list(range(1, len(MIGRATIONS) + 1))
    assert json.loads(first.output) == {"version": len(MIGRATIONS), "done": every}
    assert "nothing to do" in run("migrate").output


def test_the_statements_of_migrate_make_the_same_tables(
    postgres: PostgresServer, schema: str, run: Run
) -> None:
    script = run("migrate", "--sql")
    assert script.exit_code == 0, script.output
    assert postgres.ask(f"SELECT 1 FROM pg_namespace WHERE nspname = '{schema}'") == []
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(script.output.encode())
    assert "nothing to do" in run("migrate").output
    assert run("migrate", "--sql").output == ""
    with PostgresRuntime(postgres.url, schema=schema, migrate=False) as runtime:
        assert runtime.list_executions() == []


def test_commands_that_need_tables_say_so(run: Run) -> None:
    found = run("ls")
    assert found.exit_code != 0
    assert "mini-workflow migrate" in found.output
    doctor = run("doctor")
    assert doctor.exit_code == 1
    assert "the tables have version 0" in doctor.output


def test_doctor_finds_nothing_wrong_with_a_quiet_server(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("migrate")
    monkeypatch.setattr(postgres_checks, "DURABLE", ())  # the server of the tests saves time
    found = run("doctor")
    assert found.exit_code == 0, found.output
    for text in (
        "connections of the server",
        "the clock",
        "executions: ",
        "no transaction is open",
    ):
        assert text in found.output


def test_doctor_names_a_transaction_that_is_open_for_long(
    postgres: PostgresServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("migrate")
    monkeypatch.setattr(postgres_checks, "LONG_TRANSACTION", 0)
    with psycopg.connect(postgres.url, application_name="report") as connection:
        connection.execute("SELECT 1")
        found = run("doctor")
    assert found.exit_code == 1
    assert "(report, idle in transaction)" in found.output
    assert "pg_terminate_backend" in found.output


def test_doctor_says_what_its_user_may_not_see(
    postgres: PostgresServer, schema: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is called right that could not be looked at; sessions of others are counted all the same."""
    run("migrate")
    postgres.ask(f'CREATE ROLE "R{schema}" LOGIN')
    postgres.ask(f'GRANT USAGE ON SCHEMA {schema} TO "R{schema}"')
    postgres.ask(f'GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO "R{schema}"')
    backend = postgres.url.replace("postgres@", f"R{schema}@") + f"&schema={schema}"
    monkeypatch.setattr(postgres_checks, "LONG_TRANSACTION", 0)
    with psycopg.connect(postgres.url) as connection:
        connection.execute("SELECT 1")
        limited = CliRunner().invoke(cli, ["--backend", backend, "doctor"])
        assert limited.exit_code == 1
        assert f'GRANT pg_read_all_stats TO "R{schema}"' in limited.output
        assert "no transaction is open" not in limited.output
        assert "in use: 1 of" not in limited.output
        postgres.ask(f'GRANT pg_read_all_stats TO "R{schema}"')
        granted = CliRunner().invoke(cli, ["--backend", backend, "doctor"])
    assert "pg_terminate_backend" in granted.output
    assert "pg_read_all_stats" not in granted.output


def test_doctor_names_what_a_crash_of_the_server_would_lose(
    postgres: PostgresServer, schema: str, run: Run
) -> None:
    run("migrate")
    found = run("doctor")
    assert found.exit_code == 1
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        assert f"{name} is off (" in found.output
    for setting in ("local", "on"):
        backend = f"{postgres.url}&schema={schema}&options=-csynchronous_commit%3D{setting}"
        found = CliRunner().invoke(cli, ["--backend", backend, "doctor"])
        assert "fsync is off (" in found.output
        assert "synchronous_commit" not in found.output


def test_doctor_warns_of_too_few_connections(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("migrate")
    monkeypatch.setattr(postgres_checks, "FEW_CONNECTIONS", 0)
    found = run("doctor")
    assert found.exit_code == 1
    assert "raise max_connections" in found.output


def test_backup_names_the_tool_of_the_database(run: Run) -> None:
    found = run("backup", "copy.db")
    assert found.exit_code != 0
    assert "pg_dump" in found.output


def test_a_password_is_not_shown(postgres: PostgresServer) -> None:
    backend = f"postgresql://user:secret@/none?host={postgres.folder}/nowhere"
    found = CliRunner().invoke(cli, ["--backend", backend, "doctor"])
    assert found.exit_code == 1
    assert "secret" not in found.output


def test_the_server_behind_a_pooler_is_named(
    postgres: PostgresServer, schema: str, tmp_path: Path
) -> None:
    """By an option or in pyproject.toml, and it is where workers are woken."""
    (tmp_path / "pyproject.toml").write_text('[tool.mini-workflow]\ndirect_url = "from-file"\n')
    assert find_config(tmp_path, backend="postgresql://h/d").direct_url == "from-file"
    nowhere = "postgresql:///nowhere?host=/nowhere"
    backend = f"{postgres.url}&schema={schema}"
    config = find_config(tmp_path, backend=backend, direct_url=nowhere)
    with open_backend(config).server({}) as runtime:
        assert "/nowhere" in runtime._opened.backend.wakeups._heard_at.place


@pytest.mark.parametrize(
    ("address", "opened", "schema", "shown"),
    [
        ("/db?host=/tmp/a&schema=x", "/db?host=/tmp/a", "x", "/db?host=/tmp/a&schema=x"),
        ("/db", "/db", "mini_workflow", "/db"),
        (
            "ann:p%3F@h/db?options=-c%20geqo%3Doff&schema=x",
            "ann:p%3F@h/db?options=-c%20geqo%3Doff",
            "x",
            "h/db?schema=x",
        ),
        ("ann:p?a@h1,h2:7/db?sslrootcert=", "ann:p?a@h1,h2:7/db?sslrootcert=", "", "h1,h2:7/db"),
        ("h/db?password=a+b&schema=a&schema=b", "h/db?password=a+b", "b", "h/db?schema=a&schema=b"),
    ],
)
def test_an_address_is_handed_on_as_it_is(
    address: str, opened: str, schema: str, shown: str
) -> None:
    """The server's own library reads it: a socket in a folder has no host before the slash, a space is no
    plus sign. What is shown has no secrets."""
    target = PostgresTarget(f"postgresql://{address}")
    assert target.url == f"postgresql://{opened}"
    assert target.name == f"postgresql://{shown}"
    assert target.schema == (schema or "mini_workflow")
    conninfo_to_dict(target.url)  # raises if it is none


def test_a_server_at_a_socket(postgres: PostgresServer, schema: str) -> None:
    backend = f"postgresql:///postgres?user=postgres&host={postgres.folder}&schema={schema}"
    found = CliRunner().invoke(cli, ["--backend", backend, "migrate"])
    assert found.exit_code == 0, found.output
    assert postgres.ask(f"SELECT version FROM {schema}.meta") == [(len(MIGRATIONS),)]


def test_the_server_behind_a_pooler_may_name_the_schema_too() -> None:
    target = PostgresTarget("postgresql://h/d", direct_url="postgresql://h:1/d?schema=x")
    assert target._direct_url == "postgresql://h:1/d"
