"""What the tests of stores open: owners of a schema of Postgres that nobody has had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mini_workflow.stores.postgres import PostgresBackend
from mini_workflow.testing import ManualClock
from tests.postgres.server import PostgresServer

Open = Callable[..., PostgresBackend]


@pytest.fixture
def name(postgres: PostgresServer) -> str:
    return postgres.schema()


@pytest.fixture
def open_backend(postgres: PostgresServer, name: str) -> Iterator[Open]:
    made: list[PostgresBackend] = []

    def open_backend(owner: str = "one", **options: Any) -> PostgresBackend:
        clock = ManualClock(1_000_000)
        made.append(
            PostgresBackend(
                postgres.url, schema=name, owner=owner, address=owner, clock=clock, **options
            )
        )
        return made[-1]

    yield open_backend
    for backend in made:
        backend.close()
