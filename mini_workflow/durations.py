"""Convert durations: seconds and timedeltas to whole milliseconds, as histories contain them."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from mini_workflow.errors import UsageError

MAXIMUM_DURATION: Final = 100 * 366 * 24 * 3600 * 1000
"""Longest timer in milliseconds: a hundred years. Our own bound against mistaken units."""


def seconds(duration: float | timedelta) -> float:
    """Return a duration in seconds. Raises UsageError if it is neither a number nor a timedelta."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    # Not all callers are type-checked, and Python takes True as a number.
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{duration!r} is not a duration: give seconds or a timedelta")
    try:
        return float(duration)
    except OverflowError as error:
        raise UsageError(f"{str(duration)[:20]}... seconds are too many for a float") from error


def milliseconds(duration: float) -> int:
    """Return seconds as whole milliseconds, rounded up, so that nothing ends early.

    A duration within half a microsecond of a whole number counts as that number, since sums of floats
    differ by that much. Raises UsageError for NaN and infinity.
    """
    try:
        return -(-round(duration * 1_000_000) // 1000)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{duration!r} is not a number of seconds") from error


def limited(what: str, which: str, limit: float | timedelta | None) -> int | None:
    """Return a time limit (seconds or a timedelta) as milliseconds; None if there is none.

    Raises UsageError, which names the call `what` and the option `which`, unless the limit is more than
    0 seconds.
    """
    if limit is None:
        return None
    wait = milliseconds(seconds(limit))
    if wait <= 0:
        raise UsageError(f"{what}: {which}={limit!r} must be more than 0 seconds")
    return wait
