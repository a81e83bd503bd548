"""Law 4: a scope that cancels again in every pass of the loop, as those of anyio do, spins no turn."""

from __future__ import annotations

import asyncio

import pytest

from mini_workflow import Context, workflow
from mini_workflow.testing import WorkflowEnvironment

cleaned: list[str] = []


class MoveOnAfter:
    """As anyio has it, in short: until the task has left it is cancelled in every pass."""

    def __init__(self, delay: float) -> None:
        self._delay, self._active = delay, True

    def deliver(self) -> None:
        if self._active:
            waiter = getattr(self._task, "_fut_waiter", None)
            if waiter is not None and not waiter.done():
                self._task.cancel()
            asyncio.get_running_loop().call_soon(self.deliver)

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._delay, self.deliver)

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> bool:
        self._active = False
        self._timer.cancel()
        return kind is not None and issubclass(kind, asyncio.CancelledError)


async def child(ctx: Context) -> None:
    try:
        await ctx.sleep(1000)
    finally:
        for number in range(2):
            await ctx.task(lambda: cleaned.append("cleaned"), name=f"clean up {number}")
            await ctx.sleep(5)


@workflow
async def moves_on(ctx: Context) -> str:
    with MoveOnAfter(1):
        async with asyncio.TaskGroup() as group:
            group.create_task(child(ctx))
    return "moved on"


@pytest.mark.parametrize("restart", [False, True])
def test_law_04_cleanup_under_repeated_cancellation(restart: bool) -> None:
    cleaned.clear()
    with WorkflowEnvironment() as env:
        execution = env.start_execution(moves_on, id="m")
        if not restart:
            assert execution.result(timeout=60) == "moved on"
        else:
            env.advance(2)
    with WorkflowEnvironment(env.state) as env:
        assert env.get_execution("m").result(timeout=60) == "moved on"
    assert len(cleaned) == 2


@workflow
async def many_passes(ctx: Context) -> int:
    passes = 0

    def tick() -> None:
        nonlocal passes
        passes += 1
        if passes < 1000:
            asyncio.get_running_loop().call_soon(tick)

    tick()
    for _ in range(1000):
        await asyncio.sleep(0)
    return passes


def test_law_04_what_does_not_cancel_may_pass_as_often_as_it_likes() -> None:
    with WorkflowEnvironment() as env:
        assert env.start_execution(many_passes).result(timeout=60) == 1000
