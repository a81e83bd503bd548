"""Share attempts between processes, which offer and take them in a table."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Sequence
from typing import Any, Final

from mini_workflow.ports import Clock
from mini_workflow.ports.shared_tasks import Key, SharedTask
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.process import served_by
from mini_workflow.stores.sqlite.connection import Connection
from mini_workflow.stores.sqlite.damage import OF_OWNER


class SQLiteSharedTasks:
    """Implements `SharedTasks`."""

    def __init__(
        self, connection: Connection, using: threading.RLock, holding: Ownership, clock: Clock
    ) -> None:
        self._connection = connection
        self._using = using
        self._holding = holding
        self._clock = clock

    def serve(self, workers: Collection[str]) -> None:
        """See `SharedTasks.serve`."""
        self._holding.serves = " ".join(sorted(workers))

    def served(self) -> set[str]:
        """See `SharedTasks.served`."""
        return served_by(self._rows(_SERVING), self._clock.now())

    def offer(self, tasks: Sequence[SharedTask]) -> None:
        """See `SharedTasks.offer`."""
        rows = [
            (t.seq, t.attempt, t.worker, t.body, t.heartbeat, t.execution_id, self._holding.lease)
            for t in tasks
        ]
        with self._using, self._connection as raw:
            for statement in _CLEAN:
                raw.execute(statement)
            raw.executemany(_OFFER, rows)

    def take(self, worker: str, limit: int) -> int:
        """See `SharedTasks.take`."""
        lease = self._holding.lease
        if lease is None or not self._rows(_FREE, (worker, 1)):
            return 0
        with self._using, self._connection as raw:
            found = raw.execute(_FREE, (worker, limit)).fetchall()
            taken = [raw.execute(_TAKE, (lease, number, lease)).rowcount for (number,) in found]
        return sum(taken)

    def taken(self) -> list[SharedTask]:
        """See `SharedTasks.taken`."""
        return self._tasks(_TAKEN, (self._holding.lease,))

    def hand_back(self, tasks: Sequence[SharedTask]) -> None:
        """See `SharedTasks.hand_back`."""
        self._change("taker = NULL", tasks)

    def beat(self, tasks: Sequence[SharedTask]) -> None:
        """See `SharedTasks.beat`."""
        self._change("taker = taker", tasks)

    def _change(self, what: str, tasks: Sequence[SharedTask]) -> None:
        with self._using, self._connection as raw:
            for task in tasks:
                number = _number_of(raw, task)
                if number is not None:
                    raw.execute(
                        f"UPDATE tasks SET {what}, heartbeat = ? WHERE number = ?",
                        (task.heartbeat, number),
                    )

    def settle(self, outcomes: Sequence[tuple[SharedTask, str]]) -> None:
        """See `SharedTasks.settle`."""
        with self._using, self._connection as raw:
            for task, body in outcomes:
                number = _number_of(raw, task)
                if number is None:
                    continue
                posted = raw.execute(_POST, (body, f"task {task.seq} {task.attempt}", number))
                raw.execute(_SETTLE, (posted.lastrowid, number))

    def lost(self) -> list[SharedTask]:
        """See `SharedTasks.lost`."""
        return self._tasks(_LOST, ())

    def cancel(self, execution_id: str, seq: int, reason: str) -> list[Key]:
        """See `SharedTasks.cancel`."""
        about = (execution_id, seq, self._holding.lease)
        if not self._rows(_TO_CANCEL, about):
            return []
        with self._using, self._connection as raw:
            dropped: list[Key] = []
            for number, attempt, taker in raw.execute(_TO_CANCEL, about).fetchall():
                if taker is None:
                    raw.execute("DELETE FROM tasks WHERE number = ?", (number,))
                    dropped.append((execution_id, seq, attempt))
                else:
                    raw.execute("UPDATE tasks SET cancelled = ? WHERE number = ?", (reason, number))
        return dropped

    def kept(self, key: Key | None = None) -> list[Key]:
        """See `SharedTasks.kept`."""
        if key is None:
            return [tuple(row) for row in self._rows(_KEPT, (self._holding.lease,))]
        return [tuple(row) for row in self._rows(_KEPT_ONE, (self._holding.lease, *key))]

    def waiting(self, execution_id: str | None = None) -> list[tuple[str, str]]:
        """See `SharedTasks.waiting`."""
        return [tuple(row) for row in self._rows(_WAITING, (execution_id, execution_id))]

    def _tasks(self, sql: str, parameters: Sequence[Any]) -> list[SharedTask]:
        return [SharedTask(*row) for row in self._rows(sql, parameters)]

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._using:
            return self._connection.rows(sql, parameters)


def _number_of(raw: sqlite3.Connection, task: SharedTask) -> int | None:
    """Return the number of an attempt's row, if it is still with that taker and not settled."""
    row = raw.execute(_FIND, (*task.key, task.taker)).fetchone()
    return None if row is None else row[0]


