"""A clock that stands still until it is told otherwise."""

from __future__ import annotations


class ManualClock:
    """Implements the port `Clock`. All times are whole milliseconds since the epoch."""

    def __init__(self, start: int = 0) -> None:
        self._now = start

    def now(self) -> int:
        """Return the time it was last set or advanced to."""
        return self._now

    def advance(self, milliseconds: int) -> None:
        """Move on; a negative number moves back."""
        self._now += milliseconds

    def set(self, now: int) -> None:
        """Jump to a time."""
        self._now = now
