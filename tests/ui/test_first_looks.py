"""First looks at long histories: the lines that are passed tell the same as if each was decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.codecs import StandardCodec
from mini_workflow.core import events, wire
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.engine.picture.counts import Counts
from mini_workflow.engine.picture.drawing import draw, group_of, rows_of, scale_of
from mini_workflow.engine.picture.entries import Entries
from mini_workflow.engine.picture.operations import Kept
from mini_workflow.engine.timeline import Entry, Reader
from mini_workflow.errors import WireError
from tests.paths import ROOT

GOLDEN = sorted((ROOT / "tests" / "laws" / "golden").glob("*.jsonl"))
STARTED = 1_700_000_000_000


def read(lines: list[str], step: int, patch: pytest.MonkeyPatch | None = None) -> Entries:
    """Take in lines, so many at a time; with a patch each is decoded."""
    entries = Entries(Reader(StandardCodec()))
    if patch is not None:

        def decoded(some: Sequence[str]) -> wire.Columns:
            nothing: list[str | None] = [None] * len(some)
            return nothing, nothing, nothing, nothing

        patch.setattr(wire, "task_lines", decoded)
    for start in range(0, len(lines), step):
        entries.take(lines[start : start + step])
    return entries


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
    fast = read(lines, step)
    with pytest.MonkeyPatch.context() as patch:
        slow = read(lines, step, patch)
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
    some = draw_(st.integers(0, 30))
    name = draw_(NAMES)
    for seq in range(
        1, some + 1
    ):  # a group of plain ones, of a number around which they are one row
        found.append(events.TaskScheduled(seq, name))
        begun[seq] = 1
    for _ in range(draw_(st.integers(0, 40))):
        at += draw_(st.sampled_from((0, 1, 7, 5_000, -3)))
        what = draw_(st.integers(0, 8))
        seq = draw_(st.sampled_from(sorted(begun))) if begun else 0
        if what < 3 or not begun:
            some += 1
            begun[some] = 1
            worker = draw_(st.sampled_from(("", "gpu")))
            timeout = draw_(st.sampled_from((None, None, 50)))
            found.append(events.TaskScheduled(some, draw_(NAMES), worker=worker, timeout=timeout))
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
        elif what == 6:
            attempt = begun.pop(seq)
            found.append(events.TaskFailed(at, seq, attempt, Failure("ValueError", "never")))
        else:
            attempt = begun.pop(seq)
            ran_on = draw_(st.sampled_from(("", "host:7", 'a"b')))
            result = Payload(tree=draw_(st.sampled_from((1, {"a": [2]}, "x,}"))))
            found.append(events.TaskCompleted(at, seq, attempt, result, at - 1, ran_on))
    return found


@given(histories(), st.integers(1, 60))
def test_made_histories_are_read_the_same(history: list[Event], step: int) -> None:
    agree([wire.encode(event) for event in history], step)


def test_lines_that_are_damaged_are_decoded_and_told() -> None:
    start = wire.encode(events.ExecutionStarted(STARTED, "w", Payload(tree=[[], {}]), 1))
    task = wire.encode(events.TaskScheduled(1, "load"))
    for line in (task[:-1], task.replace("load", "lo\nad"), task.replace("load", "lo\\qad"), ""):
        assert wire.task_lines([line]) == ([None],) * 4
        with pytest.raises(WireError, match="not an event"):
            read([start, line], 2)
    with pytest.raises(WireError, match="a history begins with ExecutionStarted"):
        read([task], 1)


def test_of_a_first_look_only_what_is_no_plain_task_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decode, decoded = wire.decode_shown, list[str]()

    def counting(line: str) -> Event:
        decoded.append(wire.kind_of(line))
        return decode(line)

    def lines() -> Iterator[Event]:
        yield events.ExecutionStarted(STARTED, "w", Payload(tree=[[], {}]), 1)
        for seq in range(1, 301):
            yield events.TaskScheduled(seq, f"load {seq % 7}")
        yield events.SignalReceived(STARTED + 1, "go", Payload(tree=1))
        for seq in range(300, 0, -1):
            yield events.TaskCompleted(STARTED + 400 - seq, seq, 1, Payload(tree={"n": seq}))
        yield events.ExecutionCompleted(Payload(tree=1))

    monkeypatch.setattr(wire, "decode_shown", counting)
    entries = read([wire.encode(event) for event in lines()], 1_000)
    counts = Counts(entries.course)
    draw(counts, STARTED + 1_000, len(entries))
    assert decoded == ["ExecutionStarted", "SignalReceived", "ExecutionCompleted"]
    assert len(entries.course.plain) == 300
    decoded.clear()
    # What is shown is decoded, and nothing else.
    assert [one.number for one in entries[-3:]] == [601, 602, 603]
    assert decoded == ["TaskCompleted"] * 2
