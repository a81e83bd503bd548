"""Law 30: a fork at any event, with nothing changed, comes to the end that the other execution has come to,
which stays as it is; and a crash at any call of it changes nothing."""

from __future__ import annotations

import pytest

from mini_workflow.core import events, wire
from mini_workflow.core.fork import cut_of, fork
from mini_workflow.engine.forks import start_of_fork
from mini_workflow.engine.requests import Start
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.crash import SimulatedCrash
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import Shape
from mini_workflow.testing.simulation.stepping import Stepper
from tests.sweeps import EVERY, FIRST
from tests.unit.engine.harness import ID, in_memory, is_answered, stepping

ELSE = {
    "ended_by_deadline": "the deadline counts anew",
}
"""Shapes of which a fork may come to another end, and why."""

SPOKEN = {
    "continued_until_cancelled",
    "continued_with_handlers",
    "continued_with_signals",
    "promises_in_time",
}
"""Shapes to which the world speaks by what has happened in runs that a fork does not begin with."""

OWN_ID = {
    "asks_others",
    "detached_executions",
    "given_promises",
    "starts_in_queue",
    *(name for name, shape in SHAPES.items() if shape.name.startswith("scheduled")),
}
"""Shapes whose code goes by the id of its execution, or starts what has an id of its own: a fork has
another one, and what is there cannot be started again.
"""

NARROW = sorted({n for n, shape in SHAPES.items() if not shape.wide} - SPOKEN - OWN_ID)

SWEPT = sorted({*NARROW[::5], "inline", "promises", "retries", "sequence", "sleeping", "updates"})


def original(stepper: Stepper, shape: Shape) -> list[events.Event]:
    stepper.open()
    stepper.start(shape.name, execution_id=ID)
    stepper.run()
    return [wire.decode(line) for line in stepper.lines(ID)]


def ask(stepper: Stepper, shape: Shape, history: list[events.Event], kept: int, name: str) -> Start:
    made = fork(
        history[:kept],
        source=ID,
        execution_id=name,
        at=stepper.clock.now(),
        request_id=f"fork-{name}",
        key="ab" * 16,
        codec=stepper.codec,
    )
    request = start_of_fork(name, made, stepper.clock.now())
    stepper.inbox.append(request)
    stepper.speak(name, shape.says)
    return request


def check(stepper: Stepper, shape: Shape, name: str) -> None:
    head = stepper.head(name)
    assert head is not None
    assert head.closed_at is not None
    assert stepper.faults(name) == []
    if shape.name not in ELSE:
        assert head.status == shape.status
        assert stepper.outcome(name) == (shape.result if shape.failure is None else shape.failure)


def last_cut(history: list[events.Event]) -> int:
    return next(n for n, event in enumerate(history) if type(event) in events.CLOSING)


@pytest.mark.parametrize("name", NARROW)
def test_a_fork_at_any_event_comes_to_the_same_end(name: str) -> None:
    shape = SHAPES[name]
    with Ledger(), stepping(in_memory, shape) as stepper:
        history = original(stepper, shape)
        before = stepper.lines(ID)
        for kept in range(1, last_cut(history) + 1):
            assert cut_of(history, None, kept) == kept
            ask(stepper, shape, history, kept, f"f-{kept}")
            stepper.run()
            check(stepper, shape, f"f-{kept}")
        assert stepper.lines(ID) == before


@pytest.mark.parametrize("name", SWEPT)
def test_a_crash_at_any_call_of_it_changes_nothing(name: str) -> None:
    shape, n, crashed = SHAPES[name], FIRST + 1, True
    while crashed:
        with Ledger(), stepping(in_memory, shape, cache_size=n % 2) as stepper:
            history = original(stepper, shape)
            kept = 1 + n % last_cut(history)
            stepper.crashes.crash_at(n, after=n % 2 == 0)
            request = ask(stepper, shape, history, kept, "f")
            crashed = False
            try:
                stepper.run()
            except SimulatedCrash:
                crashed = True
                acknowledged = is_answered(request.reply)
                stepper.crash()
                stepper.crashes.crash_at(None)
                stepper.open()
                if stepper.head("f") is None:
                    assert not acknowledged
                    ask(stepper, shape, history, kept, "f")
                stepper.run()
            check(stepper, shape, "f")
            resets = [e for e in stepper.record.events("f") if isinstance(e, events.ExecutionReset)]
            assert len({(e.run, e.id) for e in resets}) == len(resets)
            assert [e.how for e in resets].count("fork") <= 1
        n += EVERY
