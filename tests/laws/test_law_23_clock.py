"""Law 23: the clock may jump both ways. A duration that begins after the jump keeps its length;
nothing fires early by more than the jump.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_workflow import Context, RetryPolicy
from mini_workflow.core import events
from mini_workflow.core.events import SignalReceived
from mini_workflow.core.history import History
from mini_workflow.engine.requests import Post
from mini_workflow.testing.simulation.stepping import Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, in_memory, stepping

DAY: Final = 24 * 3600 * 1000
LENGTH: Final = 1_000
"""Milliseconds of every duration here."""


async def _sleeps(ctx: Context) -> None:
    await ctx.sleep(1)


async def _times_out(ctx: Context) -> None:
    try:
        async with asyncio.timeout(1):
            await ctx.wait_for_signal("never")
    except TimeoutError:
        pass


async def _waits_for(ctx: Context) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(ctx.wait_for_signal("never"), 1)


async def _retries(ctx: Context) -> None:
    def fail() -> None:
        raise ConnectionError("once more")

    with suppress(ConnectionError):
        await ctx.task(fail, retry=RetryPolicy(max_attempts=2, initial=1, jitter="none"))


async def _until(ctx: Context) -> None:
    await ctx.sleep_until(ctx.now() + timedelta(seconds=1))


BEGINS: Final = [_sleeps, _times_out, _waits_for, _retries]


def registry(begin: Any) -> Registry:
    async def steps(ctx: Context) -> list[float]:
        times: list[float] = []
        async for _ in ctx.signals("step"):
            times.append(ctx.now().timestamp())
            await begin(ctx)
            times.append(ctx.now().timestamp())
            if len(times) == 6:
                break
        return times

    made = Registry()
    made.add(Workflow("steps", steps))
    return made


def begin_one(stepper: Stepper, number: int) -> None:
    value = stepper.codec.encode(None, "value")
    message = SignalReceived(stepper.clock.now(), "step", value, f"s{number}")
    stepper.inbox.append(Post(ID, message))
    stepper.settle()
    while stepper.runner.held:
        stepper.runner.run(stepper.runner.held[0])
        stepper.settle()


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("begin", BEGINS)
@settings(deadline=None, max_examples=20)
@given(jumps=st.lists(st.integers(-3 * DAY, 3 * DAY), min_size=3, max_size=3))
def test_durations_keep_their_length(begin: Any, cache_size: int, jumps: list[int]) -> None:
    with stepping(in_memory, registry=registry(begin), cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        for number, jump in enumerate(jumps):
            stepper.clock.set(stepper.clock.now() + jump)
            begin_one(stepper, number)
            head = stepper.head(ID)
            assert head is not None
            assert head.wake_at == stepper.clock.now() + LENGTH
            stepper.clock.set(head.wake_at - 1)
            stepper.settle()
            assert stepper.head(ID) == head
            stepper.clock.set(head.wake_at)
            stepper.settle()
            while stepper.runner.held:
                stepper.runner.run(stepper.runner.held[0])
                stepper.settle()
        times = stepper.outcome(ID)
        assert times == sorted(times)  # law 5: for the workflow, time never goes back
        assert stepper.faults(ID) == []


@settings(deadline=None, max_examples=40)
@given(jump=st.integers(-3 * DAY, 3 * DAY))
def test_sleep_until_ends_at_its_time(jump: int) -> None:
    with stepping(in_memory, registry=registry(_until)) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        begin_one(stepper, 0)
        first = stepper.head(ID)
        assert first is not None
        assert first.wake_at is not None
        stepper.clock.set(stepper.clock.now() + jump)
        stepper.settle()
        after = stepper.head(ID)
        assert after is not None
        assert (after.wake_at is None) == (stepper.clock.now() >= first.wake_at)


def test_a_message_that_was_long_under_way_shortens_nothing() -> None:
    with stepping(in_memory, registry=registry(_sleeps)) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        sent = stepper.clock.now()
        stepper.clock.set(sent + DAY)
        value = stepper.codec.encode(None, "value")
        stepper.inbox.append(Post(ID, SignalReceived(sent, "step", value, "late")))
        stepper.settle()
        head = stepper.head(ID)
        assert head is not None
        assert head.wake_at == sent + DAY + LENGTH
        started = [
            e for e in History.from_lines(stepper.lines(ID)) if isinstance(e, events.TimerStarted)
        ]
        assert [e.fire_at for e in started] == [head.wake_at]
