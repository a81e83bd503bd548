"""Law 5: time stands still during a delivery; the loop's clock and now() agree."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.context import Context
from mini_workflow.core import commands, events
from mini_workflow.core.decide import advance
from mini_workflow.core.events import Tick
from mini_workflow.core.history import History
from mini_workflow.durations import milliseconds
from mini_workflow.errors import UsageError
from tests.laws.corpus import double
from tests.laws.driver import CODEC, START, Driver, check_replays, define, run, started


def test_law_05_now_stands_still_and_agrees_with_the_loop() -> None:
    """Law 5: time moves between deliveries only, forwards only, and is the same on replay."""

    async def workflow(ctx: Context) -> list[list[float]]:
        loop, seen = asyncio.get_running_loop(), list[list[float]]()

        def look() -> None:
            seen.append([ctx.now().timestamp(), loop.time()])

        look()
        await asyncio.sleep(0)
        look()
        await ctx.task(double, 1)
        look()
        await asyncio.sleep(0.5)
        look()
        return seen

    driver = Driver(workflow)
    driver.now += 10_000
    driver.finish()
    seen = driver.result()
    assert [loop for _, loop in seen] == [now for now, _ in seen]
    assert seen[0] == seen[1] == [START / 1000] * 2
    assert seen[2][0] > seen[1][0]
    assert seen[3][0] >= seen[2][0] + 0.5
    check_replays(driver)


def test_law_05_a_clock_that_goes_back_is_not_followed() -> None:
    """Law 5: messages from a machine whose clock is behind do not turn the time back."""

    async def workflow(ctx: Context) -> list[float]:
        seen = [ctx.now().timestamp()]
        for _ in range(2):
            await ctx.task(double, 1)
            seen.append(ctx.now().timestamp())
        return seen

    driver = Driver(workflow)
    driver.now -= 5_000
    driver.finish()
    assert driver.result() == [START / 1000] * 3


def test_law_05_a_timer_that_is_reported_early_ends_no_earlier() -> None:
    """Law 5: a sleep never ends before its time, also when another machine's clock is ahead."""

    async def workflow(ctx: Context) -> float:
        await ctx.sleep(10)
        return ctx.now().timestamp()

    driver = Driver(workflow)
    driver.deliver(events.TimerFired(START + 9_990, 1))
    assert driver.result() == START / 1000 + 10


@given(st.floats(0.001, 1e6), st.integers(0, 4_000_000_000_000))
def test_law_05_timers_are_whole_milliseconds(delay: float, now: int) -> None:
    """Law 5: a timer is never early, at most a millisecond late, and whole numbers stay whole."""

    async def workflow(ctx: Context) -> None:
        await ctx.sleep(delay)

    definition = define(workflow)
    decision = advance(definition, History(), [started(definition, at=now)], CODEC)
    (timer,) = (e for e in decision.events if isinstance(e, events.TimerStarted))
    assert isinstance(timer.fire_at, int)
    assert -0.0006 <= timer.fire_at - now - delay * 1000 < 1
    assert milliseconds(round(delay)) == round(delay) * 1000


