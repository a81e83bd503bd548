"""55 to 58: what has ended is run again, and what runs is paused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mini_workflow import (
    ChildFailed,
    Context,
    ExecutionAlreadyExists,
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionNotClosed,
    ExecutionPaused,
    ExecutionTerminated,
    UsageError,
    current_task,
    workflow,
)
from mini_workflow.core import events
from tests.behaviours.stage import DAY, LEDGER, Stage, gate, go_through, note
from tests.waiting import WAIT, eventually

BROKEN: set[Any] = set()
"""What tasks fail at."""


@pytest.fixture(autouse=True)
def _nothing_is_broken() -> None:
    BROKEN.clear()


def attempt(name: Any) -> Any:
    """A task that fails while something is broken."""
    LEDGER.append(name)
    if name in BROKEN:
        raise ValueError(f"{name} is broken")
    return name


def failed(execution: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        execution.result(WAIT)


@workflow("behaviours.loads")
async def loads(ctx: Context, count: int) -> int:
    parts = [ctx.task(attempt, number) for number in range(count)]
    done = await asyncio.gather(*parts, return_exceptions=True)
    errors = [one for one in done if isinstance(one, Exception)]
    if errors:
        raise ExceptionGroup("not all was loaded", errors)
    return sum(done)


def test_55_what_is_finished_stays_finished(runtime: Stage) -> None:
    """Of a hundred tasks two have failed: a retry makes these two again, and no other."""
    BROKEN.update({17, 34})
    execution = runtime.start(loads, 100)
    with pytest.raises(ExceptionGroup):
        execution.result(WAIT)
    BROKEN.clear()
    execution.retry()
    assert execution.result(WAIT) == sum(range(100))
    assert sorted(LEDGER) == sorted([*range(100), 17, 34])
    assert execution.describe().run == 2


@workflow("behaviours.order")
async def order(ctx: Context) -> list[Any]:
    first = await ctx.task(attempt, "reserve", name="reserve")
    try:
        second = await ctx.task(attempt, "charge", name="charge")
    except ValueError as error:
        await ctx.task(note, "cleaned up")
        raise RuntimeError("the order failed") from error
    return [first, second, await ctx.task(attempt, "ship", name="ship")]


def test_55_before_the_task_that_its_failure_comes_from(runtime: Stage) -> None:
    """What the code did about the failure is not part of the new run; each retry may fail again."""
    BROKEN.add("charge")
    execution = runtime.start(order)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the order failed"):
            execution.result(WAIT)
        execution.retry()
    with pytest.raises(RuntimeError):
        execution.result(WAIT)
    BROKEN.clear()
    execution.retry()
    assert execution.result(WAIT) == ["reserve", "charge", "ship"]
    assert ["reserve", *["charge", "cleaned up"] * 3, "charge", "ship"] == LEDGER


@workflow("behaviours.patient_order")
async def patient(ctx: Context) -> list[int]:
    from datetime import timedelta

    from mini_workflow import RetryPolicy

    policy = RetryPolicy(max_attempts=3, initial=timedelta(milliseconds=1))
    return await ctx.task(attempts, retry=policy)


def attempts() -> list[int]:
    LEDGER.append(current_task().attempt)
    if len(LEDGER) < 5:
        raise ValueError("not yet")
    return list(LEDGER)


def test_55_attempts_are_counted_afresh(runtime: Stage) -> None:
    """A task that has used up its attempts gets as many again; they are numbered on."""
    execution = runtime.start(patient)
    failed(execution, "not yet")
    execution.retry()
    assert execution.result(WAIT) == [1, 2, 3, 4, 5]


@workflow("behaviours.waits_for_word")
async def waits_for_word(ctx: Context, sleep: float = 0) -> list[Any]:
    seen: list[Any] = [await ctx.task(attempt, "first")]
    if sleep:
        await ctx.sleep(sleep)
    seen.append(await ctx.wait_for_signal("word"))
    seen.append(await ctx.task(attempt, "last"))
    return seen


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_55_cancelled_or_terminated(runtime: Stage, how: str) -> None:
    """One that was cancelled or terminated goes on where it waited; what came too late is kept."""
    execution = runtime.start(waits_for_word)
    eventually(lambda: "first" in LEDGER)
    getattr(execution, how)("by mistake")
    with pytest.raises((ExecutionCancelled, ExecutionTerminated), match="by mistake"):
        execution.result(WAIT)
    execution.retry()
    execution.signal("word", "go")
    assert execution.result(WAIT) == ["first", "go", "last"]
    assert LEDGER.count("last") == 1


def test_55_signals_that_were_acknowledged_are_kept(runtime: Stage) -> None:
    """A signal that was received behind the cut is delivered again in the new run."""
    BROKEN.add("last")
    execution = runtime.start(waits_for_word)
    execution.signal("word", "go")
    failed(execution, "last is broken")
    BROKEN.clear()
    execution.retry()
    assert execution.result(WAIT) == ["first", "go", "last"]
    execution.restart()
    execution.signal("word", "again")
    assert execution.result(WAIT) == ["first", "again", "last"]


@workflow("behaviours.sleeps_on")
async def sleeps_on(ctx: Context, seconds: float) -> str:
    nap = asyncio.ensure_future(ctx.sleep(seconds))
    await ctx.task(attempt, "work")
    await nap
    return "slept"


def test_55_timers_go_on(runtime: Stage) -> None:
    """A timer that was open at the cut goes on, and fires at once if its time is past."""
    BROKEN.add("work")
    execution = runtime.start(sleeps_on, runtime.far(30 * DAY))
    failed(execution, "work is broken")
    BROKEN.clear()
    execution.retry()
    assert execution.result(WAIT) == "slept"
    timers = [e for e in execution.history() if isinstance(e, events.TimerStarted)]
    assert len(timers) == 1


@workflow("behaviours.books")
async def books(ctx: Context) -> list[str]:
    key = await ctx.task(lambda: current_task().idempotency_key, name="price")
    flight = await ctx.task(book, "flight", name="flight", undo=lambda: note("undo flight"))
    await ctx.task(attempt, "pay")
    return [key, flight]


def book(what: str) -> str:
    LEDGER.append(f"book {what}")
    return current_task().idempotency_key


def test_55_what_was_taken_back_is_made_again(runtime: Stage) -> None:
    """What an undo has taken back is made again, under a key of its own; what stands before stays."""
    BROKEN.add("pay")
    execution = runtime.start(books, id="trip")
    failed(execution, "pay is broken")
    before = [e for e in execution.history() if isinstance(e, events.TaskCompleted)]
    BROKEN.clear()
    execution.retry()
    price, flight = execution.result(WAIT)
    assert LEDGER == ["book flight", "pay", "undo flight", "book flight", "pay"]
    assert price == before[0].result.tree
    assert flight not in [event.result.tree for event in before]


@workflow("behaviours.parent_of_order")
async def parent_of_order(ctx: Context) -> list[Any]:
    before = await ctx.task(attempt, "before")
    return [before, *await ctx.child(order, id=f"{ctx.info.execution_id}-order")]


def test_55_a_parent_has_its_child_retried(runtime: Stage) -> None:
    """A retried parent waits for its failed child again, and has it go on from its own last good point."""
    BROKEN.add("charge")
    execution = runtime.start(parent_of_order, id="parent")
    with pytest.raises(ChildFailed):
        execution.result(WAIT)
    BROKEN.clear()
    execution.retry()
    assert execution.result(WAIT) == ["before", "reserve", "charge", "ship"]
    assert LEDGER.count("before") == LEDGER.count("reserve") == 1
    assert runtime.get_execution("parent-order").describe().run == 2


def test_55_a_child_that_was_retried_by_itself(runtime: Stage) -> None:
    """A parent that has failed takes the result of a child that was retried meanwhile."""
    BROKEN.add("charge")
    execution = runtime.start(parent_of_order, id="parent")
    with pytest.raises(ChildFailed):
        execution.result(WAIT)
    BROKEN.clear()
    child = runtime.get_execution("parent-order")
    child.retry()
    assert child.result(WAIT) == ["reserve", "charge", "ship"]
    execution.retry()
    assert execution.result(WAIT) == ["before", "reserve", "charge", "ship"]
    assert LEDGER.count("charge") == 2


def test_55_what_cannot_be_retried(runtime: Stage) -> None:
    """One that runs or has completed is refused, with the reason, and is not changed."""
    execution = runtime.start(waits_for_word)
    with pytest.raises(ExecutionNotClosed, match="once it has closed"):
        execution.retry()
    with pytest.raises(ExecutionNotClosed):
        execution.restart()
    execution.signal("word", 1)
    assert execution.result(WAIT) == ["first", 1, "last"]
    with pytest.raises(ExecutionClosed, match="nothing is left to retry"):
        execution.retry()
    assert execution.describe().run == 1


@workflow("behaviours.tagged_order")
async def tagged_order(ctx: Context) -> str:
    ctx.set_tags({"stage": "begun"})
    await ctx.task(attempt, "charge", name="charge")
    ctx.set_tags({"stage": "paid"})
    return await ctx.task(attempt, "ship", name="ship")


def test_55_its_tags_and_its_deadline_stay(runtime: Stage) -> None:
    """Those that it had at the point from which it goes on."""
    BROKEN.add("ship")
    execution = runtime.start(tagged_order, id="o", tags={"customer": "c-7"}, timeout=DAY)
    failed(execution, "ship is broken")
    execution.retry()
    failed(execution, "ship is broken")
    BROKEN.clear()
    execution.retry()
    assert execution.result(WAIT) == "ship"
    assert execution.describe().tags == {"customer": "c-7", "stage": "paid"}
    assert [one.id for one in runtime.list_executions(tags={"customer": "c-7"})] == ["o"]
    assert LEDGER.count("charge") == 1


def test_55_what_a_schedule_has_started(runtime: Stage) -> None:
    """The schedule starts the next one as before."""
    BROKEN.add("charge")
    schedule = runtime.schedules.create("yearly", tagged_order, every=400 * DAY)
    first = schedule.trigger()
    failed(first, "charge is broken")
    eventually(lambda: schedule.describe().running == ())
    BROKEN.clear()
    first.retry()
    assert first.result(WAIT) == "ship"
    second = schedule.trigger()
    assert second.result(WAIT) == "ship"
    eventually(lambda: schedule.describe().running == ())


def test_55_a_retry_survives_a_reopening(runtime: Stage) -> None:
    """When retry() has returned, the new run is there, whatever becomes of the process."""
    BROKEN.add("charge")
    execution = runtime.start(order)
    with pytest.raises(RuntimeError):
        execution.result(WAIT)
    BROKEN.clear()
    execution.retry()
    runtime.reopen()
    assert runtime.again(execution).result(WAIT) == ["reserve", "charge", "ship"]


def test_56_from_the_start_with_the_same_arguments(runtime: Stage) -> None:
    """restart() begins a new run of the same id with the arguments of the first one."""
    execution = runtime.start(counts_down, 2)
    assert execution.result(WAIT) == "done"
    runs = execution.describe().run
    LEDGER.clear()
    execution.restart()
    assert execution.result(WAIT) == "done"
    assert execution.describe().run == 2 * runs
    assert LEDGER == [2, 1, 0]


@workflow("behaviours.counts_down_to_nothing")
async def counts_down(ctx: Context, number: int) -> str:
    await ctx.task(note, number)
    if number:
        ctx.continue_as_new(number - 1)
    return "done"


@workflow("behaviours.echoes")
async def echoes(ctx: Context, value: Any) -> Any:
    return await ctx.task(note, value)


def test_56_started_again_once_it_has_closed(runtime: Stage) -> None:
    """`if_closed` says what becomes of a closed execution whose id is started again."""
    assert runtime.run(echoes, 1, id="e") == 1
    assert runtime.run(echoes, 1, id="e") == 1
    assert LEDGER == [1]
    with pytest.raises(ExecutionAlreadyExists, match="has closed"):
        runtime.start(echoes, 1, id="e", if_closed="reject")
    assert runtime.run(echoes, 1, id="e", if_closed="restart") == 1
    assert runtime.run(echoes, 2, id="e", if_closed="restart") == 2
    assert LEDGER == [1, 1, 2]
    assert runtime.run(echoes, 2, id="e") == 2, "it is known by its last arguments"
    with pytest.raises(ExecutionAlreadyExists, match="other arguments"):
        runtime.start(echoes, 1, id="e")
    with pytest.raises(ExecutionAlreadyExists, match="is one of workflow"):
        runtime.start(counts_down, 0, id="e", if_closed="restart")
    with pytest.raises(UsageError, match="if_closed='again'"):
        runtime.start(echoes, 1, id="e", if_closed="again")


def test_56_a_signal_begins_the_next_run(runtime: Stage) -> None:
    """`signal_with_start` with "restart" gives its signal to the run that it begins."""

    def send(value: str) -> Any:
        return runtime.signal_with_start(
            waits_for_word, id="w", signal="word", value=value, if_closed="restart"
        )

    assert send("one").result(WAIT)[1] == "one"
    assert send("two").result(WAIT)[1] == "two"
    with pytest.raises(ExecutionClosed):
        runtime.signal_with_start(waits_for_word, id="w", signal="word")


@workflow("behaviours.goes_on")
async def goes_on(ctx: Context) -> list[Any]:
    seen = [await ctx.task(go_through, "paused")]
    seen.append(await ctx.wait_for_signal("word"))
    seen.append(await ctx.task(note, "after"))
    return seen


def test_57_paused_until_it_is_resumed(runtime: Stage) -> None:
    """A paused execution takes in what arrives, and runs no code and begins no task until resume()."""
    execution = runtime.start(goes_on)
    gate("paused").wait_until_reached()
    execution.pause("the printer is on fire")
    with pytest.raises(ExecutionPaused, match="the printer is on fire"):
        execution.result(WAIT)
    gate("paused").open()
    execution.signal("word", "go")
    assert "the printer is on fire" in (execution.describe().blocked_reason or "")
    assert execution.describe().blocked_kind == "ExecutionPaused"
    runtime.hand_over()
    execution = runtime.again(execution)
    assert execution.describe().blocked_kind == "ExecutionPaused"
    assert LEDGER == []
    execution.resume()
    eventually(lambda: execution.describe().status == "completed")
    assert execution.result(WAIT)[1:] == ["go", "after"]
    with pytest.raises(ExecutionClosed):
        execution.pause()


def test_57_a_paused_execution_can_be_ended(runtime: Stage) -> None:
    """A termination takes no code, and so ends a paused execution too; a retry then goes on from there."""
    execution = runtime.start(waits_for_word)
    execution.pause()
    execution.terminate("enough")
    with pytest.raises((ExecutionTerminated, ExecutionPaused)):
        execution.result(WAIT)
    eventually(lambda: execution.describe().status == "terminated")
    execution.retry()
    execution.signal("word", 1)
    assert execution.result(WAIT) == ["first", 1, "last"]
