"""Convert milliseconds since the epoch to times in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, overload

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)


@overload
def instant(at: int) -> datetime: ...
@overload
def instant(at: int | None) -> datetime | None: ...
def instant(at: int | None) -> datetime | None:
    """Return the time in UTC, or the first or last possible datetime beyond those; None for None."""
    if at is None:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=at)
    except OverflowError:  # a store may be asked to wake an execution at any time
        return _LATEST if at > 0 else _EARLIEST


def duration(took: timedelta | None) -> str:
    """Return a duration in its two largest units; an empty text for None."""
    if took is None:
        return ""
    seconds = took.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
