"""Streams in Postgres: what they ask of the server, and what becomes of them beside others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final

import psycopg
import pytest

from mini_workflow import Context, PostgresClient, PostgresRuntime, current_task, workflow
from mini_workflow.ports import Commit, StreamWrite
from mini_workflow.stores.postgres import PostgresBackend, leases, schema
from mini_workflow.stores.postgres.connection import Address, Connection
from mini_workflow.testing import ManualClock
from mini_workflow.testing.contracts.backend import create, creation
from tests.postgres.server import PostgresServer
from tests.unit.local import flows
from tests.unit.stores.conftest import Open
from tests.waiting import WAIT, eventually

BEFORE: Final = next(n for n, v in enumerate(schema.MIGRATIONS) if "TABLE @streams" in v[0])
"""The version of the tables before there were streams."""


@pytest.fixture(autouse=True)
def _gates() -> Iterator[None]:
    yield
    for gate in flows.GATES.values():
        gate.opened.set()
    flows.GATES.clear()


def write(number: int, execution_id: str = "a", stream: str = "s", source: int = 1) -> StreamWrite:
    return StreamWrite(execution_id, stream, source, 1, number, str(number))


def rows(postgres: PostgresServer, name: str) -> tuple[int, ...]:
    """How many streams, chunks, and streams to sweep there are."""
    tables = ("streams", "chunks", "stream_leftovers")
    return tuple(postgres.ask(f"SELECT count(*) FROM {name}.{each}")[0][0] for each in tables)


def test_each_call_is_one_round_trip(open_backend: Open) -> None:
    one = open_backend()
    one.leases.acquire(0)
    create(one, "a", "b")
    many = [write(n, each, s) for n in range(100) for each in "ab" for s in ("s", "t")]
    chunk = (write(1_000),)
    calls: dict[str, Callable[[], Any]] = {
        "append": lambda: one.streams.append(many),
        "read": lambda: one.streams.read("a", "s", 0, 500),
        "names": lambda: one.streams.names("a"),
        "a step": lambda: one.store.commit([Commit("a", 1, ("x",), chunks=chunk)]),
        "remove": lambda: one.streams.remove("a"),
    }
    for what, call in calls.items():
        before = one.trips
        call()
        assert one.trips - before == 1, what


ENTER_BEFORE: Final = """
    INSERT INTO @owners (name, address, until, host, pid, born, commits)
    SELECT %s, %s, %s, %s, %s, %s, %s WHERE %s::text IS NOT NULL RETURNING id
