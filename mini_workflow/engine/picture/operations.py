"""Group the entries of a timeline into operations, each with its attempts."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar, overload

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.records import field, frozen, mutable
from mini_workflow.core.slots import OWN, Slots, is_own
from mini_workflow.core.timing import BEGIN
from mini_workflow.engine.timeline import Entry

Kind = Literal["task", "timer", "promise", "child", "ask", "slot"]
State = Literal["running", "waiting", "retrying", "completed", "failed", "cancelled"]


@mutable
class Stretch:
    """A part of an operation, in milliseconds since the epoch; it goes on if `end` is None.

    `what` is an attempt that was ``"done"`` or ``"failed"``, is at ``"work"`` or was ``"gone"`` (given
    up), a ``"backoff"`` between two, a wait for a ``"slot"`` of a limit, or another ``"wait"``.
    """

    what: Literal["done", "failed", "work", "gone", "backoff", "slot", "wait"]
    start: int
    end: int | None = None


@mutable
class Operation:
    """A task, timer, promise, child or ask of another execution, or the wait of the execution for the slot
    that it needs to begin. Times are in milliseconds since the epoch.

    `event` is the number of the event that began it; `due` is when a timer fires or the next attempt is
    made; `raised` is the entry of the latest failure, and `inline` says that it took no time that is known.
    `limit` is the one of which each attempt needs a slot, as it is recorded; None for none.
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
    limit: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """Its name in addresses."""
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
    """Tasks whose first attempt has completed, without any other event, in the order in which they began: as
    columns, since a long history has very many. The `Operation` of one is made when it is shown.
    """

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.seqs: list[int] = []
        self.names: list[str] = []
        self.events: list[int] = []
        self.ends: list[int] = []
        self.places: dict[int, int] = {}
        """The place of each task in the columns, by its number."""

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
        """Return the operation that is kept, or that stands at a place of the columns."""
        if isinstance(one, Operation):
            return one
        started, ended = self.starts[one], self.ends[one]
        made = Operation("task", self.seqs[one], self.names[one], started, self.events[one])
        made.state, made.ended, made.attempts = "completed", ended, 1
        made.stretches.append(Stretch("done", started, ended))
        return made

    def order(self, one: Kept) -> tuple[int, int]:
        """Return the key by which operations are ordered."""
        if isinstance(one, Operation):
            return one.started, one.seq
        return self.starts[one], self.seqs[one]

    def event(self, one: Kept) -> int:
        """Return the number of the event that began the operation."""
        return one.event if isinstance(one, Operation) else self.events[one]


Kept = Operation | int
"""An operation among many, or the place of a plain task."""

_K = TypeVar("_K")
_T = TypeVar("_T")


class Selection(Sequence[_T], Generic[_K, _T]):
    """The items that `make` returns for those in `kept`, made each time that they are read."""

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
    """A message that arrived: its kind and name, the time, and the number of its event."""

    kind: Literal["signal", "update"]
    name: str
    at: int
    event: int


