"""A queued backend in memory, for tests: documents for a `CachedStore`, and a queue."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from mini_workflow.core.records import frozen, replace
from mini_workflow.errors import StoreError
from mini_workflow.ports import (
    Commit,
    Head,
    Page,
    Query,
    QueuedMessage,
    Stored,
    StreamWrite,
    TaskRequest,
)
from mini_workflow.ports.queue import PendingEffects, Received, Wakeup, Wakeups
from mini_workflow.stores.cached import Deleted, stored
from mini_workflow.stores.listing import count_of, page_of
from mini_workflow.stores.memory.heartbeats import HeartbeatTable, MemoryHeartbeats
from mini_workflow.stores.memory.streams import MemoryStreams, StreamTable


@frozen
class MemoryDocument:
    """An execution: see `Document`. `number` counts the executions, and `version` the writes."""

    number: int
    head: Head
    parent: dict[str, Any] | None
    fingerprint: str
    events: tuple[str, ...]
    parked: tuple[str, ...]
    pending: PendingEffects
    wakeup: Wakeups
    tries: int = 0
    version: int = 1
    listed: bool = True

    @property
    def length(self) -> int:
        """The number of events, over all runs."""
        return len(self.events)


class MemoryDocuments:
    """Implements `Documents` for any number of `CachedStore`s, and the reading part of `Store`.

    It returns immutable objects only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._documents: dict[str, MemoryDocument | Deleted] = {}
        self._deleted: dict[str, int] = {}
        self._created = 0
        self._streaming = threading.Lock()
        self._streams = StreamTable(self.head, self._pending)
        self._heartbeats: HeartbeatTable = {}
        self.streams = MemoryStreams(self._opened, MemoryHeartbeats(self._beating, self.head))
        """The streams of the executions: see `StreamStore`."""

    @contextmanager
    def _opened(self) -> Generator[StreamTable]:
        with self._streaming:
            yield self._streams

    @contextmanager
    def _beating(self) -> Generator[HeartbeatTable]:
        with self._streaming:
            yield self._heartbeats

    def _pending(self, execution_id: str) -> tuple[StreamWrite, ...]:
        found = self.find(execution_id)
        return () if found is None else found.pending.chunks

    def read(self, execution_id: str) -> MemoryDocument | Deleted | None:
        """See `Documents.read`."""
        with self._lock:
            return self._documents.get(execution_id)

    def find(self, execution_id: str) -> MemoryDocument | None:
        """Return the document of an execution, or None."""
        found = self.read(execution_id)
        return None if isinstance(found, Deleted) else found

    def changed(self, document: MemoryDocument) -> bool:
        """See `Documents.changed`."""
        return self.read(document.head.execution_id) is not document

    def lines(self, document: MemoryDocument) -> list[str]:
        """See `Documents.lines`."""
        return list(document.events[document.head.base :])

    def create(
        self,
        commit: Commit,
        parent: dict[str, Any] | None,
        fingerprint: str,
        pending: PendingEffects,
        wakeup: Wakeups,
        over: Deleted | None = None,
    ) -> MemoryDocument | None:
        """See `Documents.create`."""
        assert commit.head is not None
        with self._lock:
            if self._documents.get(commit.execution_id) is not over:
                return None
            self._created += 1
            number = self._created
            made = MemoryDocument(
                number,
                commit.head,
                parent,
                fingerprint,
                commit.events,
                commit.park,
                pending,
                wakeup,
            )
            self._documents[commit.execution_id] = made
            return made

    def write(
        self,
        document: MemoryDocument,
        commit: Commit,
        pending: PendingEffects,
        wakeup: Wakeups,
        tries: int,
    ) -> MemoryDocument | None:
        """See `Documents.write`."""
        with self._lock:
            if self._documents.get(commit.execution_id) is not document:
                return None
            written = replace(
                document,
                head=commit.head or document.head,
                events=document.events + commit.events,
                parked=(() if commit.unpark else document.parked) + commit.park,
                pending=pending,
                wakeup=wakeup,
                tries=tries,
                version=document.version + 1,
            )
            self._documents[commit.execution_id] = written
            return written

    def delete(self, execution_id: str, found: MemoryDocument | Deleted, at: int) -> bool:
        """See `Documents.delete`. The number of events is kept for ever."""
        with self._lock:
            if isinstance(found, Deleted):
                return True
            if self._documents.get(execution_id) is not found:
                return False
            before = self._deleted.get(execution_id, 0)
            self._deleted[execution_id] = events = before + found.length
            self._documents[execution_id] = Deleted(events)
        with self._streaming:
            self._streams.remove(execution_id)
            self._heartbeats.pop(execution_id, None)
        return True

    # For clients

    def head(self, execution_id: str) -> Head | None:
        """See `Store.head`."""
        found = self.find(execution_id)
        return found and found.head

    def load(self, execution_id: str) -> Stored | None:
        """See `Store.load`."""
        found = self.find(execution_id)
        return found and stored(found, self)

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        """See `Store.history`."""
        found = self.find(execution_id)
        return [] if found is None else list(found.events[max(found.head.base, since) :])

    def ends(self, execution_id: str, last: int) -> list[str]:
        """See `Store.ends`."""
        lines = self.history(execution_id)
        return [*lines[:1], *lines[max(1, len(lines) - last) :]]

    def list(self, query: Query) -> Page:
        """See `Store.list`."""
        with self._lock:
            found = [(document.number, document.head) for document in self._all()]
        return page_of(found, query)

    def count(self, query: Query) -> int:
        """See `Store.count`."""
        with self._lock:
            return count_of((document.head for document in self._all()), query)

    def _all(self) -> list[MemoryDocument]:
        found = self._documents.values()
        return [document for document in found if not isinstance(document, Deleted)]


