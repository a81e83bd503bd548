"""HTML: a timeline as one piece of HTML that needs nothing else, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from mini_workflow.engine.picture import words
from mini_workflow.engine.picture.counts import Counts
from mini_workflow.engine.picture.drawing import Beat, Picture, Row, Shape, draw
from mini_workflow.engine.picture.operations import course_of, milliseconds, one_line
from mini_workflow.engine.timeline import Entry

ROWS_OF_GROUP: Final = 20
"""Rows of a group that are there when it is opened."""

COLOURS: Final = {
    "b done": "#788593",
    "b bad": "#d2441d",
    "b work": "#2f7fe0",
    "b gone": "#a0a9b3",
}
_LINE: Final = "#788593"
_BAD: Final = "#d2441d"
_LABEL: Final = (
    "display:inline-block;width:16em;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;"
    "vertical-align:middle"
)
_TOOK: Final = "display:inline-block;width:6em;text-align:right;padding-right:.6em;opacity:.75"


def html_of(entries: Sequence[Entry], sentence: str = "") -> str:
    """Return the picture of a timeline as HTML, under a sentence if there is one. No script, and nothing
    from elsewhere; text of users is escaped.
    """
    if not entries:
        return html_of_text(sentence or "no events")
    course = course_of(entries)
    beats = {
        getattr(one.event, "seq", 0): Beat.of(milliseconds(one.heartbeat), one.details)
        for one in entries
        if one.heartbeat is not None
    }
    latest = max((course.latest, *(beat.at for beat in beats.values())))
    picture = draw(Counts(course), latest, len(entries), beats=beats)
    parts = ['<div style="font:13px/1.5 system-ui,sans-serif;max-width:72em">']
    if sentence:
        parts.append(f"<p><b>{escape(sentence)}</b></p>")
    error = entries[-1].error if course.ended is not None else None
    if error is not None:
        said = one_line(type(error).__name__, str(error))
        parts.append(f'<p style="color:{_BAD}">{escape(said)}</p>')
    parts += [_row(one) for one in picture.rows]
    parts.append(_axis(picture))
    told = words.count(len(entries), "event")
    earlier = f", {words.number(picture.earlier)} earlier rows left out" if picture.earlier else ""
    parts.append(f'<p style="opacity:.75">{told}{earlier}</p></div>')
    return "".join(parts)


def html_of_text(text: str) -> str:
    """Return a text as HTML."""
    return f"<p>{escape(text)}</p>"


def _row(row: Row) -> str:
    if not row.parts:
        return f'<div style="white-space:nowrap">{_label(row, row.took)}{_track(row.shapes)}</div>'
    inside = "".join(_row(one) for one in row.parts[:ROWS_OF_GROUP])
    done, bad, work, _ = row.progress or (0.0, 0.0, 0.0, 0.0)
    bars = "".join(
        f'<rect x="{_pc(x)}" width="{_pc(width)}" y="8" height="10" fill="{fill}"/>'
        for x, width, fill in (
            (0.0, done, COLOURS["b done"]),
            (done, bad, COLOURS["b bad"]),
            (done + bad, work, COLOURS["b work"]),
        )
    )
    told = f"{row.more}, which are in the events"
    more = f'<div style="opacity:.75">{escape(told)}</div>' if row.more else ""
    return (
        f'<details><summary style="white-space:nowrap">{_label(row, row.counts)}{_svg(bars)}</summary>'
        f"{inside}{more}</details>"
    )


def _label(row: Row, said: str) -> str:
    colour = f";color:{_BAD}" if row.tone == "failed" else ""
    name = escape(f"{row.name} {row.number}".strip())
    return (
        f'<span style="{_LABEL}{colour}" title="{escape(row.spoken or row.name)}">{name}</span>'
        f'<span style="{_TOOK}">{escape(said)}</span>'
    )


def _track(shapes: Iterable[Shape]) -> str:
    return _svg("".join(map(_shape, shapes)))


def _svg(inside: str) -> str:
    return (
        '<svg style="width:calc(100% - 23em);height:26px;vertical-align:middle;overflow:visible" '
        f'aria-hidden="true">{inside}</svg>'
    )


def _shape(one: Shape) -> str:
    x, to = _pc(one.x), _pc(one.x2 or one.x)
    match one.kind:
        case "rect":
            fill = COLOURS.get(one.cls, _LINE)
            width = _pc(max(one.x2 - one.x, 0.0))
            return (
                f'<rect x="{x}" width="{width}" y="8" height="10" fill="{fill}" stroke="{fill}" '
                'stroke-width="1"/>'
            )
        case "line" if one.cls.startswith("slot"):
            return (
                f'<line x1="{x}" x2="{to}" y1="13" y2="13" stroke="{_LINE}" stroke-width="7" '
                'stroke-dasharray="1.5 3.5"/>'
            )
        case "line":
            return f'<line x1="{x}" x2="{to}" y1="13" y2="13" stroke="{_LINE}" stroke-dasharray="3 3"/>'
        case "cap":
            return f'<line x1="{x}" x2="{x}" y1="8" y2="18" stroke="{_LINE}"/>'
        case "beat":
            return (
                f'<line x1="{x}" x2="{x}" y1="4" y2="22" stroke="currentColor" stroke-width="2">'
                f"<title>{escape(one.text)}</title></line>"
            )
        case "cross":
            return f'<text x="{x}" y="18" text-anchor="middle" fill="{_BAD}">\N{MULTIPLICATION SIGN}</text>'
        case "mark":
            return f'<circle cx="{x}" cy="13" r="4" fill="{_LINE}"/>'
        case _:
            anchor = "end" if one.end else "start"
            return (
                f'<text x="{x}" y="17" dx="{-8 if one.end else 8}" text-anchor="{anchor}" '
                f'fill="currentColor" font-size="12">{escape(one.text)}</text>'
            )


def _axis(picture: Picture) -> str:
    texts = "".join(
        f'<text x="{_pc(tick.x)}" y="14" fill="currentColor" font-size="11" opacity=".75">'
        f"{escape(tick.text)}</text>"
        for tick in picture.ticks
    )
    breaks = "".join(
        f'<text x="{_pc(one.x + one.width / 2)}" y="14" text-anchor="middle" fill="currentColor" '
        f'font-size="11" opacity=".75">{escape(words.span(one.lasted))}</text>'
        for one in picture.breaks
    )
    return (
        f'<div style="white-space:nowrap"><span style="{_LABEL}"></span><span style="{_TOOK}">UTC</span>'
        f"{_svg(texts + breaks)}</div>"
    )


def _pc(x: float) -> str:
    return f"{x:.2f}".rstrip("0").rstrip(".") + "%"
