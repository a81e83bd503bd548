"""Group the entries of a timeline into operations, each with its attempts."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar, overload

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.records import field, frozen, mutable
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

    `event` is the number of the event that began it; `due` is when a timer fires or the next attempt is
    made; `raised` is the entry of the latest failure, and `inline` says that it took no time that is known.
    """

    kind: Kind
    seq: int
    name: str
    started: int
    event: int
    state: State = "running"
    ended: int | None = None
    stretches: list[Stretch] = field(default_factory=list[Stretch])
    attempts: int = 0
    due: int | None = None
    raised: Entry | None = None
    child: str = ""
    worker: str = ""
    inline: bool = False

    @property
    def key(self) -> str:
        """What it is called in addresses."""
        return f"op-{self.seq}"

    @property
    def error(self) -> str:
        """The latest failure in one line; empty if there is none."""
        error = None if self.raised is None else self.raised.error
        return "" if error is None else one_line(type(error).__name__, str(error))

    @property
    def is_open(self) -> bool:
        """Return whether it has not ended."""
        return self.state in ("running", "waiting", "retrying")


class PlainTasks:
    """Tasks whose first attempt has completed, and of which there is nothing else to tell, in the order in
    which they began: as columns, since of a long history there are very many. The `Operation` of one is made
    when it is shown.
    """

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.seqs: list[int] = []
        self.names: list[str] = []
        self.events: list[int] = []
        self.ends: list[int] = []
        self.places: dict[int, int] = {}
        """Where each stands in the columns, by its number."""

    def __len__(self) -> int:
        return len(self.seqs)

    def add(
        self,
        starts: Iterable[int],
        seqs: list[int],
        names: Iterable[str],
        events_: Iterable[int],
        ends: Iterable[int],
    ) -> None:
        """Take in some more."""
        self.places.update(zip(seqs, range(len(self), len(self) + len(seqs)), strict=True))
        self.starts += starts
        self.seqs += seqs
        self.names += names
        self.events += events_
        self.ends += ends

    def operation(self, one: Kept) -> Operation:
        """Return what is kept as it is shown."""
        if isinstance(one, Operation):
            return one
        started, ended = self.starts[one], self.ends[one]
        made = Operation("task", self.seqs[one], self.names[one], started, self.events[one])
        made.state, made.ended, made.attempts = "completed", ended, 1
        made.stretches.append(Stretch("done", started, ended))
        return made

    def order(self, one: Kept) -> tuple[int, int]:
        """Return what operations are ordered by."""
        if isinstance(one, Operation):
            return one.started, one.seq
        return self.starts[one], self.seqs[one]

    def event(self, one: Kept) -> int:
        """Return the number of the event that began it."""
        return one.event if isinstance(one, Operation) else self.events[one]


Kept = Operation | int
"""An operation among many, or the place of a plain task."""

_K = TypeVar("_K")
_T = TypeVar("_T")


class Selection(Sequence[_T], Generic[_K, _T]):
    """The things that `make` returns for what is `kept` of them, made each time that they are asked for."""

    def __init__(self, kept: Sequence[_K], make: Callable[[_K], _T]) -> None:
        self._kept = kept
        self._make = make

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...
    def __getitem__(self, index: int | slice) -> _T | list[_T]:
        if isinstance(index, slice):
            return list(map(self._make, self._kept[index]))
        return self._make(self._kept[index])

    def __len__(self) -> int:
        return len(self._kept)


@frozen
class Mark:
    """A message that came in: of which kind and name, when, and the number of its event."""

    kind: Literal["signal", "update"]
    name: str
    at: int
    event: int


