"""Law 26: a process that is paused for longer than its lease loses nothing, and goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import LocalClient, LocalRuntime
from mini_workflow.errors import LeaseLost
from mini_workflow.stores.sqlite.leases import SQLiteLeases
from tests.unit.local import flows
from tests.waiting import WAIT


def losing(path: Path, times: int) -> Callable[..., bool]:
    """`acquire`, after which another process takes the lease away, as if this one were paused."""
    acquire = SQLiteLeases.acquire
    left = [times]

    def acquire_and_lose(self: SQLiteLeases, *arguments: Any) -> bool:
        found = acquire(self, *arguments)
        if left[0]:
            left[0] -= 1
            with sqlite3.connect(path) as other:
                other.execute("UPDATE partitions SET owner = NULL")
                other.execute("DELETE FROM owners")
            other.close()
        return found

    return acquire_and_lose


@pytest.mark.parametrize("times", [1, 3])
def test_an_opening_that_was_paused_begins_anew(
    path: Path, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalClient(path) as client:
        client.start_execution(flows.steps, 1, id="before")
    monkeypatch.setattr(SQLiteLeases, "acquire", losing(path, times))
    with LocalRuntime(path) as runtime:
        runtime.get_execution("before").result(WAIT)
        runtime.start_execution(flows.steps, 1, id="after").result(WAIT)


def test_an_opening_that_never_keeps_its_lease_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LocalRuntime(path).close()
    monkeypatch.setattr(SQLiteLeases, "acquire", losing(path, 1_000))
    with pytest.raises(LeaseLost):
        LocalRuntime(path)


def test_a_client_that_was_paused_starts_what_it_was_asked_to_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalClient(path) as client:
        monkeypatch.setattr(SQLiteLeases, "acquire", losing(path, 1))
        client.start_execution(flows.steps, 1, id="one")
        assert [execution.id for execution in client.list_executions()] == ["one"]
    monkeypatch.undo()
    with LocalRuntime(path) as runtime:
        runtime.get_execution("one").result(WAIT)
