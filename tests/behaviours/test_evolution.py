"""39 and 40: code that changes under running executions, and replays that no longer fit.

A deployment is played by a version that the workflows look at, and a runtime that opens anew.
"""

# ruff: noqa: B023 - that tasks capture loop variables at the call is one of the behaviours

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionBlocked,
    ExecutionCancelled,
    ExecutionError,
    ExecutionTerminated,
    workflow,
)
from tests.behaviours.stage import DAY, LEDGER, Stage, note, settle, watched
from tests.waiting import WAIT

DEPLOYED = {"version": 1}


@pytest.fixture(autouse=True)
def first_version() -> None:
    DEPLOYED["version"] = 1


def deploy(runtime: Stage, version: int) -> None:
    """Close the runtime, and open another one with the code of that version."""
    DEPLOYED["version"] = version
    runtime.reopen()


def old() -> str:
    return "old"


def new() -> str:
    return "new"


@workflow("behaviours.patched")
async def with_patch(ctx: Context, rounds: int) -> list[str]:
    got = []
    state = watched(ctx)
    version = DEPLOYED["version"]
    for n in range(rounds):
        await ctx.task(lambda: n)
        if version == 1:
            got.append(await ctx.task(old))
        elif version == 2:
            got.append(await ctx.task(new if ctx.patched("better") else old))
        elif version == 3:
            ctx.patched("better")
            got.append(await ctx.task(new))
        else:
            got.append(await ctx.task(new))
        state["waits"] = True
        await ctx.wait_for_signal("go on")
        state["waits"] = False
    return got


def finish(execution: Any, signals: int) -> Any:
    for _ in range(signals):
        execution.signal("go on")
    return execution.result(WAIT)


def test_39_old_executions_keep_the_old_path(runtime: Stage) -> None:
    """An execution that has been past a change keeps the old path, in all rounds of a loop; one
    that starts afterwards takes the new one; so it stays, however often they are replayed."""
    before = runtime.start(with_patch, 4, id="before")
    before.signal("go on")
    settle(before)
    deploy(runtime, 2)
    after = runtime.start(with_patch, 3, id="after")
    after.signal("go on")
    settle(after)
    runtime.reopen()
    settle(runtime.get_execution("before"))
    assert finish(runtime.get_execution("before"), 3) == ["old"] * 4
    assert finish(runtime.get_execution("after"), 2) == ["new"] * 3


def test_39_deprecating_and_removing(runtime: Stage) -> None:
    """The old path may go when no old execution is left, and the call when no execution is left
    that has it in its history; earlier is noticed."""
    deploy(runtime, 2)
    one, two = (runtime.start(with_patch, 2, id=name) for name in ("one", "two"))
    settle(one)
    settle(two)
    deploy(runtime, 3)
    assert finish(runtime.get_execution("one"), 2) == ["new"] * 2
    deploy(runtime, 4)
    early = runtime.get_execution("two")
    early.signal("go on")
    with pytest.raises(ExecutionBlocked, match="PatchMarked 'better'"):
        early.result(WAIT)
    late = runtime.start(with_patch, 1)
    assert finish(late, 1) == ["new"]
    deploy(runtime, 3)
    early = runtime.get_execution("two")
    early.resume()
    assert finish(early, 1) == ["new"] * 2


@workflow("behaviours.patched_anywhere")
async def patched_anywhere(ctx: Context) -> list[bool]:
    got: list[bool] = []
    ctx.on_signal("ask", lambda name: got.append(ctx.patched(name)))
    await ctx.wait_for(lambda: len(got) == 3)
    return [*got, ctx.patched("x"), ctx.patched("y"), ctx.patched("y")]


def test_39_the_answer_stays_the_same(runtime: Stage) -> None:
    """Once asked, a name has one answer for the whole run, wherever it is asked."""
    execution = runtime.start(patched_anywhere)
    for name in ("x", "x", "z"):
        execution.signal("ask", name)
    assert execution.result(WAIT) == [True] * 6
    marks = [e for e in execution.history() if type(e).__name__ == "PatchMarked"]
    assert [getattr(mark, "name", "") for mark in marks] == ["x", "z", "y"]


# What is replayed, and what no longer fits


@workflow("behaviours.ends")
async def ends(ctx: Context, how: str) -> list[Any]:
    state = watched(ctx)
    seen: list[Any] = [await ctx.task(note, how), str(ctx.uuid4()), ctx.random.random(), ctx.now()]
    ctx.on_query("seen", lambda: seen)
    state["waits"] = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30 * DAY):
            await ctx.wait_for_signal("end")
    if how == "failed":
        raise ValueError("as told")
    if how == "blocked":
        import socket

        socket.socket()
    if how == "continued" and ctx.info.run < 3:
        ctx.continue_as_new(how)
    return seen


