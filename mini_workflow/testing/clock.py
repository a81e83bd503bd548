"""A clock that stands still until a test advances it."""

from __future__ import annotations


class ManualClock:
    """A `Clock` for tests. All times are whole milliseconds since the epoch."""

    def __init__(self, start: int = 0) -> None:
        self._now = start

    def now(self) -> int:
        """Return the time to which the clock was last set or advanced."""
        return self._now

    def advance(self, milliseconds: int) -> None:
        """Move the clock on; a negative number moves it back."""
        self._now += milliseconds

    def set(self, now: int) -> None:
        """Set the clock to a time."""
        self._now = now
