"""Show an execution: a sentence, its timeline, its events, and its failure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final, cast
from urllib.parse import quote

from mini_workflow.core import events
from mini_workflow.core.failure import Failure
from mini_workflow.core.records import frozen, mutable
from mini_workflow.engine.description import Description
from mini_workflow.engine.execution import Execution
from mini_workflow.engine.looks import Looks
from mini_workflow.engine.picture import words
from mini_workflow.engine.picture.counts import Counts
from mini_workflow.engine.picture.drawing import NO_BEATS, Picture, Row, draw, rows_on, scale_of
from mini_workflow.engine.picture.operations import milliseconds, one_line
from mini_workflow.engine.timeline import Entry
from mini_workflow.errors import SerializationError, UsageError
from mini_workflow.task_logs import LOGS
from mini_workflow.ui.actions import possible, remedy
from mini_workflow.ui.followed import KINDS, AllFollowed, Followed
from mini_workflow.ui.last_heartbeats import last_heartbeats
from mini_workflow.ui.lists import shape_of, utc_now
from mini_workflow.ui.live import sign_of, state_of
from mini_workflow.ui.stream_page import StreamPart, streams_of
from mini_workflow.ui.usage import Usage
from mini_workflow.ui.values import Node, whole_of

EVENTS: Final = 200
"""Events on a page."""

CHILDREN: Final = 10
"""Children that a page links to."""

_ICONS: Final = (
    ("TaskRetryScheduled", "again failed"),
    ("TaskFailed", "failed failed"),
    ("InlineTaskFailed", "failed failed"),
    ("ChildFailed", "failed failed"),
    ("UpdateFailed", "failed failed"),
    ("AskFailed", "failed failed"),
    ("PromiseFailed", "failed failed"),
    ("TaskCancelled", "cancelled done"),
    ("TaskCompleted", "completed completed"),
    ("InlineTaskCompleted", "completed completed"),
    ("ChildCompleted", "completed completed"),
    ("ExecutionCompleted", "completed completed"),
    ("ExecutionFailed", "failed failed"),
    ("ExecutionCancelled", "cancelled cancelled"),
    ("ExecutionTerminated", "terminated terminated"),
    ("Task", "task done"),
    ("Timer", "timer done"),
    ("Signal", "signal done"),
    ("Update", "update done"),
    ("Promise", "promise done"),
    ("Child", "child done"),
)
"""The sign and the tone of events whose kind begins so; the first that fits."""


@frozen
class EventLine:
    """An event in the list."""

    number: int
    at: datetime
    icon: str
    subject: str
    happened: str
    took: str
    error: str
    values: list[Node]
    operation: str

    @classmethod
    def of(cls, entry: Entry) -> EventLine:
        """Return the line of an entry."""
        error = entry.error
        tries = f", attempt {entry.attempt}" if entry.attempt and entry.attempt > 1 else ""
        note = f"; {entry.note}" if entry.note else ""
        if entry.begun is not None:
            note += f"; began {entry.begun:%Y-%m-%d %H:%M:%S}Z on {entry.ran_on}"
        if entry.heartbeat is not None:
            details = "" if entry.details is None else f": {entry.details!r}"
            note += f"; last heartbeat {entry.heartbeat:%Y-%m-%d %H:%M:%S}Z{details}"
        seq = getattr(entry.event, "seq", None)
        return cls(
            entry.number,
            entry.at,
            next((icon for start, icon in _ICONS if entry.kind.startswith(start)), "running done"),
            entry.subject,
            f"{entry.happened}{tries}{note}",
            "" if entry.took is None else words.span(entry.took / timedelta(milliseconds=1)),
            "" if error is None else one_line(type(error).__name__, str(error)),
            [
                whole_of(value, name, {"event": entry.number, "name": name})
                for name, value in (entry.values or {}).items()
            ],
            f"op-{seq}" if seq else "",
        )

    def matches(self, text: str) -> bool:
        """Return whether the line contains a text."""
        where = f"{self.subject} {self.happened} {self.error}".lower()
        return text in where or any(_in_tree(one, text) for one in self.values)


def _in_tree(node: Node, text: str) -> bool:
    if text in node.name.lower() or text in node.text.lower():
        return True
    return any(_in_tree(one, text) for one in node.items)


@frozen
class Frame:
    """A call in a traceback: where, the line of code, and whether the frame is the user's own."""

    where: str
    code: str
    mine: bool


@frozen
class Stretch:
    """Calls of a traceback that follow each other: all the user's own, or all of libraries."""

    mine: bool
    frames: list[Frame]


@frozen
class Raised:
    """A failure: its exception, and the calls, innermost last, in the workflow's code and in that of the
    task or child from which it comes.
    """

    title: str
    frames: list[Stretch]
    task_frames: list[Stretch]


