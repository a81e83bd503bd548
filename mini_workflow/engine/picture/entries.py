"""Keep a history by its lines, and make an entry of one when it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Final, cast, overload

from mini_workflow.core import events, wire
from mini_workflow.engine.picture.operations import Course, CourseReader, Selection
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
        reader.elsewhere = self._known_of
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
        return Selection(self.numbers[kind], lambda number: self[number - 1])

    def take(self, lines: Sequence[str]) -> None:
        """Take in the next lines. Raises WireError if one cannot be read: then it is of no use any more."""
        found = _Tasks()
        if not self._kept:
            self._read(lines[0], found)
            lines = lines[1:]
        for start in range(0, len(lines), CHUNK):
            chunk = lines[start : start + CHUNK]
            columns = wire.task_lines(chunk)
            others: list[int] = []
            if columns[0].count(None) + columns[2].count(None) > len(chunk):
                told = zip(columns[0], columns[2], strict=True)
                others = [place for place, (seq, time) in enumerate(told) if seq is time is None]
            first = 0
            for place in (*others, len(chunk)):
                if first < place:
                    self._pass(chunk, columns, slice(first, place), found)
                if place < len(chunk):
                    self._read(chunk[place], found)
                first = place + 1
        self._end(found)

    def _pass(
        self, lines: Sequence[str], columns: wire.Columns, part: slice, found: _Tasks
    ) -> None:
        """Take in lines that tell of plain tasks, if the task of each turns out to be one."""
        # Those that are taken out of these by `compress` are no None.
        seqs, names, times, ended = (cast("list[str]", column[part]) for column in columns)
        now, number = self._at[-1], len(self._kept) + 1
        at = [now := int(time) if time else now for time in times]
        numbers = list(range(number, number + len(at)))
        found.seqs += compress(seqs, seqs)
        found.names += compress(names, seqs)
        found.firsts += compress(numbers, seqs)
        found.ended += compress(ended, ended)
        found.lasts += compress(numbers, ended)
        found.ends += compress(at, ended)
        self._at += at
        self._kept += lines[part]
        self.numbers["tasks"] += numbers

    def _read(self, line: str, found: _Tasks) -> None:
        """Take in a line by itself."""
        event = wire.decode_shown(line)
        if not self._kept and not isinstance(event, events.ExecutionStarted):
            raise WireError(f"a history begins with ExecutionStarted, not with {event!r}")
        seq: int = getattr(event, "seq", 0)
        first = found.take_out(str(seq)) if seq else 0
        if first:  # the task is no plain one after all
            self._course.read(self._begun(seq, first))
        self._reader.advance(len(self._kept), self._at[-1] if self._at else 0)
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

    def _begun(self, seq: int, first: int) -> Entry:
        """Return the entry that began a task, of which the reader has not heard."""
        entry = self[first - 1]
        self._reader.begin(seq, getattr(entry.event, "name", ""), entry.milliseconds)
        return entry

    def _end(self, found: _Tasks) -> None:
        """Take in the tasks whose lines were passed."""
        at = self._at
        self._reader.advance(len(at), at[-1])
        seqs = list(map(int, compress(found.seqs, found.firsts)))
        names = list(compress(found.names, found.firsts))
        firsts = list(filter(None, found.firsts))
        over = dict(zip(map(int, found.ended), found.ends, strict=True))
        ends = list(map(over.get, seqs))
        if None in ends or len(ends) != len(over):
            self._read_apart(found, dict(zip(seqs, firsts, strict=True)))
            seqs = list(compress(seqs, ends))
            names = list(compress(names, ends))
            firsts = list(compress(firsts, ends))
        starts = [at[first - 1] for first in firsts]
        self.course.plain.add(starts, seqs, names, firsts, filter(None, ends))
        self.course.latest = max(self.course.latest, *found.ends, 0)

    def _read_apart(self, found: _Tasks, firsts: dict[int, int]) -> None:
        """Take in the events of tasks that have not ended, and of those that began before."""
        ended = dict(zip(map(int, found.ended), found.lasts, strict=True))
        for number, seq in sorted(
            [(first, seq) for seq, first in firsts.items() if seq not in ended]
            + [(last, seq) for seq, last in ended.items() if seq not in firsts]
        ):
            self._course.read(self._begun(seq, number) if seq in firsts else self[number - 1])

    def _known_of(self, seq: int) -> tuple[int | None, str]:
        """Return when a plain task began, and its name."""
        plain = self.course.plain
        place = plain.places.get(seq)
        return (None, "") if place is None else (plain.starts[place], plain.names[place])


class _Tasks:
    """The tasks of lines that were passed: those that have begun, by their numbers, names, and the events
    that began them, and those that have ended, by their numbers, the events that ended them, and when.
    Numbers of tasks are as they stand in the lines.
    """

    def __init__(self) -> None:
        self.seqs: list[str] = []
        self.names: list[str] = []
        self.firsts: list[int] = []
        """0 for a task that was taken out."""
        self.ended: list[str] = []
        self.lasts: list[int] = []
        self.ends: list[int] = []
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
