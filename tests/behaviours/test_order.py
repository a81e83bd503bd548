"""18 to 23: concurrency, and the order of what happens."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mini_workflow import Context, workflow
from tests.behaviours.stage import LEDGER, Stage, gate, go_through, note
from tests.waiting import WAIT


def shape(execution: Any) -> list[str]:
    """The history in short: kinds, numbers and names."""
    found = []
    for event in execution.history():
        parts = [getattr(event, field, None) for field in ("seq", "name")]
        found.append(" ".join(map(str, (type(event).__name__, *filter(None, parts)))))
    return found


@workflow("behaviours.interleaved")
async def interleaved(ctx: Context) -> list[str]:
    log: list[str] = []

    async def change(value: str) -> str:
        log.append(f"update {value}")
        await ctx.task(lambda: None, name=f"for {value}")
        return value

    ctx.on_update("change", change)
    ctx.on_signal("note", lambda value: log.append(f"signal {value}"))
    nap = ctx.sleep(1000)
    log.append(await ctx.task(go_through, "interleaved", name="first"))
    await asyncio.sleep(0)
    nap.cancel()
    return log


GOLDEN = """
ExecutionStarted
TimerStarted 1
TaskScheduled 2 first
SignalReceived note
UpdateAccepted change
TaskScheduled 3 for b
TaskCompleted 3
UpdateCompleted
TaskCompleted 2
TimerCancelled 1
ExecutionCompleted
"""


def test_18_a_golden_history(runtime: Stage) -> None:
    """The history of signals, tasks, timers and updates is the same on every runtime, event by
    event."""
    execution = runtime.start(interleaved)
    gate("interleaved").wait_until_reached()
    execution.signal("note", "a")
    assert execution.update("change", "b") == "b"
    gate("interleaved").open()
    assert execution.result(WAIT) == ["signal a", "update b", "interleaved"]
    assert shape(execution) == GOLDEN.split("\n")[1:-1]


@workflow("behaviours.waits_for_some")
async def waits_for_some(ctx: Context, n: int) -> list[Any]:
    futures = [ctx.wait_for_signal(f"s{i}") for i in range(n)]
    tasks = [asyncio.create_task(future, name=str(i)) for i, future in enumerate(futures)]
    order: list[Any] = []
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    order.append([task.get_name() for task in done])
    order.append([task.get_name() for task in left])
    for next_one in asyncio.as_completed(left):
        order.append(await next_one)  # noqa: PERF401 - it is the loop that is tested
    return order


def test_19_wait_and_as_completed_have_an_order(runtime: Stage) -> None:
    """Sets of tasks are walked in the order of creation; as_completed follows the events."""
    execution = runtime.start(waits_for_some, 5)
    for i in (3, 1, 4, 0, 2):
        execution.signal(f"s{i}", i)
    assert execution.result(WAIT) == [["3"], ["0", "1", "2", "4"], 1, 4, 0, 2]


@workflow("behaviours.cancels_siblings")
async def cancels_siblings(ctx: Context, n: int) -> list[int]:
    order: list[int] = []

    async def wait(i: int) -> None:
        try:
            await ctx.wait_for_signal("never")
        finally:
            order.append(i)

    async def fail() -> None:
        await ctx.task(lambda: None)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            for i in range(n):
                group.create_task(wait(i))
            group.create_task(fail())
    except* ValueError:
        pass
    await ctx.task(lambda: None)
    return order


def test_19_siblings_are_cancelled_in_the_order_of_creation(runtime: Stage) -> None:
    """A TaskGroup cancels the others in the order in which they were made, on every replay."""
    assert runtime.run(cancels_siblings, 40) == list(range(40))


@workflow("behaviours.groups")
async def groups(ctx: Context, caught: bool) -> list[str]:
    begun = ctx.task(lambda: None)

    async def fail(error: Exception) -> None:
        await ctx.wait_for(begun.done)
        raise error

    got: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(ValueError("one")))
            group.create_task(fail(KeyError("two")))
    except* ValueError as errors:
        if not caught:
            raise
        got += [str(error) for error in errors.exceptions]
    except* KeyError as errors:
        if not caught:
            raise
        got += [str(error) for error in errors.exceptions]
    return got


def test_20_an_exception_group(runtime: Stage) -> None:
    """A group that escapes fails the execution, as itself; except* catches its parts."""
    with pytest.raises(ExceptionGroup) as failed:
        runtime.run(groups, False)
    assert failed.group_contains(ValueError, match="one")
    assert runtime.run(groups, True) == ["one", "'two'"]


@workflow("behaviours.locks")
async def locks(ctx: Context, n: int) -> list[str]:
    lock, semaphore, log = asyncio.Lock(), asyncio.Semaphore(2), list[str]()
    open_at_once = most = 0

    async def handle(i: int) -> None:
        async with lock:
            log.append(f"in {i}")
            await ctx.task(lambda: None)
            log.append(f"out {i}")

    async def crowd() -> None:
        nonlocal open_at_once, most
        async with semaphore:
            open_at_once += 1
            most = max(most, open_at_once)
            await ctx.task(lambda: None)
            open_at_once -= 1

    ctx.on_signal("enter", handle)
    await ctx.wait_for(lambda: len(log) == 2 * n)
    await asyncio.gather(*(crowd() for _ in range(6)))
    await lock.acquire()
    try:
        async with asyncio.timeout(0.02):
            await lock.acquire()
    except TimeoutError:
        log.append(f"most {most}")
    return log


def test_21_locks_serve_in_the_order_of_arrival(runtime: Stage) -> None:
    """A Lock serializes handlers in the order of their signals; a Semaphore lets so many in;
    waiting for either can time out."""
    execution = runtime.start(locks, 10)
    for i in range(10):
        execution.signal("enter", i)
    expected = [f"{what} {i}" for i in range(10) for what in ("in", "out")]
    assert execution.result(WAIT) == [*expected, "most 2"]


@workflow("behaviours.generators")
async def generators(ctx: Context) -> str:
    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            for i in range(10):
                yield await ctx.task(lambda: i)  # noqa: B023
        finally:
            await ctx.task(note, f"closed {name}")
            closed.append(name)

    closed: list[str] = []
    for name in ("one", "two"):
        async for _number in numbers(name):
            break
        gc.collect()
    await ctx.wait_for(lambda: len(closed) == 2)
    await ctx.task(note, "after both")
    return "done"


def test_22_abandoned_generators_are_closed_in_the_loop(runtime: Stage) -> None:
    """An async generator that nothing refers to is closed in the next pass of the loop, as asyncio
    does, in order; what its finally does is recorded."""
    execution = runtime.start(generators)
    assert execution.result(WAIT) == "done"
    assert sorted(LEDGER[:2]) == ["closed one", "closed two"]
    assert LEDGER[2:] == ["after both"]
    assert sum(line.endswith(" note") for line in shape(execution)) == 3


@workflow("behaviours.generator_with_a_lock")
async def generator_with_a_lock(ctx: Context) -> str:
    turn = asyncio.Lock()

    async def pages() -> AsyncIterator[int]:
        async with turn:
            for number in range(3):
                yield await ctx.task(lambda: number)  # noqa: B023

    async for _first in pages():
        break
    async with asyncio.timeout(60), turn:
        return "had its turn"


def test_22_an_abandoned_generator_lets_go_of_its_lock(runtime: Stage) -> None:
    """Whoever waits for what an abandoned generator holds gets it, as in asyncio."""
    assert runtime.start(generator_with_a_lock).result(WAIT) == "had its turn"


@workflow("behaviours.loose_ends")
async def loose_ends(ctx: Context) -> str:
    async def forgotten() -> None:
        await ctx.task(note, "never")

    async def pending() -> None:
        try:
            await ctx.wait_for_signal("never")
        finally:
            note("cancelled")

    async def fails() -> None:
        raise ValueError("unseen")

    for made in (pending(), fails()):
        asyncio.create_task(made)  # noqa: RUF006
    del made
    forgotten().close()
    gc.collect()
    await ctx.task(lambda: None)
    gc.collect()
    return await ctx.task(lambda: "done")


def test_23_loose_ends_do_not_change_the_history(
    runtime: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """An asyncio.Task that nobody keeps still runs, and is cancelled at the end; a failure that
    nobody has seen is logged once; the history is the same whenever garbage is collected."""
    with caplog.at_level(logging.WARNING, logger="mini_workflow"):
        execution = runtime.start(loose_ends)
        assert execution.result(WAIT) == "done"
    assert [r.getMessage().count("unseen") for r in caplog.records] == [1]
    assert set(LEDGER) == {"cancelled"}
    assert [line.split()[0] for line in shape(execution)] == [
        "ExecutionStarted",
        "TaskScheduled",
        "TaskCompleted",
        "TaskScheduled",
        "TaskCompleted",
        "ExecutionCompleted",
    ]
