"""Laws 9, 11 and 12 over the whole corpus: a cancellation, a termination, a signal that nobody
expects and an update that nobody handles, sent to every shape at every step of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import pytest

from mini_workflow.core import events
from mini_workflow.core.events import Incoming
from mini_workflow.core.payload import Payload
from mini_workflow.engine.requests import Post, Update
from mini_workflow.errors import ExecutionClosed, UnknownHandler
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import Shape
from mini_workflow.testing.simulation.stepping import Stepper
from tests.unit.engine.harness import ID, check, in_memory, is_answered, stepping

NARROW = sorted(name for name, shape in SHAPES.items() if not shape.wide)


def steps(stepper: Stepper, shape: Shape, n: int) -> bool:
    """Start it and make so many steps; whether there were as many."""
    stepper.open()
    stepper.start(shape.name, execution_id=ID)
    return all(stepper.step() for _ in range(n))


def post(stepper: Stepper, message: Incoming) -> Post:
    request = Post(ID, message)
    stepper.inbox.append(request)
    return request


def is_taken(stepper: Stepper, request: Post | Update) -> bool:
    """Whether it was acknowledged; otherwise the execution had closed before."""
    stepper.settle()
    try:
        return is_answered(request.reply)
    except ExecutionClosed:
        return False


def is_task(event: events.Event) -> TypeGuard[events.TaskScheduled]:
    return isinstance(event, events.TaskScheduled)


def check_end(stepper: Stepper, ledger: Ledger) -> None:
    head = stepper.head(ID)
    assert head is not None
    assert head.closed_at is not None
    assert stepper.faults(ID) == []
    assert ledger.faults(ID, stepper.record.events(ID)) == []
    assert stepper.engine.in_flight == 0
    assert stepper.engine._cache.get(ID) is None


def at_every_step(go: Callable[[int], bool]) -> int:
    n = 0
    while go(n):
        n += 1
    return n


def of_the_workflow(stepper: Stepper) -> list[events.Event]:
    """The history without what came from others behind the end: signals, values of promises, and the ends
    of children, which are kept because a retry needs them."""
    history = stepper.record.events(ID)
    end = next((n for n, e in enumerate(history) if type(e) in events.CLOSING), len(history))
    return [e for n, e in enumerate(history) if n <= end or not isinstance(e, _LATE)]


_LATE = (
    *(events.SignalUnhandled, events.PromiseCompleted, events.PromiseFailed),
    *(events.ChildCompleted, events.ChildFailed),
)


@pytest.mark.parametrize("name", NARROW)
def test_law_09_a_cancel_at_any_step_is_delivered_once(name: str) -> None:
    """And the history that comes of it is the same when every turn replays it."""
    shape = SHAPES[name]

    def cancelled(n: int, cache_size: int) -> tuple[bool, list[str]]:
        with Ledger() as ledger, stepping(in_memory, shape, cache_size=cache_size) as stepper:
            busy = steps(stepper, shape, n)
            now = stepper.clock.now()
            requests = [post(stepper, events.CancelRequested(now, "by law")) for _ in range(2)]
            taken = is_taken(stepper, requests[0])
            assert is_taken(stepper, requests[1]) <= taken
            stepper.run()
            check_end(stepper, ledger)
            asked = [
                event
                for event in stepper.record.events(ID)
                if isinstance(event, events.CancelRequested) and event.reason == "by law"
            ]
            assert len(asked) <= taken
            outcome = stepper.outcome(ID)
            if outcome != "ExecutionCancelled":
                assert outcome in (shape.result, shape.failure)
            started = [event.name for event in stepper.record.events(ID) if is_task(event)]
            if "cleanup" in shape.done and "first" in started:
                assert "cleanup" in started
            return busy, stepper.record.lines(ID)

    def go(n: int) -> bool:
        busy, lines = cancelled(n, 100)
        assert cancelled(n, 0) == (busy, lines)
        return busy

    at_every_step(go)


@pytest.mark.parametrize("name", NARROW)
def test_law_09_nothing_of_the_workflow_runs_after_a_termination(name: str) -> None:
    shape = SHAPES[name]

    def go(n: int) -> bool:
        with Ledger() as ledger, stepping(in_memory, shape, cache_size=n % 2) as stepper:
            busy = steps(stepper, shape, n)
            taken = is_taken(stepper, stepper.terminate(ID, "by law"))
            recorded = of_the_workflow(stepper)
            stepper.run()
            check_end(stepper, ledger)
            if taken:
                assert stepper.outcome(ID) == "ExecutionTerminated"
                assert type(recorded[-1]) is events.ExecutionTerminated
                assert of_the_workflow(stepper) == recorded
            else:
                check(stepper, shape, ledger)
            return busy

    at_every_step(go)


@pytest.mark.parametrize("name", NARROW)
def test_law_11_and_12_what_nobody_expects_is_reported_or_refused(name: str) -> None:
    """A signal is never lost silently, and an update that is refused leaves no history; neither
    changes what comes of the workflow."""
    shape = SHAPES[name]

    def go(n: int) -> bool:
        with Ledger() as ledger, stepping(in_memory, shape, cache_size=n % 2) as stepper:
            busy = steps(stepper, shape, n)
            now = stepper.clock.now()
            update = Update(ID, "u-1", "never", Payload(text="[[],{}]"), now)
            stepper.inbox.append(update)
            signal = events.SignalReceived(now, "unexpected", Payload(text="1"), "s-1")
            requests = [post(stepper, signal) for _ in range(2)]
            stepper.settle()
            with pytest.raises((UnknownHandler, ExecutionClosed)):
                refuse(stepper, update)
            taken = is_taken(stepper, requests[0])
            assert is_taken(stepper, requests[1]) == taken
            stepper.run()
            check(stepper, shape, ledger)
            recorded = stepper.record.events(ID)
            assert not any(getattr(event, "id", "") == "u-1" for event in recorded)
            reported = [
                event
                for event in recorded
                if (isinstance(event, events.MessagesUnhandled) and "unexpected" in event.signals)
                or (isinstance(event, events.SignalUnhandled) and event.id == signal.id)
            ]
            # One that comes when only outcomes are awaited is refused, and recorded all the same.
            assert taken <= len(reported) <= 1
            return busy

    at_every_step(go)


def refuse(stepper: Stepper, update: Update) -> None:
    """Raises what whoever asked for an update is told."""
    answer = update.reply.wait(0)
    assert answer.refusal is not None
    raise stepper.codec.decode_failure(answer.refusal)
