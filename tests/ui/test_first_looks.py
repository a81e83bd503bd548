"""First looks at long histories: the lines that are passed tell the same as if each was decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow import Context, workflow
from mini_workflow.codecs import StandardCodec
from mini_workflow.core import events, wire
from mini_workflow.core.awaited import Awaited
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import replace
from mini_workflow.engine.activity import Look
from mini_workflow.engine.followed_runs import FollowedRuns
from mini_workflow.engine.picture.counts import Counts
from mini_workflow.engine.picture.drawing import draw, group_of, rows_of, scale_of
from mini_workflow.engine.picture.entries import Entries
from mini_workflow.engine.picture.operations import Kept
from mini_workflow.engine.plain_lines import LinesPart, LinesReader
from mini_workflow.engine.timeline import Entry, Reader
from mini_workflow.errors import WireError
from mini_workflow.testing import WorkflowEnvironment
from tests.paths import ROOT

GOLDEN = sorted((ROOT / "tests" / "laws" / "golden").glob("*.jsonl"))
STARTED = 1_700_000_000_000


def read(
    lines: list[str], step: int, patch: pytest.MonkeyPatch | None = None
) -> tuple[Entries, list[str]]:
    """Take in lines, so many at a time; with a patch each is decoded. Also answers what each look told."""
    entries = Entries(Reader(StandardCodec()))
    look, told = Look(), list[str]()
    if patch is not None:

        def decoded(some: Sequence[str]) -> wire.Columns:
            nothing: list[str | None] = [None] * len(some)
            return nothing, nothing, nothing, nothing, nothing

        patch.setattr(wire, "task_lines", decoded)
    reader = LinesReader()
    for start in range(0, len(lines), step):
        some = lines[start : start + step]
        parts = list(reader.take(some))
        entries.take(some, parts)
        if not told or not told[-1].startswith("WireError"):
            told.append(told_by(look, some, parts))
    return entries, told


def told_by(look: Look, lines: list[str], parts: list[LinesPart]) -> str:
    """What a look tells once it has taken in these lines, or why it cannot."""
    try:
        look.take(lines, parts)
    except WireError as error:
        return f"WireError: {error}"
    state = look.state
    first = next((seq for seq, task in state.tasks.items() if task.in_flight), 0)
    awaited = Awaited("task", "load", first, STARTED) if first else None
    maps = {seq: [getattr(one, name) for name in one.__slots__] for seq, one in state.maps.items()}
    counts = (state.now, state.length, state.in_flight, state.condition, list(state.tasks), maps)
    return repr((counts, look.activity(awaited, ()), look.activity(None, ())))


def shown(one: Entry) -> tuple[Any, ...]:
    """What a page shows of an entry."""
    error = None if one.error is None else (type(one.error), str(one.error))
    return (
        *(one.number, one.milliseconds, one.kind, one.at, one.subject, one.happened, one.attempt),
        *(one.took, one.has_failed, one.note, one.begun, one.ran_on, error),
        *((repr(one.event), repr(one.values))),
    )


def agree(lines: list[str], step: int) -> None:
    """What was passed tells the same as what was decoded: entries, kinds, operations and the picture."""
    fast, told = read(lines, step)
    with pytest.MonkeyPatch.context() as patch:
        slow, told_slowly = read(lines, step, patch)
    assert told == told_slowly
    assert [shown(one) for one in fast] == [shown(one) for one in slow]
    assert {kind: list(found) for kind, found in fast.numbers.items()} == slow.numbers
    one, other = Counts(fast.course), Counts(slow.course)
    assert _operations(fast) == _operations(slow)
    now, number = STARTED + 10**8, len(lines)
    windows = (None, (STARTED, STARTED + 50), (STARTED + 40, now))
    for window in windows:
        assert draw(one, now, number, window=window) == draw(other, now, number, window=window)
    assert (one.moments, one.failed, one.updates) == (other.moments, other.failed, other.updates)
    for operation in slow.course.operations:
        mine, theirs = (group_of(counts, now, operation.seq) for counts in (one, other))
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            scale = scale_of(other, now)
            assert rows_of(mine.members, scale, one, now) == rows_of(
                theirs.members, scale, other, now
            )


def _operations(entries: Entries) -> list[str]:
    course = entries.course
    kept: list[Kept] = [*course.operations, *range(len(course.plain))]
    return [repr(course.plain.operation(one)) for one in sorted(kept, key=course.plain.order)]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_golden_histories_are_read_the_same(path: Path) -> None:
    lines = path.read_text().splitlines()
    for step in (1, 3, len(lines)):
        agree(lines, step)


NAMES = st.sampled_from(
    ("load", "load 1", "load 2", 'say "no"', "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "")
)


@st.composite
def histories(draw_: st.DrawFn) -> list[Event]:
    """Tasks that begin, are tried again, are released and end in any order, some of them plain."""
    at = STARTED
    found: list[Event] = [events.ExecutionStarted(at, "busy", Payload(tree=[[], {}]), 1)]
    begun: dict[int, int] = {}
    mapped: list[int] = []
    some = draw_(st.integers(0, 30))
    name = draw_(NAMES)
    for seq in range(
        1, some + 1
    ):  # a group of plain ones, of a number around which they are one row
        found.append(events.TaskScheduled(seq, name))
        begun[seq] = 1
    for _ in range(draw_(st.integers(0, 40))):
        at += draw_(st.sampled_from((0, 1, 7, 5_000, -3)))
        what = draw_(st.integers(0, 10))
        seq = draw_(st.sampled_from(sorted(begun))) if begun else 0
        if what < 3 or not begun:
            some += 1
            begun[some] = 1
            worker = draw_(st.sampled_from(("", "gpu")))
            timeout = draw_(st.sampled_from((None, None, 50)))
            part = draw_(st.sampled_from((0, 0, *mapped)))
            found.append(
                events.TaskScheduled(
                    some, draw_(NAMES), worker=worker, timeout=timeout, part_of=part
                )
            )
        elif what == 3:
            begun[seq] += 1
            failure = Failure("ValueError", "no")
            found.append(events.TaskRetryScheduled(at, seq, begun[seq], at + 9, failure))
            found.append(events.TaskRetryStarted(at + 9, seq, begun[seq]))
            at += 9
        elif what == 4:
            found.append(events.TaskReleased(at, seq, begun[seq]))
        elif what == 5:
            found.append(events.SignalReceived(at, "go", Payload(tree=1), f"s{len(found)}"))
        elif what == 9:
            some += 1
            begun[some] = 1
            mapped.append(some)
            one = {"name": f"map {some}", "items": 9, "concurrency": 3}
            found.append(events.TaskScheduled(some, draw_(NAMES), part_of=some, map=one))
        elif what == 10:
            begun.pop(seq)
            found.append(events.TaskCancelled(seq))
        elif what == 6:
            attempt = begun.pop(seq)
            found.append(events.TaskFailed(at, seq, attempt, Failure("ValueError", "never")))
        else:
            attempt = begun.pop(seq)
            ran_on = draw_(st.sampled_from(("", "host:7", 'a"b')))
            result = Payload(tree=draw_(st.sampled_from((1, {"a": [2]}, "x,}"))))
            found.append(events.TaskCompleted(at, seq, attempt, result, at - 1, ran_on))
    end = draw_(st.sampled_from((None, None, "completed", "terminated")))
    if end is not None:
        closing = events.ExecutionCompleted(Payload(tree=1))
        found.append(closing if end == "completed" else events.ExecutionTerminated(at, "enough"))
        late = sorted(begun) if end == "completed" else []
        found += [events.TaskCompleted(at, seq, begun[seq], Payload(tree=1)) for seq in late]
    return found


@given(histories(), st.integers(1, 60))
def test_made_histories_are_read_the_same(history: list[Event], step: int) -> None:
    agree([wire.encode(event) for event in history], step)


def test_lines_that_are_damaged_are_decoded_and_told() -> None:
    start = wire.encode(events.ExecutionStarted(STARTED, "w", Payload(tree=[[], {}]), 1))
    task = wire.encode(events.TaskScheduled(1, "load"))
    for line in (task[:-1], task.replace("load", "lo\nad"), task.replace("load", "lo\\qad"), ""):
        assert wire.task_lines([line]) == ([None],) * 5
        with pytest.raises(WireError, match="not an event"):
            read([start, line], 2)
    with pytest.raises(WireError, match="a history begins with ExecutionStarted"):
        read([task], 1)


TASK = events.TaskScheduled(1, "load")
DONE = events.TaskCompleted(STARTED + 5, 1, 1, Payload(tree=1))
OVER = events.ExecutionCompleted(Payload(tree=1))


@pytest.mark.parametrize(
    "history",
    [
        (TASK, DONE, DONE),
        (DONE, TASK),
        (TASK, OVER, DONE),
        (OVER, TASK, DONE),
        (TASK, DONE, OVER, replace(TASK, seq=2), replace(DONE, seq=2)),
        (TASK, events.ExecutionTerminated(STARTED, "enough"), DONE),
        (TASK, DONE, events.TaskCancelled(1)),
        (TASK, events.ExecutionStarted(STARTED, "w", Payload(tree=[[], {}]), 1), DONE),
    ],
    ids=lambda history: "-".join(type(event).__name__ for event in history),
)
def test_a_history_that_cannot_be_is_told_the_same(history: tuple[Event, ...]) -> None:
    """What a task that is passed does not check, its order and the state before it, is checked as well."""
    start = events.ExecutionStarted(STARTED, "w", Payload(tree=[[], {}]), 1)
    lines = [wire.encode(event) for event in (start, *history)]
    for step in (1, 2, len(lines)):
        _, told = read(lines, step)
        with pytest.MonkeyPatch.context() as patch:
            assert told == read(lines, step, patch)[1]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the lines that were decoded."""
    decode, found = wire.decode_shown, list[str]()

    def counting(line: str) -> Event:
        found.append(wire.kind_of(line))
        return decode(line)

    monkeypatch.setattr(wire, "decode_shown", counting)
    return found


