"""Tasks that wait for executions do not keep these from running, or are refused by name."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import Context, LocalClient, LocalRuntime, UsageError, workflow
from mini_workflow.runners import threads
from tests.waiting import WAIT

THREADS = 2
used: dict[str, Any] = {}


@workflow
async def leaf(ctx: Context, number: int) -> int:
    ctx.on_update("add", lambda more: number + more)
    return await ctx.task(lambda: number)


def run_leaf(number: int) -> int:
    return used["client"].start_execution(leaf, number).result(timeout=WAIT)


def run_tree(depth: int) -> int:
    if not depth:
        return run_leaf(1)
    execution = used["client"].start_execution(tree, [depth - 1] * (THREADS + 1))
    return sum(execution.result(timeout=WAIT))


@workflow
async def endless(ctx: Context) -> object:
    return await ctx.wait_for_signal("never")


def run_endless(_number: int) -> int:
    # One that does not end meanwhile, for which there would be nothing to wait.
    found: int = used["client"].start_execution(endless).result(timeout=WAIT)
    return found


@workflow
async def leaves(ctx: Context, count: int) -> list[int]:
    return await ctx.map(run_leaf, range(count))


@workflow
async def waits_for_an_endless_one(ctx: Context) -> int:
    return await ctx.task(run_endless, 1)


@workflow
async def tree(ctx: Context, depths: list[int]) -> list[int]:
    return await ctx.map(run_tree, depths)


async def run_leaf_async(number: int) -> int:
    return await used["client"].start_execution(leaf, number)


async def block(number: int) -> int:
    return run_endless(number)


async def block_aside(number: int) -> int:
    return await asyncio.to_thread(run_leaf, number)


@workflow
async def call(ctx: Context, which: str) -> int:
    tasks = {"await": run_leaf_async, "block": block, "aside": block_aside}
    return await ctx.task(tasks[which], 7)


@pytest.fixture(params=["runtime", "client"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    path = tmp_path / "state.db"
    with LocalRuntime(path, threads=THREADS) as runtime:
        if request.param == "runtime":
            used["client"] = runtime
            yield runtime
        else:
            with LocalClient(path) as client:
                used["client"] = client
                yield runtime


def test_more_tasks_wait_than_there_are_threads(small: LocalRuntime) -> None:
    found = small.start_execution(leaves, 8).result(timeout=WAIT)
    assert found == list(range(8))


def test_they_may_wait_for_what_waits_itself(small: LocalRuntime) -> None:
    found = small.start_execution(tree, [1] * 3).result(timeout=WAIT)
    assert found == [3] * 3


def test_the_pool_is_as_small_as_before_afterwards(small: LocalRuntime) -> None:
    small.start_execution(leaves, 8).result(timeout=WAIT)
    small.start_execution(leaves, 8).result(timeout=WAIT)
    pool: Any = small._runner
    assert pool._default._sync._asleep == 0


def test_with_too_many_of_them_the_task_is_named(
    small: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MAX_WAITING", 0)
    with pytest.raises(UsageError, match=r"task 'run_endless' of execution .* cannot wait"):
        small.start_execution(waits_for_an_endless_one).result(timeout=WAIT)


@pytest.mark.parametrize("which", ["await", "aside"])
def test_an_async_task_awaits(small: LocalRuntime, which: str) -> None:
    assert small.start_execution(call, which).result(timeout=WAIT) == 7


def test_an_async_task_that_would_block_its_loop_is_refused(small: LocalRuntime) -> None:
    with pytest.raises(UsageError, match=r"async task 'block' .*await execution"):
        small.start_execution(call, "block").result(timeout=WAIT)
