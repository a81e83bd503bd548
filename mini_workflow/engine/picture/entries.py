"""Entries: a history by its lines, of which an entry is made when it is shown, and what happened in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Final, overload

from mini_workflow.core import events, wire
from mini_workflow.engine.picture.operations import Course, CourseReader, PlainTask
from mini_workflow.engine.timeline import Entry, Reader
from mini_workflow.errors import WireError

CHUNK: Final = 2_000
"""Lines that are looked at together."""

_MESSAGES: Final = (
    "Signal",
    "Update",
    "Promise",
    "Ask",
    "ResultAsked",
    "CancelRequested",
    "Messages",
)


class Entries(Sequence[Entry]):
    """The entries of a history as far as it was taken in, and its course. For one thread at a time.

    Most events of every long history are those of tasks that complete at their first attempt. Their lines are
    not decoded: where both were taken in together, their task is a `PlainTask` of the course, and an entry is
    made of a line each time that it is asked for. All others are read one at a time. `numbers` are those of
    the entries by what pages can be limited to: "tasks", "messages" and "failures".
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._course = CourseReader()
        self._kept: list[str | Entry] = []
        self._at: list[int] = []
        """The time of each, in milliseconds since the epoch."""
        self.numbers: Final[dict[str, list[int]]] = {"tasks": [], "messages": [], "failures": []}

    @property
    def course(self) -> Course:
        """What has happened."""
        return self._course.course

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        found = self._kept[index]
        if isinstance(found, Entry):
            return found
        number = index % len(self._kept)
        return self._reader.entry(number + 1, self._at[number], wire.decode_shown(found))

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Entry]:
        return (self[number] for number in range(len(self)))

    def of_kind(self, kind: str) -> Sequence[Entry]:
        """Return the entries of one of the kinds that `numbers` has, in order."""
        return _Some(self, self.numbers[kind])

    def take(self, lines: Sequence[str]) -> None:
        """Take in the next lines. Raises WireError if one cannot be read: then it is of no use any more."""
        found = _Tasks()
        for start in range(0, len(lines), CHUNK):
            chunk = lines[start : start + CHUNK]
            rows = wire.task_rows(chunk)
            if not self._kept:
                rows[0] = wire.OTHER_ROW
            first = 0
            while first < len(rows):
                last = (
                    rows.index(wire.OTHER_ROW, first)
                    if wire.OTHER_ROW in rows[first:]
                    else len(rows)
                )
                self._take_tasks(chunk[first:last], rows[first:last], found)
                for line in chunk[last : last + 1]:
                    self._read(line, found)
                first = last + 1
        self._pass_by()
        self._end(found)

    def _take_tasks(
        self, lines: Sequence[str], rows: list[tuple[str, str, str, str]], found: _Tasks
    ) -> None:
        """Take in lines of plain tasks."""
        if not rows:
            return
        seqs, names, times, ended = zip(*rows, strict=True)
        numbers = range(len(self._kept) + 1, len(self._kept) + 1 + len(rows))
        firsts = dict(zip(compress(seqs, seqs), compress(numbers, seqs), strict=True))
        lasts = dict(zip(compress(ended, ended), compress(numbers, ended), strict=True))
        if not found.follow(firsts, lasts, len(rows)):
            for line in lines:
                self._read(line, found)
            return
        found.firsts.update(firsts)
        found.lasts.update(lasts)
        found.names.update(zip(compress(seqs, seqs), compress(names, seqs), strict=True))
        now = self._at[-1]
        self._at += (now := int(time) if time else now for time in times)
        self._kept += lines
        self.numbers["tasks"] += numbers

    def _pass_by(self) -> None:
        """Have the reader know where it is."""
        self._reader.pass_by(len(self._kept), self._at[-1] if self._at else 0)

    def _read(self, line: str, found: _Tasks) -> None:
        """Take in a line by itself."""
        event = wire.decode_shown(line)
        if not self._kept and not isinstance(event, events.ExecutionStarted):
            raise WireError(f"a history begins with ExecutionStarted, not with {event!r}")
        seq = str(getattr(event, "seq", 0))
        first, last = found.firsts.pop(seq, 0), found.lasts.pop(seq, 0)
        if first:  # the task is no plain one after all
            self._reader.begin({int(seq): found.names[seq]}, {int(seq): self._at[first - 1]})
            self._course.read(self[first - 1])
            if last:
                self._course.read(self[last - 1])
        self._pass_by()
        entry = self._reader.read(event)
        self._course.read(entry)
        kind = entry.kind
        if entry.has_failed:
            self.numbers["failures"].append(entry.number)
        if kind.startswith(("Task", "InlineTask")):
            self.numbers["tasks"].append(entry.number)
        elif kind.startswith(_MESSAGES):
            self.numbers["messages"].append(entry.number)
        self._kept.append(entry)
        self._at.append(entry.milliseconds)

    def _end(self, found: _Tasks) -> None:
        """Take in the tasks whose lines were taken in together."""
        at = self._at
        seqs = list(map(int, found.firsts))
        names = list(map(found.names.__getitem__, found.firsts))
        firsts = found.firsts.values()
        starts = [at[first - 1] for first in firsts]
        self._reader.begin(
            dict(zip(seqs, names, strict=True)), dict(zip(seqs, starts, strict=True))
        )
        lasts = [found.lasts.get(seq, 0) for seq in found.firsts]
        if 0 in lasts:
            for first, last in zip(firsts, lasts, strict=True):
                if not last:
                    self._course.read(self[first - 1])
        ends = [at[last - 1] for last in lasts if last]
        columns = (compress(column, lasts) for column in (starts, seqs, names, firsts))
        self.course.add_plain(list(zip(*columns, ends, strict=True)))


class _Tasks:
    """Tasks whose lines were taken in without decoding them: their names, and the numbers of the events that
    began and ended them, by their numbers as they stand in the lines.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.firsts: dict[str, int] = {}
        self.lasts: dict[str, int] = {}

    def follow(self, firsts: dict[str, int], lasts: dict[str, int], events_: int) -> bool:
        """Return whether so many events are of tasks that have begun now, once, or end now, once."""
        if len(firsts) + len(lasts) != events_:
            return False
        known = self.firsts
        if not (known.keys().isdisjoint(firsts) and self.lasts.keys().isdisjoint(lasts)):
            return False
        new = [seq for seq in lasts if seq not in known]
        return all(firsts.get(seq, events_) < lasts[seq] for seq in new)


class _Some(Sequence[Entry]):
    def __init__(self, entries: Entries, numbers: list[int]) -> None:
        self._entries = entries
        self._numbers = numbers

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self._entries[number - 1] for number in self._numbers[index]]
        return self._entries[self._numbers[index] - 1]

    def __len__(self) -> int:
        return len(self._numbers)
