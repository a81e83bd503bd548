"""Workflows of every shape that asyncio and the context allow.

Each returns what it has seen, in order, so that its history holds the interleaving.
"""

# ruff: noqa: B023, PERF401 - tasks take loop variables as they are at the call; loops as users write them

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from mini_workflow.context import Context
from mini_workflow.core.limit import Limit
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.core.timing import Timing
from mini_workflow.errors import ClosureNotSerializable
from mini_workflow.testing.simulation.shapes import choose, shape
from tests.laws import spoken
from tests.laws.shapes import double, fail, flaky, own_slot_comes, slots_come

Limit("laws.few", concurrency=1)

__all__ = ["SHAPES", "double", "fail", "flaky", "spoken"]


@shape(tags="ordered")
async def nothing(ctx: Context) -> None:
    return None


@shape(tags="ordered tasks timers")
async def sequence(ctx: Context) -> list[int]:
    seen: list[int] = []
    for i in range(4):
        seen.append(await ctx.task(lambda: i * i))
        await ctx.sleep(i)
    return seen


@shape(tags="ordered tasks timers")
async def tagged(ctx: Context) -> int:
    """Tags that change, that stay as they are, and that are removed."""
    seen = 0
    for i in range(3):
        ctx.set_tags({"stage": str(i), "odd": "yes" if i % 2 else None})
        seen += await ctx.task(double, i)
        ctx.set_tags({"stage": str(i)})
        await ctx.sleep(i)
    return seen


@shape(tags="ordered tasks timers")
async def gathering(ctx: Context) -> Any:
    return await asyncio.gather(
        ctx.task(double, 1), ctx.sleep(2), asyncio.sleep(1, "slept"), ctx.task(double, 2)
    )


@shape(tags="ordered tasks")
async def gathering_errors(ctx: Context) -> list[str]:
    results = await asyncio.gather(
        ctx.task(fail, "a"), ctx.task(double, 1), ctx.task(fail, "b"), return_exceptions=True
    )
    return [repr(result) for result in results]


@shape(tags="ordered tasks timers gives-up")
async def gathering_fails(ctx: Context) -> list[str]:
    seen: list[str] = []

    async def branch(name: str) -> None:
        try:
            await ctx.sleep(5)
        finally:
            seen.append(name)

    try:
        await asyncio.gather(branch("x"), ctx.task(fail, "a"), branch("y"))
    except ValueError as error:
        seen.append(str(error))
    return seen


@shape(tags="ordered tasks")
async def gather_of_gathers(ctx: Context) -> list[str]:
    groups = {
        asyncio.gather(ctx.task(double, i), ctx.task(double, i + 10), return_exceptions=True)
        for i in range(5)
    }
    seen: list[str] = []
    while groups:
        done, groups = await asyncio.wait(groups, return_when=asyncio.FIRST_COMPLETED)
        seen += [str(group.result()) for group in done]
    return seen


@shape(tags="ordered tasks")
async def first_completed(ctx: Context) -> list[int]:
    pending: set[asyncio.Future[int]] = {ctx.task(double, i) for i in range(6)}
    seen: list[int] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        seen += [future.result() for future in done]
    return seen


@shape(tags="ordered tasks gives-up")
async def first_exception(ctx: Context) -> list[str]:
    tasks = [ctx.task(double, 1), ctx.task(fail, "a"), ctx.task(double, 2), ctx.task(fail, "b")]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    seen = [repr(future.exception() or future.result()) for future in done]
    for future in pending:
        future.cancel()
    return [*seen, str(len(pending))]


@shape(tags="ordered timers gives-up")
async def all_completed_in_time(ctx: Context) -> list[int]:
    tasks = [asyncio.create_task(asyncio.sleep(i, i)) for i in (3, 1, 2, 9)]
    done, pending = await asyncio.wait(tasks, timeout=5)
    return [*(task.result() for task in done), len(pending)]


@shape(tags="ordered tasks")
async def as_they_complete(ctx: Context) -> list[int]:
    futures = [ctx.task(double, i) for i in range(5)]
    return [await future for future in asyncio.as_completed(futures)]


