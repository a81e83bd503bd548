"""Read the machine's own clock."""

from __future__ import annotations

import time


class SystemClock:
    """Implements `Clock` by the operating system's time."""

    def now(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000
