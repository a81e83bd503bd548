"""Postgres keeps the contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from mini_workflow.ports import Backend, Clock
from mini_workflow.stores.postgres import PostgresBackend, leases
from mini_workflow.stores.postgres.mailbox import digest
from mini_workflow.testing.contracts.agenda import AgendaContract
from mini_workflow.testing.contracts.backend import BackendContract
from mini_workflow.testing.contracts.deletion import (
    DeletionContract,
    DroppedRunsContract,
    OwnedDeletionContract,
)
from mini_workflow.testing.contracts.leases import LeasesContract, ShareContract
from mini_workflow.testing.contracts.mailbox import MailboxContract, OutboxContract
from mini_workflow.testing.contracts.ownership import OwnershipContract
from mini_workflow.testing.contracts.runs import RunsContract
from mini_workflow.testing.contracts.shared_tasks import SharedTaskContract
from mini_workflow.testing.contracts.store import ListingContract, StoreContract
from mini_workflow.testing.contracts.streams import StreamCommitContract, StreamContract
from tests.postgres.server import PostgresServer


class InDatabase(BackendContract):
    @pytest.fixture(autouse=True)
    def _schema(self, postgres: PostgresServer) -> Iterator[None]:
        self.server, self.schema = postgres, postgres.lend()
        self.held: list[psycopg.Connection] = []
        yield
        for connection in self.held:
            connection.close()
        postgres.give_back(self.schema)

    def open_backend(self, owner: str, clock: Clock) -> Backend:
        return PostgresBackend(
            self.server.url,
            schema=self.schema,
            owner=owner,
            address=owner,
            clock=clock,
            lease=self.LEASE,
        )

    def hold_post(self, execution_id: str, body: str, key: str) -> Callable[[], None]:
        connection = psycopg.connect(self.server.url)
        self.held.append(connection)
        connection.execute(f"SET search_path TO {self.schema}".encode())
        connection.execute(
            "INSERT INTO mailbox (execution, body, digest) "
            "SELECT key, %s, %s FROM executions WHERE id = %s",
            (body, digest(key), execution_id),
        )
        return connection.commit


class TestStore(InDatabase, StoreContract): ...


class TestListing(InDatabase, ListingContract): ...


class TestRuns(InDatabase, RunsContract): ...


class TestDeletion(InDatabase, DeletionContract): ...


class TestOwnedDeletion(InDatabase, OwnedDeletionContract): ...


class TestDroppedRuns(InDatabase, DroppedRunsContract):
    def open_backend(self, owner: str, clock: Clock) -> Backend:
        return PostgresBackend(
            self.server.url,
            schema=self.schema,
            owner=owner,
            address=owner,
            clock=clock,
            lease=self.LEASE,
            keep_runs=False,
        )


class TestOwnership(InDatabase, OwnershipContract): ...


class TestAgenda(InDatabase, AgendaContract): ...


class TestMailbox(InDatabase, MailboxContract): ...


class TestOutbox(InDatabase, OutboxContract): ...


class TestLeases(InDatabase, LeasesContract): ...


class TestFairShare(InDatabase, ShareContract): ...


class TestSharedTasks(InDatabase, SharedTaskContract): ...


class TestStreams(InDatabase, StreamContract): ...


class TestStreamsOfCommits(InDatabase, StreamCommitContract): ...


class InManyPartitions(InDatabase):
    """A takeover never unites partitions, as if each held too many executions."""

    @pytest.fixture(autouse=True)
    def _fold_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leases, "FOLD_LIMIT", 0)


class TestMailboxOfManyPartitions(InManyPartitions, MailboxContract): ...


class TestLeasesOfManyPartitions(InManyPartitions, LeasesContract): ...
