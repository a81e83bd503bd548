"""Every value has a limit of its size, and one that is larger hurts nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    ChildFailed,
    Context,
    LocalClient,
    LocalRuntime,
    TaskError,
    UsageError,
    ValueTooLarge,
    current_task,
    workflow,
)
from mini_workflow.testing import WorkflowEnvironment
from tests.unit.local import flows
from tests.waiting import WAIT

LIMIT = 10_000
LARGE = "x" * LIMIT  # and two quotes


@workflow("value_limit.returns")
async def returns(ctx: Context, size: int) -> str:
    return await ctx.task(lambda: "x" * size)


@workflow("value_limit.returns_async")
async def returns_async(ctx: Context, size: int) -> str:
    async def make() -> str:
        return "x" * size

    return await ctx.task(make)


@workflow("value_limit.raises")
async def raises(ctx: Context, size: int) -> None:
    def fail() -> None:
        raise ConnectionError("x" * size)

    await ctx.task(fail)


@workflow("value_limit.beats")
async def beats(ctx: Context, size: int) -> None:
    await ctx.task(lambda: current_task().heartbeat("x" * size))


@workflow("value_limit.ends")
async def ends(ctx: Context, size: int) -> str:
    return "x" * size


@workflow("value_limit.parent")
async def parent(ctx: Context, size: int) -> str:
    return await ctx.child(ends, size)


@workflow("value_limit.gives")
async def gives(ctx: Context, size: int) -> str:
    return await ctx.child(accepts, "x" * size)


@workflow("value_limit.accepts")
async def accepts(ctx: Context, value: str) -> str:
    return value


@workflow("value_limit.listens")
async def listens(ctx: Context) -> list[str]:
    promise = ctx.promise()
    ctx.on_update("echo", lambda size: "x" * size)
    ctx.on_query("token", lambda: promise.token)
    ctx.on_query("large", lambda size: "x" * size)
    return [await ctx.wait_for_signal("say"), await promise]


@pytest.fixture(params=["local", "workers", "environment"])
def runtime(request: Any, path: Path) -> Iterator[Any]:
    if request.param == "environment":
        with WorkflowEnvironment(value_limit=LIMIT) as runtime:
            yield runtime
    else:
        workers = 1 if request.param == "workers" else 0
        with LocalRuntime(path, value_limit=LIMIT, workers=workers) as runtime:
            yield runtime


@pytest.mark.parametrize("flow", [returns, returns_async, raises, beats, ends, gives])
def test_what_a_workflow_makes(runtime: Any, flow: Any) -> None:
    large = runtime.start_execution(flow, LIMIT)
    small = runtime.start_execution(flows.steps, 3)
    with pytest.raises(ValueTooLarge, match=r"10,000 bytes.*value_limit"):
        large.result(WAIT)
    assert small.result(WAIT) == 3


def test_result_of_a_child(runtime: Any) -> None:
    with pytest.raises(ChildFailed, match="ValueTooLarge"):
        runtime.start_execution(parent, LIMIT).result(WAIT)


def test_what_is_just_small_enough_passes(runtime: Any) -> None:
    assert runtime.start_execution(returns, LIMIT - 2).result(WAIT) == "x" * (LIMIT - 2)


def test_what_comes_from_outside(runtime: Any) -> None:
    with pytest.raises(ValueTooLarge):
        runtime.start_execution(accepts, LARGE, id="large")
    assert runtime.list_executions() == []
    execution = runtime.start_execution(listens)
    before = len(execution.history())
    with pytest.raises(ValueTooLarge, match="signal 'say'"):
        execution.signal("say", LARGE)
    with pytest.raises(ValueTooLarge):
        execution.update("echo", LARGE)
    with pytest.raises(ValueTooLarge):
        execution.query("large", LARGE)
    with pytest.raises(ValueTooLarge):
        execution.query("large", LIMIT)
    token = execution.query("token")
    with pytest.raises(ValueTooLarge):
        runtime.complete_promise(token, LARGE)
    assert len(execution.history()) == before
    with pytest.raises((ValueTooLarge, TaskError)):
        execution.update("echo", LIMIT)
    runtime.complete_promise(token, "b")
    execution.signal("say", "a")
    assert execution.result(WAIT) == ["a", "b"]


def test_a_client_has_a_limit_too(path: Path) -> None:
    with LocalRuntime(path) as runtime, LocalClient(path, value_limit=LIMIT) as client:
        execution = runtime.start_execution(listens, id="one")
        with pytest.raises(ValueTooLarge):
            client.get_execution("one").signal("say", LARGE)
        execution.cancel()


@pytest.mark.parametrize("limit", [0, -1, 1.5, 10**9])
def test_limits_that_are_none(path: Path, limit: Any) -> None:
    with pytest.raises(UsageError, match="value_limit"):
        LocalRuntime(path, value_limit=limit)
    assert not path.exists()


def test_bytes_count_not_characters(path: Path) -> None:
    with LocalRuntime(path, value_limit=LIMIT) as runtime:
        runtime.start_execution(accepts, "\U0001f9ea" * 2_000)
        with pytest.raises(ValueTooLarge):
            runtime.start_execution(accepts, "\U0001f9ea" * 2_600)
