"""Build a timeline for people from a history: decoded values, times, durations and attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast, overload

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import frozen
from mini_workflow.core.timing import BEGIN, DEADLINE
from mini_workflow.engine.looks import details_of
from mini_workflow.engine.recording import codec_of
from mini_workflow.errors import SerializationError
from mini_workflow.ports.heartbeats import Heartbeat

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class Unreadable:
    """Stands for a value that cannot be decoded here: its stored `text`, and the `reason`."""

    text: str
    reason: str

    def __repr__(self) -> str:
        return f"<unreadable: {self.text}>"


class Entry:
    """One event of a history. `number` counts from 1.

    `at` is the event's own time, in UTC; an operation that the code asked for has the time of the event that
    the code reacted to. `subject` names the operation ("task #1 'charge'"), and `happened` its change
    ("completed"). `took` is the time since its begin: a task's since the attempt, a timer's,
    child's or execution's since the start. `values` are decoded: arguments, result or value.
    `error` is a failure as an exception, and `note` has further facts. Of an attempt that has ended,
    `begun` is the time at which it really began, and `ran_on` its worker: ``host:pid``, or the name of the
    Lambda function; None and empty where that is not known. The entry that began a running attempt has the
    last `heartbeat`, with the `details` that the attempt gave last, if `Execution.timeline` has made it.

    Each field is made anew each time that it is read: of a long history few entries are shown.
    """

    __slots__ = (*("_reader", "_since", "details", "event", "heartbeat", "milliseconds", "number"),)

    def __init__(
        self, number: int, milliseconds: int, event: Event, since: int | None, reader: Reader
    ) -> None:
        self.number = number
        self.milliseconds = milliseconds
        """`at` in milliseconds since the epoch."""
        self.event = event
        self.heartbeat: datetime | None = None
        self.details: Any = None
        self._since = since
        self._reader = reader

    @property
    def kind(self) -> str:
        """The kind of the event, as it stands in the history."""
        return type(self.event).__name__

    @property
    def at(self) -> datetime:
        """See the class."""
        return moment(self.milliseconds)

    @property
    def subject(self) -> str:
        """See the class."""
        return self._reader.subject(self.event)

    @property
    def happened(self) -> str:
        """See the class."""
        late = self._reader.is_late(self.event)
        return "ended, not completed in time" if late else _happened(self.event)

    @property
    def attempt(self) -> int | None:
        """See the class."""
        # A scheduled retry names the attempt to come; the entry is about the one that failed.
        if isinstance(self.event, events.TaskRetryScheduled):
            return self.event.attempt - 1
        return getattr(self.event, "attempt", None)

    @property
    def took(self) -> timedelta | None:
        """See the class."""
        since = self._since
        return None if since is None else timedelta(milliseconds=self.milliseconds - since)

    @property
    def values(self) -> dict[str, Any] | None:
        """See the class."""
        return self._reader.values(self.event)

    @property
    def has_failed(self) -> bool:
        """Whether there is an `error`."""
        return getattr(self.event, "failure", None) is not None

    @property
    def error(self) -> BaseException | None:
        """See the class."""
        return self._reader.error(self.event)

    @property
    def note(self) -> str:
        """See the class."""
        note = _NOTES.get(type(self.event))
        return "" if note is None else note(self.event)

    @property
    def begun(self) -> datetime | None:
        """See the class."""
        event = self.event
        return moment(event.begun) if isinstance(event, _ENDS) and event.begun else None

    @property
    def ran_on(self) -> str:
        """See the class."""
        return self.event.ran_on if isinstance(self.event, _ENDS) else ""

    def __repr__(self) -> str:
        return f"<Entry {self.number}: {self.subject} {self.happened}>"


class Timeline(Sequence[Entry]):
    """The entries of a history, in order."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = tuple(entries)

    @classmethod
    def of(cls, history: Iterable[Event], codec: Codec, *, trust: bool = False) -> Timeline:
        """Return the timeline of a history (or of its beginning). For `trust` see
        `Execution.timeline`.
        """
        reader = Reader(codec, trust=trust)
        return cls(reader.read(event) for event in history)

    def with_heartbeats(self, beats: Mapping[int, Heartbeat], codec: Codec) -> Timeline:
        """Return this timeline, with the last heartbeats of running attempts, by the numbers of
        their tasks.
        """
        begun: dict[int, Entry] = {}
        for entry in self._entries if beats else ():
            if isinstance(entry.event, _BEGINS):
                begun[entry.event.seq] = entry
        for seq, beat in beats.items():
            begun[seq].heartbeat = moment(beat.at)
            begun[seq].details = details_of(beat, codec)
        return self

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __repr__(self) -> str:
        return "\n".join(
            f"{e.number:5} {e.at.isoformat(sep=' ', timespec='milliseconds')} {e.subject} "
            f"{e.happened}"
            for e in self._entries
        )

    def _repr_html_(self) -> str:
        """Return the picture of it, for notebooks."""
        from mini_workflow.engine.picture.html import html_of

        return html_of(self)


