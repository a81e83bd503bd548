"""An execution that is dropped from memory leaves nothing to the garbage collector, wherever it waits."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from mini_workflow import Context, workflow
from mini_workflow.testing import WorkflowEnvironment

LEVEL: ContextVar[int] = ContextVar("level", default=0)
ENDED: list[str] = []


@contextmanager
def marked(name: str) -> Any:
    """Reset in another context than that in which it was set, this raises."""
    token = LEVEL.set(LEVEL.get() + 1)
    try:
        yield
    finally:
        LEVEL.reset(token)
        ENDED.append(name)


async def stopped(task: asyncio.Task[Any]) -> None:
    """Stop a task, and wait for its end, as libraries do in ``finally`` blocks."""
    task.cancel()
    with marked("stopped"):
        await asyncio.wait([task])


async def ticking(ctx: Context) -> None:
    while True:
        await ctx.sleep(3600)


@asynccontextmanager
async def opened(name: str, ctx: Context) -> AsyncIterator[None]:
    task = asyncio.create_task(ticking(ctx))
    with marked(name):
        try:
            yield
        finally:
            await stopped(task)


async def numbers(ctx: Context, depth: int) -> AsyncIterator[int]:
    task = asyncio.create_task(ticking(ctx))
    with marked(f"numbers {depth}"):
        try:
            if depth:
                async for number in numbers(ctx, depth - 1):
                    yield number
            else:
                await ctx.wait_for_signal("go")
                yield 1
        finally:
            await stopped(task)


@asynccontextmanager
async def nested(ctx: Context) -> AsyncIterator[None]:
    async with opened("outer", ctx), opened("inner", ctx):
        yield


@workflow("dropped.iterates")
async def iterates(ctx: Context) -> int:
    async with opened("around", ctx):
        return sum([number async for number in numbers(ctx, 2)])


@workflow("dropped.leaves")
async def leaves(ctx: Context) -> int:
    async with nested(ctx):
        await ctx.sleep(0)
    await ctx.wait_for_signal("go")
    return 1


@workflow("dropped.inside")
async def inside(ctx: Context) -> int:
    async with nested(ctx):
        found = 0
        async for number in numbers(ctx, 1):
            found = number
            async with opened("in the loop", ctx):
                await ctx.wait_for_signal("on")
    return found


@pytest.mark.parametrize("flow", [iterates, leaves, inside])
def test_nothing_is_left_to_the_collector(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ENDED.clear()
    complaints: list[str] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda one: complaints.append(f"{one.exc_value!r} in {one.object!r}")
    )
    with WorkflowEnvironment(cache_size=0) as env:
        execution = env.start_execution(flow)
        env.advance(10_000)
        for name in ("go", "on") if flow is inside else ("go",):
            execution.signal(name)
        env.advance(10_000)
        assert execution.result() == 1
    gc.collect()
    assert complaints == []
    assert ENDED
