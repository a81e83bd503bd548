"""Read the lines of a history, and decode none that tells of a plain task.

Most events of every long history are those of tasks that complete at their first attempt. Where the lines of
both are taken in together, such a task is plain: nothing else of the history is about it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, repeat
from operator import itemgetter, lt, not_
from typing import Final, cast

from mini_workflow.core import events, wire
from mini_workflow.core.events import Event
from mini_workflow.core.progress import MapCount
from mini_workflow.core.records import field, mutable

CHUNK: Final = 2_000
"""Lines that are looked at together."""

_ENDS_PART: Final = (*events.CLOSING, events.ExecutionReset)
"""The events that concern all open tasks."""

_BEGINS: Final = frozenset(
    (
        *(events.TaskScheduled, events.InlineTaskCompleted, events.InlineTaskFailed),
        *(events.TimerStarted, events.PromiseCreated, events.ChildStarted, events.AskSent),
    )
)
"""The events that begin an operation: no earlier event is about it."""


@mutable
class PlainTasksOfMap:
    """The plain tasks of a map: the numbers of the events that began and ended them, both in order, and how
    many of each are counted.
    """

    firsts: list[int]
    lasts: list[int]
    begun: int = 0
    over: int = 0

    def count(self, mapped: MapCount, before: int) -> None:
        """Count in a map the tasks before the event number `before` that are not counted yet."""
        begun = bisect_left(self.firsts, before, self.begun)
        over = bisect_left(self.lasts, before, self.over)
        mapped.started += begun - self.begun
        mapped.done += over - self.over
        mapped.open += begun - self.begun - (over - self.over)
        self.begun, self.over = begun, over


@mutable
class LinesPart:
    """Lines that follow each other, of events from the `number` on.

    `at` has the time of each, in milliseconds since the epoch: that of the event before, where an event has
    none. `numbers` and `events` are those that are not of plain tasks, in order; of the plain tasks there are
    the columns `seqs`, `names`, `firsts` (numbers of the events that began them), `starts` and `ends` (when
    that was, and when they completed), in the order in which they began, and those `of_maps` by the number of
    the map.
    """

    number: int
    at: list[int] = field(default_factory=list[int])
    numbers: list[int] = field(default_factory=list[int])
    events: list[Event] = field(default_factory=list[Event])
    seqs: list[int] = field(default_factory=list[int])
    names: list[str] = field(default_factory=list[str])
    firsts: list[int] = field(default_factory=list[int])
    starts: list[int] = field(default_factory=list[int])
    ends: list[int] = field(default_factory=list[int])
    of_maps: dict[int, PlainTasksOfMap] = field(default_factory=dict[int, PlainTasksOfMap])

    def count_mapped(self, maps: Mapping[int, MapCount], before: int) -> None:
        """Have maps count their plain tasks, as they stand before the event of a number."""
        for seq, mapped in maps.items():
            if (found := self.of_maps.get(seq)) is not None:
                found.count(mapped, before)


class LinesReader:
    """Reads the lines of a run in order, some at a time. `run` is its number; 0 before its first line."""

    def __init__(self) -> None:
        self.run = 0
        self._number = 1
        """The number of the next line."""
        self._now = 0
        self._passes = False
        """Whether lines may be of plain tasks: between the beginning of a run and its end."""

    def take(self, lines: Sequence[str]) -> Iterator[LinesPart]:
        """Take in the next lines, in parts. Raises WireError if one cannot be read: then the reader cannot be
        used any more.
        """
        self._first, self._lines = self._number, lines
        found, part = _Tasks(), LinesPart(self._number)
        for start in range(0, len(lines), CHUNK):
            chunk = lines[start : start + CHUNK]
            columns = wire.task_lines(chunk)
            others: list[int] = []
            if columns[0].count(None) + columns[2].count(None) > len(chunk):
                told = zip(columns[0], columns[2], strict=True)
                others = [place for place, (seq, time) in enumerate(told) if seq is time is None]
            first = 0
            for place in (*others, len(chunk)):
                if first < place and self._passes:
                    self._pass(columns, slice(first, place), part, found)
                else:
                    for line in chunk[first:place]:
                        self._read(line, part, found)
                first = place + 1
                if place == len(chunk):
                    break
                if isinstance(self._read(chunk[place], part, found), _ENDS_PART):
                    yield self._ended(part, found)
                    found, part = _Tasks(), LinesPart(self._number)
        if part.at:
            yield self._ended(part, found)

    def _pass(self, columns: wire.Columns, places: slice, part: LinesPart, found: _Tasks) -> None:
        """Take in lines that tell of plain tasks, if the task of each turns out to be one."""
        # Those that are taken out of these by `compress` are no None.
        seqs, names, times, ended, maps = (cast("list[str]", one[places]) for one in columns)
        now, number = self._now, self._number
        begins = times.count(None)  # type: ignore[arg-type]
        if begins == len(times):
            at = [now] * begins
        elif not begins:
            at = list(map(int, times))
        else:
            at = [now := int(time) if time else now for time in times]
        numbers = range(number, number + len(at))
        found.seqs += compress(seqs, seqs)
        found.starts += compress(at, seqs)
        found.names += compress(names, seqs)
        found.maps += compress(maps, seqs)
        found.firsts += compress(numbers, seqs)
        found.ended += compress(ended, ended)
        found.lasts += compress(numbers, ended)
        found.ends += compress(at, ended)
        part.at += at
        self._now = at[-1]
        self._number += len(at)

    def _read(self, line: str, part: LinesPart, found: _Tasks) -> Event:
        """Take in a line by itself."""
        event = wire.decode_shown(line)
        if type(event) not in _BEGINS and (seq := getattr(event, "seq", 0)):
            first = found.take_out(str(seq))
            if first:  # the task is no plain one after all
                found.apart.append(first)
        if isinstance(event, events.ExecutionStarted):
            self.run, self._passes = event.run, True
        elif type(event) in events.CLOSING:
            self._passes = False
        self._now = getattr(event, "at", self._now)
        part.at.append(self._now)
        part.numbers.append(self._number)
        part.events.append(event)
        self._number += 1
        return event

    def _ended(self, part: LinesPart, found: _Tasks) -> LinesPart:
        """Return a part with the tasks whose lines were passed."""
        seqs = list(map(int, compress(found.seqs, found.firsts)))
        names = list(compress(found.names, found.firsts))
        maps = list(compress(found.maps, found.firsts))
        starts = list(compress(found.starts, found.firsts))
        firsts, lasts = list(filter(None, found.firsts)), found.lasts
        ended = list(map(int, found.ended))
        last = dict(zip(ended, lasts, strict=True))
        if len(set(seqs)) == len(seqs) and len(last) == len(ended):
            plain = list(map(lt, firsts, map(last.get, seqs, repeat(0))))
        else:  # damaged: each tells for itself
            plain = [False] * len(seqs)
        if not all(plain) or len(ended) != len(plain):
            known = set(compress(seqs, plain))
            found.apart += compress(firsts, map(not_, plain))
            found.apart += [n for seq, n in zip(ended, lasts, strict=True) if seq not in known]
            seqs, names = list(compress(seqs, plain)), list(compress(names, plain))
            firsts, starts = list(compress(firsts, plain)), list(compress(starts, plain))
            maps = list(compress(maps, plain))
        if found.apart:
            self._put_in(part, sorted(found.apart))
        part.seqs, part.names, part.firsts, part.starts = seqs, names, firsts, starts
        over = dict(zip(ended, found.ends, strict=True))
        part.ends = list(map(over.__getitem__, seqs))
        if any(maps):
            part.of_maps = _of_maps(maps, firsts, list(map(last.__getitem__, seqs)))
        return part

    def _put_in(self, part: LinesPart, numbers: Sequence[int]) -> None:
        """Decode lines that were passed, and put their events where they belong."""
        decoded = [wire.decode_shown(self._lines[number - self._first]) for number in numbers]
        both = zip((*part.numbers, *numbers), (*part.events, *decoded), strict=True)
        in_order = sorted(both, key=itemgetter(0))
        part.numbers = [number for number, _ in in_order]
        part.events = [event for _, event in in_order]


def _of_maps(
    maps: Sequence[str | None], firsts: list[int], lasts: list[int]
) -> dict[int, PlainTasksOfMap]:
    """Return the plain tasks of each map, where each task tells of which map it is."""
    if len(set(maps)) == 1:
        return {int(maps[0] or 0): PlainTasksOfMap(firsts, sorted(lasts))}
    found: dict[int, PlainTasksOfMap] = {}
    for one, first, last in zip(maps, firsts, lasts, strict=True):
        if one is not None:
            mapped = found.setdefault(int(one), PlainTasksOfMap([], []))
            mapped.firsts.append(first)
            mapped.lasts.append(last)
    for mapped in found.values():
        mapped.lasts.sort()
    return found


class _Tasks:
    """The tasks of lines that were passed: those that have begun, by their numbers, names, maps, and the
    events that began them and when, and those that have ended, by their numbers, the events that ended them
    and when. Numbers of tasks and maps are as they stand in the lines. `apart` are the events of others.
    """

    def __init__(self) -> None:
        self.seqs: list[str] = []
        self.names: list[str] = []
        self.maps: list[str | None] = []
        self.starts: list[int] = []
        self.firsts: list[int] = []
        """0 for a task that was taken out."""
        self.ended: list[str] = []
        self.lasts: list[int] = []
        self.ends: list[int] = []
        self.apart: list[int] = []
        self._places: dict[str, int] = {}

    def take_out(self, seq: str) -> int:
        """Return the number of the event that began a task, which is none of these any more; 0 if none is."""
        known = len(self._places)
        if known < len(self.seqs):
            self._places.update(zip(self.seqs[known:], range(known, len(self.seqs)), strict=True))
        place = self._places.get(seq)
        if place is None:
            return 0
        first, self.firsts[place] = self.firsts[place], 0
        return first
