"""What a picture is drawn from, kept while a history grows: it is the same as made at once, and cheaper."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from mini_workflow.codecs import StandardCodec
from mini_workflow.core import events, wire
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.engine.picture.counts import MOST_GAPS, Active, Counts
from mini_workflow.engine.picture.drawing import Picture, draw
from mini_workflow.engine.picture.operations import CourseReader, course_of
from mini_workflow.engine.picture.scale import Scale
from mini_workflow.engine.timeline import Reader
from tests.paths import ROOT

GOLDEN = sorted((ROOT / "tests" / "laws" / "golden").glob("*.jsonl"))
STARTED = 1_700_000_000_000
ONE = Payload(tree=1)


def busy(tasks: int, names: int, seed: int) -> Iterator[Event]:
    """Tasks that begin, fail, are tried again and end in any order, with signals and long pauses between."""
    chance = random.Random(seed)
    at = STARTED
    yield events.ExecutionStarted(at, "busy", 1, "3.11", Payload(tree=[[], {}]))
    open_ones: dict[int, str] = {}
    begun = 0
    while begun < tasks or open_ones:
        at += chance.choice((0, 1, 5, 5_000)) if chance.random() < 0.98 else 3_600_000
        if begun < tasks and (not open_ones or chance.random() < 0.4):
            begun += 1
            open_ones[begun] = "runs"
            yield events.TaskScheduled(begun, f"load-{chance.randrange(names)}")
            continue
        if chance.random() < 0.1:
            yield events.SignalReceived(at, f"s{chance.randrange(3)}", ONE, f"{at}")
            continue
        seq = chance.choice(list(open_ones))
        if open_ones[seq] == "waits":
            open_ones[seq] = "runs again"
            yield events.TaskRetryStarted(at, seq, 2)
        elif open_ones[seq] == "runs" and chance.random() < 0.3:
            open_ones[seq] = "waits"
            yield events.TaskRetryScheduled(at, seq, 2, at + 9, Failure("ValueError", "no"))
        elif chance.random() < 0.2:
            del open_ones[seq]
            yield events.TaskFailed(at, seq, 1, Failure("ValueError", "never"))
        else:
            del open_ones[seq]
            yield events.TaskCompleted(at, seq, 1, ONE)


def pictures_agree(history: list[Event], step: int) -> Counts:
    """Read a history on in steps; after each the picture is that which is made at once."""
    reader = Reader(StandardCodec())
    entries = [reader.read(event) for event in history]
    growing = CourseReader()
    counts = Counts(growing.course)
    for number, entry in enumerate(entries, 1):
        growing.read(entry)
        if number % step == 0 or number == len(entries):
            now = entry.milliseconds + 1_000
            at_once = Counts(course_of(entries[:number]))
            assert draw(counts, now, number) == draw(at_once, now, number)
    return counts


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_picture_that_grows_is_the_one_that_is_made_at_once(path: object) -> None:
    assert hasattr(path, "read_text")
    lines = path.read_text().splitlines()
    pictures_agree([wire.decode(line) for line in lines], 1)


@pytest.mark.parametrize(("tasks", "names"), [(120, 1), (150, 4), (300, 290)])
def test_so_it_is_with_many_tasks_that_fail_and_are_tried_again(tasks: int, names: int) -> None:
    pictures_agree(list(busy(tasks, names, seed=tasks)), 37)


def test_what_has_ended_is_taken_in_once() -> None:
    history = list(busy(200, 2, seed=1))
    counts = pictures_agree(history, 1)
    # Each event is taken in as it comes: nothing that has ended is looked at again.
    assert counts.updates <= len(history)
    draw(counts, STARTED, len(history))
    assert counts.updates <= len(history)


def test_many_failures_are_drawn_without_making_an_error_of_each() -> None:
    history = list(busy(400, 1, seed=2))
    made: list[Event] = []

    class Counting(Reader):
        def error(self, event: Event) -> BaseException | None:
            made.append(event)
            return super().error(event)

    reader = Counting(StandardCodec())
    picture: Picture = draw(
        Counts(course_of(map(reader.read, history))), STARTED + 10**9, len(history)
    )
    failed = sum(isinstance(one, events.TaskFailed) for one in history)
    shown = [part for row in picture.rows for part in row.parts if part.cls.startswith("hot-bad")]
    assert len(shown) == 10
    assert failed > 50
    # The rows that are shown, and the marks of attempts: some for each, none for the others.
    assert len(made) <= 4 * sum(len(row.parts) for row in picture.rows)


def test_short_gaps_are_forgotten_and_long_ones_kept_for_the_breaks() -> None:
    chance = random.Random(3)
    active, all_of_it = Active(), list[tuple[int, int]]()
    at = 0
    for number in range(2_000):
        at += 100_000 if number % 500 == 0 else chance.randrange(1, 50)
        end = at + chance.randrange(10)
        active.add(at, end)
        all_of_it.append((at, end))
        at = end
    assert len(active.stretches()) <= MOST_GAPS
    kept = Scale(0, at + 10, active.stretches()).breaks
    assert kept == Scale(0, at + 10, all_of_it).breaks
    assert len(kept) == 4


def test_nothing_is_narrower_than_nothing() -> None:
    """Also where an attempt has ended before it began, by the clocks of two machines."""
    history: list[Event] = [
        events.ExecutionStarted(STARTED, "w", 1, "3.11", Payload(tree=[[], {}])),
        events.TaskScheduled(1, "early"),
        events.TaskRetryScheduled(STARTED + 200, 1, 2, STARTED + 900, Failure("ValueError", "no")),
        events.TaskRetryStarted(STARTED + 900, 1, 2),
        events.TaskCompleted(STARTED + 700, 1, 2, ONE),
        events.SignalReceived(STARTED + 2_000, "go", ONE),
    ]
    reader = Reader(StandardCodec())
    counts = Counts(course_of([reader.read(event) for event in history]))
    shapes = [one for row in draw(counts, STARTED + 3_000, 6).rows for one in row.shapes]
    bars = [one for one in shapes if one.kind == "rect"]
    assert len(bars) == 2
    assert all(one.x2 >= one.x for one in bars)


def test_names_of_messages_stand_on_no_other_mark() -> None:
    """They are written where they fit: right of their mark, left of it near the end, or not at all."""
    reader = Reader(StandardCodec())
    times = (0, 300, 350, 900, 930, 1_000)  # of a thousand
    history: list[Event] = [events.ExecutionStarted(STARTED, "w", Payload(tree=[[], {}]), 1)]
    history += [events.SignalReceived(STARTED + at, "approve", ONE, f"{at}") for at in times]
    history.append(events.ExecutionCompleted(ONE))
    counts = Counts(course_of([reader.read(event) for event in history]))
    (row, *_) = draw(counts, STARTED + 1_000, len(history), true=True).rows
    marks = [shape.x for shape in row.shapes if shape.kind == "mark"]
    texts = [(shape.x, shape.end) for shape in row.shapes if shape.kind == "text"]
    assert len(marks) == len(times)
    # The one that another follows at once has no room, nor has one with another before it.
    assert [(marks.index(x), end) for x, end in texts] == [(0, False), (2, False), (3, True)]
