"""13 to 17: timers and time."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy, UsageError, workflow
from tests.behaviours.stage import DAY, Stage, settle, watched
from tests.waiting import WAIT


def of_kind(execution: Any, kind: str) -> list[Any]:
    return [event for event in execution.history() if type(event).__name__ == kind]


@workflow("behaviours.sleeps")
async def sleeps(ctx: Context, waits: list[Any]) -> list[float]:
    took = []
    for wait in waits:
        begin = ctx.now()
        await ctx.sleep(wait)
        took.append((ctx.now() - begin) / timedelta(milliseconds=1))
    return took


def test_13_a_sleep_never_ends_early(runtime: Stage) -> None:
    """Seconds, fractions and timedeltas, to the millisecond; zero and less take no time."""
    waits = [0, -5, timedelta(seconds=-1), 0.001, 0.02, timedelta(milliseconds=15), 0.0104]
    execution = runtime.start(sleeps, waits)
    took = execution.result(WAIT)
    assert took[:3] == [0, 0, 0]
    for wait, least in zip(took[3:], [1, 20, 15, 11], strict=True):
        assert wait == least if runtime.virtual else wait >= least
    # Sleeping for no time is no timer.
    assert len(of_kind(execution, "TimerStarted")) == 4


@workflow("behaviours.sleeps_beside")
async def sleeps_beside(ctx: Context, n: int, unit: float) -> list[int]:
    order: list[int] = []

    async def nap(i: int) -> None:
        await ctx.sleep(unit * i)
        order.append(i)

    await asyncio.gather(*(nap(i) for i in reversed(range(n))))
    return order


def test_13_a_hundred_sleeps_keep_their_own_times(runtime: Stage) -> None:
    """Sleeps that run beside each other end in the order of their times."""
    unit = DAY if runtime.virtual else 0.001
    assert runtime.run(sleeps_beside, 100, unit) == list(range(100))


@workflow("behaviours.wrong_sleeps")
async def wrong_sleeps(ctx: Context) -> list[str]:
    errors = []
    for wrong in (float("nan"), float("inf"), 1e12, "1", None):
        try:
            await ctx.sleep(wrong)  # type: ignore[arg-type]
        except (UsageError, TypeError, ValueError) as error:
            errors.append(type(error).__name__)
    try:
        await ctx.sleep_until(ctx.now().replace(tzinfo=None))
    except UsageError as error:
        errors.append(type(error).__name__)
    await ctx.sleep_until(ctx.now() - timedelta(days=1))
    return errors


def test_13_what_is_no_time_is_refused(runtime: Stage) -> None:
    """Times that cannot be meant are refused at the call."""
    assert len(runtime.run(wrong_sleeps)) == 6


class Busy(Exception):
    retry_after = 3600


def be_busy() -> None:
    raise Busy


@workflow("behaviours.guards")
async def guards(ctx: Context, how: str) -> str:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()
    # It waits an hour for its second attempt, so that no task runs when the time is over.
    task = ctx.task(be_busy, retry=RetryPolicy(max_attempts=2))
    try:
        if how == "timeout":
            async with asyncio.timeout(0.2):
                await task
        elif how == "timeout_at":
            async with asyncio.timeout_at(loop.time() + 0.2):
                await task
        elif how == "wait_for":
            await asyncio.wait_for(task, 0.2)
        elif how == "wait":
            done, left = await asyncio.wait([task], timeout=0.2)
            return f"{len(done)} {len(left)} {task.cancel()}"
        elif how == "call_later":
            loop.call_later(0.2, future.set_result, "called")
            return f"{await future} {task.cancel()}"
        elif how == "call_at":
            loop.call_at(loop.time() + 0.2, future.set_result, "called")
            return f"{await future} {task.cancel()}"
        else:
            await ctx.wait_for(task.done, timeout=0.2)
    except TimeoutError:
        return f"timed out {task.cancelled() or task.cancel()}"
    return "?"


@pytest.mark.parametrize(
    ("how", "result"),
    [
        ("timeout", "timed out True"),
        ("timeout_at", "timed out True"),
        ("wait_for", "timed out True"),
        ("wait", "0 1 True"),
        ("call_later", "called True"),
        ("call_at", "called True"),
        ("ctx.wait_for", "timed out True"),
    ],
)
def test_14_each_makes_one_timer_of_exactly_its_time(runtime: Stage, how: str, result: str) -> None:
    """asyncio's timers and time-outs are durable timers, and cancel what they guard."""
    execution = runtime.start(guards, how)
    assert execution.result(WAIT) == result
    (started,) = of_kind(execution, "ExecutionStarted")
    (timer,) = of_kind(execution, "TimerStarted")
    assert timer.fire_at - started.at == 200
    assert len(of_kind(execution, "TimerFired")) == 1
    assert len(of_kind(execution, "TaskCancelled")) == 1


