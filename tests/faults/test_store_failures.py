"""A store that fails for a while: callers hear of it, outcomes are kept, nothing is lost.

Also law 14 in its milder form: a call that fails leaves no more of a mark than one that was never
made, whichever call it is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_workflow.core.history import History
from mini_workflow.engine.engine import RETRY_AFTER
from mini_workflow.errors import LeaseLost, StoreError, StoreFull, StoreUnavailable
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import Shape
from mini_workflow.testing.simulation.stepping import Stepper
from tests.sweeps import calls_of
from tests.unit.engine.harness import ID, Files, MakeState, check, in_memory, is_answered, stepping

NARROW = sorted(name for name, shape in SHAPES.items() if not shape.wide)


def open_patiently(stepper: Stepper) -> None:
    """As a supervisor would: a process that cannot open the store is started again."""
    for _ in range(3):
        try:
            stepper.open()
        except StoreError:
            stepper.crash()
        else:
            return
    raise AssertionError("it does not open")


def start_patiently(stepper: Stepper, shape: Shape) -> None:
    for _ in range(3):
        start = stepper.start(shape.name, execution_id=ID)
        stepper.process()
        try:
            assert is_answered(start.reply)
        except StoreError:
            stepper.clock.advance(RETRY_AFTER)
        else:
            return
    raise AssertionError("it does not start")


def fail_at(make: MakeState, shape: Shape, n: int, cache_size: int = 100) -> bool:
    with Ledger() as ledger, stepping(make, shape, cache_size=cache_size) as stepper:
        stepper.crashes.fail_at(n, StoreUnavailable(f"call {n}"))
        open_patiently(stepper)
        start_patiently(stepper, shape)
        stepper.run()
        name = stepper.crashes.calls[n - 1] if stepper.crashes.failed else ""
        # A worker that cannot be reached costs an attempt; a failing store costs none.
        lost = None if name.startswith("runner") else 0
        check(stepper, shape, ledger, lost=lost)
        return stepper.crashes.failed


@pytest.mark.parametrize("name", NARROW)
def test_law_14_failure_of_every_call_in_memory(name: str) -> None:
    for n in calls_of():
        if not fail_at(in_memory, SHAPES[name], n):
            break
    assert n > 5


@pytest.mark.parametrize("name", NARROW)
def test_law_14_failure_of_every_call_with_nothing_cached(name: str) -> None:
    for n in calls_of():
        if not fail_at(in_memory, SHAPES[name], n, cache_size=0):
            break


@pytest.mark.parametrize("name", ["sequence", "many_retries", "sleeping", "never_awaited"])
def test_law_14_failure_of_every_call_in_a_file(name: str, tmp_path: Path) -> None:
    make, n = Files(tmp_path), 1
    while fail_at(make, SHAPES[name], n):
        n += 1


def test_start_that_is_refused_leaves_nothing_behind() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.crashes.fail("store.commit", StoreFull("no space"))
        start = stepper.start("sequence", execution_id=ID)
        stepper.settle()
        with pytest.raises(StoreFull, match="no space"):
            start.reply.wait(0)
        stepper.run()
        assert stepper.head(ID) is None
        start = stepper.start("sequence", execution_id=ID)
        stepper.run()
        assert start.reply.wait(0).head.execution_id == ID
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_termination_that_is_refused_does_not_take_place_later() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("sequence", execution_id=ID)
        stepper.settle()
        stepper.crashes.fail("store.commit", StoreFull("no space"))
        request = stepper.terminate(ID)
        stepper.settle()
        with pytest.raises(StoreFull):
            request.reply.wait(0)
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_refused_request_behind_a_refused_start_does_not_take_place_later() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.crashes.fail("store.commit", StoreFull("no space"))
        stepper.start("sequence", execution_id=ID)
        terminate = stepper.terminate(ID)
        stepper.settle()
        with pytest.raises(StoreFull):
            terminate.reply.wait(0)
        stepper.start("sequence", execution_id=ID)
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_outcome_is_kept_until_the_store_is_back() -> None:
    shape = SHAPES["sequence"]
    with Ledger() as ledger, stepping(in_memory, shape) as stepper:
        stepper.open()
        stepper.start("sequence", execution_id=ID)
        stepper.settle()
        stepper.crashes.fail("store.commit", StoreFull("no space"), times=5)
        stepper.runner.run(stepper.runner.held[0])
        before = stepper.lines(ID)
        for _ in range(4):
            stepper.settle()
            assert stepper.lines(ID) == before
            assert stepper.runner.held == []
            stepper.clock.advance(RETRY_AFTER)
        stepper.crashes.recover()
        stepper.run()
        check(stepper, shape, ledger)
        assert len(ledger.of(ID)) == 4


def test_no_live_run_stays_ahead_of_the_store() -> None:
    """What was decided in a refused turn is decided again, from what is stored."""
    shape = SHAPES["fan_out"]
    with Ledger() as ledger, stepping(in_memory, shape) as stepper:
        stepper.open()
        stepper.start("fan_out", execution_id=ID)
        stepper.settle()
        for request in list(stepper.runner.held):
            stepper.runner.run(request)
            stepper.crashes.fail("store.commit", StoreUnavailable("away"))
            stepper.settle()
        stepper.run()
        check(stepper, shape, ledger)
        history = History.from_lines(stepper.lines(ID))
        assert [type(event).__name__ for event in history].count("TaskCompleted") == 5


def test_committed_start_is_answered_although_the_store_fails_right_after() -> None:
    """Nothing was started, says a StoreError; so it must not be said of what was."""
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("sleeping", execution_id="a")
        stepper.settle()
        stepper.clock.set(stepper.backend.agenda.next_wake() or 0)
        start = stepper.start("sequence", execution_id=ID)
        stepper.crashes.fail("agenda.next_wake", StoreUnavailable("away"))
        stepper.process()
        assert start.reply.wait(0).head.execution_id == ID
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2, 3]
        assert stepper.outcome("a") == 3


def test_attempts_in_flight_are_found_although_the_store_failed_at_the_takeover() -> None:
    for name in ("store.load", "store.head", "store.commit"):
        with stepping(in_memory) as stepper:
            stepper.open()
            stepper.start("sequence", execution_id=ID)
            stepper.settle()
            stepper.crash()
            stepper.crashes.fail(name, StoreUnavailable("away"))
            stepper.open()
            stepper.run()
            assert stepper.outcome(ID) == [0, 1, 2, 3], name


@pytest.mark.parametrize("name", ["agenda.busy", "agenda.blocked", "agenda.next_wake"])
def test_second_engine_recovers_what_it_could_not_look_at_first(name: str) -> None:
    state = in_memory()
    with stepping(lambda: state) as first, stepping(lambda: state, clock=first.clock) as second:
        second.share(first)
        first.open()
        second.open()
        second.settle()
        first.start("sequence", execution_id=ID)
        first.settle()
        first.crash()
        second.crashes.fail(name, StoreUnavailable("away"))
        second.settle()
        second.run()
        assert second.outcome(ID) == [0, 1, 2, 3]


def test_runner_that_fails_costs_an_attempt_and_nothing_else() -> None:
    shape = SHAPES["fan_out"]
    with Ledger() as ledger, stepping(in_memory, shape) as stepper:
        stepper.open()
        stepper.crashes.fail("runner.submit", RuntimeError("can't start new thread"), times=2)
        stepper.start("fan_out", execution_id=ID)
        stepper.run()
        check(stepper, shape, ledger, lost=0)


def test_callback_that_fails_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with stepping(in_memory) as stepper:

        def fail(_turn: object) -> None:
            raise RuntimeError("Event loop is closed")

        monkeypatch.setattr(stepper, "_on_close", fail)
        stepper.open()
        stepper.start("nothing", execution_id="a")
        start = stepper.start("sequence", execution_id=ID)
        stepper.run()
        assert start.reply.wait(0).head.execution_id == ID
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_held_back_request_is_answered_at_the_end() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.settle()
        start = stepper.start("nothing", execution_id=ID)
        stepper.crashes.fail("leases.acquire", StoreUnavailable("away"))
        stepper.crashes.fail("store.commit", LeaseLost("taken"))
        stepper.process()
        stepper.engine.close()
        with pytest.raises(Exception, match="closed"):
            start.reply.wait(0)
