"""Workflows that are spoken to: shapes with signals, updates, promises, cancellations and further runs.

As those of the corpus, each comes to the same result after any number of crashes, delays and
duplicates, whatever the order in which tasks end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.current import current_task
from mini_workflow.errors import PromiseNotOpen, UnknownHandler, WorkerLost
from mini_workflow.testing.ledger import Ledger
from mini_workflow.testing.outside import Say
from mini_workflow.testing.shapes import PATIENT, broken, shape, step


def signals(
    name: str, values: Sequence[Any], after: type[Any] = events.ExecutionStarted
) -> list[Say]:
    """Signals with these values, one after the other."""
    return [Say("signal", name, value, after) for value in values]


# Signals


@shape([0, 1, 2], says=signals("go", [0, 1, 2]), first=1, between=3)
async def signals_before_anybody_listens(ctx: Context) -> list[int]:
    await step(ctx, "first")
    seen: list[int] = []
    for _ in range(3):
        seen.append(await ctx.wait_for_signal("go"))
        await step(ctx, "between")
    return seen


@shape(
    ["a", "b", "c"],
    says=[Say("signal", "go", value, events.TaskCompleted, n) for n, value in enumerate("abc")],
    round=3,
)
async def signals_while_it_listens(ctx: Context) -> list[str]:
    seen: list[str] = []
    for _ in range(3):
        seen.append(await ctx.wait_for_signal("go"))
        await step(ctx, "round")
    return seen


@shape(
    [0, 1, 2, 3, 4],
    says=[*signals("item", [0, 1]), *signals("item", [2, 3, 4], events.TaskCompleted)],
    first=1,
    handled=5,
    last=1,
)
async def signal_handlers(ctx: Context) -> list[int]:
    """An asynchronous handler, for signals from before it was there and from after."""
    seen: list[int] = []

    async def handle(value: int) -> None:
        seen.append(value)
        await step(ctx, "handled", value)
        done.append(value)

    done: list[int] = []
    await step(ctx, "first")
    ctx.on_signal("item", handle)
    await ctx.wait_for(lambda: len(done) == 5, timeout=3600)
    await step(ctx, "last")
    return seen


@shape(
    [["a", 1], ["b", 2], ["a", 3]],
    says=[Say("signal", "a", 1), Say("signal", "b", 2), Say("signal", "a", 3), Say("signal", "end")],
    item=3,
)
async def signal_streams(ctx: Context) -> list[list[Any]]:
    """Two names at a time; what one of them brings does not disturb the other."""
    seen: list[list[Any]] = []

    async def listen(name: str) -> None:
        async for value in ctx.signals(name):
            await step(ctx, "item", value)
            seen.append([name, value])

    listening = [asyncio.create_task(listen(name)) for name in "ab"]
    await ctx.wait_for_signal("end")
    await ctx.wait_for(lambda: len(seen) == 3)
    for task in listening:
        task.cancel()
    return sorted(seen, key=lambda entry: entry[1])


@shape(
    ["late", "then", "kept"],
    says=[Say("signal", "go", "then", events.TimerFired), Say("signal", "go", "kept")],
    after=1,
)
async def signal_after_the_timeout(ctx: Context) -> list[str]:
    seen: list[str] = []
    try:
        async with asyncio.timeout(5):
            await ctx.wait_for_signal("go")
    except TimeoutError:
        seen.append("late")
    await step(ctx, "after")
    return [*seen, await ctx.wait_for_signal("go"), await ctx.wait_for_signal("go")]


@shape("done", says=[*signals("nobody", [1, 2]), Say("signal", "end")], step=1)
async def signals_that_nobody_receives(ctx: Context) -> str:
    await step(ctx, "step")
    await ctx.wait_for_signal("end")
    return "done"


# Updates


@shape(
    5,
    says=[
        Say("update", "add", (2,), told=2),
        Say("update", "add", (-1,), told=ValueError),
        Say("update", "forget", (1,), told=UnknownHandler),
        Say("update", "divide", (0,), told=ZeroDivisionError),
        Say("update", "add", (3,), events.UpdateCompleted, told=5),
    ],
)
async def updates(ctx: Context) -> int:
    """Accepted, refused, unknown and failing ones, handled at once."""
    total = 0

    def add(n: int) -> int:
        nonlocal total
        total += n
        return total

    def is_positive(n: int) -> None:
        if n < 0:
            raise ValueError(n)

    ctx.on_update("add", add, validator=is_positive)
    ctx.on_update("divide", lambda n: 1 / n)
    await ctx.wait_for(lambda: total == 5)
    return total


@shape(
    ["x", "y", "z"],
    attempts=5,
    says=[
        *(Say("update", "put", (name,), told=f"stored {name}") for name in "xyz"),
        Say("update", "break", (), told=ValueError),
        Say("signal", "end", None, events.UpdateCompleted, 3),
    ],
    stored=3,
    last=1,
)
async def updates_with_tasks(ctx: Context) -> list[str]:
    """Handlers that run tasks, one at a time by a lock."""
    lock, stored, failures = asyncio.Lock(), list[str](), 0

    async def put(name: str) -> str:
        async with lock:
            await step(ctx, "stored", name)
            stored.append(name)
            return f"stored {name}"

    async def fail() -> None:
        nonlocal failures
        try:
            await ctx.task(broken, "no")
        finally:
            failures += 1

    ctx.on_update("put", put)
    ctx.on_update("break", fail)
    await ctx.wait_for_signal("end")
    await ctx.wait_for(lambda: len(stored) == 3 and failures == 1)
    await step(ctx, "last")
    return sorted(stored)


# Promises


@shape(
    ["by card", "ValueError"],
    says=[
        Say("complete", "paid", "by card", events.PromiseCreated),
        Say("complete", "paid", "in cash", events.PromiseCreated, told=PromiseNotOpen),
        Say("fail", "sent", ValueError("lost"), events.PromiseCreated, 2),
        Say("fail", "sent", ValueError("found"), events.PromiseCreated, told=PromiseNotOpen),
        Say("signal", "end"),
    ],
    step=1,
)
async def promises(ctx: Context) -> list[str]:
    """One is completed before it is awaited, the other one fails while it is."""
    paid = ctx.promise("paid")
    await step(ctx, "step", paid.token)
    sent = ctx.promise("sent")
    seen: list[str] = []
    try:
        await sent
    except ValueError as error:
        seen.append(type(error).__name__)
    await ctx.wait_for_signal("end")
    return [await paid, *seen]


@shape(
    ["late", "yes", "never"],
    says=[Say("complete", "answer", "yes", events.TimerFired)],
    reminded=1,
)
async def promise_with_a_timeout(ctx: Context) -> list[str]:
    answer, other, seen = ctx.promise("answer"), ctx.promise("other"), list[str]()
    try:
        await asyncio.wait_for(answer, 5)
    except TimeoutError:
        seen.append("late")
    await step(ctx, "reminded")
    seen.append(await answer)
    try:
        async with asyncio.timeout(60):
            await other
    except TimeoutError:
        seen.append("never")
    return seen


# Cancellation

ONCE_RUNNING = Say("cancel", "no more", after=events.TaskScheduled)


@shape(
    failure="ExecutionCancelled",
    says=[ONCE_RUNNING],
    slow={"slow": 60_000},
    attempts=3,
    cleanup=2,
)
async def cancelled_with_cleanup(ctx: Context) -> None:
    try:
        await step(ctx, "slow")
    finally:
        await step(ctx, "cleanup")
        await step(ctx, "cleanup")


@shape("made the best of it", says=[ONCE_RUNNING], slow={"slow": 60_000}, attempts=2, rest=1)
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
)
async def cancelled_in_a_group(ctx: Context) -> None:
    """A shielded task goes on; siblings clean up, each with a task."""
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
    **{"undo charge": 1, "undo reserve": 1},
    dies={"undo reserve": 1},
)
async def undone_after_a_failure(ctx: Context) -> None:
    await step(ctx, "charge", 7, undo=_undo)
    await step(ctx, "reserve", 8, undo=_undo)
    await ctx.task(broken, "out of stock")


@shape(
    failure="ExecutionCancelled",
    says=[Say("signal", "go"), Say("cancel", "no", after=events.TaskCompleted, count=2)],
    charge=2,
    **{"undo charge": 2},
)
async def undone_after_a_cancel(ctx: Context) -> None:
    await asyncio.gather(*(step(ctx, "charge", i, undo=_undo) for i in range(2)))
    await ctx.wait_for_signal("go")
    await ctx.sleep(3600)


def _undo(result: Any) -> Any:
    Ledger.note()
    return result


# Workers that die


@shape([5, "lost"], attempts=4, dies={"fragile": 2, "frail": 1}, fragile=1)
async def workers_that_die(ctx: Context) -> list[Any]:
    seen: list[Any] = [await step(ctx, "fragile", 5, retry=PATIENT)]
    try:
        await step(ctx, "frail", retry=RetryPolicy(max_attempts=1))
    except WorkerLost:
        seen.append("lost")
    return seen


@shape(6, attempts=3, pages=1)
async def heartbeats(ctx: Context) -> int:
    """What an attempt has said of itself reaches the next one."""
    return await ctx.task(pages, 6, retry=PATIENT, heartbeat_timeout=60)


def pages(count: int) -> int:
    """A task that gets on by two pages in each attempt."""
    Ledger.note()
    task = current_task()
    done: int = task.last_heartbeat or 0
    for page in range(done + 1, count + 1):
        task.heartbeat(page)
        if page == done + 2 and page < count:
            raise ConnectionError(f"after page {page}")
    return count


@shape(["item 2", [0, 2, 4]], slow={"item": 1_000}, attempts=6, item=5)
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


@shape([True, True, True], says=[Say("signal", "go")], new=3)
async def patched(ctx: Context) -> list[bool]:
    """Asked before and behind everything that is recorded, and again and again."""
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
)
async def continued_with_signals(ctx: Context, seen: tuple[int, ...] = ()) -> list[int]:
    """Each run receives one signal; those that wait behind it, and those on the way, move on."""
    seen = (*seen, await ctx.wait_for_signal("go"))
    await step(ctx, "round", seen[-1])
    if len(seen) < 5:
        ctx.continue_as_new(seen)
    return list(seen)


@shape([0, 1, 2, 3], says=signals("go", [0, 1, 2, 3]), last=1)
async def continued_at_once(ctx: Context, seen: tuple[int, ...] = ()) -> list[int]:
    """A run ends in the turn in which its signal arrives."""
    seen = (*seen, await ctx.wait_for_signal("go"))
    if len(seen) < 4:
        ctx.continue_as_new(seen)
    await step(ctx, "last")
    return list(seen)


@shape(
    6,
    says=[
        Say("signal", "add", 1),
        Say("update", "add", (2,), told="added 2"),
        Say("signal", "add", 3, events.ContinuedAsNew),
    ],
    added=3,
)
async def continued_with_handlers(ctx: Context, total: int = 0) -> int:
    """Handlers of signals and updates, done before the run goes on as a new one."""
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
)
async def continued_until_cancelled(ctx: Context, n: int = 0) -> None:
    await step(ctx, "round", n)
    if n < 2:
        ctx.continue_as_new(n + 1)
    try:
        await ctx.sleep(3600)
    finally:
        await step(ctx, "cleanup")
