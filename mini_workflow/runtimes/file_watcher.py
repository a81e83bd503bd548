"""FileWatcher: wakes callers that wait for a change of a file that other processes write."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Final

from mini_workflow.errors import StoreError
from mini_workflow.threads import has_begun, join_thread, start_thread

LOOK_AGAIN: Final = 0.05
"""Seconds between two looks at the file while a caller waits for a change in it. Our own choice: SQLite does
not report the commits of other processes, and a look takes microseconds."""

Wake = Callable[[], None]
"""Called on the watcher's thread, perhaps more than once; must not block nor raise."""


class FileWatcher:
    """One thread that looks at the file for all callers that wait; there is none while none waits.

    A caller that is woken reads the file itself, and finds its errors, if there are any.

    Args:
        version: returns a number that changes with the file.
        ended: returns those of the given executions that do not run any more.
        pause: seconds between two looks at the version.
    """

    def __init__(
        self,
        version: Callable[[], int],
        ended: Callable[[Sequence[str]], list[str]],
        *,
        pause: float = LOOK_AGAIN,
    ) -> None:
        self._version = version
        self._ended = ended
        self._pause = pause
        self._lock = threading.Lock()
        self._for_end: dict[str, list[Wake]] = {}
        self._for_change: dict[str, list[Wake]] = {}
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def until_end(self, execution_id: str, wake: Wake) -> contextlib.AbstractContextManager[None]:
        """Return a `with` block in which `wake` is called when the execution does not run any more."""
        return self._waiting(self._for_end, execution_id, wake)

    def until_change(
        self, execution_id: str, wake: Wake
    ) -> contextlib.AbstractContextManager[None]:
        """Return a `with` block in which `wake` is called after each change of the file."""
        return self._waiting(self._for_change, execution_id, wake)

    def close(self) -> None:
        """Wake all callers, and end the thread. Harmless if it was closed before."""
        self._closing.set()
        with self._lock:  # under which the thread is made and started: not in between
            thread = self._thread
        join_thread(thread)
        self._wake_all()

    @contextlib.contextmanager
    def _waiting(
        self, waiting: dict[str, list[Wake]], execution_id: str, wake: Wake
    ) -> Generator[None]:
        with self._lock:
            if not has_begun(self._thread) and not self._closing.is_set():
                self._thread = threading.Thread(
                    target=self._watch, name="mini-workflow-file-watcher", daemon=True
                )
                start_thread(self._thread)
            waiting.setdefault(execution_id, []).append(wake)
        try:
            yield
        finally:
            with self._lock:
                wakes = waiting[execution_id]
                wakes.remove(wake)
                if not wakes:
                    del waiting[execution_id]

    def _watch(self) -> None:
        seen: int | None = None
        while not self._closing.is_set():
            with self._lock:
                if not self._for_end and not self._for_change:
                    self._thread = None
                    return
            try:
                version = self._version()
                if version != seen:
                    self._look()
                    seen = version
            except StoreError:
                self._wake_all()
            self._closing.wait(self._pause)

    def _look(self) -> None:
        with self._lock:
            names = list(self._for_end)
            wakes = [wake for each in self._for_change.values() for wake in each]
        ended = self._ended(names) if names else []
        with self._lock:
            wakes += [wake for name in ended for wake in self._for_end.get(name, ())]
        for wake in wakes:
            wake()

    def _wake_all(self) -> None:
        with self._lock:
            waiting = [*self._for_end.values(), *self._for_change.values()]
            wakes = [wake for each in waiting for wake in each]
        for wake in wakes:
            wake()
