"""ObjectStore: the objects of executions, their segments in a bucket, and the index."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Final

from mini_workflow.core.records import replace
from mini_workflow.core.tags import tags_from_text
from mini_workflow.errors import StoreCorrupt, StoreError
from mini_workflow.ports import STATUSES, Commit, Query
from mini_workflow.ports.queue import NO_EFFECTS, NO_WAKEUPS, PendingEffects, Wakeups
from mini_workflow.stores.aws.clients import Clients
from mini_workflow.stores.aws.limits import SEAL_OVER
from mini_workflow.stores.cached import Deleted
from mini_workflow.stores.s3 import execution_object as form
from mini_workflow.stores.s3 import index
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.s3.execution_object import ExecutionObject
from mini_workflow.stores.s3.registers import ROOT, BucketRegisters, Registers
from mini_workflow.stores.s3.tombstone import Tombstone

SEGMENTS: Final = ROOT + "segments/"

SWEPT_AT_ONCE: Final = 50
"""Segments that are removed with one write. Our own bound."""

log = logging.getLogger("mini_workflow.stores.s3")

_PAGE: Final = 1_000
"""Objects that are listed at a time."""


class ObjectStore:
    """The objects of executions. Implements `Documents`. Reads see the last write; nothing is cached.

    Args:
        bucket: the bucket of the segments.
        clients: clients of AWS, by which calls are made in parallel.
        version: that of the orchestrator that writes, see `ExecutionObject.written_by`. Empty leaves
            each execution with its version.
        beside: prefixes of other objects that belong to executions, deleted with these.
        keep_runs: whether the events of earlier runs are kept.
        registers: the place of the objects; the bucket if left out.
        markers: the entries of the index; in the bucket if left out.
    """

    def __init__(
        self,
        bucket: Bucket,
        clients: Clients,
        version: str = "",
        beside: Sequence[str] = (),
        *,
        keep_runs: bool = True,
        registers: Registers | None = None,
        markers: index.Markers | None = None,
    ) -> None:
        self._bucket = bucket
        self._registers = registers or BucketRegisters(bucket)
        self._markers = markers or bucket
        self._version = version
        self._clients = clients
        self._beside = beside
        self._keep_runs = keep_runs

    def read(self, execution_id: str) -> ExecutionObject | Deleted | None:
        """Return the object of an execution, the rest of a deleted one, or None."""
        return _left(self._registers.get(execution_id))

    def find(self, execution_id: str) -> ExecutionObject | None:
        """Return the object of an execution, or None."""
        return _existing(self.read(execution_id))

    def look(self, execution_id: str) -> ExecutionObject | Deleted | None:
        """Return the same as `read` without the lines, at less cost."""
        return _left(self._registers.look(execution_id))

    def header(self, execution_id: str) -> ExecutionObject | None:
        """Return the object of an execution without its lines, or None."""
        return _existing(self.look(execution_id))

    def headers(self, execution_ids: list[str]) -> list[ExecutionObject | None]:
        """Return the headers of many executions, in order."""
        return self._clients.all(self.header, execution_ids)

    def changed(self, document: ExecutionObject) -> bool:
        """Return whether the execution was written since the document was read or written."""
        return self._registers.changed(document.head.execution_id, document.etag)

    def lines(self, document: ExecutionObject, start: int | None = None) -> list[str]:
        """Return the events from number `start` on, counted from 0; by default those of the run."""
        start = document.head.base if start is None else start
        if start >= document.sealed:
            return list(document.tail[start - document.sealed :])
        name = document.head.execution_id
        if start != document.head.base:
            # The new events are rarely in more than the last segment: read backwards.
            sealed: list[str] = []
            for number in reversed(range(document.segments)):
                older = self._segment(name, number, document.first)
                sealed = older + sealed
                if not older or len(sealed) >= document.sealed - start:
                    break
        else:
            numbers = list(range(document.first, document.segments))
            found = self._clients.all(lambda number: self._segment(name, number), numbers)
            sealed = [line for lines in found for line in lines]
        # The first of these segments may begin earlier.
        return [*sealed, *document.tail][start - document.length :]

    def first_line(self, document: ExecutionObject) -> str:
        """Return the first event of the current run, from the segment that has it."""
        number = document.head.base
        if number >= document.sealed:
            return document.tail[number - document.sealed]
        begins = document.begins if number else 0
        if begins is None:
            return self.lines(document)[0]
        return self._segment(document.head.execution_id, document.first)[number - begins]

    def create(
        self,
        commit: Commit,
        parent: dict[str, object] | None,
        fingerprint: str,
        pending: PendingEffects = NO_EFFECTS,
        wakeup: Wakeups = NO_WAKEUPS,
        over: Deleted | None = None,
        *,
        listed: bool = True,
    ) -> ExecutionObject | None:
        """Write a new execution, over the rest `over` of a deleted one.

        None if there is an execution with the id, or another rest, or one whose deletion is not
        finished. The execution is in the index at once, or, unless `listed`, after its next write.
        """
        if over is not None and not over.finished:
            return None
        assert commit.head is not None
        born = time.time_ns() // 1000
        empty = ExecutionObject(
            commit.head,
            parent=parent,
            fingerprint=fingerprint,
            born=born,
            spread=1,
            deleted=0 if over is None else over.events,
        )
        new = empty.after(commit, pending, wakeup, 0, _writer(self._version))
        if listed:
            index.enter(self._markers, commit.head.status, new.place, spread=bool(new.spread))
            self._enter_tags(new, _tags(new))
        else:
            new = replace(new, unlisted=1)
        before = None if over is None else over.etag
        etag = self._registers.write(commit.execution_id, new, len(commit.events), before)
        if etag is None:
            if listed:
                index.leave(self._markers, commit.head.status, new.place, spread=bool(new.spread))
                self._leave_tags(new, _tags(new))
            return None
        return replace(new, etag=etag)

    def write(
        self,
        document: ExecutionObject,
        commit: Commit,
        pending: PendingEffects,
        wakeup: Wakeups,
        tries: int,
    ) -> ExecutionObject | None:
        """Write a commit behind the document; None if the execution was written since."""
        document = self._swept(document)
        sealed = self._seal(document) if document.tail_bytes() > SEAL_OVER else document
        new = sealed.after(
            commit, pending, wakeup, tries, _writer(self._version or document.written_by)
        )
        if not self._keep_runs and new.first > document.first:
            # Recorded with the commit, so that the next write removes segments that are left.
            oldest = document.first if document.unswept is None else document.unswept
            new = replace(new, unswept=oldest)
        moved = new.head.status != document.head.status
        before, after = _tags(document), _tags(new)
        self._enter_tags(new, after if document.unlisted else after - before)
        if moved or document.unlisted:
            # Before the execution has the status, so that a listing finds it.
            index.enter(self._markers, new.head.status, new.place, spread=bool(new.spread))
        name, events = commit.execution_id, len(commit.events)
        etag = self._registers.write(name, new, events, document.etag)
        if etag is None:
            return None
        if moved and not document.unlisted:
            index.leave(
                self._markers, document.head.status, document.place, spread=bool(new.spread)
            )
        self._leave_tags(new, before - after)
        if not self._keep_runs and sealed is not document and not sealed.tail:
            self._compact(name, etag)
        return self._swept(replace(new, etag=etag))

    def _compact(self, execution_id: str, etag: str) -> None:
        """Remove the turns that are sealed. After an error the next seal removes them."""
        try:
            self._registers.compact(execution_id, etag)
        except StoreError as error:
            log.warning(
                "[%s] sealed turns cannot be removed now, and will be later: %s",
                execution_id,
                error,
            )

    def _swept(self, document: ExecutionObject) -> ExecutionObject:
        """Remove segments of earlier runs that are not kept, SWEPT_AT_ONCE at most.

        Return the document to write next, which records the segments that are left, also after an error.
        """
        if document.unswept is None:
            return document
        end = min(document.first, document.unswept + SWEPT_AT_ONCE)
        name = document.head.execution_id
        try:
            self._remove([_segment_key(name, number) for number in range(document.unswept, end)])
        except StoreError as error:
            log.warning(
                "[%s] segments of earlier runs cannot be removed now, and will be later: %s",
                name,
                error,
            )
            return document
        return replace(document, unswept=None if end == document.first else end)

    def delete(self, execution_id: str, found: ExecutionObject | Deleted, at: int) -> bool:
        """See `Documents.delete`. A tombstone takes the place of the object.

        It is marked as finished once all objects of the execution are removed.
        """
        if isinstance(found, ExecutionObject):
            stone = Tombstone(
                events=found.deleted + found.length,
                at=at,
                place=found.place,
                spread=found.spread,
                tags=found.head.tags,
                writer=_writer(self._version or found.written_by),
            )
            etag = self._registers.write(execution_id, stone, 0, found.etag)
            if etag is None:
                return False
            stone = replace(stone, etag=etag)
        elif found.finished:
            return True
        else:
            again = self._registers.get(execution_id)
            if not isinstance(again, Tombstone) or again.finished:
                return True  # another process has finished the deletion
            stone = again
        self._remove_all(execution_id, stone)
        return True

    def _remove_all(self, execution_id: str, stone: Tombstone) -> None:
        """Remove the objects of a deleted execution, and mark its tombstone as finished.

        The id cannot be used before that, so that all objects below it belong to the deleted execution.
        """
        spread = bool(stone.spread)
        below = [f"{SEGMENTS}{execution_id}/", *(f"{each}{execution_id}/" for each in self._beside)]
        markers = [index.key_of(status, stone.place, spread=spread) for status in STATUSES]
        tags = tags_from_text(stone.tags).items() if stone.tags else ()
        markers += [index.tag_key(name, value, stone.place) for name, value in tags]
        while True:
            pages = self._clients.all(lambda prefix: self._bucket.keys(prefix, "", _PAGE), below)
            if self._registers.changed(execution_id, stone.etag):
                return  # another process has finished the deletion
            self._clients.all(self._markers.delete, markers)
            self._remove([each for page in pages for each in page])
            if all(len(page) < _PAGE for page in pages):
                break
        self._registers.compact(execution_id, stone.etag)
        finished = replace(stone, finished=True, writer=_writer(self._version))
        self._registers.write(execution_id, finished, 0, stone.etag)

    def _remove(self, keys: list[str]) -> None:
        if keys:
            self._clients.all(self._bucket.delete, keys)

    def _seal(self, document: ExecutionObject) -> ExecutionObject:
        """Move the tail into a segment.

        The tail is committed, so that a segment which an earlier try has left holds a part of it.
        """
        name, number = document.head.execution_id, document.segments
        key, body = _segment_key(name, number), form.encode_segment(document.tail)
        count = len(document.tail)
        if self._bucket.create(key, body) is None:
            count = len(self._segment(name, number))
        return replace(
            document,
            sealed=document.sealed + count,
            segments=number + 1,
            tail=document.tail[count:],
        )

    def _segment(self, execution_id: str, number: int, oldest: int = 0) -> list[str]:
        key = _segment_key(execution_id, number)
        found = self._bucket.get(key)
        if found is None and number < oldest:
            return []  # of an earlier run, and dropped
        if found is None:
            raise StoreCorrupt(f"segment {key!r} of execution {execution_id!r} is gone")
        return form.decode_segment(found.body)

    def places(
        self, query: Query, statuses: Sequence[str], after: str, limit: int
    ) -> tuple[list[index.Entry], str | None]:
        """Return the entries that may match, by the index: see `index.entries`."""
        markers, clients = self._markers, self._clients
        below = (
            index.tag_prefixes(query.tags)
            if query.tags
            else index.prefixes(markers, clients, statuses)
        )
        ends = [at for at in (query.started_before, query.closed_before) if at is not None]
        if ends:
            after = max(after, index.behind(min(ends)))
        return index.entries(
            markers, clients, below, query.workflow, after, limit, query.started_after
        )

    def _enter_tags(self, document: ExecutionObject, tags: Iterable[tuple[str, str]]) -> None:
        keys = [index.tag_key(*tag, document.place) for tag in tags]
        if keys:
            self._clients.all(lambda key: self._markers.put(key, b""), keys)

    def _leave_tags(self, document: ExecutionObject, tags: Iterable[tuple[str, str]]) -> None:
        keys = [index.tag_key(*tag, document.place) for tag in tags]
        if keys:
            self._clients.all(self._markers.delete, keys)


def _tags(document: ExecutionObject) -> frozenset[tuple[str, str]]:
    text = document.head.tags
    return frozenset(tags_from_text(text).items()) if text else frozenset()


def _writer(version: str) -> str:
    # In a field that older versions of the library read without a look at its text.
    return f"{version}.{secrets.token_hex(8)}" if version else secrets.token_hex(8)


def _segment_key(execution_id: str, number: int) -> str:
    return f"{SEGMENTS}{execution_id}/{number:08}.json"


def _left(found: ExecutionObject | Tombstone | None) -> ExecutionObject | Deleted | None:
    """Return an object as it is, and a tombstone as the rest of a deleted execution."""
    if isinstance(found, Tombstone):
        return Deleted(found.events, found.etag, found.finished)
    return found


def _existing(found: ExecutionObject | Deleted | None) -> ExecutionObject | None:
    return None if isinstance(found, Deleted) else found
