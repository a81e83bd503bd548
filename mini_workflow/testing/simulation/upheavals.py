"""Define shapes with a cancel, an undo, dying workers, changed code, or several runs.

As in the corpus, each has the same result after any number of crashes, delays and duplicates, and for
every order in which tasks end.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.core.timing import Timing
from mini_workflow.errors import WorkerLost
from mini_workflow.task import current_task
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.outside import Say
from mini_workflow.testing.simulation.shapes import PATIENT, broken, shape, signals, step

__all__: list[str] = []

DAY: Final = 24 * 3600 * 1000
"""Milliseconds of a day: far more than all delays of a test."""

# Cancellation

ONCE_RUNNING = Say("cancel", "no more", after=events.TaskScheduled)


@shape(
    failure="ExecutionCancelled",
    says=[ONCE_RUNNING],
    slow={"slow": 60_000},
    attempts=3,
    cleanup=2,
    tags="tasks gives-up cancelled fails",
)
async def cancelled_with_cleanup(ctx: Context) -> None:
    try:
        await step(ctx, "slow")
    finally:
        await step(ctx, "cleanup")
        await step(ctx, "cleanup")


@shape(
    "made the best of it",
    says=[ONCE_RUNNING],
    slow={"slow": 60_000},
    attempts=2,
    rest=1,
    tags="tasks gives-up cancelled",
)
async def cancel_that_is_swallowed(ctx: Context) -> str:
    try:
        await step(ctx, "slow")
    except asyncio.CancelledError:
        return await step(ctx, "rest", "made the best of it")
    return "not cancelled"


@shape(
    failure="ExecutionCancelled",
    says=[Say("cancel", "no more", after=events.TimerStarted)],
    slow={"slow": 200_000, "kept": 60_000},
    attempts=4,
    kept=1,
    closed=2,
    tags="tasks timers gives-up cancelled fails",
)
async def cancelled_in_a_group(ctx: Context) -> None:
    """Let a shielded task go on while siblings clean up, each with a task."""
    kept = step(ctx, "kept")

    async def branch(waiting: asyncio.Future[Any]) -> None:
        try:
            await waiting
        finally:
            await step(ctx, "closed")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(branch(step(ctx, "slow")))
            group.create_task(branch(ctx.sleep(3600)))
            await asyncio.shield(kept)
    finally:
        await kept


@shape(
    failure="builtins:ValueError",
    attempts=6,
    charge=1,
    reserve=1,
    also={"undo charge": 1, "undo reserve": 1},
    dies={"undo reserve": 1},
    tags="tasks retries fails",
)
async def undone_after_a_failure(ctx: Context) -> None:
    await step(ctx, "charge", 7, undo=_undo)
    await step(ctx, "reserve", 8, undo=_undo)
    await ctx.task(broken, "out of stock")


@shape(
    failure="ExecutionCancelled",
    says=[Say("signal", "go"), Say("cancel", "no", after=events.TaskCompleted, count=2)],
    charge=2,
    also={"undo charge": 2},
    tags="tasks timers gives-up signals cancelled fails",
)
async def undone_after_a_cancel(ctx: Context) -> None:
    await asyncio.gather(*(step(ctx, "charge", i, undo=_undo) for i in range(2)))
    await ctx.wait_for_signal("go")
    await ctx.sleep(3600)


def _undo(result: Any) -> Any:
    Ledger.note()
    return result


# Workers that die


@shape([5, "lost"], attempts=4, dies={"fragile": 2, "frail": 1}, fragile=1, tags="tasks retries")
async def workers_that_die(ctx: Context) -> list[Any]:
    seen: list[Any] = [await step(ctx, "fragile", 5, retry=PATIENT)]
    try:
        await step(ctx, "frail", retry=RetryPolicy(max_attempts=1))
    except WorkerLost:
        seen.append("lost")
    return seen


@shape(6, attempts=3, pages=1, tags="tasks retries")
async def heartbeats(ctx: Context) -> int:
    """Pass the details of a heartbeat from one attempt to the next."""
    return await ctx.task(pages, 6, retry=PATIENT, heartbeat_timeout=60)


def pages(count: int) -> int:
    """Get on by two pages in each attempt, as a task."""
    Ledger.note()
    task = current_task()
    done: int = task.last_heartbeat or 0
    for page in range(done + 1, count + 1):
        task.heartbeat(page)
        if page == done + 2 and page < count:
            raise ConnectionError(f"after page {page}")
    return count


@shape(["item 2", [0, 2, 4]], slow={"item": 1_000}, attempts=6, item=5, tags="tasks")
async def mapped_with_a_failure(ctx: Context) -> list[Any]:
    def body(i: int) -> int:
        Ledger.note()
        if i == 2:
            raise ValueError(f"item {i}")
        return i

    seen: list[Any] = []
    try:
        await ctx.map(body, [0, 1, 2, 3, 4], concurrency=1, name="item", retry=PATIENT_ONLY)
    except ValueError as error:
        seen.append(str(error))
    return [*seen, await ctx.map(_twice, range(3), concurrency=2, name="item")]


PATIENT_ONLY = RetryPolicy(max_attempts=12, initial=2.0, jitter="none", retry_on=(WorkerLost,))


def _twice(i: int) -> int:
    Ledger.note()
    return 2 * i


# Code that has changed, and runs that go on as new ones


@shape([True, True, True], says=[Say("signal", "go")], new=3, tags="tasks signals patches")
async def patched(ctx: Context) -> list[bool]:
    """Call `patched` before and behind all recorded events, and several times."""
    seen = [ctx.patched("first")]
    await step(ctx, "new" if seen[-1] else "old")
    await ctx.wait_for_signal("go")
    for _ in range(2):
        seen.append(ctx.patched("second"))
        await step(ctx, "new" if seen[-1] else "old")
    return seen


@shape(
    [0, 1, 2, 3, 4],
    says=[*signals("go", [0, 1, 2]), *signals("go", [3, 4], events.ContinuedAsNew)],
    round=5,
    tags="tasks signals continues",
)
async def continued_with_signals(ctx: Context, seen: tuple[int, ...] = ()) -> list[int]:
    """Receive one signal in each run; waiting signals go to the next run."""
    seen = (*seen, await ctx.wait_for_signal("go"))
    await step(ctx, "round", seen[-1])
    if len(seen) < 5:
        ctx.continue_as_new(seen)
    return list(seen)


@shape([0, 1, 2, 3], says=signals("go", [0, 1, 2, 3]), last=1, tags="tasks signals continues")
async def continued_at_once(ctx: Context, seen: tuple[int, ...] = ()) -> list[int]:
    """End each run in the turn in which its signal arrives."""
    seen = (*seen, await ctx.wait_for_signal("go"))
    if len(seen) < 4:
        ctx.continue_as_new(seen)
    await step(ctx, "last")
    return list(seen)


@shape(
    6,
    says=[
        Say("signal", "add", 1),
        Say("update", "add", (2,), answer="added 2"),
        Say("signal", "add", 3, events.ContinuedAsNew),
    ],
    added=3,
    tags="tasks signals updates continues",
)
async def continued_with_handlers(ctx: Context, total: int = 0) -> int:
    """Handle signals and updates before the run continues as new."""
    at_work = 0

    async def add(n: int) -> str:
        nonlocal total, at_work
        at_work += 1
        await step(ctx, "added", n)
        total += n
        at_work -= 1
        return f"added {n}"

    before = total
    ctx.on_signal("add", add)
    ctx.on_update("add", add)
    await ctx.wait_for(lambda: total > before and not at_work)
    if total < 6:
        ctx.continue_as_new(total)
    return total


@shape(
    failure="ExecutionCancelled",
    says=[Say("cancel", "enough", after=events.TaskCompleted, count=3)],
    attempts=4,
    round=3,
    cleanup=1,
    tags="tasks timers gives-up cancelled continues fails",
)
async def continued_until_cancelled(ctx: Context, n: int = 0) -> None:
    await step(ctx, "round", n)
    if n < 2:
        ctx.continue_as_new(n + 1)
    try:
        await ctx.sleep(3600)
    finally:
        await step(ctx, "cleanup")


HEADERS = {"tenant": "t-7", "trace": "4bf92f35"}


@shape(
    [HEADERS, HEADERS, HEADERS],
    headers=HEADERS,
    before=1,
    seen=1,
    last=1,
    tags="tasks continues",
)
async def with_headers(ctx: Context, *seen: Any) -> list[Any]:
    """Pass headers to a task and to the next run."""
    if not seen:
        await step(ctx, "before")
        ctx.continue_as_new(ctx.headers)
    headers = await ctx.task(headers_of_task, name="seen")
    await step(ctx, "last")
    return [*seen, headers, ctx.headers]


def headers_of_task() -> dict[str, str]:
    """Return the headers of the task."""
    Ledger.note()
    return current_task().headers


# Executions with a delay, a deadline or a retry


@shape(7, timing=Timing(delay=60_000, timeout=DAY), step=2, tags="tasks timers timed")
async def begun_later(ctx: Context) -> int:
    await step(ctx, "step")
    await ctx.sleep(10)
    return await step(ctx, "step", 7)


@shape(
    failure="mini_workflow.errors:ExecutionTimeout",
    timing=Timing(timeout=30 * DAY),
    step=1,
    cleanup=1,
    tags="tasks timers gives-up fails timed",
)
async def ended_by_deadline(ctx: Context) -> None:
    await step(ctx, "step")
    try:
        await ctx.sleep(60 * 24 * 3600)
    finally:
        await step(ctx, "cleanup")


@shape(
    3,
    timing=Timing(retry={"max_attempts": 3, "initial": 5.0}),
    attempt=3,
    tags="tasks continues timed",
)
async def retried_execution(ctx: Context) -> int:
    await step(ctx, "attempt", ctx.info.attempt)
    if ctx.info.attempt < 3:
        raise LookupError(f"attempt {ctx.info.attempt}")
    return ctx.info.attempt