class Reader:
    """Reads the events of one history in order, one at a time."""

    def __init__(self, codec: Codec, *, trust: bool = False) -> None:
        self._codec = codec
        self._trust = trust
        self._others: dict[int, str] = {}
        self._number = 0
        self._now = 0
        self._started = 0
        self._names: dict[int, str] = {}
        """The names of operations, by their numbers."""
        self._promises: set[int] = set()
        self.elsewhere: Callable[[int], tuple[int | None, str]] = lambda seq: (None, "")
        """Since when there was an operation that was passed by, and its name, by its number."""
        self._since: dict[int, int] = {}
        self._updates: dict[str, tuple[str, int]] = {}

    def read(self, event: Event) -> Entry:
        """Return the entry of the next event."""
        self._number += 1
        at: int | None = getattr(event, "at", None)
        if at is not None:
            self._now = at
        kind = type(event)
        since: int | None = None
        if kind in _STARTS:
            seq = cast("int", event.seq)  # type: ignore[union-attr]
            self._names[seq] = getattr(event, "name", "")
            self._since[seq] = self._now
            if kind is events.PromiseCreated:
                self._promises.add(seq)
            elif kind is events.ChildStarted or kind is events.AskSent:
                codec_of(event, self._codec, self._others)
        elif kind in _OUTCOMES:
            since = self._since_of(event.seq)  # type: ignore[union-attr]
        elif kind in _REMEMBERED:
            since = self._remember(event)
        return Entry(self._number, self._now, event, since, self)

    def advance(self, number: int, now: int) -> None:
        """Note that `number` events were read, or passed by, the last of them at the time `now`."""
        self._number = number
        self._now = now

    def entry(self, number: int, now: int, event: Event) -> Entry:
        """Return the entry of an event that was passed by."""
        is_outcome = type(event) in _OUTCOMES
        since = self._since_of(event.seq) if is_outcome else None  # type: ignore[union-attr]
        return Entry(number, now, event, since, self)

    def _since_of(self, seq: int) -> int | None:
        since = self._since.get(seq)
        return self.elsewhere(seq)[0] if since is None else since

    def _name_of(self, seq: int) -> str:
        name = self._names.get(seq)
        return self.elsewhere(seq)[1] if name is None else name

    def _remember(self, event: Event) -> int | None:
        """Take an event of a rare kind. Returns the begin of the operation that it ends, or None."""
        if isinstance(event, events.ExecutionStarted):
            self._started = event.at
        elif isinstance(event, events.TaskRetryStarted):
            self._since[event.seq] = event.at
        elif isinstance(event, events.ExecutionReset):
            for number in event.attempts or {}:
                self._since[int(number)] = event.at
        elif isinstance(event, events.UpdateAccepted):
            self._updates[event.id] = (event.name, event.at)
        elif isinstance(event, events.StartSent):
            codec_of(event, self._codec, self._others)
        elif isinstance(event, (events.UpdateCompleted, events.UpdateFailed)):
            return self._updates.get(event.id, ("", None))[1]
        elif type(event) in events.CLOSING:
            return self._started
        return None

    def is_late(self, event: Event) -> bool:
        """Return whether the event ends a promise whose time has passed."""
        return isinstance(event, events.TimerFired) and event.seq in self._promises

    def subject(self, event: Event) -> str:
        """Return the name of the operation, or the execution, that an event is about."""
        kind = type(event).__name__
        seq: int | None = getattr(event, "seq", None)
        name: str = getattr(event, "name", "")
        if seq is not None and not name:
            name = self._name_of(seq)
        word = next((word for start, word in _WORDS if kind.startswith(start)), "execution")
        if isinstance(event, (events.UpdateCompleted, events.UpdateFailed, events.UpdateRefused)):
            name = self._updates.get(event.id, (event.id, 0))[0]
        if isinstance(event, events.ExecutionStarted):
            return f"{event.workflow}"
        if isinstance(event, events.TimerFired) and event.seq in _OF_EXECUTION:
            return "execution"
        parts = ["promise" if self.is_late(event) else word]
        if isinstance(event, (events.SlotsGranted, events.SlotsSent)):
            return f"slots of limit {event.limit!r}"
        if seq is not None:
            parts.append(f"#{seq}")
        if name:
            parts.append(repr(name))
        return " ".join(parts)

    def values(self, event: Event) -> dict[str, Any] | None:
        """Return the values of an event that was read, decoded; None if it has none."""
        found: dict[str, Any] = {}
        for field in fields(event):
            value = getattr(event, field.name)
            if isinstance(value, Payload):
                found[field.name] = self._decoded(event, value)
        return found or None

    def _decoded(self, event: Event, payload: Payload) -> Any:
        codec = codec_of(event, self._codec, self._others)
        try:
            return codec.decode(payload) if self._trust else codec.show(payload)
        except (SerializationError, ValueError, RecursionError) as error:  # or its text is no JSON
            return Unreadable(payload.text, str(error))

    def error(self, event: Event) -> BaseException | None:
        """Return the failure of an event that was read as an exception, if it has one."""
        failure: Failure | None = getattr(event, "failure", None)
        if failure is None:
            return None
        codec = codec_of(event, self._codec, self._others)
        try:
            return codec.decode_failure(failure) if self._trust else codec.show_failure(failure)
        except SerializationError:
            return codec.show_failure(failure)


