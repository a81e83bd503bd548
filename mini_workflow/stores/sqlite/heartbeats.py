"""Keep the last heartbeats of tasks in a table."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Sequence
from typing import Final

from mini_workflow.ports.heartbeats import Heartbeat
from mini_workflow.stores.sqlite.connection import Connection


class SQLiteHeartbeats:
    """Implements `HeartbeatStore`."""

    def __init__(self, connection: Connection, using: threading.RLock) -> None:
        self._connection = connection
        self._using = using

    def keep(self, beats: Sequence[Heartbeat], over: Collection[tuple[str, int, int]]) -> None:
        """See `HeartbeatStore.keep`. One transaction for all of them."""
        rows = [(b.seq, b.attempt, b.at, b.details, b.execution_id) for b in beats]
        with self._using, self._connection as raw:
            raw.executemany(_KEEP, rows)
            raw.executemany(_FORGET, [(seq, attempt, name) for name, seq, attempt in over])

    def last(self, execution_id: str, seqs: Sequence[int]) -> list[Heartbeat]:
        """See `HeartbeatStore.last`."""
        with self._using:
            rows = self._connection.rows(_LAST, (json.dumps(list(seqs)), execution_id))
        return [Heartbeat(execution_id, *row) for row in rows]


_KEEP: Final = """
    INSERT INTO heartbeats (execution, seq, attempt, at, details)
    SELECT key, ?, ?, ?, ? FROM executions WHERE id = ?
    ON CONFLICT (execution, seq) DO UPDATE
        SET attempt = excluded.attempt, at = excluded.at, details = excluded.details
        WHERE excluded.attempt >= heartbeats.attempt
"""
_FORGET: Final = """
    DELETE FROM heartbeats
    WHERE seq = ? AND attempt <= ? AND execution = (SELECT key FROM executions WHERE id = ?)
"""
_LAST: Final = """
    SELECT heartbeats.seq, heartbeats.attempt, heartbeats.at, heartbeats.details
    FROM executions CROSS JOIN json_each(?) AS wanted
        JOIN heartbeats ON heartbeats.execution = executions.key AND heartbeats.seq = wanted.value
    WHERE executions.id = ?
"""
