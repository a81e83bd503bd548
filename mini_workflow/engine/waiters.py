"""Keep the callbacks of threads that wait for an execution to close or to become blocked."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mini_workflow.core.records import frozen
from mini_workflow.engine.execution import Settled


@frozen
class Changed:
    """The news that the execution may have changed, so that the caller has to look again."""


@frozen
class Closed:
    """The news that the runtime was closed before the execution."""


News = Settled | Changed | Closed
"""The news for a caller that waits for an execution."""

Told = Callable[[News], None]
"""Called once, on any thread; must not raise."""


class Waiters:
    """Callbacks by execution. Every method may be called on any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come in between
        self._waiting: dict[str, list[Told]] = {}
        self.entered: Callable[[], None] | None = None
        """Called whenever a caller begins to wait. Any thread; must not raise."""

    def __bool__(self) -> bool:
        """Return whether a caller waits."""
        return bool(self._waiting)

    def names(self) -> list[str]:
        """Return the ids of the executions that callers wait for."""
        with self._lock:
            return list(self._waiting)

    def add(self, execution_id: str, told: Told) -> None:
        """Have `told` called, once, with the next news of the execution."""
        with self._lock:
            self._waiting.setdefault(execution_id, []).append(told)
        if self.entered is not None:
            self.entered()

    def remove(self, execution_id: str, told: Told) -> None:
        """Do not call `told` any more; harmless if it was called."""
        with self._lock:
            waiting = self._waiting.get(execution_id, [])
            if told in waiting:
                waiting.remove(told)
                if not waiting:
                    del self._waiting[execution_id]

    def tell(self, execution_id: str, news: News) -> None:
        """Call all callbacks of the execution."""
        if execution_id in self._waiting:
            with self._lock:
                waiting = self._waiting.pop(execution_id, [])
            for told in waiting:
                told(news)

    def tell_all(self, news: News) -> None:
        """Call all callbacks of all executions."""
        for name in self.names():
            self.tell(name, news)
