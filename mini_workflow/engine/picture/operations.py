"""Operations: what an execution has begun, each with its attempts, from the entries of its timeline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from datetime import datetime
from typing import Final, Literal

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.records import frozen, mutable
from mini_workflow.engine.timeline import Entry

Kind = Literal["task", "timer", "promise", "child", "ask"]
State = Literal["running", "waiting", "retrying", "completed", "failed", "cancelled"]


@mutable
class Stretch:
    """A part of an operation, in milliseconds since the epoch; it goes on if `end` is None.

    `what` is an attempt that was ``"done"`` or ``"failed"``, is at ``"work"`` or was ``"gone"`` (given
    up), a ``"backoff"`` between two, or a ``"wait"``.
    """

    what: Literal["done", "failed", "work", "gone", "backoff", "wait"]
    start: int
    end: int | None = None


@mutable
class Operation:
    """A task, timer, promise, child or ask of another execution. Times are in milliseconds since the epoch.

    `event` is the number of the event that began it and `last` of the latest about it; `due` is when a
    timer fires or the next attempt is made; `error` is the latest failure in one line, and `inline`
    says that it took no time that is known.
    """

    kind: Kind
    seq: int
    name: str
    started: int
    event: int
    last: int
    state: State = "running"
    ended: int | None = None
    stretches: list[Stretch] = field(default_factory=list[Stretch])
    attempts: int = 0
    due: int | None = None
    error: str = ""
    child: str = ""
    worker: str = ""
    inline: bool = False

    @property
    def key(self) -> str:
        """What it is called in addresses."""
        return f"op-{self.seq}"

    @property
    def is_open(self) -> bool:
        """Return whether it has not ended."""
        return self.state in ("running", "waiting", "retrying")


@frozen
class Mark:
    """A message that came in: of which kind and name, when, and the number of its event."""

    kind: Literal["signal", "update"]
    name: str
    at: int
    event: int


@mutable
class Course:
    """What has happened in a run: its operations in order of their start, the messages, and from when to
    when; `ended` is None while it is open.
    """

    operations: list[Operation]
    marks: list[Mark]
    began: int
    ended: int | None
    latest: int


_STATES: Final[dict[type[Event], State]] = {
    events.TaskCompleted: "completed",
    events.TaskFailed: "failed",
    events.TaskCancelled: "cancelled",
    events.TimerFired: "completed",
    events.TimerCancelled: "cancelled",
    events.PromiseCompleted: "completed",
    events.PromiseFailed: "failed",
    events.ChildCompleted: "completed",
    events.ChildFailed: "failed",
    events.ChildCancelled: "cancelled",
    events.AskAnswered: "completed",
    events.AskFailed: "failed",
}
"""The events that end an operation, and how."""

_ENDS_ATTEMPT: Final[dict[State, Literal["done", "failed", "gone"]]] = {
    "completed": "done",
    "failed": "failed",
    "cancelled": "gone",
}


class CourseReader:
    """Makes the course of a run from its entries, one at a time."""

    def __init__(self) -> None:
        self._found: dict[int, Operation] = {}
        self._marks: list[Mark] = []
        self._began: int | None = None
        self._latest = 0
        self._ended: int | None = None

    def read(self, entry: Entry) -> Operation | None:
        """Take in the next entry; answers the operation that it is about, if it is about one."""
        at, event = milliseconds(entry.at), entry.event
        self._began = at if self._began is None else self._began
        self._latest = max(self._latest, at)
        if isinstance(event, events.SignalReceived):
            self._marks.append(Mark("signal", event.name, at, entry.number))
        elif isinstance(event, events.UpdateAccepted):
            self._marks.append(Mark("update", event.name, at, entry.number))
        elif type(event) in events.CLOSING:
            self._ended = at
        elif (made := _made(event, at, entry.number)) is not None:
            self._found[made.seq] = made
            return made
        elif (operation := self._found.get(getattr(event, "seq", 0))) is not None:
            _apply(operation, entry, at)
            return operation
        return None

    def course(self) -> Course:
        """Return what has happened so far."""
        operations = sorted(self._found.values(), key=lambda one: (one.started, one.seq))
        return Course(operations, self._marks, self._began or 0, self._ended, self._latest)


def course_of(entries: Iterable[Entry]) -> Course:
    """Return what has happened, in one pass over the entries."""
    reader = CourseReader()
    for entry in entries:
        reader.read(entry)
    return reader.course()


def _made(event: Event, at: int, number: int) -> Operation | None:
    """Return the operation that an event begins, if it does."""
    match event:
        case events.TaskScheduled():
            began = event.begun or at
            made = Operation("task", event.seq, event.name, began, number, number)
            made.attempts, made.worker = 1, event.worker
            made.stretches.append(Stretch("work", began))
        case events.InlineTaskCompleted() | events.InlineTaskFailed():
            made = Operation("task", event.seq, event.name, at, number, number)
            failed = isinstance(event, events.InlineTaskFailed)
            made.state, made.ended = "failed" if failed else "completed", at
            made.attempts, made.inline = 1, True
            made.stretches.append(Stretch("failed" if failed else "done", at, at))
            if isinstance(event, events.InlineTaskFailed):
                made.error = one_line(event.failure.type, event.failure.message)
        case events.TimerStarted():
            made = Operation("timer", event.seq, "sleep", at, number, number, "waiting")
            made.due = event.fire_at
            made.stretches.append(Stretch("wait", at))
        case events.PromiseCreated():
            made = Operation("promise", event.seq, event.name, at, number, number, "waiting")
            made.stretches.append(Stretch("wait", at))
        case events.AskSent():
            name = f"{event.name} of {event.target}" if event.name else event.target
            name = f"{event.kind} {name}"
            made = Operation("ask", event.seq, name, at, number, number, "waiting")
            made.stretches.append(Stretch("wait", at))
        case events.ChildStarted():
            made = Operation("child", event.seq, event.name, at, number, number)
            made.child = event.id
            made.stretches.append(Stretch("work", at))
        case _:
            return None
    return made


def _apply(operation: Operation, entry: Entry, at: int) -> None:
    """Take in a later event about an operation."""
    event = entry.event
    operation.last = entry.number
    if entry.error is not None:
        operation.error = one_line(type(entry.error).__name__, str(entry.error))
    open_one = operation.stretches[-1] if operation.stretches else None
    if isinstance(event, events.TaskRetryScheduled):
        _close(open_one, "failed", at)
        operation.stretches.append(Stretch("backoff", at))
        operation.state, operation.due = "retrying", event.retry_at
    elif isinstance(event, events.TaskRetryStarted):
        if open_one is not None:
            open_one.end = at
        operation.stretches.append(Stretch("work", at))
        operation.state, operation.due, operation.attempts = "running", None, event.attempt
    elif isinstance(event, events.TaskReleased):
        _close(open_one, "gone", at)
        operation.stretches.append(Stretch("work", at))
    elif (state := _state_after(operation, event)) is not None and operation.is_open:
        operation.state, operation.ended, operation.due = state, at, None
        if open_one is not None and open_one.what == "work":
            open_one.what = _ENDS_ATTEMPT[state]
        if open_one is not None:
            open_one.end = at


def _state_after(operation: Operation, event: Event) -> State | None:
    if operation.kind == "promise" and isinstance(event, events.TimerFired):
        return "failed"  # not completed in time
    return _STATES.get(type(event))


def _close(stretch: Stretch | None, what: Literal["failed", "gone"], at: int) -> None:
    if stretch is not None and stretch.end is None:
        stretch.what, stretch.end = what, at


def milliseconds(at: datetime) -> int:
    """Return a time as milliseconds since the epoch."""
    return round(at.timestamp() * 1000)


def one_line(kind: str, message: str) -> str:
    """Return an error as one line: the name of its class without its module, and its text."""
    name = kind.rpartition(":")[2].rpartition(".")[2]
    text = " ".join(message.split())
    if text.startswith(f"{name}: ") or name == "TaskError":
        return text
    return f"{name}: {text}" if text else name
