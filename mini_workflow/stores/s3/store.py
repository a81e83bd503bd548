"""S3Store: heads and histories in a bucket."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

from mini_workflow.errors import UsageError
from mini_workflow.ports import (
    CLOSED,
    STATUSES,
    Commit,
    Extent,
    Found,
    Head,
    Page,
    Query,
    QueuedMessage,
    Stored,
)
from mini_workflow.ports.queue import NO_EFFECTS
from mini_workflow.stores.cached import Deleted, check, stored
from mini_workflow.stores.listing import matches
from mini_workflow.stores.s3.execution_object import ExecutionObject
from mini_workflow.stores.s3.index import Entry
from mini_workflow.stores.s3.object_store import ObjectStore

_COUNTED_AT_ONCE: Final = 1_000
"""Executions whose markers are read at a time to count them: a page of a listing of S3."""

_PLACE: Final = re.compile(r"\d{17}~\d{17}~[^~]+~[^~]+")


class S3Store:
    """A Store that every process may write to: the fence is the ETag of an execution's object.

    The commits of one call are written one after the other: each is atomic by itself. `post` sends the
    messages of outboxes.
    """

    def __init__(
        self, histories: ObjectStore, post: Callable[[Sequence[QueuedMessage]], None]
    ) -> None:
        self._histories = histories
        self._post = post

    def load(self, execution_id: str) -> Stored | None:
        """See `Store.load`."""
        document = self._histories.find(execution_id)
        return None if document is None else stored(document, self._histories)

    def extent(self, execution_id: str) -> Extent | None:
        """See `Store.extent`."""
        document = self._histories.header(execution_id)
        return None if document is None else Extent(document.length, True)

    def head(self, execution_id: str) -> Head | None:
        """See `Store.head`."""
        document = self._histories.header(execution_id)
        return None if document is None else document.head

    def header(self, execution_id: str) -> ExecutionObject | None:
        """Return the head with the other facts about an execution, or None."""
        return self._histories.header(execution_id)

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        """See `Store.history`."""
        document = self._histories.find(execution_id)
        if document is None:
            return []
        return self._histories.lines(document, max(document.head.base, since))

    def ends(self, execution_id: str, last: int) -> list[str]:
        """See `Store.ends`."""
        document = self._histories.find(execution_id)
        if document is None:
            return []
        base = document.head.base
        tail = (
            self._histories.lines(document, max(base + 1, document.length - last)) if last else []
        )
        return [self._histories.first_line(document), *tail]

    def lines_since(
        self, execution_id: str, start: int | None
    ) -> tuple[list[str], ExecutionObject | None]:
        """Return the events from number `start` on, of all runs; of the current run for None."""
        document = self._histories.find(execution_id)
        if document is None:
            return [], None
        return self._histories.lines(document, start), document

    def list(self, query: Query) -> Page:
        """See `Store.list`."""
        if query.limit < 1:
            raise UsageError(f"limit={query.limit}: give 1 or more")
        if query.after is not None and not _PLACE.fullmatch(query.after):
            raise UsageError(
                f"after={query.after!r} is no page of a listing: pass the `next` of the page before"
            )
        heads: list[Head] = []
        after: str | None = query.after or ""
        while after is not None:
            entries, after = self._histories.places(
                query, _statuses(query), after, query.limit - len(heads)
            )
            while entries:
                # No more heads than the page has room for.
                room = query.limit - len(heads)
                looked, entries = entries[:room], entries[room:]
                heads += self._matching(looked, query)
                if len(heads) == query.limit:
                    more = bool(entries) or after is not None
                    return Page(heads, looked[-1].place if more else None)
        return Page(heads)

    def closed(self, before: int, after: str, limit: int) -> Page:
        """Return executions that closed before a time in milliseconds, and the place to go on from.

        Examines the next `limit` executions behind the place `after` (empty for the first) that were
        started before that time, of which perhaps none has closed.
        """
        query = Query(closed_before=before, limit=limit)
        entries, more = self._histories.places(query, CLOSED, after, limit)
        looked = entries[:limit]
        if len(entries) > limit:
            more = looked[-1].place
        return Page(self._matching(looked, query), more)

    def count(self, query: Query) -> int:
        """See `Store.count`. Counts by the index alone, unless the query has tags or an end.

        An execution that is changing its status may then be counted under its former status.
        """
        statuses = _statuses(query)
        by_index = not query.tags and query.closed_before is None
        found, after = 0, ""
        while after is not None:
            entries, after = self._histories.places(query, statuses, after, _COUNTED_AT_ONCE)
            found += len(entries) if by_index else len(self._matching(entries, query))
        return found

    def _matching(self, entries: Sequence[Entry], query: Query) -> list[Head]:
        """Return the heads of entries that are still right, and match."""
        documents = self._histories.headers([entry.execution_id for entry in entries])
        return [
            document.head
            for entry, document in zip(entries, documents, strict=True)
            if document is not None
            and document.place == entry.place
            and matches(document.head, query)
        ]

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """See `Store.commit`."""
        for commit in commits:
            check(commit)
        answers: list[bool] = []
        for commit in commits:
            answers.append(self._write(commit))
            if answers[-1] and commit.outbox:
                self._post(commit.outbox)
        return answers

    def lookup(self, execution_ids: Collection[str]) -> dict[str, Found]:
        """See `Store.lookup`. Reads one object for each execution."""
        answer: dict[str, Found] = {}
        for name in execution_ids:
            found = self._histories.look(name)
            if found is None:
                answer[name] = Found(None)
            elif isinstance(found, Deleted):
                answer[name] = Found(None, found.events)
            else:
                answer[name] = Found(found.head, found.deleted)
        return answer

    def sweep(self, now: int, limit: int) -> bool:
        """See `Store.sweep`. Does nothing: a deletion removes all, and rules of the bucket the tombstone."""
        return False

    def look(self, execution_id: str) -> ExecutionObject | Deleted | None:
        """Return an execution without its lines, the rest of a deleted one, or None."""
        return self._histories.look(execution_id)

    def create(self, commit: Commit, fingerprint: str, over: Deleted | None = None) -> bool:
        """Write a new execution before its first turn, over the rest of a deleted one.

        Return whether it was written; False if there is an execution with the id.
        """
        made = self._histories.create(commit, None, fingerprint, over=over, listed=False)
        return made is not None

    def _write(self, commit: Commit) -> bool:
        name = commit.execution_id
        if commit.expected == 0:
            found = self._histories.look(name)
            if isinstance(found, ExecutionObject):
                return False
            return self._histories.create(commit, None, "", over=found) is not None
        document = self._histories.find(name)
        if document is None or document.length != commit.expected:
            return False
        if commit.deleted_at is not None:
            return self._histories.delete(name, document, commit.deleted_at)
        written = self._histories.write(document, commit, NO_EFFECTS, document.wakeup, 0)
        return written is not None


def _statuses(query: Query) -> tuple[str, ...]:
    """Return the statuses to look for. Raises UsageError if the index does not answer the query."""
    unanswered = [
        name
        for name, given in (
            ("parent", query.parent is not None),
            ("id_prefix", query.id_prefix is not None),
            ("closed_after", query.closed_after is not None),
            (f"order={query.order!r}", query.order != "-started"),
        )
        if given
    ]
    if unanswered:
        raise UsageError(
            f"{unanswered[0]}: the index in the bucket cannot find executions by that. Use workflow, "
            "status, tags, started_after, started_before and closed_before, newest start first; to find "
            "executions by something else, such as the id of a parent, give them a tag at the start"
        )
    if query.status is not None:
        return (query.status,)
    return CLOSED if query.closed_before is not None else STATUSES
