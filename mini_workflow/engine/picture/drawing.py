"""Picture: the rows of a timeline as shapes, whose places are percent of the width."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from mini_workflow.core.records import field, frozen, mutable
from mini_workflow.engine.picture import words
from mini_workflow.engine.picture.counts import Counts
from mini_workflow.engine.picture.folding import Folded, Group, Single, fold
from mini_workflow.engine.picture.operations import Kept, Mark, Operation, Stretch
from mini_workflow.engine.picture.scale import Break, Scale, Tick

BUCKETS: Final = 60
"""Columns of the small chart of a group."""

OVERVIEW: Final = 100
"""Columns of the overview above the timeline."""

TIMES: Final = "\N{MULTIPLICATION SIGN}"

NEAR: Final = 1.0
"""Percent within which two marks are one, with a number."""

BESIDE: Final = 3.0
"""Percent between the middle of a mark and the end of the text beside it, without its characters."""

CHARACTER: Final = 1.5
"""Percent that a character takes, where the timeline is narrow."""

_BARS: Final = {"done": "b done", "failed": "b bad", "work": "b work", "gone": "b gone"}
_ICONS: Final = {
    "completed": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "running": "running",
    "waiting": "running",
    "retrying": "failed",
}
_SLOT_ICON: Final = "waits"


LONGEST: Final = 200
"""Characters of the details of a heartbeat that are shown."""


@frozen
class Beat:
    """The last heartbeat of a running attempt: the time `at` (milliseconds since the epoch), and the
    `details` that the attempt gave last, as text; empty if it gave none.
    """

    at: int
    details: str = ""

    @classmethod
    def of(cls, at: int, details: object) -> Beat:
        """Return the heartbeat for details as people read them."""
        text = "" if details is None else details if isinstance(details, str) else repr(details)
        cut = len(text) > LONGEST
        return cls(at, f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}" if cut else text)


Beats = Mapping[int, Beat]
"""Last heartbeats, by the numbers of tasks."""

NO_BEATS: Final[Beats] = {}


@frozen
class Shape:
    """An element of SVG: `kind` is rect, line, cross, mark, beat or text, `x` and `x2` are percent."""

    kind: str
    cls: str
    x: float
    x2: float = 0.0
    text: str = ""
    end: bool = False
    """Whether a text ends at `x`."""


@mutable
class Row:
    """A row: its label and the shapes of its track. `parts` are the rows inside of a group."""

    key: str
    icon: str
    tone: str
    name: str
    number: str
    took: str
    spoken: str
    shapes: list[Shape]
    told: str = ""
    """The text under the label: the last heartbeat of a running attempt."""
    cls: str = ""
    parts: list[Row] = field(default_factory=list["Row"])
    more: str = ""
    """The number of members of a group without a row inside of it, in words."""
    members: str = ""
    """The query of an address that names the group."""
    progress: tuple[float, float, float, float] | None = None
    """Percent of a group's members that are done, have failed, are at work, and wait."""
    counts: str = ""
    chart: str = ""
    """The path of a group's chart: the number of members that have ended, over time."""
    chart_x: float = 0.0
    chart_width: float = 0.0
    child: str = ""


@mutable
class Picture:
    """A timeline, ready to be drawn. `folds` says whether any row stands for several operations. `window` is
    the part of the width that the rows are of, in percent; None for all of it.
    """

    rows: list[Row]
    folds: bool
    window: tuple[float, float] | None
    ticks: list[Tick]
    breaks: list[Break]
    earlier: int
    events: int
    overview: str
    failures: str
    is_open: bool
    ended_at: float