@mutable
class Course:
    """The events of a run for a picture: its operations in order of their start, the `plain` tasks beside
    them, the messages, the ids of the children, and its begin and end; `ended` is None while it is open.
    `changed` are the operations that have begun, or gone on, since a reader has cleared them.
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
        self._slots = SlotWaits(self.course, self._found)

    def read(self, entry: Entry) -> Operation | None:
        """Take in the next entry. Returns the operation that it is about, or None."""
        course, event, at = self.course, entry.event, entry.milliseconds
        if self._empty:
            course.began, self._empty = at, False
        course.latest = max(course.latest, at)
        kind = type(event)
        make = _MAKERS.get(kind)
        if make is not None:
            made = make(entry, event, at)
            self._found[made.seq] = made
            _put_in(course, made)
            if made.limit is not None:
                self._slots.ask(made, at)
            if made.child:
                course.children.append(made.child)
            return made
        if isinstance(event, events.SignalReceived):
            course.marks.append(Mark("signal", event.name, at, entry.number))
        elif isinstance(event, events.UpdateAccepted):
            course.marks.append(Mark("update", event.name, at, entry.number))
        elif kind in _ABOUT_SLOTS or (isinstance(event, events.TimerFired) and event.seq == BEGIN):
            self._slots.read(entry)
        elif kind in events.CLOSING:
            course.ended = at
        elif (operation := self._found.get(getattr(event, "seq", 0))) is not None:
            if operation.is_open:
                course.changed[operation.seq] = operation
            if operation.limit is not None and isinstance(event, events.TaskCancelled):
                self._slots.withdraw(operation)
            _apply(operation, entry, at)
            if operation.limit is not None and isinstance(event, events.TaskRetryStarted):
                self._slots.ask(operation, at)
            return operation
        return None


def course_of(entries: Iterable[Entry]) -> Course:
    """Return the course of a run, in one pass over its entries."""
    reader = CourseReader()
    for entry in entries:
        reader.read(entry)
    return reader.course


class SlotWaits:
    """The waits for slots of limits in a course: of its tasks, which are `found` by their numbers, and of the
    execution before its code begins.
    """

    def __init__(self, course: Course, found: dict[int, Operation]) -> None:
        self._course = course
        self._found = found
        self._slots = Slots()
        self._own: Operation | None = None
        self._own_limit: dict[str, Any] | None = None
        """The slot that is asked for once the time has come to begin."""

    def ask(self, one: Operation, at: int) -> None:
        """Have a task wait for a slot, from now on."""
        assert one.limit is not None
        self._slots.ask(one.seq, one.limit)
        last = one.stretches[-1]
        if last.what == "slot":
            return
        if last.what == "work" and last.start == at:
            one.stretches.pop()  # it does not begin yet
        else:
            _close(last, "gone", at)
        one.stretches.append(Stretch("slot", at))
        one.state = "waiting"

    def withdraw(self, one: Operation) -> None:
        """Have a task wait no longer, if it does."""
        if one.limit is not None and one.state == "waiting":
            self._slots.withdraw(one.seq, one.limit)

    def read(self, entry: Entry) -> None:
        """Take in a start, a slot that was granted, or a run that goes on from the events of another one."""
        event, at = entry.event, entry.milliseconds
        if isinstance(event, events.ExecutionStarted):
            if event.limit is not None and "held" not in event.limit:
                self._own_limit = event.limit
                later = event.start_at is not None and (event.start_at > at or event.attempt > 1)
                if not event.delay and not later:
                    self._queue(entry)
        elif isinstance(event, events.TimerFired):
            if self._own is None and self._own_limit is not None:
                self._queue(entry)
        elif isinstance(event, events.ExecutionReset):
            self._reset(event, at)
        elif isinstance(event, events.SlotsGranted):
            if not is_own(event):
                for seq in self._slots.take(event):
                    self._begin(self._found[seq], at)
            elif self._own is not None and self._own.is_open:
                self._course.changed[self._own.seq] = self._own
                self._own.stretches[-1].end = self._own.ended = at
                self._own.state = "completed"

    def _queue(self, entry: Entry) -> None:
        at, limit = entry.milliseconds, self._own_limit
        name = f"slot of limit {'' if limit is None else limit['name']!r}"
        self._own = made = Operation("slot", OWN, name, at, entry.number, "waiting")
        made.limit = limit
        made.stretches.append(Stretch("slot", at))
        _put_in(self._course, made)

    def _begin(self, one: Operation, at: int) -> None:
        one.stretches[-1].end = at
        one.stretches.append(Stretch("work", at))
        one.state = "running"
        self._course.changed[one.seq] = one

    def _reset(self, event: events.ExecutionReset, at: int) -> None:
        """Have tasks wait as the new run does, which the limits do not know."""
        self._slots.begin_anew()
        for one in self._found.values():
            if one.limit is not None and one.state == "waiting":
                self._slots.ask(one.seq, one.limit)
        for number in event.attempts or {}:
            one = self._found.get(int(number))
            if one is None or one.limit is None or not one.is_open:
                continue
            self._course.changed[one.seq] = one
            if one.seq not in (event.running or ()):
                self.ask(one, at)
            elif one.state == "waiting":
                self.withdraw(one)
                self._begin(one, at)


def _put_in(course: Course, made: Operation) -> None:
    """Put an operation that begins where it belongs."""
    course.changed[made.seq] = made
    if course.operations and _order(course.operations[-1]) > _order(made):
        insort(course.operations, made, key=_order)
    else:
        course.operations.append(made)


_ABOUT_SLOTS: Final = (events.ExecutionStarted, events.SlotsGranted, events.ExecutionReset)


def _order(one: Operation) -> tuple[int, int]:
    return one.started, one.seq


def _make_task(entry: Entry, event: Any, at: int) -> Operation:
    began, number = event.begun or at, entry.number
    made = Operation("task", event.seq, event.name, began, number)
    made.attempts, made.worker, made.limit = 1, event.worker, event.limit
    if event.limit is None:
        made.stretches.append(Stretch("work", began))
    else:
        made.stretches.append(Stretch("slot", began))
        made.state = "waiting"
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
"""The events that begin an operation, and the functions that make it."""


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
        stretch.what = what if stretch.what == "work" else stretch.what
        stretch.end = at


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
