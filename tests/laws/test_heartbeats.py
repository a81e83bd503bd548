"""What a history says of heartbeats, and what replay makes of it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy, UsageError
from mini_workflow.core import commands, events, wire
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from tests.laws.driver import CODEC, Driver, check_replays

TWICE = RetryPolicy(max_attempts=2, initial=1, jitter="none")
DETAILS = (3, {"page": "ü"})


async def watched(ctx: Context) -> Any:
    policy = RetryPolicy(max_attempts=4, initial=1, jitter="none")
    return await ctx.task(len, "abc", retry=policy, heartbeat_timeout=timedelta(seconds=30))


def fail(driver: Driver, details: object = None) -> None:
    """The attempt in flight fails, having given these details."""
    command = driver.dispatched.pop(0)
    driver.now += 1
    heartbeat = None if details is None else CODEC.encode(details, "details")
    failure = CODEC.encode_failure(ConnectionError("gone"))
    driver.deliver(events.TaskFailed(driver.now, command.seq, command.attempt, failure, heartbeat))


def known(driver: Driver) -> Any:
    """What the attempt in flight is told of the ones before."""
    heartbeat = driver.dispatched[0].heartbeat
    return None if heartbeat is None else CODEC.decode(heartbeat)


class TestTheTimeout:
    def test_is_recorded_in_milliseconds_and_dispatched(self) -> None:
        driver = Driver(watched)
        [scheduled] = driver.recorded(events.TaskScheduled)
        assert scheduled.heartbeat_timeout == 30_000
        assert driver.dispatched[0].heartbeat_timeout == 30_000
        check_replays(driver.finish())

    def test_is_not_there_when_it_is_not_asked_for(self) -> None:
        async def workflow(ctx: Context) -> int:
            return await ctx.task(len, "abc", timeout=1)

        driver = Driver(workflow).finish()
        assert not any("heartbeat" in line for line in driver.lines)

    @pytest.mark.parametrize("wrong", [0, -1, timedelta(0)])
    def test_must_be_more_than_nothing(self, wrong: Any) -> None:
        async def workflow(ctx: Context) -> str:
            try:
                await ctx.task(len, "abc", heartbeat_timeout=wrong)
            except UsageError as error:
                return str(error)
            return ""

        assert "heartbeat_timeout=" in Driver(workflow).result()

    def test_is_not_for_inline_tasks(self) -> None:
        async def workflow(ctx: Context) -> str:
            try:
                await ctx.task(len, "abc", inline=True, heartbeat_timeout=1)
            except UsageError:
                return "refused"
            return "accepted"

        assert Driver(workflow).result() == "refused"

    def test_is_that_of_each_task_of_a_map(self) -> None:
        async def workflow(ctx: Context) -> list[int]:
            return await ctx.map(len, ["a", "bc"], heartbeat_timeout=2)

        driver = Driver(workflow).finish()
        times = [event.heartbeat_timeout for event in driver.recorded(events.TaskScheduled)]
        assert times == [2_000, 2_000]


class TestTheDetails:
    def test_reach_the_next_attempt(self) -> None:
        driver = Driver(watched)
        assert known(driver) is None
        fail(driver, DETAILS)
        driver.tick()
        assert known(driver) == DETAILS
        check_replays(driver.finish())

    @pytest.mark.parametrize("waits", [True, False])
    def test_reach_it_after_a_crash(self, waits: bool) -> None:
        driver = Driver(watched)
        fail(driver, DETAILS)
        if waits:
            driver.crash()
            driver.tick()
        else:
            driver.tick()
            driver.crash()
            # Handed back by a runtime that has not begun it.
            command = driver.dispatched.pop(0)
            key = (command.seq, command.attempt)
            driver.deliver(events.TaskReleased(driver.now, *key))
            driver.deliver(events.TaskRetryStarted(driver.now, *key))
        assert known(driver) == DETAILS

    def test_stay_while_attempts_give_none(self) -> None:
        driver = Driver(watched)
        fail(driver, "first")
        driver.tick()
        fail(driver)
        driver.tick()
        assert known(driver) == "first"
        fail(driver, "third")
        driver.evict()
        driver.tick()
        assert known(driver) == "third"
        check_replays(driver.finish())

    def test_can_be_read_in_the_history(self) -> None:
        driver = Driver(watched)
        fail(driver, "page 7 of 9")
        assert '"heartbeat":"page 7 of 9"' in driver.lines[-1]

    def test_of_the_last_attempt_are_recorded_too(self) -> None:
        async def workflow(ctx: Context) -> None:
            await ctx.task(len, "abc")

        driver = Driver(workflow)
        fail(driver, DETAILS)
        [failed] = driver.recorded(events.TaskFailed)
        assert CODEC.decode(failed.heartbeat) == DETAILS
        check_replays(driver)

    @pytest.mark.parametrize("heartbeat", [None, Payload(tree=None), CODEC.encode(DETAILS, "")])
    @pytest.mark.parametrize(
        "make",
        [
            lambda failure, heartbeat: events.TaskFailed(1, 2, 3, failure, heartbeat),
            lambda failure, heartbeat: events.TaskRetryScheduled(1, 2, 3, 4, failure, heartbeat),
        ],
    )
    def test_are_read_as_they_were_written(
        self, make: Callable[..., Any], heartbeat: Payload | None
    ) -> None:
        event = make(Failure("builtins:OSError", "gone"), heartbeat)
        again: Any = wire.decode(wire.encode(event))
        assert again == event
        assert (again.heartbeat is None) == (heartbeat is None)


async def directly(ctx: Context) -> None:
    await ctx.task(len, "abc")


async def under_gather(ctx: Context) -> None:
    await asyncio.gather(ctx.task(len, "a"), ctx.sleep(9))


async def under_a_group(ctx: Context) -> None:
    async def one() -> None:
        await ctx.task(len, "a")

    async with asyncio.TaskGroup() as group:
        group.create_task(one())


async def under_a_map(ctx: Context) -> None:
    await ctx.map(len, ["a"])


class TestTheReasonOfACancellation:
    @pytest.mark.parametrize("workflow", [directly, under_gather, under_a_group, under_a_map])
    def test_reaches_the_task(self, workflow: Any) -> None:
        driver = Driver(workflow)
        driver.deliver(events.CancelRequested(driver.now, "out of stock"))
        [given_up] = driver.recorded(events.TaskCancelled)
        assert given_up.reason == "out of stock"
        cancels = [one for one in driver.commands if isinstance(one, commands.CancelTask)]
        assert cancels == [commands.CancelTask(given_up.seq, "out of stock")]
        driver.dispatched.clear()
        check_replays(driver)

    def test_is_not_that_of_a_later_one(self) -> None:
        async def workflow(ctx: Context) -> None:
            task = ctx.task(len, "abc")
            try:
                await ctx.sleep(9)
            except asyncio.CancelledError:
                await ctx.sleep(1)
            task.cancel()

        driver = Driver(workflow)
        driver.deliver(events.CancelRequested(driver.now, "out of stock"))
        driver.tick()
        [given_up] = driver.recorded(events.TaskCancelled)
        assert given_up.reason == ""

    def test_reaches_what_a_termination_leaves(self) -> None:
        driver = Driver(watched)
        driver.deliver(events.ExecutionTerminated(driver.now, "by hand"))
        assert driver.commands[-1] == commands.CancelTask(1, "by hand")
