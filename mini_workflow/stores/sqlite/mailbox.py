"""Keep messages to executions, sent by any process."""

from __future__ import annotations

import threading

from mini_workflow.errors import ExecutionNotFound
from mini_workflow.ports import MailboxEntry
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.sqlite.connection import Connection


class SQLiteMailbox:
    """Implements `Mailbox`."""

    def __init__(
        self, writer: Connection, reader: Connection, reading: threading.RLock, holding: Ownership
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._reading = reading
        self._holding = holding

    def post(self, execution_id: str, body: str, key: str) -> None:
        """See `Mailbox.post`."""
        with self._reading, self._reader as raw:
            row = raw.execute("SELECT key FROM executions WHERE id = ?", (execution_id,)).fetchone()
            if row is None:
                raise ExecutionNotFound(
                    f"there is no execution {execution_id!r}", execution_id=execution_id
                )
            raw.execute(
                "INSERT INTO mailbox (execution, body, key) VALUES (?, ?, ?) "
                "ON CONFLICT (execution, key) DO NOTHING",
                (row[0], body, key),
            )

    def entries(
        self, after: int, limit: int, execution_id: str | None = None
    ) -> list[MailboxEntry]:
        """See `Mailbox.entries`."""
        if execution_id is None:
            rows = self._writer.rows(_MESSAGES, (after, self._holding.lease, limit))
            self._holding.read = rows[-1][0] if rows else after
        else:
            rows = self._writer.rows(
                _MESSAGES_OF_ONE, (after, execution_id, self._holding.lease, limit)
            )
        return [MailboxEntry(*row) for row in rows]


# The mailbox is short, since commits remove messages: read it first (CROSS JOIN fixes that order), then
# find the executions. An empty one costs one read, however many partitions are held.
_MESSAGES = """
    SELECT mailbox.number, executions.id, mailbox.body
    FROM mailbox
        CROSS JOIN executions ON executions.key = mailbox.execution
        CROSS JOIN partitions ON partitions.id = executions.partition
    WHERE mailbox.number > ? AND partitions.owner = ?
    ORDER BY mailbox.number LIMIT ?
"""
# The messages of one execution that has many: they are close together, so that few others are read.
_MESSAGES_OF_ONE = """
    SELECT mailbox.number, executions.id, mailbox.body
    FROM mailbox
        CROSS JOIN executions ON executions.key = mailbox.execution
        CROSS JOIN partitions ON partitions.id = executions.partition
    WHERE mailbox.number > ? AND executions.id = ? AND partitions.owner = ?
    ORDER BY mailbox.number LIMIT ?
"""
