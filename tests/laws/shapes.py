"""What the shapes of the laws are made of, and what is said to them as a `Driver` is told it.

They are entered into the registry of `mini_workflow.testing.simulation.shapes`, tagged "ordered".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mini_workflow.core import events
from mini_workflow.core.events import Message
from mini_workflow.core.state import ExecutionState
from mini_workflow.testing.simulation.outside import Say
from mini_workflow.testing.simulation.shapes import choose

MailboxEntry = Callable[[Any], Message | None]
"""Makes a message for what a `Driver` runs, or None while its time has not come."""

CHILDREN_END: dict[str, tuple[MailboxEntry, ...]] = {}
"""What other executions say to a shape, by its name: how its children end, and what limits grant. A
`Driver` runs no others."""


def entries_of(name: str) -> list[MailboxEntry]:
    """What a shape is sent, in order."""
    shape = choose("ordered").get(name)
    said = () if shape is None else shape.says
    return [*map(_entry, said), *CHILDREN_END.get(name, ())]


def double(value: int) -> int:
    return 2 * value


def fail(text: str) -> None:
    raise ValueError(text)


def flaky() -> None:
    raise ConnectionError("down")


def _entry(say: Say) -> MailboxEntry:
    def make(driver: Any) -> Message | None:
        now, encode = driver.now, driver.codec.encode
        if say.kind == "signal":
            value = encode(say.value, "value")
            return events.SignalReceived(now, say.name, value, f"{say.name}-{say.value}")
        if say.kind == "update":
            arguments = encode([list(say.value), {}], "arguments")
            return events.UpdateRequested(now, f"{say.name}-{say.value}", say.name, arguments)
        if say.kind == "cancel":
            return events.CancelRequested(now, say.name)
        seq = _seq_of(driver, events.PromiseCreated, say.name)
        if seq is None:
            return None
        secret = ExecutionState.of(driver.events).secret(seq)
        if say.kind == "fail":
            return events.PromiseFailed(now, seq, driver.codec.encode_failure(say.value), secret)
        return events.PromiseCompleted(now, seq, encode(say.value, "value"), secret)

    return make


def children_end(**values: Any) -> Callable[[Any], Any]:
    """A decorator for a shape whose children end so: `c_1` is the one with the id "c-1".

    It returns the value, or fails if that is an exception, once the child is there.
    """

    def enter(handler: Any) -> Any:
        ends = [_child_ended(name.replace("_", "-"), value) for name, value in values.items()]
        CHILDREN_END[handler.__name__] = tuple(ends)
        return handler

    return enter


def _child_ended(child: str, value: Any) -> MailboxEntry:
    def make(driver: Any) -> Message | None:
        started = [event for event in driver.recorded(events.ChildStarted) if event.id == child]
        if not started:
            return None
        if isinstance(value, Exception):
            failure = driver.codec.encode_failure(value)
            return events.ChildFailed(driver.now, started[0].seq, failure)
        result = driver.codec.encode(value, "result")
        return events.ChildCompleted(driver.now, started[0].seq, result)

    return make


def _seq_of(driver: Any, kind: type[Any], name: str) -> int | None:
    return next((event.seq for event in driver.recorded(kind) if event.name == name), None)


def answers_come(*values: Any) -> Callable[[Any], Any]:
    """A decorator for a shape whose asks are answered so, in their order, once they are there: by the
    values, or by failing with those that are exceptions.
    """

    def enter(handler: Any) -> Any:
        CHILDREN_END[handler.__name__] = tuple(_answered(n, v) for n, v in enumerate(values))
        return handler

    return enter


def _answered(number: int, value: Any) -> MailboxEntry:
    def make(driver: Any) -> Message | None:
        sent = driver.recorded(events.AskSent)
        if len(sent) <= number:
            return None
        seq, state = sent[number].seq, ExecutionState.of(driver.events)
        ask_id = f"{driver.execution_id}/{state.seed}/{seq}"
        if isinstance(value, Exception):
            return events.AskFailed(driver.now, seq, driver.codec.encode_failure(value), ask_id)
        return events.AskAnswered(driver.now, seq, driver.codec.encode(value, "result"), ask_id)

    return make


def asked_for(*asks: tuple[str, str, Any]) -> Callable[[Any], Any]:
    """A decorator for a shape of which another execution asks that: a kind, a name and a value."""

    def enter(handler: Any) -> Any:
        CHILDREN_END[handler.__name__] = tuple(_asked(n, *one) for n, one in enumerate(asks, 1))
        return handler

    return enter


def _asked(number: int, kind: str, name: str, value: Any) -> MailboxEntry:
    def make(driver: Any) -> Message | None:
        payload = driver.codec.encode(value, "value")
        return events.Asked(driver.now, f"asker-1/3/{number}", kind, name, payload)

    return make


def slots_come(*totals: int, limit: str) -> Callable[[Any], Any]:
    """A decorator for a shape with tasks of a limit, which grants so many slots in all, at each time."""

    def enter(handler: Any) -> Any:
        CHILDREN_END[handler.__name__] = tuple(_slots_granted(limit, n) for n in totals)
        return handler

    return enter


def own_slot_comes(limit: str, key: str, priority: int) -> Callable[[Any], Any]:
    """A decorator for a shape that needs a slot itself, which is granted once."""

    def make(driver: Any) -> Message:
        sender = f"{driver.execution_id}/{ExecutionState.of(driver.events).generation()}/own"
        return events.SlotsGranted(driver.now, limit, sender, [[key, priority, 1]])

    def enter(handler: Any) -> Any:
        CHILDREN_END[handler.__name__] = (make,)
        return handler

    return enter


def _slots_granted(limit: str, total: int) -> MailboxEntry:
    def make(driver: Any) -> Message | None:
        state = ExecutionState.of(driver.events)
        asked = [t for t in driver.recorded(events.TaskScheduled) if t.limit is not None]
        if len(asked) < total:
            return None
        sender = f"{driver.execution_id}/{state.generation()}"
        return events.SlotsGranted(driver.now, limit, sender, [["", 0, total]])

    return make