_FRAME: Final = re.compile(r'^ *File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$')
_LIBRARY: Final = ("/mini_workflow/", "/asyncio/", "/site-packages/", "/concurrent/", "/lib/python")


def frames_of(traceback: str) -> list[Frame]:
    """Return the calls of a traceback as Python prints it."""
    found: list[Frame] = []
    place: re.Match[str] | None = None
    for line in traceback.splitlines():
        match = _FRAME.match(line)
        if match is not None:
            place = match
            found.append(_frame(match, ""))
        elif place is not None and line.startswith("    ") and line.strip(" ~^"):
            found[-1] = _frame(place, line.strip())
            place = None
    return found


def stretches_of(traceback: str) -> list[Stretch]:
    """Return the calls of a traceback, those of libraries together, to be folded."""
    grouped = groupby(frames_of(traceback), lambda frame: frame.mine)
    return [Stretch(mine, list(frames)) for mine, frames in grouped]


def _frame(match: re.Match[str], code: str) -> Frame:
    file = match["file"].replace("\\", "/")
    mine = not any(part in file for part in _LIBRARY) and not file.startswith("<")
    return Frame(f"{file}:{match['line']} in {match['name']}", code, mine)


@mutable
class ExecutionPage:
    """The content of the page of an execution."""

    description: Description
    word: str
    icon: str
    sentence: str
    line: str
    lasted: str
    picture: Picture
    window: tuple[int, int] | None
    """From when to when its rows are, in milliseconds since the epoch; None for all."""
    lines: list[EventLine]
    kinds: dict[str, str]
    kind: str
    text: str
    older: int
    total: int
    failures: int
    can: list[str]
    arguments: list[Node]
    result: Node | None
    raised: list[Raised]
    true: bool
    children: list[str]
    born: int
    """How many children it has started."""
    remedy: tuple[str, str]
    forks_until: int
    """Up to this event it can be forked; the next one ends it."""
    streams: list[StreamPart]
    usage: Usage
    again: bool
    """Whether it was asked to run again, so that its page is live though it may have closed."""
    shown: str
    """The sign of what is shown, by which a live page knows what is new."""

    @classmethod
    def read(
        cls, known: AllFollowed, name: str, asked: Mapping[str, str], looks: Looks | None = None
    ) -> ExecutionPage:
        """Read an execution, with the last heartbeats that the `looks` find. Raises ExecutionNotFound or
        UsageError.
        """
        kind, text = asked.get("e", "all"), asked.get("q", "").strip().lower()
        if kind not in KINDS:
            raise UsageError(f"e={kind!r}: choose one of {', '.join(KINDS)}")
        before = whole("before", asked.get("before", ""))
        with known.at(name) as one:
            return cls._of(one, kind, text, before, asked, looks)

    @classmethod
    def _of(
        cls,
        one: Followed,
        kind: str,
        text: str,
        before: int | None,
        asked: Mapping[str, str],
        looks: Looks | None,
    ) -> ExecutionPage:
        description, entries, execution = one.describe(), one.entries, one.execution
        now = utc_now()
        true = asked.get("scale") == "true"
        window = window_of(asked, one.counts, milliseconds(now), true=true)
        word, icon = shape_of(description)
        beats = NO_BEATS
        if looks is not None:
            beats = last_heartbeats(looks, execution.id, execution.codec, one.counts, description)
        lines, older = _events(one.of_kind(kind), text, before)
        closing = entries[-1]
        sentence, line = _sentence(description, closing, now)
        lasted = (description.closed_at or now) - description.started_at
        return cls(
            description,
            word,
            icon,
            sentence,
            line,
            words.span(lasted / timedelta(milliseconds=1)),
            draw(
                *(one.counts, milliseconds(now), len(entries)),
                true=true,
                window=window,
                beats=beats,
            ),
            window,
            lines,
            KINDS,
            kind,
            text,
            older,
            len(entries),
            len(one.of_kind("failures")),
            possible(description),
            _arguments(entries),
            _result(closing),
            _raised(execution, closing),
            true,
            one.counts.course.children[:CHILDREN],
            len(one.counts.course.children),
            remedy(description),
            len(entries) + (description.closed_at is None),
            streams_of(execution),
            one.usage,
            bool(asked.get("again")),
            sign_of(state_of(one)),
        )

    @property
    def has_logs(self) -> bool:
        """Return whether the logs of its tasks are kept."""
        return any(one.name == LOGS for one in self.streams)

    @property
    def title(self) -> str:
        """The title of the browser's tab."""
        return f"{self.description.id} {self.word}: {self.sentence}"


def whole(name: str, text: str) -> int | None:
    """Return a number of an address, None if it has none. Raises UsageError."""
    if not text:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise UsageError(f"{name}={text!r}: give a whole number")
    return int(text)


