"""Store heads and histories in tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final

from mini_workflow.errors import StoreError, UsageError
from mini_workflow.ports import DELETIONS_KEPT, Commit, Extent, Found, Head, Page, Query, Stored
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.postgres.arrays import texts
from mini_workflow.stores.postgres.batch import Batch
from mini_workflow.stores.postgres.connection import Connection, ConnectionLost, Pool
from mini_workflow.stores.postgres.fence import Fence
from mini_workflow.stores.postgres.functions import HEAD
from mini_workflow.stores.postgres.mailbox import ReceivedMessages
from mini_workflow.stores.postgres.server_errors import LOST, UNREAD
from mini_workflow.stores.sql_listing import Dialect, Source, sources

_ELSEWHERE: Final = (-1, -1)
"""The place of an execution that another owner holds: no commit can expect this length."""

_FIELDS: Final = ", ".join(["executions.id", *(f"executions.{name}" for name, _ in HEAD)])
_BEHIND: Final = 1 + len(HEAD)


LONGEST_WAIT: Final = 3_000
"""Milliseconds that a commit which creates executions waits for a transaction of somebody else that has
created one of them and is still open. Meanwhile this owner does nothing else. Our own bound."""


class PostgresStore:
    """Implements `Store`. A commit waits for other transactions for up to `longest_wait` milliseconds."""

    def __init__(
        self,
        writer: Connection,
        readers: Pool,
        holding: Ownership,
        received: ReceivedMessages,
        notify: Callable[[Iterable[str]], None],
        *,
        keep_runs: bool = True,
        is_client: bool = False,
        longest_wait: int = LONGEST_WAIT,
    ) -> None:
        self._longest_wait = longest_wait
        self._is_client = is_client
        self._looks = 0
        self._writer = writer
        self._readers = readers
        self._holding = holding
        self._received = received
        self._notify = notify
        self._fence: Final = Fence(writer, holding)
        self._keep_runs = keep_runs

    def load(self, execution_id: str) -> Stored | None:
        """See `Store.load`."""
        row = self._writer.row(_LOAD, (execution_id,))
        if row is None:
            return None
        head = _head_of(row)
        key, partition, tries, events, parked = row[_BEHIND:]
        held = partition in self._holding.partitions
        if held:
            self._holding.remember(execution_id, key, head.base + len(events))
        return Stored(head, events, parked, held, tries)

    def extent(self, execution_id: str) -> Extent | None:
        """See `Store.extent`."""
        row = self._writer.row(_FIND, (texts([execution_id]),))
        if row is None:
            return None
        _, _, partition, length = row
        return Extent(length, partition in self._holding.partitions)

    def head(self, execution_id: str) -> Head | None:
        """See `Store.head`."""
        row = self._readers.row(_HEAD, (execution_id,))
        return None if row is None else _head_of(row)

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        """See `Store.history`."""
        rows = self._readers.rows(_HISTORY, (since, execution_id))
        return [body for (body,) in rows]

    def ends(self, execution_id: str, last: int) -> list[str]:
        """See `Store.ends`."""
        return [body for (body,) in self._readers.rows(_ENDS, (execution_id, last))]

    def ended(self, execution_ids: Sequence[str]) -> list[str]:
        """Return the ids of executions that are closed, blocked, or missing. Any thread."""
        return [name for (name,) in self._readers.rows(_ENDED, (texts(execution_ids),))]

    def lookup(self, execution_ids: Collection[str]) -> dict[str, Found]:
        """See `Store.lookup`."""
        rows = self._readers.rows(_LOOKUP, (texts(execution_ids),))
        return {
            name: Found(None if row[0] is None else _head_of(row), deleted)
            for name, deleted, *row in rows
        }

    def sweep(self, now: int, limit: int) -> bool:
        """See `Store.sweep`. The server reuses the space by its own VACUUM."""
        row = self._writer.row("SELECT @sweep_2(%s, %s)", (now - DELETIONS_KEPT, limit))
        return bool(row and row[0])

    def version(self) -> int:
        """Return another number at each call, since Postgres has no cheap test for changes. Any thread."""
        self._looks += 1
        return self._looks

    def list(self, query: Query) -> Page:
        """See `Store.list`."""
        parts = sources(query, _DIALECT)
        way = "DESC" if query.order.startswith("-") else "ASC"
        selects = [f"({source.in_order(query, _FIELDS)})" for source in parts]
        time, key = _BEHIND + 1, _BEHIND + 2
        sql = f"SELECT * FROM ({' UNION ALL '.join(selects)}) AS found"
        sql = f"{sql} ORDER BY {time} {way}, {key} {way} LIMIT ?"
        rows = self._readers.rows(sql.replace("?", "%s"), (*_values(parts), query.limit + 1))
        shown = rows[: query.limit]
        following = None
        if len(rows) > query.limit:
            following = f"{shown[-1][_BEHIND]}-{shown[-1][_BEHIND + 1]}"
        return Page([_head_of(row) for row in shown], following)

    def count(self, query: Query) -> int:
        """See `Store.count`."""
        parts = sources(query, _DIALECT)
        sql = " + ".join(f"(SELECT count(*) {source.sql()})" for source in parts)
        found: int = self._readers.row(f"SELECT {sql}".replace("?", "%s"), _values(parts))[0]
        return found

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """See `Store.commit`."""
        if self._is_client:
            return self._create(commits)
        batch, sql, values = self._prepared(commits)
        try:
            rows = self._outcome(partial(self._writer.once, sql, values), sql, values)
        except StoreError as error:
            if getattr(error.__cause__, "sqlstate", None) != UNREAD:
                raise
            others = iter(self.commit([one for one in commits if one.deleted_at is None]))
            return [one.deleted_at is None and next(others) for one in commits]
        return self._settle(batch, rows)

    def begin_commit(self, commits: Sequence[Commit]) -> Callable[[], list[bool]]:
        """See `BeginCommit`. The server works on the commit while this process does something else."""
        if self._is_client or any(item.deleted_at is not None for item in commits):
            return partial(self.commit, commits)
        try:
            batch, sql, values = self._prepared(commits)
            begun = self._writer.begin(sql, values)
        except (StoreError, UsageError, UnicodeEncodeError):
            return partial(self.commit, commits)  # nothing was sent: this raises it again
        return lambda: self._settle(batch, self._outcome(begun, sql, values))

    def _prepared(self, commits: Sequence[Commit]) -> tuple[Batch, str, tuple[Any, ...]]:
        """Return the batch of the commits and the call that writes it, with the fence in its parameters."""
        holding = self._holding
        lease = holding.require()
        batch = Batch(holding, self._received, self._found(commits), keep_runs=self._keep_runs)
        for item in commits:
            batch.add(item)
        sql, parameters = _call_of(batch, self._longest_wait)
        self._fence.settle()
        return batch, sql, (lease, holding.commits, *parameters)

    def _create(self, commits: Sequence[Commit]) -> list[bool]:
        """Create executions for other owners to run; a client can write nothing else."""
        holding = Ownership()
        holding.homes = [0]
        batch = Batch(holding, self._received, self._found(commits), keep_runs=True)
        for item in commits:
            batch.add(item)
        parameters = (None, 0, *batch.literals())
        sql = f"SELECT * FROM @commit_1({', '.join(['%s'] * len(parameters))})"
        try:
            rows = self._writer.once(sql, parameters)
        except ConnectionLost:
            done = self._written(commits)
            if any(done):  # all of them were, in one step
                return done
            rows = self._writer.once(sql, parameters)
        made, addresses = rows[0]
        self._notify(addresses or ())
        return batch.settle(made or [])

    def _written(self, commits: Sequence[Commit]) -> list[bool]:
        """Return which of these commits created their executions, by the first event, which is unique."""
        first = self._writer.rows(_FIRST, (texts([item.execution_id for item in commits]),))
        return [(item.execution_id, item.events[0]) in first for item in commits]

    def _settle(self, batch: Batch, rows: list[Any] | None) -> list[bool]:
        """Return the answers for a commit that was done, and wake others; None if its rows were lost."""
        if batch.only_appends():
            return batch.settle([])
        if rows is None:
            row = self._writer.row(
                "SELECT made FROM @owners WHERE id = %s", (self._holding.require(),)
            )
            if row is None:
                self._holding.lost()
            made, addresses = row[0], None
        else:
            made, addresses = rows[0]
        if addresses:
            self._notify(addresses)
        return batch.settle(made or [])

    def _outcome(
        self, finish: Callable[[], list[Any]], sql: str, values: Sequence[Any]
    ) -> list[Any] | None:
        """Wait for a call of a function that commits; None if it was done and its answer was lost."""
        holding = self._holding
        try:
            rows = finish()
        except ConnectionLost:
            holding.unconfirmed = True
            rows = None if self._fence.is_done() else self._writer.once(sql, values)
            holding.unconfirmed = False
        except StoreError as error:
            if getattr(error.__cause__, "sqlstate", None) == LOST:
                holding.lost()
            raise
        holding.commits += 1
        return rows

    def _found(self, commits: Sequence[Commit]) -> dict[str, tuple[int, int]]:
        """Find the executions that are not remembered, in one query; not those that are only created.

        The server itself refuses to create an execution twice.
        """
        known = self._holding.lengths
        asked: dict[str, bool] = {}
        for item in commits:
            name = item.execution_id
            if name not in known:
                asked[name] = item.expected > 0 or name in asked
        names = [name for name, wanted in asked.items() if wanted]
        if not names:
            return {}
        held = self._holding.partitions
        return {
            name: (key, length) if partition in held else _ELSEWHERE
            for name, key, partition, length in self._writer.rows(_FIND, (texts(names),))
        }


def _call_of(batch: Batch, longest_wait: int) -> tuple[str, Sequence[str]]:
    """Return the call of the function that writes a batch, and its parameters but for the lease."""
    if batch.only_appends():
        return "SELECT @append_1(%s, %s, %s, %s, %s)", batch.events.literals()
    parameters = batch.literals()
    function = "commit_1"
    if batch.needs_messages():
        function = "commit_4"
        parameters = [*batch.asked_for(), *batch.chunks(), *batch.removed(), *parameters]
    elif batch.writes_chunks():
        function, parameters = "commit_3", [*batch.chunks(), *batch.removed(), *parameters]
    elif batch.removes():
        function, parameters = "commit_2", [*batch.removed(), *parameters]
    places = ", ".join(["%s"] * (1 + len(parameters)))
    if batch.has_created():
        return _BOUNDED.format(
            longest_wait=longest_wait, function=function, places=places
        ), parameters
    return f"SELECT * FROM @{function}(%s, {places})", parameters


def _head_of(row: Sequence[Any]) -> Head:
    return Head(*row[:_BEHIND])


def _values(parts: Iterable[Source]) -> tuple[Any, ...]:
    return tuple(value for source in parts for value in source.values)


_DIALECT: Final = Dialect(
    plain="@executions AS executions",
    tags="@tags",
    tagged="@tags AS tags JOIN @executions AS executions ON executions.key = tags.execution",
    by_parent="@executions AS executions",
    by_id="@executions AS executions",
    by_end="@executions AS executions",
)
# The lease depends on the setting, so that the setting comes first.
_BOUNDED: Final = """
    WITH bounded AS MATERIALIZED (
        SELECT set_config('lock_timeout', '{longest_wait}', true) AS longest
    )
    SELECT made.* FROM bounded,
        @{function}(CASE WHEN longest IS NOT NULL THEN %s::bigint END, {places}) AS made
