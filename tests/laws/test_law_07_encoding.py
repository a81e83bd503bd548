"""Law 7: a call is encoded before a number is given out; a failed encoding leaves no trace."""

# ruff: noqa: B023, PLW0108 - tasks take variables as they are at the call

from __future__ import annotations

import threading
from typing import Any

import pytest

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.errors import ClosureNotSerializable, UsageError
from tests.laws.corpus import double
from tests.laws.driver import check_replays, run


def refused(ctx: Context, **options: Any) -> str:
    """Try to start a task that cannot be captured; the name of the variable at fault."""
    lock = threading.Lock()
    try:
        ctx.task(lambda: lock.locked(), **options)
    except ClosureNotSerializable as error:
        return error.variable
    return "not reached"


def test_law_07_sequence_numbers_are_unaffected() -> None:
    """Law 7: the next task and timer get the numbers that they would have got anyway."""

    async def workflow(ctx: Context) -> list[Any]:
        seen: list[Any] = [refused(ctx)]
        seen.append(await ctx.task(double, 1))
        seen.append(refused(ctx, inline=True))
        await ctx.sleep(1)
        seen.append(refused(ctx, retry=RetryPolicy()))
        return seen

    driver = run(workflow)
    assert driver.result() == ["lock", 2, "lock", "lock"]
    assert [type(event).__name__ for event in driver.events] == [
        "ExecutionStarted", "TaskScheduled", "TaskCompleted", "TimerStarted", "TimerFired",
        "ExecutionCompleted",
    ]  # fmt: skip
    numbered = driver.recorded(
        events.TaskScheduled, events.TaskCompleted, events.TimerStarted, events.TimerFired
    )
    assert [event.seq for event in numbered] == [1, 1, 2, 2]
    check_replays(driver)


def test_law_07_an_escaping_failure_leaves_only_the_end() -> None:
    """Law 7: no half-made event stands before the failure."""

    async def workflow(ctx: Context) -> None:
        lock = threading.Lock()
        await ctx.task(double, lock)  # type: ignore[arg-type]

    driver = run(workflow)
    assert driver.failure().type == "mini_workflow.errors:ClosureNotSerializable"
    assert len(driver.events) == 2
    assert driver.dispatched == []
    check_replays(driver)


@pytest.mark.parametrize("concurrency", [None, 1, 2, 3])
def test_law_07_an_item_that_cannot_be_captured_ends_the_map(concurrency: int | None) -> None:
    """Law 7: what was started before is given up, and the error names the item."""

    async def workflow(ctx: Context) -> str:
        items: list[Any] = [1, 2, threading.Lock(), 4]
        try:
            await ctx.map(double, items, concurrency=concurrency)
        except ClosureNotSerializable as error:
            return str(error)
        return "not reached"

    driver = run(workflow)
    assert "lock" in driver.result()
    scheduled = {event.seq for event in driver.recorded(events.TaskScheduled)}
    ended = {event.seq for event in driver.recorded(events.TaskCompleted, events.TaskCancelled)}
    assert scheduled == ended == {1, 2}
    check_replays(driver)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda ctx: ctx.task(5),
        lambda ctx: ctx.task(coroutine()),
        lambda ctx: ctx.task(double, 1, timeout=0),
        lambda ctx: ctx.task(double, 1, timeout=-1),
        lambda ctx: ctx.task(double, 1, timeout="1"),
        lambda ctx: ctx.task(double, 1, timeout=float("nan")),
        lambda ctx: ctx.task(double, 1, inline=True, timeout=1),
        lambda ctx: ctx.task(double, 1, inline=True, retry=RetryPolicy()),
        lambda ctx: ctx.map(double, [1], concurrency=0),
        lambda ctx: ctx.map(double, [1], concurrency=1.5),
        lambda ctx: ctx.map(double, [1], concurrency=True),
        lambda ctx: ctx.map(double, [1], timeout=0),
        lambda ctx: ctx.sleep("1"),
    ],
)
def test_law_07_wrong_arguments_leave_no_trace(wrong: Any) -> None:
    """Law 7: an argument out of range is an error before anything is recorded."""

    async def workflow(ctx: Context) -> str:
        try:
            wrong(ctx)
        except UsageError as error:
            return str(error)
        return "not reached"

    driver = run(workflow)
    assert driver.result() != "not reached"
    assert len(driver.events) == 2


async def coroutine() -> None: ...


def test_law_07_variables_are_captured_at_the_call() -> None:
    """Law 7: loop variables, changed lists and rebound names are taken as they are then."""

    async def workflow(ctx: Context) -> list[Any]:
        items: list[int] = []
        futures = []
        for i in range(3):
            items.append(i)
            futures.append(ctx.task(lambda: (i, list(items))))
        maps = [ctx.map(lambda x: x + offset, [1, 2, 3], concurrency=1) for offset in (10, 20)]
        offset = 99
        items.clear()
        return [*[await future for future in futures], *[await each for each in maps], offset]

    assert run(workflow).result() == [
        (0, [0]), (1, [0, 1]), (2, [0, 1, 2]), [11, 12, 13], [21, 22, 23], 99
    ]  # fmt: skip
