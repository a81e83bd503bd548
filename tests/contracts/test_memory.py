"""The backend in memory keeps the contracts."""

import pytest

from mini_workflow.ports import Backend, Clock
from mini_workflow.stores.memory import MemoryBackend, MemoryState
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


class InMemory(BackendContract):
    @pytest.fixture(autouse=True)
    def _state(self) -> None:
        self.state = MemoryState()

    def open_backend(self, owner: str, clock: Clock) -> Backend:
        return MemoryBackend(self.state, owner=owner, address=owner, clock=clock, lease=self.LEASE)


class TestStore(InMemory, StoreContract): ...


class TestListing(InMemory, ListingContract): ...


class TestRuns(InMemory, RunsContract): ...


class TestOwnership(InMemory, OwnershipContract): ...


class TestAgenda(InMemory, AgendaContract): ...


class TestMailbox(InMemory, MailboxContract): ...


class TestOutbox(InMemory, OutboxContract): ...


class TestLeases(InMemory, LeasesContract): ...


class TestFairShare(InMemory, ShareContract): ...


class TestSharedTasks(InMemory, SharedTaskContract): ...


class TestStreams(InMemory, StreamContract): ...


class TestStreamsOfCommits(InMemory, StreamCommitContract): ...


class TestDeletion(InMemory, DeletionContract): ...


class TestOwnedDeletion(InMemory, OwnedDeletionContract): ...


class TestDroppedRuns(InMemory, DroppedRunsContract):
    def open_backend(self, owner: str, clock: Clock) -> Backend:
        return MemoryBackend(
            self.state, owner=owner, clock=clock, lease=self.LEASE, keep_runs=False
        )