@shape(tags="ordered tasks timers gives-up")
async def coroutines_as_they_complete(ctx: Context) -> list[str]:
    async def branch(i: int) -> str:
        value = await ctx.task(double, i)
        await asyncio.sleep(0.5 * (5 - i))
        return f"{i}:{value}"

    seen: list[str] = []
    try:
        for future in asyncio.as_completed([branch(i) for i in range(5)], timeout=2):
            seen.append(await future)
    except TimeoutError:
        seen.append("timeout")
    return seen


@shape(tags="ordered tasks timers")
async def task_group(ctx: Context) -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.task(double, i)) for i in range(4)]  # type: ignore[arg-type]
        group.create_task(asyncio.sleep(1))
    return [task.result() for task in tasks]


@shape(tags="ordered tasks timers gives-up")
async def task_group_fails(ctx: Context) -> list[str]:
    seen: list[str] = []

    async def branch(name: str) -> None:
        try:
            await ctx.sleep(100)
        except asyncio.CancelledError:
            seen.append(f"cancelled {name}")
            await ctx.task(double, len(name))
            seen.append(f"cleaned {name}")
            raise

    try:
        async with asyncio.TaskGroup() as outer:
            for name in "abcdefghij":
                outer.create_task(branch(name))
            async with asyncio.TaskGroup() as inner:
                inner.create_task(branch("inner"))
                inner.create_task(ctx.task(fail, "inner failure"))  # type: ignore[arg-type]
    except* ValueError as group:
        seen.append(repr(group.exceptions))
    return seen


@shape(tags="ordered tasks timers gives-up fails")
async def timeout_expires(ctx: Context) -> list[str]:
    seen: list[str] = []
    try:
        async with asyncio.timeout(0.2):
            await asyncio.gather(ctx.task(double, 1), ctx.sleep(10))
    except TimeoutError:
        seen.append(f"timeout at {ctx.now().isoformat()}")
    async with asyncio.timeout(50):
        seen.append(str(await ctx.task(double, 2)))
    return seen


@shape(tags="ordered timers gives-up")
async def timeout_at_expires(ctx: Context) -> str:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(loop.time() + 1.5) as scope:
            scope.reschedule(loop.time() + 2.5)
            await ctx.sleep(60)
    except TimeoutError:
        return f"{ctx.now().isoformat()} {scope.expired()}"
    return "not reached"


@shape(tags="ordered tasks timers gives-up")
async def wait_for_expires(ctx: Context) -> list[str]:
    seen: list[str] = []
    for limit in (0.0, 1.0, 100.0):
        try:
            seen.append(str(await asyncio.wait_for(ctx.task(double, 21), limit)))
        except TimeoutError:
            seen.append("timeout")
    return seen


@shape(tags="ordered tasks timers gives-up")
async def shielding(ctx: Context) -> list[str]:
    inner = ctx.task(double, 1)
    seen: list[str] = []
    try:
        await asyncio.wait_for(asyncio.shield(inner), 0.001)
        seen.append("in time")
    except TimeoutError:
        seen.append("shielded")
    return [*seen, str(await inner)]


@shape(tags="ordered tasks")
async def queues(ctx: Context) -> list[str]:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
    seen: list[str] = []

    async def produce(base: int) -> None:
        for i in range(3):
            await queue.put(base + await ctx.task(double, i))

    async def consume(name: str) -> None:
        while True:
            seen.append(f"{name}{await queue.get()}")
            queue.task_done()

    consumers = [asyncio.create_task(consume(name)) for name in "ab"]
    await asyncio.gather(produce(0), produce(100))
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    return seen


@shape(tags="ordered tasks")
async def other_queues(ctx: Context) -> list[int]:
    last_in: asyncio.LifoQueue[int] = asyncio.LifoQueue()
    smallest: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()

    async def fill(i: int) -> None:
        value = await ctx.task(double, i)
        last_in.put_nowait(value)
        smallest.put_nowait(value)

    await asyncio.gather(*(fill(i) for i in (3, 1, 2)))
    return [await last_in.get() for _ in range(3)] + [await smallest.get() for _ in range(3)]


@shape(tags="ordered tasks timers")
async def locking(ctx: Context) -> list[str]:
    lock, seen = asyncio.Lock(), list[str]()

    async def branch(name: str) -> None:
        async with lock:
            seen.append(f"{name} in")
            await ctx.task(double, 1)
            seen.append(f"{name} out")

    await asyncio.gather(*(branch(name) for name in "abc"))
    async with lock:
        try:
            await asyncio.wait_for(lock.acquire(), 1)
        except TimeoutError:
            seen.append("taken")
    return seen


