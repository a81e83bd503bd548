"""Heartbeats: sends the heartbeats of one attempt from its worker process to the engine, one per interval."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from mini_workflow.ports import TaskRequest

INTERVAL: Final = 0.1
"""Seconds between two messages about the heartbeats of one attempt."""


def interval(request: TaskRequest) -> float:
    """Return the seconds that a heartbeat of the attempt may wait before it is sent."""
    silence = request.heartbeat_timeout
    return INTERVAL if silence is None else min(INTERVAL, silence / 4000)


class Later(Protocol):
    """Calls `flush` of heartbeats at a time of `time.monotonic`: a Deadlines."""

    def watch(self, item: Heartbeats, at: float) -> None:
        """Call `item.flush` at the time `at`."""
        ...

    def forget(self, item: Heartbeats) -> None:
        """Do not call `item.flush` any more."""
        ...


class Heartbeats:
    """The heartbeats of one attempt. The first one is sent at once; those that follow within the interval
    are sent at its end, as one.

    `send` sends the details of a heartbeat.
    """

    __slots__ = ("_details", "_interval", "_later", "_lock", "_next_at", "_send", "_waiting")

    def __init__(
        self, request: TaskRequest, send: Callable[[str | None], None], later: Later
    ) -> None:
        self._interval: Final = interval(request)
        self._send: Callable[[str | None], None] | None = send
        self._later: Final = later
        # Held while sending, so that older details never arrive behind newer ones.
        self._lock: Final = threading.Lock()
        self._details: str | None = None
        self._next_at = 0.0
        self._waiting = False

    def beat(self, details: str | None) -> None:
        """Take in a heartbeat. Any thread."""
        with self._lock:
            self._details = details
            now = time.monotonic()
            if now >= self._next_at:
                self._send_now(now)
            elif not self._waiting and self._send is not None:
                self._waiting = True
                self._later.watch(self, self._next_at)

    def flush(self) -> None:
        """Send the last heartbeat, if one waits for the end of the interval."""
        with self._lock:
            if self._waiting:
                self._send_now(time.monotonic())

    def stop(self) -> None:
        """Send no heartbeat any more: the attempt has ended."""
        with self._lock:
            self._send = None
            if self._waiting:
                self._waiting = False
                self._later.forget(self)

    def _send_now(self, now: float) -> None:
        self._waiting = False
        self._next_at = now + self._interval
        if self._send is not None:
            self._send(self._details)