@mutable
class Course:
    """The events of a run for a picture: its operations in order of their start, the `plain` tasks beside
    them, the messages, the ids of the children, and from when to when; `ended` is None while it is open.
    `changed` are the operations that were begun, or went on, since somebody took them out.
    """

    operations: list[Operation] = field(default_factory=list[Operation])
    plain: PlainTasks = field(default_factory=PlainTasks)
    marks: list[Mark] = field(default_factory=list[Mark])
    children: list[str] = field(default_factory=list[str])
    began: int = 0
    ended: int | None = None
    latest: int = 0
    changed: dict[int, Operation] = field(default_factory=dict[int, Operation])


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
    """Makes the course of a run from its entries, one at a time: each at the same cost."""

    def __init__(self) -> None:
        self.course: Final = Course()
        self._found: dict[int, Operation] = {}
        self._empty = True

    def read(self, entry: Entry) -> Operation | None:
        """Take in the next entry; answers the operation that it is about, if it is about one."""
        course, event, at = self.course, entry.event, entry.milliseconds
        if self._empty:
            course.began, self._empty = at, False
        course.latest = max(course.latest, at)
        kind = type(event)
        make = _MAKERS.get(kind)
        if make is not None:
            made = make(entry, event, at)
            self._found[made.seq] = course.changed[made.seq] = made
            if course.operations and _order(course.operations[-1]) > _order(made):
                insort(course.operations, made, key=_order)
            else:
                course.operations.append(made)
            if made.child:
                course.children.append(made.child)
            return made
        if isinstance(event, events.SignalReceived):
            course.marks.append(Mark("signal", event.name, at, entry.number))
        elif isinstance(event, events.UpdateAccepted):
            course.marks.append(Mark("update", event.name, at, entry.number))
        elif kind in events.CLOSING:
            course.ended = at
        elif (operation := self._found.get(getattr(event, "seq", 0))) is not None:
            if operation.is_open:
                course.changed[operation.seq] = operation
            _apply(operation, entry, at)
            return operation
        return None


def course_of(entries: Iterable[Entry]) -> Course:
    """Return what has happened, in one pass over the entries."""
    reader = CourseReader()
    for entry in entries:
        reader.read(entry)
    return reader.course


def _order(one: Operation) -> tuple[int, int]:
    return one.started, one.seq


def _make_task(entry: Entry, event: Any, at: int) -> Operation:
    began, number = event.begun or at, entry.number
    made = Operation("task", event.seq, event.name, began, number)
    made.attempts, made.worker = 1, event.worker
    made.stretches.append(Stretch("work", began))
    return made


def _make_inline(entry: Entry, event: Any, at: int) -> Operation:
    made = Operation("task", event.seq, event.name, at, entry.number)
    made.state, made.ended = "failed" if entry.has_failed else "completed", at
    made.attempts, made.inline = 1, True
    made.stretches.append(Stretch("failed" if entry.has_failed else "done", at, at))
    made.raised = entry if entry.has_failed else None
    return made


def _make_wait(kind: Kind, name: str, entry: Entry, event: Any, at: int) -> Operation:
    made = Operation(kind, event.seq, name, at, entry.number, "waiting")
    made.stretches.append(Stretch("wait", at))
    return made


def _make_timer(entry: Entry, event: Any, at: int) -> Operation:
    made = _make_wait("timer", "sleep", entry, event, at)
    made.due = event.fire_at
    return made


def _make_promise(entry: Entry, event: Any, at: int) -> Operation:
    return _make_wait("promise", event.name, entry, event, at)


def _make_ask(entry: Entry, event: Any, at: int) -> Operation:
    name = f"{event.name} of {event.target}" if event.name else event.target
    return _make_wait("ask", f"{event.kind} {name}", entry, event, at)


def _make_child(entry: Entry, event: Any, at: int) -> Operation:
    made = Operation("child", event.seq, event.name, at, entry.number)
    made.child = event.id
    made.stretches.append(Stretch("work", at))
    return made


_MAKERS: Final[dict[type[Event], Callable[[Entry, Any, int], Operation]]] = {
    events.TaskScheduled: _make_task,
    events.InlineTaskCompleted: _make_inline,
    events.InlineTaskFailed: _make_inline,
    events.TimerStarted: _make_timer,
    events.PromiseCreated: _make_promise,
    events.AskSent: _make_ask,
    events.ChildStarted: _make_child,
}
"""The events that begin an operation, and what makes it."""


def _apply(operation: Operation, entry: Entry, at: int) -> None:
    """Take in a later event about an operation."""
    event = entry.event
    if entry.has_failed:
        operation.raised = entry
    if not operation.is_open:
        return
    open_one = operation.stretches[-1] if operation.stretches else None
    if (state := _state_after(operation, event)) is not None:
        operation.state, operation.ended, operation.due = state, at, None
        if open_one is not None and open_one.what == "work":
            open_one.what = _ENDS_ATTEMPT[state]
        if open_one is not None:
            open_one.end = at
    elif isinstance(event, events.TaskRetryScheduled):
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
