"""Law 28: a retry goes on as if what ended the execution had never come, at whatever step it came, and
whatever crashes in between."""

from __future__ import annotations

import pytest

from mini_workflow.core import events
from mini_workflow.engine.requests import Post
from mini_workflow.errors import ExecutionClosed
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.crash import SimulatedCrash
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import Shape
from mini_workflow.testing.simulation.stepping import Stepper
from tests.sweeps import OTHERS_EVERY, OTHERS_FIRST
from tests.unit.engine.harness import ID, in_memory, is_answered, stepping

ELSE = {
    "ended_by_deadline": "the deadline counts anew",
    "undone_after_a_cancel": "what was taken back is made again, and the request to cancel counts no more",
    "workers_that_die": "attempts count anew, so that the last one may succeed",
}
"""Shapes that may come to another end after a retry, and why."""

NARROW = sorted(name for name, shape in SHAPES.items() if not shape.wide)


def ended_after(stepper: Stepper, shape: Shape, n: int) -> bool | None:
    """Terminate it after so many steps. Answers whether it has as many; None if it had closed before."""
    stepper.open()
    stepper.start(shape.name, execution_id=ID)
    busy = all(stepper.step() for _ in range(n))
    request = stepper.terminate(ID, "by law")
    stepper.settle()
    try:
        assert is_answered(request.reply)
    except ExecutionClosed:
        return None if busy else False
    return busy


def ask(stepper: Stepper, how: str, run: int) -> Post:
    request = Post(ID, events.ResetRequested(stepper.clock.now(), how, run, f"{how}-1"))
    stepper.inbox.append(request)
    return request


def run_of(stepper: Stepper) -> int:
    head = stepper.head(ID)
    assert head is not None
    return head.run


def check_end(stepper: Stepper, shape: Shape) -> None:
    head = stepper.head(ID)
    assert head is not None
    assert head.closed_at is not None
    assert stepper.faults(ID) == []
    if shape.name not in ELSE:
        assert head.status == shape.status
        assert stepper.outcome(ID) == (shape.result if shape.failure is None else shape.failure)


@pytest.mark.parametrize("name", NARROW)
def test_a_retry_after_any_step_comes_to_the_same_end(name: str) -> None:
    shape, n, busy = SHAPES[name], 0, True
    while busy:
        with Ledger(), stepping(in_memory, shape, cache_size=n % 2) as stepper:
            ended = ended_after(stepper, shape, n)
            if ended is not None:
                busy = ended
            if stepper.outcome(ID) == "ExecutionTerminated":
                done = {
                    event.seq
                    for event in stepper.record.run(ID)
                    if isinstance(event, events.TaskCompleted)
                }
                undone = any(
                    isinstance(event, events.TaskScheduled) and event.undoes
                    for event in stepper.record.run(ID)
                )
                run = run_of(stepper)
                ask(stepper, "retry", run)
                stepper.run()
                check_end(stepper, shape)
                if not undone and run_of(stepper) == run + 1:
                    kept = {
                        event.seq
                        for event in stepper.record.run(ID)
                        if isinstance(event, events.TaskCompleted)
                    }
                    assert done <= kept
        n += 1
    assert n > 1


@pytest.mark.parametrize("how", ["retry", "restart"])
@pytest.mark.parametrize("name", NARROW)
def test_a_crash_at_any_call_of_it_changes_nothing(name: str, how: str) -> None:
    if name == "promises" and how == "restart":
        return  # the corpus completes each promise once, and those of a restart are new ones
    shape, n, crashed = SHAPES[name], OTHERS_FIRST + 1, True
    while crashed:
        with Ledger(), stepping(in_memory, shape, cache_size=n % 2) as stepper:
            ended_after(stepper, shape, 2)
            if stepper.outcome(ID) != "ExecutionTerminated":
                return  # there are not so many steps
            run = run_of(stepper)
            stepper.crashes.crash_at(n, after=n % 2 == 0)
            request = ask(stepper, how, run)
            crashed = False
            try:
                stepper.run()
            except SimulatedCrash:
                crashed = True
                acknowledged = is_answered(request.reply)
                stepper.crash()
                stepper.crashes.crash_at(None)
                stepper.open()
                if not acknowledged:
                    ask(stepper, how, run)
                stepper.run()
            assert run_of(stepper) > run
            if how == "retry":
                check_end(stepper, shape)
            resets = [e for e in stepper.record.events(ID) if isinstance(e, events.ExecutionReset)]
            assert len({(e.run, e.id) for e in resets}) == 1
        n += OTHERS_EVERY