def fanned(open_ones: int) -> Iterator[Event]:
    """A fan-out of 300 tasks, in a map from the 100th on, of which the last few have not ended."""
    yield events.ExecutionStarted(STARTED, "w", Payload(tree=[[], {}]), 1)
    for seq in range(1, 301):
        about = {"name": "all", "items": 201} if seq == 100 else None
        yield events.TaskScheduled(
            seq, f"load {seq % 7}", map=about, part_of=100 if seq > 99 else 0
        )
    yield events.SignalReceived(STARTED + 1, "go", Payload(tree=1))
    for seq in range(300 - open_ones, 0, -1):
        yield events.TaskCompleted(STARTED + 400 - seq, seq, 1, Payload(tree={"n": seq}))
    if not open_ones:
        yield events.ExecutionCompleted(Payload(tree=1))


def test_of_a_first_look_only_what_is_no_plain_task_is_decoded(decoded: list[str]) -> None:
    lines = [wire.encode(event) for event in fanned(0)]
    entries, _ = read(lines, 1_000)
    draw(Counts(entries.course), STARTED + 1_000, len(entries))
    # The first task of a map tells of the map.
    assert decoded == [
        "ExecutionStarted",
        "TaskScheduled",
        "SignalReceived",
        "ExecutionCompleted",
        "TaskCompleted",
    ]
    assert len(entries.course.plain) == 299
    decoded.clear()
    # What is shown is decoded, and nothing else.
    assert [one.number for one in entries[-3:]] == [601, 602, 603]
    assert decoded == ["TaskCompleted"] * 2


