"""Keep the chunks of streams in tables."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from typing import Any, Final

from mini_workflow.core.streams import StreamWrite
from mini_workflow.ports import Answer, StoredChunk, StreamPage
from mini_workflow.ports.streams import MAXIMUM_STREAMS
from mini_workflow.stores.sqlite.connection import Connection
from mini_workflow.stores.sqlite.heartbeats import SQLiteHeartbeats
from mini_workflow.stores.stream_state import Position, StreamState, by_stream


class SQLiteStreams:
    """Implements `StreamStore`."""

    def __init__(
        self, reader: Connection, reading: threading.RLock, heartbeats: SQLiteHeartbeats
    ) -> None:
        self.heartbeats: Final = heartbeats
        self._reader = reader
        self._reading = reading

    def append(self, writes: Sequence[StreamWrite], *, bounded: bool = True) -> list[Answer]:
        """See `StreamStore.append`. All writes are one transaction."""
        if not writes:
            return []
        with self._reading, self._reader as raw:
            return append(raw, writes, bounded=bounded)

    def read(self, execution_id: str, stream: str, after: int, limit: int) -> StreamPage:
        """See `StreamStore.read`."""
        with self._reading, self._reader.snapshot() as connection:
            row = connection.row(_STREAM, (stream, execution_id))
            if row is None:
                return StreamPage([], over=False)
            closed_at, key, last = row
            found = [] if key is None else connection.rows(_CHUNKS, (key, after, limit))
        chunks = [
            StoredChunk(o, source, attempt, bool(r), body) for o, source, attempt, r, body in found
        ]
        reached = chunks[-1].offset if chunks else after
        return StreamPage(chunks, closed_at is not None and reached >= (last or 0))

    def names(self, execution_id: str) -> list[str]:
        """See `StreamStore.names`."""
        with self._reading:
            rows = self._reader.rows(_NAMES, (execution_id,))
        return [name for (name,) in rows]

    def remove(self, execution_id: str) -> None:
        """See `StreamStore.remove`."""
        with self._reading, self._reader as raw:
            row = raw.execute(_EXECUTION, (execution_id,)).fetchone()
            if row is not None:
                remove(raw, row[0])


def append(
    raw: sqlite3.Connection, writes: Sequence[StreamWrite], *, bounded: bool
) -> list[Answer]:
    """Keep writes within a transaction that has begun."""
    answers: list[Answer] = ["known"] * len(writes)
    for (execution_id, name), indexes in by_stream(writes).items():
        row = raw.execute(_EXECUTION, (execution_id,)).fetchone()
        if row is None:
            for index in indexes:
                answers[index] = "missing"
            continue
        _append(raw, row[0], name, [(index, writes[index]) for index in indexes], bounded, answers)
    return answers


def _append(
    raw: sqlite3.Connection,
    execution: int,
    name: str,
    writes: list[tuple[int, StreamWrite]],
    bounded: bool,
    answers: list[Answer],
) -> None:
    """Keep the writes to one stream."""
    row = raw.execute(_FIND, (execution, name)).fetchone()
    if row is None:
        if bounded and raw.execute(_COUNT, (execution,)).fetchone()[0] >= MAXIMUM_STREAMS:
            for index, _ in writes:
                answers[index] = "full"
            return
        key = raw.execute(_CREATE, (execution, name)).lastrowid
        state = StreamState()
    else:
        key, state = row[0], StreamState(row[1], row[2])
    for source in {write.source for _, write in writes}:
        found: Position | None = raw.execute(_POSITION, (key, source)).fetchone()
        if found is not None:
            state.positions[source] = found
    chunks: list[tuple[Any, ...]] = []
    changed: set[int] = set()
    for index, write in writes:
        chunk = state.admit(write, bounded=bounded)
        if isinstance(chunk, StoredChunk):
            answers[index] = "kept"
            changed.add(write.source)
            chunks.append(
                (key, chunk.offset, chunk.source, chunk.attempt, int(chunk.restarts), chunk.body)
            )
        else:
            answers[index] = chunk
    if chunks:
        raw.executemany(_ADD, chunks)
        raw.execute(_GROWN, (state.offset, state.size, key))
        raw.executemany(_MOVED, [(key, source, *state.positions[source]) for source in changed])


def remove(raw: sqlite3.Connection, execution: int) -> None:
    """Remove the streams of the execution with that key, within a transaction that has begun."""
    keys = raw.execute("SELECT key FROM streams WHERE execution = ?", (execution,)).fetchall()
    for table in ("chunks", "stream_sources"):
        raw.executemany(f"DELETE FROM {table} WHERE stream = ?", keys)
    raw.execute("DELETE FROM streams WHERE execution = ?", (execution,))


_EXECUTION = "SELECT key FROM executions WHERE id = ?"
_STREAM = """
    SELECT executions.closed_at, streams.key, streams.last
    FROM executions
        LEFT JOIN streams ON streams.execution = executions.key AND streams.name = ?
    WHERE executions.id = ?
"""
_CHUNKS = """
    SELECT offset, source, attempt, restarts, body FROM chunks
    WHERE stream = ? AND offset > ? ORDER BY offset LIMIT ?
"""
_NAMES = """
    SELECT streams.name FROM executions JOIN streams ON streams.execution = executions.key
    WHERE executions.id = ? AND streams.last > 0 ORDER BY streams.name
"""
_FIND = "SELECT key, last, bytes FROM streams WHERE execution = ? AND name = ?"
_COUNT = "SELECT count(*) FROM streams WHERE execution = ?"
_CREATE = "INSERT INTO streams (execution, name, last, bytes) VALUES (?, ?, 0, 0)"
_POSITION = "SELECT attempt, number FROM stream_sources WHERE stream = ? AND source = ?"
_ADD = (
    "INSERT INTO chunks (stream, offset, source, attempt, restarts, body) VALUES (?, ?, ?, ?, ?, ?)"
)
_GROWN = "UPDATE streams SET last = ?, bytes = ? WHERE key = ?"
_MOVED = (
    "INSERT OR REPLACE INTO stream_sources (stream, source, attempt, number) VALUES (?, ?, ?, ?)"
)
