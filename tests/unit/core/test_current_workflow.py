"""The context of the workflow that runs the calling code."""

from __future__ import annotations

import asyncio

import pytest

from mini_workflow import Context, UsageError, current_workflow, workflow
from mini_workflow.testing import WorkflowEnvironment

REPLAYS: list[tuple[str, bool]] = []


def helper() -> Context:
    return current_workflow()


@workflow("current.everywhere")
async def everywhere(ctx: Context) -> dict[str, bool]:
    same: dict[str, bool] = {"at once": helper() is ctx}

    async def beside(name: str) -> None:
        same[name] = helper() is ctx

    ctx.on_signal("noted", lambda _: same.update(handler=helper() is ctx))
    ctx.on_query("same", lambda: helper() is ctx)
    await asyncio.gather(beside("gathered"), asyncio.create_task(beside("task of asyncio")))
    REPLAYS.append(("before", ctx.replaying))
    await ctx.sleep(60)
    same["after a wait"] = helper() is ctx
    await ctx.wait_for_signal("go")
    REPLAYS.append(("after", ctx.replaying))
    return same


@pytest.mark.parametrize("cache_size", [0, 100])
def test_it_is_the_same_wherever_the_code_stands(cache_size: int) -> None:
    REPLAYS.clear()
    with WorkflowEnvironment(cache_size=cache_size) as env:
        execution = env.start_execution(everywhere)
        env.advance(60)
        assert execution.query("same")
        execution.signal("noted")
        execution.signal("go")
        result = execution.result()
    assert set(result) == {"at once", "gathered", "task of asyncio", "after a wait", "handler"}
    assert all(result.values())
    # Each is told once by who looks whether it is a replay.
    assert REPLAYS.count(("before", False)) == 1
    assert REPLAYS.count(("after", False)) == 1
    assert (("before", True) in REPLAYS) == (cache_size == 0)


@workflow("current.in_a_task")
async def in_a_task(ctx: Context) -> list[str]:
    def ask() -> str:
        try:
            current_workflow()
        except UsageError as error:
            return str(error)
        return "a context"

    return [await ctx.task(ask), await ctx.task(ask, inline=True)]


def test_a_task_has_none() -> None:
    with WorkflowEnvironment() as env:
        told = env.start_execution(in_a_task).result()
    assert all("current_task()" in one for one in told)


def test_an_ordinary_program_has_none() -> None:
    with pytest.raises(UsageError, match="outside a workflow"):
        current_workflow()

    async def program() -> None:
        current_workflow()

    with pytest.raises(UsageError, match="outside a workflow"):
        asyncio.run(program())
