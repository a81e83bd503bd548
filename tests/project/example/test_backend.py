"""The sample backend keeps the contracts, and an engine runs on it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from example.backend import FileBackend
from mini_workflow.ports import Backend, Clock
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.contracts.agenda import AgendaContract
from mini_workflow.testing.contracts.backend import BackendContract
from mini_workflow.testing.contracts.leases import LeasesContract
from mini_workflow.testing.contracts.mailbox import MailboxContract, OutboxContract
from mini_workflow.testing.contracts.ownership import OwnershipContract
from mini_workflow.testing.contracts.runs import RunsContract
from mini_workflow.testing.contracts.store import ListingContract, StoreContract
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.stepping import LEASE, OpenBackend
from tests.unit.engine.harness import ID, check, finish, run_through, stepping


class InFile(BackendContract):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "state.json"

    def open_backend(self, owner: str, clock: Clock) -> Backend:
        return FileBackend(self.path, owner=owner, address=owner, clock=clock, lease=self.LEASE)


class TestStore(InFile, StoreContract): ...


class TestListing(InFile, ListingContract): ...


class TestRuns(InFile, RunsContract): ...


class TestOwnership(InFile, OwnershipContract): ...


class TestAgenda(InFile, AgendaContract): ...


class TestMailbox(InFile, MailboxContract): ...


class TestOutbox(InFile, OutboxContract): ...


class TestLeases(InFile, LeasesContract): ...


# An engine on it


def files(folder: Path) -> Callable[[], OpenBackend]:
    numbers = count()

    def make() -> OpenBackend:
        path = folder / f"{next(numbers)}.json"

        def open_backend(owner: str, clock: ManualClock) -> Backend:
            return FileBackend(path, owner=owner, address=owner, clock=clock, lease=LEASE)

        return open_backend

    return make


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if not shape.wide])
def test_workflows_of_many_shapes_come_to_their_end(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    with Ledger() as ledger, stepping(files(tmp_path), shape) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        finish(stepper, shape)
        check(stepper, shape, ledger)


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_call_loses_nothing(after: bool, tmp_path: Path) -> None:
    shape, make = SHAPES["retries"], files(tmp_path)
    for n in count(1):
        with Ledger() as ledger, stepping(make, shape) as stepper:
            met = run_through(stepper, shape, [(n, after)])
            check(stepper, shape, ledger, lost=met)
        if not met:
            break
    assert n > 20
