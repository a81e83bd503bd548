"""Define shapes whose tasks or executions need slots of limits."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from mini_workflow.context import Context
from mini_workflow.core.limit import Limit
from mini_workflow.core.timing import Timing
from mini_workflow.testing.simulation.shapes import PATIENT, flaky, shape, step

__all__: list[str] = []

FEW: Final = Limit("simulated.few", concurrency=2)
ONE: Final = Limit("simulated.one", concurrency=1)
SLOW: Final = Limit("simulated.slow", concurrency=1, rate=(2, 10), per_key=True)


@shape([0, 1, 2, 3, 4], step=5, tags="tasks starts limits")
async def limited(ctx: Context) -> list[int]:
    """Start more tasks than there are slots, all at once."""
    return list(await asyncio.gather(*(step(ctx, "step", n, limit=FEW) for n in range(5))))


@shape([3, "given up", 1], attempts=4, flaky=1, step=1, tags="tasks retries gives-up starts limits")
async def limited_again(ctx: Context) -> list[Any]:
    """Retry tasks, each attempt with a slot of its own, and give one task up."""
    tried = ctx.task(flaky, 3, name="flaky", retry=PATIENT, limit=SLOW, limit_key="a")
    behind = step(ctx, "never", 2, limit=SLOW, limit_key="a", priority=-1)
    other = step(ctx, "step", 1, limit=SLOW, limit_key="b")
    behind.cancel()
    return [await tried, "given up", await other]


@shape(
    2,
    timing=Timing(timeout=3_600_000, limit={"name": ONE.name, "key": "a", "priority": 1}),
    step=3,
    tags="tasks continues starts limits timed",
)
async def queued(ctx: Context, number: int = 0) -> int:
    """Need a slot to begin, and hand it on from run to run."""
    await step(ctx, "step", number)
    if number < 2:
        ctx.continue_as_new(number + 1)
    return number


@shape([7, 7, "completed"], tags="children signals starts")
async def starts_in_queue(ctx: Context) -> list[Any]:
    """Start children and another execution that need slots of one limit."""
    name = ctx.info.execution_id
    ctx.start("nothing", id=f"{name}.other", notify="closed", queue=ONE, priority=1)
    children = [ctx.child("nothing", queue=ONE, limit_key=key) for key in "ab"]
    end = await ctx.wait_for_signal("closed")
    return [*(await asyncio.gather(*children)), end["status"]]


@shape(
    2,
    timing=Timing(delay=1_000, retry={"max_attempts": 2}, limit={"name": ONE.name}),
    attempt=2,
    tags="tasks continues starts limits timed",
)
async def queued_again(ctx: Context) -> int:
    """Begin later, and wait for a slot again when the run has failed."""
    await step(ctx, "attempt", ctx.info.attempt)
    if ctx.info.attempt < 2:
        raise LookupError("again")
    return ctx.info.attempt
