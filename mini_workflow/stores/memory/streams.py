"""Keep streams in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Final

from mini_workflow.core.records import field, mutable
from mini_workflow.core.streams import StreamWrite
from mini_workflow.ports import Answer, Head, StoredChunk, StreamPage
from mini_workflow.ports.streams import MAXIMUM_STREAMS
from mini_workflow.stores.memory.heartbeats import MemoryHeartbeats
from mini_workflow.stores.stream_state import StreamState

NOTHING_PENDING: Sequence[StreamWrite] = ()


@mutable
class _Stream:
    state: StreamState = field(default_factory=StreamState)
    chunks: list[StoredChunk] = field(default_factory=list[StoredChunk])


class StreamTable:
    """The streams of all executions. Callers hold a lock.

    `head` returns the head of an execution, and `pending` the writes to streams that its last commit
    has left to do.
    """

    def __init__(
        self,
        head: Callable[[str], Head | None],
        pending: Callable[[str], Sequence[StreamWrite]] = lambda execution_id: NOTHING_PENDING,
    ) -> None:
        self._head = head
        self._pending = pending
        self._streams: dict[str, dict[str, _Stream]] = {}

    def append(self, writes: Sequence[StreamWrite], *, bounded: bool) -> list[Answer]:
        """See `StreamStore.append`."""
        for write in writes:
            write.body.encode()
        return [self._append(write, bounded) for write in writes]

    def _append(self, write: StreamWrite, bounded: bool) -> Answer:
        if self._head(write.execution_id) is None:
            return "missing"
        streams = self._streams.setdefault(write.execution_id, {})
        if bounded and write.stream not in streams and len(streams) >= MAXIMUM_STREAMS:
            return "full"
        stream = streams.setdefault(write.stream, _Stream())
        chunk = stream.state.admit(write, bounded=bounded)
        if not isinstance(chunk, StoredChunk):
            return chunk
        stream.chunks.append(chunk)
        return "kept"

    def read(self, execution_id: str, stream: str, after: int, limit: int) -> StreamPage:
        """See `StreamStore.read`."""
        head = self._head(execution_id)
        found = self._streams.get(execution_id, {}).get(stream)
        chunks: list[StoredChunk] = []
        more = False
        if found is not None:
            start = bisect_right(found.chunks, after, key=attrgetter("offset"))
            chunks = found.chunks[start : start + limit]
            more = start + limit < len(found.chunks)
        over = head is not None and head.closed_at is not None and not more
        return StreamPage(chunks, over and not self._is_pending(execution_id, stream, found))

    def _is_pending(self, execution_id: str, stream: str, found: _Stream | None) -> bool:
        state = StreamState() if found is None else found.state.copy()
        writes = [one for one in self._pending(execution_id) if one.stream == stream]
        return any(state.admit(write, bounded=False) != "known" for write in writes)

    def names(self, execution_id: str) -> list[str]:
        """See `StreamStore.names`."""
        streams = self._streams.get(execution_id, {})
        return sorted(name for name, stream in streams.items() if stream.chunks)

    def remove(self, execution_id: str) -> None:
        """See `StreamStore.remove`."""
        self._streams.pop(execution_id, None)


class MemoryStreams:
    """Implements `StreamStore` over a table, which `opened` returns with its lock held."""

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[StreamTable]],
        heartbeats: MemoryHeartbeats,
    ) -> None:
        self.heartbeats: Final = heartbeats
        self._opened = opened

    def append(self, writes: Sequence[StreamWrite], *, bounded: bool = True) -> list[Answer]:
        """See `StreamStore.append`."""
        with self._opened() as table:
            return table.append(writes, bounded=bounded)

    def read(self, execution_id: str, stream: str, after: int, limit: int) -> StreamPage:
        """See `StreamStore.read`."""
        with self._opened() as table:
            return table.read(execution_id, stream, after, limit)

    def names(self, execution_id: str) -> list[str]:
        """See `StreamStore.names`."""
        with self._opened() as table:
            return table.names(execution_id)

    def remove(self, execution_id: str) -> None:
        """See `StreamStore.remove`."""
        with self._opened() as table:
            table.remove(execution_id)
