"""Define shapes with signals, updates, promises and asks.

As in the corpus, each has the same result after any number of crashes, delays and duplicates, and for
every order in which tasks end.
"""

from __future__ import annotations

import asyncio
from typing import Any

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.errors import (
    ExecutionClosed,
    ExecutionNotFound,
    PromiseNotOpen,
    PromiseTimeout,
    UnknownHandler,
)
from mini_workflow.schedules.debounce import debounce
from mini_workflow.schedules.plan import make_plan
from mini_workflow.schedules.workflow import schedule
from mini_workflow.testing.simulation.outside import Say
from mini_workflow.testing.simulation.shapes import broken, shape, signals, step

__all__: list[str] = []

# Signals


@shape([0, 1, 2], says=signals("go", [0, 1, 2]), first=1, between=3, tags="tasks signals")
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
    tags="tasks signals",
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
    tags="tasks timers gives-up signals",
)
async def signal_handlers(ctx: Context) -> list[int]:
    """Return an asynchronous handler, for signals from before it was there and from after."""
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
    says=[
        Say("signal", "a", 1),
        Say("signal", "b", 2),
        Say("signal", "a", 3),
        Say("signal", "end"),
    ],
    item=3,
    tags="tasks signals",
)
async def signal_streams(ctx: Context) -> list[list[Any]]:
    """Receive signals of two names at a time, which do not disturb each other."""
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
    tags="tasks timers signals",
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


@shape(
    "done", says=[*signals("nobody", [1, 2]), Say("signal", "end")], step=1, tags="tasks signals"
)
async def signals_that_nobody_receives(ctx: Context) -> str:
    await step(ctx, "step")
    await ctx.wait_for_signal("end")
    return "done"


# Updates


@shape(
    5,
    says=[
        Say("update", "add", (2,), answer=2),
        Say("update", "add", (-1,), answer=ValueError),
        Say("update", "forget", (1,), answer=UnknownHandler),
        Say("update", "divide", (0,), answer=ZeroDivisionError),
        Say("update", "add", (3,), events.UpdateCompleted, answer=5),
    ],
    tags="updates",
)
async def updates(ctx: Context) -> int:
    """Take accepted, refused, unknown and failing updates at once."""
    total = 0

    def add(n: int) -> int:
        nonlocal total
        total += n
        return total

    def is_positive(n: int) -> None:
        if n < 0:
            raise ValueError(n)

    def divide(n: int) -> float:
        return 1 / n

    ctx.on_update("add", add, validator=is_positive)
    ctx.on_update("divide", divide)
    await ctx.wait_for(lambda: total == 5)
    return total


@shape(
    ["x", "y", "z"],
    attempts=5,
    says=[
        *(Say("update", "put", (name,), answer=f"stored {name}") for name in "xyz"),
        Say("update", "break", (), answer=ValueError),
        Say("signal", "end", None, events.UpdateCompleted, 3),
    ],
    stored=3,
    last=1,
    tags="tasks signals updates",
)
async def updates_with_tasks(ctx: Context) -> list[str]:
    """Handle updates with tasks, one at a time by a lock."""
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
        Say("complete", "paid", "in cash", events.PromiseCreated, answer=PromiseNotOpen),
        Say("fail", "sent", ValueError("lost"), events.PromiseCreated, 2),
        Say("fail", "sent", ValueError("found"), events.PromiseCreated, answer=PromiseNotOpen),
        Say("signal", "end"),
    ],
    step=1,
    tags="tasks signals promises",
)
async def promises(ctx: Context) -> list[str]:
    """Await a promise that is completed already, and one that fails meanwhile."""
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
    tags="tasks timers promises",
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


@shape(
    ["given", "not completed in time", "no heartbeat came", "done"],
    says=[
        Say("complete", "given", "given", events.PromiseCreated, 3),
        Say("heartbeat", "silent", None, events.PromiseCreated, 3),
        Say("heartbeat", "silent", None, events.TimerFired),
        Say("complete", "late", "too late", events.TimerFired, answer=PromiseNotOpen),
    ],
    between=1,
    tags="tasks promises",
)
async def promises_in_time(ctx: Context) -> list[str]:
    """Await a promise that is completed, one whose timeout passes, and one without heartbeats."""
    given = ctx.promise("given", timeout=20, heartbeat=15)
    late = ctx.promise("late", timeout=5)
    silent = ctx.promise("silent", timeout=600, heartbeat=10)
    seen = [await given]
    await step(ctx, "between", given.token)
    for promise, text in (late, "not completed in time"), (silent, "no heartbeat came"):
        try:
            await promise
        except PromiseTimeout as error:
            right = "heartbeat" in str(error) or text == "not completed in time"
            seen.append(text if right else str(error))
    return [*seen, "done"]


