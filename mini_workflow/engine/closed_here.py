"""ClosedHere: what has closed in this process a moment ago, so that its result is not read from the store."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from mini_workflow.engine.execution import Settled
from mini_workflow.engine.turn_data import Turn

MOST: Final = 1_000
"""Executions that are remembered. Our own bound."""

LARGEST: Final = 16 * 1024
"""Characters that the events of its last turn may take. Our own bound: 16 MiB for all of them."""

SECONDS: Final = 5.0
"""For so long. Meanwhile this process holds the execution, unless it has lost its lease without knowing:
then it would know as much as a store that is read a moment before the change. Our own bound."""


class ClosedHere:
    """The executions that have closed here last. Whoever leads the engine changes it; any thread may look."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self.ends: Final[OrderedDict[str, tuple[Settled, float]]] = OrderedDict()
        """The ends that are remembered, by id, however long ago they were, and until when they count."""

    def committed(self, turn: Turn) -> None:
        """Take up what a turn has made of its execution."""
        name = turn.head.execution_id
        is_end = turn.closing is not None and turn.head.closed_at is not None
        if is_end and sum(map(len, turn.commit.events)) <= LARGEST:
            self.ends[name] = (Settled(turn.head, turn.closing), self._seconds() + SECONDS)
            self.ends.move_to_end(name)
            if len(self.ends) > MOST:
                self.ends.popitem(last=False)
        else:
            self.ends.pop(name, None)

    def find(self, execution_id: str) -> Settled | None:
        """Return how the execution has ended, if that is remembered."""
        found = self.ends.get(execution_id)
        return found[0] if found is not None and self._seconds() < found[1] else None

    def clear(self) -> None:
        """Forget all: another process may have them now."""
        self.ends.clear()
