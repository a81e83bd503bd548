"""Keep the chunks of streams in tables, written by a function of the database that orders them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mini_workflow.ports import Answer, StoredChunk, StreamPage, StreamWrite
from mini_workflow.ports.streams import MAXIMUM_STREAMS
from mini_workflow.stores import stream_state
from mini_workflow.stores.postgres.arrays import texts
from mini_workflow.stores.postgres.batch import chunk_arrays
from mini_workflow.stores.postgres.connection import Pool
from mini_workflow.stores.postgres.heartbeats import PostgresHeartbeats


class PostgresStreams:
    """Implements `StreamStore`. Each call is one round trip, and a transaction by itself."""

    def __init__(self, connections: Pool, heartbeats: PostgresHeartbeats) -> None:
        self.heartbeats: Final = heartbeats
        self._connections = connections

    def append(self, writes: Sequence[StreamWrite], *, bounded: bool = True) -> list[Answer]:
        """See `StreamStore.append`. A call whose answer was lost is repeated."""
        if not writes:
            return []
        bounds = (stream_state.MAXIMUM_CHUNKS, stream_state.MAXIMUM_STREAM_BYTES, MAXIMUM_STREAMS)
        ids = texts(write.execution_id for write in writes)
        parameters = (ids, *chunk_arrays(writes), *(bounds if bounded else (None, None, None)))
        answers: list[Answer] = self._connections.rows(_APPEND, parameters)[0][0]
        return answers

    def read(self, execution_id: str, stream: str, after: int, limit: int) -> StreamPage:
        """See `StreamStore.read`."""
        rows = self._connections.rows(_READ, (stream, after, limit, execution_id))
        if not rows:
            return StreamPage([], over=False)
        closed, last = rows[0][:2]
        chunks = [StoredChunk(*row[2:]) for row in rows if row[2] is not None]
        reached = chunks[-1].offset if chunks else after
        return StreamPage(chunks, closed and reached >= last)

    def names(self, execution_id: str) -> list[str]:
        """See `StreamStore.names`."""
        return [name for (name,) in self._connections.rows(_NAMES, (execution_id,))]

    def remove(self, execution_id: str) -> None:
        """See `StreamStore.remove`. The chunks go in `Store.sweep`."""
        self._connections.rows(_REMOVE, (execution_id,))


_APPEND: Final = "SELECT @append_chunks_1(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
_READ: Final = """
    SELECT executions.closed_at IS NOT NULL, coalesce(streams.last, 0),
        found.number, found.source, found.attempt, found.restarts, found.body
    FROM @executions AS executions
        LEFT JOIN @streams AS streams ON streams.execution = executions.key AND streams.name = %s
        LEFT JOIN LATERAL (
            SELECT chunks.* FROM @chunks AS chunks
            WHERE chunks.stream = streams.key AND chunks.number > %s
            ORDER BY chunks.number LIMIT %s
        ) AS found ON true
    WHERE executions.id = %s ORDER BY found.number
"""
_NAMES: Final = """
    SELECT streams.name
    FROM @executions AS executions JOIN @streams AS streams ON streams.execution = executions.key
    WHERE executions.id = %s AND streams.last > 0 ORDER BY streams.name
"""
_REMOVE: Final = """
    WITH gone AS (
        DELETE FROM @streams AS streams USING @executions AS executions
        WHERE executions.id = %s AND streams.execution = executions.key RETURNING streams.key
    )
    INSERT INTO @stream_leftovers (stream) SELECT key FROM gone
"""
