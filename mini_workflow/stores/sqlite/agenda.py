"""Find executions that are due among those that this owner holds. Damaged rows are left out."""

from __future__ import annotations

from heapq import merge
from itertools import islice
from typing import Any

from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.sqlite.connection import Connection
from mini_workflow.stores.sqlite.damage import SOUND


class SQLiteAgenda:
    """Implements `Agenda`.

    Each partition is asked on its own, so that the index answers in order and nothing is sorted.
    """

    def __init__(self, writer: Connection, holding: Ownership) -> None:
        self._writer = writer
        self._holding = holding

    def due(self, now: int, limit: int) -> list[str]:
        """See `Agenda.due`."""
        return [name for _, name in self._merged(_DUE, now, limit=limit)]

    def next_wake(self) -> int | None:
        """See `Agenda.next_wake`."""
        earliest = [
            wake_at
            for partition in self._holding.partitions
            for (wake_at,) in self._writer.rows(_NEXT_WAKE, (partition,))
        ]
        return min(earliest, default=None)

    def busy(self, after: str, limit: int) -> list[str]:
        """See `Agenda.busy`."""
        return [name for (name,) in self._merged(_BUSY, after, limit=limit)]

    def blocked(self, kind: str, after: str, limit: int) -> list[str]:
        """See `Agenda.blocked`."""
        return [name for (name,) in self._merged(_BLOCKED, kind, after, limit=limit)]

    def _merged(self, sql: str, *arguments: object, limit: int) -> list[Any]:
        found = [
            self._writer.rows(sql, (partition, *arguments, limit))
            for partition in self._holding.partitions
        ]
        return list(islice(merge(*found), limit))


_DUE = f"""
    SELECT wake_at, id FROM executions
    WHERE partition = ? AND wake_at IS NOT NULL AND wake_at <= ? AND {SOUND}
    ORDER BY wake_at LIMIT ?
"""
_NEXT_WAKE = f"""
    SELECT wake_at FROM executions
    WHERE partition = ? AND wake_at IS NOT NULL AND wake_at <= 0x7fffffffffffffff AND {SOUND}
    ORDER BY wake_at LIMIT 1
"""
"""Texts and blobs are larger than every number to SQLite."""
_BUSY = f"""
    SELECT id FROM executions
    WHERE partition = ? AND busy = 1 AND id > ? AND {SOUND} ORDER BY id LIMIT ?
"""
_BLOCKED = f"""
    SELECT id FROM executions
    WHERE partition = ? AND status = 'blocked' AND blocked_kind = ? AND id > ? AND {SOUND}
    ORDER BY id LIMIT ?
"""
