"""Open backends for the contract suites, and write to them. Needs pytest.

Inherit a suite, and override the method that opens the backend - or, for suites of `StoreCase`, which
have no owners, the one that opens a store:

    class TestMyStore(StoreContract):
        def open_backend(self, owner: str, clock: Clock) -> Backend:
            return MyBackend(..., owner=owner, address=owner, clock=clock, lease=self.LEASE)
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import pytest

from mini_workflow.ports import Backend, Clock, Commit, Head, Store
from mini_workflow.testing.clock import ManualClock


class Opened(Protocol):
    """A store that is open."""

    @property
    def store(self) -> Store:
        """Heads and histories."""
        ...

    def close(self) -> None:
        """Close the store without releasing its leases. A second call does nothing."""
        ...


class StoreCase:
    """Opens stores for a suite, and closes them after each test."""

    clock: ManualClock
    """The clock of all stores of a test. Time passes only when the test advances it."""

    def open_store(self, name: str, clock: Clock) -> Opened:
        """Open the state of this test, which is empty at first. Override it.

        Each call is another owner, also with the name of an earlier one.
        """
        raise NotImplementedError

    def damage(self, text: str) -> None:
        """Replace the last byte of the stored text `text` by one that is not UTF-8, in all places.

        Stores that keep bytes override it. No store is open meanwhile.
        """

    @pytest.fixture(autouse=True)
    def _close_what_was_opened(self) -> Generator[None]:
        self.clock = ManualClock(1_000_000)
        self._opened: list[Opened] = []
        yield
        for opened in self._opened:
            opened.close()

    def reader(self) -> Opened:
        """Return a store that is only read."""
        return self._open("reader")

    def writer(self, name: str = "one") -> Opened:
        """Return a store that may be written to."""
        return self._open(name)

    def successor(self, one: Opened) -> Opened:
        """Return the next writer, after another one."""
        return self.writer("two")

    def _open(self, name: str) -> Opened:
        opened = self.open_store(name, self.clock)
        self._opened.append(opened)
        return opened


class BackendContract(StoreCase):
    """A suite for backends with owners."""

    LEASE = 15_000
    """Milliseconds of a lease; the backend must be opened with it."""

    def open_backend(self, owner: str, clock: Clock) -> Backend:
        """Open the state of this test, which is empty at first. Override it.

        The owner's name is its address, too. Each call is another owner, also with the name of an
        earlier one.
        """
        raise NotImplementedError

    def open_store(self, name: str, clock: Clock) -> Opened:
        """See `StoreCase.open_store`."""
        return self.open_backend(name, clock)

    def onlooker(self, owner: str = "onlooker") -> Backend:
        """Return a backend without a lease."""
        backend = self.open_backend(owner, self.clock)
        self._opened.append(backend)
        return backend

    def writer(self, name: str = "one") -> Opened:
        """Return an owner."""
        return self.owner(name)

    def successor(self, one: Opened) -> Opened:
        """Return the owner that takes over what the first one gives back."""
        one.leases.release()  # type: ignore[attr-defined]
        return self.owner("two")

    def owner(self, owner: str = "one") -> Backend:
        """Return a backend with a lease, which has taken over all that it can."""
        backend = self.onlooker(owner)
        backend.leases.acquire(self.clock.now())
        return backend


def head(execution_id: str, **fields: Any) -> Head:
    """Return a head with the given fields, and defaults for the others."""
    plain: dict[str, Any] = {"workflow": "order", "status": "running", "started_at": 1_000}
    return Head(execution_id, **{**plain, **fields})


def creation(execution_id: str, *events: str, **fields: Any) -> Commit:
    """Return a commit that creates an execution, by default with one event."""
    return Commit(execution_id, 0, events or ("started",), head(execution_id, **fields))


def create(backend: Opened, *executions: str, **fields: Any) -> None:
    """Create executions of one event each."""
    answers = backend.store.commit([creation(name, **fields) for name in executions])
    assert answers == [True] * len(executions)


def change(backend: Opened, execution_id: str, **fields: Any) -> None:
    """Append an event to an execution, with a head of these fields."""
    commit = Commit(
        execution_id, length(backend, execution_id), ("changed",), head(execution_id, **fields)
    )
    assert backend.store.commit([commit]) == [True]


def length(backend: Opened, execution_id: str) -> int:
    """Return the number of events of an execution, with those of earlier runs; 0 if there is none."""
    found = backend.store.head(execution_id)
    return (found.base if found else 0) + len(backend.store.history(execution_id))


def bodies(backend: Backend) -> list[str]:
    """Return the bodies of the messages to executions of the owner."""
    return [entry.body for entry in backend.mailbox.entries(0, 1_000)]