@shape(tags="ordered tasks")
async def semaphores(ctx: Context) -> list[str]:
    seen: list[str] = []
    for semaphore in (asyncio.Semaphore(2), asyncio.BoundedSemaphore(2)):

        async def branch(name: str, semaphore: Any = semaphore) -> None:
            async with semaphore:
                seen.append(f"{name} in")
                await ctx.task(double, 1)
                seen.append(f"{name} out")

        await asyncio.gather(*(branch(name) for name in "abcd"))
    return seen


@shape(tags="ordered tasks timers")
async def events_and_conditions(ctx: Context) -> list[str]:
    event, condition, seen = asyncio.Event(), asyncio.Condition(), list[str]()

    async def wait(name: str) -> None:
        await event.wait()
        async with condition:
            seen.append(f"{name} waits")
            await condition.wait_for(lambda: len(seen) >= 3)
            seen.append(f"{name} goes on")

    waiting = [asyncio.create_task(wait(name)) for name in "abc"]
    await ctx.task(double, 1)
    event.set()
    await ctx.sleep(1)
    async with condition:
        condition.notify_all()
    await asyncio.wait(waiting)
    return seen


@shape(tags="ordered tasks")
async def barrier(ctx: Context) -> list[str]:
    wall, seen = asyncio.Barrier(3), list[str]()

    async def branch(i: int) -> None:
        await ctx.task(double, i)
        position = await wall.wait()
        seen.append(f"{i} at {position}")

    await asyncio.gather(*(branch(i) for i in range(3)))
    return seen


@shape(tags="ordered tasks")
async def generators(ctx: Context) -> list[str]:
    seen: list[str] = []

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            for i in range(3):
                yield await ctx.task(double, i)
        finally:
            seen.append(f"{name} closed")
            await ctx.task(double, 99)

    async for number in numbers("whole"):
        seen.append(str(number))
    async for number in numbers("abandoned"):
        seen.append(str(number))
        break
    another = numbers("another")
    await anext(another)
    return seen


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@shape(tags="ordered tasks timers")
async def context_variables(ctx: Context) -> list[str]:
    seen = [variable.get()]
    variable.set("main")

    async def branch(name: str) -> None:
        seen.append(f"{name} {variable.get()}")
        variable.set(name)
        await ctx.task(double, 1)
        seen.append(f"{name} {variable.get()}")

    await asyncio.gather(branch("a"), branch("b"))
    asyncio.get_running_loop().call_later(1, lambda: seen.append(f"timer {variable.get()}"))
    await ctx.sleep(2)
    return [*seen, variable.get()]


@shape(tags="ordered tasks retries")
async def retries(ctx: Context) -> list[str]:
    policy = RetryPolicy(max_attempts=3, initial=1.0, jitter="equal", retry_on=(ConnectionError,))
    results = await asyncio.gather(
        ctx.task(flaky, retry=policy),
        ctx.task(fail, "once", retry=policy),
        ctx.task(flaky, retry=RetryPolicy(max_attempts=2)),
        return_exceptions=True,
    )
    return [repr(result) for result in results]


@shape(tags="ordered timers gives-up")
async def handles(ctx: Context) -> list[str]:
    loop, seen = asyncio.get_running_loop(), list[str]()
    loop.call_later(0.2, seen.append, "later")
    loop.call_at(loop.time() + 0.1, seen.append, "at")
    loop.call_soon(seen.append, "soon")
    given_up = loop.call_later(0.3, seen.append, "never")
    loop.call_soon(seen.append, "never either").cancel()
    await ctx.sleep(0.15)
    given_up.cancel()
    given_up.cancel()
    await ctx.sleep(1)
    return [*seen, str(given_up.cancelled())]


@shape(tags="ordered tasks timers gives-up")
async def left_running(ctx: Context) -> str:
    async def background(name: str) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            await ctx.task(double, len(name))
            asyncio.create_task(asyncio.sleep(500))  # noqa: RUF006

    for name in ("a", "bb", "ccc"):
        asyncio.create_task(background(name))  # noqa: RUF006
    await ctx.sleep(1)
    return "done"


