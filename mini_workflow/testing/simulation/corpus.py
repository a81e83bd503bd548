"""Define shapes, for tests of engines and backends, each with its expected result.

Their tasks note themselves in a `Ledger`. Results depend neither on time nor on the order in which tasks
end, so that they are the same after any number of crashes, delays and duplicates. A task may lose a few
attempts without running out of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, Final

from mini_workflow.context import Context
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.testing.simulation import conversations, limited, upheavals
from mini_workflow.testing.simulation.shapes import (
    PATIENT,
    broken,
    choose,
    flaky,
    registry,
    shape,
    step,
    work,
    work_async,
)

__all__ = ["SHAPES", "conversations", "limited", "registry", "upheavals"]

# One after the other


@shape(7)
async def nothing(ctx: Context) -> int:
    return 7


@shape([0, 1, 2, 3], step=4, tags="tasks")
async def sequence(ctx: Context) -> list[int]:
    return [await step(ctx, "step", i) for i in range(4)]


@shape({"a": (1, 2), "b": None}, awaited=1, none=1, tags="tasks")
async def asynchronous(ctx: Context) -> dict[str, Any]:
    return {
        "a": await ctx.task(work_async, (1, 2), name="awaited"),
        "b": await ctx.task(work_async, name="none"),
    }


@shape(9, before=1, after=1, tags="tasks inline")
async def inline(ctx: Context) -> int:
    first = await step(ctx, "before", 2)
    second = await ctx.task(lambda: first + 2, inline=True)
    return await step(ctx, "after", second) + 5


@shape(3, step=3, tags="tasks timers")
async def sleeping(ctx: Context) -> int:
    done = 0
    for delay in (10, timedelta(minutes=1), 0.25):
        await ctx.sleep(delay)
        await step(ctx, "step")
        done += 1
    return done


@shape([1, 4, 9], here=1, there=2, tags="tasks timers")
async def for_other_workers(ctx: Context) -> list[int]:
    """Run tasks on named workers, one of them while others end."""
    large = ctx.task(lambda: work(9), name="there", worker="gpu", retry=PATIENT)
    first = await step(ctx, "here", 1)
    await ctx.sleep(1)
    return [first, await ctx.task(work, 4, name="there", worker="big", retry=PATIENT), await large]


# Side by side


@shape([0, 1, 4, 9, 16], square=5, tags="tasks")
async def fan_out(ctx: Context) -> list[int]:
    tasks = [ctx.task(lambda: work(i * i), name="square") for i in range(5)]  # noqa: B023
    return list(await asyncio.gather(*tasks))


@shape(list(range(100)), one=100, tags="tasks wide")
async def wide(ctx: Context) -> list[int]:
    return list(await asyncio.gather(*(step(ctx, "one", i) for i in range(100))))


@shape([0, 10, 20, 30, 40, 50], item=6, tags="tasks")
async def mapped(ctx: Context) -> list[int]:
    return await ctx.map(lambda i: work(10 * i), range(6), concurrency=2, name="item")


@shape([[0, 1], [10, 11], [20, 21]], leaf=6, tags="tasks")
async def nested(ctx: Context) -> list[list[int]]:
    async def branch(i: int) -> list[int]:
        return list(await asyncio.gather(*(step(ctx, "leaf", 10 * i + j) for j in range(2))))

    return list(await asyncio.gather(*(branch(i) for i in range(3))))


@shape(15, item=6, tags="tasks")
async def queue(ctx: Context) -> int:
    waiting: asyncio.Queue[int | None] = asyncio.Queue(maxsize=2)

    async def produce() -> None:
        for i in range(6):
            await waiting.put(await step(ctx, "item", i))
        await waiting.put(None)

    async def consume() -> int:
        total = 0
        while (item := await waiting.get()) is not None:
            total += item
        return total

    producer = asyncio.create_task(produce())
    total = await consume()
    await producer
    return total


@shape((5, 2), guarded=5, tags="tasks")
async def semaphore(ctx: Context) -> tuple[int, int]:
    limit, inside, most = asyncio.Semaphore(2), 0, 0

    async def enter(i: int) -> int:
        nonlocal inside, most
        async with limit:
            inside += 1
            most = max(most, inside)
            await step(ctx, "guarded", i)
            inside -= 1
        return 1

    return sum(await asyncio.gather(*(enter(i) for i in range(5)))), most


@shape([0, 1, 2, 3], page=4, tags="tasks")
async def generators(ctx: Context) -> list[int]:
    async def pages(first: int) -> AsyncGenerator[int]:
        for i in (first, first + 1):
            yield await step(ctx, "page", i)

    async def both() -> AsyncGenerator[int]:
        async for i in pages(0):
            yield i
        async for i in pages(2):
            yield i

    return [i async for i in both()]


@shape(3, open=1, count=3, tags="tasks timers gives-up")
async def conditions(ctx: Context) -> int:
    opened, count = asyncio.Event(), 0

    async def counting(i: int) -> None:
        nonlocal count
        await opened.wait()
        await step(ctx, "count", i)
        count += 1

    waiting = [asyncio.create_task(counting(i)) for i in range(3)]
    await step(ctx, "open")
    opened.set()
    await ctx.wait_for(lambda: count == 3, timeout=3600)
    await asyncio.gather(*waiting)
    return count


# Failures


@shape(3, attempts=3, flaky=1, tags="tasks retries")
async def retries(ctx: Context) -> int:
    return await ctx.task(flaky, 3, retry=PATIENT)


@shape([2, 3, 1], attempts=6, flaky=3, tags="tasks retries")
async def many_retries(ctx: Context) -> list[int]:
    tasks = [ctx.task(flaky, good, retry=PATIENT) for good in (2, 3, 1)]
    return list(await asyncio.gather(*tasks))


@shape("gave up", attempts=3, sorry=1, tags="tasks retries")
async def exhausted(ctx: Context) -> str:
    once_more = RetryPolicy(max_attempts=2, initial=1.0, jitter="none")
    try:
        await ctx.task(broken, "always", retry=once_more)
    except Exception:
        await step(ctx, "sorry")
    return "gave up"


@shape("too slow", attempts=2, slow={"slow": 60_000}, tags="tasks retries")
async def timed_out(ctx: Context) -> str:
    try:
        await step(ctx, "slow", timeout=5, retry=RetryPolicy(max_attempts=2, jitter="none"))
    except Exception:
        return "too slow"
    return "in time"


@shape(failure="builtins:ValueError", attempts=3, first=1, cleanup=1, tags="tasks fails")
async def cleanup(ctx: Context) -> None:
    try:
        await step(ctx, "first")
        await ctx.task(broken, "no")
    finally:
        await step(ctx, "cleanup")


@shape(failure="builtins:KeyError", step=1, tags="tasks fails")
async def failing(ctx: Context) -> None:
    await step(ctx, "step")
    raise KeyError("lost")


@shape(["bad", "rest"], attempts=3, slow={"sibling": 60_000}, rest=1, tags="tasks gives-up")
async def group(ctx: Context) -> list[str]:
    seen: list[str] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_sibling(ctx))
            tasks.create_task(_bad(ctx))
    except* ValueError as errors:
        seen.extend(str(error) for error in errors.exceptions)
    seen.append(await step(ctx, "rest", "rest"))
    return seen


async def _sibling(ctx: Context) -> None:
    await step(ctx, "sibling")


async def _bad(ctx: Context) -> None:
    await ctx.task(broken, "bad")


# Time, and operations that are given up


@shape("fallback", attempts=2, slow={"slow": 60_000}, fallback=1, tags="tasks timers gives-up")
async def deadline(ctx: Context) -> str:
    try:
        async with asyncio.timeout(5):
            return await step(ctx, "slow", "slow")
    except TimeoutError:
        return await step(ctx, "fallback", "fallback")


@shape("timer", attempts=1, slow={"slow": 60_000}, tags="tasks timers gives-up")
async def race_won_by_the_timer(ctx: Context) -> str:
    task, timer = step(ctx, "slow"), ctx.sleep(5)
    done, pending = await asyncio.wait([task, timer], return_when=asyncio.FIRST_COMPLETED)
    for future in pending:
        future.cancel()
    return "timer" if timer in done else "task"


@shape("task", quick=1, tags="tasks timers gives-up")
async def race_won_by_the_task(ctx: Context) -> str:
    return await asyncio.wait_for(step(ctx, "quick", "task"), 3600)


@shape(["late", 2], attempts=2, slow={"late": 60_000}, late=1, more=1, tags="tasks timers gives-up")
async def late_result(ctx: Context) -> list[Any]:
    seen: list[Any] = []
    try:
        await asyncio.wait_for(step(ctx, "late", 1), 5)
    except TimeoutError:
        seen.append("late")
    await ctx.sleep(300)
    seen.append(await step(ctx, "more", 2))
    return seen


@shape(2, attempts=4, slow={"slow": 60_000}, quick=2, tags="tasks gives-up")
async def cancelled(ctx: Context) -> int:
    given_up = [step(ctx, "slow") for _ in range(2)]
    total = await step(ctx, "quick", 1)
    for task in given_up:
        task.cancel()
    return total + await step(ctx, "quick", 1)


@shape(["left", 4], attempts=2, slow={"shielded": 60_000}, shielded=1, quick=1, tags="tasks timers")
async def shielded(ctx: Context) -> list[Any]:
    task = step(ctx, "shielded", 4)
    try:
        await asyncio.wait_for(asyncio.shield(task), 5)
    except TimeoutError:
        await step(ctx, "quick")
    return ["left", await task]


@shape("done", slow={"forgotten": 5_000}, forgotten=1, step=1, tags="tasks")
async def never_awaited(ctx: Context) -> str:
    step(ctx, "forgotten")
    await step(ctx, "step")
    return "done"


@shape("done", attempts=2, slow={"broken": 5_000}, step=1, tags="tasks")
async def fails_unseen(ctx: Context) -> str:
    ctx.task(broken, "nobody looks")
    await step(ctx, "step")
    return "done"


@shape("done", attempts=3, flaky=1, tags="tasks retries")
async def retried_after_the_end(ctx: Context) -> str:
    ctx.task(flaky, 3, retry=PATIENT)
    return "done"


@shape((True, True), step=1, tags="tasks")
async def chance(ctx: Context) -> tuple[bool, bool]:
    number, name = ctx.random.random(), ctx.uuid4()
    again = await step(ctx, "step", (number, str(name)))
    return again[0] == number, again[1] == str(name)


SHAPES: Final = choose(without=["ordered"])
"""All shapes, by name."""
