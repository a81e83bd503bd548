"""What only appends events to executions that are held is one statement, with the fence in it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.errors import LeaseLost, StoreRefused
from mini_workflow.ports import Commit, QueuedMessage
from mini_workflow.stores.sqlite import SQLiteBackend
from mini_workflow.testing import ManualClock
from mini_workflow.testing.contracts.backend import create, creation, head

FEW = 8
"""So many events are few."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SQLiteBackend]:
    with closing(SQLiteBackend(path, owner="one", clock=ManualClock())) as backend:
        backend.leases.acquire(0)
        create(backend, "a")
        create(backend, "b")
        yield backend


@pytest.fixture
def statements(backend: SQLiteBackend) -> Iterator[list[str]]:
    seen: list[str] = []
    raw = backend._writer.raw
    raw.set_trace_callback(seen.append)
    yield seen
    raw.set_trace_callback(None)


def length(backend: SQLiteBackend, name: str) -> int:
    extent = backend.store.extent(name)
    assert extent is not None
    return extent.length


def append(backend: SQLiteBackend, name: str, *events: str) -> Commit:
    return Commit(name, length(backend, name), events)


def kinds(statements: list[str]) -> list[str]:
    return [statement.split()[0] for statement in statements]


def test_a_step_is_one_statement(backend: SQLiteBackend, statements: list[str]) -> None:
    before = length(backend, "a")
    step = append(backend, "a", "x", "y")
    statements.clear()
    assert backend.store.commit([step]) == [True]
    assert kinds(statements) == ["INSERT"]
    assert length(backend, "a") == before + 2
    assert backend.store.history("a")[-2:] == ["x", "y"]
    # What is remembered is right: the next one is one statement too.
    statements.clear()
    assert backend.store.commit([replace(step, expected=before + 2, events=("z",))]) == [True]
    assert kinds(statements) == ["INSERT"]
    assert backend.store.history("a")[-3:] == ["x", "y", "z"]


def test_steps_of_several_executions(backend: SQLiteBackend, statements: list[str]) -> None:
    steps = [append(backend, "a", *"12345"), append(backend, "b", *"678")]
    statements.clear()
    assert backend.store.commit(steps) == [True, True]
    assert kinds(statements) == ["INSERT"]
    assert backend.store.history("a")[-5:] == list("12345")
    assert backend.store.history("b")[-3:] == list("678")


@pytest.mark.parametrize(
    "other",
    [
        {"head": head("a", status="blocked")},
        {"park": ("m",)},
        {"unpark": True},
        {"taken": (1,)},
        {"outbox": (QueuedMessage("b", "m", "k"),)},
        {"tries": 1},
        {"events": tuple(map(str, range(FEW + 1)))},
        {"events": ()},
    ],
)
def test_anything_else_is_a_transaction(
    backend: SQLiteBackend, statements: list[str], other: dict[str, Any]
) -> None:
    step = replace(append(backend, "a", "x"), **other)
    statements.clear()
    assert backend.store.commit([step]) == [True]
    assert kinds(statements)[0] == "BEGIN"
    assert kinds(statements)[-1] == "COMMIT"


def test_a_new_execution_takes_two_queries(backend: SQLiteBackend, statements: list[str]) -> None:
    new = creation("c")
    assert backend.store.commit([new]) == [True]
    assert kinds(statements).count("SELECT") == 2  # for the lease, and for the id and the key
    assert backend.store.history("c") == list(new.events)
    assert backend.store.commit([new]) == [False]
    assert backend.store.commit([Commit("c", len(new.events), deleted_at=1)]) == [True]
    assert backend.store.commit([new]) == [True]
    assert backend.store.history("c") == list(new.events)


def test_an_execution_that_is_there_is_found_before_it_is_held(
    backend: SQLiteBackend, path: Path
) -> None:
    backend.store.commit([append(backend, "a", "x")])
    before = backend.store.history("a")
    with closing(SQLiteBackend(path, owner="two", clock=ManualClock())) as other:
        other.leases.acquire(0)
        assert other.store.commit([creation("a")]) == [False]
        create(other, "d")
    assert backend.store.history("a") == before


