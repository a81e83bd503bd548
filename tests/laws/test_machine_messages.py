"""Laws 9 to 15 together, for executions that are spoken to and that speak: whatever crashes, stalls,
repeats itself or comes late, nothing that was acknowledged is lost, no step is done twice, signals
are received in order and once, a promise is completed once, and an update is handled once per id."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.state import ExecutionState
from mini_workflow.engine.requests import Post, Start, Update
from mini_workflow.errors import MiniWorkflowError
from mini_workflow.ports import Query
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.outside import again
from mini_workflow.testing.simulation.shapes import PATIENT, step
from mini_workflow.testing.simulation.stepping import LEASE, Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.laws.test_machine import LOSSES, Machine
from tests.unit.engine.harness import Files, in_memory

# A failure takes minutes to be made small.
pytestmark = pytest.mark.timeout(600)

IDS = ["in-1", "in-2"]


async def leaf(ctx: Context, n: int) -> int:
    await ctx.sleep(5)
    return await step(ctx, "leaf", 2 * n, retry=PATIENT)


async def inbox(ctx: Context, kept: dict[str, list[Any]] | None = None) -> dict[str, list[Any]]:
    """Does what it is told, one signal after the other, and returns what it has seen."""
    kept = kept or {"said": [], "added": [], "told": [], "given": [], "grown": []}
    at_work = 0

    def is_positive(n: int) -> None:
        if n < 0:
            raise ValueError(n)

    async def add(n: int) -> int:
        nonlocal at_work
        at_work += 1
        try:
            await step(ctx, "added", n, retry=PATIENT)
            kept["added"].append(n)
            return n
        finally:
            at_work -= 1

    async def settled() -> None:
        await ctx.wait_for(lambda: not at_work)

    async def promised(name: str) -> None:
        promise = ctx.promise(name)
        with suppress(TimeoutError):
            kept["given"].append(await asyncio.wait_for(promise, 30))

    ctx.on_update("add", add, validator=is_positive)
    ctx.on_signal("told", kept["told"].append)
    try:
        async for n, what, whom in ctx.signals("say"):
            kept["said"].append(n)
            if what == "work":
                await asyncio.gather(*(step(ctx, "work", n, retry=PATIENT) for _ in range(2)))
            elif what == "child":
                kept["grown"].append(await ctx.child("leaf", n) - 2 * n)
            elif what == "leave":
                ctx.child("leaf", n, on_parent_close=whom)
            elif what == "tell":
                ctx.execution(whom).signal("told", [ctx.info.execution_id, n])
            elif what == "promise":
                await promised(str(n))
            elif what == "next":
                await settled()
                ctx.continue_as_new(kept)
            elif what == "end":
                await settled()
                break
    except asyncio.CancelledError:
        await step(ctx, "cleanup", retry=PATIENT)
        raise
    return kept


REGISTRY = Registry()
for _handler in (leaf, inbox):
    REGISTRY.add(Workflow(_handler.__name__, _handler))

SAYS = st.sampled_from(
    [
        *[(what, "") for what in ("work", "child", "promise", "end")],
        *[("next", "")] * 4,
        *[("leave", how) for how in ("terminate", "cancel", "abandon")],
        *[("tell", whom) for whom in IDS],
    ]
)


class SqsMessage(Machine):
    """The rules of crashes, time and tasks are those of `Machine`."""

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        self.ledger = Ledger()
        self.ledger.__enter__()
        self.opener = self.make()
        self.stepper = self.another()
        self.stale: Stepper | None = None
        self.by_message: set[int] = set()
        """What was said to a stale process. It comes by mail, and has an order of its own."""
        self.losses = 0
        self.is_open = False
        self.numbers = 0
        self.late = []
        self.asked: list[Any] = []
        self.taken: list[Post] = []
        self.acknowledged: dict[str, set[str]] = defaultdict(set)
        self.given: dict[tuple[str, int], list[Any]] = defaultdict(list)
        self.answers: dict[tuple[str, str], list[Any]] = defaultdict(list)
        self.reopen()

    def another(self) -> Stepper:
        return Stepper(self.opener, REGISTRY, cache_size=self.cache_size)

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def ask(self, request: Any) -> None:
        self.asked.append(request)
        self.stepper.inbox.append(request)

    def signal(self, says: tuple[str, str]) -> events.SignalReceived:
        n = self.next_number()
        value = self.stepper.codec.encode((n, *says), "value")
        return events.SignalReceived(self.stepper.clock.now(), "say", value, f"say-{n}")

    terminate = resume = None  # type: ignore[assignment]

    # What is said

    @precondition(lambda self: self.is_open)
    @rule(name=st.sampled_from(IDS))
    def start(self, name: str) -> None:  # type: ignore[override]
        self.asked.append(self.stepper.start("inbox", execution_id=name))

    @precondition(lambda self: self.is_open)
    @rule(name=st.sampled_from(IDS), says=SAYS)
    def signal_with_start(self, name: str, says: tuple[str, str]) -> None:
        request = self.stepper.start("inbox", execution_id=name)
        request.message = self.signal(says)
        self.asked.append(request)

    @precondition(lambda self: self.is_open)
    @rule(name=st.sampled_from(IDS), all_says=st.lists(SAYS, min_size=1, max_size=4))
    def say(self, name: str, all_says: list[tuple[str, str]]) -> None:
        for says in all_says:
            self.ask(Post(name, self.signal(says)))

    @precondition(lambda self: self.is_open and self.taken)
    @rule(back=st.integers(1, 5))
    def say_again(self, back: int) -> None:
        self.stepper.inbox.append(again(self.taken[-back % len(self.taken)]))

    @precondition(lambda self: self.is_open)
    @rule(name=st.sampled_from(IDS), n=st.integers(-1, 6))
    def update(self, name: str, n: int) -> None:
        arguments = self.stepper.codec.encode([[n], {}], "arguments")
        self.ask(Update(name, f"add-{n}", "add", arguments, self.stepper.clock.now()))

    @precondition(lambda self: self.is_open)
    @rule(name=st.sampled_from(IDS), data=st.data(), times=st.integers(1, 2))
    def give(self, name: str, data: st.DataObject, times: int) -> None:
        """Complete a promise; first have one made, if there is none."""
        if not self.promises(name):
            self.ask(Post(name, self.signal(("promise", ""))))
            self.survive(self.stepper.settle)
        made = self.promises(name)
        if not made or not self.is_open:
            return
        seq = data.draw(st.sampled_from(made))
        secret = ExecutionState.of(self.stepper.record.run(name)).secret(seq)
        for _ in range(times):
            n, now = self.next_number(), self.stepper.clock.now()
            value = self.stepper.codec.encode(n, "value")
            message = events.PromiseCompleted(now, seq, value, secret if n % 5 else "wrong")
            self.ask(Post(name, message))

    def promises(self, name: str) -> list[int]:
        run = self.stepper.record.run(name)
        return [event.seq for event in run if isinstance(event, events.PromiseCreated)]

    @precondition(lambda self: self.is_open)
    @rule(name=st.sampled_from(IDS), how=st.integers(0, 9))
    def disturb(self, name: str, how: int) -> None:
        """Most of the time no harm is done, so that executions live to see something."""
        if how == 0:
            self.ask(Post(name, events.CancelRequested(self.stepper.clock.now(), "by rule")))
        elif how == 1:
            self.asked.append(self.stepper.terminate(name))
        else:
            self.stepper.resume(name)

    # What goes wrong

    @precondition(lambda self: self.is_open and self.stale is None and self.losses < LOSSES)
    @rule()
    def stall(self) -> None:
        """The process stands still for longer than its lease, and another one takes over."""
        self.look()
        self.losses += 1
        stale, clock = self.stepper, self.stepper.clock
        for request in self.asked[:]:
            if isinstance(getattr(request, "message", None), events.PromiseCompleted):
                self.asked.remove(request)  # of two processes only one knows which came first
            signal = getattr(request, "signal", None) or getattr(request, "message", None)
            if isinstance(signal, events.SignalReceived):
                self.by_message.add(int(signal.id.removeprefix("say-")))
        self.stepper = self.another()
        self.stepper.clock = clock
        self.stepper.share(stale)
        stale.crashes.crash_at(None)
        clock.advance(LEASE + 1)
        self.stale, self.is_open = stale, False
        self.reopen()

    @precondition(lambda self: self.is_open and self.stale is not None)
    @rule(says=SAYS, name=st.sampled_from(IDS))
    def the_stale_one_is_told(self, says: tuple[str, str], name: str) -> None:
        """It does not know yet that it has lost everything. Then it is shut down."""
        stale, self.stale = self.stale, None
        assert stale is not None
        request = Post(name, self.signal(says))
        self.by_message.add(self.numbers)
        self.asked.append(request)
        stale.inbox.append(request)
        for attempt in stale.runner.ready():
            stale.runner.run(attempt)
        stale.process()
        self.look()
        stale.close()

    # What must hold

    @invariant()
    def look(self) -> None:
        if not self.is_open:
            return
        self.hear()
        for name in self.names():
            assert (faults := self.stepper.faults(name)) == [], faults
            recorded = self.stepper.record.events(name)
            assert (faults := self.ledger.faults(name, recorded)) == [], faults
            stored = self.stepper.lines(name)
            assert self.stepper.record.lines(name)[-len(stored) :] == stored

    def names(self) -> list[str]:
        page = self.stepper.backend.store.list(Query(limit=1000))
        assert page.next is None
        return [head.execution_id for head in page.heads]

    def hear(self) -> None:
        """What callers have been told."""
        for request in self.asked[:]:
            try:
                answer = request.reply.wait(0)
            except TimeoutError:
                continue
            except (MiniWorkflowError, ValueError):
                self.asked.remove(request)
                continue
            name = request.execution_id
            if isinstance(request, Update):
                if answer.event is None and answer.refusal is None:
                    continue
                self.answers[name, request.update_id].append(answer)
            elif isinstance(request, Start):
                self.acknowledged[name].add("start")
                if isinstance(request.message, events.SignalReceived):
                    self.acknowledged[name].add(request.message.id)
            else:
                self.acknowledge(request)
            self.asked.remove(request)

    def acknowledge(self, request: Post) -> None:
        message = request.message
        if isinstance(message, events.SignalReceived):
            self.acknowledged[request.execution_id].add(message.id)
            self.taken.append(request)
        elif isinstance(message, events.PromiseCompleted):
            assert message.secret != "wrong"
            self.given[request.execution_id, message.seq].append(message)

    def teardown(self) -> None:
        stepper = self.stepper
        try:
            stepper.crashes.crash_at(None)
            stepper.crashes.recover()
            if self.stale is not None:
                self.stale.crash()
            if self.is_open:
                self.look()
                stepper.crash()
            self.is_open = True
            stepper.open()
            stepper.inbox.extend(self.late)
            stepper.run()
            for _ in range(3):
                for name in IDS:
                    stepper.inbox.append(Post(name, self.signal(("end", ""))))
                stepper.run()
            self.look()
            for name in self.names():
                self.check_end(name)
            for name in IDS:
                self.check_promises(name)
                self.check_messages(name)
        finally:
            if self.stale is not None:
                self.stale.discard()
            stepper.discard()
            self.ledger.__exit__(None, None, None)

    def check_end(self, name: str) -> None:
        head = self.stepper.head(name)
        assert head is not None
        assert head.closed_at is not None, head
        assert not head.busy
        assert head.status != "failed", self.stepper.outcome(name)

    def check_promises(self, name: str) -> None:
        recorded = self.stepper.record.events(name)
        completed = [event for event in recorded if isinstance(event, events.PromiseCompleted)]
        assert len({event.seq for event in completed}) == len(completed)
        for (owner, _), messages in self.given.items():
            if owner == name:
                assert len(messages) == 1, (name, messages, recorded)
                [message] = messages
                assert replace(message, secret="") in completed

    def check_messages(self, name: str) -> None:
        recorded = self.stepper.record.events(name)
        arrived = {e.id for e in recorded if isinstance(e, events.SignalReceived)}
        too_late = [e.id for e in recorded if isinstance(e, events.SignalUnhandled)]
        expected = self.acknowledged[name]
        assert expected <= arrived | set(too_late) | ({"start"} if recorded else set())
        assert len(too_late) == len(set(too_late))
        # One that an earlier run has handed on may have come too late in the next.
        arrived.difference_update(too_late)
        answered = [
            event.id
            for event in recorded
            if isinstance(event, events.UpdateCompleted)
            or (isinstance(event, events.UpdateFailed) and "Closed" not in event.failure.type)
        ]
        assert len(answered) == len(set(answered))
        for (owner, update_id), answers in self.answers.items():
            if owner == name and any(isinstance(a.event, events.UpdateCompleted) for a in answers):
                assert update_id in answered
        outcome = self.stepper.outcome(name) if recorded else None
        if isinstance(outcome, dict):
            self.check_result(outcome, recorded, arrived, answered)

    def check_result(
        self, outcome: Any, recorded: list[Any], arrived: set[str], answered: list[str]
    ) -> None:
        left = [event for event in recorded if isinstance(event, events.MessagesUnhandled)]
        unhandled = left[-1].signals.get("say", 0) if left else 0
        said = outcome["said"]
        assert len(said) == len(set(said)), "twice"
        straight = [n for n in said if n not in self.by_message]
        assert all(a < b for a, b in pairwise(straight)), "out of order"
        received = {name for name in arrived if name.startswith("say-")}
        assert {f"say-{n}" for n in said} <= received
        assert len(received) == len(said) + unhandled
        added = sorted(f"add-{n}" for n in outcome["added"])
        assert added == sorted(answered), (added, answered)
        told = [tuple(entry) for entry in outcome["told"]]
        assert len(told) == len(set(told))
        for sender in IDS:
            mine = [n for by, n in told if by == sender and n not in self.by_message]
            assert mine == sorted(mine)
        assert all(n == 0 for n in outcome["grown"])
        assert len(outcome["given"]) == len(set(outcome["given"]))


class InMemory(SqsMessage):
    make = staticmethod(in_memory)


class Uncached(SqsMessage):
    make = staticmethod(in_memory)
    cache_size = 0


TestInMemory = InMemory.TestCase
TestInMemory.settings = settings(max_examples=60, stateful_step_count=50)
TestUncached = Uncached.TestCase
TestUncached.settings = settings(max_examples=30, stateful_step_count=50)


def test_in_a_file(tmp_path: Path) -> None:
    class InFile(SqsMessage):
        make = staticmethod(Files(tmp_path))
        cache_size = 2

    run_state_machine_as_test(InFile, settings=settings(max_examples=8, stateful_step_count=40))