def window_of(
    asked: Mapping[str, str], counts: Counts, now: int, *, true: bool
) -> tuple[int, int] | None:
    """Return the part of the time that an address asks for, in milliseconds since the epoch: by two times,
    or as two shares of the width of the picture. Raises UsageError.
    """
    first, last = whole("from", asked.get("from", "")), whole("to", asked.get("to", ""))
    if first is not None and last is not None:
        return first, max(first, last)
    view = asked.get("view", "")
    if not view:
        return None
    try:
        left, right = (min(max(float(part), 0.0), 1.0) for part in view.split(","))
    except ValueError:
        raise UsageError(
            f"view={view!r}: give two numbers from 0 to 1, as in view=0.25,0.5"
        ) from None
    scale = scale_of(counts, now, true=true)
    return scale.time_at(100 * left), scale.time_at(100 * max(left, right))


def rows_of_child(
    known: AllFollowed, name: str, child: str, looks: Looks, *, true: bool
) -> list[Row]:
    """Return the rows of a child (or of one of its own), drawn where they stand in the picture of an
    execution. Raises ExecutionNotFound.
    """
    now = milliseconds(utc_now())
    with known.at(name) as outer:
        scale = scale_of(outer.counts, now, true=true)
    with known.at(child) as inner:
        beats = last_heartbeats(looks, child, inner.execution.codec, inner.counts)
        rows = rows_on(scale, inner.counts, now, beats)
    parts = [part for row in rows for part in row.parts]
    for one in (*rows, *parts):
        one.key = f"{child}--{one.key}"
    for row in rows:
        row.cls = f"{row.cls} l1".strip()
        row.members = f"{row.members}&child={quote(child)}" if row.members else ""
    return rows


def _events(entries: Sequence[Entry], text: str, before: int | None) -> tuple[list[EventLine], int]:
    """Return the events of a page, newest first, and the number before which the next one begins; 0 on
    the last.
    """
    found: list[EventLine] = []
    until = len(entries)
    if before is not None:
        until = bisect_left(entries, before, key=lambda entry: entry.number)
    for number in range(until - 1, -1, -1):
        if len(found) == EVENTS and not text:
            return found, found[-1].number
        line = EventLine.of(entries[number])
        if text and not line.matches(text):
            continue
        if len(found) == EVENTS:
            return found, found[-1].number
        found.append(line)
    return found, 0


def _arguments(entries: Sequence[Entry]) -> list[Node]:
    """Return the arguments of the first event, those by position by their number."""
    value: Any = (entries[0].values or {}).get("arguments") if entries else None
    if value is None:
        return []
    place: dict[str, str | int] = {"event": entries[0].number, "name": "arguments"}
    try:
        pairs = arguments_of(value)
    except (TypeError, ValueError, AttributeError):
        return [whole_of(value, "arguments", place)]  # they could not be decoded
    return [whole_of(one, name, {**place, "item": name}) for name, one in pairs]


def arguments_of(value: Any) -> list[tuple[str, Any]]:
    """Return the arguments of an execution, those by position by their number. Raises TypeError, ValueError
    or AttributeError if they could not be decoded.
    """
    args, named = cast("tuple[list[Any], dict[str, Any]]", value)
    return [*((str(number), one) for number, one in enumerate(args)), *named.items()]


def _result(closing: Entry | None) -> Node | None:
    if closing is None or not isinstance(closing.event, events.ExecutionCompleted):
        return None
    value = (closing.values or {}).get("result")
    return whole_of(value, "result", {"event": closing.number, "name": "result"})


def _raised(execution: Execution[Any], closing: Entry | None) -> list[Raised]:
    """Return the errors of a failed execution: the one that ended it first, then its causes."""
    failure: Failure | None = getattr(closing.event, "failure", None) if closing else None
    if failure is None:
        return []
    try:
        failure = execution.codec.plain_failure(failure)
    except SerializationError as error:
        return [Raised(f"{failure.type}: it cannot be read here: {error}", [], [])]
    found: list[Raised] = []
    while failure is not None:
        title = one_line(failure.type, failure.message)
        own, task = map(stretches_of, (failure.traceback, failure.task_traceback))
        found.append(Raised(title, own, task))
        failure = failure.cause
    return found


def _sentence(one: Description, closing: Entry | None, now: datetime) -> tuple[str, str]:
    """Return the sentence about an execution, and the line of the user's code that waits."""
    if one.status in ("running", "blocked"):
        waits = one.activity.waits
        return one.sentence(now), waits[0].line if waits else ""
    if closing is not None and closing.error is not None:
        return one_line(type(closing.error).__name__, str(closing.error)), ""
    why = f" {closing.note}" if closing is not None and closing.note else ""
    return f"{one.sentence(now)}{why}", ""
