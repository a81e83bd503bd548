"""Workflows that are sent messages, undo what they have done, have children, change and continue.

As those of the corpus they return what they have seen, in order.
"""

# ruff: noqa: PERF401 - loops as users write them

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.errors import ChildFailed, PromiseTimeout, WorkerLost
from mini_workflow.testing.simulation.outside import Say
from mini_workflow.testing.simulation.shapes import shape, signals
from tests.laws.shapes import answers_come, asked_for, children_end, double, fail

__all__: list[str] = []


@shape(says=signals("go", range(4)), tags="ordered tasks signals")
async def signals_in_order(ctx: Context) -> list[Any]:
    seen: list[Any] = [await ctx.task(double, 1)]
    for _ in range(4):
        seen += [await ctx.wait_for_signal("go"), await ctx.task(double, 2)]
    return seen


@shape(
    says=[*signals("go", range(3)), Say("signal", "stop")], tags="ordered timers gives-up signals"
)
async def signals_against_time(ctx: Context) -> list[Any]:
    seen: list[Any] = []
    for n in range(3):
        try:
            async with asyncio.timeout(5 * n + 1):
                seen.append(await ctx.wait_for_signal("go"))
        except TimeoutError:
            seen.append("late")
    await ctx.wait_for_signal("stop")
    return seen


@shape(says=signals("item", range(4)), tags="ordered tasks timers gives-up signals fails")
async def signal_handlers(ctx: Context) -> list[Any]:
    seen: list[Any] = [await ctx.task(double, 1)]

    async def handle(value: int) -> None:
        seen.append(value)
        seen.append(f"{value}: {await ctx.task(double, value)}")

    ctx.on_signal("item", handle)
    await ctx.wait_for(lambda: len(seen) == 9, timeout=3600)
    return seen


@shape(
    says=[Say("signal", name, n) for n, name in enumerate("abab", 1)], tags="ordered tasks signals"
)
async def signal_streams(ctx: Context) -> list[Any]:
    seen: list[Any] = []

    async def listen(name: str) -> None:
        async for value in ctx.signals(name):
            seen.append([name, value, await ctx.task(double, value)])

    listening = [asyncio.create_task(listen(name)) for name in "ab"]
    await ctx.wait_for(lambda: len(seen) == 4)
    for task in listening:
        task.cancel()
    return seen


@shape(
    says=[Say("signal", "nobody", 1), Say("signal", "somebody", 2), Say("signal", "nobody", 3)],
    tags="ordered tasks timers signals",
)
async def signals_unhandled(ctx: Context) -> list[Any]:
    def handle(value: Any) -> None:
        seen.append(value)

    seen: list[Any] = []
    ctx.on_signal("somebody", handle)
    await ctx.task(double, 1)
    await ctx.sleep(1)
    return seen


@shape(
    says=[
        Say("update", "put", (1,)),
        Say("update", "put", (-1,)),
        Say("update", "break", ("x",)),
        Say("update", "put", (1,)),
        Say("update", "unknown", ()),
        Say("update", "put", (2,)),
        Say("signal", "end"),
    ],
    tags="ordered tasks gives-up signals updates",
)
async def updates(ctx: Context) -> list[Any]:
    seen: list[Any] = []
    lock = asyncio.Lock()

    async def put(n: int) -> str:
        async with lock:
            seen.append(await ctx.task(double, n))
            return f"put {n}"

    def check(n: int) -> None:
        if n < 0:
            raise ValueError(n)

    async def stop(text: str) -> None:
        seen.append("breaking")
        await ctx.task(fail, text)

    ctx.on_update("put", put, validator=check)
    ctx.on_update("break", stop)
    await ctx.wait_for_signal("end")
    return seen


@shape(
    says=[
        Say("complete", "a", 1),
        Say("fail", "c", ValueError("no")),
        Say("complete", "b", 2),
    ],
    tags="ordered tasks timers gives-up promises",
)
async def promises(ctx: Context) -> list[Any]:
    a, b, c = (ctx.promise(name) for name in "abc")
    seen: list[Any] = []
    try:
        await asyncio.wait_for(b, 3)
    except TimeoutError:
        seen.append("late")
    await ctx.task(double, 1)
    try:
        await c
    except ValueError as error:
        seen.append(str(error))
    return [*seen, await a, await b]


@shape(
    says=[Say("complete", "a", 1), Say("complete", "b", 2, events.TimerFired)],
    tags="ordered tasks timers promises",
)
async def promises_in_time(ctx: Context) -> list[Any]:
    a, b = ctx.promise("a", timeout=60, heartbeat=20), ctx.promise("b", timeout=50)
    c, d = ctx.promise("c", timeout=5), ctx.promise(heartbeat=1.5)
    seen: list[Any] = []
    for promise in (a, c, d, b):
        try:
            seen.append(await promise)
        except PromiseTimeout as error:
            seen.append(str(error))
    await ctx.task(double, 1)
    await ctx.sleep(1)
    return seen


@shape(tags="ordered tasks tells")
async def gives_promises(ctx: Context) -> None:
    ctx.complete_promise("elsewhere~1~secret", await ctx.task(double, 1))
    ctx.fail_promise("elsewhere~2~secret", ValueError("no"))
    await ctx.task(double, 2)
    ctx.complete_promise("elsewhere~3~secret")


