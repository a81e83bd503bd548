"""Folding: makes at most some 200 rows of any history, so that a page of 50,000 events stays readable."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from heapq import nsmallest
from itertools import chain
from operator import sub
from typing import Final

from mini_workflow.core.records import field, mutable
from mini_workflow.engine.picture.operations import Kept, Operation, PlainTasks, Selection, State

MANY: Final = 20
"""The number of operations of one kind and name above which they are one row."""

ROWS: Final = 200
"""The highest number of rows of a timeline, beside those that have failed or are open."""

EACH: Final = 10
"""The number of members of an open row that are shown of each kind: failed, waiting for another attempt, and
running."""

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

    states: dict[State, dict[int, Kept]] = field(default_factory=dict[State, dict[int, Kept]])
    ends: list[int] = field(default_factory=list[int])
    fresh: list[int] = field(default_factory=list[int])
    slowest: list[tuple[int, int, Kept]] = field(default_factory=list[tuple[int, int, Kept]])
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

    def enter_plain(self, tasks: PlainTasks, places: list[int]) -> None:
        """Take in plain tasks, by their places."""
        columns = (tasks.starts, tasks.ends, tasks.seqs)
        starts, ends, seqs = (list(map(one.__getitem__, places)) for one in columns)
        self.states.setdefault("completed", {}).update(zip(seqs, places, strict=True))
        self.last_end = max(self.last_end, *ends)
        self.fresh += ends
        took = zip(map(sub, starts, ends), seqs, places, strict=True)
        self.slowest = nsmallest(SLOWEST, chain(self.slowest, took))

    def ended(self) -> list[int]:
        """Return the times at which the completed operations ended, in order."""
        put_in_order(self.fresh, self.ends)
        return self.ends

    def leave(self, one: Operation, state: State) -> None:
        """Take an open operation out of the state that it had."""
        self.states.get(state, {}).pop(one.seq, None)


@mutable
class Group:
    """Operations of one kind and name, as one row."""

    name: str
    plain: PlainTasks
    kept: list[Kept] = field(default_factory=list[Kept])
    crowd: Crowd = field(default_factory=Crowd)

    def add(self, part: list[Kept]) -> None:
        """Take in more operations, in their order."""
        self.kept += part
        places: list[int] = []
        for one in part:
            if isinstance(one, int):
                places.append(one)
            else:
                self.crowd.enter(one)
        if places:
            self.crowd.enter_plain(self.plain, places)

    @property
    def members(self) -> Sequence[Operation]:
        """All members, in order."""
        return Selection(self.kept, self.plain.operation)

    @property
    def key(self) -> str:
        """Its name in addresses."""
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
        found = (self.crowd.states.get(state, {}).values() for state in states)
        return map(self.plain.operation, chain.from_iterable(found))

    def shown(self) -> list[Operation]:
        """Return the members with a row when the group is open: those that have failed, wait for another
        attempt or run, and the slowest.
        """
        return [
            *nsmallest(EACH, self.of("failed"), key=self.plain.order),
            *nsmallest(EACH, self.of("retrying"), key=self.plain.order),
            *nsmallest(EACH, self.of("running", "waiting"), key=self.plain.order),
            *(self.plain.operation(one) for _, _, one in self.crowd.slowest),
        ]


@mutable
class Single:
    """An operation with a row of its own, and the times (`ticks`) of the inline tasks after it, which have no
    row.
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

    def __init__(self, plain: PlainTasks) -> None:
        self._plain = plain
        self._by_name = _Groups(plain, str)
        # Names that differ, such as those of files, may still share their first word.
        self._by_word: _Groups | None = None

    def add(self, ones: list[Kept]) -> None:
        """Take in operations that have begun, in their order."""
        self._by_name.add(ones)
        if self._by_word is not None:
            self._by_word.add(ones)

    def move(self, one: Operation, state: State) -> None:
        """Take in the change of an operation that was in the state `state`."""
        self._by_name.move(one, state)
        if self._by_word is not None:
            self._by_word.move(one, state)

    def folded(self, most: int = ROWS) -> Folded:
        """Return the rows, at most `most` as far as possible."""
        if self._by_name.single <= most:
            rows = self._by_name.rows()
            if len(rows) <= most:
                return Folded(rows, 0)
        if self._by_word is None:
            self._by_word = _Groups(self._plain, lambda name: name.partition(" ")[0])
            self._by_word.add(self._by_name.all())
        return _drop_earliest(self._by_word.rows(), most)