def moment(at: int) -> datetime:
    """Return milliseconds since the epoch as a datetime in UTC."""
    return _EPOCH + timedelta(milliseconds=at)


def _happened(event: Event) -> str:
    if isinstance(event, events.TimerFired) and event.seq in _OF_EXECUTION:
        return _OF_EXECUTION[event.seq]
    if isinstance(event, events.ContinuedAsNew) and event.failure is not None:
        return "failed, to be tried again"
    if isinstance(event, events.TaskScheduled) and event.limit is not None:
        return f"scheduled, waits for a slot of limit {event.limit['name']!r}"
    if isinstance(event, events.ExecutionStarted) and event.limit is not None:
        verb = "keeps its" if "held" in event.limit else "needs a"
        return f"started, {verb} slot of limit {event.limit['name']!r}"
    return _HAPPENED[type(event)]


def _timing(event: events.ExecutionStarted) -> str:
    parts: list[str] = []
    if event.forked_from is not None:
        parts.append(f"forked from {event.forked_from['id']}")
    if event.delay:
        parts.append(f"begins at {moment(event.at + event.delay):%Y-%m-%d %H:%M:%S}Z")
    elif event.start_at is not None:
        parts.append(f"begins at {moment(event.start_at):%Y-%m-%d %H:%M:%S}Z")
    if event.timeout is not None:
        parts.append(f"timeout {event.timeout / 1000:g} s")
    if event.deadline is not None:
        parts.append(f"until {moment(event.deadline):%Y-%m-%d %H:%M:%S}Z at the latest")
    if event.retry is not None:
        parts.append(f"attempt {event.attempt} of {event.retry.get('max_attempts', '?')}")
    return ", ".join(parts)