class MemoryDispatch:
    """A `Dispatch` and the queue behind it, for any thread.

    The queue hands out one batch of an execution at a time, and hands messages out again that are not
    removed. A message that is sent twice arrives twice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._queue: list[Received] = []
        self._in_hand: set[str] = set()
        self._requests: list[TaskRequest] = []
        self._wakeups: set[tuple[int, str]] = set()
        self.cancelled: dict[tuple[str, int], str] = {}
        """The reasons of cancelled tasks, by execution and seq."""

    def run(self, requests: Sequence[TaskRequest]) -> list[StoreError | None]:
        """See `Dispatch.run`."""
        with self._lock:
            self._requests += requests
        return [None] * len(requests)

    def outcomes(self, execution_id: str, attempts: Sequence[tuple[int, int]]) -> list[str]:
        """See `Dispatch.outcomes`. Returns none, since all outcomes are in the queue."""
        return []

    def cancel(self, execution_id: str, seq: int, reason: str) -> None:
        """See `Dispatch.cancel`."""
        self.cancelled[execution_id, seq] = reason

    def post(self, messages: Sequence[QueuedMessage]) -> None:
        """See `Dispatch.post`."""
        with self._lock:
            for message in messages:
                self._add(message.execution_id, message.body)

    def wakeup(self, execution_id: str, at: int, now: int) -> Wakeup:
        """See `Dispatch.wakeup`."""
        return Wakeup(at, f"{execution_id}@{at}")

    def set(self, execution_id: str, wakeup: Wakeup, now: int) -> None:
        """See `Dispatch.set`."""
        with self._lock:
            self._wakeups.add((wakeup.at, execution_id))

    def unset(self, wakeup: Wakeup) -> None:
        """See `Dispatch.unset`."""
        with self._lock:
            self._wakeups.discard((wakeup.at, wakeup.schedule.rpartition("@")[0]))

    # The other end

    def receive(self, limit: int, now: int) -> list[Received]:
        """Return the oldest messages, except those of executions with a batch that is not finished.

        Messages stay in the queue until `finish` removes them.
        """
        with self._lock:
            for at, execution_id in sorted(one for one in self._wakeups if one[0] <= now):
                self._wakeups.discard((at, execution_id))
                self._add(execution_id, "", at)
            free = [one for one in self._queue if one.execution_id not in self._in_hand][:limit]
            found = {one.id: replace(one, delivery=one.delivery + 1) for one in free}
            self._queue = [found.get(one.id, one) for one in self._queue]
            self._in_hand.update(one.execution_id for one in free)
            return list(found.values())

    def finish(self, received: Sequence[Received], failed: Sequence[str]) -> None:
        """Remove received messages, except those of executions that `failed`, which come again."""
        with self._lock:
            gone = {one.id for one in received if one.execution_id not in failed}
            self._queue = [one for one in self._queue if one.id not in gone]
            self._in_hand.difference_update(one.execution_id for one in received)

    def take_request(self) -> TaskRequest | None:
        """Remove and return the oldest attempt to run, or None."""
        with self._lock:
            return self._requests.pop(0) if self._requests else None

    def next_wakeup(self) -> int | None:
        """Return the time of the first wake-up that is set, or None."""
        with self._lock:
            return min((at for at, _ in self._wakeups), default=None)

    def _add(self, execution_id: str, body: str, woken: int | None = None) -> None:
        self._queue.append(Received(str(next(self._numbers)), execution_id, body, woken))
