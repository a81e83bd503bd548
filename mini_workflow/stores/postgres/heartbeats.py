"""Keep the last heartbeats of tasks in a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from mini_workflow.ports.heartbeats import Heartbeat
from mini_workflow.stores.postgres.arrays import numbers, texts
from mini_workflow.stores.postgres.connection import Pool


class PostgresHeartbeats:
    """Implements `HeartbeatStore`. A call makes at most two round trips, each a transaction."""

    def __init__(self, connections: Pool) -> None:
        self._connections = connections

    def keep(self, beats: Sequence[Heartbeat], over: Collection[tuple[str, int, int]]) -> None:
        """See `HeartbeatStore.keep`. Only the last given heartbeat of a task is kept."""
        if beats:
            # All writers use one order, so that no two processes wait for each other.
            newest = {(beat.execution_id, beat.seq): beat for beat in beats}
            ordered = [newest[key] for key in sorted(newest)]
            parameters = (
                texts(beat.execution_id for beat in ordered),
                numbers(beat.seq for beat in ordered),
                numbers(beat.attempt for beat in ordered),
                numbers(beat.at for beat in ordered),
                texts(beat.details for beat in ordered),
            )
            self._connections.rows(_KEEP, parameters)
        if over:
            ended = sorted(over)
            parameters = (
                texts(name for name, _, _ in ended),
                numbers(seq for _, seq, _ in ended),
                numbers(attempt for _, _, attempt in ended),
            )
            self._connections.rows(_FORGET, parameters)

    def last(self, execution_id: str, seqs: Sequence[int]) -> list[Heartbeat]:
        """See `HeartbeatStore.last`."""
        rows = self._connections.rows(_LAST, (execution_id, numbers(seqs)))
        return [Heartbeat(execution_id, *row) for row in rows]


_KEEP: Final = """
    INSERT INTO @heartbeats AS heartbeats (execution, seq, attempt, at, details)
    SELECT executions.key, given.seq, given.attempt, given.at, given.details
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[])
            WITH ORDINALITY AS given (id, seq, attempt, at, details, place)
        JOIN @executions AS executions ON executions.id = given.id
    ORDER BY given.place
    ON CONFLICT (execution, seq) DO UPDATE
        SET attempt = excluded.attempt, at = excluded.at, details = excluded.details
        WHERE excluded.attempt >= heartbeats.attempt
    RETURNING 1
"""
_FORGET: Final = """
    DELETE FROM @heartbeats AS heartbeats
    USING unnest(%s::text[], %s::bigint[], %s::bigint[]) AS given (id, seq, attempt),
        @executions AS executions
    WHERE executions.id = given.id AND heartbeats.execution = executions.key
        AND heartbeats.seq = given.seq AND heartbeats.attempt <= given.attempt
    RETURNING 1
"""
_LAST: Final = """
    SELECT heartbeats.seq, heartbeats.attempt, heartbeats.at, heartbeats.details
    FROM @executions AS executions
        JOIN @heartbeats AS heartbeats ON heartbeats.execution = executions.key
    WHERE executions.id = %s AND heartbeats.seq = ANY (%s::bigint[])
"""
