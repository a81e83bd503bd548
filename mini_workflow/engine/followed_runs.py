"""Follow the runs of executions: of a history that was read before, only the new events are read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from mini_workflow.core import wire
from mini_workflow.core.events import ExecutionStarted
from mini_workflow.engine.plain_lines import LinesPart, LinesReader
from mini_workflow.ports import Head


class LinesTaker(Protocol):
    """Something that is made of the lines of a run, as they come."""

    def take(self, lines: Sequence[str], parts: Sequence[LinesPart]) -> None:
        """Take in the next lines, and what was read of them. Raises WireError if they are no history."""
        ...


_T = TypeVar("_T", bound=LinesTaker)

ReadLines = Callable[[str, int], list[str]]
"""Return the lines of an execution's current run from an event on, counted from 0 over all runs."""


class FollowedRun(Generic[_T]):
    """A run as far as it was read, and what was `made` of it: anew for each run. One thread at a time."""

    def __init__(self, name: str, lines: ReadLines, make: Callable[[], _T]) -> None:
        self._name = name
        self._lines = lines
        self._make = make
        self._begin(0)

    def _begin(self, base: int) -> None:
        self.made = self._make()
        self._reader = LinesReader()
        self._number = base
        self._run: tuple[int, int] | None = None
        """The number of the run and the start of its execution, which distinguish it from other runs of that
        id; None if the head of the lines that were read is not known."""

    def read_on(self, head: Head) -> bool:
        """Take in what is new of the run that a head is of, or of a later one if that has begun meanwhile;
        answers whether there was something. Raises WireError: then all of it is read anew the next time.
        """
        run = head.run, head.started_at
        if run != self._run:
            self._begin(head.base)
        lines = self._lines(self._name, self._number)
        if not lines:
            return False
        if self._run is not None and wire.kind_of(lines[0]) == ExecutionStarted.__name__:
            self._begin(head.base)
        self._run = None
        self.made.take(lines, list(self._reader.take(lines)))
        self._number += len(lines)
        self._run = run if self._reader.run == head.run else None
        return True


class FollowedRuns(Generic[_T]):
    """The runs that were asked for last: of one that is asked for again, only what is new is read.

    For any thread. They are kept as long as what they `weigh` in all is at most `most`; the one that was
    asked for last is kept whatever it weighs.
    """

    def __init__(
        self, lines: ReadLines, most: int, weigh: Callable[[_T], int] = lambda _: 1
    ) -> None:
        self._lines = lines
        self._most = most
        self._weigh = weigh
        self._lock = threading.Lock()
        self._known: dict[str, tuple[threading.Lock, FollowedRun[_T]]] = {}
        """The one that was asked for last is at the end."""

    @contextmanager
    def at(self, name: str, make: Callable[[], _T]) -> Generator[FollowedRun[_T]]:
        """Have the run of an execution, for one thread. What raises in between has it forgotten."""
        with self._lock:
            found = self._known.pop(name, None)
        if found is None:
            found = threading.Lock(), FollowedRun(name, self._lines, make)
        with self._lock:
            lock, one = self._known.setdefault(name, found)
        with lock:
            try:
                yield one
            except BaseException:
                with self._lock:
                    self._known.pop(name, None)
                raise
        self._make_room()

    def _make_room(self) -> None:
        with self._lock:
            kept = 0
            for name in reversed(list(self._known)):
                kept += self._weigh(self._known[name][1].made)
                if kept > self._most and name != next(reversed(self._known)):
                    del self._known[name]
