"""How long tests wait. No test waits for time to pass: it waits for something, and gives up at last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

WAIT: Final = 120
"""Seconds after which a test gives up waiting, on a machine that is busy. The only deadline there is:
below the time that pytest gives to a test, and far above what anything takes.
"""


def eventually(look: Callable[[], T | None], *, every: float = 0.01) -> T:
    """What a look finds at last, which is true; for what cannot be waited for otherwise."""
    ends = time.monotonic() + WAIT
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < ends, f"still {found!r} after {WAIT} s"
        threading.Event().wait(every)
