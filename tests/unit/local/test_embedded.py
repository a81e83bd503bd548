"""embed(): a runtime of a backend in one call."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import Context, UsageError, workflow
from mini_workflow.errors import RuntimeClosed
from mini_workflow.runtimes.embedded import embed
from mini_workflow.stores.memory import MemoryBackend, MemoryState
from mini_workflow.stores.system_clock import SystemClock
from tests.waiting import WAIT, eventually


@workflow("embedded.adds")
async def adds(ctx: Context, a: int, b: int) -> int:
    async def add() -> int:
        return a + b

    first = await ctx.task(add)
    await ctx.sleep(0.001)
    return await ctx.task(lambda: first + 1)


@workflow("embedded.listens")
async def listens(ctx: Context) -> Any:
    return await ctx.wait_for_signal("go")


def opened(state: MemoryState, owner: str, **options: Any) -> MemoryBackend:
    clock = options.pop("clock", None) or SystemClock()
    return MemoryBackend(state, owner=owner, address=owner, clock=clock, lease=15_000, **options)


def test_it_runs_workflows_and_continues_them() -> None:
    state = MemoryState()
    with embed(opened(state, "one"), lease=15) as runtime:
        assert runtime.start_execution(adds, 1, 2, id="sum").result(WAIT) == 4
        runtime.start_execution(listens, id="listening")
    with embed(opened(state, "two"), lease=15) as runtime:
        assert runtime.get_execution("sum").result(WAIT) == 4
        runtime.get_execution("listening").signal("go", "on")
        assert runtime.get_execution("listening").result(WAIT) == "on"


def test_closing_it_closes_the_backend() -> None:
    backend = opened(MemoryState(), "one")
    closed: list[bool] = []
    close = backend.close

    def noted() -> None:
        closed.append(True)
        close()

    backend.close = noted  # type: ignore[method-assign]
    runtime = embed(backend, lease=None)
    assert not closed
    runtime.close()
    assert closed
    with pytest.raises(RuntimeClosed):
        runtime.start_execution(adds, 1, 2)


def test_a_mistake_closes_the_backend_too() -> None:
    for lease in (0, -1.0):
        backend = opened(MemoryState(), "one")
        with pytest.raises(UsageError, match="embed"):
            embed(backend, lease=lease)


@pytest.mark.parametrize(("lease", "extends"), [(0.04, True), (None, False)])
def test_the_lease_is_extended_beside_the_engine(lease: float | None, extends: bool) -> None:
    """Each quarter of it, and not at all without one."""
    backend = opened(MemoryState(), "one")
    extended: list[int] = []
    backend.leases.extend = extended.append  # type: ignore[method-assign]
    with embed(backend, lease=lease) as runtime:
        if extends:
            eventually(lambda: len(extended) > 1)
        assert runtime.start_execution(adds, 1, 2).result(WAIT) == 4
    assert bool(extended) == extends