def _because(event: Any) -> str:
    by = getattr(event, "asked_by", "")
    return f"{event.reason} (by {by})".lstrip() if by else event.reason


def _origin(event: events.ExecutionReset) -> str:
    whose = "another execution" if event.how == "fork" else f"run {event.run - 1}"
    by = f", by {event.asked_by}" if event.asked_by else ""
    return f"{event.how} of {whose}, of which {event.kept} events are kept{by}"


def _patience(event: events.PromiseCreated) -> str:
    parts: list[str] = []
    if event.timeout is not None:
        parts.append(f"within {event.timeout / 1000:g} s")
    if event.heartbeat_timeout is not None:
        parts.append(f"heartbeat within {event.heartbeat_timeout / 1000:g} s")
    return ", ".join(parts)


def _policy(event: events.TaskScheduled) -> str:
    parts: list[str] = []
    if event.retry is not None:
        parts.append(f"up to {event.retry.get('max_attempts', '?')} attempts")
    if event.timeout is not None:
        parts.append(f"timeout {event.timeout / 1000:g} s")
    if event.heartbeat_timeout is not None:
        parts.append(f"heartbeat within {event.heartbeat_timeout / 1000:g} s")
    if event.worker:
        parts.append(f"worker {event.worker}")
    return ", ".join(parts)


def _other(event: events.ChildStarted | events.StartSent) -> str:
    slot = "" if event.limit is None else f", needs a slot of limit {event.limit['name']!r}"
    return f"as {event.id}{slot}"


_NOTES: Final[dict[type[Event], Callable[[Any], str]]] = {
    events.ExecutionReset: _origin,
    events.ExecutionStarted: _timing,
    events.TaskScheduled: _policy,
    events.TaskRetryScheduled: lambda e: f"again at {moment(e.retry_at):%Y-%m-%d %H:%M:%S}Z",
    events.TimerStarted: lambda e: f"until {moment(e.fire_at):%Y-%m-%d %H:%M:%S}Z",
    events.PromiseCreated: _patience,
    events.ClockSetBack: lambda e: f"by {e.by / 1000:g} s" if e.by else "",
    events.ChildStarted: _other,
    events.StartSent: _other,
    events.SignalSent: lambda e: f"to {e.target}",
    events.AskSent: lambda e: f"{e.kind} of {e.target}",
    events.ResultAsked: lambda e: f"by {e.id.partition('/')[0]}",
    events.UpdateAccepted: lambda e: f"from {e.asker}" if e.asker else "",
    events.SlotsSent: lambda e: f"to {e.target}",
    events.CompletionSent: lambda e: f"#{e.promise} of {e.target}",
    events.CancelSent: lambda e: f"to {e.target}{': ' if e.reason else ''}{e.reason}",
    events.MessagesUnhandled: lambda e: ", ".join(f"{n} x {name}" for name, n in e.signals.items()),
    events.TagsSet: lambda e: ", ".join(
        f"{name} removed" if value is None else f"{name}={value}" for name, value in e.tags.items()
    ),
    events.TaskCancelled: _because,
    events.ChildCancelled: _because,
    events.CancelRequested: _because,
    events.ExecutionCancelled: _because,
    events.ExecutionTerminated: _because,
    **dict.fromkeys(
        (
            *(events.SignalReceived, events.SignalUnhandled, events.UpdateAccepted),
            *(events.PromiseCompleted, events.PromiseFailed),
        ),
        lambda e: f"by {e.asked_by}" if e.asked_by else "",
    ),
}

_OF_EXECUTION: Final = {BEGIN: "begins", DEADLINE: "reached its deadline"}