@shape(tags="ordered timers")
async def durations(ctx: Context) -> list[str]:
    seen: list[str] = []
    for delay in (0, -1, 0.0004, 0.25, timedelta(milliseconds=30), timedelta(days=-1)):
        await ctx.sleep(delay)
        seen.append(ctx.now().isoformat())
    await ctx.sleep_until(ctx.now() + timedelta(seconds=3))
    return [*seen, ctx.now().isoformat()]


@shape(tags="ordered tasks")
async def mapping(ctx: Context) -> list[Any]:
    maps = [ctx.map(lambda x: x * i, range(5), concurrency=2) for i in range(3)]
    return [*(await asyncio.gather(*maps)), await ctx.map(double, [])]


@shape(tags="ordered tasks gives-up")
async def mapping_fails(ctx: Context) -> str:
    def body(i: int) -> int:
        if i == 2:
            raise ValueError(f"item {i}")
        return i

    try:
        await ctx.map(body, range(6), concurrency=3)
    except ValueError as error:
        return str(error)
    return "not reached"


@shape(tags="ordered tasks timers")
async def predicates(ctx: Context) -> list[str]:
    state, seen = {"n": 0}, list[str]()

    async def count() -> None:
        for _ in range(4):
            await ctx.task(double, 1)
            state["n"] += 1

    counting = asyncio.create_task(count())
    await ctx.wait_for(lambda: state["n"] >= 2)
    seen.append(f"two: {state['n']}")
    await ctx.wait_for(lambda: True)
    try:
        await ctx.wait_for(lambda: state["n"] == 100, timeout=5)
    except TimeoutError:
        seen.append("never")
    try:
        await ctx.wait_for(lambda: bool(1 / (4 - state["n"])) and False)
    except ZeroDivisionError:
        seen.append("raised")
    await counting
    return seen


@shape(tags="ordered tasks")
async def chance(ctx: Context) -> list[str]:
    seen = [str(ctx.uuid4()), str(ctx.random.random())]
    await ctx.task(double, ctx.random.randrange(100))
    info = ctx.info
    return [*seen, str(ctx.uuid4()), str(ctx.random.random()), str(info), ctx.now().isoformat()]


@shape(tags="ordered tasks inline")
async def inline(ctx: Context) -> list[str]:
    seen = [str(await ctx.task(double, 4, inline=True))]
    try:
        await ctx.task(fail, "inline", inline=True)
    except ValueError as error:
        seen.append(repr(error))
    await ctx.task(double, 1)
    return [*seen, str(await ctx.task(double, 5, inline=True))]


@shape(tags="ordered tasks inline")
async def decorated(ctx: Context) -> list[int]:
    base = 10

    @ctx.task
    def one() -> int:
        return base + 1

    @ctx.task(retry=RetryPolicy(max_attempts=2), name="second")
    def two() -> int:
        return base + 2

    @ctx.task(inline=True)
    def three() -> int:
        return base + 3

    return [await one, await two, await three]


@shape(tags="ordered tasks")
async def fire_and_forget(ctx: Context) -> str:
    ctx.task(double, 1)
    ctx.task(double, 2)
    return "gone"


@shape(tags="ordered tasks inline")
async def not_captured(ctx: Context) -> list[Any]:
    lock, seen = threading.Lock(), list[Any]()
    for attempt in range(3):
        for value in (lock, attempt, lock, lock):
            try:
                seen.append(await ctx.task(lambda: type(value).__name__))
            except ClosureNotSerializable:
                seen.append("refused")
    for value in (lock, 1):
        try:
            seen.append(await ctx.task(lambda: str(value), inline=True))
        except ClosureNotSerializable:
            seen.append("refused")
    return seen


@shape(tags="ordered tasks timers gives-up")
async def cancelled_tasks(ctx: Context) -> list[str]:
    seen: list[str] = []
    first, second = ctx.task(double, 1), ctx.task(double, 2)
    timer = ctx.sleep(1)
    seen += [str(first.cancel("why")), str(first.cancel()), str(timer.cancel())]
    seen.append(str(await second))
    seen.append(str(second.cancel()))
    for future in (first, timer):
        try:
            await future
        except asyncio.CancelledError as error:
            seen.append(f"cancelled {error.args}")
    await ctx.sleep(2)
    return seen


