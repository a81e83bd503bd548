"""Write the last heartbeats of all running attempts to the store, together in one write."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from mini_workflow.errors import StoreError
from mini_workflow.ports.heartbeats import Heartbeat, HeartbeatStore
from mini_workflow.threads import BufferThread

log = logging.getLogger("mini_workflow.engine")

Key = tuple[str, int, int]
"""An attempt: execution id, number of the task, attempt."""

PAUSE: Final = 0.5
"""Seconds between two writes. Our own bound: at most two writes a second, for all attempts together."""


class HeartbeatBuffer:
    """Writes heartbeats on one thread, which is started with the first one. A write that fails is not
    repeated, since nothing depends on it; the next heartbeat is written again.
    """

    def __init__(
        self, store: HeartbeatStore, now: Callable[[], int], *, pause: float = PAUSE
    ) -> None:
        """`now` returns milliseconds since the epoch; `pause` are the seconds between two writes."""
        self._store: Final = store
        self._now: Final = now
        self._pause: Final = pause
        self._thread: Final = BufferThread("mini-workflow-kept-heartbeats", self._run)
        self._changed: Final = self._thread.changed
        self._beats: dict[Key, Heartbeat] = {}
        self._over: set[Key] = set()
        self._written: Final[set[Key]] = set()
        """The attempts whose heartbeats are in the store."""

    def heard(self, key: Key, details: str | None) -> None:
        """Take a heartbeat. Callable on any thread; never blocks."""
        with self._changed:
            if self._thread.closed:
                return
            self._beats[key] = Heartbeat(*key, self._now(), details)
            self._thread.wake()

    def over(self, key: Key) -> None:
        """Forget the heartbeats of an attempt that has ended. Callable on any thread; never blocks."""
        if key not in self._beats and key not in self._written:
            return
        with self._changed:
            self._beats.pop(key, None)
            if key in self._written:
                self._over.add(key)
                self._changed.notify_all()

    def close(self, timeout: float) -> None:
        """Write the rest and end the thread. Wait at most `timeout` seconds for that."""
        self._thread.close(timeout)

    def _run(self) -> None:
        failing = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._beats or self._over or self._thread.closed)
                beats, self._beats = self._beats, {}
                over, self._over = self._over, set()
                self._written.update(beats)
                self._written.difference_update(over)
            if not beats and not over:
                return
            try:
                self._store.keep(list(beats.values()), over)
                failing = False
            except StoreError as error:
                if not failing:
                    log.warning(
                        "the heartbeats of running attempts cannot be stored for other processes: %s",
                        error,
                    )
                failing = True
            except Exception:
                log.exception(
                    "the heartbeats of running attempts cannot be stored for other processes"
                )
            with self._changed:
                self._changed.wait_for(lambda: self._thread.closed, self._pause)
