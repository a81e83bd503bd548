"""Laws 9 and 10: a cancellation is delivered once, can be caught, and comes too late harmlessly."""

# ruff: noqa: SIM105 - as users write it

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mini_workflow.context import Context
from mini_workflow.core import commands, events
from mini_workflow.core.events import Tick
from tests.laws.corpus import double, fail
from tests.laws.driver import Driver, check_replays, run


def itself() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def test_law_09_a_cancellation_is_delivered_once_and_can_be_caught() -> None:
    """Law 9: caught, it is not raised again, and the workflow completes."""

    async def workflow(ctx: Context) -> list[str]:
        seen: list[str] = []
        itself().cancel("once")
        try:
            await ctx.task(double, 1)
        except asyncio.CancelledError as error:
            seen.append(str(error))
        seen.append(str(await ctx.task(double, 2)))
        await ctx.sleep(1)
        return seen

    driver = run(workflow)
    assert driver.result() == ["once", "4"]
    assert [event.seq for event in driver.recorded(events.TaskCancelled)] == [1]
    check_replays(driver)


def test_law_09_an_escaping_cancellation_cancels_the_execution_with_its_reason() -> None:
    """Law 9: after its cleanup, which may run tasks and wait."""

    async def workflow(ctx: Context) -> None:
        itself().cancel("not needed")
        try:
            await ctx.sleep(100)
        finally:
            await ctx.task(double, 1)
            await ctx.sleep(1)

    driver = run(workflow)
    assert driver.closing == events.ExecutionCancelled("not needed")
    assert len(driver.recorded(events.TaskCompleted, events.TimerFired)) == 2
    check_replays(driver)


def test_law_09_awaiting_what_was_cancelled_cancels_the_execution() -> None:
    """Law 9: as asyncio has it."""

    async def workflow(ctx: Context) -> None:
        future = ctx.task(double, 1)
        future.cancel("given up")
        await future

    assert run(workflow).closing == events.ExecutionCancelled("given up")


def test_law_09_a_cancellation_during_the_final_cleanup_comes_too_late() -> None:
    """Law 9: the result stands, and the leftover tasks are cancelled once."""

    async def workflow(ctx: Context) -> str:
        main = itself()

        async def background() -> None:
            try:
                await ctx.sleep(100)
            except asyncio.CancelledError:
                main.cancel()
                main.cancel()
                await ctx.task(double, 1)
                raise

        asyncio.create_task(background())  # noqa: RUF006
        await asyncio.sleep(0)
        main.cancel()
        try:
            await ctx.sleep(5)
        except asyncio.CancelledError:
            pass
        main.cancel()
        return "done"

    driver = run(workflow)
    assert driver.result() == "done"
    assert len(driver.recorded(events.TaskCompleted)) == 1
    check_replays(driver)


def test_law_09_leftover_tasks_are_cancelled_in_creation_order() -> None:
    """Law 9: their cleanup may run tasks, which are waited for."""

    async def workflow(ctx: Context) -> str:
        async def background(name: str) -> None:
            try:
                await ctx.sleep(100)
            finally:
                await ctx.task(double, 1, name=name)

        tasks = {asyncio.create_task(background(name)) for name in "edcba"}
        await ctx.task(double, 1, name="main")
        return f"{len(tasks)} left"

    driver = run(workflow)
    dispatched = [c.name for c in driver.commands if isinstance(c, commands.RunTask)]
    assert dispatched == ["main", *"edcba"]
    assert driver.result() == "5 left"
    check_replays(driver)


def test_law_09_a_failing_workflow_cleans_up_first() -> None:
    """Law 9: also when an exception escapes, what was left running is cancelled and waited for."""

    async def workflow(ctx: Context) -> None:
        async def background() -> None:
            try:
                await ctx.sleep(100)
            finally:
                await ctx.task(double, 1)

        asyncio.create_task(background())  # noqa: RUF006
        await ctx.task(fail, "boom")

    driver = run(workflow)
    assert driver.failure().message == "boom"
    assert len(driver.recorded(events.TaskCompleted)) == 1
    assert driver.recorded(events.TimerCancelled)


