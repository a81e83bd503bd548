"""97 and 98: what an execution waits for, and how far it has got, as those outside see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mini_workflow import Context, Execution, RetryPolicy, UsageError, workflow
from mini_workflow.engine.description import Description
from tests.behaviours.stage import DAY, Stage, gate, go_through
from tests.waiting import WAIT, eventually


@workflow("behaviours.waits_for")
async def waits(ctx: Context, kind: str) -> Any:
    paid: list[int] = []
    ctx.on_signal("pay", paid.append)
    if kind == "signal":
        return await ctx.wait_for_signal("approve")
    if kind == "signals":
        async for value in ctx.signals("approve"):
            return value
    if kind == "in time":
        async with asyncio.timeout(3 * DAY):
            return await ctx.wait_for_signal("approve")
    if kind == "condition":
        return await ctx.wait_for(lambda: sum(paid) > 3, timeout=3 * DAY)
    if kind == "timer":
        return await ctx.sleep(3 * DAY)
    if kind == "promise":
        return await ctx.promise("paid")
    if kind == "child":
        return await ctx.child(waits, "signal", id="the-child")
    if kind == "coroutine":
        task = asyncio.create_task(wait_for_approval(ctx))
        return await task
    if kind == "gathered":
        return await asyncio.gather(ctx.wait_for_signal("approve"), ctx.promise("paid"))
    if kind == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_for_approval(ctx))
            group.create_task(ctx.wait_for_signal("other"))
    if kind == "task":
        return await ctx.task(go_through, "the task", name="load b.csv")
    if kind == "backoff":

        def fail() -> None:
            raise ConnectionError("no answer")

        retry = RetryPolicy(max_attempts=3, initial=3 * DAY, maximum=3 * DAY)
        return await ctx.task(fail, name="reserve", retry=retry)
    raise AssertionError(kind)


async def wait_for_approval(ctx: Context) -> Any:
    return await ctx.wait_for_signal("approve")


def described(execution: Execution[Any], when: Callable[[Description], bool]) -> Description:
    """What is told of an execution once that is so."""

    def look() -> Description | None:
        found = execution.describe()
        return found if when(found) else None

    return eventually(look)


def later(description: Description) -> datetime:
    """Two hours and some minutes after its first wait began."""
    since = description.waits[0].since
    assert since is not None
    return since + timedelta(hours=2, minutes=4)


SENTENCES = {
    "signal": "Waits for signal approve since 2 h 4 min; without a time limit.",
    "signals": "Waits for signal approve since 2 h 4 min; without a time limit.",
    "in time": "Waits for signal approve since 2 h 4 min; gives up in 2 d 21 h.",
    "condition": "Waits until sum(paid) > 3 since 2 h 4 min; gives up in 2 d 21 h.",
    "timer": "Sleeps until ",
    "promise": "Waits for promise paid since 2 h 4 min; without a time limit.",
    "child": "Waits for child the-child since 2 h 4 min.",
    "coroutine": "Waits for signal approve since 2 h 4 min; without a time limit.",
    "gathered": "Waits for signal approve since 2 h 4 min; without a time limit. "
    "Meanwhile waits for promise paid.",
    "group": "Waits for signal approve since 2 h 4 min; without a time limit. "
    "Meanwhile waits for signal other.",
    "task": "Runs task load b.csv for 2 h 4 min.",
    "backoff": "Tries reserve again in ",
}


@pytest.mark.parametrize("kind", SENTENCES)
def test_97_what_it_waits_for(runtime: Stage, kind: str) -> None:
    """An execution that does not go on says in a sentence why, and where in its code it waits."""
    execution = runtime.start(waits, kind)
    description = described(
        execution,
        lambda d: bool(d.waits) and (kind != "backoff" or d.waits[0].kind == "backoff"),
    )
    sentence = description.sentence(later(description))
    if SENTENCES[kind].endswith("."):
        assert sentence == SENTENCES[kind]
    else:
        assert sentence.startswith(SENTENCES[kind])
    if kind == "backoff":
        assert sentence.endswith(", attempt 2 of 3. Before: ConnectionError: no answer.")
    if kind != "task":
        place = "wait_for_approval" if kind in ("coroutine", "group") else "waits"
        assert description.waits[0].line.endswith(f" in {place}")
        assert "test_waits.py:" in description.waits[0].line
    gate("the task").open()


@workflow("behaviours.waits_again")
async def waits_again(ctx: Context) -> None:
    for name in ("first", "second"):
        await ctx.wait_for_signal(name)
        await ctx.task(lambda: None)
    await ctx.promise("last")


def test_97_what_it_waits_for_changes(runtime: Stage) -> None:
    """What is told is as of the last turn, also when another process has the execution now."""
    execution = runtime.start(waits_again)

    def waits_for(name: str) -> Description:
        return described(execution, lambda d: [wait.name for wait in d.waits] == [name])

    first = waits_for("first")
    execution.signal("first")
    second = waits_for("second")
    runtime.hand_over()
    execution = runtime.again(execution)
    assert execution.describe().waits == second.waits
    execution.signal("second")
    third = waits_for("last")
    times = [one.waits[0].since for one in (first, second, third)]
    assert None not in times
    assert times == sorted(times, key=str)
    execution.cancel()
    assert described(execution, lambda d: d.closed_at is not None).waits == ()


@workflow("behaviours.waits_for_many")
async def waits_for_many(ctx: Context, number: int, signals: list[str]) -> None:
    promises = [ctx.promise(f"p-{n}") for n in range(number)]
    await asyncio.gather(*promises, *(ctx.wait_for_signal(name) for name in signals))


@pytest.mark.parametrize(
    ("number", "signals", "said"),
    [
        (3, [], "Waits for 3 promises: p-0, p-1, p-2; the oldest for 0 ms."),
        (7, [], "Waits for 7 promises: p-0, p-1, p-2 and 4 more; the oldest for 0 ms."),
        (7, ["go"], "Waits for signal go since 0 ms; without a time limit. Meanwhile waits"),
        (120, [], "Waits for at least 100 promises: p-0, p-1, p-2 and 97 more; the oldest"),
    ],
)
def test_97_a_list_counts_what_it_does_not_name(
    runtime: Stage, number: int, signals: list[str], said: str
) -> None:
    """A list does not read histories, and names the first of the operations only."""
    runtime.start(waits_for_many, number, signals)

    def listed() -> Description | None:
        (one,) = runtime.list_executions(workflow=waits_for_many)
        return one if one.waits else None

    one = eventually(listed)
    sentence = one.sentence(one.waits[0].since)
    assert sentence.startswith(said)
    if signals:
        assert sentence.endswith(
            " Meanwhile waits for promise p-0, waits for promise p-1, "
            "waits for promise p-2, and 4 more."
        )


@workflow("behaviours.tells_progress")
async def tells_progress(ctx: Context) -> int:
    ctx.progress(1, 4, "files")
    await ctx.wait_for_signal("next")
    ctx.progress(2.5, text="files of many")
    await ctx.wait_for_signal("next")
    with pytest.raises(UsageError, match="done=-1"):
        ctx.progress(-1)
    return 7


def test_98_progress_is_what_the_code_says(runtime: Stage) -> None:
    """`ctx.progress` is seen from outside, and stays when the execution has closed; it is no part of
    the history.
    """
    execution = runtime.start(tells_progress)
    (told,) = described(execution, lambda d: bool(d.progress)).progress
    assert (told.done, told.total, told.text) == (1, 4, "files")
    execution.signal("next")
    (told,) = described(execution, lambda d: d.progress[0].done != 1).progress
    assert (told.done, told.total, told.text) == (2.5, None, "files of many")
    runtime.hand_over()
    execution = runtime.again(execution)
    execution.signal("next")
    assert execution.result(WAIT) == 7
    assert execution.describe().progress == (told,)
    kinds = [type(event).__name__ for event in execution.history()]
    assert kinds == ["ExecutionStarted", "SignalReceived", "SignalReceived", "ExecutionCompleted"]


@workflow("behaviours.map_progress")
async def map_progress(ctx: Context) -> list[Any]:
    def load(item: int) -> int:
        if item == 1:
            raise ValueError("one")
        if item >= 3:
            go_through("map progress")
        return item

    return await ctx.map(load, range(6), concurrency=2, tolerated_failures=1)


def test_98_a_map_is_counted_by_itself(runtime: Stage) -> None:
    """The progress of a map is what the history has of its tasks: done, failed, at work."""
    execution = runtime.start(map_progress)
    description = described(execution, lambda d: bool(d.progress) and d.progress[0].done == 3)
    (counted,) = description.progress
    assert (counted.name, counted.total, counted.failed, counted.open) == ("load", 6, 1, 2)
    assert counted.concurrency == 2
    assert description.sentence(datetime.now(UTC)) == "Runs load: 3 of 6 done, 2 at work, 1 failed."
    gate("map progress").open()
    assert [str(one) for one in execution.result(WAIT)] == ["0", "one", "2", "3", "4", "5"]
