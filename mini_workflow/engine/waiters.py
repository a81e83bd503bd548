"""Keep the callbacks of threads that wait for an execution to close or to become blocked."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mini_workflow.core.records import frozen
from mini_workflow.engine.execution import Settled


@frozen
class Changed:
    """Another process may have changed the execution: it is worth a look."""


@frozen
class Closed:
    """The runtime was closed before the execution."""


News = Settled | Changed | Closed
"""What somebody who waits for an execution is told."""

Told = Callable[[News], None]
"""Called once, on any thread; must not raise."""


class Waiters:
    """Callbacks by execution. Every method may be called on any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Told]] = {}
        self.entered: Callable[[], None] | None = None
        """Called whenever somebody begins to wait. Any thread; must not raise."""

    def __bool__(self) -> bool:
        """Return whether anybody waits."""
        return bool(self._waiting)

    def names(self) -> list[str]:
        """Return the executions that somebody waits for."""
        with self._lock:
            return list(self._waiting)

    def add(self, execution_id: str, told: Told) -> None:
        """Have `told` called when the execution settles."""
        with self._lock:
            self._waiting.setdefault(execution_id, []).append(told)
        if self.entered is not None:
            self.entered()

    def remove(self, execution_id: str, told: Told) -> None:
        """Do not call it any more; harmless if it was called."""
        with self._lock:
            waiting = self._waiting.get(execution_id, [])
            if told in waiting:
                waiting.remove(told)
                if not waiting:
                    del self._waiting[execution_id]

    def tell(self, execution_id: str, news: News) -> None:
        """Call everybody who waits for the execution."""
        if execution_id in self._waiting:
            with self._lock:
                waiting = self._waiting.pop(execution_id, [])
            for told in waiting:
                told(news)

    def tell_all(self, news: News) -> None:
        """Call everybody."""
        for name in self.names():
            self.tell(name, news)