def test_law_09_gather_passes_the_cancellation_to_all_but_the_shielded() -> None:
    """Law 9: its timer and its task are given up; what is shielded goes on."""

    async def workflow(ctx: Context) -> list[str]:
        shielded = ctx.task(double, 1, name="shielded")
        group = asyncio.gather(
            ctx.task(double, 2, name="task"), ctx.sleep(10), asyncio.shield(shielded)
        )
        await asyncio.sleep(0)
        group.cancel()
        group.cancel()
        try:
            await group
        except asyncio.CancelledError:
            return [str(await shielded)]
        return []

    driver = run(workflow)
    assert driver.result() == ["2"]
    assert [e.seq for e in driver.recorded(events.TaskCancelled, events.TimerCancelled)] == [2, 3]
    check_replays(driver)


def test_law_09_a_shielded_wait_emits_nothing() -> None:
    """Law 9: giving a shield up does not give up what is behind it, however often."""

    async def workflow(ctx: Context) -> int:
        inner = ctx.task(double, 4)
        for _ in range(3):
            try:
                async with asyncio.timeout(1):
                    await asyncio.shield(inner)
            except TimeoutError:
                pass
        return await inner

    driver = Driver(workflow)
    for _ in range(3):
        driver.tick()
    assert driver.finish().result() == 8
    assert driver.recorded(events.TaskCancelled) == []
    check_replays(driver)


@pytest.mark.parametrize("kind", ["task", "timer"])
def test_law_10_cancelling_twice_or_too_late_is_harmless(kind: str) -> None:
    """Law 10: the second time, and after the end, nothing is recorded."""

    async def workflow(ctx: Context) -> list[bool]:
        def start() -> Any:
            return ctx.task(double, 1) if kind == "task" else ctx.sleep(1)

        twice, late = start(), start()
        seen = [twice.cancel(), twice.cancel(), twice.cancelled()]
        await late
        return [*seen, late.cancel(), late.cancelled()]

    driver = run(workflow)
    assert driver.result() == [True, False, True, False, False]
    assert len(driver.recorded(events.TaskCancelled, events.TimerCancelled)) == 1
    check_replays(driver)


def test_law_10_a_late_result_is_recorded_and_ignored() -> None:
    """Law 10: once; what comes again after that is no news."""

    async def workflow(ctx: Context) -> str:
        future = ctx.task(double, 1)
        await asyncio.wait([future], timeout=1)
        future.cancel()
        await ctx.task(double, 2)
        return "done"

    driver = Driver(workflow)
    late = driver.perform(driver.dispatched[0])
    driver.tick()
    assert driver.deliver(late).events == (late,)
    assert driver.deliver(late).events == ()
    assert driver.deliver(driver.perform(driver.dispatched[0])).events != ()
    assert driver.result() == "done"
    check_replays(driver)


def test_law_10_a_late_result_after_the_end_is_recorded_once() -> None:
    """Law 10: also when the workflow has closed meanwhile."""

    async def workflow(ctx: Context) -> str:
        ctx.task(double, 1).cancel()
        return "done"

    driver = Driver(workflow)
    assert driver.dispatched == []
    message = events.TaskFailed(1, 1, 1, driver.codec.encode_failure(ValueError("late")))
    assert driver.deliver(message).events == (message,)
    assert driver.deliver(message).events == ()
    other = events.TaskCompleted(1, 1, 2, driver.codec.encode(1, "result"))
    assert driver.deliver(other).events == ()
    check_replays(driver)


