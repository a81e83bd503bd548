"""Folding: at most some 200 rows for any history, so that a page of 50,000 events is a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from typing import Final

from mini_workflow.core.records import mutable
from mini_workflow.engine.picture.operations import Operation

MANY: Final = 20
"""More operations of one kind and name than this are one row."""

ROWS: Final = 200
"""So many rows a timeline has at most, beside those that have failed or are waited for."""

EACH: Final = 10
"""Of a row that is opened, so many that have failed, wait for another attempt, and are at work."""

SLOWEST: Final = 20


@mutable
class Group:
    """Operations of one kind and name, as one row."""

    name: str
    members: list[Operation]

    @property
    def key(self) -> str:
        """What it is called in addresses."""
        return f"group-{self.members[0].seq}"

    @property
    def kind(self) -> str:
        """The kind of its members."""
        return self.members[0].kind

    def of(self, *states: str) -> list[Operation]:
        """Return the members in one of these states."""
        return [one for one in self.members if one.state in states]

    def shown(self) -> list[Operation]:
        """Return those that are worth a row when the group is open: what has failed, waits for another
        attempt or is at work, and the slowest.
        """
        picked = [
            *self.of("failed")[:EACH],
            *self.of("retrying")[:EACH],
            *self.of("running", "waiting")[:EACH],
        ]
        ended = [one for one in self.of("completed") if one.ended is not None]
        ended.sort(key=lambda one: one.started - (one.ended or 0))
        return [*picked, *ended[:SLOWEST]]


@mutable
class Single:
    """An operation with a row of its own, and the tasks without a row that ran inside the turn after
    it, as the times at which they did.
    """

    operation: Operation
    ticks: list[int] = field(default_factory=list[int])


@mutable
class Folded:
    """The rows of a timeline, in order; `earlier` completed ones before them are left out."""

    rows: list[Single | Group]
    earlier: int

    @property
    def folds(self) -> bool:
        """Whether an operation has no row of its own."""
        several = (isinstance(row, Group) or bool(row.ticks) for row in self.rows)
        return bool(self.earlier) or any(several)


def fold(operations: Sequence[Operation], most: int = ROWS) -> Folded:
    """Return the rows for operations that are in order of their start."""
    names: dict[tuple[str, str], int] = {}
    for one in operations:
        names[one.kind, one.name] = names.get((one.kind, one.name), 0) + 1
    crowded = {key for key, number in names.items() if number > MANY}
    rows = _rows(operations, crowded, lambda one: one.name)
    if len(rows) > most:
        # Names that differ, such as those of files: what they have in common is their first word.
        rows = _rows(operations, _first_words(operations), _first_word)
    return _drop_earliest(rows, most)


def _first_word(one: Operation) -> str:
    return one.name.partition(" ")[0]


def _first_words(operations: Iterable[Operation]) -> set[tuple[str, str]]:
    found: dict[tuple[str, str], int] = {}
    for one in operations:
        key = (one.kind, _first_word(one))
        found[key] = found.get(key, 0) + 1
    return {key for key, number in found.items() if number > MANY}


def _rows(
    operations: Iterable[Operation],
    crowded: set[tuple[str, str]],
    name_of: Callable[[Operation], str],
) -> list[Single | Group]:
    rows: list[Single | Group] = []
    groups: dict[tuple[str, str], Group] = {}
    last: Single | None = None
    for one in operations:
        key = (one.kind, name_of(one))
        if key in crowded:
            group = groups.get(key)
            if group is None:
                group = groups[key] = Group(key[1], [])
                rows.append(group)
            group.members.append(one)
        elif one.inline and one.state == "completed" and last is not None:
            last.ticks.append(one.started)
        else:
            last = Single(one)
            rows.append(last)
    return rows


def _drop_earliest(rows: list[Single | Group], most: int) -> Folded:
    """Leave out the oldest rows that have completed, where there are too many."""
    surplus = len(rows) - most
    kept: list[Single | Group] = []
    earlier = 0
    for row in rows:
        if surplus > earlier and isinstance(row, Single) and row.operation.state == "completed":
            earlier += 1
        else:
            kept.append(row)
    return Folded(kept, earlier)
