"""AWSRuntime from the start of an execution to its result."""

# ruff: noqa: B023 - tasks take variables as they are at the call
from __future__ import annotations

import asyncio
from typing import Any

from mini_workflow import Context
from mini_workflow.workflow import Registry, Workflow
from tests.aws.cloud import Cloud
from tests.waiting import WAIT


def registry(*workflows: Any) -> Registry:
    made = Registry()
    for function in workflows:
        made.add(Workflow(function.__name__, function))
    return made


async def steps(ctx: Context, n: int) -> list[int]:
    return [await ctx.task(lambda: i * i) for i in range(n)]


async def wide(ctx: Context, n: int) -> int:
    return sum(await asyncio.gather(*[ctx.task(lambda: i) for i in range(n)]))


async def sleeper(ctx: Context, seconds: float) -> str:
    await ctx.sleep(seconds)
    return "awake"


def test_steps_run_to_the_end(cloud: Cloud) -> None:
    with cloud.runtime(registry=registry(steps)) as runtime, cloud.serving(runtime):
        assert runtime.start_execution("steps", 5).result(timeout=WAIT) == [0, 1, 4, 9, 16]


def test_a_thousand_tasks_at_once_run_to_the_end(cloud: Cloud) -> None:
    with cloud.runtime(registry=registry(wide)) as runtime, cloud.serving(runtime):
        assert runtime.start_execution("wide", 1000).result(timeout=100) == sum(range(1000))


def test_a_timer_fires(cloud: Cloud) -> None:
    with cloud.runtime(registry=registry(sleeper)) as runtime, cloud.serving(runtime):
        assert runtime.start_execution("sleeper", 1).result(timeout=WAIT) == "awake"
