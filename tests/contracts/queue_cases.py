"""The queued backend in memory, opened for the contract suites, with writes that fail on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from mini_workflow.errors import StoreError, StoreUnavailable
from mini_workflow.ports import QueuedMessage, TaskRequest
from mini_workflow.ports.queue import FencedStore, Received, Wakeup
from mini_workflow.stores.cached import CachedStore
from mini_workflow.stores.memory.queue import MemoryDispatch, MemoryDocuments
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.contracts.dispatch import DispatchContract, WakeupContract
from mini_workflow.testing.contracts.fenced_deletion import FencedDeletionContract
from mini_workflow.testing.contracts.fenced_store import FencedStoreContract

T = TypeVar("T")


class Death(BaseException):
    """The process ends here."""


class Switch:
    """Has calls fail while it is on: before they are done, or after. At the call number `dies_at`, counted
    from 1, the process dies: before it, or `after` it.
    """

    def __init__(self) -> None:
        self.fails: str | None = None
        self.calls = 0
        self.dies_at: int | None = None
        self.after = False

    @contextmanager
    def on(self, *, after: bool) -> Iterator[None]:
        self.fails = "after" if after else "before"
        try:
            yield
        finally:
            self.fails = None

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        self.calls += 1
        dies = self.calls == self.dies_at
        if dies and not self.after:
            raise Death
        if self.fails == "before":
            raise StoreUnavailable("it fails, as the test wants it")
        answer = function(*arguments)
        if dies:
            raise Death
        if self.fails == "after":
            raise StoreUnavailable("the answer is lost, as the test wants it")
        return answer


class UnsafeDocuments(MemoryDocuments):
    """Documents whose writes can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.switch = Switch()

    def create(self, *arguments: Any) -> Any:
        return self.switch.call(super().create, *arguments)

    def write(self, *arguments: Any) -> Any:
        return self.switch.call(super().write, *arguments)


class StoreInMemory(FencedStoreContract, FencedDeletionContract):
    documents: type[UnsafeDocuments] = UnsafeDocuments
    store: type[CachedStore[Any]] = CachedStore

    @pytest.fixture(autouse=True)
    def _state(self) -> None:
        self.prepare()

    def prepare(self) -> None:
        self.state = self.documents()

    def open_store(self) -> FencedStore:
        return self.store(self.state, 100)

    def open_reader(self) -> MemoryDocuments:
        return self.state

    def failing(self, *, after: bool) -> Any:
        return self.state.switch.on(after=after)


class UnsafeDispatch(MemoryDispatch):
    """A dispatch whose calls can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.switch = Switch()

    def post(self, messages: Sequence[QueuedMessage]) -> None:
        self.switch.call(super().post, messages)

    def set(self, execution_id: str, wakeup: Wakeup, now: int) -> None:
        self.switch.call(super().set, execution_id, wakeup, now)

    def run(self, requests: Sequence[TaskRequest]) -> list[StoreError | None]:
        try:
            return self.switch.call(super().run, requests)
        except StoreError as error:
            return [error] * len(requests)

    def recover(self) -> None:
        """Hand out again what a process had that has died."""
        self._in_hand.clear()


class QueueInMemory(DispatchContract, WakeupContract):
    dispatch: type[UnsafeDispatch] = UnsafeDispatch

    @pytest.fixture(autouse=True)
    def _state(self) -> None:
        self.prepare()

    def prepare(self) -> None:
        self.clock = ManualClock(1_000_000)
        self.state = self.dispatch()

    def open_dispatch(self) -> UnsafeDispatch:
        return self.state

    def failing(self, *, after: bool) -> Any:
        return self.state.switch.on(after=after)

    def now(self) -> int:
        return self.clock.now()

    def take(self) -> list[Received]:
        found: list[Received] = []
        while batch := self.state.receive(10, self.now()):
            found += batch
            self.state.finish(batch, ())
        return found

    def received(self, number: int) -> list[tuple[str, str]]:
        return [(one.execution_id, one.body) for one in self.take()]

    def requests(self, number: int) -> list[TaskRequest]:
        return list(iter(self.state.take_request, None))

    def woken(self, until: int) -> list[tuple[str, int]]:
        due = self.state.next_wakeup()
        self.clock.set(max(self.now(), until if due is None else min(due, until)))
        return [(one.execution_id, one.woken) for one in self.take() if one.woken is not None]
