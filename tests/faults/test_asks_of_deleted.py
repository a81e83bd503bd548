"""An execution is deleted by one process just when another one asks it: the ask is answered all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import Context, ExecutionNotFound, LocalRuntime, PostgresRuntime, workflow
from mini_workflow.ports import Commit
from tests.waiting import WAIT, eventually

Open = Callable[[], Any]


@workflow("faults.closes")
async def closes(ctx: Context) -> str:
    return "the result"


@workflow("faults.asks_what_is_deleted")
async def asks_what_is_deleted(ctx: Context, target: str) -> str:
    await ctx.wait_for_signal("go")
    try:
        return str(await ctx.execution(target).result())
    except ExecutionNotFound:
        return "not found"


@pytest.fixture(params=["local", "postgres"])
def open_runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens another process's runtime on the same state."""
    if request.param == "local":
        return lambda: LocalRuntime(tmp_path / "state.db", synchronous="NORMAL")
    server = request.getfixturevalue("postgres")
    schema = server.schema()
    return lambda: PostgresRuntime(server.url, schema=schema)


def store_of(runtime: Any) -> Any:
    """The store that the engine of a runtime commits to."""
    return runtime._engine._ports.store


def test_what_is_asked_before_the_deletion_is_committed(
    open_runtime: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that deletes has read its messages; then the ask arrives, and then it commits."""
    with open_runtime() as one, open_runtime() as other:
        target = one.start_execution(closes, id="target")
        target.result(WAIT)
        asker = other.start_execution(asks_what_is_deleted, "target", id="asker")
        store = store_of(one)
        commit, asked = store.commit, []

        def commit_later(items: Sequence[Commit]) -> list[bool]:
            if not asked and any(item.deleted_at is not None for item in items):
                asked.append(True)
                other.get_execution("asker").signal("go")
                eventually(lambda: "AskSent" in kinds(asker))
            answers: list[bool] = commit(items)
            return answers

        monkeypatch.setattr(store, "commit", commit_later)
        target.delete()
        assert asked
        assert asker.result(WAIT) == "the result"


def kinds(execution: Any) -> list[str]:
    return [type(event).__name__ for event in execution.history()]


def test_what_is_asked_after_the_deletion_is_committed(
    open_runtime: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that asks has found it there; then it is deleted, and then the ask is committed, by a process
    that does not look again.
    """
    with open_runtime() as one, open_runtime() as other:
        target = one.start_execution(closes, id="target")
        target.result(WAIT)
        asker = other.start_execution(asks_what_is_deleted, "target", id="asker")
        store = store_of(other)
        commit, deleted = store.commit, []

        def commit_later(items: Sequence[Commit]) -> list[bool]:
            if not deleted and any(out.execution_id == "target" for i in items for out in i.outbox):
                target.delete()
                deleted.append(True)
            answers: list[bool] = commit(items)
            return answers

        monkeypatch.setattr(store, "commit", commit_later)
        monkeypatch.setattr("mini_workflow.engine.engine.warn_of_nobody", lambda *about: None)
        asker.signal("go")
        assert asker.result(WAIT) == "not found"
        assert deleted
