"""Store heads and histories in tables."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, count, repeat
from operator import attrgetter
from typing import Any, Final

from mini_workflow.errors import UsageError
from mini_workflow.ports import Commit, Extent, Found, Head, Page, Query, Stored, StreamWrite
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.sqlite import sweeping
from mini_workflow.stores.sqlite.connection import Connection
from mini_workflow.stores.sqlite.damage import BEHIND, FIELDS, FIND, Damage, damages, head_of
from mini_workflow.stores.sqlite.leases import verify
from mini_workflow.stores.sqlite.streams import append, remove

_ELSEWHERE: Final = (-1, -1)
"""The place of an execution that another owner holds: no commit can expect this length."""


class SQLiteStore:
    """Implements `Store`."""

    def __init__(
        self,
        writer: Connection,
        reader: Connection,
        reading: threading.RLock,
        holding: Ownership,
        *,
        keep_runs: bool = True,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._reading = reading
        self._holding = holding
        self._keep_runs = keep_runs

    def load(self, execution_id: str) -> Stored | None:
        """See `Store.load`."""
        with self._writer.snapshot() as connection:
            row = connection.row(
                f"SELECT {FIELDS}, key, partition, tries FROM executions WHERE id = ?",
                (execution_id,),
            )
            if row is None:
                return None
            head = head_of(row)
            key, partition, tries = row[BEHIND:]
            events: list[str] = [body for (body,) in connection.rows(_EVENTS, (key, head.base))]
            parked: list[str] = [body for (body,) in connection.rows(_PARKED, (key,))]
        held = partition in self._holding.partitions
        if held:
            self._holding.remember(execution_id, key, head.base + len(events))
        return Stored(head, events, parked, held, tries if type(tries) is int else 0)

    def extent(self, execution_id: str) -> Extent | None:
        """See `Store.extent`."""
        row = self._writer.row(_FIND, (execution_id,))
        if row is None:
            return None
        _, partition, length = row
        return Extent(length, partition in self._holding.partitions)

    def head(self, execution_id: str) -> Head | None:
        """See `Store.head`."""
        with self._reading:
            row = self._reader.row(f"SELECT {FIELDS} FROM executions WHERE id = ?", (execution_id,))
        return None if row is None else head_of(row)

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        """See `Store.history`."""
        with self._reading:
            return self._reader.column(_HISTORY, (since, execution_id))

    def ends(self, execution_id: str, last: int) -> list[str]:
        """See `Store.ends`."""
        with self._reading:
            rows = self._reader.rows(_ENDS, (execution_id, last))
        return [body for (body,) in rows]

    def version(self) -> int:
        """Return a number that changes with each commit of any process. Compare it within a backend only."""
        with self._reading:
            version: int = self._reader.row("PRAGMA data_version")[0]
        return version

    def ended(self, execution_ids: Sequence[str]) -> list[str]:
        """Return the ids of executions that are closed, blocked, or missing."""
        with self._reading:
            rows = self._reader.rows(_ENDED, (json.dumps(execution_ids),))
        return [name for (name,) in rows]

    def damaged(self, limit: int) -> list[Damage]:
        """Return the damaged columns of at most `limit` rows of executions. Any thread."""
        with self._reading:
            rows = self._reader.rows(FIND, (limit,))
        return [damage for row in rows for damage in damages(row)]

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """See `Store.commit`."""
        places = self._holding.lengths
        if (rows := self._appended(commits, places)) is not None:
            # The fence and the rows in one statement, which is a transaction by itself.
            if not self._writer.write(_APPEND_FEW[len(rows)], (*chain(*rows), self._holding.lease)):
                self._holding.lost()
            for item in commits:
                key, length = places[item.execution_id]
                self._holding.remember(item.execution_id, key, length + len(item.events))
            return [True] * len(commits)
        with self._writer as raw:
            verify(raw, self._holding)
            batch = _Batch(raw, self._holding, keep_runs=self._keep_runs)
            batch.look_up([item.execution_id for item in commits if not item.expected])
            answers = [batch.add(item) for item in commits]
            batch.write()
        for name in batch.deleted:
            places.pop(name, None)
        for name, (key, length) in batch.lengths.items():
            self._holding.remember(name, key, length)
        return answers

    def _appended(
        self, commits: Sequence[Commit], places: Mapping[str, tuple[int, int]]
    ) -> list[tuple[int, int, str]] | None:
        """Return the rows of a small commit that only appends events to held executions; None otherwise.

        The lengths of these executions are known, since nobody else may append while the lease holds.
        """
        if len(commits) > _FEW or self._holding.lease is None:
            return None
        rows: list[tuple[int, int, str]] = []
        for item in commits:
            place = places.get(item.execution_id)
            number = item.expected
            if place is None or place[1] != number or item.head is not None or item.unpark:
                return None
            if item.park or item.taken or item.outbox or item.chunks or item.tries is not None:
                return None
            if item.deleted_at is not None:
                return None
            for body in item.events:
                rows.append((place[0], number, body))
                number += 1
        if len(commits) > 1 and len({item.execution_id for item in commits}) < len(commits):
            return None  # the second one begins behind the first
        return rows if 0 < len(rows) <= _FEW else None

    def lookup(self, execution_ids: Collection[str]) -> dict[str, Found]:
        """See `Store.lookup`."""
        with self._reading:
            rows = self._reader.rows(_LOOKUP, (json.dumps(list(execution_ids)),))
        return {
            name: Found(None if row[0] is None else head_of(row), deleted)
            for name, deleted, *row in rows
        }

    def sweep(self, now: int, limit: int) -> bool:
        """See `Store.sweep`."""
        if not sweeping.is_needed(self._writer, now):
            return False
        with self._writer as raw:
            sweeping.remove(raw, limit)
            sweeping.forget(raw, now, limit)
            sweeping.give_back(raw)
        return sweeping.is_needed(self._writer, now)

    def list(self, query: Query) -> Page:
        """See `Store.list`."""
        from mini_workflow.stores.sqlite import listing

        with self._reading, self._reader.snapshot() as connection:
            return listing.page(connection, query)

    def count(self, query: Query) -> int:
        """See `Store.count`."""
        from mini_workflow.stores.sqlite import listing

        with self._reading, self._reader.snapshot() as connection:
            return listing.count(connection, query)


class _Batch:
    """The rows of one commit, collected so that one call writes each kind.

    A batch lives within a transaction that holds the write lock, so that the checks of `add` stay right,
    and no statement fails later because of another writer.
    """

    def __init__(self, raw: sqlite3.Connection, holding: Ownership, *, keep_runs: bool) -> None:
        self.lengths: dict[str, tuple[int, int]] = {}
        self.deleted: set[str] = set()
        """The ids of executions that were deleted, and not created again."""
        self._raw = raw
        self._holding = holding
        self._keep_runs = keep_runs
        self._last_key = 0
        self._missing: set[str] = set()
        self._created: list[tuple[Any, ...]] = []
        self._events: list[tuple[int, int, str]] = []
        self._brief: list[tuple[Any, ...]] = []
        """Heads of which few columns change, each the first change of its execution."""
        self._heads: list[tuple[Any, ...]] = []
        self._taken: list[tuple[int, int]] = []
        self._posted: list[tuple[str, str, str]] = []
        self._otherwise: list[tuple[str, str, str, str]] = []
        self._chunks: list[StreamWrite] = []

    def add(self, item: Commit) -> bool:
        """Add an item, unless its fence forbids it. Raises UsageError."""
        name, expected, head = item.execution_id, item.expected, item.head
        length = expected + len(item.events)
        place = None if name in self.deleted else self._place(name)
        if item.deleted_at is not None:
            return self._delete(item, place, item.deleted_at)
        if expected == 0 and (head is None or not item.events):
            raise UsageError(f"the commit that creates {name!r} must have a head and a first event")
        if head is not None and not 0 <= head.base < length:
            raise UsageError(
                f"a run of {name} that begins at event {head.base} has no event among {length}"
            )
        if expected == 0:
            if place is not None or head is None:
                return False
            key = self._new_key()
            self.deleted.discard(name)
            homes = self._holding.homes
            homes.append(homes.pop(0))
            self._created.append((key, homes[-1], *_values(head), name))
        elif place is not None and place[1] == expected:
            key = place[0]
            if head is not None:
                self._change(head, None if name in self.lengths else item.before, key)
                if not self._keep_runs and head.base >= expected:
                    self._raw.execute(sweeping.DROP, (key, head.base))
        else:
            return False
        self.lengths[name] = (key, length)
        self._events.extend(zip(repeat(key), count(expected), item.events, strict=False))
        if item.tries is not None:
            self._raw.execute("UPDATE executions SET tries = ? WHERE key = ?", (item.tries, key))
        if item.unpark:
            self._raw.execute("DELETE FROM parked WHERE execution = ?", (key,))
        if item.park:
            _park(self._raw, key, item.park)
        if item.taken:
            self._taken.extend((number, key) for number in item.taken)
        if item.outbox:
            self._posted.extend((out.body, out.key, out.execution_id) for out in item.outbox)
            self._otherwise.extend(
                (out.otherwise, out.key, name, out.execution_id)
                for out in item.outbox
                if out.otherwise
            )
        self._chunks += item.chunks
        return True

    def _change(self, head: Head, before: Head | None, key: int) -> None:
        """Add the change of a head, of which the one `before` is known if it is the first in this batch."""
        if before is None or _read_steady(before) != _read_steady(head):
            self._heads.append((*_values(head), key))
            return
        closed_at, wake_at = head.closed_at, head.wake_at
        ends = "" if closed_at is None else closed_at
        wakes = "" if wake_at is None else wake_at
        self._brief.append((head.status, ends, int(head.busy), wakes, head.waits, key))

    def write(self) -> None:
        """Write all items. Messages come last, when their executions exist, and taken ones are removed."""
        self._flush()
        if self._posted:
            self._raw.executemany(_POST, self._posted)
        if self._otherwise:
            self._raw.executemany(_POST_OTHERWISE, self._otherwise)

    def _flush(self) -> None:
        """Write all but the messages; creations before changes of the same executions."""
        if self._created:
            self._insert(self._created, _CREATE, _CREATE_MANY)
        if self._events:
            self._insert(self._events, _APPEND, _APPEND_MANY)
        if self._brief:
            self._raw.executemany(_UPDATE_FEW, self._brief)
        if self._heads:
            self._raw.executemany(_UPDATE, self._heads)
        if self._taken:
            self._raw.executemany(_TAKE, self._taken)
        if self._chunks:
            append(self._raw, self._chunks, bounded=False)

    def _insert(self, rows: Sequence[tuple[Any, ...]], one: str, many: str) -> None:
        # Many rows to a statement, as each lets go of the interpreter some times.
        last = len(rows) - len(rows) % _MANY
        if last:
            chunks = (rows[first : first + _MANY] for first in range(0, last, _MANY))
            self._raw.executemany(many, (tuple(chain(*chunk)) for chunk in chunks))
        self._raw.executemany(one, rows[last:])

    def _delete(self, item: Commit, place: tuple[int, int] | None, at: int) -> bool:
        name, length = item.execution_id, item.expected
        if length < 1 or item.events or item.head is not None:
            raise UsageError(
                f"the commit that deletes {name!r} must give its number of events, and no events or head"
            )
        if place is None or place[1] != length:
            return False
        key = place[0]
        if self._raw.execute(_UNREAD, (key, self._holding.read)).fetchone() is not None:
            return False
        if self._created or self._events or self._brief or self._heads or self._taken:
            self._flush()
            self._created, self._events, self._taken = [], [], []
            self._brief, self._heads = [], []
        self._raw.execute(_ENTER_DELETED, (name, length, at))
        remove(self._raw, key)
        for statement in _DELETE:
            self._raw.execute(statement, (key,))
        self.lengths.pop(name, None)
        self.deleted.add(name)
        return True

    def look_up(self, names: list[str]) -> None:
        """Find out at once which executions of those that are to be created are not there."""
        if len(names) == 1:
            self._last_key, found = self._raw.execute(_LAST_KEY_AND, names).fetchone()
            self._missing = set() if found else set(names)
        elif names:
            found = self._raw.execute(_THERE, (json.dumps(names),)).fetchall()
            self._missing = set(names).difference([name for (name,) in found])

    def _place(self, name: str) -> tuple[int, int] | None:
        place = self.lengths.get(name) or self._holding.lengths.get(name)
        return self._find(name) if place is None and name not in self._missing else place

    def _new_key(self) -> int:
        last: int = self._last_key or self._raw.execute(_LAST_KEY).fetchone()[0]
        self._last_key = last + 1
        return last + 1

    def _find(self, name: str) -> tuple[int, int] | None:
        row = self._raw.execute(_FIND, (name,)).fetchone()
        if row is None:
            return None
        key, partition, length = row
        return (key, length) if partition in self._holding.partitions else _ELSEWHERE


def _park(raw: sqlite3.Connection, key: int, bodies: tuple[str, ...]) -> None:
    first = raw.execute(
        "SELECT coalesce(max(number), -1) + 1 FROM parked WHERE execution = ?", (key,)
    ).fetchone()[0]
    raw.executemany(
        "INSERT INTO parked (execution, number, body) VALUES (?, ?, ?)",
        zip(repeat(key), count(first), bodies, strict=False),
    )


# The columns that _UPDATE_FEW leaves alone.
_read_steady: Final[Callable[[Head], tuple[Any, ...]]] = attrgetter(
    *("workflow", "started_at", "blocked_kind", "blocked_reason", "run", "base", "parent", "tags"),
    "progress",
)


def _values(head: Head) -> tuple[Any, ...]:
    """Return what the statements take for the columns. A value that is no number or text takes sqlite3 longer
    than its row takes SQLite: what stands for None is a text for a number, and a number for a text.
    """
    closed_at, wake_at = head.closed_at, head.wake_at
    return (
        head.workflow,
        head.status,
        head.started_at,
        "" if closed_at is None else closed_at,
        int(head.busy),
        "" if wake_at is None else wake_at,
        0 if head.blocked_kind is None else head.blocked_kind,
        0 if head.blocked_reason is None else head.blocked_reason,
        head.run,
        head.base,
        0 if head.parent is None else head.parent,
        head.tags,
        head.waits,
        head.progress,
    )


_FIND = """
    SELECT key, partition,
        (SELECT coalesce(max(number) + 1, 0) FROM events WHERE execution = executions.key)
    FROM executions WHERE id = ?
