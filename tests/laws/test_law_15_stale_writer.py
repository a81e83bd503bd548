"""Law 15: a stale writer (one whose lease has ended) cannot commit. Two engines share one store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mini_workflow.core.history import History
from mini_workflow.engine.requests import WakeUp
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.stepping import LEASE, START, Stepper
from tests.unit.engine.harness import ID, Files, MakeState, check, in_memory, is_answered, stepping


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeState:
    return in_memory if request.param == "memory" else Files(tmp_path)


@contextmanager
def two(make: MakeState, name: str = "fan_out") -> Iterator[tuple[Stepper, Stepper]]:
    """Two processes with one store; the first has started an execution and sees it through."""
    opener, clock = make(), ManualClock(START)
    shape = SHAPES[name]
    with (
        stepping(lambda: opener, shape, clock=clock) as first,
        stepping(lambda: opener, shape, clock=clock) as second,
    ):
        second.share(first)
        first.open()
        first.start(name, execution_id=ID)
        first.settle()
        yield first, second


def takes_over(second: Stepper) -> None:
    second.clock.advance(LEASE + 1)
    second.open()
    second.settle()


def test_law_15_outcomes_in_hand_are_too_late(make: MakeState) -> None:
    with Ledger() as ledger, two(make) as (first, second):
        for request in first.runner.ready():
            first.runner.run(request)
        takes_over(second)
        taken = second.lines(ID)
        first.settle()
        assert second.lines(ID) == taken
        second.run()
        first.run()
        assert second.outcome(ID) == [0, 1, 4, 9, 16]
        history = History.from_lines(second.lines(ID))
        assert ledger.faults(ID, history) == []
        assert ledger.names(ID) == {"square": 10}
        assert first.engine.in_flight == 0


def test_law_15_stale_engine_learns_it_at_its_next_renewal(make: MakeState) -> None:
    with two(make) as (first, second):
        takes_over(second)
        first.settle()
        before = len(second.lines(ID))
        first.clock.advance(LEASE // 2)
        first.settle()
        assert len(second.lines(ID)) == before
        second.run()
        assert second.outcome(ID) == [0, 1, 4, 9, 16]


def test_law_15_stale_engine_starts_anew_and_works_on(make: MakeState) -> None:
    """Requests that it had taken meanwhile are answered, by it or by way of the other one."""
    with two(make) as (first, second):
        takes_over(second)
        start = first.start("sequence", execution_id="other")
        end = first.terminate(ID)
        first.settle()
        assert start.reply.wait(0).head.execution_id == "other"
        assert is_answered(end.reply)
        second.run()
        first.run()
        second.clock.advance(LEASE // 2)
        second.settle()
        second.run()
        assert first.outcome("other") == [0, 1, 2, 3]
        assert second.outcome(ID) in ("ExecutionTerminated", [0, 1, 4, 9, 16])
        assert first.wakeups + second.wakeups >= 1


def test_law_15_termination_reaches_the_one_who_holds_it(make: MakeState) -> None:
    with two(make, "sleeping") as (first, second):
        second.open()
        second.settle()
        end = second.terminate(ID, "from the other process")
        second.settle()
        assert end.reply.wait(0).status == "running"
        assert second.wakeups == 1
        first.clock.advance(LEASE // 2)
        second.settle()
        first.settle()
        assert first.outcome(ID) == "ExecutionTerminated"
        assert first.faults(ID) == []
        assert first.backend.mailbox.entries(0, 9) == []


def test_law_15_resume_reaches_the_one_who_holds_it(make: MakeState) -> None:
    with two(make, "sequence") as (first, second):
        second.open()
        second.settle()
        for stepper in (second, first):
            request = stepper.resume(ID)
            stepper.settle()
            assert request.reply.wait(0).status == "running"
        first.clock.advance(LEASE // 2)
        second.settle()
        first.run()
        assert first.outcome(ID) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "name",
    ["updates", "promises", "signals_before_anybody_listens", "cancelled_with_cleanup"],
)
def test_law_15_what_a_stale_engine_is_told_reaches_the_one_who_holds_it(name: str) -> None:
    """Whatever it has acknowledged takes place once, and what it cannot is refused at the caller."""
    opener, clock, shape = in_memory(), ManualClock(START), SHAPES[name]
    with (
        Ledger() as ledger,
        stepping(lambda: opener, shape, clock=clock) as first,
        stepping(lambda: opener, shape, clock=clock) as second,
    ):
        second.share(first)
        assert first.outside is not None
        first.open()
        first.start(name, execution_id=ID)
        first.settle()
        second.clock.advance(LEASE + 1)
        second.open()
        for _ in range(100):
            second.settle()
            # What is said is said to the one that has lost the execution, and may not know it.
            said = first.outside.step(first.inbox.append)
            first.settle()
            second.inbox.append(WakeUp())
            if not said and not second.step():
                break
        check(second, shape, ledger, lost=None)
        assert second.backend.mailbox.entries(0, 9) == []


@pytest.mark.parametrize("name", sorted(name for name, shape in SHAPES.items() if not shape.wide))
def test_law_15_lease_wanders_back_and_forth(name: str) -> None:
    """Each engine stalls for longer than its lease, again and again, with whatever it has in hand."""
    opener, clock, shape = in_memory(), ManualClock(START), SHAPES[name]
    with (
        Ledger() as ledger,
        stepping(lambda: opener, shape, clock=clock) as first,
        stepping(lambda: opener, shape, clock=clock) as second,
    ):
        second.share(first)
        first.open()
        first.start(name, execution_id=ID)
        first.settle()
        second.open()
        second.settle()
        for turn in range(3):
            active = second if turn % 2 == 0 else first
            clock.advance(LEASE + 1)
            active.settle()
            for request in active.runner.ready()[:1]:
                active.runner.run(request)
        # What the first one has in hand is too late, and it does not know that yet.
        first.settle()
        clock.advance(LEASE // 2)
        first.settle()
        second.settle()
        assert second.faults(ID) == []
        first.close()
        second.settle()
        second.run()
        check(second, shape, ledger, lost=None)
        assert second.engine.in_flight == 0


def test_law_15_lease_that_nobody_took_stands(make: MakeState) -> None:
    """A process that stalls, and that nobody has replaced, just goes on: no attempt is lost."""
    with Ledger() as ledger, two(make) as (first, _second):
        for request in first.runner.ready():
            first.runner.run(request)
        first.clock.advance(100 * LEASE)
        first.run()
        check(first, SHAPES["fan_out"], ledger)


def test_law_15_outcomes_count_when_the_lease_comes_back_unused(make: MakeState) -> None:
    """Another process took over and gave everything back at once; the attempts are still ours."""
    with Ledger() as ledger, two(make) as (first, second):
        for request in first.runner.ready()[:2]:
            first.runner.run(request)
        second.clock.advance(LEASE + 1)
        backend = second._open_backend("visitor", second.clock)
        assert backend.leases.acquire(second.clock.now())
        backend.leases.release()
        backend.close()
        first.run()
        check(first, SHAPES["fan_out"], ledger)