_STARTS: Final[frozenset[type[Event]]] = frozenset(
    (
        events.TaskScheduled,
        events.TimerStarted,
        events.PromiseCreated,
        events.ChildStarted,
        events.AskSent,
    )
)
_BEGINS: Final = (events.TaskScheduled, events.TaskRetryStarted)
"""The events that begin an attempt."""

_ENDS: Final = (events.TaskCompleted, events.TaskFailed, events.TaskRetryScheduled)
"""The events that end an attempt which was reported."""

_OUTCOMES: Final[frozenset[type[Event]]] = frozenset(
    (
        events.TaskCompleted,
        events.TaskFailed,
        events.TaskRetryScheduled,
        events.TaskCancelled,
        events.TimerFired,
        events.PromiseCompleted,
        events.PromiseFailed,
        events.ChildCompleted,
        events.ChildFailed,
        events.AskAnswered,
        events.AskFailed,
    )
)

_REMEMBERED: Final[frozenset[type[Event]]] = frozenset(
    (
        events.ExecutionStarted,
        events.ExecutionReset,
        events.TaskRetryStarted,
        events.StartSent,
        events.UpdateAccepted,
        events.UpdateCompleted,
        events.UpdateFailed,
        *events.CLOSING,
    )
)
"""The other events of which later entries need something, or that need something of earlier ones."""

_WORDS: Final = (
    ("Task", "task"),
    ("InlineTask", "inline task"),
    ("Timer", "timer"),
    ("Clock", "clock"),
    ("Signal", "signal"),
    ("Update", "update"),
    ("Promise", "promise"),
    ("Child", "child"),
    ("StartSent", "other execution"),
    ("Ask", "ask"),
    ("ResultAsked", "result"),
    ("CancelSent", "cancellation"),
    ("Slots", "slots"),
    ("CompletionSent", "value of a promise"),
    ("Patch", "change"),
    ("Tags", "tags"),
    ("Messages", "signals"),
)
"""The subjects of events, by the beginning of their kinds; all others are about the execution."""

_HAPPENED: Final[dict[type[Event], str]] = {
    events.ExecutionStarted: "started",
    events.ExecutionReset: "goes on",
    events.TaskScheduled: "scheduled",
    events.TaskCompleted: "completed",
    events.TaskFailed: "failed",
    events.TaskRetryScheduled: "failed, to be retried",
    events.TaskRetryStarted: "retried",
    events.TaskReleased: "handed back",
    events.ClockSetBack: "set back",
    events.TaskCancelled: "given up",
    events.InlineTaskCompleted: "completed",
    events.InlineTaskFailed: "failed",
    events.TimerStarted: "started",
    events.TimerFired: "fired",
    events.TimerCancelled: "cancelled",
    events.SignalReceived: "received",
    events.SignalUnhandled: "came too late",
    events.SignalSent: "sent",
    events.UpdateAccepted: "accepted",
    events.UpdateRefused: "refused",
    events.UpdateCompleted: "completed",
    events.UpdateFailed: "failed",
    events.CancelRequested: "asked to cancel",
    events.CancelSent: "sent",
    events.CompletionSent: "sent",
    events.PromiseCreated: "made",
    events.PromiseCompleted: "completed",
    events.PromiseFailed: "failed",
    events.ChildStarted: "started",
    events.ChildCancelled: "asked to cancel",
    events.StartSent: "started",
    events.ChildCompleted: "completed",
    events.ChildFailed: "failed",
    events.AskSent: "sent",
    events.AskAnswered: "answered",
    events.AskFailed: "failed",
    events.ResultAsked: "asked for",
    events.SlotsGranted: "granted",
    events.SlotsSent: "granted",
    events.PatchMarked: "applies",
    events.TagsSet: "set",
    events.MessagesUnhandled: "never received",
    events.ContinuedAsNew: "continued as new",
    events.ExecutionCompleted: "completed",
    events.ExecutionFailed: "failed",
    events.ExecutionCancelled: "cancelled",
    events.ExecutionTerminated: "terminated",
}
