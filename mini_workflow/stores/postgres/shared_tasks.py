"""Share attempts between processes, which offer and take them in a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from mini_workflow.ports import Clock
from mini_workflow.ports.shared_tasks import Key, SharedTask
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.postgres.arrays import numbers, texts
from mini_workflow.stores.postgres.connection import Pool
from mini_workflow.stores.postgres.mailbox import digest
from mini_workflow.stores.process import served_by


class PostgresSharedTasks:
    """Implements `SharedTasks`. Notifies the owners that a change concerns."""

    def __init__(
        self,
        connections: Pool,
        holding: Ownership,
        clock: Clock,
        notify: Callable[[Iterable[str]], None],
    ) -> None:
        self._connections = connections
        self._holding = holding
        self._clock = clock
        self._notify = notify

    def serve(self, workers: Collection[str]) -> None:
        """See `SharedTasks.serve`."""
        self._holding.serves = " ".join(sorted(workers))

    def served(self) -> set[str]:
        """See `SharedTasks.served`."""
        return served_by(self._rows(_SERVING), self._clock.now())

    def offer(self, tasks: Sequence[SharedTask]) -> None:
        """See `SharedTasks.offer`."""
        self._rows(_CLEAN)
        self._rows(
            _OFFER,
            (
                self._holding.lease,
                texts(task.execution_id for task in tasks),
                numbers(task.seq for task in tasks),
                numbers(task.attempt for task in tasks),
                texts(task.worker for task in tasks),
                texts(task.body for task in tasks),
                texts(task.heartbeat for task in tasks),
            ),
        )
        self._notify_serving({task.worker for task in tasks})

    def take(self, worker: str, limit: int) -> int:
        """See `SharedTasks.take`."""
        return len(self._rows(_TAKE, (self._holding.lease, worker, limit)))

    def taken(self) -> list[SharedTask]:
        """See `SharedTasks.taken`."""
        return self._tasks(_TAKEN, (self._holding.lease,))

    def hand_back(self, tasks: Sequence[SharedTask]) -> None:
        """See `SharedTasks.hand_back`."""
        self._change(_HAND_BACK, tasks)
        self._notify_serving({task.worker for task in tasks})

    def beat(self, tasks: Sequence[SharedTask]) -> None:
        """See `SharedTasks.beat`."""
        self._change(_BEAT, tasks)

    def _change(self, sql: str, tasks: Sequence[SharedTask]) -> None:
        self._rows(sql, (*_keys(tasks), texts(task.heartbeat for task in tasks)))

    def settle(self, outcomes: Sequence[tuple[SharedTask, str]]) -> None:
        """See `SharedTasks.settle`."""
        tasks = [task for task, _ in outcomes]
        digests = texts(digest(f"task {task.seq} {task.attempt}") for task in tasks)
        self._rows(_SETTLE, (*_keys(tasks), texts(body for _, body in outcomes), digests))
        self._notify_all(_HOLDERS, (texts({task.execution_id for task in tasks}),))

    def lost(self) -> list[SharedTask]:
        """See `SharedTasks.lost`."""
        return self._tasks(_LOST, ())

    def cancel(self, execution_id: str, seq: int, reason: str) -> list[Key]:
        """See `SharedTasks.cancel`."""
        lease = self._holding.lease
        # An attempt that is taken in between is found by the second statement.
        dropped = self._rows(_DROP, (execution_id, seq, lease))
        takers = self._rows(_CANCEL, (reason, execution_id, seq, lease))
        self._notify({address for (address,) in takers})
        return [(execution_id, seq, attempt) for (attempt,) in dropped]

    def kept(self, key: Key | None = None) -> list[Key]:
        """See `SharedTasks.kept`."""
        if key is None:
            return self._rows(_KEPT, (self._holding.lease,))
        return self._rows(_KEPT_ONE, (self._holding.lease, *key))

    def waiting(self, execution_id: str | None = None) -> list[tuple[str, str]]:
        """See `SharedTasks.waiting`."""
        return self._rows(_WAITING, (execution_id, execution_id))

    def _notify_serving(self, workers: set[str]) -> None:
        rows = self._rows(_SERVING)
        self._notify({row[1] for row in rows if not workers.isdisjoint(row[6].split())})

    def _notify_all(self, sql: str, parameters: Sequence[Any]) -> None:
        self._notify({address for (address,) in self._rows(sql, parameters)})

    def _tasks(self, sql: str, parameters: Sequence[Any]) -> list[SharedTask]:
        return [SharedTask(*row) for row in self._rows(sql, parameters)]

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return self._connections.rows(sql, parameters)


def _keys(tasks: Sequence[SharedTask]) -> tuple[str, str, str, str]:
    return (
        texts(task.execution_id for task in tasks),
        numbers(task.seq for task in tasks),
        numbers(task.attempt for task in tasks),
        numbers(task.taker for task in tasks),
    )


_SERVING: Final = "SELECT id, address, until, host, pid, born, serves FROM @owners"
# Settled attempts are kept until their message is taken, waiting ones until their execution closes.
_CLEAN: Final = """
    DELETE FROM @tasks AS tasks
    WHERE (message IS NOT NULL AND NOT EXISTS (SELECT 1 FROM @mailbox WHERE number = message))
        OR (message IS NULL AND taker IS NULL AND EXISTS (
            SELECT 1 FROM @executions WHERE key = execution AND closed_at IS NOT NULL
        ))
