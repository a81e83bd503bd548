"""Start threads, where the system may refuse another one; and keep one on which a buffer is written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from mini_workflow.errors import MiniWorkflowError

TRY_AGAIN: Final = 1.0
"""Seconds after which what could not be started is tried again. Our own bound."""


class NoThread(MiniWorkflowError, RuntimeError):
    """The system lets this process start no other thread now. It may later, when others have ended."""


def start_thread(thread: threading.Thread) -> None:
    """Start a thread. Raises NoThread; it has not begun then, and another one may be tried later."""
    try:
        thread.start()
    except RuntimeError as error:
        raise NoThread(
            f"thread {thread.name!r} could not be started: {error}. Let the process have more threads "
            "(ulimit -u, or the limit of its container), or run fewer processes"
        ) from error


def has_begun(thread: threading.Thread | None) -> bool:
    """Return whether there is such a thread, and it was started."""
    return thread is not None and thread.ident is not None


def join_thread(thread: threading.Thread | None, timeout: float | None = None) -> None:
    """Wait, at most `timeout` seconds, until a thread has ended. One that never began, and the calling one,
    are not waited for.
    """
    if thread is not None and thread.ident is not None and thread is not threading.current_thread():
        thread.join(timeout)


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
        return has_begun(self._thread)

    def wake(self) -> None:
        """Start or wake the thread, because the buffer has changed. Raises NoThread. With the lock held."""
        if not has_begun(self._thread):
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            start_thread(self._thread)
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
        join_thread(thread, timeout)
