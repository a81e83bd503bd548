"""Count the operations of a picture while they go on, so that drawing takes the same time for any history."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from heapq import nsmallest
from itertools import compress
from operator import gt
from typing import Final

from mini_workflow.engine.picture.folding import Folding, put_in_order
from mini_workflow.engine.picture.operations import Course, Kept, Operation, State
from mini_workflow.engine.picture.scale import LONG

MOST_GAPS: Final = 64
"""The number of gaps between active stretches that are kept before the shortest are left out."""

_ACTIVE: Final = ("done", "failed", "work", "gone")


class Active:
    """The times at which something ran or arrived, as stretches apart from each other, in order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Take in a stretch, or an instant."""
        starts, ends = self._starts, self._ends
        if starts and starts[-1] <= start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
            return
        first = bisect_left(ends, start)
        last = bisect_left(starts, end + 1)
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]
        if len(starts) > MOST_GAPS:
            self._shorten()

    def add_all(self, stretches: Iterable[tuple[int, int]]) -> None:
        """Take in many stretches, in the order of their starts."""
        start, end = None, 0
        for first, last in stretches:
            if start is None or first > end:
                if start is not None:
                    self.add(start, end)
                start, end = first, max(first, last)
            elif last > end:
                end = last
        if start is not None:
            self.add(start, end)

    def _shorten(self) -> None:
        """Leave out the gaps that are too short for a break: since the run only gets longer, they stay so."""
        least = LONG * (self._ends[-1] - self._starts[0])
        pairs = list(zip(self._starts, self._ends, strict=True))
        self._starts, self._ends = [pairs[0][0]], [pairs[0][1]]
        for start, end in pairs[1:]:
            if start - self._ends[-1] > least:
                self._starts.append(start)
                self._ends.append(end)
            else:
                self._ends[-1] = end

    def stretches(self) -> list[tuple[int, int]]:
        """Return the stretches, in order."""
        return list(zip(self._starts, self._ends, strict=True))


class Counts:
    """Counts of the operations and marks of a course. `update` takes in its changes."""

    def __init__(self, course: Course) -> None:
        self.course: Final = course
        self.folding: Final = Folding(course.plain)
        self.moments: Final[list[int]] = []
        """The times at which operations began or ended and messages arrived, in order."""
        self.failed: Final[list[int]] = []
        """The times at which attempts failed, in order."""
        self.signals = 0
        """The number of marks that are signals."""
        self.updates = 0
        """The number of changes of operations that were taken in."""
        self._fresh: list[int] = []
        self._fresh_failed: list[int] = []
        self._active = Active()
        self._open: dict[int, tuple[Operation, State, int]] = {}
        """The open operations, each with its state and the number of its stretches that were taken in."""
        self._marks = 0
        self._plain = 0

    def update(self) -> None:
        """Take in the changes since the last call."""
        course = self.course
        begun = [one for one in course.changed.values() if one.seq not in self._open]
        begun.sort(key=course.plain.event)
        plain = range(self._plain, len(course.plain))
        if plain:
            self._take_plain(plain)
        self.folding.add(self._in_order(begun, plain))
        for one in course.changed.values():
            self._take(one)
        course.changed.clear()
        for mark in course.marks[self._marks :]:
            self._fresh.append(mark.at)
            self._active.add(mark.at, mark.at)
            self.signals += mark.kind == "signal"
        self._marks = len(course.marks)
        put_in_order(self._fresh, self.moments)
        put_in_order(self._fresh_failed, self.failed)

    def _in_order(self, begun: list[Operation], plain: range) -> list[Kept]:
        """Return operations and the places of plain tasks by the events that began them."""
        found: list[Kept] = []
        first = plain.start
        for one in begun:
            last = bisect_left(self.course.plain.events, one.event, first, plain.stop)
            found += range(first, last)
            found.append(one)
            first = last
        found += range(first, plain.stop)
        return found

    def _take_plain(self, places: range) -> None:
        """Take in plain tasks by their places."""
        self._plain = places.stop
        self.updates += len(places)
        starts = self.course.plain.starts[places.start :]
        ends = self.course.plain.ends[places.start :]
        self._fresh += starts
        self._fresh += ends
        self._active.add_all(zip(starts, ends, strict=True))
        for end in compress(ends, map(gt, starts, ends)):  # by the clocks of two machines
            self._active.add(end, end)

    def _take(self, one: Operation) -> None:
        self.updates += 1
        known = self._open.pop(one.seq, None)
        taken = 0
        if known is None:
            self._fresh.append(one.started)
        else:
            _, state, taken = known
            self.folding.move(one, state)
        is_task = one.kind == "task"
        if not taken:
            self._active.add(one.started, one.started)
        for part in one.stretches[taken:] if taken else one.stretches:
            if part.end is None:
                break
            taken += 1
            if part.what == "failed":
                self._fresh_failed.append(part.end)
            if is_task and part.what in _ACTIVE:
                self._active.add(part.start, part.end)
        if one.ended is None:
            self._open[one.seq] = one, one.state, taken
        else:
            self._fresh.append(one.ended)
            self._active.add(one.ended, one.ended)

    def at_work(self, most: int) -> dict[int, int]:
        """Return the running attempts, by the numbers of their tasks: at most `most`, oldest task first; none
        if the execution has closed.
        """
        self.update()
        if self.course.ended is not None:
            return {}
        working = (
            one
            for one, state, _ in self._open.values()
            if one.kind == "task" and state == "running"
        )
        oldest = nsmallest(most, working, key=lambda one: (one.started, one.seq))
        return {one.seq: one.attempts for one in oldest}

    def active(self, until: int) -> list[tuple[int, int]]:
        """Return the stretches of time in which tasks ran or messages arrived; open ones end at `until`."""
        found = [*self._active.stretches(), (self.course.latest, self.course.latest)]
        working = (
            one.stretches[-1].start
            for one, _, _ in self._open.values()
            if one.kind == "task" and one.stretches[-1].what == "work"
        )
        first = min(working, default=None)
        return found if first is None else [*found, (first, until)]
