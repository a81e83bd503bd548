"""DatabaseClock: the time of the server, as this process knows it."""

from __future__ import annotations

import time


class DatabaseClock:
    """Implements `Clock`: the local clock that never jumps, and how far the server's is from it.

    So all processes agree on what time it is, whatever the clocks of their machines say. It is set when
    the store is opened and whenever the lease is renewed.
    """

    def __init__(self) -> None:
        self._offset = time.time_ns() // 1_000_000 - _steady()
        self.error = 0
        """By how many milliseconds the clock of this machine differed from the server's when it was
        set last."""

    def now(self) -> int:
        """Return milliseconds since the epoch."""
        return _steady() + self._offset

    def set(self, there: int, asked: int, answered: int) -> None:
        """Take the server's time, of between when it was asked and when it has answered, both as
        `steady` says.
        """
        self._offset = there - (asked + answered) // 2
        self.error = time.time_ns() // 1_000_000 - self.now()

    def steady(self) -> int:
        """Return milliseconds of the local clock that never jumps."""
        return _steady()


def _steady() -> int:
    return time.monotonic_ns() // 1_000_000