"""
"""How a release enters that does not say which workers it serves; whoever asks gives that all the same."""


def test_a_release_before_leaves_no_stream_behind(
    open_backend: Open, postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opened the tables before they were upgraded, and goes on beside a later release."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:BEFORE])
        patch.setattr(leases, "_ENTER", ENTER_BEFORE)
        old = open_backend("old")
        old.leases.acquire(0)
        create(old, "a", "b")
    new = open_backend("new")
    new.leases.acquire(0)
    create(new, "c")
    assert new.streams.append([write(n, each) for n in range(3) for each in "abc"]) == ["kept"] * 9
    assert old.store.commit([Commit("b", 1, ("more",))]) == [True]
    assert old.store.commit([Commit("a", 1, deleted_at=5)]) == [True]
    assert postgres.ask(f"SELECT {name}.sweep_1(0, 100)") == [(False,)]
    assert new.streams.names("a") == []
    assert rows(postgres, name) == (2, 9, 1)
    while new.store.sweep(0, 2):
        pass
    assert rows(postgres, name) == (2, 6, 0)


def test_what_is_swept_leaves_nothing(
    open_backend: Open, postgres: PostgresServer, name: str
) -> None:
    one = open_backend()
    one.leases.acquire(0)
    create(one, "a", "b")
    one.streams.append([write(n, "a", s) for n in range(7) for s in ("s", "t")])
    one.streams.append([write(n, "b") for n in range(7)])
    one.streams.remove("b")
    assert one.store.commit([Commit("a", 1, deleted_at=5)]) == [True]
    assert rows(postgres, name) == (0, 21, 3)
    steps = [rows(postgres, name)[1]]
    while one.store.sweep(0, 4):
        steps.append(rows(postgres, name)[1])
    assert rows(postgres, name) == (0, 0, 0)
    assert all(before - after <= 4 for before, after in pairwise(steps))


def test_writers_at_the_same_time_give_each_chunk_an_offset_of_its_own(open_backend: Open) -> None:
    """Also where they write to the same streams in another order."""
    one, two = open_backend("one"), open_backend("two")
    one.leases.acquire(0)
    create(one, "a", "b")
    problems: list[BaseException] = []

    def append(backend: PostgresBackend, source: int, names: str) -> None:
        try:
            for n in range(30):
                writes = [write(n, each, s, source) for each in names for s in names]
                assert backend.streams.append(writes) == ["kept"] * 4
        except BaseException as error:
            problems.append(error)

    threads = [
        threading.Thread(target=append, args=(one, 1, "ab")),
        threading.Thread(target=append, args=(two, 2, "ba")),
        threading.Thread(target=append, args=(two, 3, "ab")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    for each in "ab":
        for stream in "ab":
            chunks = one.streams.read(each, stream, 0, 1_000).chunks
            assert [chunk.offset for chunk in chunks] == list(range(1, 91))


def test_a_chunk_is_not_passed_by_one_that_is_committed_before_it(
    open_backend: Open, postgres: PostgresServer, name: str
) -> None:
    """Who writes to a stream waits for who has begun to: readers go on behind what they have seen."""
    one = open_backend()
    one.leases.acquire(0)
    create(one, "a")
    one.streams.append([write(1)])
    with psycopg.connect(postgres.url) as slow:
        slow.execute(
            f"SELECT {name}.append_chunks_1("
            "'{a}', '{s}', '{2}', '{1}', '{1}', '{\"slow\"}', NULL, NULL, NULL)".encode()
        )
        thread = threading.Thread(target=one.streams.append, args=([write(2)],))
        thread.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: postgres.ask(waits) != [(0,)])
        assert [chunk.body for chunk in one.streams.read("a", "s", 0, 10).chunks] == ["1"]
        slow.commit()
        thread.join()
    found = one.streams.read("a", "s", 1, 10).chunks
    assert [(chunk.offset, chunk.body) for chunk in found] == [(2, "slow"), (3, "2")]


def test_an_execution_is_not_deleted_while_chunks_are_written_to_it(
    open_backend: Open, postgres: PostgresServer, name: str
) -> None:
    one = open_backend()
    one.leases.acquire(0)
    create(one, "a")
    with psycopg.connect(postgres.url) as slow:
        slow.execute(
            f"SELECT {name}.append_chunks_1("
            "'{a}', '{s}', '{2}', '{1}', '{1}', '{\"slow\"}', NULL, NULL, NULL)".encode()
        )
        deletion = [Commit("a", 1, deleted_at=5)]
        assert one.store.commit(deletion) == [False]
        slow.commit()
    assert one.store.commit(deletion) == [True]
    assert rows(postgres, name) == (0, 1, 1)
    assert one.streams.append([write(2)]) == ["missing"]


def test_an_answer_that_is_lost_is_asked_for_again(
    open_backend: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_backend()
    one.leases.acquire(0)
    create(one, "a")
    call, lost = Connection._run, [True]

    def run(connection: Connection, sql: str, parameters: Any) -> list[Any]:
        found = call(connection, sql, parameters)
        if "@append_chunks" in sql and lost:
            lost.clear()
            connection.raw.close()
            raise psycopg.OperationalError("the connection was lost")
        return found

    monkeypatch.setattr(Connection, "_run", run)
    assert one.streams.append([write(1), write(2)]) == ["known", "known"]
    assert len(one.streams.read("a", "s", 0, 10).chunks) == 2


def test_the_statements_for_a_database_administrator_make_the_same_tables(
    postgres: PostgresServer, name: str
) -> None:
    address = Address(postgres.url, name)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(schema.script(address).encode())
    clock = ManualClock(1_000_000)
    one = PostgresBackend(postgres.url, schema=name, owner="o", clock=clock, migrate=False)
    one.leases.acquire(0)
    assert one.store.commit([creation("a")]) == [True]
    assert one.streams.append([write(1)]) == ["kept"]
    one.close()


@workflow("postgres_streams.speaker")
async def speaker(ctx: Context, gate: str) -> None:
    words = ctx.stream("words")
    words.write("one")

    def say() -> None:
        current_task().stream("words").write("two")
        current_task().stream("words").flush()
        flows.gate(gate).go_through()

    await ctx.task(say)
    words.write("three")


@pytest.mark.parametrize("reader", ["runtime", "client"])
def test_another_process_reads_along(postgres: PostgresServer, name: str, reader: str) -> None:
    """It looks by itself, however seldom owners look around."""
    seldom = 24 * 3600.0
    with PostgresRuntime(postgres.url, schema=name, lease=seldom) as runtime:
        execution = runtime.start_execution(speaker, "gate", id="e")
        other: Any = (
            PostgresClient(postgres.url, schema=name)
            if reader == "client"
            else PostgresRuntime(postgres.url, schema=name, lease=seldom)
        )
        with other:
            found: list[Any] = []
            for chunk in other.get_execution("e").stream("words"):
                found.append(chunk.value)
                if chunk.value == "two":
                    flows.gate("gate").opened.set()
            assert found == ["one", "two", "three"]
        assert execution.result(WAIT) is None