"""
_THERE = "SELECT executions.id FROM json_each(?) CROSS JOIN executions ON executions.id = value"
_EVENTS = "SELECT body FROM events WHERE execution = ? AND number >= ? ORDER BY number"
_PARKED = "SELECT body FROM parked WHERE execution = ? ORDER BY number"
_ENDED = """
    SELECT asked.value FROM json_each(?) AS asked
    LEFT JOIN executions ON executions.id = asked.value
    WHERE status IS NOT 'running'
"""
_LOOKUP = f"""
    SELECT asked.value, coalesce(deleted.events, 0), {FIELDS}
    FROM json_each(?) AS asked
        LEFT JOIN executions ON executions.id = asked.value
        LEFT JOIN deleted ON deleted.id = asked.value
"""
_HISTORY = """
    SELECT events.body
    FROM executions
        CROSS JOIN events ON events.execution = executions.key
            AND events.number >= max(iif(typeof(base) = 'integer', base, 0), ?)
    WHERE executions.id = ? ORDER BY events.number
"""
_ENDS = """
    WITH one AS MATERIALIZED (
        SELECT key, iif(typeof(base) = 'integer', base, 0) AS base FROM executions WHERE id = ?
    ), ends AS MATERIALIZED (
        SELECT * FROM (
            SELECT events.number, events.body FROM one
                CROSS JOIN events ON events.execution = one.key AND events.number >= one.base
            ORDER BY events.number LIMIT 1
        )
        UNION SELECT * FROM (
            SELECT events.number, events.body FROM one
                CROSS JOIN events ON events.execution = one.key AND events.number >= one.base
            ORDER BY events.number DESC LIMIT ?
        )
    )
    SELECT body FROM ends ORDER BY number
