"""Followed: executions as far as their histories were read, so that a page takes in what is new alone."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Final, cast

from mini_workflow.core import events
from mini_workflow.engine.activity import Activity, Look
from mini_workflow.engine.client import Client
from mini_workflow.engine.description import Description, described, told_by
from mini_workflow.engine.picture.counts import Counts
from mini_workflow.engine.picture.entries import Entries
from mini_workflow.engine.timeline import Entry
from mini_workflow.ports import Head
from mini_workflow.ui.usage import Usage

KINDS: Final = {
    "all": "All",
    "tasks": "Tasks",
    "messages": "Messages",
    "failures": "Failures",
}
"""Which events a page can be limited to."""

MOST_EVENTS: Final = 100_000
"""Events of all executions that are kept in memory, some 1 KB each; the one that was read last is kept
whatever it has."""

ROUNDS: Final = 3
"""How often a history that grows while it is read is read on, until a page is made of what there is."""


class Followed:
    """An execution as far as its history was read. For one thread at a time.

    `entries` are those of its present run, `counts` what a picture is drawn from, and `usage` what models
    have taken. `head` is no older than the entries.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.execution: Final = client.get_execution(name)
        self._client = client
        self._begin()

    def _begin(self) -> None:
        self._run: tuple[int, int] | None = None
        """What tells the run from others of that id, also from those of an execution that was deleted."""
        codec = self.execution.codec
        self._look = Look(told=told_by(codec))
        self._looked = 0
        self.usage = Usage()
        self.entries = Entries(self.execution.reader())
        self.counts = Counts(self.entries.course)

    def read_on(self) -> None:
        """Take in what is new. Raises ExecutionNotFound, or WireError if it cannot be read."""
        name, client = self.execution.id, self._client
        self.head: Head = client.head(name)
        for round_number in count(1):
            if _run_of(self.head) != self._run:
                self._begin()
            lines = client.lines(name, self.head.base + len(self.entries))
            if not lines:
                return
            read_of, self.head = self.head, client.head(name)
            if _run_of(self.head) == _run_of(read_of):  # or they may be those of the next run
                self._take(lines)
                self._run = _run_of(self.head)
                if round_number >= ROUNDS:
                    return

    def _take(self, lines: Sequence[str]) -> None:
        self._run = None  # if a line cannot be read, all of it is read anew the next time
        self.entries.take(lines)
        self.usage.take(lines)

    def of_kind(self, kind: str) -> Sequence[Entry]:
        """Return the entries of one of KINDS, in order."""
        return self.entries if kind == "all" else self.entries.of_kind(kind)

    def describe(self) -> Description:
        """Return what `Execution.describe` does."""
        started = cast("events.ExecutionStarted", self.entries[0].event)
        codec = self.execution.codec
        activity = Activity.of(self.head, self._look_on)
        activity = self._client.looks.with_heartbeats(self.head, activity, codec)
        (one,) = self._client.described([self.head])
        return described(one, started, self.entries[-1].event, activity, codec)

    def _look_on(self) -> Look:
        """Take in what was not looked at: what has closed, or waits for one thing, is not looked at."""
        while self._looked < len(self.entries):
            self._look.take(self.entries[self._looked].event)
            self._looked += 1
        return self._look


def _run_of(head: Head) -> tuple[int, int]:
    return head.run, head.started_at


class AllFollowed:
    """The executions that were asked for last: of one that is asked for again, only what is new is read."""

    def __init__(self, client: Client, most: int = MOST_EVENTS) -> None:
        self._client = client
        self._most = most
        self._lock = threading.Lock()
        self._known: dict[str, tuple[threading.Lock, Followed]] = {}
        """The one that was asked for last is at the end."""

    @contextmanager
    def at(self, name: str) -> Generator[Followed]:
        """Have an execution, as it is now, for one thread. Raises as `Followed.read_on` does."""
        with self._lock:
            found = self._known.pop(name, None)
        if found is None:
            found = (threading.Lock(), Followed(self._client, name))
        with self._lock:
            lock, one = self._known.setdefault(name, found)
        with lock:
            try:
                one.read_on()
            except BaseException:
                with self._lock:
                    self._known.pop(name, None)
                raise
            yield one
        self._make_room()

    def _make_room(self) -> None:
        with self._lock:
            kept = 0
            for name in reversed(list(self._known)):
                kept += len(self._known[name][1].entries)
                if kept > self._most and name != next(reversed(self._known)):
                    del self._known[name]