_SERVING: Final = f"SELECT id, {OF_OWNER}, CAST(serves AS TEXT) FROM owners"
# Settled attempts are kept until their message is taken, waiting ones until their execution closes.
_CLEAN: Final = (
    """
    DELETE FROM tasks
    WHERE message IS NOT NULL AND NOT EXISTS (SELECT 1 FROM mailbox WHERE number = message)
    """,
    """
    DELETE FROM tasks
    WHERE message IS NULL AND taker IS NULL
        AND EXISTS (SELECT 1 FROM executions WHERE key = execution AND closed_at IS NOT NULL)
    """,
)
_OFFER: Final = """
    INSERT INTO tasks (execution, seq, attempt, worker, body, heartbeat)
    SELECT executions.key, ?, ?, ?, ?, ?
    FROM executions JOIN partitions ON partitions.id = executions.partition
    WHERE executions.id = ? AND partitions.owner = ? AND executions.closed_at IS NULL
    ON CONFLICT (execution, seq, attempt) DO NOTHING
"""
_FREE: Final = """
    SELECT tasks.number FROM tasks JOIN executions ON executions.key = tasks.execution
    WHERE tasks.worker = ? AND tasks.taker IS NULL AND tasks.message IS NULL
        AND executions.closed_at IS NULL
    ORDER BY tasks.number LIMIT ?
"""
_TAKE: Final = """
    UPDATE tasks SET taker = ?
    WHERE number = ? AND EXISTS (SELECT 1 FROM owners WHERE id = ?)
"""
_FIND: Final = """
    SELECT tasks.number FROM tasks JOIN executions ON executions.key = tasks.execution
    WHERE executions.id = ? AND tasks.seq = ? AND tasks.attempt = ? AND tasks.taker = ?
        AND tasks.message IS NULL
"""
_POST: Final = """
    INSERT INTO mailbox (execution, body, key) SELECT execution, ?, ? FROM tasks WHERE number = ?
"""
_SETTLE: Final = "UPDATE tasks SET message = ?, body = '' WHERE number = ?"
_TASK: Final = """
    SELECT executions.id, tasks.seq, tasks.attempt, tasks.worker, tasks.body, tasks.heartbeat,
        tasks.taker, tasks.cancelled
    FROM tasks CROSS JOIN executions ON executions.key = tasks.execution
    WHERE tasks.message IS NULL AND tasks.taker
"""
_TAKEN: Final = f"{_TASK} = ? ORDER BY tasks.number"
_LOST: Final = f"{_TASK} NOT IN (SELECT id FROM owners) ORDER BY tasks.number"
_TO_CANCEL: Final = """
    SELECT tasks.number, tasks.attempt, tasks.taker
    FROM executions
        JOIN partitions ON partitions.id = executions.partition
        JOIN tasks ON tasks.execution = executions.key
    WHERE executions.id = ? AND tasks.seq = ? AND partitions.owner = ? AND tasks.message IS NULL
        AND tasks.cancelled IS NULL
"""
_KEPT: Final = """
    SELECT executions.id, tasks.seq, tasks.attempt
    FROM tasks
        CROSS JOIN executions ON executions.key = tasks.execution
        CROSS JOIN partitions ON partitions.id = executions.partition
    WHERE partitions.owner = ? AND executions.closed_at IS NULL AND (tasks.message IS NULL
        OR EXISTS (SELECT 1 FROM mailbox WHERE mailbox.number = tasks.message))
"""
_KEPT_ONE: Final = f"{_KEPT} AND executions.id = ? AND tasks.seq = ? AND tasks.attempt = ?"
_WAITING: Final = """
    SELECT DISTINCT executions.id, tasks.worker
    FROM tasks CROSS JOIN executions ON executions.key = tasks.execution
    WHERE tasks.taker IS NULL AND tasks.message IS NULL AND executions.closed_at IS NULL
        AND (? IS NULL OR executions.id = ?)
    ORDER BY executions.id, tasks.worker LIMIT 1000
"""
