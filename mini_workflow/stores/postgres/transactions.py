"""Record results of tasks in transactions of the user's own connections."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from mini_workflow.errors import UsageError
from mini_workflow.stores.postgres.connection import Address, Raw, checked, read_rows


class PostgresTransactions:
    """Implements `TaskTransactions`, for connections of psycopg to the same database.

    A task claims a row before all else, so that a second attempt waits for the end of the first.
    """

    def __init__(self, database: Address) -> None:
        self._database: Final = database

    @contextmanager
    def open(self, connection: Any, execution_id: str, seq: int) -> Generator[_Row]:
        """See `TaskTransactions.open`."""
        raw = _checked(connection)
        with raw.transaction():
            yield self._claimed(raw, execution_id, seq)

    def _claimed(self, raw: Raw, execution_id: str, seq: int) -> _Row:
        row = _Row(self._database, raw, (execution_id, seq))
        try:
            claimed = row.run(_CLAIM, (seq, execution_id))
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            raise self._elsewhere() from None
        if claimed:
            return row
        found = row.run(_RECORDED, (execution_id, seq))
        if not found:
            raise self._elsewhere()
        row.recorded = found[0][0]
        return row

    def _elsewhere(self) -> UsageError:
        return UsageError(
            f"the execution is not in the database of the connection: connect to that of the runtime, "
            f"{self._database.place}"
        )


class _Row:
    """Implements `OpenTransaction`."""

    def __init__(self, database: Address, raw: Raw, task: tuple[str, int]) -> None:
        self._database = database
        self._raw = raw
        self._task = task
        self.recorded: str | None = None

    def record(self, result: str) -> None:
        """See `OpenTransaction.record`."""
        self.run(_RECORD, (result, *self._task))
        self.recorded = result

    def run(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        """Return the rows of a statement as tuples, also if the connection makes other rows."""
        return read_rows(self._raw, self._database.qualified(sql), parameters)


def _checked(connection: Any) -> Raw:
    raw = checked(connection, "transaction(...)")
    if raw.info.transaction_status != TransactionStatus.IDLE:
        raise UsageError(
            "the connection is closed, or in a transaction that the task does not end: commit or roll "
            "back that transaction first"
        )
    return raw


_CLAIM: Final = """
    INSERT INTO @results (execution, seq) SELECT key, %s FROM @executions WHERE id = %s
    ON CONFLICT DO NOTHING RETURNING seq
"""
_RECORDED: Final = """
    SELECT r.result FROM @results AS r JOIN @executions AS x ON x.key = r.execution
    WHERE x.id = %s AND r.seq = %s
"""
_RECORD: Final = """
    UPDATE @results AS r SET result = %s FROM @executions AS x
    WHERE x.key = r.execution AND x.id = %s AND r.seq = %s RETURNING r.seq
"""