"""
_HEAD: Final = f"SELECT {_FIELDS} FROM @executions AS executions WHERE id = %s"
_LOOKUP: Final = f"""
    SELECT asked.id, coalesce(deleted.events, 0), {_FIELDS}
    FROM unnest(%s::text[]) AS asked (id)
        LEFT JOIN @executions AS executions ON executions.id = asked.id
        LEFT JOIN @deleted AS deleted ON deleted.id = asked.id
"""
_LOAD: Final = f"""
    SELECT {_FIELDS}, key, partition, tries,
        ARRAY(SELECT body FROM @events WHERE execution = key AND number >= base ORDER BY number),
        ARRAY(SELECT body FROM @parked WHERE execution = key ORDER BY number)
    FROM @executions AS executions WHERE id = %s
"""
_FIND: Final = """
    SELECT id, key, partition,
        (SELECT coalesce(max(number) + 1, 0) FROM @events WHERE execution = key)
    FROM @executions WHERE id = ANY (%s::text[])
"""
_FIRST: Final = """
    SELECT executions.id, events.body
    FROM @executions AS executions
        JOIN @events AS events ON events.execution = executions.key AND events.number = 0
    WHERE executions.id = ANY (%s::text[])
"""
_HISTORY: Final = """
    SELECT events.body
    FROM @executions AS executions
        JOIN @events AS events ON events.execution = executions.key
            AND events.number >= greatest(executions.base, %s)
    WHERE executions.id = %s ORDER BY events.number
"""
_ENDS: Final = """
    WITH one AS (SELECT key, base FROM @executions WHERE id = %s), ends AS (
        (
            SELECT events.number, events.body FROM one
                JOIN @events AS events ON events.execution = one.key AND events.number >= one.base
            ORDER BY events.number LIMIT 1
        )
        UNION (
            SELECT events.number, events.body FROM one
                JOIN @events AS events ON events.execution = one.key AND events.number >= one.base
            ORDER BY events.number DESC LIMIT %s
        )
    )
    SELECT body FROM ends ORDER BY number
"""
_ENDED: Final = """
    SELECT asked.id FROM unnest(%s::text[]) AS asked (id)
        LEFT JOIN @executions AS executions ON executions.id = asked.id
    WHERE executions.status IS DISTINCT FROM 'running'
"""
