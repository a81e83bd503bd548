"""ObjectStore: the objects of executions in a bucket, their segments, and the index of statuses."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from mini_workflow.core.tags import tags_from_text
from mini_workflow.errors import StoreCorrupt
from mini_workflow.ports import Commit, Query
from mini_workflow.ports.queue import NO_EFFECTS, NO_WAKEUPS, PendingEffects, Wakeups
from mini_workflow.stores.aws_clients import Clients
from mini_workflow.stores.aws_limits import HEADER_BYTES, SEAL_OVER
from mini_workflow.stores.s3 import execution_object as form
from mini_workflow.stores.s3 import index
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.s3.execution_object import ExecutionObject

ROOT: Final = "executions/"
"""What the keys of all objects begin with that belong to executions."""


class ObjectStore:
    """Reads and writes executions. What it answers is as of the last write; it remembers nothing.

    `version` is that of the orchestrator that writes: see `ExecutionObject.written_by`. Whoever has none
    leaves an execution with the version that it is with.
    """

    def __init__(self, bucket: Bucket, clients: Clients, version: str = "") -> None:
        self._bucket = bucket
        self._version = version
        self._clients = clients

    def read(self, execution_id: str) -> ExecutionObject | None:
        """Return the object of an execution, or None."""
        found = self._bucket.get(_key(execution_id))
        return None if found is None else form.decode(found.body, found.etag)

    def header(self, execution_id: str) -> ExecutionObject | None:
        """Return the same without its lines, for less."""
        found = self._bucket.get(_key(execution_id), first=HEADER_BYTES)
        if found is None:
            return None
        return form.decode_header(found.body) or self.read(execution_id)

    def headers(self, execution_ids: list[str]) -> list[ExecutionObject | None]:
        """Return those of many."""
        return self._clients.all(self.header, execution_ids)

    def changed(self, document: ExecutionObject) -> bool:
        """Return whether somebody has written the execution since the document was
        read or written.
        """
        return self._bucket.changed(_key(document.head.execution_id), document.etag)

    def lines(self, document: ExecutionObject, start: int | None = None) -> list[str]:
        """Return the events from number `start` on, counted from 0; by default those of the run."""
        start = document.head.base if start is None else start
        if start >= document.sealed:
            return list(document.tail[start - document.sealed :])
        name = document.head.execution_id
        if start != document.head.base:
            # A look at what is new: that is rarely more than the last one.
            sealed: list[str] = []
            for number in reversed(range(document.segments)):
                sealed = self._segment(name, number) + sealed
                if len(sealed) >= document.sealed - start:
                    break
        else:
            numbers = list(range(document.first, document.segments))
            found = self._clients.all(lambda number: self._segment(name, number), numbers)
            sealed = [line for lines in found for line in lines]
        # The first of these segments may begin before.
        return [*sealed, *document.tail][start - document.length :]

    def create(
        self,
        commit: Commit,
        parent: dict[str, object] | None,
        fingerprint: str,
        pending: PendingEffects = NO_EFFECTS,
        alarm: Wakeups = NO_WAKEUPS,
        *,
        listed: bool = True,
    ) -> ExecutionObject | None:
        """Write a new execution; None if there is one of that id. It is in the index at once, or, if it
        is not to be `listed`, once it is written again.
        """
        assert commit.head is not None
        born = time.time_ns() // 1000
        empty = ExecutionObject(
            commit.head, parent=parent, fingerprint=fingerprint, born=born, spread=1
        )
        new = empty.after(commit, pending, alarm, 0, _writer(self._version))
        if listed:
            index.enter(self._bucket, commit.head.status, new.place, spread=bool(new.spread))
            self._enter_tags(new, _tags(new))
        else:
            new = replace(new, unlisted=1)
        etag = self._bucket.create(_key(commit.execution_id), form.encode(new))
        if etag is None:
            if listed:
                index.leave(self._bucket, commit.head.status, new.place, spread=bool(new.spread))
                self._leave_tags(new, _tags(new))
            return None
        return replace(new, etag=etag)

    def write(
        self,
        document: ExecutionObject,
        commit: Commit,
        pending: PendingEffects,
        alarm: Wakeups,
        tries: int,
    ) -> ExecutionObject | None:
        """Write what follows the document; None if somebody has written since it was read."""
        sealed = self._seal(document) if document.tail_bytes() > SEAL_OVER else document
        new = sealed.after(
            commit, pending, alarm, tries, _writer(self._version or document.written_by)
        )
        moved = new.head.status != document.head.status
        before, after = _tags(document), _tags(new)
        self._enter_tags(new, after if document.unlisted else after - before)
        if moved or document.unlisted:
            # Before the execution has the status: it must be found under the one that it has.
            index.enter(self._bucket, new.head.status, new.place, spread=bool(new.spread))
        etag = self._bucket.replace(_key(commit.execution_id), form.encode(new), document.etag)
        if etag is None:
            return None
        if moved and not document.unlisted:
            index.leave(self._bucket, document.head.status, document.place, spread=bool(new.spread))
        self._leave_tags(new, before - after)
        return replace(new, etag=etag)

    def _seal(self, document: ExecutionObject) -> ExecutionObject:
        """Move the tail into a segment. It is committed already, so that whoever was here before
        and failed has left a part of the same.
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

    def _segment(self, execution_id: str, number: int) -> list[str]:
        key = _segment_key(execution_id, number)
        found = self._bucket.get(key)
        if found is None:
            raise StoreCorrupt(f"segment {key!r} of execution {execution_id!r} is gone")
        return form.decode_segment(found.body)

    def places(
        self, query: Query, statuses: Sequence[str], after: str, limit: int
    ) -> tuple[list[index.Entry], str | None]:
        """Return what may match, by the index: see `index.entries`."""
        bucket, clients = self._bucket, self._clients
        below = (
            index.tag_prefixes(query.tags)
            if query.tags
            else index.prefixes(bucket, clients, statuses)
        )
        ends = [at for at in (query.started_before, query.closed_before) if at is not None]
        if ends:
            after = max(after, index.behind(min(ends)))
        return index.entries(
            bucket, clients, below, query.workflow, after, limit, query.started_after
        )

    def _enter_tags(self, document: ExecutionObject, tags: Iterable[tuple[str, str]]) -> None:
        keys = [index.tag_key(*tag, document.place) for tag in tags]
        if keys:
            self._clients.all(lambda key: self._bucket.put(key, b""), keys)

    def _leave_tags(self, document: ExecutionObject, tags: Iterable[tuple[str, str]]) -> None:
        keys = [index.tag_key(*tag, document.place) for tag in tags]
        if keys:
            self._clients.all(self._bucket.delete, keys)


def _tags(document: ExecutionObject) -> frozenset[tuple[str, str]]:
    text = document.head.tags
    return frozenset(tags_from_text(text).items()) if text else frozenset()


def _writer(version: str) -> str:
    # In a field that older versions of the library read, too, and whose text means nothing to them.
    return f"{version}.{secrets.token_hex(8)}" if version else secrets.token_hex(8)


def _key(execution_id: str) -> str:
    return f"{ROOT}{execution_id}.json"


def _segment_key(execution_id: str, number: int) -> str:
    return f"{ROOT}segments/{execution_id}/{number:08}.json"
