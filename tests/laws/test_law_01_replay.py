"""Law 1: the same history leads to the same commands."""

# ruff: noqa: B023, SIM105 - tasks take loop variables as they are at the call; as users write it

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.decide import advance
from mini_workflow.core.history import History
from mini_workflow.errors import NonDeterminismError
from tests.laws import corpus
from tests.laws.driver import Driver, check_replays, chosen, define, replayed, run

SEEDS = range(3)


def test_the_corpus_is_large_enough() -> None:
    assert len(corpus.SHAPES) >= 25


@pytest.mark.parametrize("name", corpus.SHAPES)
def test_law_01_every_prefix_replays_to_what_followed(name: str) -> None:
    """Law 1: whatever the order in which the world answered, a replay of any part of the history,
    also of one that ends in the middle of a turn, asks for what was recorded next."""
    for seed in SEEDS:
        check_replays(run(corpus.SHAPES[name], choices=chosen(seed)))


@pytest.mark.parametrize("name", corpus.SHAPES)
def test_law_01_evicted_at_every_turn(name: str) -> None:
    """Law 1: a run that is revived before every turn does what one that stays in memory does."""
    kept = run(corpus.SHAPES[name], choices=chosen(1))
    evicted = Driver(corpus.SHAPES[name])
    for message in kept.messages[1:]:
        evicted.evict()
        evicted.deliver(message)
    assert evicted.lines == kept.lines
    assert {(c.seq, c.attempt) for c in evicted.dispatched} == set(kept.bodies)


async def two_tasks(ctx: Context) -> Any:
    one = await ctx.task(corpus.double, 1, name="one")
    return one + await ctx.task(corpus.double, 2, name="two")


def changed(definition: Any, upto: int | None = None, workflow: Any = two_tasks) -> str:
    """The error of a replay of `workflow`'s history, or part of it, by other code."""
    recorded = run(workflow)
    decision, revived = replayed(recorded, upto, define(definition, recorded.definition.name))
    revived.close()
    assert isinstance(decision.fault, NonDeterminismError)
    assert decision.events == ()
    return str(decision.fault)


def line_of(function: Any, text: str) -> str:
    """``file:line`` of the line of a function that contains the text."""
    code = function.__code__
    lines = Path(code.co_filename).read_text().splitlines()
    found = next(i for i in range(code.co_firstlineno, len(lines)) if text in lines[i])
    return f"{code.co_filename}:{found + 1} in {code.co_name}"


def test_law_01_a_renamed_task_is_named_with_both_sides_and_the_line() -> None:
    """Law 1: a mismatch says what was recorded, what the code asks for, and where."""

    async def renamed(ctx: Context) -> None:
        await ctx.task(corpus.double, 1, name="one")
        await ctx.task(corpus.double, 2, name="zwei")

    message = changed(renamed)
    assert "event 4 says TaskScheduled #2 'two'" in message
    assert "asks for TaskScheduled #2 'zwei'" in message
    assert line_of(renamed, "zwei") in message


def test_law_01_reordered_tasks_are_found_out() -> None:
    """Law 1: tasks that changed places are a mismatch."""

    async def reordered(ctx: Context) -> None:
        await ctx.task(corpus.double, 2, name="two")
        await ctx.task(corpus.double, 1, name="one")

    message = changed(reordered)
    assert "event 2 says TaskScheduled #1 'one'" in message
    assert line_of(reordered, "two") in message


def test_law_01_a_removed_task_is_found_out() -> None:
    """Law 1: code that ends where a task was recorded is a mismatch, at the workflow's place."""

    async def shorter(ctx: Context) -> Any:
        return await ctx.task(corpus.double, 1, name="one")

    message = changed(shorter)
    assert "event 4 says TaskScheduled #2 'two'" in message
    assert "asks for ExecutionCompleted" in message
    assert f"test_law_01_replay.py:{shorter.__code__.co_firstlineno}" in message


def test_law_01_code_that_asks_for_too_little_is_found_out() -> None:
    """Law 1: code that waits where a task was recorded is a mismatch, at the line where it waits."""

    async def waits(ctx: Context) -> None:
        await ctx.task(corpus.double, 1, name="one")

    async def parallel(ctx: Context) -> None:
        await asyncio.gather(
            ctx.task(corpus.double, 1, name="one"), ctx.task(corpus.double, 2, name="two")
        )

    message = changed(waits, upto=3, workflow=parallel)
    assert "event 3 is TaskScheduled #2 'two'" in message
    assert "asks for nothing more" in message
    assert f"it waits at {line_of(waits, 'await')}" in message


