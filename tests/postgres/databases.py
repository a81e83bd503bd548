"""Databases: empty schemas, in which executions are stepped through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from mini_workflow.ports import Backend
from mini_workflow.stores.postgres import PostgresBackend
from mini_workflow.testing import ManualClock
from mini_workflow.testing.simulation.stepping import LEASE


class Database(Protocol):
    """A server, or a pooler before one."""

    @property
    def url(self) -> str:
        """The address of the database."""
        ...

    def schema(self) -> str:
        """A name that no schema has had."""
        ...


class Databases:
    """Makes a schema at each call, and answers how to open it; the tables are made once."""

    def __init__(self, postgres: Database) -> None:
        self._postgres = postgres
        self._made: list[PostgresBackend] = []

    def __call__(self) -> Callable[[str, ManualClock], Backend]:
        schema = self._postgres.schema()

        def open_backend(owner: str, clock: ManualClock) -> Backend:
            made = self._made
            made.append(
                PostgresBackend(
                    self._postgres.url,
                    schema=schema,
                    owner=owner,
                    address=owner,
                    clock=clock,
                    lease=LEASE,
                    migrate=not made or made[-1].database.schema != schema,
                )
            )
            return made[-1]

        return open_backend

    def close(self) -> None:
        """Close all that was opened."""
        for backend in self._made:
            backend.close()


@contextmanager
def databases(postgres: Database) -> Iterator[Databases]:
    """Databases that are closed at the end of the block."""
    made = Databases(postgres)
    try:
        yield made
    finally:
        made.close()