def draw(
    counts: Counts,
    now: int,
    events: int,
    *,
    true: bool = False,
    window: tuple[int, int] | None = None,
    beats: Beats = NO_BEATS,
) -> Picture:
    """Return the picture of a course. `now` is in milliseconds since the epoch, and `true` asks for a scale
    without breaks. `beats` are marked on the running attempts. With a `window` (its begin and end in the
    same milliseconds), the rows are of the operations that were open in it: fewer are folded then.
    """
    course = counts.course
    is_open = course.ended is None
    until = now if is_open else course.ended or now
    scale = scale_of(counts, now, true=true)
    rows, folded = _rows(counts, scale, now, window, beats)
    return Picture(
        rows=rows,
        folds=folded.folds,
        window=None if window is None else (scale.at(window[0]), scale.at(window[1])),
        ticks=scale.ticks(),
        breaks=scale.breaks,
        earlier=folded.earlier,
        events=events,
        overview=_path(_by_column(counts.moments, scale), 20),
        failures=_failures(counts.failed, scale),
        is_open=is_open,
        ended_at=scale.at(until),
    )


def scale_of(counts: Counts, now: int, *, true: bool = False) -> Scale:
    """Return the scale of the picture of a course: see `draw`."""
    counts.update()
    course = counts.course
    is_open = course.ended is None
    until = now if is_open else course.ended or now
    active = counts.active(until)
    return Scale(course.began, max(until, course.latest), active, is_open=is_open, true=true)


def rows_on(scale: Scale, counts: Counts, now: int, beats: Beats = NO_BEATS) -> list[Row]:
    """Return the rows of an execution in the picture of another one, whose scale that is."""
    counts.update()
    return _rows(counts, scale, now, None, beats)[0]


def group_of(
    counts: Counts, now: int, number: int, window: tuple[int, int] | None = None
) -> Group | None:
    """Return the group whose first member is the operation of that number, as the picture of a `window` has
    it; None if there is none.
    """
    counts.update()
    for row in _folded(counts, _until(counts, now), window).rows:
        if isinstance(row, Group) and row.members[0].seq == number:
            return row
    return None


def rows_of(
    operations: Iterable[Operation],
    scale: Scale,
    counts: Counts,
    now: int,
    beats: Beats = NO_BEATS,
) -> list[Row]:
    """Return a row for each of some operations."""
    drawing = _Drawing(scale, _until(counts, now), beats)
    return [drawing.row(Single(one)) for one in operations]


def _until(counts: Counts, now: int) -> int:
    course = counts.course
    return max(now if course.ended is None else course.ended, course.latest)


def _folded(counts: Counts, until: int, window: tuple[int, int] | None) -> Folded:
    if window is None:
        return counts.folding.folded()
    course = counts.course
    operations, plain = course.operations, course.plain
    begun = bisect_right(operations, window[1], key=lambda one: one.started)
    found: list[Kept] = [
        one
        for one in operations[:begun]
        if (until if one.ended is None else one.ended) >= window[0]
    ]
    spans = enumerate(zip(plain.starts, plain.ends, strict=True))
    found += [n for n, (start, end) in spans if start <= window[1] and end >= window[0]]
    return fold(sorted(found, key=plain.order), plain)


def _rows(
    counts: Counts, scale: Scale, now: int, window: tuple[int, int] | None, beats: Beats
) -> tuple[list[Row], Folded]:
    course = counts.course
    marks, signals = course.marks, counts.signals
    folded = _folded(counts, _until(counts, now), window)
    if window is not None:
        first, last = window
        marks = [mark for mark in marks if first <= mark.at <= last]
        signals = sum(mark.kind == "signal" for mark in marks)
    drawing = _Drawing(scale, _until(counts, now), beats)
    rows = [drawing.row(one) for one in folded.rows]
    for row in rows:
        if row.members and window is not None:
            row.members += f"&from={window[0]}&to={window[1]}"
    if marks:
        rows.insert(0, drawing.messages(marks, signals))
    return rows, folded


