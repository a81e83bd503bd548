"""Find executions that are due among those that this owner holds: one query each."""

from __future__ import annotations

from typing import Final

from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.postgres.arrays import numbers
from mini_workflow.stores.postgres.connection import Connection
from mini_workflow.stores.postgres.fence import Fence


class PostgresAgenda:
    """Implements `Agenda`. Each partition is asked on its own, so that an index answers in order."""

    def __init__(self, writer: Connection, holding: Ownership) -> None:
        self._writer = writer
        self._holding = holding
        self._fence: Final = Fence(writer, holding)

    def due(self, now: int, limit: int) -> list[str]:
        """See `Agenda.due`."""
        self._fence.settle()  # after a commit that was done and raised, the due executions are others
        return self._names(_DUE, now, limit, limit)

    def next_wake(self) -> int | None:
        """See `Agenda.next_wake`."""
        row = self._writer.row(_NEXT_WAKE, (numbers(self._holding.partitions),))
        return None if row is None else row[0]

    def busy(self, after: str, limit: int) -> list[str]:
        """See `Agenda.busy`."""
        return self._names(_BUSY, after, limit, limit)

    def blocked(self, kind: str, after: str, limit: int) -> list[str]:
        """See `Agenda.blocked`."""
        return self._names(_BLOCKED, kind, after, limit, limit)

    def _names(self, sql: str, *arguments: object) -> list[str]:
        rows = self._writer.rows(sql, (numbers(self._holding.partitions), *arguments))
        return [name for name, *_ in rows]


_EACH: Final = "FROM unnest(%s::bigint[]) AS held (partition) CROSS JOIN LATERAL"
_DUE: Final = f"""
    SELECT one.id, one.wake_at {_EACH} (
        SELECT x.id, x.wake_at FROM @executions AS x
        WHERE x.partition = held.partition AND x.wake_at IS NOT NULL AND x.wake_at <= %s
        ORDER BY x.wake_at LIMIT %s
    ) AS one ORDER BY one.wake_at LIMIT %s
"""
_NEXT_WAKE: Final = f"""
    SELECT min(one.wake_at) {_EACH} (
        SELECT x.wake_at FROM @executions AS x
        WHERE x.partition = held.partition AND x.wake_at IS NOT NULL
        ORDER BY x.wake_at LIMIT 1
    ) AS one
"""
_BUSY: Final = f"""
    SELECT one.id {_EACH} (
        SELECT x.id FROM @executions AS x
        WHERE x.partition = held.partition AND x.busy AND x.id > %s ORDER BY x.id LIMIT %s
    ) AS one ORDER BY one.id LIMIT %s
"""
_BLOCKED: Final = f"""
    SELECT one.id {_EACH} (
        SELECT x.id FROM @executions AS x
        WHERE x.partition = held.partition AND x.status = 'blocked' AND x.blocked_kind = %s
            AND x.id > %s
        ORDER BY x.id LIMIT %s
    ) AS one ORDER BY one.id LIMIT %s
"""