@pytest.mark.parametrize("first", ["task", "timer"])
def test_law_10_history_order_decides_a_race(first: str) -> None:
    """Law 10: a timer that is cancelled in the batch in which it would fire counts as cancelled;
    its late message is ignored. The other way round the task is cancelled."""

    async def workflow(ctx: Context) -> str:
        try:
            async with asyncio.timeout(1):
                await ctx.task(double, 1)
        except TimeoutError:
            return "timeout"
        return "in time"

    driver = Driver(workflow)
    done = driver.perform(driver.dispatched[0])
    fired = events.TimerFired(driver.now + 1000, driver.recorded(events.TimerStarted)[0].seq)
    driver.deliver(*((done, fired) if first == "task" else (fired, done)))
    assert driver.result() == ("in time" if first == "task" else "timeout")
    kinds = [type(event).__name__ for event in driver.events]
    assert ("TimerFired" in kinds) == (first == "timer")
    assert ("TaskCancelled" in kinds) == (first == "timer")
    check_replays(driver)


def test_law_10_a_timer_cancelled_in_its_own_delivery() -> None:
    """Law 10: fired but not yet run: the callback does not run, and nothing is recorded of it."""

    async def workflow(ctx: Context) -> list[str]:
        loop, seen = asyncio.get_running_loop(), list[str]()
        second = None

        def first() -> None:
            seen.append("first")
            assert second is not None
            second.cancel()

        loop.call_later(1, first)
        second = loop.call_later(1, seen.append, "second")
        sleeping = ctx.sleep(3)
        loop.call_later(3, sleeping.cancel)
        try:
            await sleeping
        except asyncio.CancelledError:
            seen.append("cancelled")
        return seen

    driver = Driver(workflow)
    driver.tick(10)
    # The sleep was there first, and a cancellation that comes after it changes nothing.
    assert driver.result() == ["first"]
    assert [e.seq for e in driver.recorded(events.TimerCancelled)] == [2]
    check_replays(driver)


def test_law_10_a_cancelled_retry_is_not_made() -> None:
    """Law 10: neither while it waits nor afterwards."""
    from mini_workflow.core.retry import RetryPolicy

    async def workflow(ctx: Context) -> None:
        future = ctx.task(fail, "x", retry=RetryPolicy(jitter="none"))
        await asyncio.wait([future], timeout=0.5)
        future.cancel()
        await ctx.sleep(10)

    driver = Driver(workflow)
    driver.deliver(driver.perform(driver.dispatched[0]))
    driver.now += 20_000
    driver.deliver(Tick(driver.now - 19_400))
    assert not [c for c in driver.commands if isinstance(c, commands.CancelTask)]
    driver.deliver(Tick(driver.now))
    assert driver.closed
    assert driver.bodies == [(1, 1)]
    assert driver.recorded(events.TaskRetryStarted) == []
    check_replays(driver)


def test_law_10_cancelling_a_task_tells_whoever_runs_it() -> None:
    """Law 10: one command, and none for a task that was never sent out."""

    async def workflow(ctx: Context) -> None:
        ctx.task(double, 0).cancel()
        future = ctx.task(double, 1)
        await ctx.sleep(1)
        future.cancel()

    driver = Driver(workflow)
    driver.tick()
    assert [c.seq for c in driver.commands if isinstance(c, commands.RunTask)] == [2]
    assert [c.seq for c in driver.commands if isinstance(c, commands.CancelTask)] == [2]


def test_law_09_termination_runs_no_code() -> None:
    """Law 9: a terminated execution is at its end; what is in flight is called off."""
    reached: list[str] = []

    async def workflow(ctx: Context) -> None:
        try:
            await asyncio.gather(ctx.task(double, 1), ctx.sleep(5))
        finally:
            reached.append("finally")
            await ctx.task(double, 2)

    driver = Driver(workflow)
    decision = driver.deliver(events.ExecutionTerminated(driver.now, "enough"))
    assert decision.condition == "terminated"
    assert not decision.busy
    assert decision.wake_at is None
    assert reached == []
    assert decision.commands == (commands.CancelTask(1, "enough"), commands.CancelTimer(2))
    late = driver.perform(driver.dispatched[0])
    assert driver.deliver(late, Tick(driver.now + 10_000)).events == ()
    assert driver.deliver(events.ExecutionTerminated(driver.now, "again")).events == ()
    check_replays(driver)
