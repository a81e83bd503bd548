"""Share what the contract suites of all ports of a backend need. Needs pytest.

A suite is inherited, and told how to open the backend - or, where it is one of `StoreCase`, which
takes no owners, how to open a store alone:

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
    """A store, as somebody has it open."""

    @property
    def store(self) -> Store:
        """Heads and histories."""
        ...

    def close(self) -> None:
        """Close, without releasing anything. A second time does nothing."""
        ...


class StoreCase:
    """Opens stores for a suite, and closes them after each test."""

    clock: ManualClock
    """The clock of all that one test opens. Nothing passes unless a test says so."""

    def open_store(self, name: str, clock: Clock) -> Opened:
        """Open the state of this test, which is empty at first; to be overridden.

        Each call is another opener, also with the name of an earlier one.
        """
        raise NotImplementedError

    def damage(self, text: str) -> None:
        """Put a byte that is no UTF-8 into the stored text `text`, wherever it stands, in place of
        its last one; to be overridden by stores that keep bytes. Nothing is open meanwhile.
        """

    @pytest.fixture(autouse=True)
    def _close_what_was_opened(self) -> Generator[None]:
        self.clock = ManualClock(1_000_000)
        self._opened: list[Opened] = []
        yield
        for opened in self._opened:
            opened.close()

    def reader(self) -> Opened:
        """Return a store of which nobody has asked to write."""
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
    """Opens backends with owners for a suite."""

    LEASE = 15_000
    """Milliseconds of a lease; the backend must be opened with it."""

    def open_backend(self, owner: str, clock: Clock) -> Backend:
        """Open the state of this test, which is empty at first; to be overridden.

        The owner's name is its address as well. Each call is another opener, also with the name
        of an earlier one.
        """
        raise NotImplementedError

    def open_store(self, name: str, clock: Clock) -> Opened:
        """See `StoreCase.open_store`."""
        return self.open_backend(name, clock)

    def onlooker(self, owner: str = "onlooker") -> Backend:
        """Return a backend that has not acquired anything."""
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
        """Return a backend that has acquired what there was to acquire."""
        backend = self.onlooker(owner)
        backend.leases.acquire(self.clock.now())
        return backend


def head(execution_id: str, **fields: Any) -> Head:
    """Return a head of which a test gives what it is about."""
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
    """Return how many events an execution has, those of earlier runs included; 0 if
    there is none.
    """
    found = backend.store.head(execution_id)
    return (found.base if found else 0) + len(backend.store.history(execution_id))


def bodies(backend: Backend) -> list[str]:
    """Return the messages that the owner finds, without their numbers."""
    return [entry.body for entry in backend.mailbox.entries(0, 1_000)]
