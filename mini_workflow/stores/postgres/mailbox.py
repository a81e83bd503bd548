"""Keep messages to executions, sent by any process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Final

from mini_workflow.errors import ExecutionNotFound
from mini_workflow.ports import MailboxEntry
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.postgres.arrays import numbers
from mini_workflow.stores.postgres.connection import Connection, Pool


def digest(key: str) -> str:
    """Return the digest of a message's key, since an index has no room for a long key."""
    return blake2b(key.encode(), digest_size=20).hexdigest()


class ReceivedMessages:
    """The messages that were read and that no commit has taken yet, by numbers given here.

    The server numbers messages when they are sent, not when they are committed, so that number 1 may
    appear after 2. So each message gets another number when it is first read.
    """

    def __init__(self) -> None:
        self._given: dict[int, int] = {}
        """The number given here, by the number in the table, in the order of the first reads."""
        self._stored: dict[int, int] = {}
        self._owner: dict[int, str] = {}
        self._last = 0

    def stored_number(self, given: int, execution_id: str) -> int | None:
        """Return the number in the table; None if it is unknown, taken, or of another execution."""
        stored = self._stored.get(given)
        return stored if stored is None or self._owner[stored] == execution_id else None

    def enter(self, stored: int, execution_id: str) -> int:
        """Return the number given to a message; a new one if it is read for the first time."""
        given = self._given.get(stored)
        if given is None:
            self._last = given = self._last + 1
            self._given[stored] = given
            self._stored[given] = stored
            self._owner[stored] = execution_id
        return given

    def done(self, stored: int) -> None:
        """Forget a message that has left the mailbox."""
        self._stored.pop(self._given.pop(stored, 0), None)
        self._owner.pop(stored, None)

    def read(self) -> Iterable[int]:
        """Return the numbers in the table of all messages that were read."""
        return self._given

    def behind(self, after: int, execution_id: str | None) -> list[int]:
        """Return the numbers in the table of messages that were given a number behind `after`."""
        if after >= self._last:
            return []
        return [
            stored
            for stored, given in self._given.items()
            if given > after and execution_id in (None, self._owner[stored])
        ]


class PostgresMailbox:
    """Implements `Mailbox`."""

    def __init__(
        self,
        writer: Connection,
        readers: Pool,
        holding: Ownership,
        received: ReceivedMessages,
        notify: Callable[[Iterable[str]], None],
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._holding = holding
        self._received = received
        self._notify = notify

    def post(self, execution_id: str, body: str, key: str) -> None:
        """See `Mailbox.post`."""
        with self._readers.use() as connection:
            address = post(connection, execution_id, body, key)
        if address is not None:
            self._notify([address])

    def entries(
        self, after: int, limit: int, execution_id: str | None = None
    ) -> list[MailboxEntry]:
        """See `Mailbox.entries`."""
        if self._holding.lease is None:
            self._writer.row("SELECT 1")  # raises if the store was closed
            return []
        found: list[MailboxEntry] = []
        again = self._received.behind(after, execution_id)
        if again:
            rows = {row[0]: row for row in self._rows(_AGAIN, again, len(again), execution_id)}
            for stored in again:
                if stored not in rows:
                    self._received.done(stored)
            found = [self._entry(rows[stored]) for stored in again if stored in rows][:limit]
        if len(found) < limit:
            rest = self._rows(_NEW, self._received.read(), limit - len(found), execution_id)
            found += map(self._entry, rest)
        return found

    def _rows(
        self, condition: str, stored: Iterable[int], limit: int, execution_id: str | None
    ) -> list[Any]:
        mine = "" if execution_id is None else "AND executions.id = %s"
        values = () if execution_id is None else (execution_id,)
        sql = _MESSAGES.format(condition=condition, mine=mine)
        return self._writer.rows(sql, (numbers(stored), self._holding.lease, *values, limit))

    def _entry(self, row: Any) -> MailboxEntry:
        stored, execution_id, body = row
        return MailboxEntry(self._received.enter(stored, execution_id), execution_id, body)


def post(connection: Connection, execution_id: str, body: str, key: str) -> str | None:
    """Keep a message. Return the address of the owner of its execution, if it has one.

    Raises ExecutionNotFound.
    """
    row = connection.row(_POST, (execution_id, body, digest(key)))
    if row is None:
        raise ExecutionNotFound(
            f"there is no execution {execution_id!r}", execution_id=execution_id
        )
    return row[0] or None


# The mailbox is short, since commits remove messages: read it first, then find the executions.
_MESSAGES: Final = """
    SELECT mailbox.number, executions.id, mailbox.body
    FROM @mailbox AS mailbox
        JOIN @executions AS executions ON executions.key = mailbox.execution
        JOIN @partitions AS partitions ON partitions.id = executions.partition
    WHERE mailbox.number {condition} (%s::bigint[]) AND partitions.owner = %s {mine}
    ORDER BY mailbox.number LIMIT %s
"""
_AGAIN: Final = "= ANY"
_NEW: Final = "<> ALL"
_POST: Final = """
    WITH found AS (
        SELECT executions.key, owners.address
        FROM @executions AS executions
            LEFT JOIN @partitions AS partitions ON partitions.id = executions.partition
            LEFT JOIN @owners AS owners ON owners.id = partitions.owner
        WHERE executions.id = %s
        FOR KEY SHARE OF executions
    ), posted AS (
        INSERT INTO @mailbox (execution, body, digest) SELECT key, %s, %s FROM found
        ON CONFLICT (execution, digest) DO NOTHING
    )
    SELECT address FROM found
"""
