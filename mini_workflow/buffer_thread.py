"""BufferThread: the thread on which a buffer writes its contents."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final


class BufferThread:
    """Calls `work` on one daemon thread, which is started when there is something to write. The condition
    `changed` protects the buffer, and is notified when the buffer has changed.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.changed: Final = threading.Condition()
        self.closed = False
        """Whether the buffer is closed, so that nothing is added any more."""
        self._name: Final = name
        self._work: Final = work
        self._thread: threading.Thread | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    def wake(self) -> None:
        """Start or wake the thread, because the buffer has changed. Call it with the lock held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        else:
            self.changed.notify_all()

    def close(self, timeout: float) -> None:
        """Close the buffer, and wait at most `timeout` seconds until the rest is written and the thread has
        ended. May be called again.
        """
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