class _Drawing:
    def __init__(self, scale: Scale, until: int, beats: Beats) -> None:
        self._scale = scale
        self._until = until
        self._beats = beats

    def row(self, one: Single | Group) -> Row:
        """Return the row of an operation or a group."""
        if isinstance(one, Group):
            return self._group(one)
        row = self._operation(one.operation)
        row.shapes += [Shape("line", "cap", self._scale.at(at)) for at in one.ticks]
        if one.ticks:
            row.spoken += f", {words.count(len(one.ticks), 'task')} inside the turn"
        return row

    def messages(self, marks: Sequence[Mark], signals: int) -> Row:
        """Return the row of signals and updates; those that are near to each other are one."""
        shapes: list[Shape] = []
        number, before = 0, 0.0
        while number < len(marks):
            first, x = marks[number], self._scale.at(marks[number].at)
            near = self._scale.time_at(x + NEAR)
            following = bisect_right(marks, near, number + 1, key=lambda mark: mark.at)
            shapes.append(Shape("mark", first.kind, x))
            many = following - number
            text = first.name if many == 1 else f"{TIMES}{words.number(many)}"
            number = following
            after = self._scale.at(marks[number].at) if number < len(marks) else 200.0
            width = BESIDE + CHARACTER * len(text)
            if x <= 70 and x + width <= after:
                shapes.append(Shape("text", "an", x, text=text))
            elif x > 70 and before <= x - width:
                shapes.append(Shape("text", "an", x, text=text, end=True))
            before = x if x > 70 else x + width
        said = [words.count(signals, "signal"), words.count(len(marks) - signals, "update")]
        return Row(
            "messages",
            "signal",
            "done",
            "messages",
            "",
            words.number(len(marks)),
            ", " + ", ".join(said),
            shapes,
        )

    def _operation(self, one: Operation) -> Row:
        shapes: list[Shape] = []
        for part in one.stretches:
            shapes += self._stretch(one, part)
        if one.attempts > 1 and one.state == "completed":
            shapes.append(self._beside(one, f"{one.attempts} attempts", "an"))
        if one.state == "failed" and one.error:
            shapes.append(self._beside(one, one.error[:60], "an bad"))
        if one.due is not None and one.is_open:
            shapes.append(self._beside(one, f"until {words.utc(one.due):%d %b, %H:%M} UTC", "an"))
        told = ""
        if one.limit is not None and one.state == "waiting":
            told = f"waits for a slot of limit {one.limit.get('name', '')!r}"
        if one.state == "running" and (beat := self._beats.get(one.seq)) is not None:
            past = words.span(max(self._until - beat.at, 0))
            told = f"last heartbeat {past} ago{': ' + beat.details if beat.details else ''}"
            # The clock of the worker may be ahead, or behind.
            x = min(max(beat.at, one.stretches[-1].start), self._until)
            shapes.append(Shape("beat", "beat", self._scale.at(x), text=told))
        tries = f", {one.attempts} attempts" if one.attempts > 1 else ""
        ended = self._until if one.ended is None else one.ended
        return Row(
            one.key,
            "again" if one.state == "retrying" else _SLOT_ICON if one.kind == "slot" else one.kind,
            _ICONS[one.state],
            one.name or one.kind,
            "" if one.kind == "slot" else f"#{one.seq}",
            "" if one.inline else words.span(ended - one.started),
            f", {told if one.state == 'waiting' and told else one.state}{tries}"
            f"{': ' + one.error if one.error else ''}",
            shapes,
            told,
            cls="hot-bad" if one.state == "failed" else "",
            child=one.child,
        )

    def _stretch(self, one: Operation, part: Stretch) -> list[Shape]:
        x = self._scale.at(part.start)
        # It may have begun after the page was requested, or by a clock that is ahead.
        x2 = max(x, self._scale.at(self._until if part.end is None else part.end))
        if part.what == "backoff":
            return [Shape("line", "off", x, x2)]
        if part.what == "slot":
            return [Shape("line", "slot past" if part.end else "slot", x, x2)]
        if part.what == "wait":
            if one.kind == "timer":
                ends = [] if part.end is None else [Shape("cap", "cap", x2)]
                return [Shape("line", "tmr", x, x2), *ends]
            return [Shape("line", "wait past" if part.end else "wait", x, x2)]
        if one.kind == "child":
            return [Shape("rect", "b kid", x, x2)]
        found = [Shape("rect", _BARS[part.what], x, x2)]
        if part.what == "failed":
            found.append(Shape("cross", "bad", x2))
        return found

    def _beside(self, one: Operation, text: str, cls: str) -> Shape:
        """Return a text right of the operation where there is room, else left of it."""
        end = self._scale.at(self._until if one.ended is None else one.ended)
        if end < 70:
            return Shape("text", cls, end, text=text)
        return Shape("text", cls, self._scale.at(one.started), text=text, end=True)

    def _group(self, group: Group) -> Row:
        number = len(group.members)
        done, failed = group.count("completed"), group.count("failed")
        working, waiting = group.count("running"), group.count("retrying", "waiting")
        began = group.members[0].started
        ended = self._until if working or waiting else group.crowd.last_end
        x = self._scale.at(began)
        x2 = self._scale.at(ended)
        parts = [self._operation(one) for one in group.shown()]
        for part in parts:
            part.cls = f"{part.cls} l1".strip()
        share = 100 / number
        counted = {
            "done": done,
            "failed": failed,
            "at work": working,
            "waiting": waiting,
            "given up": group.count("cancelled"),
        }
        said = ", ".join(f"{words.number(many)} {what}" for what, many in counted.items() if many)
        left = number - len(parts)
        return Row(
            group.key,
            "map" if group.kind == "task" else group.kind,
            "failed" if failed else "running" if working or waiting else "done",
            group.name or group.kind,
            f"{TIMES}{words.number(number)}",
            words.span(ended - began),
            f", {said}",
            [],
            parts=parts,
            more=f"{words.number(left)} more" if left else "",
            members=f"of={group.members[0].seq}",
            progress=(share * done, share * failed, share * working, share * waiting),
            counts=f"{words.number(done)} of {words.number(number)}",
            chart=_chart(group.crowd.ended(), began, ended, 30),
            chart_x=x,
            chart_width=max(x2 - x, 1.0),
        )


