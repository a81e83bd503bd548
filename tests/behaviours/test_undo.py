"""26, continued: what takes completed tasks back when the execution fails or is cancelled."""

# ruff: noqa: B023 - that tasks capture loop variables at the call is one of the behaviours

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading

import pytest

from mini_workflow import Context, ExecutionCancelled, ExecutionTerminated, workflow
from tests.behaviours.stage import (
    DAY,
    LEDGER,
    Background,
    Stage,
    gate,
    go_through,
    note,
    settle,
    watched,
)
from tests.waiting import WAIT

STEPS = ("flight", "hotel", "car")


@workflow("behaviours.travel")
async def travel(ctx: Context, how: str) -> str:
    state = watched(ctx)
    for step in STEPS:
        await ctx.task(note, f"book {step}", name=step, undo=lambda: note(f"undo {step}"))
    if how == "fails":
        raise ValueError("no luck")
    if how == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_later(ctx))
            await ctx.sleep(DAY)
    if how == "handler":
        ctx.on_signal("fail", lambda value: 1 / 0)
    if how != "succeeds":
        state["waits"] = True
        await ctx.wait_for_signal("never")
    return "booked"


async def fail_later(ctx: Context) -> None:
    await ctx.task(lambda: None)
    raise ValueError("in the group")


BOOKED = [f"book {step}" for step in STEPS]
UNDONE = [f"undo {step}" for step in reversed(STEPS)]


@pytest.mark.parametrize("how", ["fails", "group", "handler", "cancelled"])
def test_26_undo_takes_back_the_last_first(runtime: Stage, how: str) -> None:
    """When an execution fails or is cancelled, what its tasks did is undone, the last first; an
    undo sees its variables as they were when its task was started."""
    execution = runtime.start(travel, how)
    if how == "handler":
        settle(execution)
        execution.signal("fail")
    if how == "cancelled":
        settle(execution)
        execution.cancel("changed my mind")
    with pytest.raises((ValueError, ExceptionGroup, ZeroDivisionError, ExecutionCancelled)):
        execution.result(WAIT)
    assert [*BOOKED, *UNDONE] == LEDGER


def test_26_undo_is_not_for_success(runtime: Stage) -> None:
    """An execution that completes, or is terminated, undoes nothing."""
    assert runtime.run(travel, "succeeds") == "booked"
    execution = runtime.start(travel, "waits")
    execution.terminate()
    with pytest.raises(ExecutionTerminated):
        execution.result(WAIT)
    assert not [entry for entry in LEDGER if entry in UNDONE]


@workflow("behaviours.undo_with_result")
async def undo_with_result(ctx: Context) -> None:
    await ctx.task(lambda: {"id": 7}, name="one", undo=note)
    handle = ctx.task(go_through, "undo", undo=note)
    await ctx.task(lambda: None, undo=lambda: note("no argument"))
    with contextlib.suppress(ZeroDivisionError):
        await ctx.task(broken, undo=note)
    ctx.task(go_through, "never awaited", undo=note)
    await handle
    raise ValueError("end")


def broken() -> None:
    raise ZeroDivisionError


def test_26_undo_is_given_the_result(runtime: Stage) -> None:
    """An undo that takes an argument is called with what its task returned; what failed, or is
    still at work, is not undone; the order is that in which the tasks succeeded."""
    execution = runtime.start(undo_with_result)
    gate("undo").wait_until_reached()
    gate("undo").open()
    gate("never awaited").wait_until_reached()
    with pytest.raises(ValueError, match="end"):
        execution.result(WAIT)
    assert LEDGER[0] in ("undo", "no argument")
    assert sorted(map(str, LEDGER[:2])) == ["no argument", "undo"]
    assert LEDGER[2:] == [{"id": 7}]


@workflow("behaviours.undo_fails")
async def undo_fails(ctx: Context, wait: float) -> None:
    await ctx.task(lambda: 1, name="one", undo=lambda: note("undo one"))
    await ctx.task(lambda: 2, name="two", undo=threading.Lock().acquire)
    await ctx.task(lambda: 3, name="three", undo=flaky)
    raise ValueError("end")


def flaky() -> None:
    from mini_workflow import current_task

    if current_task().attempt < 3:
        error = ConnectionError("not yet")
        error.retry_after = 0.01  # type: ignore[attr-defined]
        raise error
    note("undo three")


def test_26_an_undo_that_fails_is_retried(runtime: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """An undo is tried again for hours; one that cannot even be made is logged; neither keeps the
    others from being done, nor changes why the execution failed."""
    with caplog.at_level(logging.WARNING, logger="mini_workflow"):
        execution = runtime.start(undo_fails, 0)
        with pytest.raises(ValueError, match="end"):
            execution.result(WAIT)
    assert LEDGER == ["undo three", "undo one"]
    assert any("undo two" in record.getMessage() for record in caplog.records)


@workflow("behaviours.undo_slowly")
async def undo_slowly(ctx: Context) -> None:
    state = watched(ctx)
    await ctx.task(lambda: 1, name="one", undo=lambda: note("undo one"))
    await ctx.task(lambda: 2, name="two", undo=lambda: note(go_through("slow undo")))
    state["waits"] = True
    await ctx.wait_for_signal("never")


def test_26_a_cancel_does_not_disturb_the_undoing(runtime: Stage) -> None:
    """What is being undone is undone to the end, over cancellations and reopenings."""
    execution = runtime.start(undo_slowly)
    settle(execution)
    execution.cancel("first")
    gate("slow undo").wait_until_reached()
    execution.cancel("second")
    closing = Background(runtime.reopen)
    gate("slow undo").open()
    closing.get()
    with pytest.raises(ExecutionCancelled, match="first"):
        runtime.again(execution).result(WAIT)
    assert LEDGER == ["slow undo", "undo one"]


@workflow("behaviours.undo_counts")
async def undo_counts(ctx: Context, n: int) -> None:
    for i in range(n):
        await ctx.task(lambda: i, undo=lambda: note(i))
    raise ValueError(str(n))


def test_26_undo_of_many(runtime: Stage) -> None:
    """Each undo is of its own task: loop variables are as they were at the call."""
    with pytest.raises(ValueError, match="20"):
        runtime.run(undo_counts, 20)
    assert list(range(19, -1, -1)) == LEDGER
