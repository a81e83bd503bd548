"""DatabaseClock: the time of the server, as this process knows it."""

from __future__ import annotations

import time


class DatabaseClock:
    """Implements `Clock` by the local monotonic clock and its distance to the server's clock.

    So all processes have the same time, also if the clocks of their machines differ. The distance is
    measured when the store is opened, and whenever the lease is renewed.
    """

    def __init__(self) -> None:
        self._offset = time.time_ns() // 1_000_000 - _steady()
        self._is_set = False
        self.error = 0
        """The clock of this machine minus that of the server when it was set last, in milliseconds."""

    def now(self) -> int:
        """Return milliseconds since the epoch."""
        return _steady() + self._offset

    def set(self, there: int, asked: int, answered: int) -> None:
        """Set the clock to the server's time, read between two times of `steady`, in milliseconds.

        The clock stays as it is if the answer may mean that, and is moved as little as possible otherwise. So
        an answer that was long under way, such as behind a new connection, does not put it ahead.
        """
        least, most = there - answered, there - asked
        if self._is_set:
            self._offset = min(max(self._offset, least), most)
        else:
            self._offset, self._is_set = (least + most) // 2, True
        self.error = time.time_ns() // 1_000_000 - self.now()

    def steady(self) -> int:
        """Return milliseconds of the local monotonic clock."""
        return _steady()


def _steady() -> int:
    return time.monotonic_ns() // 1_000_000
