"""What has closed is deleted: it is gone, and its id is free."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionNotClosed,
    ExecutionNotFound,
    ExecutionTerminated,
    PromiseNotOpen,
    UsageError,
    current_task,
    workflow,
)
from tests.behaviours.stage import LEDGER, Stage, gate, go_through
from tests.waiting import WAIT, eventually


def note_key(_: Any = None) -> str:
    """A task: say by which key a service would know it."""
    key = current_task().idempotency_key
    LEDGER.append(key)
    return key


@workflow("behaviours.deleted.charged")
async def charged(ctx: Context, times: int = 2) -> list[str]:
    return [await ctx.task(note_key, number) for number in range(times)]


@workflow("behaviours.deleted.at_gate")
async def at_gate(ctx: Context, name: str) -> Any:
    return await ctx.task(go_through, name, name="go")


@workflow("behaviours.deleted.promises")
async def promises(ctx: Context) -> Any:
    promise = ctx.promise("answer")
    ctx.on_query("token", lambda: promise.token)
    return await promise


@workflow("behaviours.deleted.parent")
async def parent(ctx: Context) -> Any:
    return await ctx.child(charged, 1, id="deleted-child")


def gone(runtime: Stage, name: str) -> bool:
    try:
        runtime.runtime.get_execution(name)
    except ExecutionNotFound:
        return True
    return False


def test_91_what_is_deleted_is_gone(runtime: Stage) -> None:
    """Nothing of it can be read, listed, counted or sent to; a second deletion says so."""
    kept = runtime.start(charged, id="kept", tags={"customer": "c-7"})
    execution = runtime.start(charged, id="gone", tags={"customer": "c-7"})
    for one in (kept, execution):
        one.result(WAIT)
    execution.delete()
    for ask in (
        execution.describe,
        execution.history,
        execution.result,
        execution.delete,
        execution.retry,
        lambda: execution.signal("any"),
        lambda: runtime.runtime.get_execution("gone"),
        lambda: runtime.runtime.delete_execution("gone"),
    ):
        with pytest.raises(ExecutionNotFound):
            ask()
    assert [one.id for one in runtime.list_executions(tags={"customer": "c-7"})] == ["kept"]
    runtime.reopen()
    assert gone(runtime, "gone")
    assert runtime.get_execution("kept").result(WAIT)


def test_91_its_id_can_be_used_again_at_once(runtime: Stage) -> None:
    """Also for another workflow; and the tasks of the new one have keys of their own."""
    for times in (2, 1, 3):
        execution = runtime.start(charged, times, id="again")
        assert len(execution.result(WAIT)) == times
        execution.delete()
    assert len(set(LEDGER)) == len(LEDGER) == 6
    runtime.reopen()
    assert runtime.run(parent, id="again")
    assert len(set(LEDGER)) == len(LEDGER) == 7


def test_91_what_is_late_for_it_is_not_taken_for_the_next_one(runtime: Stage) -> None:
    """A task of one that was terminated runs on, and reports when another one has the id."""
    first = runtime.start(at_gate, "late", id="reused")
    gate("late").wait_until_reached()
    first.terminate()
    with pytest.raises(ExecutionTerminated):
        first.result(WAIT)
    first.delete()
    second = runtime.start(at_gate, "next", id="reused")
    gate("next").wait_until_reached()
    gate("late").open()
    kept = runtime.start(charged, 1)
    kept.result(WAIT)
    assert second.describe().status == "running"
    gate("next").open()
    assert second.result(WAIT) == "next"


def test_91_only_what_has_closed_is_deleted(runtime: Stage) -> None:
    """What runs or is blocked is left as it is."""
    execution = runtime.start(promises, id="open")
    with pytest.raises(ExecutionNotClosed, match="terminate"):
        execution.delete()
    token = execution.query("token")
    execution.pause("for a while")
    eventually(lambda: execution.describe().status == "blocked")
    with pytest.raises(ExecutionNotClosed, match="blocked"):
        execution.delete()
    execution.terminate()
    with pytest.raises(ExecutionTerminated):
        execution.result(WAIT)
    execution.delete()
    with pytest.raises((PromiseNotOpen, ExecutionNotFound)):
        runtime.complete_promise(token, 1)


def test_91_children_stay(runtime: Stage) -> None:
    """They are executions of their own."""
    execution = runtime.start(parent, id="their-parent")
    execution.result(WAIT)
    execution.delete()
    child = runtime.get_execution("deleted-child")
    assert child.describe().status == "completed"
    assert child.describe().parent == "their-parent"


def test_92_all_that_match_are_purged(runtime: Stage) -> None:
    """And nothing else; what runs stays whatever is asked for."""
    for number in range(5):
        runtime.run(charged, 1, id=f"old-{number}", tags={"batch": "a" if number < 3 else "b"})
    running = runtime.start(promises, id="runs")
    told: list[int] = []
    assert runtime.purge(tags={"batch": "a"}, progress=told.append) == 3
    eventually(lambda: all(gone(runtime, f"old-{number}") for number in range(3)))
    assert told[-1] == 3
    assert not gone(runtime, "old-3")
    assert runtime.purge(older_than=3600, workflow=charged) == 0
    assert runtime.purge(older_than=0) == 2
    eventually(lambda: gone(runtime, "old-3") and gone(runtime, "old-4"))
    assert running.describe().status == "running"
    for wrong in ({}, {"status": "running"}, {"older_than": -1}):
        with pytest.raises(UsageError):
            runtime.purge(**wrong)
