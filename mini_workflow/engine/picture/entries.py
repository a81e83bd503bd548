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
        kept, at, tasks = self._kept, self._at, self.numbers["tasks"]
        found = _Tasks()
        places, names, starts, firsts, lasts = (
            *(found.places, found.names, found.starts),
            *(found.firsts, found.lasts),
        )
        now = at[-1] if at else 0
        number = known = len(kept)
        """The reader knows of so many."""
        for start in range(0, len(lines), CHUNK):
            chunk = lines[start : start + CHUNK]
            for line, (begun, name, then, ended) in zip(chunk, wire.task_rows(chunk), strict=True):
                number += 1
                if begun and begun not in places and number > 1:
                    places[begun] = len(names)
                    names.append(name)
                    starts.append(now)
                    firsts.append(number)
                    lasts.append(0)
                elif ended and (place := places.get(ended)) is not None and not lasts[place]:
                    now = int(then)
                    lasts[place] = number
                else:
                    self._reader.pass_by(number - 1 - known, now)
                    now = self._read(line, found)
                    known = number
                    continue
                kept.append(line)
                at.append(now)
                tasks.append(number)
        self._reader.pass_by(number - known, now)
        self._end(found)

    def _read(self, line: str, found: _Tasks) -> int:
        """Take in a line by itself; answers its time."""
        event = wire.decode_shown(line)
        if not self._kept and not isinstance(event, events.ExecutionStarted):
            raise WireError(f"a history begins with ExecutionStarted, not with {event!r}")
        number: int = getattr(event, "seq", 0)
        place = found.places.pop(str(number), None)
        if place is not None:  # the task is no plain one after all
            self._reader.begin({number: found.names[place]}, {number: found.starts[place]})
            self._course.read(self[found.firsts[place] - 1])
            if found.lasts[place]:
                self._course.read(self[found.lasts[place] - 1])
            found.firsts[place] = 0
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
        return entry.milliseconds

    def _end(self, found: _Tasks) -> None:
        """Take in the tasks whose lines were taken in together."""
        seqs = list(map(int, found.places))
        names, starts, firsts, lasts = (
            list(compress(column, found.firsts))
            for column in (found.names, found.starts, found.firsts, found.lasts)
        )
        self._reader.begin(
            dict(zip(seqs, names, strict=True)), dict(zip(seqs, starts, strict=True))
        )
        for first, last in zip(firsts, lasts, strict=True):
            if not last:
                self._course.read(self[first - 1])
        ends = map(self._at.__getitem__, [last - 1 for last in lasts])
        columns = (compress(column, lasts) for column in (starts, seqs, names, firsts, ends))
        self.course.add_plain(list(map(PlainTask._make, zip(*columns, strict=True))))


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


class _Tasks:
    """Tasks whose lines were taken in without decoding them, in the order in which they began: the place of
    each by its number, its name, when it began, and the numbers of its two events: 0 for the first once it
    was taken in otherwise, and for the second while there is none.
    """

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.names: list[str] = []
        self.starts: list[int] = []
        self.firsts: list[int] = []
        self.lasts: list[int] = []
