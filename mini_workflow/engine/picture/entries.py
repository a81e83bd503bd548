"""Keep a history by its lines, and make an entry of one when it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, overload

from mini_workflow.core import events, wire
from mini_workflow.core.events import Event
from mini_workflow.engine.picture.operations import Course, CourseReader, Selection
from mini_workflow.engine.plain_lines import LinesPart
from mini_workflow.engine.timeline import Entry, Reader
from mini_workflow.errors import WireError

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

    Plain tasks are `PlainTasks` of the course: an entry is made of the line of one each time that it is asked
    for. All others are read one at a time. `numbers` are those of the entries by what pages can be limited
    to: "tasks", "messages" and "failures".
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
        """The course of the run so far."""
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

    def take(self, lines: Sequence[str], parts: Sequence[LinesPart]) -> None:
        """Take in the next lines, and what was read of them. Raises WireError if they are no history."""
        kept = self._kept
        for part in parts:
            if not kept and not isinstance(part.events[0], events.ExecutionStarted):
                raise WireError(
                    f"a history begins with ExecutionStarted, not with {part.events[0]!r}"
                )
            self.course.plain.add(part.starts, part.seqs, part.names, part.firsts, part.ends)
            start = part.number - parts[0].number
            kept += lines[start : start + len(part.at)]
            first = part.number
            for number, event in zip(part.numbers, part.events, strict=True):
                self._pass(part, first, number)
                self._read(number, event)
                first = number + 1
            self._pass(part, first, part.number + len(part.at))

    def _pass(self, part: LinesPart, first: int, number: int) -> None:
        """Take in the lines of plain tasks from one number to before another."""
        if first < number:
            at = part.at[first - part.number : number - part.number]
            self._at += at
            self.numbers["tasks"] += range(first, number)
            self.course.latest = max(self.course.latest, *at)
            self._reader.advance(number - 1, at[-1])

    def _read(self, number: int, event: Event) -> None:
        """Take in the event of a line that is of no plain task."""
        entry = self._reader.read(event)
        self._course.read(entry)
        kind = entry.kind
        if entry.has_failed:
            self.numbers["failures"].append(number)
        if kind.startswith(("Task", "InlineTask")):
            self.numbers["tasks"].append(number)
        elif kind.startswith(_MESSAGES):
            self.numbers["messages"].append(number)
        self._kept[number - 1] = entry
        self._at.append(entry.milliseconds)

    def _known_of(self, seq: int) -> tuple[int | None, str]:
        """Return when a plain task began, and its name."""
        plain = self.course.plain
        place = plain.places.get(seq)
        return (None, "") if place is None else (plain.starts[place], plain.names[place])
