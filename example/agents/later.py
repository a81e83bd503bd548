"""Virtual time: the clock of this process is days ahead, as that of a machine which was started later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

DAY = 24 * 3600 * 1_000_000_000
"""Nanoseconds."""


@contextmanager
def later(days: int) -> Iterator[None]:
    """Have it be so many days later in this block, for everybody who asks for the time."""
    real = time.time_ns
    time.time_ns = lambda: real() + days * DAY
    try:
        yield
    finally:
        time.time_ns = real
