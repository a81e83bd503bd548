"""Law 23: the clock may jump both ways. A duration keeps its length that begins after the jump, or
while the clock is wrong for a moment; nothing fires early by more than the jump.
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
from mini_workflow.engine import clock_steps
from mini_workflow.engine.requests import Post
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.stepping import START, Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, check, in_memory, stepping

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


def jump(stepper: Stepper, by: int) -> None:
    stepper.clock.set(stepper.clock.now() + by)


def reopen(stepper: Stepper, at: int = START) -> None:
    """The process dies, and another one opens the store when its clock says so."""
    stepper.crash()
    stepper.clock.set(at)
    stepper.open()
    stepper.settle()


def to_the_end(stepper: Stepper, ends: int) -> None:
    """The duration ends then, and not before."""
    stepper.clock.set(ends - 1)
    stepper.settle()
    head = stepper.head(ID)
    assert head is not None
    assert head.wake_at == ends
    stepper.clock.set(ends)
    stepper.settle()
    head = stepper.head(ID)
    assert head is not None
    assert head.wake_at is None
    while stepper.runner.held:
        stepper.runner.run(stepper.runner.held[0])
        stepper.settle()
    assert stepper.faults(ID) == []


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("begin", BEGINS)
@settings(deadline=None, max_examples=20)
@given(
    ahead=st.lists(st.integers(1, 3 * DAY), min_size=1, max_size=3),
    share=st.floats(0, 1, exclude_max=True),
)
def test_what_begins_while_the_clock_is_ahead_keeps_its_length(
    begin: Any, cache_size: int, ahead: list[int], share: float
) -> None:
    # Shorter than any jump: when it began has to lie ahead then.
    waited = int(min(*ahead, LENGTH) * share)
    with stepping(in_memory, registry=registry(begin), cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        began = stepper.clock.now()
        jump(stepper, sum(ahead))
        begin_one(stepper, 0)
        jump(stepper, waited)
        stepper.settle()
        for by in ahead:  # it may be corrected step by step
            jump(stepper, -by)
            stepper.settle()
        to_the_end(stepper, began + LENGTH)
        # All that follows is as if nothing had happened.
        began = stepper.clock.now()
        begin_one(stepper, 1)
        to_the_end(stepper, began + LENGTH)


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("begin", BEGINS)
@settings(deadline=None, max_examples=20)
@given(back=st.integers(1, 3 * DAY), passed=st.integers(0, LENGTH - 1))
def test_a_clock_that_is_behind_for_a_moment_ends_nothing_early(
    begin: Any, cache_size: int, back: int, passed: int
) -> None:
    with stepping(in_memory, registry=registry(begin), cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        began = stepper.clock.now()
        begin_one(stepper, 0)
        jump(stepper, passed)
        stepper.settle()
        jump(stepper, -back)
        stepper.settle()
        head = stepper.head(ID)
        assert head is not None
        # If it stays so, the length is kept, where it can be told.
        assert head.wake_at == began + LENGTH - (back if passed < back else 0)
        jump(stepper, back)
        stepper.settle()
        if back > clock_steps.STEADY:
            to_the_end(stepper, began + LENGTH)
            return
        # It cannot be told from a clock that goes on: early by no more than the jump.
        if passed < LENGTH - back:
            stepper.clock.set(began + LENGTH - back - 1)
            stepper.settle()
            head = stepper.head(ID)
            assert head is not None
            assert head.wake_at is not None
        stepper.clock.set(began + LENGTH)
        stepper.settle()
        head = stepper.head(ID)
        assert head is not None
        assert head.wake_at is None


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("begin", BEGINS)
def test_a_clock_that_stays_behind_delays_nothing(begin: Any, cache_size: int) -> None:
    with stepping(in_memory, registry=registry(begin), cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        begin_one(stepper, 0)
        jump(stepper, -DAY)
        stepper.settle()
        to_the_end(stepper, START - DAY + LENGTH)


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("steady", [True, False])
def test_a_duration_longer_than_the_jump(
    cache_size: int, steady: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its length where the engine sees the clock go on evenly. Otherwise the clock may have
    been set forward again, and it is late by as much rather than early.
    """
    ahead = LENGTH // 10
    monkeypatch.setattr(clock_steps, "STEADY", 2 * LENGTH if steady else ahead)
    with stepping(in_memory, registry=registry(_sleeps), cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        jump(stepper, ahead)
        begin_one(stepper, 0)
        jump(stepper, -ahead)
        stepper.settle()
        ends = START + LENGTH
        stepper.clock.set(ends)
        stepper.settle()
        head = stepper.head(ID)
        assert head is not None
        if steady:
            assert head.wake_at is None
        else:
            to_the_end(stepper, ends + ahead)


@pytest.mark.parametrize("begin", BEGINS)
def test_a_process_that_opens_after_the_correction(begin: Any) -> None:
    """What its predecessor has planned anew stands in the history."""
    with stepping(in_memory, registry=registry(begin)) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        jump(stepper, DAY)
        begin_one(stepper, 0)
        jump(stepper, -DAY)
        stepper.settle()
        reopen(stepper)
        to_the_end(stepper, START + LENGTH)


@pytest.mark.parametrize("begin", BEGINS)
def test_a_process_that_has_not_seen_the_jump(begin: Any) -> None:
    """It finds out at the next turn of the execution. What began while the clock was ahead begins
    then at the latest.
    """
    with stepping(in_memory, registry=registry(begin)) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        jump(stepper, DAY)
        begin_one(stepper, 0)
        # In good order: a lease of the time ahead would stand until then.
        stepper.close()
        stepper.clock.set(START)
        stepper.open()
        for number in range(3):  # the first turn counts
            jump(stepper, LENGTH // 4)
            value = stepper.codec.encode(None, "value")
            message = SignalReceived(stepper.clock.now(), "other", value, f"other-{number}")
            stepper.inbox.append(Post(ID, message))
            stepper.settle()
            reopen(stepper, stepper.clock.now())
        to_the_end(stepper, START + LENGTH // 4 + LENGTH)


@pytest.mark.parametrize("cache_size", [0, 100])
def test_an_execution_that_waits_for_a_time_goes_on_waiting_for_it(cache_size: int) -> None:
    with stepping(in_memory, registry=registry(_until), cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        jump(stepper, DAY)
        begin_one(stepper, 0)
        jump(stepper, -DAY)
        stepper.settle()
        to_the_end(stepper, START + DAY + LENGTH)


def test_a_clock_that_differs_a_little_moves_nothing() -> None:
    """As that of another machine that makes the next turn: only a jump that is seen counts."""
    with stepping(in_memory, registry=registry(_sleeps)) as stepper:
        stepper.open()
        stepper.start("steps", execution_id=ID)
        stepper.settle()
        jump(stepper, 5_000)
        begin_one(stepper, 0)
        reopen(stepper)
        to_the_end(stepper, START + 5_000 + LENGTH)


YEARS: Final = 1_000 * DAY
"""More than anything here lasts."""


def elapsed(name: str, cache_size: int, by: int, at: int) -> tuple[int, bool]:
    """How long a shape takes whose clock is wrong by so much around step number `at`, and whether it
    has so many steps.
    """
    shape = SHAPES[name]
    with Ledger() as ledger, stepping(in_memory, shape, cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        busy = all(stepper.step() for _ in range(at))
        stepper.settle()
        if by:
            stepper.set_clock(by)
            if by > 0:
                stepper.step()
            stepper.settle()
            stepper.set_clock(-by)
        stepper.run()
        if by <= 0:
            check(stepper, shape, ledger)
        else:  # what began before may have come early
            head = stepper.head(ID)
            assert head is not None
            assert head.closed_at is not None
            assert stepper.faults(ID) == []
            assert ledger.faults(ID, stepper.record.events(ID)) == []
        return stepper.clock.now() - START, busy


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("by", [YEARS, -YEARS])
@pytest.mark.parametrize("name", sorted(name for name, shape in SHAPES.items() if not shape.wide))
def test_a_clock_that_is_wrong_for_a_moment_delays_no_shape(
    name: str, by: int, cache_size: int
) -> None:
    """At every step: it comes to its end as soon as ever, and to the same unless the clock was ahead."""
    at, busy = 0, True
    usual, _ = elapsed(name, cache_size, 0, 0)
    while busy:
        took, busy = elapsed(name, cache_size, by, at)
        assert took == usual if by < 0 else took < DAY + usual
        at += 1
