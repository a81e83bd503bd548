"""Keep streams in a bucket: batches of chunks, an object each, whose key has the first offset.

The key of the next batch follows from the last offset. Of two writers at the same time one is refused,
reads the batch of the other, and goes on behind it. Each batch holds the state of the stream behind it,
so that only the newest one has to be read.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Sequence
from typing import Any, Final, TypeVar, cast

from mini_workflow.core.records import frozen
from mini_workflow.core.streams import StreamWrite
from mini_workflow.errors import StoreCorrupt, StoreTooNew
from mini_workflow.ports import Answer, StoredChunk, StreamPage
from mini_workflow.ports.streams import MAXIMUM_STREAMS
from mini_workflow.stores.aws.clients import Clients
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.s3.heartbeats import S3Heartbeats
from mini_workflow.stores.s3.object_store import ROOT, ObjectStore
from mini_workflow.stores.stream_state import Position, StreamState, answer_of, by_stream

STREAMS: Final = f"{ROOT}streams/"
"""The beginning of the keys of all batches."""

BATCH: Final = 500
"""Chunks in one batch at most. Our own bound."""

REMEMBERED: Final = 1_000
"""Streams whose newest state is remembered. Our own bound."""

SCHEMA: Final = 1
"""The version of the form in which batches are written."""

_LISTED: Final = 1_000
"""Keys of one listing (S3 API Reference, ListObjectsV2)."""

_dump: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

T = TypeVar("T")

Name = tuple[str, str]
"""A stream: the id of its execution, and its own name."""


@frozen
class _Batch:
    chunks: list[StoredChunk]
    state: StreamState


class S3Streams:
    """Implements `StreamStore`."""

    def __init__(
        self,
        bucket: Bucket,
        clients: Clients,
        histories: ObjectStore,
        heartbeats: S3Heartbeats,
    ) -> None:
        self.heartbeats: Final = heartbeats
        self._bucket = bucket
        self._clients = clients
        self._histories = histories
        self._lock = threading.Lock()
        self._known: dict[Name, tuple[int, StreamState]] = {}
        self._ends: dict[Name, int] = {}
        """The last offset of the newest batch that was read of each stream."""

    def append(self, writes: Sequence[StreamWrite], *, bounded: bool = True) -> list[Answer]:
        """See `StreamStore.append`. Writes an object for each BATCH of chunks of a stream."""
        for write in writes:
            write.body.encode()
        answers: list[Answer] = ["known" for _ in writes]
        parts = [
            (name, indexes[start : start + BATCH])
            for name, indexes in by_stream(writes).items()
            for start in range(0, len(indexes), BATCH)
        ]
        for name, indexes in parts:
            found = self._append(name, [writes[index] for index in indexes], bounded)
            for index, answer in zip(indexes, found, strict=True):
                answers[index] = answer
        return answers

    def _append(self, name: Name, writes: list[StreamWrite], bounded: bool) -> list[Answer]:
        header = self._histories.header(name[0])
        if header is None:
            return ["missing"] * len(writes)
        # An id that was deleted and is used again has new streams.
        born, state = self._known.get(name, (0, StreamState()))
        if born != header.born:
            state = self._newest(name)
            if bounded and not state.offset and len(self.names(name[0])) >= MAXIMUM_STREAMS:
                return ["full"] * len(writes)
        while True:
            first, after = state.offset + 1, state.copy()
            admitted: list[StoredChunk | Answer] = [
                after.admit(write, bounded=bounded) for write in writes
            ]
            chunks = [one for one in admitted if isinstance(one, StoredChunk)]
            if not chunks or self._bucket.create(_key(name, first), _encode(chunks, after)):
                self._remember(self._known, name, (header.born, after))
                return [answer_of(one) for one in admitted]
            # Another process has written this batch.
            state = self._newest(name, state)

    def _newest(self, name: Name, known: StreamState | None = None) -> StreamState:
        """Return the state of a stream behind its newest batch; `known` is a state to read on from."""
        state = StreamState() if known is None else known
        keys = self._bucket.keys(_prefix(name), _key(name, state.offset), _LISTED)
        while len(keys) == _LISTED:
            more = self._bucket.keys(_prefix(name), keys[-1], _LISTED)
            if not more:
                break
            keys = more
        return self._batch(keys[-1]).state if keys else state

    def _remember(self, known: dict[Name, T], name: Name, value: T) -> None:
        with self._lock:
            known.pop(name, None)
            known[name] = value
            if len(known) > REMEMBERED:
                del known[next(iter(known))]

    def read(self, execution_id: str, stream: str, after: int, limit: int) -> StreamPage:
        """See `StreamStore.read`."""
        name = (execution_id, stream)
        # First, so that the chunks below include all that were written before the end.
        over = self._is_over(name)
        chunks = self._chunks(name, after, limit + 1)
        return StreamPage(chunks[:limit], over and len(chunks) <= limit)

    def _is_over(self, name: Name) -> bool:
        """Return whether the execution has closed, and all chunks of its last commit are written."""
        execution_id, stream = name
        header = self._histories.header(execution_id)
        if header is None or header.head.closed_at is None:
            return False
        document = self._histories.find(execution_id)
        pending = () if document is None else document.pending.chunks
        writes = [write for write in pending if write.stream == stream]
        if not writes:
            return True
        state = self._newest(name).copy()
        return all(state.admit(write, bounded=False) == "known" for write in writes)

    def _chunks(self, name: Name, after: int, limit: int) -> list[StoredChunk]:
        """Return the first chunks behind an offset."""
        # A follower gets the next batch by its key, which costs less than a listing.
        next_one = self._bucket.get(_key(name, after + 1))
        chunks = [] if next_one is None else _decode(next_one.body, name).chunks
        if next_one is None and after:
            # There is no next batch yet, or the offset is in the middle of a batch.
            chunks = [one for one in self._around(name, after) if one.offset > after]
        while chunks and len(chunks) < limit:
            found = self._bucket.get(_key(name, chunks[-1].offset + 1))
            if found is None:
                break
            chunks += _decode(found.body, name).chunks
        if chunks:
            self._remember(self._ends, name, chunks[-1].offset)
        return chunks[:limit]

    def _around(self, name: Name, offset: int) -> list[StoredChunk]:
        """Return the chunks of the batch that has an offset; none if that is the last offset."""
        with self._lock:
            if self._ends.get(name) == offset:
                return []
        start = _key(name, max(0, offset - BATCH))
        keys = self._bucket.keys(_prefix(name), start, BATCH + 1)
        before = [key for key in keys if key <= _key(name, offset)]
        return self._batch(before[-1]).chunks if before else []

    def names(self, execution_id: str) -> list[str]:
        """See `StreamStore.names`."""
        prefix = f"{STREAMS}{execution_id}/"
        return [folder[len(prefix) : -1] for folder in self._bucket.folders(prefix)]

    def remove(self, execution_id: str) -> None:
        """See `StreamStore.remove`."""
        prefix = f"{STREAMS}{execution_id}/"
        while keys := self._bucket.keys(prefix, "", _LISTED):
            self._clients.all(self._bucket.delete, keys)
        with self._lock:
            for known in (self._known, self._ends):
                for name in [one for one in known if one[0] == execution_id]:
                    del known[name]

    def _batch(self, key: str) -> _Batch:
        found = self._bucket.get(key)
        if found is None:
            raise StoreCorrupt(f"batch {key!r} of a stream is gone")
        return _decode(found.body, (key, ""))


def _prefix(name: Name) -> str:
    return f"{STREAMS}{name[0]}/{name[1]}/"


def _key(name: Name, first: int) -> str:
    return f"{_prefix(name)}{first:012}.json"


def _encode(chunks: Sequence[StoredChunk], state: StreamState) -> bytes:
    plain: dict[str, Any] = {
        "schema": SCHEMA,
        "writer": secrets.token_hex(8),
        "offset": state.offset,
        "size": state.size,
        "positions": [(source, *position) for source, position in state.positions.items()],
        "chunks": [
            (one.offset, one.source, one.attempt, int(one.restarts), one.body) for one in chunks
        ],
    }
    return _dump(plain).encode()


def _decode(body: bytes, name: Name) -> _Batch:
    """Return a batch. Raises StoreCorrupt or StoreTooNew."""
    try:
        plain = cast("dict[str, Any]", json.loads(body))
        if plain["schema"] > SCHEMA:
            raise StoreTooNew(
                f"stream {name!r} was written in form {plain['schema']}, and this version of "
                f"mini-workflow reads forms up to {SCHEMA}: deploy a newer version"
            )
        positions: dict[int, Position] = {
            source: (attempt, number) for source, attempt, number in plain["positions"]
        }
        chunks = [
            StoredChunk(offset, source, attempt, bool(restarts), text)
            for offset, source, attempt, restarts, text in plain["chunks"]
        ]
        return _Batch(chunks, StreamState(plain["offset"], plain["size"], positions))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"not a batch of stream {name!r} ({error}): {body[:200]!r}") from error