@shape(["by card", "ValueError", 2], given=1, tags="tasks promises tells")
async def given_promises(ctx: Context) -> list[Any]:
    """Give values to promises of this execution, by messages as for those of others."""
    paid, sent, spare = ctx.promise("paid"), ctx.promise("sent"), ctx.promise("spare")
    ctx.complete_promise(paid.token, "by card")
    ctx.complete_promise(paid.token, "in cash")
    seen: list[Any] = [await paid]
    ctx.fail_promise(sent.token, ValueError("lost"))
    await step(ctx, "given")
    try:
        await sent
    except ValueError as error:
        seen.append(type(error).__name__)
    ctx.complete_promise(spare.token, 2)
    return [*seen, await spare]


# Executions that others ask


@shape(
    [5, [0, 5], "ValueError", "ExecutionNotFound", 12, None, [5, 7], "ExecutionClosed", [5, 7]],
    between=1,
    tags="tasks starts asks",
)
async def asks_others(ctx: Context) -> list[Any]:
    """Start an execution, and send all kinds of asks to it and to one that does not exist."""
    other = ctx.start("asked", id=f"{ctx.info.execution_id}.asked")
    nobody = ctx.execution(f"{ctx.info.execution_id}.nobody")
    result = other.result()
    seen: list[Any] = [await other.update("add", 5), await other.query("all")]
    seen += [await _seen(other.update("add", -1)), await _seen(nobody.result())]
    await step(ctx, "between")
    seen.append(await other.update("add", 7))
    seen.append(await other.signal("close", confirm=True))
    seen.append(await result)
    seen.append(await _seen(other.signal("close", confirm=True)))
    return [*seen, await other.result()]


async def _seen(asked: Any) -> Any:
    try:
        return await asked
    except (ValueError, ExecutionNotFound, ExecutionClosed) as error:
        return type(error).__name__


@shape(
    [5, 7],
    says=[
        Say("update", "add", (5,), answer=5),
        Say("update", "add", (7,), events.UpdateCompleted, answer=12),
        Say("signal", "close", None, events.UpdateCompleted, 2),
    ],
    added=2,
    tags="tasks signals updates",
)
async def asked(ctx: Context) -> list[int]:
    """Take numbers until a signal closes the execution."""
    numbers: list[int] = []

    async def add(number: int) -> int:
        numbers.append(await step(ctx, "added", number))
        return sum(numbers)

    def check(number: int) -> None:
        if number < 0:
            raise ValueError(number)

    ctx.on_update("add", add, validator=check)
    ctx.on_query("all", lambda: [0, *numbers])
    await ctx.wait_for_signal("close")
    return numbers


# Detached executions


@shape(
    [("completed", "x-1.one"), ("completed", "x-1.two")],
    last=1,
    tags="tasks signals starts",
)
async def detached_executions(ctx: Context) -> list[tuple[str, str]]:
    """Start detached executions, one id of them twice."""
    name = ctx.info.execution_id
    for part in ("one", "two", "one"):
        ctx.start("detached", id=f"{name}.{part}", notify="closed")
    ends = [await ctx.wait_for_signal("closed") for _ in range(3)]
    await step(ctx, "last")
    return sorted((t["status"], t["id"]) for t in ends if t["status"] != "not started")


@shape(
    None,
    says=[Say("update", "delete", (), events.SignalReceived, count=3)],
    tags="timers inline signals updates starts gives-up",
)
async def scheduled(ctx: Context) -> None:
    """Start an execution every minute, as a schedule, until it is deleted."""
    await schedule(ctx, make_plan("detached", (), every=60, catch_up=3600))


TOLD = Say("update", "delete", (), events.SignalReceived)


@shape(None, says=[TOLD], tags="timers inline signals updates starts gives-up")
async def scheduled_one_after_the_other(ctx: Context) -> None:
    """Start executions of more than a minute, each when the one before has closed."""
    await schedule(ctx, make_plan("sleeping", (), every=60, overlap="buffer_all", catch_up=3600))


@shape(None, says=[TOLD], tags="timers inline signals updates starts gives-up tells")
async def scheduled_instead_of_another(ctx: Context) -> None:
    """Start the next one when the one before has been cancelled."""
    plan = make_plan("sleeping", (), every=60, overlap="cancel_other", catch_up=3600)
    await schedule(ctx, plan)


@shape(None, says=[TOLD], tags="timers inline signals updates starts gives-up tells")
async def scheduled_over_another(ctx: Context) -> None:
    """Start the next one, and terminate the one before."""
    plan = make_plan("sleeping", (), every=60, overlap="terminate_other", catch_up=3600)
    await schedule(ctx, plan)


def _call(name: str, wait: int) -> tuple[Any, ...]:
    return ([], {}, None, wait, 150_000, name)


@shape(
    "debounced",
    says=[
        Say("update", "call", _call("debounced", 60_000), answer="debounced"),
        Say("update", "call", _call("other", 100_000), answer="debounced"),
        Say("update", "call", _call("other", 50_000), answer="debounced"),
    ],
    tags="timers updates starts gives-up",
)
async def debounce_calls(ctx: Context) -> str:
    """Start an execution once the calls have ended."""
    return await debounce(ctx, "detached")


@shape(1, of_its_own=1, tags="tasks")
async def detached(ctx: Context) -> int:
    return await step(ctx, "of_its_own", 1)