def test_law_01_an_added_task_is_found_out() -> None:
    """Law 1: one task more than recorded is a mismatch."""

    async def longer(ctx: Context) -> None:
        await asyncio.gather(
            ctx.task(corpus.double, 1, name="one"), ctx.task(corpus.double, 7, name="new")
        )

    message = changed(longer)
    assert "says nothing more before TaskCompleted #1" in message
    assert "asks for TaskScheduled #2 'new'" in message


def test_law_01_another_kind_of_operation_is_found_out() -> None:
    """Law 1: a timer in the place of a task is a mismatch, also without user code on the stack."""

    async def sleeper(ctx: Context) -> None:
        await ctx.sleep(1)

    assert "asks for TimerStarted #1" in changed(sleeper)

    async def limited(ctx: Context) -> None:
        async with asyncio.timeout(1):
            await ctx.sleep(2)
        await ctx.sleep(3)

    async def unlimited(ctx: Context) -> None:
        await ctx.sleep(1)
        await ctx.sleep(2)
        await ctx.sleep(3)

    def never(ctx: Context) -> Any:
        return limited(ctx)

    async def caught(ctx: Context) -> None:
        with pytest.raises(TimeoutError):
            await never(ctx)

    message = changed(unlimited, workflow=caught)
    assert line_of(unlimited, "sleep(2)") in message or line_of(unlimited, "sleep(1)") in message


def test_law_01_the_python_versions_are_named_when_they_differ() -> None:
    """Law 1: asyncio's own order of operations differs between versions of Python."""
    recorded = run(two_tasks)
    lines = recorded.lines
    lines[0] = re.sub(r'"python":"[0-9.]+"', '"python":"3.6"', lines[0])

    async def other(ctx: Context) -> None:
        await ctx.sleep(1)

    decision = advance(define(other), History.from_lines(lines), [], recorded.codec)
    assert "recorded on Python 3.6" in str(decision.fault)


def test_law_01_what_may_change() -> None:
    """Law 1: the commands count, not the source: durations, policies, arguments and bodies may
    change while an execution is under way."""

    async def before(ctx: Context) -> Any:
        def work(what: Any) -> Any:
            return what

        await ctx.sleep(1)
        return await ctx.task(work, 1, name="x")

    async def after(ctx: Context) -> Any:
        """With a docstring."""

        def work(what: Any) -> Any:
            raise ValueError(what)

        await ctx.sleep(1000)
        return await ctx.task(work, "y", name="x", timeout=9)

    recorded = run(before)
    for upto in range(1, len(recorded.events)):
        decision, revived = replayed(recorded, upto, define(after))
        revived.close()
        if upto != 4:  # there the new code's task is fresh
            assert decision.fault is None


def test_law_01_a_call_that_could_not_be_captured_is_not_taken_for_the_next() -> None:
    """Laws 1 and 7: a replay fails at the same call, although all have the same name."""
    recorded = run(corpus.SHAPES["not_captured"])
    assert recorded.result() == ["refused", "int", "refused", "refused"] * 3 + ["refused", "1"]
    scheduled = [
        event.refused
        for event in recorded.recorded(events.TaskScheduled, events.InlineTaskCompleted)
    ]
    # The three calls before the last one were made in a turn of their own.
    assert scheduled == [1, 1, 1, 1] or scheduled == [1, 3, 3, 3]
    check_replays(recorded)


def test_law_01_a_call_that_can_be_captured_by_now_is_a_mismatch() -> None:
    """Laws 1 and 7: when such a call works after a change, the history does not fit any more."""
    import threading

    captured: list[Any] = [threading.Lock()]

    async def workflow(ctx: Context) -> None:
        for value in (captured[0], 1):
            try:
                await ctx.task(lambda: str(value))
            except TypeError:
                pass

    recorded = run(workflow)
    captured[0] = 0
    decision, revived = replayed(recorded)
    revived.close()
    assert "after 1 that could not be captured" in str(decision.fault)


def test_law_01_a_recorded_call_that_cannot_be_captured_any_more_blocks() -> None:
    """Law 1: it must not look like a failed call to the workflow's code."""
    import threading

    captured: list[Any] = [1]

    async def workflow(ctx: Context) -> str:
        value = captured[0]
        try:
            return str(await ctx.task(lambda: str(value)))
        except TypeError:
            return "caught"

    driver = Driver(workflow)
    captured[0] = threading.Lock()
    decision, revived = replayed(driver)
    revived.close()
    assert "value" in str(decision.fault)
