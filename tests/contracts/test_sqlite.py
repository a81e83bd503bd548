"""SQLite keeps the contracts."""

import sqlite3
from pathlib import Path

import pytest

from mini_workflow.ports import Backend, Clock
from mini_workflow.stores.sqlite import SQLiteBackend, leases
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


class InFile(BackendContract):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "state.db"

    def open_backend(self, owner: str, clock: Clock) -> Backend:
        return SQLiteBackend(self.path, owner=owner, address=owner, clock=clock, lease=self.LEASE)

    def damage(self, text: str) -> None:
        raw = sqlite3.connect(self.path)
        damaged = text[:-1].encode() + b"\xff"
        for table in ("events", "parked", "mailbox"):
            raw.execute(
                f"UPDATE {table} SET body = CAST(? AS TEXT) WHERE body = ?", (damaged, text)
            )
        raw.commit()
        raw.close()


class TestStore(InFile, StoreContract): ...


class TestListing(InFile, ListingContract): ...


class TestRuns(InFile, RunsContract): ...


class TestOwnership(InFile, OwnershipContract): ...


class TestAgenda(InFile, AgendaContract): ...


class TestMailbox(InFile, MailboxContract): ...


class TestOutbox(InFile, OutboxContract): ...


class TestLeases(InFile, LeasesContract): ...


class TestSharedTasks(InFile, SharedTaskContract): ...


class TestStreams(InFile, StreamContract): ...


class TestStreamsOfCommits(InFile, StreamCommitContract): ...


class TestDeletion(InFile, DeletionContract): ...


class TestOwnedDeletion(InFile, OwnedDeletionContract): ...


class TestDroppedRuns(InFile, DroppedRunsContract):
    def open_backend(self, owner: str, clock: Clock) -> Backend:
        return SQLiteBackend(self.path, owner=owner, clock=clock, lease=self.LEASE, keep_runs=False)


class InManyPartitions(InFile):
    """A takeover never unites partitions, as if each held too many executions."""

    @pytest.fixture(autouse=True)
    def _fold_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leases, "FOLD_LIMIT", 0)


class TestAgendaOfManyPartitions(InManyPartitions, AgendaContract): ...


class TestMailboxOfManyPartitions(InManyPartitions, MailboxContract): ...


class TestOutboxOfManyPartitions(InManyPartitions, OutboxContract): ...


class TestLeasesOfManyPartitions(InManyPartitions, LeasesContract): ...


class TestFairShare(InFile, ShareContract): ...
