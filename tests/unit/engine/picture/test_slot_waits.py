"""Waits for slots of limits in a picture: they are those of the state, and drawn as waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mini_workflow import Context, Limit, RetryPolicy, current_task, workflow
from mini_workflow.codecs import StandardCodec
from mini_workflow.core import events, wire
from mini_workflow.core.events import Event
from mini_workflow.core.state import ExecutionState
from mini_workflow.engine.picture.counts import Counts
from mini_workflow.engine.picture.drawing import Row, draw
from mini_workflow.engine.picture.operations import CourseReader
from mini_workflow.engine.timeline import Reader
from mini_workflow.testing import WorkflowEnvironment
from tests.unit.engine.picture.test_counts import GOLDEN, pictures_agree

NARROW = Limit("pictures.narrow", concurrency=1)
QUEUED = Limit("pictures.queued", concurrency=1)


def flaky() -> int:
    """Fails at its first attempt."""
    if (attempt := current_task().attempt) == 1:
        raise ValueError("not yet")
    return attempt


BROKEN: list[str] = []


def fails_once() -> None:
    if BROKEN:
        raise ValueError(BROKEN.pop())


@workflow("pictures.limited")
async def limited(ctx: Context) -> None:
    again = RetryPolicy(max_attempts=2, initial=60)
    first = ctx.task(flaky, name="flaky", limit=NARROW, retry=again)
    others = [ctx.task(str, n, name=f"other-{n}", limit=NARROW) for n in range(3)]
    given_up = ctx.task(str, 9, name="given up", limit=NARROW)
    given_up.cancel()
    await asyncio.gather(first, *others)
    await ctx.wait_for_signal("go")


@workflow("pictures.queued", limit=QUEUED)
async def queued(ctx: Context) -> None:
    await ctx.wait_for_signal("go")


def agree_with_the_state(history: list[Event]) -> int:
    """After each event what waits for a slot is what the state says; answers how often something did."""
    reader, course, state = Reader(StandardCodec()), CourseReader(), ExecutionState()
    waited = 0
    for event in history:
        course.read(reader.read(event))
        state.apply(event)
        if state.closed:
            break
        found = {
            one.seq for one in course.course.operations if one.limit and one.state == "waiting"
        }
        expected = {seq for seq, task in state.tasks.items() if task.waits}
        if state.own_slot is not None and state.own_slot.waits:
            expected.add(0)
        assert found == expected
        at_work = {
            one.seq
            for one in course.course.operations
            if one.kind == "task" and one.state == "running"
        }
        assert at_work == {seq for seq, task in state.tasks.items() if task.in_flight}
        waited += len(found)
    return waited


def rows_of(history: list[Event]) -> dict[str, Row]:
    reader, course = Reader(StandardCodec()), CourseReader()
    entries = [reader.read(event) for event in history]
    for entry in entries:
        course.read(entry)
    picture = draw(Counts(course.course), entries[-1].milliseconds + 10_000, len(entries))
    return {row.name: row for row in picture.rows}


def classes(row: Row) -> list[str]:
    return [shape.cls for shape in row.shapes if shape.kind in ("line", "rect")]


def test_tasks_that_wait_for_a_slot_are_drawn_so() -> None:
    with WorkflowEnvironment() as env:
        execution = env.start_execution(limited)
        env.advance(3_600)
        history = list(execution.history())
        assert agree_with_the_state(history) > 10
        pictures_agree(history, 1)
        rows = rows_of(history)
        assert classes(rows["flaky"]) == ["slot past", "b bad", "off", "slot past", "b done"]
        assert classes(rows["other-2"]) == ["slot past", "b done"]
        # Where the first one has its slot, and the others wait.
        granted = next(n for n, e in enumerate(history) if isinstance(e, events.SlotsGranted))
        rows = rows_of(history[: granted + 1])
        assert classes(rows["flaky"]) == ["slot past", "b work"]
        assert classes(rows["other-1"]) == ["slot"]
        assert rows["other-1"].told == "waits for a slot of limit 'pictures.narrow'"
        assert rows["other-1"].spoken == f", {rows['other-1'].told}"
        assert 'stroke-dasharray="1.5 3.5"' in execution._repr_html_()


def test_an_execution_that_waits_in_a_queue_is_drawn_so() -> None:
    with WorkflowEnvironment() as env:
        first, second = (env.start_execution(queued, id=name) for name in ("q-1", "q-2"))
        env.advance(60)
        name = "slot of limit 'pictures.queued'"
        (row,) = rows_of(list(second.history())).values()
        assert (row.name, row.number, classes(row)) == (name, "", ["slot"])
        assert "waits for a slot of limit 'pictures.queued'" in row.spoken
        first.signal("go")
        env.advance(60)
        second.signal("other")
        env.advance(1)
        history = list(second.history())
        assert agree_with_the_state(history) > 0
        assert classes(rows_of(history)[name]) == ["slot past"]
        pictures_agree(history, 1)


def test_one_that_begins_later_waits_from_then_on() -> None:
    with WorkflowEnvironment() as env:
        env.start_execution(queued, id="q-1")
        later = env.start_execution(queued, id="q-2", delay=3_600)
        env.advance(60)
        assert rows_of(list(later.history())) == {}
        env.advance(7_200)
        assert agree_with_the_state(list(later.history())) > 0


def test_a_retried_execution_waits_for_its_slots_anew() -> None:
    """What waits at the cut does so again, under another name that the limit does not know."""
    BROKEN.append("not yet")

    @workflow("pictures.retried")
    async def retried(ctx: Context) -> None:
        held = [ctx.task(str, n, name=f"held-{n}", limit=NARROW, worker="nobody") for n in range(2)]
        await ctx.task(fails_once, inline=True)
        await asyncio.gather(*held)

    with WorkflowEnvironment() as env:
        execution = env.start_execution(retried)
        env.advance(60)
        assert execution.describe().status == "failed"
        execution.retry()
        env.advance(60)
        history = list(execution.history())
        assert any(isinstance(event, events.ExecutionReset) for event in history)
        assert agree_with_the_state(history) > 0
        pictures_agree(history, 1)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_histories_wait_as_their_state_says(path: Path) -> None:
    agree_with_the_state([wire.decode(line) for line in path.read_text().splitlines()])