@shape(tags="ordered tasks gives-up")
async def cancelled_before_start(ctx: Context) -> list[bool]:
    future = ctx.task(double, 1)
    wrapper = asyncio.get_running_loop().create_task(future)  # type: ignore[arg-type]
    wrapper.cancel()
    await asyncio.wait([wrapper])
    return [wrapper.cancelled(), future.cancelled()]


@shape(tags="ordered tasks timers gives-up fails")
async def escapes(ctx: Context) -> None:
    await ctx.task(double, 1)
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.sleep(10))  # type: ignore[arg-type]
        group.create_task(ctx.task(fail, "boom"))  # type: ignore[arg-type]


@shape(tags="ordered tasks timers gives-up fails")
async def cancels_itself(ctx: Context) -> None:
    task = asyncio.current_task()
    assert task is not None
    try:
        task.cancel("enough")
        await ctx.sleep(1)
    finally:
        await ctx.task(double, 1)


@shape(tags="ordered tasks timers gives-up")
async def everything_at_once(ctx: Context) -> list[str]:
    seen: list[str] = []

    async def one(i: int) -> None:
        try:
            async with asyncio.timeout(0.01 * i):
                seen.append(f"{i} {await ctx.task(double, i)}")
        except TimeoutError:
            seen.append(f"{i} late")

    async def many(n: int) -> None:
        async with asyncio.TaskGroup() as group:
            for i in range(n):
                group.create_task(one(i))

    await asyncio.gather(many(4), many(3), ctx.sleep(0.02))
    return seen


@shape(tags="ordered tasks timed", timing=Timing(delay=5_000))
async def delayed(ctx: Context) -> list[int]:
    return [await ctx.task(double, i) for i in range(2)]


@shape(tags="ordered tasks gives-up timers fails timed", timing=Timing(timeout=2_000))
async def past_its_deadline(ctx: Context) -> None:
    try:
        await ctx.sleep(60)
    finally:
        await ctx.task(double, 1)


@shape(
    tags="ordered tasks continues timed",
    timing=Timing(delay=10, retry={"max_attempts": 3, "jitter": "equal"}),
)
async def failed_to_be_tried_again(ctx: Context) -> None:
    await ctx.task(double, 1)
    raise LookupError("try again")


@shape(tags="ordered starts tells")
async def starts_others(ctx: Context) -> list[str]:
    one = ctx.start("someone", 1, id="other-1", timeout=60)
    two = ctx.start("someone", 2, notify="closed", delay=timedelta(hours=1))
    two.terminate("not needed")
    return [one.id, two.id]


@slots_come(1, 3, limit="laws.few")
@shape(tags="ordered tasks starts limits gives-up")
async def limited(ctx: Context) -> list[int]:
    """Tasks that wait for slots; one is given up, and its slot goes to another one."""
    tasks = [ctx.task(double, i, limit="laws.few") for i in range(4)]
    tasks[1].cancel()
    return [await task for task in (tasks[0], *tasks[2:])]


@own_slot_comes("laws.few", "k", 2)
@shape(
    tags="ordered tasks starts limits timed",
    timing=Timing(limit={"name": "laws.few", "key": "k", "priority": 2}),
)
async def queued(ctx: Context) -> int:
    """Needs a slot before its code begins."""
    return await ctx.task(double, 21)


@shape(tags="ordered children starts")
async def starts_in_queues(ctx: Context) -> str:
    """Others need slots before their code begins."""
    child = ctx.child("someone", 1, id="child-1", queue="laws.few", limit_key="k", priority=2)
    ctx.start("someone", 2, id="other-1", timeout=60, queue="laws.few")
    child.cancel()
    return child.id


@shape(
    tags="ordered tasks children starts tells",
    headers={"tenant": "t-7", "traceparent": "00-4bf9-00f0-01"},
)
async def has_headers(ctx: Context) -> dict[str, str]:
    tenant = ctx.headers["tenant"]
    await ctx.task(double, 1)
    child = ctx.child("someone", tenant, id="child-1")
    ctx.start("someone", tenant, id="other-1").signal("hello", tenant)
    child.cancel()
    return ctx.headers


SHAPES = {name: one.workflow for name, one in choose("ordered").items()}
"""All shapes of the laws, by name."""
