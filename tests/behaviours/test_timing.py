"""60 to 63: executions that begin later, have a deadline, or are tried again."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionTerminated,
    ExecutionTimeout,
    RetryPolicy,
    UnknownHandler,
    UsageError,
    workflow,
)
from mini_workflow.core import events
from tests.behaviours.stage import DAY, LEDGER, Stage, note
from tests.waiting import WAIT


@workflow("behaviours.begins")
async def begins(ctx: Context) -> float:
    await ctx.task(note, "begun")
    return (ctx.now() - ctx.info.started_at) / timedelta(seconds=1)


def test_60_the_code_begins_after_the_delay(runtime: Stage) -> None:
    """Not earlier, and without any work before."""
    delay = runtime.far(DAY)
    waited = runtime.start(begins, delay=delay).result(WAIT)
    assert waited == delay if runtime.virtual else waited >= delay
    assert runtime.run(begins, delay=0) >= 0
    assert runtime.run(begins, delay=timedelta(seconds=-1)) >= 0


def test_60_the_code_begins_at_a_time(runtime: Stage) -> None:
    """A time that is over is now."""
    assert runtime.run(begins, start_at=datetime(2020, 1, 1, tzinfo=UTC)) >= 0
    wait = timedelta(seconds=runtime.far(DAY))
    execution = runtime.start(begins, id="later")
    at = execution.describe().started_at + wait
    begun = runtime.start(begins, start_at=at)
    waited = timedelta(seconds=begun.result(WAIT))
    assert begun.describe().started_at + waited >= at


@workflow("behaviours.begins_with_signals")
async def begins_with_signals(ctx: Context) -> list[Any]:
    ctx.on_query("state", lambda: "begun")
    return [await ctx.wait_for_signal("go") for _ in range(3)]


def test_60_signals_before_it_begins_are_kept(runtime: Stage) -> None:
    """In order; an update is refused, since no handler is there yet."""
    later = runtime.start(begins_with_signals, delay=100 * DAY, id="later")
    with pytest.raises(UnknownHandler, match="has not begun"):
        later.update("anything", timeout=WAIT)
    later.terminate()
    execution = runtime.start(begins_with_signals, delay=DAY if runtime.virtual else 1, id="soon")
    for i in range(3):
        execution.signal("go", i)
    assert execution.result(WAIT) == [0, 1, 2]


def test_60_an_end_before_it_begins_runs_no_code(runtime: Stage) -> None:
    """Neither a cancellation nor a termination waits for the time."""
    execution = runtime.start(begins, delay=DAY, id="one")
    execution.cancel("not needed")
    with pytest.raises(ExecutionCancelled, match="not needed"):
        execution.result(WAIT)
    other = runtime.start(begins, delay=DAY, id="two")
    other.terminate("away")
    with pytest.raises(ExecutionTerminated, match="away"):
        other.result(WAIT)
    assert LEDGER == []


def test_60_a_delayed_start_survives_a_reopening(runtime: Stage) -> None:
    """It is durable when the call returns."""
    execution = runtime.start(begins, delay=runtime.far(DAY), id="kept")
    runtime.reopen()
    again = runtime.start(begins, id="kept")
    assert again.id == execution.id
    assert again.result(WAIT) >= runtime.far(DAY)
    assert LEDGER == ["begun"]


@workflow("behaviours.never_ends")
async def never_ends(ctx: Context, how: str) -> str:
    await ctx.task(lambda: note("done"), undo=lambda: note("undone"))
    try:
        await ctx.wait_for_signal("never")
    except asyncio.CancelledError:
        await ctx.task(note, "cleaned up")
        if how == "swallow":
            return "late"
        if how == "fail":
            raise ValueError("in the cleanup") from None
        raise
    return "received"


@pytest.mark.parametrize("how", ["raise", "swallow", "fail"])
def test_61_the_deadline_ends_the_execution(runtime: Stage, how: str) -> None:
    """Its code may clean up, what it did is taken back, and it fails whatever it returns."""
    execution = runtime.start(never_ends, how, timeout=DAY if runtime.virtual else 1)
    with pytest.raises(ExecutionTimeout, match="has not ended by its deadline"):
        execution.result(WAIT)
    done = [e for e in execution.history() if isinstance(e, events.TaskCompleted)]
    # On a busy machine the deadline may be there before the first task is done.
    if runtime.virtual or done:
        assert LEDGER == ["done", "cleaned up", "undone"]
    assert execution.describe().status == "failed"
    with pytest.raises(TimeoutError):
        runtime.again(execution).result(WAIT)


@workflow("behaviours.ends_in_time")
async def ends_in_time(ctx: Context, rounds: int) -> int:
    await ctx.sleep(0.001)
    if rounds:
        ctx.continue_as_new(rounds - 1)
    return ctx.info.run


@workflow("behaviours.runs_for_ever")
async def runs_for_ever(ctx: Context, pause: float) -> None:
    await ctx.sleep(pause)
    ctx.continue_as_new(pause)


def test_61_the_deadline_holds_over_all_runs(runtime: Stage) -> None:
    """It counts from when the code first begins, and one that ends in time is not touched."""
    assert runtime.run(ends_in_time, 3, timeout=10 * DAY, delay=0.01) == 4
    pause = 3600.0 if runtime.virtual else 0.1
    execution = runtime.start(runs_for_ever, pause, timeout=4.5 * pause)
    with pytest.raises(ExecutionTimeout):
        execution.result(WAIT)
    if runtime.virtual:
        assert execution.describe().run == 5


@workflow("behaviours.fails_at_first")
async def fails_at_first(ctx: Context, good: int) -> list[Any]:
    await ctx.task(note, ctx.info.attempt)
    signal = await ctx.wait_for_signal("go") if ctx.info.attempt == 1 else None
    if ctx.info.attempt < good:
        raise LookupError(f"attempt {ctx.info.attempt}")
    return [ctx.info.attempt, ctx.info.run, ctx.info.last_failure, signal]


QUICK = RetryPolicy(max_attempts=3, initial=0.01, jitter="none")


def test_62_a_run_that_fails_is_followed_by_another(runtime: Stage) -> None:
    """With the same arguments, from the start, and the history of the last one alone."""
    execution = runtime.start(fails_at_first, 3, retry=QUICK)
    execution.signal("go")
    assert execution.result(WAIT) == [3, 3, "LookupError: attempt 2", None]
    assert LEDGER == [1, 2, 3]
    assert runtime.start(fails_at_first, 3, id=execution.id).result(WAIT)[0] == 3


def test_62_the_attempts_of_an_execution_are_used_up(runtime: Stage) -> None:
    """The last error is raised; what the policy does not name is not tried again."""
    execution = runtime.start(fails_at_first, 9, retry=QUICK)
    execution.signal("go")
    with pytest.raises(LookupError, match="attempt 3"):
        execution.result(WAIT)
    picky = RetryPolicy(max_attempts=3, initial=0.01, retry_on=(ValueError,))
    other = runtime.start(fails_at_first, 9, retry=picky)
    other.signal("go")
    with pytest.raises(LookupError, match="attempt 1"):
        other.result(WAIT)
    assert LEDGER == [1, 2, 3, 1]


@workflow("behaviours.waits_as_child")
async def waits_as_child(ctx: Context) -> None:
    await ctx.wait_for_signal("never")


@workflow("behaviours.fails_with_child")
async def fails_with_child(ctx: Context) -> str:
    if ctx.info.attempt == 1:
        ctx.child(waits_as_child, id=f"{ctx.info.execution_id}.child")
        await ctx.sleep(0.01)
        raise LookupError("with a child")
    return "done"


def test_62_children_of_a_run_that_fails_are_ended(runtime: Stage) -> None:
    """As when the parent closes: the next run begins without any."""
    execution = runtime.start(fails_with_child, id="parent", retry=QUICK)
    assert execution.result(WAIT) == "done"
    with pytest.raises(ExecutionTerminated):
        runtime.get_execution("parent.child").result(WAIT)


def test_62_a_cancelled_execution_is_not_tried_again(runtime: Stage) -> None:
    """Nor one that waits for its next attempt."""
    execution = runtime.start(never_ends, "raise", retry=QUICK)
    execution.cancel("enough")
    with pytest.raises(ExecutionCancelled):
        execution.result(WAIT)
    slow = RetryPolicy(max_attempts=3, initial=DAY, jitter="none")
    waits = runtime.start(fails_at_first, 9, retry=slow)
    waits.signal("go")
    waits.cancel("enough")
    with pytest.raises(ExecutionCancelled):
        waits.result(WAIT)


def test_62_a_deadline_ends_the_wait_for_another_attempt(runtime: Stage) -> None:
    """It holds over all attempts, and is not tried again."""
    slow = RetryPolicy(max_attempts=3, initial=100 * DAY, maximum=100 * DAY, jitter="none")
    execution = runtime.start(fails_at_first, 9, retry=slow, timeout=DAY if runtime.virtual else 1)
    with contextlib.suppress(
        ExecutionClosed
    ):  # the deadline may be there before, on a busy machine
        execution.signal("go")
    with pytest.raises(ExecutionTimeout):
        execution.result(WAIT)


@pytest.mark.parametrize(
    "options",
    [
        {"delay": "soon"},
        {"delay": 1e12},
        {"delay": float("nan")},
        {"delay": 1, "start_at": datetime(2030, 1, 1, tzinfo=UTC)},
        {"start_at": datetime(2030, 1, 1)},
        {"start_at": 5},
        {"start_at": datetime(9999, 1, 1, tzinfo=UTC)},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": True},
        {"retry": 3},
        {"retry": RetryPolicy(retry_if=lambda error: True)},
    ],
    ids=range(12),
)
def test_63_what_cannot_be_meant_is_refused(runtime: Stage, options: dict[str, Any]) -> None:
    """And nothing is started."""
    with pytest.raises(UsageError):
        runtime.start(begins, id="wrong", **options)
    with pytest.raises(LookupError):
        runtime.runtime.get_execution("wrong")