def _chart(times: Sequence[int], began: int, ended: int, height: int) -> str:
    """Return the path of a chart of how many of the times, which are in order, are in each of BUCKETS."""
    span = max(ended - began, 1)
    edges = [began - (-part * span // BUCKETS) for part in range(1, BUCKETS)]
    return _path(_between(times, edges), height)


def _between(times: Sequence[int], edges: Sequence[int]) -> list[int]:
    """Return how many times there are before the first edge, from each edge to the next, and behind."""
    places = [0, *(bisect_left(times, edge) for edge in edges), len(times)]
    return [end - start for start, end in pairwise(places)]


def _by_column(times: Sequence[int], scale: Scale) -> list[int]:
    """Return how many times, which are in order, there are in each column of the overview."""
    columns = min(int(scale.width), OVERVIEW - 1)
    found = _between(times, [scale.time_at(x) for x in range(1, columns + 1)])
    return [*found, *(0 for _ in range(OVERVIEW - len(found)))]


def _path(counts: Sequence[int], height: int) -> str:
    """Return the outline of columns, whose heights are by the square root."""
    most = max(counts, default=0) or 1
    steps: list[str] = []
    for number, count in enumerate(counts):
        y = height - round((height - 2) * (count / most) ** 0.5)
        steps.append(f"V{y}H{number + 1}")
    return f"M0 {height}{''.join(steps)}V{height}z"


def _failures(failed: Sequence[int], scale: Scale) -> str:
    """Return the path of a mark for each column in which an attempt failed."""
    columns = _by_column(failed, scale)
    return "".join(f"M{x} 22v4h.8v-4z" for x, many in enumerate(columns) if many)
