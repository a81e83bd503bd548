"""Corners of the engine that the laws' own tests pass by."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mini_workflow.context import Context
from mini_workflow.core import wire
from mini_workflow.core.events import ExecutionTerminated
from mini_workflow.engine import engine as engine_module
from mini_workflow.engine import takeover
from mini_workflow.engine.engine import RETRY_AFTER
from mini_workflow.engine.requests import WakeUp
from mini_workflow.errors import StoreFull, StoreUnavailable
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.simulation import corpus
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import step
from mini_workflow.testing.simulation.stepping import LEASE, START, Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, check, in_memory, stepping


def only(**handlers: Any) -> Registry:
    made = Registry()
    for name, handler in handlers.items():
        made.add(Workflow(name, handler))
    return made


def run_tasks_of(stepper: Stepper, *names: str) -> None:
    for name in names:
        stepper.runner.run(next(r for r in stepper.runner.held if r.execution_id == name))


# The cache


def test_execution_that_is_evicted_before_its_own_turn_is_committed() -> None:
    """In one batch a cold execution takes the place of a warm one whose turn has been made."""
    with stepping(in_memory, cache_size=1) as stepper:
        stepper.open()
        for name in ("a", "b"):
            stepper.start("sequence", execution_id=name)
        stepper.settle()
        for _ in range(4):
            run_tasks_of(stepper, "a", "b")
            stepper.settle()
        assert [stepper.outcome(name) for name in ("a", "b")] == [[0, 1, 2, 3]] * 2
        assert stepper.faults("a") + stepper.faults("b") == []


def test_execution_that_makes_room_is_closed_at_once() -> None:
    seen: list[str] = []

    async def flow(ctx: Context) -> None:
        try:
            await step(ctx, "one")
        finally:
            seen.append(ctx.info.execution_id)

    with stepping(in_memory, registry=only(flow=flow), cache_size=1) as stepper:
        stepper.open()
        stepper.start("flow", execution_id="a")
        stepper.settle()
        assert seen == []
        stepper.start("flow", execution_id="b")
        stepper.settle()
        assert seen == ["a"]


# Other processes


def test_what_another_process_has_blocked_goes_on_here_when_it_comes_back() -> None:
    opener, clock = in_memory(), ManualClock(START)
    with (
        Ledger(),
        stepping(lambda: opener, clock=clock) as first,
        stepping(lambda: opener, clock=clock, registry=Registry()) as second,
    ):
        second.share(first)
        first.open()
        first.start("sequence", execution_id=ID)
        first.settle()
        clock.advance(LEASE + 1)
        second.open()
        second.settle()
        head = second.head(ID)
        assert head is not None
        assert head.status == "blocked"
        second.close()
        clock.advance(LEASE)
        first.settle()
        assert first.faults(ID) == []
        first.run()
        assert first.outcome(ID) == [0, 1, 2, 3]
        assert first.faults(ID) == []


def test_messages_older_than_those_already_read_are_read_after_a_takeover() -> None:
    opener, clock = in_memory(), ManualClock(START)
    with (
        stepping(lambda: opener, clock=clock) as first,
        stepping(lambda: opener, clock=clock) as second,
    ):
        first.open()
        first.start("sleeping", execution_id="theirs")
        first.settle()
        second.open()
        second.start("sleeping", execution_id="mine")
        second.settle()
        for name in ("theirs", "mine"):
            body = wire.encode(ExecutionTerminated(clock.now()))
            second.backend.mailbox.post(name, body, body)
        second.inbox.append(WakeUp())
        second.settle()
        assert second.outcome("mine") == "ExecutionTerminated"
        first.crash()
        second.settle()
        assert second.outcome("theirs") == "ExecutionTerminated"


def test_message_that_cannot_be_read_stays_and_hinders_nothing() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("sleeping", execution_id=ID)
        stepper.settle()
        good = wire.encode(ExecutionTerminated(stepper.clock.now()))
        for body in ('{"event":"FromTheFuture","v":99}', "nonsense", good):
            stepper.backend.mailbox.post(ID, body, body)
        before = stepper.lines(ID)
        stepper.inbox.append(WakeUp())
        stepper.settle()
        assert stepper.outcome(ID) == "ExecutionTerminated"
        assert len(stepper.lines(ID)) == len(before) + 1
        left = [entry.body for entry in stepper.backend.mailbox.entries(0, 9)]
        assert left == ['{"event":"FromTheFuture","v":99}', "nonsense"]


def test_message_to_a_closed_execution_is_taken() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("nothing", execution_id=ID)
        stepper.settle()
        lines = stepper.lines(ID)
        body = wire.encode(ExecutionTerminated(stepper.clock.now()))
        stepper.backend.mailbox.post(ID, body, body)
        stepper.inbox.append(WakeUp())
        stepper.settle()
        assert stepper.backend.mailbox.entries(0, 9) == []
        assert stepper.lines(ID) == lines


# Takeovers


def test_more_executions_in_flight_than_fit_into_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "AT_ONCE", 2)
    monkeypatch.setattr(takeover, "AT_ONCE", 2)
    names = [f"x-{i}" for i in range(7)]
    with Ledger() as ledger, stepping(in_memory) as stepper:
        stepper.open()
        for name in names:
            stepper.start("sequence", execution_id=name)
        stepper.settle()
        stepper.crash()
        stepper.open()
        before = len(stepper.crashes.calls)
        stepper.settle()
        assert stepper.crashes.called("store.commit", before) >= 4
        assert len(stepper.runner.held) == 7
        stepper.run()
        for name in names:
            assert stepper.outcome(name) == [0, 1, 2, 3]
            assert ledger.names(name) == {"step": 4}


def test_more_unblocked_executions_than_fit_into_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "AT_ONCE", 2)
    monkeypatch.setattr(takeover, "AT_ONCE", 2)
    names = [f"x-{i}" for i in range(5)]
    with stepping(in_memory) as stepper:
        stepper.open()
        for name in names:
            stepper.start("sequence", execution_id=name)
        stepper.settle()
        stepper.crash()
        stepper.registry = Registry()
        stepper.open()
        stepper.run()
        assert {stepper.head(name).status for name in names} == {"blocked"}  # type: ignore[union-attr]
        stepper.crash()
        stepper.registry = corpus.registry()
        stepper.open()
        stepper.run()
        assert [stepper.outcome(name) for name in names] == [[0, 1, 2, 3]] * 5


def test_more_timers_due_than_fit_into_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "AT_ONCE", 2)
    names = [f"x-{i}" for i in range(7)]
    with stepping(in_memory) as stepper:
        stepper.open()
        for name in names:
            stepper.start("sleeping", execution_id=name)
        stepper.run()
        assert [stepper.outcome(name) for name in names] == [3] * 7


def test_takeover_whose_first_commit_is_forestalled(monkeypatch: pytest.MonkeyPatch) -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("sequence", execution_id=ID)
        stepper.settle()
        stepper.crash()
        stepper.open()
        store = stepper.backend.store

        def refuse(items: Any) -> list[bool]:
            monkeypatch.undo()
            return [False for _ in items]

        monkeypatch.setattr(store, "commit", refuse)
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_outcome_that_outlives_its_engine_counts() -> None:
    """It arrives before the next engine has given the attempt up: then nothing is lost."""
    shape = SHAPES["sequence"]
    with Ledger() as ledger, stepping(in_memory, shape) as stepper:
        stepper.open()
        stepper.start("sequence", execution_id=ID)
        stepper.settle()
        outcome = stepper.runner.run(stepper.runner.held[0])
        stepper.crash()
        stepper.open()
        stepper.inbox.append(outcome)
        stepper.run()
        check(stepper, shape, ledger)


# What fails


def test_time_set_back_does_not_put_off_what_was_refused() -> None:
    shape = SHAPES["sequence"]
    with Ledger() as ledger, stepping(in_memory, shape) as stepper:
        stepper.open()
        stepper.start("sequence", execution_id=ID)
        stepper.settle()
        stepper.crashes.fail("store.commit", StoreFull("no space"))
        stepper.runner.run(stepper.runner.held[0])
        stepper.settle()
        stepper.clock.advance(-3_600_000)
        stepper.process()
        assert (stepper.engine.deadline() or 0) - stepper.clock.now() <= RETRY_AFTER
        stepper.process()
        assert len(stepper.runner.held) == 1
        stepper.run()
        check(stepper, shape, ledger)


def test_failing_store_is_not_asked_without_pause() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("sleeping", execution_id=ID)
        stepper.settle()
        stepper.clock.set(stepper.backend.agenda.next_wake() or 0)
        stepper.crashes.fail("agenda.due", StoreUnavailable("away"), times=3)
        for _ in range(3):
            calls = len(stepper.crashes.calls)
            stepper.settle()
            assert len(stepper.crashes.calls) - calls < 10
            assert stepper.engine.deadline() == stepper.clock.now() + RETRY_AFTER
            stepper.clock.advance(RETRY_AFTER)
        stepper.run()
        assert stepper.outcome(ID) == 3


def test_answer_that_cannot_be_found_fails_its_asker_alone() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("nothing", execution_id="a")
        stepper.settle()
        again = stepper.start("nothing", execution_id="a")
        new = stepper.start("sequence", execution_id=ID)
        # The only look at a head is the one for the answer.
        stepper.crashes.fail("store.head", StoreUnavailable("away"))
        stepper.settle()
        assert new.reply.wait(0).head.execution_id == ID
        with pytest.raises(StoreUnavailable):
            again.reply.wait(0)
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_attempts_handed_back_while_the_store_fails_are_handed_back_later() -> None:
    with Ledger() as ledger, stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("sequence", execution_id=ID)
        stepper.settle()
        stepper.engine.drain()
        stepper.runner.run(stepper.runner.held[0])
        stepper.process()
        stepper.crashes.fail("store.commit", StoreFull("no space"))
        stepper.process()
        stepper.clock.advance(RETRY_AFTER)
        stepper.settle()
        assert "TaskReleased" in stepper.lines(ID)[-1]
        stepper.close()
        stepper.open()
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2, 3]
        assert {effect.attempt for effect in ledger.of(ID)} == {1}


# Closed and blocked ones


def test_attempts_of_a_blocked_execution_are_cancelled_when_it_is_terminated() -> None:
    async def flow(ctx: Context) -> None:
        await asyncio.gather(*(step(ctx, "one") for _ in range(3)))

    async def other(ctx: Context) -> None:
        await step(ctx, "two")

    with stepping(in_memory, registry=only(flow=flow)) as stepper:
        stepper.open()
        stepper.start("flow", execution_id=ID)
        stepper.settle()
        stepper.registry = only(flow=other)
        stepper.engine.evict()
        run_tasks_of(stepper, ID)
        stepper.settle()
        head = stepper.head(ID)
        assert head is not None
        assert head.status == "blocked"
        stepper.terminate(ID)
        stepper.settle()
        assert stepper.crashes.called("runner.cancel") == 2
        stepper.run()
        assert stepper.engine.in_flight == 0
        assert stepper.outcome(ID) == "ExecutionTerminated"


def test_closed_execution_whose_code_has_changed_stays_closed() -> None:
    """A task that nobody awaited was in flight; it can neither be reported nor tried again."""

    async def other(ctx: Context) -> None:
        await step(ctx, "other")

    with stepping(in_memory, SHAPES["never_awaited"]) as stepper:
        stepper.open()
        stepper.start("never_awaited", execution_id=ID)
        while stepper.outcome(ID) is None:
            stepper.step()
        before = stepper.head(ID)
        assert before is not None
        assert before.busy
        stepper.crash()
        stepper.registry = only(never_awaited=other)
        stepper.open()
        stepper.run()
        head = stepper.head(ID)
        assert head is not None
        assert (head.status, head.busy, head.wake_at) == ("completed", False, None)
        assert head.closed_at == before.closed_at
        assert stepper.outcome(ID) == "done"