@pytest.mark.parametrize("now", [0, START, START + 1, 4_102_444_800_003])
@pytest.mark.parametrize(
    "use", ["timeout", "timeout_at", "wait_for", "call_later", "call_at", "sleep"]
)
def test_law_05_200_ms_are_200_ms(use: str, now: int) -> None:
    """Law 5: each of asyncio's ways to wait 200 ms makes one timer of exactly 200 ms."""

    async def workflow(ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        forever = ctx.task(double, 1)
        match use:
            case "timeout":
                async with asyncio.timeout(0.2):
                    await forever
            case "timeout_at":
                async with asyncio.timeout_at(loop.time() + 0.2):
                    await forever
            case "wait_for":
                await asyncio.wait_for(forever, 0.2)
            case "call_later":
                loop.call_later(0.2, forever.cancel)
                await forever
            case "call_at":
                loop.call_at(loop.time() + 0.2, forever.cancel)
                await forever
            case _:
                await asyncio.wait({forever, asyncio.create_task(asyncio.sleep(0.2))}, timeout=0.2)
                forever.cancel()

    definition = define(workflow)
    opened = advance(definition, History(), [started(definition, at=now)], CODEC)
    timers = [e for e in opened.events if isinstance(e, events.TimerStarted)]
    assert {timer.fire_at for timer in timers} == {now + 200}
    assert len(timers) == (2 if use == "sleep" else 1)
    early = advance(definition, History(opened.events), [Tick(now + 199)], CODEC)
    assert early.events == ()
    late = advance(definition, History(opened.events), [Tick(now + 200)], CODEC)
    assert [e for e in late.events if isinstance(e, events.TaskCancelled)]
    assert late.condition in ("failed", "cancelled", "completed")


def test_law_05_a_batch_of_late_timers_fires_in_their_order() -> None:
    """Law 5: after an outage timers fire in the order of their times, then of their creation."""

    async def workflow(ctx: Context) -> list[str]:
        seen: list[str] = []

        async def nap(name: str, delay: float) -> None:
            await ctx.sleep(delay)
            seen.append(name)

        await asyncio.gather(nap("c", 3), nap("a", 1), nap("b", 2), nap("b2", 2))
        return seen

    driver = Driver(workflow)
    driver.tick(1000)
    assert driver.result() == ["a", "b", "b2", "c"]
    assert {event.at for event in driver.recorded(events.TimerFired)} == {START + 1_000_000}


def test_law_05_a_hundred_sleeps_keep_their_own_times() -> None:
    """Law 5: concurrent sleeps each end at their time; sequential ones add up."""

    async def workflow(ctx: Context) -> list[float]:
        ends: list[float] = []

        async def nap(i: int) -> None:
            await ctx.sleep(i / 10)
            await ctx.sleep(i / 10)
            ends.append(ctx.now().timestamp() - START / 1000)

        await asyncio.gather(*(nap(i) for i in range(1, 101)))
        return ends

    driver = Driver(workflow)
    while not driver.closed:
        driver.now = driver.decision.wake_at  # type: ignore[union-attr,assignment]
        driver.deliver(Tick(driver.now))
    assert driver.result() == pytest.approx([i / 5 for i in range(1, 101)])


def test_law_05_a_year_of_timers_raced_against_a_task() -> None:
    """Law 5: thirty-day timers in a loop, for a year, one of which loses."""

    async def workflow(ctx: Context) -> list[str]:
        seen: list[str] = []
        answer = ctx.task(double, 21)
        for _ in range(12):
            try:
                async with asyncio.timeout(30 * 24 * 3600):
                    seen.append(str(await asyncio.shield(answer)))
                    break
            except TimeoutError:
                seen.append(f"{ctx.now():%Y-%m-%d}")
        return seen

    driver = Driver(workflow)
    for _ in range(11):
        driver.tick()
    driver.deliver(driver.perform(driver.dispatched[0]))
    seen = driver.result()
    assert len(seen) == 12
    assert seen[-1] == "42"
    first, last = (datetime.fromisoformat(day) for day in (seen[0], seen[10]))
    assert last - first == timedelta(days=300)
    check_replays(driver)


def test_law_05_sleeping_until_a_time() -> None:
    """Law 5: sleep_until takes any zone, and none only with an error."""

    async def workflow(ctx: Context) -> list[str]:
        zone = timezone(timedelta(hours=5))
        await ctx.sleep_until(datetime.fromtimestamp(START / 1000 + 7, zone))
        first = ctx.now().isoformat()
        await ctx.sleep_until(ctx.now() - timedelta(days=1))
        try:
            await ctx.sleep_until(datetime(2030, 1, 1))
        except UsageError as error:
            return [first, ctx.now().isoformat(), str(error)]
        return []

    driver = run(workflow)
    expected = datetime.fromtimestamp(START / 1000 + 7, UTC).isoformat()
    first, second, message = driver.result()
    assert first == second == expected
    assert "no time zone" in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300, "1", None, True, 10**400])
def test_law_05_impossible_durations_are_errors(bad: Any) -> None:
    """Law 5: what is no number of seconds, or more than a hundred years, leaves no timer."""

    async def by_context(ctx: Context) -> None:
        await ctx.sleep(bad)

    async def by_asyncio(ctx: Context) -> None:
        asyncio.get_running_loop().call_later(bad, print)

    driver = run(by_context)
    assert driver.failure().type == "mini_workflow.errors:UsageError"
    assert not driver.recorded(events.TimerStarted)
    if isinstance(bad, float | int) and not isinstance(bad, bool):
        driver = run(by_asyncio)
        assert driver.failure().type == "mini_workflow.errors:UsageError"


def test_law_05_timers_open_at_the_end_are_given_back() -> None:
    """Law 5: their backend is told, so that nothing wakes up for a closed execution."""

    async def workflow(ctx: Context) -> None:
        ctx.sleep(10)
        asyncio.get_running_loop().call_later(20, print)
        await ctx.task(double, 1)

    driver = run(workflow)
    assert [c.seq for c in driver.commands if isinstance(c, commands.StartTimer)] == [1, 2]
    assert [c.seq for c in driver.commands if isinstance(c, commands.CancelTimer)] == [1, 2]
    assert driver.decision is not None
    assert driver.decision.wake_at is None