def fold(operations: Sequence[Kept], plain: PlainTasks | None = None, most: int = ROWS) -> Folded:
    """Return the rows for operations that are in order of their start."""
    folding = Folding(plain or PlainTasks())
    folding.add(list(operations))
    return folding.folded(most)


class _Groups:
    """Operations by their kind and one part of their name. Those of a few have rows of their own."""

    def __init__(self, plain: PlainTasks, part_of: Callable[[str], str]) -> None:
        self._plain = plain
        self._part_of = part_of
        self._few: dict[tuple[str, str], list[Kept]] = {}
        self._many: dict[tuple[str, str], Group] = {}
        self.single = 0
        """The number of operations with a row of their own."""

    def add(self, ones: list[Kept]) -> None:
        for key, part in self._parts(ones).items():
            group = self._many.get(key)
            if group is None:
                few = self._few.setdefault(key, [])
                if len(few) + len(part) <= MANY:
                    few += part
                    self.single += sum(not _is_tick(one) for one in part)
                    continue
                self.single -= sum(not _is_tick(one) for one in few)
                group = self._many[key] = Group(key[1], self._plain)
                group.add(self._few.pop(key))
            group.add(part)

    def _parts(self, ones: list[Kept]) -> dict[tuple[str, str], list[Kept]]:
        """Return the operations by kind and part of the name."""
        part_of, names = self._part_of, self._plain.names
        if len(ones) > MANY and all(type(one) is int for one in ones):
            same = {names[one] for one in ones if isinstance(one, int)}
            if len(same) == 1:  # so it is in most long histories
                return {("task", part_of(same.pop())): ones}
        found: dict[tuple[str, str], list[Kept]] = defaultdict(list)
        named: dict[str, list[Kept]] = {}
        for one in ones:
            if isinstance(one, int):
                name = names[one]
                if (part := named.get(name)) is None:
                    part = named[name] = found["task", part_of(name)]
                part.append(one)
            else:
                found[one.kind, part_of(one.name)].append(one)
        return found

    def move(self, one: Operation, state: State) -> None:
        group = self._many.get((one.kind, self._part_of(one.name)))
        if group is not None:
            group.crowd.leave(one, state)
            group.crowd.enter(one)

    def all(self) -> list[Kept]:
        few = chain.from_iterable(self._few.values())
        many = chain.from_iterable(group.kept for group in self._many.values())
        return sorted(chain(few, many), key=self._plain.order)

    def rows(self) -> list[Single | Group]:
        rows: list[Single | Group] = []
        last: Single | None = None
        order = self._plain.order
        few = sorted(chain.from_iterable(self._few.values()), key=order)
        groups = sorted(self._many.values(), key=lambda group: order(group.kept[0]))
        following = iter(groups)
        group = next(following, None)
        for one in few:
            while group is not None and order(group.kept[0]) < order(one):
                rows.append(group)
                group = next(following, None)
            if last is not None and _is_tick(one):
                last.ticks.append(order(one)[0])
            else:
                last = Single(self._plain.operation(one))
                rows.append(last)
        return [*rows, *([] if group is None else [group]), *following]


def _is_tick(one: Kept) -> bool:
    return isinstance(one, Operation) and one.inline and one.state == "completed"


def _drop_earliest(rows: list[Single | Group], most: int) -> Folded:
    """Leave out the oldest completed rows if there are too many."""
    surplus = len(rows) - most
    kept: list[Single | Group] = []
    earlier = 0
    for row in rows:
        if surplus > earlier and isinstance(row, Single) and row.operation.state == "completed":
            earlier += 1
        else:
            kept.append(row)
    return Folded(kept, earlier)
