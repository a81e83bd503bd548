"""Keep live executions in memory, fenced by the length of their history; the oldest go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mini_workflow.core.records import mutable
from mini_workflow.ports import Head

if TYPE_CHECKING:
    from mini_workflow.core.run import Run

DEFAULT_SIZE: Final = 4096
"""How many live executions are kept: about 5 KiB each while they wait, so 20 MiB. Our own bound."""


@mutable
class Live:
    """A live run with what the store has of it: the head, the number of committed events, and the
    tries that are counted.
    """

    run: Run
    head: Head
    length: int
    tries: int = 0


def _close(run: Run) -> None:
    run.close()


class Cache:
    """Live executions by id, least recently used first. `close` drops the run of one that goes."""

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        self.close: Callable[[Run], None] = _close
        self._size = size
        self._live: OrderedDict[str, Live] = OrderedDict()
        self.get: Final[Callable[[str], Live | None]] = self._live.get
        """Returns the live execution, or None."""

    def __len__(self) -> int:
        return len(self._live)

    def has_running(self, execution_id: str) -> bool:
        """Return whether the execution is there and has not ended, and change nothing. Any thread."""
        live = self._live.get(execution_id)
        return live is not None and live.head.status == "running"

    def put(self, live: Live) -> None:
        """Keep a live execution, which now counts as the most recently used; the least recently used one
        may have to go.
        """
        self._live[live.head.execution_id] = live
        self._live.move_to_end(live.head.execution_id)
        while len(self._live) > self._size:
            _, oldest = self._live.popitem(last=False)
            self.close(oldest.run)

    def drop(self, execution_id: str) -> None:
        """Evict one; harmless if it is not there."""
        live = self._live.pop(execution_id, None)
        if live is not None:
            self.close(live.run)

    def drop_unless(self, execution_id: str, length: int) -> None:
        """Evict one unless it has that many events."""
        live = self._live.get(execution_id)
        if live is not None and live.length != length:
            self.drop(execution_id)

    def clear(self) -> None:
        """Evict all."""
        while self._live:
            _, live = self._live.popitem(last=False)
            self.close(live.run)
