"""Follow executions for pages: read only the new events of each."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Final, cast

from mini_workflow.core import events
from mini_workflow.engine.activity import Activity, Look
from mini_workflow.engine.client import Client
from mini_workflow.engine.description import Description, described, told_by
from mini_workflow.engine.followed_runs import FollowedRuns
from mini_workflow.engine.picture.counts import Counts
from mini_workflow.engine.picture.entries import Entries
from mini_workflow.engine.plain_lines import LinesPart
from mini_workflow.engine.timeline import Entry
from mini_workflow.errors import WireError
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
    """The part of a run that was read: `entries`, the `counts` for its picture, and the `usage` of
    models. `head` is no older than the entries.
    """

    head: Head

    def __init__(self, client: Client, name: str) -> None:
        self.execution: Final = client.get_execution(name)
        self._client = client
        self._look = Look(told=told_by(self.execution.codec))
        self._unseen: list[LinesPart] = []
        """What was not looked at: what has closed, or waits for one thing, is not."""
        self._damage: WireError | None = None
        """Why it cannot be looked at."""
        self.usage: Final = Usage()
        self.entries: Final = Entries(self.execution.reader())
        self.counts: Final = Counts(self.entries.course)

    def take(self, lines: Sequence[str], parts: Sequence[LinesPart]) -> None:
        """Take in the next lines, and the entries read of them. Raises WireError if they are no history."""
        self.entries.take(lines, parts)
        self.usage.take(lines)
        self._unseen += parts

    def of_kind(self, kind: str) -> Sequence[Entry]:
        """Return the entries of one of KINDS, in order."""
        return self.entries if kind == "all" else self.entries.of_kind(kind)

    def describe(self) -> Description:
        """Return the description, as `Execution.describe` does."""
        started = cast("events.ExecutionStarted", self.entries[0].event)
        codec = self.execution.codec
        activity = Activity.of(self.head, self._look_on)
        activity = self._client.looks.with_heartbeats(self.head, activity, codec)
        (one,) = self._client.described([self.head])
        return described(one, started, self.entries[-1].event, activity, codec)

    @contextmanager
    def _look_on(self) -> Generator[Look]:
        if self._damage is not None:
            raise self._damage
        parts, self._unseen = self._unseen, []
        try:
            self._look.take((), parts)
        except WireError as error:
            self._damage = error
            raise
        yield self._look


class AllFollowed:
    """The executions that pages asked for last. Of one that is asked for again, only new events are read."""

    def __init__(self, client: Client, most: int = MOST_EVENTS) -> None:
        self._client = client
        self._runs = FollowedRuns[Followed](self._lines, most, lambda one: len(one.entries))

    def _lines(self, name: str, since: int) -> list[str]:
        return self._client.lines(name, since)

    @contextmanager
    def at(self, name: str) -> Generator[Followed]:
        """Return an execution, as it is now, for one thread. Raises ExecutionNotFound, or WireError if its
        history cannot be read.
        """
        client = self._client
        with self._runs.at(name, lambda: Followed(client, name)) as run:
            head = client.head(name)
            for round_number in count(1):
                read_of = head
                if not run.read_on(head):
                    break
                head = client.head(name)
                # What was read may be of the next run: then it is read anew.
                same = (head.run, head.started_at) == (read_of.run, read_of.started_at)
                if same and round_number >= ROUNDS:
                    break
            run.made.head = head
            yield run.made
