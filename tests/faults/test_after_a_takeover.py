"""Who is told what when another process has taken over the executions of one that stood still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mini_workflow import Context
from mini_workflow.core import events
from mini_workflow.core.payload import Payload
from mini_workflow.engine.pending_updates import find_answer
from mini_workflow.engine.requests import Post, Update, WakeUp
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.simulation.stepping import LEASE, START, Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, MakeState, in_memory, stepping


async def works(ctx: Context) -> Any:
    return await ctx.task(lambda: "done", name="work")


async def spends(ctx: Context) -> None:
    async def spend(amount: int) -> int:
        await ctx.wait_for_signal("paid")
        return amount

    ctx.on_update("spend", spend)
    await ctx.wait_for_signal("end")


@contextmanager
def two_processes(make: MakeState = in_memory) -> Iterator[tuple[Stepper, Stepper]]:
    registry = Registry()
    registry.add(Workflow("works", works))
    registry.add(Workflow("spends", spends))
    opener, clock = make(), ManualClock(START)
    options: dict[str, Any] = {"clock": clock, "registry": registry, "obeys": True}
    with (
        stepping(lambda: opener, **options) as one,
        stepping(lambda: opener, **options) as two,
    ):
        two.share(one)
        one.open()
        two.open()
        yield one, two


def take_over(taker: Stepper) -> None:
    taker.clock.set(taker.clock.now() + LEASE + 1)
    taker.inbox.append(WakeUp())
    taker.settle()


def signal(stepper: Stepper, name: str) -> None:
    value = stepper.codec.encode(None, "value")
    message = events.SignalReceived(stepper.clock.now(), name, value, name)
    stepper.inbox.append(Post(ID, message))
    stepper.settle()


def update(stepper: Stepper) -> Update:
    request = Update(ID, "u", "spend", Payload(text="[[5],{}]"), stepper.clock.now())
    stepper.inbox.append(request)
    stepper.settle()
    return request


def test_attempts_are_given_up() -> None:
    with two_processes() as (one, two):
        one.start("works", execution_id=ID)
        one.settle()
        assert [request.attempt for request in one.runner.held] == [1]
        take_over(two)
        one.settle()
        assert one.runner.held == []
        assert one.engine.in_flight == 0
        two.run()
        assert two.outcome(ID) == "done"


def test_who_waits_for_an_update_is_sent_to_the_history() -> None:
    with two_processes() as (one, two):
        one.start("spends", execution_id=ID)
        one.settle()
        asked = update(one)
        with pytest.raises(TimeoutError):
            asked.reply.wait(0)
        take_over(two)
        one.settle()
        answer = asked.reply.wait(0)
        assert answer.event is answer.refusal is None
        signal(two, "paid")
        found = find_answer(two.lines(ID), "u", asked.at)
        assert isinstance(found, events.UpdateCompleted)


def test_a_message_to_a_blocked_execution_does_not_read_its_history() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("sequence", execution_id=ID)
        stepper.settle()
        head = stepper.head(ID)
        assert head is not None
        stepper.registry = Registry()
        stepper.crash()
        stepper.open()
        stepper.settle()
        blocked = stepper.head(ID)
        assert blocked is not None
        assert blocked.status == "blocked"
        before = len(stepper.crashes.calls)
        for number in range(5):
            signal(stepper, f"s{number}")
        assert stepper.crashes.called("store.load", before) == 0
        assert stepper.crashes.called("store.history", before) == 0
        stored = stepper.backend.store.load(ID)
        assert stored is not None
        assert [f'"s{number}"' in line for number, line in enumerate(stored.parked[-5:])] == [
            True
        ] * 5