def test_twice_in_one_commit_the_second_is_refused(backend: SQLiteBackend) -> None:
    step = append(backend, "a", "x")
    before = length(backend, "a")
    assert backend.store.commit([step, replace(step, events=("y",))]) == [True, False]
    assert length(backend, "a") == before + 1


def test_a_stale_writer_is_refused(backend: SQLiteBackend) -> None:
    step = append(backend, "a", "x")
    assert backend.store.commit([step]) == [True]
    assert backend.store.commit([step]) == [False]


def lose(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM owners")
        connection.commit()


def test_without_the_lease_nothing_is_written(backend: SQLiteBackend, path: Path) -> None:
    step = append(backend, "a", "x")
    before = backend.store.history("a")
    lose(path)
    with pytest.raises(LeaseLost):
        backend.store.commit([step])
    assert backend.store.history("a") == before
    with pytest.raises(LeaseLost):
        backend.store.commit([step])
    backend.leases.acquire(0)


def test_what_cannot_be_kept_changes_nothing(backend: SQLiteBackend) -> None:
    good, bad = append(backend, "a", "x"), append(backend, "b", "\ud800")
    before = backend.store.history("a")
    with pytest.raises((StoreRefused, UnicodeEncodeError)):
        backend.store.commit([good, bad])
    assert backend.store.history("a") == before
    assert backend.store.commit([good]) == [True]


def test_another_writer_is_waited_for(backend: SQLiteBackend, path: Path) -> None:
    """SQLite's own waiting is off: the statement is tried again until the lock is free."""
    step = append(backend, "a", "x")
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        tries: list[None] = []
        patiently = backend._writer._run_patiently

        def run_patiently(*arguments: Any) -> Any:
            tries.append(None)
            other.execute("COMMIT")
            return patiently(*arguments)

        backend._writer._run_patiently = run_patiently  # type: ignore[method-assign]
        assert backend.store.commit([step]) == [True]
    assert tries == [None]
    assert backend.store.history("a")[-1] == "x"


SMALL = (
    {"status": "completed", "closed_at": 9, "waits": ""},
    {"busy": True, "wake_at": 7, "waits": "w"},
    {"wake_at": None, "busy": False},
)
LARGE = (
    *({"workflow": "x"}, {"started_at": 5}, {"parent": "p"}, {"tags": '{"k":"v"}'}),
    *({"status": "blocked", "blocked_kind": "k", "blocked_reason": "r"}, {"run": 2, "base": 1}),
    {"progress": "p"},
)


@pytest.mark.parametrize("fields", [*SMALL, *LARGE])
def test_of_a_head_that_is_known_what_differs_is_written(
    backend: SQLiteBackend, statements: list[str], fields: dict[str, Any]
) -> None:
    stored = backend.store.head("a")
    assert stored is not None
    after = replace(stored, **fields)
    statements.clear()
    step = replace(append(backend, "a", "x"), head=after, before=stored)
    assert backend.store.commit([step]) == [True]
    assert backend.store.head("a") == after
    (update, *_) = (one for one in statements if one.split()[:2] == ["UPDATE", "executions"])
    assert ("workflow" in update) == (fields in LARGE)


def test_heads_of_one_commit_follow_each_other(backend: SQLiteBackend) -> None:
    """Also where the first differs little from the stored one, and the next one from the first."""
    stored = backend.store.head("a")
    assert stored is not None
    busy = replace(stored, busy=True)
    tagged, ended = replace(busy, tags="{}"), replace(busy, tags="{}", busy=False, wake_at=3)
    heads = [(busy, stored), (tagged, busy), (ended, tagged)]
    first = length(backend, "a")
    steps = [
        Commit("a", first + number, (f"e{number}",), after, before=before)
        for number, (after, before) in enumerate(heads)
    ]
    assert backend.store.commit(steps) == [True, True, True]
    assert backend.store.head("a") == ended
