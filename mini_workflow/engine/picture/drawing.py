"""Picture: the rows of a timeline as shapes, whose places are percent of the width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Final

from mini_workflow.core.records import frozen, mutable
from mini_workflow.engine.picture import words
from mini_workflow.engine.picture.folding import Folded, Group, Single, fold
from mini_workflow.engine.picture.operations import Course, Mark, Operation, Stretch
from mini_workflow.engine.picture.scale import Break, Scale, Tick

BUCKETS: Final = 60
"""Columns of the small chart of a group."""

OVERVIEW: Final = 100
"""Columns of the overview above the timeline."""

TIMES: Final = "\N{MULTIPLICATION SIGN}"

NEAR: Final = 1.0
"""Percent within which two marks are one, with a number."""

_BARS: Final = {"done": "b done", "failed": "b bad", "work": "b work", "gone": "b gone"}
_ICONS: Final = {
    "completed": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "running": "running",
    "waiting": "running",
    "retrying": "failed",
}


@frozen
class Shape:
    """An element of SVG: `kind` is rect, line, cross, mark or text, `x` and `x2` are percent."""

    kind: str
    cls: str
    x: float
    x2: float = 0.0
    text: str = ""
    end: bool = False
    """Whether a text ends at `x`."""


@mutable
class Row:
    """A row: its label and what its track shows. `parts` are the rows inside of a group."""

    key: str
    icon: str
    tone: str
    name: str
    number: str
    took: str
    spoken: str
    shapes: list[Shape]
    cls: str = ""
    parts: list[Row] = field(default_factory=list["Row"])
    more: str = ""
    progress: tuple[float, float, float, float] | None = None
    """Percent of a group's members that are done, have failed, are at work, and wait."""
    counts: str = ""
    chart: str = ""
    """The path of a group's chart: what has ended, over time."""
    chart_x: float = 0.0
    chart_width: float = 0.0
    child: str = ""