@answers_come(5, ValueError("no"), ("x", 1), None, "late", KeyError("gone"))
@shape(tags="ordered tasks timers asks")
async def asks_others(ctx: Context) -> list[Any]:
    other, seen = ctx.execution("other-1"), list[Any]()
    add, refused = other.update("add", 2, times=3), other.update("add", -1)
    total = other.query("total")
    seen.append(await add)
    await ctx.task(double, 1)
    closed = other.signal("close", {"why": "done"}, confirm=True)
    limited, result = other.result(), other.result()
    try:
        async with asyncio.timeout(60):
            seen.append(await limited)
    except TimeoutError:
        seen.append("too late")
    return [*seen, *await asyncio.gather(refused, total, closed, result, return_exceptions=True)]


@asked_for(
    ("update", "add", [[5], {}]),
    ("result", "", None),
    ("query", "all", [[], {}]),
    ("signal", "close", 7),
)
@shape(tags="ordered tasks signals updates")
async def is_asked(ctx: Context) -> list[int]:
    numbers: list[int] = []

    async def add(number: int) -> int:
        numbers.append(await ctx.task(double, number))
        return len(numbers)

    ctx.on_update("add", add)
    ctx.on_query("all", lambda: numbers)
    await ctx.wait_for(lambda: bool(numbers))
    numbers.append(await ctx.wait_for_signal("close"))
    return numbers


@answers_come(KeyError("nothing of it"))
@shape(
    says=[Say("update", "tell", (1,)), Say("signal", "go", 1)], tags="ordered signals updates asks"
)
async def asked_meanwhile(ctx: Context) -> list[Any]:
    """It answers others while it waits for an answer itself."""
    seen: list[Any] = []

    async def tell(value: int) -> int:
        with contextlib.suppress(KeyError):
            seen.append(await ctx.execution("other-2").query("tell", value))
        return len(seen)

    ctx.on_update("tell", tell)
    seen.append(await ctx.wait_for_signal("go"))
    await ctx.wait_for(ctx.all_handlers_finished)
    return seen


@shape(says=[Say("cancel", "enough")], tags="ordered tasks timers gives-up cancelled fails")
async def cancelled_with_cleanup(ctx: Context) -> None:
    kept = ctx.task(double, 1, name="kept")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep(100))  # type: ignore[arg-type]
            group.create_task(_tidy(ctx, ctx.sleep(200)))
            await asyncio.shield(ctx.sleep(300))
    finally:
        await kept
        await ctx.task(double, 3, name="cleanup")


async def _tidy(ctx: Context, waiting: asyncio.Future[Any]) -> None:
    try:
        await waiting
    finally:
        await ctx.task(double, 2, name="tidy")


@shape(
    says=[Say("cancel", "why"), Say("signal", "go", 1)],
    tags="ordered timers signals cancelled fails",
)
async def cancel_that_is_caught(ctx: Context) -> list[Any]:
    seen: list[Any] = []
    try:
        await asyncio.shield(ctx.sleep(50))
    except asyncio.CancelledError as error:
        seen.append(str(error))
    return [*seen, await ctx.wait_for_signal("go")]


@shape(tags="ordered tasks fails")
async def undone(ctx: Context) -> None:
    await asyncio.gather(*(ctx.task(double, i, name=f"book {i}", undo=double) for i in range(3)))
    await ctx.task(double, 9, name="pay", undo=double)
    await ctx.task(fail, "no room")


@shape(
    says=[Say("cancel", "changed my mind")], tags="ordered tasks timers gives-up cancelled fails"
)
async def undone_after_a_cancel(ctx: Context) -> None:
    await ctx.task(double, 1, name="book", undo=double)
    await ctx.sleep(1000)


def dies() -> None:
    raise WorkerLost("killed")


@shape(tags="ordered tasks retries")
async def worker_lost(ctx: Context) -> list[str]:
    seen: list[str] = []
    for retry in (None, RetryPolicy(max_attempts=1)):
        try:
            await ctx.task(dies, retry=retry)
        except WorkerLost as error:
            seen.append(str(error))
    return seen


@shape(says=[Say("signal", "go")], tags="ordered tasks timers signals patches")
async def patched(ctx: Context) -> list[bool]:
    seen = [ctx.patched("a")]
    await ctx.task(double, 1)
    for _ in range(2):
        seen.append(ctx.patched("b"))
        await ctx.sleep(1)
    await ctx.wait_for_signal("go")
    return [*seen, ctx.patched("a"), ctx.patched("c")]


@shape(tags="ordered timers gives-up children tells")
@children_end(
    c_1="one",
    c_0=ValueError("zero"),
    c_2="two",
    c_3="three",
)
async def children(ctx: Context) -> list[Any]:
    seen: list[Any] = []
    started = [ctx.child("other", i, id=f"c-{i}", on_parent_close="cancel") for i in range(3)]
    started[1].signal("go", 1)
    for child in started:
        try:
            seen.append(await child)
        except ChildFailed as error:
            seen.append(repr(error.__cause__))
    late = ctx.child("other", id="c-3")
    try:
        await asyncio.wait_for(late, 5)
    except TimeoutError:
        seen.append("given up")
    ctx.child("other", id="c-4", on_parent_close="abandon")
    ctx.execution("elsewhere").signal("hello", seen)
    ctx.execution("elsewhere").cancel("why")
    return seen


@shape(says=signals("go", range(4)), tags="ordered tasks signals continues")
async def continued_with_signals(ctx: Context, n: int = 0) -> None:
    first = await ctx.wait_for_signal("go")
    ctx.task(double, 1, name="left open")
    await ctx.task(double, first)
    async with asyncio.TaskGroup():
        ctx.continue_as_new(n + 1)
