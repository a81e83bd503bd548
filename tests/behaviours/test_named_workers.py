"""121: tasks that name a worker run where it is served."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mini_workflow import Context, UsageError, workflow
from mini_workflow.core import events
from tests.behaviours.stage import Stage
from tests.waiting import WAIT, eventually


async def later(number: int) -> int:
    return number


@workflow("behaviours.trained")
async def trained(ctx: Context, worker: str) -> list[int]:
    captured = 10
    found = await asyncio.gather(
        ctx.task(lambda: captured + 1, worker=worker),
        ctx.task(later, 2, worker=worker),
        ctx.task(later, 3),
    )
    return [*found, *await ctx.map(later, [4, 5], worker=worker)]


@workflow("behaviours.trained_elsewhere")
async def trained_elsewhere(ctx: Context) -> str:
    try:
        return str(await ctx.task(later, 1, worker="tpu", name="train"))
    except UsageError as error:
        return str(error)


@workflow("behaviours.train_in_vain")
async def train_in_vain(ctx: Context) -> Any:
    def fail() -> None:
        raise LookupError("no data")

    return await ctx.task(fail, worker="gpu")


def test_121_a_task_runs_on_the_worker_that_it_names(runtime: Stage) -> None:
    """Synchronous, asynchronous and mapped tasks, with what they capture, and without costing an attempt."""
    runtime.serve("gpu")
    execution = runtime.start(trained, "gpu")
    assert execution.result(WAIT) == [11, 2, 3, 4, 5]
    scheduled = [e for e in execution.history() if isinstance(e, events.TaskScheduled)]
    assert sorted(e.worker or "" for e in scheduled) == ["", "gpu", "gpu", "gpu", "gpu"]
    assert not [e for e in execution.history() if isinstance(e, events.TaskRetryScheduled)]


def test_121_it_fails_as_any_other(runtime: Stage) -> None:
    """What it raises is raised where the task is awaited."""
    runtime.serve("gpu")
    with pytest.raises(LookupError, match="no data"):
        runtime.start(train_in_vain).result(WAIT)


def test_121_a_worker_that_nobody_serves(runtime: Stage) -> None:
    """An environment runs the tasks of all workers; on AWS, where they are given at the deployment, there is
    an error that says which there are; elsewhere it waits for a process that serves it, and says so."""
    execution = runtime.start(trained_elsewhere)
    if runtime.virtual:
        assert execution.result(WAIT) == "1"
    elif runtime.posts:
        assert "'tpu'" in (said := execution.result(WAIT))
        assert "it has 'gpu'" in said
    else:
        eventually(lambda: execution.describe().unserved == ("tpu",))
        runtime.serve("tpu")
        assert runtime.again(execution).result(WAIT) == "1"