@pytest.mark.parametrize(
    "how", ["open", "completed", "failed", "cancelled", "terminated", "blocked", "continued"]
)
def test_40_any_history_can_be_replayed(runtime: Stage, how: str) -> None:
    """Whatever an execution has come to: a replay finds the same values in its variables."""
    execution = runtime.start(ends, how)
    settle(execution)
    if how == "cancelled":
        execution.cancel()
    elif how == "terminated":
        execution.terminate()
    elif how == "continued":
        execution.signal("end")
        settle(execution)
    elif how != "open":
        execution.signal("end")
    if how not in ("open", "continued"):
        with contextlib.suppress(ValueError, ExecutionError):
            execution.result(WAIT)
        assert execution.describe().status == how
    seen = execution.query("seen")
    assert seen[0] == how
    history = execution.history()
    runtime.reopen()
    again = runtime.again(execution)
    assert again.query("seen") == seen
    assert again.history() == history
    assert LEDGER.count(how) == (2 if how == "continued" else 1)


CHANGES: dict[str, str] = {
    "rename": r"event 2 says TaskScheduled #1 'old'.*asks for TaskScheduled #1 'new'",
    "remove": r"event 2 is TaskScheduled #1 'old'|asks for TaskScheduled #1 'last'",
    "reorder": r"event 2 says TaskScheduled #1 'old'.*asks for TimerStarted #1",
    "add": r"says nothing more before|asks for TaskScheduled #2 'new'",
    "timer": r"event 2 says TaskScheduled #1 'old'.*asks for TimerStarted",
}


@workflow("behaviours.changes")
async def changes(ctx: Context, change: str) -> str:
    state = watched(ctx)
    changed = DEPLOYED["version"] == 2
    if changed and change == "reorder":
        ctx.sleep(30 * DAY)
        await ctx.task(old)
    elif changed and change in ("rename", "timer"):
        await (ctx.task(new) if change == "rename" else ctx.sleep(1))
    elif changed and change == "add":
        await ctx.task(old)
        await ctx.task(new)
    elif not (changed and change == "remove"):
        await ctx.task(old)
    nap = ctx.sleep(30 * DAY)
    state["waits"] = True
    await ctx.wait_for_signal("go on")
    nap.cancel()
    return await ctx.task(lambda: "done", name="last")


@pytest.mark.parametrize("change", CHANGES)
def test_40_a_changed_workflow_is_detected(runtime: Stage, change: str) -> None:
    """Code that no longer fits its history blocks the execution, with both sides and the line in
    the reason; nothing of it is done, and the old code continues it."""
    execution = runtime.start(changes, change, id="changing")
    settle(execution)
    length = len(execution.history())
    deploy(runtime, 2)
    execution = runtime.get_execution("changing")
    execution.signal("go on")
    with pytest.raises(ExecutionBlocked) as blocked:
        execution.result(WAIT)
    reason = str(blocked.value)
    assert "no longer matches the history" in reason
    assert "test_evolution.py:" in reason
    one = execution.describe()
    assert one.mismatch is not None
    for side in (one.mismatch.recorded, one.mismatch.asked):
        assert (side or "nothing more") in reason
    assert one.mismatch.recorded != one.mismatch.asked
    assert str(one.mismatch.event) in reason
    assert one.mismatch.line in reason
    assert "test_evolution.py:" in one.mismatch.line
    assert len(execution.history()) == length
    deploy(runtime, 1)
    execution = runtime.get_execution("changing")
    execution.resume()
    assert execution.result(WAIT) == "done"
    assert execution.describe().mismatch is None


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_40_a_blocked_execution_can_be_ended(runtime: Stage, how: str) -> None:
    """A termination needs no code and takes place at once; a cancellation is kept for the code."""
    execution = runtime.start(changes, "rename", id="stuck")
    settle(execution)
    deploy(runtime, 2)
    execution = runtime.get_execution("stuck")
    execution.signal("unheard")
    with pytest.raises(ExecutionBlocked):
        execution.result(WAIT)
    if how == "terminate":
        execution.terminate("given up")
        with pytest.raises(ExecutionTerminated, match="given up"):
            execution.result(WAIT)
        return
    execution.cancel("later")
    with pytest.raises(ExecutionBlocked):
        execution.result(WAIT)
    deploy(runtime, 1)
    execution = runtime.get_execution("stuck")
    execution.resume()
    with pytest.raises(ExecutionCancelled, match="later"):
        execution.result(WAIT)