@mutable
class Picture:
    """A timeline, ready to be drawn. `folds` says whether any row stands for several operations, and
    `window` of which part of the width the rows are, in percent; None for all of it.
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
    course: Course,
    now: int,
    events: int,
    *,
    true: bool = False,
    window: tuple[int, int] | None = None,
) -> Picture:
    """Return the picture of what has happened. `now` is in milliseconds since the epoch, and `true` asks
    for a scale without breaks. With a `window`, from when to when in the same milliseconds, the rows are
    of what was under way in it: less is folded there.
    """
    is_open = course.ended is None
    until = now if is_open else course.ended or now
    scale = scale_of(course, now, true=true)
    rows, folded = _rows(course, scale, now, window)
    return Picture(
        rows=rows,
        folds=folded.folds,
        window=None if window is None else (scale.at(window[0]), scale.at(window[1])),
        ticks=scale.ticks(),
        breaks=scale.breaks,
        earlier=folded.earlier,
        events=events,
        overview=_overview(course, scale),
        failures=_failures(course, scale),
        is_open=is_open,
        ended_at=scale.at(until),
    )


def scale_of(course: Course, now: int, *, true: bool = False) -> Scale:
    """Return where times stand in the picture of what has happened: see `draw`."""
    is_open = course.ended is None
    until = now if is_open else course.ended or now
    return Scale(
        course.began, max(until, course.latest), _active(course, until), is_open=is_open, true=true
    )


def rows_on(scale: Scale, course: Course, now: int) -> list[Row]:
    """Return the rows of an execution in the picture of another one, whose scale that is."""
    return _rows(course, scale, now, None)[0]


def _rows(
    course: Course, scale: Scale, now: int, window: tuple[int, int] | None
) -> tuple[list[Row], Folded]:
    until = max(now if course.ended is None else course.ended, course.latest)
    operations, marks = course.operations, course.marks
    if window is not None:
        first, last = window
        operations = [
            one
            for one in operations
            if one.started <= last and (until if one.ended is None else one.ended) >= first
        ]
        marks = [mark for mark in marks if first <= mark.at <= last]
    folded = fold(operations)
    drawing = _Drawing(scale, until)
    rows = [drawing.row(one) for one in folded.rows]
    if marks:
        rows.insert(0, drawing.messages(marks))
    return rows, folded


def _active(course: Course, until: int) -> list[tuple[int, int]]:
    """Return when something ran or arrived."""
    found = [(mark.at, mark.at) for mark in course.marks]
    found.append((course.latest, course.latest))
    for one in course.operations:
        found.append((one.started, one.started))
        if one.ended is not None:
            found.append((one.ended, one.ended))
        found += [
            (part.start, until if part.end is None else part.end)
            for part in one.stretches
            if part.what in ("done", "failed", "work", "gone") and one.kind == "task"
        ]
    return found


class _Drawing:
    def __init__(self, scale: Scale, until: int) -> None:
        self._scale = scale
        self._until = until

    def row(self, one: Single | Group) -> Row:
        """Return the row of an operation or a group."""
        if isinstance(one, Group):
            return self._group(one)
        row = self._operation(one.operation)
        row.shapes += [Shape("line", "cap", self._scale.at(at)) for at in one.ticks]
        if one.ticks:
            row.spoken += f", {words.count(len(one.ticks), 'task')} inside the turn"
        return row

    def messages(self, marks: Sequence[Mark]) -> Row:
        """Return the row of signals and updates; those that are near to each other are one."""
        shapes: list[Shape] = []
        together: list[Mark] = []

        def put() -> None:
            if not together:
                return
            first, x = together[0], self._scale.at(together[0].at)
            shapes.append(Shape("mark", first.kind, x))
            text = first.name if len(together) == 1 else f"{TIMES}{len(together)}"
            shapes.append(Shape("text", "an", x, text=text, end=x > 70))

        for mark in marks:
            if together and self._scale.at(mark.at) - self._scale.at(together[0].at) > NEAR:
                put()
                together = []
            together.append(mark)
        put()
        signals = sum(mark.kind == "signal" for mark in marks)
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
        tries = f", {one.attempts} attempts" if one.attempts > 1 else ""
        ended = self._until if one.ended is None else one.ended
        return Row(
            one.key,
            "again" if one.state == "retrying" else one.kind,
            _ICONS[one.state],
            one.name or one.kind,
            f"#{one.seq}",
            "" if one.inline else words.span(ended - one.started),
            f", {one.state}{tries}{': ' + one.error if one.error else ''}",
            shapes,
            cls="hot-bad" if one.state == "failed" else "",
            child=one.child,
        )

    def _stretch(self, one: Operation, part: Stretch) -> list[Shape]:
        x = self._scale.at(part.start)
        x2 = self._scale.at(self._until if part.end is None else part.end)
        if part.what == "backoff":
            return [Shape("line", "off", x, x2)]
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
        members = group.members
        done = group.of("completed")
        failed, working = group.of("failed"), group.of("running")
        waiting = group.of("retrying", "waiting")
        began = members[0].started
        ended = max(self._until if one.ended is None else one.ended for one in members)
        x = self._scale.at(began)
        x2 = self._scale.at(ended)
        parts = [self._operation(one) for one in group.shown()]
        for part in parts:
            part.cls = f"{part.cls} l1".strip()
        share = 100 / len(members)
        counted = {
            "done": len(done),
            "failed": len(failed),
            "at work": len(working),
            "waiting": len(waiting),
            "given up": len(group.of("cancelled")),
        }
        said = ", ".join(f"{words.number(many)} {what}" for what, many in counted.items() if many)
        left = len(members) - len(parts)
        return Row(
            group.key,
            "map" if group.kind == "task" else group.kind,
            "failed" if failed else "running" if working or waiting else "done",
            group.name or group.kind,
            f"{TIMES}{words.number(len(members))}",
            words.span(ended - began),
            f", {said}",
            [],
            parts=parts,
            more=f"{words.number(left)} more, which are in the events" if left else "",
            progress=(
                share * len(done),
                share * len(failed),
                share * len(working),
                share * len(waiting),
            ),
            counts=f"{words.number(len(done))} of {words.number(len(members))}",
            chart=_columns([one.ended for one in done if one.ended is not None], began, ended, 30),
            chart_x=x,
            chart_width=max(x2 - x, 1.0),
        )


def _columns(times: Sequence[int], began: int, ended: int, height: int) -> str:
    """Return the path of a chart of how many times there are in each of BUCKETS parts."""
    counts = [0] * BUCKETS
    for at in times:
        counts[min((at - began) * BUCKETS // max(ended - began, 1), BUCKETS - 1)] += 1
    return _path(counts, height)


def _path(counts: Sequence[int], height: int) -> str:
    """Return the outline of columns, whose heights are by the square root."""
    most = max(counts, default=0) or 1
    steps: list[str] = []
    for number, count in enumerate(counts):
        y = height - round((height - 2) * (count / most) ** 0.5)
        steps.append(f"V{y}H{number + 1}")
    return f"M0 {height}{''.join(steps)}V{height}z"


def _overview(course: Course, scale: Scale) -> str:
    counts = [0] * OVERVIEW
    for one in course.operations:
        for at in (one.started, one.ended):
            if at is not None:
                counts[min(int(scale.at(at)), OVERVIEW - 1)] += 1
    for mark in course.marks:
        counts[min(int(scale.at(mark.at)), OVERVIEW - 1)] += 1
    return _path(counts, 20)


def _failures(course: Course, scale: Scale) -> str:
    """Return the path of a mark for each column in which an attempt failed."""
    failed: set[int] = set()
    for one in course.operations:
        failed |= {
            min(int(scale.at(part.end or part.start)), OVERVIEW - 1)
            for part in one.stretches
            if part.what == "failed"
        }
    return "".join(f"M{x} 22v4h.8v-4z" for x in sorted(failed))
