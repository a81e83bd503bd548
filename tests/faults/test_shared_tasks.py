"""Tasks that another process runs, when the store fails, or a process ends, at any call about them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy, current_task, workflow
from mini_workflow.core import events
from mini_workflow.engine.runtime import Runtime
from mini_workflow.errors import StoreUnavailable
from mini_workflow.runtimes.embedded import embed
from mini_workflow.stores.memory import MemoryBackend, MemoryState
from mini_workflow.stores.system_clock import SystemClock
from tests.waiting import WAIT, eventually

CALLS = ("offer", "take", "taken", "settle", "lost", "served", "beat")


def attempt() -> int:
    current_task().heartbeat(1)
    return current_task().attempt


@workflow("shared.two")
async def two(ctx: Context) -> list[int]:
    policy = RetryPolicy(max_attempts=4, initial=0.001)
    first = await ctx.task(attempt, worker="gpu", retry=policy)
    return [first, await ctx.task(attempt, worker="gpu", retry=policy)]


class Failing:
    """The port of a backend, of which one call fails, before it has done anything or after; or all from that
    one on, as those of a process that has ended.
    """

    def __init__(self, real: Any, name: str, *, after: bool, dies: bool = False) -> None:
        self._real, self._name, self._after, self._dies = real, name, after, dies
        self.failed = threading.Event()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            if self._dies and self.failed.is_set():
                raise StoreUnavailable("it is dead")
            if name != self._name or self.failed.is_set():
                return getattr(self._real, name)(*given)
            if self._after:
                getattr(self._real, name)(*given)
            self.failed.set()
            raise StoreUnavailable("the answer never came")

        return call


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mini_workflow.runners.shared_runner.RETRY", 0.01)
    monkeypatch.setattr("mini_workflow.runtimes.sharing.INTERVAL", 0.01)
    monkeypatch.setattr("mini_workflow.engine.engine.RETRY_AFTER", 1)


def opened(state: MemoryState, name: str, change: Callable[[Any], Any], *serves: str) -> Runtime:
    clock = SystemClock()
    backend = MemoryBackend(state, owner=name, clock=clock, lease=60_000)
    backend.shared_tasks = change(backend.shared_tasks)
    return embed(backend, lease=None, clock=clock, serves=serves)


def same(port: Any) -> Any:
    return port


def result(runtime: Runtime, execution: Any) -> Any:
    """The result of an execution; nobody is notified in memory."""

    def look() -> bool:
        runtime.look_around()
        try:
            return bool(execution.describe().status != "running")
        except StoreUnavailable:
            return False  # this call has met the failure

    eventually(look)
    return execution.result(WAIT)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("of_owner", [False, True])
def test_an_answer_that_never_comes_costs_nothing(name: str, after: bool, of_owner: bool) -> None:
    state = MemoryState()

    def fails(port: Any) -> Any:
        return Failing(port, name, after=after)

    with (
        opened(state, "one", fails if of_owner else same) as owner,
        opened(state, "two", same if of_owner else fails, "gpu"),
    ):
        execution = owner.start_execution(two)
        assert result(owner, execution) == [1, 1]
        assert not [e for e in execution.history() if isinstance(e, events.TaskFailed)]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["take", "taken", "settle"])
def test_a_worker_that_ends_at_any_call_is_followed_by_another(name: str, after: bool) -> None:
    state = MemoryState()
    ports: list[Failing] = []

    def dies(port: Any) -> Any:
        ports.append(Failing(port, name, after=after, dies=True))
        return ports[0]

    with opened(state, "one", same) as owner:
        execution = owner.start_execution(two)
        with opened(state, "two", dies, "gpu"):
            assert ports[0].failed.wait(WAIT)
        with opened(state, "three", same, "gpu"):
            found = result(owner, execution)
    # An attempt is lost at most, and no outcome is counted twice.
    assert found in ([1, 1], [2, 1], [1, 2])


@pytest.mark.parametrize("after", [False, True])
def test_an_owner_that_ends_as_it_offers_is_followed_by_another(after: bool) -> None:
    state = MemoryState()
    ports: list[Failing] = []

    def dies(port: Any) -> Any:
        ports.append(Failing(port, "offer", after=after, dies=True))
        return ports[0]

    with opened(state, "one", dies) as owner:
        execution_id = owner.start_execution(two).id
        assert ports[0].failed.wait(WAIT)
    with opened(state, "three", same, "gpu") as owner:
        found = result(owner, owner.get_execution(execution_id))
    assert found in ([1, 1], [2, 1])