@workflow("behaviours.in_time")
async def in_time(ctx: Context) -> list[str]:
    async with asyncio.timeout(30 * DAY):
        first = await ctx.task(lambda: "one")
    second = await asyncio.wait_for(ctx.task(lambda: "two"), 30 * DAY)
    asyncio.get_running_loop().call_later(30 * DAY, print).cancel()
    return [first, second]


def test_14_a_timer_that_is_not_needed_is_given_up(runtime: Stage) -> None:
    """A timeout whose work is done in time leaves no timer behind."""
    execution = runtime.start(in_time)
    assert execution.result(WAIT) == ["one", "two"]
    assert len(of_kind(execution, "TimerCancelled")) == 3
    assert execution.describe().next_wake_at is None


@workflow("behaviours.same_moment")
async def same_moment(ctx: Context) -> list[str]:
    one, two = ctx.sleep(0.02), ctx.sleep(0.02)
    await one
    two.cancel()
    two.cancel()
    one.cancel()
    try:
        await two
    except asyncio.CancelledError:
        return ["cancelled", await ctx.task(lambda: "and on")]
    return ["fired"]


def test_15_cancelled_at_the_moment_at_which_it_would_fire(runtime: Stage) -> None:
    """Of two timers of the same moment, the first may cancel the second, which then never fires;
    cancelling twice, or after it fired, is harmless."""
    execution = runtime.start(same_moment)
    assert execution.result(WAIT) == ["cancelled", "and on"]
    assert len(of_kind(execution, "TimerFired")) == len(of_kind(execution, "TimerCancelled")) == 1


@workflow("behaviours.looks_at_the_clock")
async def looks_at_the_clock(ctx: Context, wait: float) -> None:
    state = watched(ctx)
    seen: list[Any] = []
    ctx.on_query("seen", lambda: seen)

    def look() -> None:
        seen.append((ctx.now(), asyncio.get_running_loop().time()))

    look()
    sum(range(100_000))
    look()
    await asyncio.sleep(0)
    look()
    await ctx.task(lambda: None)
    look()
    await ctx.sleep(wait)
    look()
    state["waits"] = True
    await ctx.wait_for_signal("end")


def test_16_time_stands_still_between_two_events(runtime: Stage) -> None:
    """now() and the loop's time agree, stand still while code runs, never go back, and are the
    same after a replay."""
    execution = runtime.start(looks_at_the_clock, runtime.far(DAY))
    settle(execution)
    seen = execution.query("seen")
    assert seen[0] == seen[1] == seen[2]
    assert seen == sorted(seen)
    assert seen[4][0] - seen[3][0] >= timedelta(seconds=runtime.far(DAY))
    for moment, loop_time in seen:
        assert moment.tzinfo is UTC
        assert abs(moment.timestamp() - loop_time) < 0.001
    runtime.reopen()
    assert runtime.again(execution).query("seen") == seen


@workflow("behaviours.reminder")
async def reminder(ctx: Context, month: float, year: int, signals: int) -> list[int]:
    ctx.child(writes_now_and_then, month * 2.5, signals, on_parent_close="abandon")
    months = entries = 0
    while months < year or entries < signals:
        try:
            async with asyncio.timeout(month):
                await ctx.wait_for_signal("message")
            entries += 1
        except TimeoutError:
            months += 1
    return [months, entries]


@workflow("behaviours.writes_now_and_then")
async def writes_now_and_then(ctx: Context, wait: float, n: int) -> None:
    assert ctx.info.parent_id is not None
    for _ in range(n):
        await ctx.sleep(wait)
        ctx.execution(ctx.info.parent_id).signal("message")


def test_17_a_month_against_a_signal_for_a_year(runtime: Stage) -> None:
    """A long timer that is raced against a signal, over and over, loses neither."""
    # A timer of AWS takes a second at least.
    year = 3 if runtime.posts else 12
    execution = runtime.start(reminder, runtime.far(30 * DAY), year, 4)
    months, entries = execution.result(WAIT)
    assert entries == 4
    assert months >= year
    if runtime.virtual:
        began, now = execution.describe().started_at, runtime.now()
        assert timedelta(days=360) <= now - began <= timedelta(days=600)
    started, ended = (len(of_kind(execution, k)) for k in ("TimerStarted", "TimerFired"))
    assert started == ended + len(of_kind(execution, "TimerCancelled"))
