"""Words: times, spans and numbers as the pages write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def span(milliseconds: float) -> str:
    """Return a span in its two largest units."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for (size, unit), (smaller, lesser) in pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {lesser}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def ago(then: datetime, now: datetime) -> str:
    """Return a time relative to now: how long ago it was, or in how long it will be."""
    between = (now - then) / timedelta(milliseconds=1)
    if between < 0:
        return f"in {span(-between)}"
    return "just now" if between < 1000 else f"{_coarse(between)} ago"


def _coarse(milliseconds: float) -> str:
    """Return a span in its largest unit."""
    text = span(milliseconds).split()
    return f"{round(float(text[0]))} {text[1]}"


def number(value: int) -> str:
    """Return a number with separators."""
    return f"{value:,}"


def size(count: int) -> str:
    """Return a number of bytes."""
    if count < 1024:
        return f"{count} B"
    kilo = count / 1024
    return f"{kilo:.3g} KB" if kilo < 1024 else f"{kilo / 1024:.3g} MB"


def utc(at: int | datetime) -> datetime:
    """Return milliseconds since the epoch, or a time, as a time in UTC."""
    return (
        at.astimezone(UTC) if isinstance(at, datetime) else datetime.fromtimestamp(at / 1000, UTC)
    )


def count(value: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{number(value)} {noun if value == 1 else plural or noun + 's'}"
