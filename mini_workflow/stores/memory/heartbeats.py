"""Keep the heartbeats of tasks in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

from mini_workflow.ports import Head
from mini_workflow.ports.heartbeats import Heartbeat

HeartbeatTable = dict[str, dict[int, Heartbeat]]
"""The last heartbeats, by execution and number of the task."""


class MemoryHeartbeats:
    """Implements `HeartbeatStore` over a table. `opened` returns the table with its lock held.

    `head` returns the head of an execution, and is called with the lock held.
    """

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[HeartbeatTable]],
        head: Callable[[str], Head | None],
    ) -> None:
        self._opened = opened
        self._head = head

    def keep(self, beats: Sequence[Heartbeat], over: Collection[tuple[str, int, int]]) -> None:
        """See `HeartbeatStore.keep`."""
        with self._opened() as table:
            for beat in beats:
                if self._head(beat.execution_id) is not None:
                    found = table.setdefault(beat.execution_id, {})
                    known = found.get(beat.seq)
                    if known is None or known.attempt <= beat.attempt:
                        found[beat.seq] = beat
            for name, seq, attempt in over:
                known = table.get(name, {}).get(seq)
                if known is not None and known.attempt <= attempt:
                    del table[name][seq]

    def last(self, execution_id: str, seqs: Sequence[int]) -> list[Heartbeat]:
        """See `HeartbeatStore.last`."""
        with self._opened() as table:
            found = table.get(execution_id, {})
            return [found[seq] for seq in seqs if seq in found]