"""
# A key is free when the last event of it is gone.
_LAST_KEY = """
    SELECT max(
        coalesce((SELECT max(key) FROM executions), 0),
        coalesce((SELECT max(execution) FROM leftovers), 0)
    )
"""
_LAST_KEY_AND = f"SELECT ({_LAST_KEY}), EXISTS (SELECT 1 FROM executions WHERE id = ?)"
_ENTER_DELETED = """
    INSERT INTO deleted (id, events, at) VALUES (?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET events = events + excluded.events, at = excluded.at
"""
_DELETE = (
    "DELETE FROM tags WHERE execution = ?",
    "DELETE FROM parked WHERE execution = ?",
    "DELETE FROM mailbox WHERE execution = ?",
    "DELETE FROM executions WHERE key = ?",
    "INSERT OR REPLACE INTO leftovers (execution, below) VALUES (?, NULL)",
)
_MANY: Final = 30
"""Rows of one statement. The oldest SQLite takes 999 values."""
_CREATED = """
    (?, ?, ?, ?, ?, nullif(?, ''), ?, nullif(?, ''), nullif(?, 0), nullif(?, 0), ?, ?,
        nullif(?, 0), ?, ?, ?, ?)
"""
_CREATE = f"""
    INSERT INTO executions (key, partition, workflow, status, started_at, closed_at, busy,
        wake_at, blocked_kind, blocked_reason, run, base, parent, tags, waits, progress, id)
    VALUES {_CREATED}
"""
_CREATE_MANY = _CREATE + f", {_CREATED}" * (_MANY - 1)
_APPEND = "INSERT INTO events (execution, number, body) VALUES (?, ?, ?)"
_APPEND_MANY = _APPEND + ", (?, ?, ?)" * (_MANY - 1)
_FEW: Final = 8
"""Events that one statement appends. More events share the cost of a transaction well enough."""
_APPEND_FEW: Final = {
    rows: "INSERT INTO events (execution, number, body) "
    f"SELECT * FROM (VALUES {', '.join(['(?, ?, ?)'] * rows)}) "
    "WHERE EXISTS (SELECT 1 FROM owners WHERE id = ?)"
    for rows in range(1, _FEW + 1)
}
_TAKE = "DELETE FROM mailbox WHERE number = ? AND execution = ?"
_POST = """
    INSERT INTO mailbox (execution, body, key) SELECT key, ?, ? FROM executions WHERE id = ?
    ON CONFLICT (execution, key) DO NOTHING
"""
_POST_OTHERWISE = """
    INSERT INTO mailbox (execution, body, key) SELECT key, ?, ? FROM executions
    WHERE id = ? AND NOT EXISTS (SELECT 1 FROM executions WHERE id = ?)
    ON CONFLICT (execution, key) DO NOTHING
"""
_UNREAD = "SELECT 1 FROM mailbox WHERE execution = ? AND number > ? LIMIT 1"
_UPDATE_FEW = """
    UPDATE executions SET status = ?, closed_at = nullif(?, ''), busy = ?, wake_at = nullif(?, ''), waits = ?
    WHERE key = ?
"""
"""Leaves alone the indexes of the other columns, and the trigger of the tags."""
_UPDATE = """
    UPDATE executions SET workflow = ?, status = ?, started_at = ?, closed_at = nullif(?, ''), busy = ?,
        wake_at = nullif(?, ''), blocked_kind = nullif(?, 0), blocked_reason = nullif(?, 0), run = ?,
        base = ?, parent = nullif(?, 0), tags = ?, waits = ?, progress = ?
    WHERE key = ?
"""