"""
# A takeover deletes the row of the owner, which is locked here. So either this statement comes first, and
# the next owner sees it, or it does nothing.
_OFFER: Final = """
    WITH lease AS (SELECT id FROM @owners WHERE id = %s FOR KEY SHARE)
    INSERT INTO @tasks (execution, seq, attempt, worker, body, heartbeat)
    SELECT executions.key, offered.seq, offered.attempt, offered.worker, offered.body,
        offered.heartbeat
    FROM lease
        CROSS JOIN unnest(
            %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[]
        ) WITH ORDINALITY AS offered (id, seq, attempt, worker, body, heartbeat, place)
        JOIN @executions AS executions ON executions.id = offered.id
        JOIN @partitions AS partitions ON partitions.id = executions.partition
    WHERE partitions.owner = lease.id AND executions.closed_at IS NULL
    ORDER BY offered.place
    ON CONFLICT (execution, seq, attempt) DO NOTHING
"""
_TAKE: Final = """
    WITH lease AS (SELECT id FROM @owners WHERE id = %s FOR KEY SHARE), free AS (
        SELECT tasks.number FROM @tasks AS tasks
            JOIN @executions AS executions ON executions.key = tasks.execution
        WHERE tasks.worker = %s AND tasks.taker IS NULL AND tasks.message IS NULL
            AND executions.closed_at IS NULL
        ORDER BY tasks.number LIMIT %s FOR UPDATE OF tasks SKIP LOCKED
    )
    UPDATE @tasks AS tasks SET taker = lease.id FROM lease, free
    WHERE tasks.number = free.number RETURNING tasks.number
"""
_GIVEN: Final = """
    SELECT tasks.number, tasks.execution, given.place, {fields}
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], {types})
            WITH ORDINALITY AS given (id, seq, attempt, taker, {fields}, place)
        JOIN @executions AS executions ON executions.id = given.id
        JOIN @tasks AS tasks ON tasks.execution = executions.key AND tasks.seq = given.seq
            AND tasks.attempt = given.attempt AND tasks.taker = given.taker
    WHERE tasks.message IS NULL
    FOR UPDATE OF tasks
"""
_BEATEN: Final = _GIVEN.format(types="%s::text[]", fields="given_heartbeat")
_BEAT: Final = f"""
    WITH found AS ({_BEATEN})
    UPDATE @tasks AS tasks SET heartbeat = found.given_heartbeat FROM found
    WHERE tasks.number = found.number
"""
_HAND_BACK: Final = f"""
    WITH found AS ({_BEATEN})
    UPDATE @tasks AS tasks SET heartbeat = found.given_heartbeat, taker = NULL FROM found
    WHERE tasks.number = found.number
"""
_SETTLE: Final = f"""
    WITH found AS ({_GIVEN.format(types="%s::text[], %s::text[]", fields="outcome, digest")}),
    posted AS (
        INSERT INTO @mailbox (execution, body, digest)
        SELECT execution, outcome, digest FROM found ORDER BY place
        RETURNING number, execution, digest
    )
    UPDATE @tasks AS tasks SET message = posted.number, body = '' FROM found, posted
    WHERE tasks.number = found.number AND posted.execution = found.execution
        AND posted.digest = found.digest
"""
_HOLDERS: Final = """
    SELECT DISTINCT owners.address FROM @executions AS executions
        JOIN @partitions AS partitions ON partitions.id = executions.partition
        JOIN @owners AS owners ON owners.id = partitions.owner
    WHERE executions.id = ANY (%s::text[])
"""
_TASK: Final = """
    SELECT executions.id, tasks.seq, tasks.attempt, tasks.worker, tasks.body, tasks.heartbeat,
        tasks.taker, tasks.cancelled
    FROM @tasks AS tasks JOIN @executions AS executions ON executions.key = tasks.execution
    WHERE tasks.message IS NULL AND tasks.taker
"""
_TAKEN: Final = f"{_TASK} = %s ORDER BY tasks.number"
_LOST: Final = f"""{_TASK} IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM @owners AS owners WHERE owners.id = tasks.taker)
    ORDER BY tasks.number
"""
_HELD: Final = """
    executions.key = tasks.execution AND executions.id = %s AND tasks.seq = %s
        AND partitions.id = executions.partition AND partitions.owner = %s
        AND tasks.message IS NULL
"""
_DROP: Final = f"""
    DELETE FROM @tasks AS tasks USING @executions AS executions, @partitions AS partitions
    WHERE {_HELD} AND tasks.taker IS NULL RETURNING tasks.attempt
"""
_CANCEL: Final = f"""
    WITH cancelled AS (
        UPDATE @tasks AS tasks SET cancelled = %s
        FROM @executions AS executions, @partitions AS partitions
        WHERE {_HELD} AND tasks.cancelled IS NULL RETURNING tasks.taker
    )
    SELECT owners.address FROM cancelled JOIN @owners AS owners ON owners.id = cancelled.taker
"""
_KEPT: Final = """
    SELECT executions.id, tasks.seq, tasks.attempt
    FROM @tasks AS tasks
        JOIN @executions AS executions ON executions.key = tasks.execution
        JOIN @partitions AS partitions ON partitions.id = executions.partition
    WHERE partitions.owner = %s AND executions.closed_at IS NULL AND (tasks.message IS NULL
        OR EXISTS (SELECT 1 FROM @mailbox AS mailbox WHERE mailbox.number = tasks.message))
"""
_KEPT_ONE: Final = f"{_KEPT} AND executions.id = %s AND tasks.seq = %s AND tasks.attempt = %s"
_WAITING: Final = """
    SELECT DISTINCT executions.id, tasks.worker
    FROM @tasks AS tasks JOIN @executions AS executions ON executions.key = tasks.execution
    WHERE tasks.taker IS NULL AND tasks.message IS NULL AND executions.closed_at IS NULL
        AND (%s::text IS NULL OR executions.id = %s)
    ORDER BY executions.id, tasks.worker LIMIT 1000
"""
