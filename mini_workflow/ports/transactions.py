"""Declare the transactions in which a store records the results of tasks, beside the tasks' own writes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol


class OpenTransaction(Protocol):
    """A transaction in which the result of a task is recorded, if that has not been done before."""

    @property
    def recorded(self) -> str | None:
        """The result that an attempt before has recorded, as JSON text; None if none has."""
        ...

    def record(self, result: str) -> None:
        """Record the result. It is there if and when the transaction is committed."""
        ...


class TaskTransactions(Protocol):
    """Opens transactions of connections that belong to tasks. Any thread."""

    def open(
        self, connection: Any, execution_id: str, seq: int
    ) -> AbstractContextManager[OpenTransaction]:
        """Open a `with` block that is a transaction of the connection, and is rolled back when it raises.

        At most one transaction that records something is committed for a task: a second one waits until
        the first has ended, and sees its record. Raises UsageError for a `connection` that is of another
        kind, leads to another database or is within a transaction; the driver may raise its own errors.
        """
        ...
