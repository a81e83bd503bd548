"""Decide whether a write to a stream is kept, by one rule for all stores."""

from __future__ import annotations

from collections.abc import Sequence

from mini_workflow.core.records import field, mutable
from mini_workflow.core.streams import StreamWrite
from mini_workflow.ports.streams import (
    MAXIMUM_CHUNKS,
    MAXIMUM_STREAM_BYTES,
    Answer,
    StoredChunk,
)

Position = tuple[int, int]
"""Attempt and number."""


@mutable
class StreamState:
    """The last offset of a stream, the bytes of its chunks, and the last position of each source."""

    offset: int = 0
    size: int = 0
    positions: dict[int, Position] = field(default_factory=dict[int, Position])

    def admit(self, write: StreamWrite, *, bounded: bool) -> StoredChunk | Answer:
        """Return the chunk of a write, and count it; or the reason why it is not kept."""
        position = (write.attempt, write.number)
        last = self.positions.get(write.source)
        if last is not None and position <= last:
            return "known"
        size = self.size + len(write.body.encode())
        if bounded and (self.offset >= MAXIMUM_CHUNKS or size > MAXIMUM_STREAM_BYTES):
            return "full"
        self.offset += 1
        self.size = size
        self.positions[write.source] = position
        restarts = last is not None and write.source > 0 and last[0] < write.attempt
        return StoredChunk(self.offset, write.source, write.attempt, restarts, write.body)

    def copy(self) -> StreamState:
        """Return a copy that can be changed by itself."""
        return StreamState(self.offset, self.size, dict(self.positions))


def by_stream(writes: Sequence[StreamWrite]) -> dict[tuple[str, str], list[int]]:
    """Return the indexes of the writes to each stream, by (execution, name), in order."""
    found: dict[tuple[str, str], list[int]] = {}
    for index, write in enumerate(writes):
        found.setdefault((write.execution_id, write.stream), []).append(index)
    return found


def answer_of(admitted: StoredChunk | Answer) -> Answer:
    """Return the answer for a write, given the result of `StreamState.admit`."""
    return "kept" if isinstance(admitted, StoredChunk) else admitted
