"""What the shapes of the corpus are made of, and the messages that some of them are sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mini_workflow.core import events
from mini_workflow.core.events import Message
from mini_workflow.core.state import ExecutionState
from mini_workflow.workflow import Workflow

MailboxEntry = Callable[[Any], Message | None]
"""Makes a message for what a `Driver` runs, or None while its time has not come."""

SHAPES: dict[str, Workflow[Any, Any]] = {}
SENT: dict[str, tuple[MailboxEntry, ...]] = {}
"""What a shape is sent, by its name, in order."""


def shape(handler: Any) -> Any:
    SHAPES[handler.__name__] = Workflow(handler.__name__, handler)
    return handler


def sent(*entries: MailboxEntry) -> Callable[[Any], Any]:
    """A decorator for a shape that is sent these messages."""

    def enter(handler: Any) -> Any:
        SENT[handler.__name__] = entries
        return shape(handler)

    return enter


def double(value: int) -> int:
    return 2 * value


def fail(text: str) -> None:
    raise ValueError(text)


def flaky() -> None:
    raise ConnectionError("down")


def signal(name: str, value: Any = None) -> MailboxEntry:
    return lambda driver: events.SignalReceived(
        driver.now, name, driver.codec.encode(value, "value"), f"{name}-{value}"
    )


def update(name: str, *args: Any) -> MailboxEntry:
    return lambda driver: events.UpdateRequested(
        driver.now, f"{name}-{args}", name, driver.codec.encode([list(args), {}], "arguments")
    )


def cancel(reason: str = "") -> MailboxEntry:
    return lambda driver: events.CancelRequested(driver.now, reason)


def completed(promise: str, value: Any) -> MailboxEntry:
    """Completes a promise, or fails it if the value is an exception, once it is there."""

    def make(driver: Any) -> Message | None:
        seq = _seq_of(driver, events.PromiseCreated, promise)
        if seq is None:
            return None
        secret = ExecutionState.of(driver.events).secret(seq)
        if isinstance(value, Exception):
            failure = driver.codec.encode_failure(value)
            return events.PromiseFailed(driver.now, seq, failure, secret)
        return events.PromiseCompleted(driver.now, seq, driver.codec.encode(value, "value"), secret)

    return make


def child_ended(child: str, value: Any) -> MailboxEntry:
    """A child of that id returns, or fails if the value is an exception, once it is there."""

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
