"""Law 27: messages of one sender to one execution are received in their order, also across a
takeover.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_workflow import Context
from mini_workflow.core import events, wire
from mini_workflow.engine.requests import Post, WakeUp
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.simulation.stepping import LEASE, START, Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, MakeState, in_memory, stepping

SENDERS: Final = ("ann", "ben")


def registry() -> Registry:
    made = Registry()

    async def collects(ctx: Context) -> list[Any]:
        got: list[Any] = []
        ctx.on_signal("say", got.append)
        await ctx.wait_for_signal("end")
        return got

    async def tells(ctx: Context, target: str, words: int) -> None:
        for number in range(words):
            ctx.execution(target).signal("say", ["child", number])
            await ctx.sleep(0.001)

    made.add(Workflow("collects", collects))
    made.add(Workflow("tells", tells))
    return made


class Conversation:
    """Two processes on one state, and senders who each use the one or the other."""

    def __init__(self, one: Stepper, two: Stepper) -> None:
        self.processes = [one, two]
        self.codec = one.codec
        self.counts = dict.fromkeys(SENDERS, 0)
        self.posted: list[Post] = []

    def say(self, sender: str, by: int, how: str) -> None:
        """The sender's next signal, by a runtime or left in the mailbox as a client does it."""
        stepper = self.processes[by]
        number = self.counts[sender]
        self.counts[sender] += 1
        value = self.codec.encode([sender, number], "value")
        signal = events.SignalReceived(stepper.clock.now(), "say", value, f"{sender}-{number}")
        if how == "message":
            body = wire.encode(signal)
            stepper.backend.mailbox.post(ID, body, body)
        else:
            request = Post(ID, signal)
            self.posted.append(request)
            stepper.inbox.append(request)
            stepper.settle()  # it has been acknowledged when the sender goes on
            request.reply.wait(0)

    def pause(self, by: int) -> None:
        """The process stands still for longer than its lease lasts, and the other one looks."""
        stepper, other = self.processes[by], self.processes[1 - by]
        stepper.clock.set(stepper.clock.now() + LEASE + 1)
        other.inbox.append(WakeUp())

    def heard(self) -> list[Any]:
        end = events.SignalReceived(0, "end", self.codec.encode(None, "value"), "end")
        self.processes[0].inbox.append(Post(ID, end))
        for _ in range(3):
            for stepper in self.processes:
                stepper.inbox.append(WakeUp())
                stepper.settle()
        found: list[Any] = self.processes[0].outcome(ID)
        return found


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("say"),
            st.sampled_from(SENDERS),
            st.integers(0, 1),
            st.sampled_from(["runtime", "message"]),
        ),
        st.tuples(st.just("pause"), st.integers(0, 1)),
        st.tuples(st.just("process"), st.integers(0, 1)),
    ),
    max_size=25,
)


def converse(make: MakeState, steps: list[Any]) -> None:
    opener, clock = make(), ManualClock(START)
    options: dict[str, Any] = {"clock": clock, "registry": registry()}
    with (
        stepping(lambda: opener, **options) as one,
        stepping(lambda: opener, **options) as two,
    ):
        two.share(one)
        one.open()
        two.open()
        one.start("collects", execution_id=ID)
        one.settle()
        talk = Conversation(one, two)
        for kind, *arguments in steps:
            if kind == "say":
                talk.say(*arguments)
            elif kind == "pause":
                talk.pause(*arguments)
            else:
                talk.processes[arguments[0]].process()
        heard = talk.heard()
        for sender in SENDERS:
            mine = [number for name, number in heard if name == sender]
            assert mine == list(range(talk.counts[sender]))


@settings(deadline=None, max_examples=150)
@given(STEPS)
def test_order_of_each_sender(steps: list[Any]) -> None:
    converse(in_memory, steps)


@pytest.mark.parametrize("first", ["runtime", "message"])
@pytest.mark.parametrize("second", ["runtime", "message"])
def test_order_across_a_takeover(first: str, second: str) -> None:
    said = [("say", "ann", 1, first), ("pause", 0), ("say", "ann", 1, second)]
    converse(in_memory, [*said, ("say", "ben", 0, second), *said])


def test_messages_of_a_client_come_before_what_its_process_sends_next() -> None:
    converse(in_memory, [("say", "ann", 0, "message"), ("say", "ann", 0, "runtime")] * 3)


def test_child_to_parent_across_a_takeover() -> None:
    opener, clock = in_memory(), ManualClock(START)
    options: dict[str, Any] = {"clock": clock, "registry": registry()}
    with (
        stepping(lambda: opener, **options) as one,
        stepping(lambda: opener, **options) as two,
    ):
        two.share(one)
        one.open()
        two.open()
        one.start("collects", execution_id=ID)
        one.settle()
        two.start("tells", ID, 6, execution_id="x-2")
        two.settle()
        talk = Conversation(one, two)
        for turn in range(6):
            two.step()
            if turn == 2:
                talk.pause(0)
        two.run()
        assert talk.heard() == [["child", number] for number in range(6)]
