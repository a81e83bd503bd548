"""BufferThread: the thread on which a buffer writes what is put into it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final


class BufferThread:
    """Calls `work` on one daemon thread, which is started when there is something to write. `changed`
    protects the buffer, and is notified when that has changed.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.changed: Final = threading.Condition()
        self.closed = False
        """Whether nothing is put in any more."""
        self._name: Final = name
        self._work: Final = work
        self._thread: threading.Thread | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it was started."""
        return self._thread is not None

    def wake(self) -> None:
        """Have it look what there is to write. With the lock held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        else:
            self.changed.notify_all()

    def close(self, timeout: float) -> None:
        """Have it write what is left, and wait for its end, for at most `timeout` seconds. Harmless if it was
        closed before.
        """
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