@pytest.mark.parametrize(
    ("step", "apart"),
    [
        # What is open, and the end of the first task of the map.
        (1_000, 4 + 1),
        # The first part ends behind 98 ends: the 201 others that began in it, and their ends in the next.
        (400, 201 + 198),
    ],
)
def test_of_one_that_runs_what_is_open_is_decoded(
    decoded: list[str], step: int, apart: int
) -> None:
    """Tasks that are open, or whose ends were taken in after their begins, beside what is no plain task."""
    _, told = read([wire.encode(event) for event in fanned(4)], step)
    others = ["ExecutionStarted", "TaskScheduled", "SignalReceived"]
    assert decoded[:3] == others
    assert len(decoded) == len(others) + apart
    assert "done=197, total=201" in told[-1]


def test_what_was_looked_at_is_not_decoded_again(decoded: list[str]) -> None:
    """A description and a page read a run on where they have left off."""

    @workflow("ui.looked_at")
    async def looked_at(ctx: Context) -> None:
        await asyncio.gather(*(ctx.task(str, 1, name="step") for _ in range(50)))
        await ctx.wait_for_signal("go")

    with WorkflowEnvironment() as env:
        execution = env.start_execution(looked_at, id="l-1")
        env.advance(1)
        runs = FollowedRuns[Look](env.lines, 1)
        head = env.head("l-1")
        for number, expected in enumerate((["ExecutionStarted"], [], ["SignalReceived"])):
            if number == 2:
                execution.signal("other")
                env.advance(1)
            decoded.clear()
            with runs.at("l-1", Look) as run:
                run.read_on(head)
                assert run.made.state.length == 101 + number // 2
            assert decoded == expected
