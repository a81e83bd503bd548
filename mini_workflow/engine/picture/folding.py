"""Folding: at most some 200 rows for any history, so that a page of 50,000 events is a page."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from heapq import nsmallest
from itertools import chain
from typing import Final

from mini_workflow.core.records import mutable
from mini_workflow.engine.picture.operations import Operation, State

MANY: Final = 20
"""More operations of one kind and name than this are one row."""

ROWS: Final = 200
"""So many rows a timeline has at most, beside those that have failed or are waited for."""

EACH: Final = 10
"""Of a row that is opened, so many that have failed, wait for another attempt, and are at work."""

SLOWEST: Final = 20


def put_in_order(fresh: list[int], times: list[int]) -> None:
    """Take times out of one list and put them into another one, which is in order."""
    if len(fresh) > MANY:
        times += fresh
        times.sort()
    else:
        for at in fresh:
            insort(times, at)
    fresh.clear()


@mutable
class Crowd:
    """The summary of many operations: those in each state, when those ended that completed (the
    `fresh` ones are not in order yet), the slowest of them, and when the last has ended.
    """

    states: dict[State, dict[int, Operation]] = field(
        default_factory=dict[State, dict[int, Operation]]
    )
    ends: list[int] = field(default_factory=list[int])
    fresh: list[int] = field(default_factory=list[int])
    slowest: list[tuple[int, int, Operation]] = field(
        default_factory=list[tuple[int, int, Operation]]
    )
    last_end: int = 0

    def enter(self, one: Operation) -> None:
        """Take in an operation in its state."""
        same = self.states.setdefault(one.state, {})
        if one.ended is None or one.seq in same:
            same[one.seq] = one
            return
        same[one.seq] = one
        self.last_end = max(self.last_end, one.ended)
        if one.state == "completed":
            self.fresh.append(one.ended)
            insort(self.slowest, (one.started - one.ended, one.seq, one))
            del self.slowest[SLOWEST:]

    def ended(self) -> list[int]:
        """Return when those ended that completed, in order."""
        put_in_order(self.fresh, self.ends)
        return self.ends

    def leave(self, one: Operation, state: State) -> None:
        """Take an operation out of the state in which it was, open."""
        self.states.get(state, {}).pop(one.seq, None)


@mutable
class Group:
    """Operations of one kind and name, as one row."""

    name: str
    members: list[Operation]
    crowd: Crowd = field(default_factory=Crowd)

    @property
    def key(self) -> str:
        """What it is called in addresses."""
        return f"group-{self.members[0].seq}"

    @property
    def kind(self) -> str:
        """The kind of its members."""
        return self.members[0].kind

    def count(self, *states: State) -> int:
        """Return how many members are in one of these states."""
        return sum(len(self.crowd.states.get(state, ())) for state in states)

    def of(self, *states: State) -> Iterator[Operation]:
        """Iterate over the members in one of these states."""
        return chain.from_iterable(self.crowd.states.get(state, {}).values() for state in states)

    def shown(self) -> list[Operation]:
        """Return those that are worth a row when the group is open: what has failed, waits for another
        attempt or is at work, and the slowest.
        """
        return [
            *nsmallest(EACH, self.of("failed"), key=_order),
            *nsmallest(EACH, self.of("retrying"), key=_order),
            *nsmallest(EACH, self.of("running", "waiting"), key=_order),
            *(one for _, _, one in self.crowd.slowest),
        ]


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


class Folding:
    """Operations by kind and name, kept while they go on: the rows of many cost no more than those of few."""

    def __init__(self) -> None:
        self._by_name = _Groups(lambda one: one.name)
        # Names that differ, such as those of files: what they have in common is their first word.
        self._by_word: _Groups | None = None

    def add(self, one: Operation) -> None:
        """Take in an operation that has begun."""
        self._by_name.add(one)
        if self._by_word is not None:
            self._by_word.add(one)

    def move(self, one: Operation, state: State) -> None:
        """Take in that an operation has gone on, which was in that state."""
        self._by_name.move(one, state)
        if self._by_word is not None:
            self._by_word.move(one, state)

    def folded(self, most: int = ROWS) -> Folded:
        """Return the rows."""
        if self._by_name.single <= most:
            rows = self._by_name.rows()
            if len(rows) <= most:
                return Folded(rows, 0)
        if self._by_word is None:
            self._by_word = _Groups(lambda one: one.name.partition(" ")[0])
            for one in self._by_name.all():
                self._by_word.add(one)
        return _drop_earliest(self._by_word.rows(), most)


def fold(operations: Iterable[Operation], most: int = ROWS) -> Folded:
    """Return the rows for operations that are in order of their start."""
    folding = Folding()
    for one in operations:
        folding.add(one)
    return folding.folded(most)


class _Groups:
    """Operations by their kind and one part of their name. Those of a few have rows of their own."""

    def __init__(self, name_of: Callable[[Operation], str]) -> None:
        self._name_of = name_of
        self._few: dict[tuple[str, str], list[Operation]] = {}
        self._many: dict[tuple[str, str], Group] = {}
        self.single = 0
        """How many have a row of their own."""

    def add(self, one: Operation) -> None:
        key = (one.kind, self._name_of(one))
        group = self._many.get(key)
        if group is not None:
            group.members.append(one)
            group.crowd.enter(one)
            return
        few = self._few.setdefault(key, [])
        few.append(one)
        self.single += not _is_tick(one)
        if len(few) > MANY:
            del self._few[key]
            self.single -= sum(not _is_tick(member) for member in few)
            group = self._many[key] = Group(key[1], few)
            for member in few:
                group.crowd.enter(member)

    def move(self, one: Operation, state: State) -> None:
        group = self._many.get((one.kind, self._name_of(one)))
        if group is not None:
            group.crowd.leave(one, state)
            group.crowd.enter(one)

    def all(self) -> list[Operation]:
        few = chain.from_iterable(self._few.values())
        many = chain.from_iterable(group.members for group in self._many.values())
        return sorted(chain(few, many), key=_order)

    def rows(self) -> list[Single | Group]:
        rows: list[Single | Group] = []
        last: Single | None = None
        few = sorted(chain.from_iterable(self._few.values()), key=_order)
        groups = sorted(self._many.values(), key=lambda group: _order(group.members[0]))
        following = iter(groups)
        group = next(following, None)
        for one in few:
            while group is not None and _order(group.members[0]) < _order(one):
                rows.append(group)
                group = next(following, None)
            if last is not None and _is_tick(one):
                last.ticks.append(one.started)
            else:
                last = Single(one)
                rows.append(last)
        return [*rows, *([] if group is None else [group]), *following]


def _is_tick(one: Operation) -> bool:
    return one.inline and one.state == "completed"


def _order(one: Operation) -> tuple[int, int]:
    return one.started, one.seq


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
