"""Heads and histories."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Sequence
from heapq import merge
from itertools import count, repeat
from typing import Any, Final

from mini_workflow.backends.sqlite.connection import Connection
from mini_workflow.backends.sqlite.leases import Holding
from mini_workflow.errors import UsageError
from mini_workflow.ports import STATUSES, Commit, Head, Page, Query, Stored

_ELSEWHERE: Final = (-1, -1)
"""Where an execution is that another owner holds: its length is none that a commit may expect."""

_FIELDS = (
    "id, workflow, status, started_at, closed_at, busy, wake_at, blocked_kind, blocked_reason, run"
)


class SQLiteStore:
    """Implements `Store`."""

    def __init__(
        self, writer: Connection, reader: Connection, reading: threading.Lock, holding: Holding
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._reading = reading
        self._holding = holding

    def load(self, execution_id: str) -> Stored | None:
        """See `Store.load`."""
        with self._writer.snapshot() as connection:
            row = connection.row(
                f"SELECT {_FIELDS}, key, partition FROM executions WHERE id = ?", (execution_id,)
            )
            if row is None:
                return None
            key, partition = row[10:]
            events: list[str] = [body for (body,) in connection.rows(_EVENTS, (key,))]
            parked: list[str] = [body for (body,) in connection.rows(_PARKED, (key,))]
        if partition in self._holding.partitions:
            self._holding.remember(execution_id, key, len(events))
        return Stored(_head(row), events, parked)

    def head(self, execution_id: str) -> Head | None:
        """See `Store.head`."""
        with self._reading:
            row = self._reader.row(
                f"SELECT {_FIELDS} FROM executions WHERE id = ?", (execution_id,)
            )
        return None if row is None else _head(row)

    def history(self, execution_id: str) -> list[str]:
        """See `Store.history`."""
        with self._reading:
            rows = self._reader.rows(_HISTORY, (execution_id,))
        return [body for (body,) in rows]

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """See `Store.commit`."""
        holding = self._holding
        answers: list[bool] = []
        lengths: dict[str, tuple[int, int]] = {}
        created: list[tuple[Any, ...]] = []
        events: list[tuple[int, int, str]] = []
        heads: list[tuple[Any, ...]] = []
        taken: list[tuple[int, int]] = []
        fresh = 0
        with self._writer as raw:
            holding.verify(raw)
            # Under the write lock nothing can change any more: what is checked here decides, and
            # the statements below cannot fail on account of another writer.
            for item in commits:
                name, expected, head = item.execution_id, item.expected, item.head
                place = lengths.get(name) or holding.length(name) or self._find(raw, name)
                if place is None and expected == 0:
                    if head is None or not item.events:
                        raise UsageError(f"creating {name} takes a head and an event at least")
                    fresh = fresh + 1 if fresh else raw.execute(_NEXT_KEY).fetchone()[0]
                    key = fresh
                    created.append((key, holding.home, *_values(head), name))
                elif place is not None and 0 < expected == place[1]:
                    key = place[0]
                    if head is not None:
                        heads.append((*_values(head), key))
                else:
                    answers.append(False)
                    continue
                answers.append(True)
                lengths[name] = (key, expected + len(item.events))
                if item.events:
                    events.extend(zip(repeat(key), count(expected), item.events, strict=False))
                if item.unpark:
                    raw.execute("DELETE FROM parked WHERE execution = ?", (key,))
                if item.park:
                    _park(raw, key, item.park)
                if item.taken:
                    taken.extend((number, key) for number in item.taken)
            if created:
                raw.executemany(_CREATE, created)
            if events:
                raw.executemany(_APPEND, events)
            if heads:
                raw.executemany(_UPDATE, heads)
            if taken:
                raw.executemany("DELETE FROM mailbox WHERE number = ? AND execution = ?", taken)
        for name, (key, length) in lengths.items():
            holding.remember(name, key, length)
        return answers

    def _find(self, raw: sqlite3.Connection, execution_id: str) -> tuple[int, int] | None:
        row = raw.execute(_FIND, (execution_id,)).fetchone()
        if row is None:
            return None
        key, partition, length = row
        return (key, length) if partition in self._holding.partitions else _ELSEWHERE

    def list(self, query: Query) -> Page:
        """See `Store.list`."""
        if query.limit < 1:
            raise UsageError(f"the limit of a listing must be 1 or more, not {query.limit}")
        before = _position(query.after)
        where = "status = ? AND (started_at, key) < (?, ?)"
        arguments: tuple[Any, ...] = ()
        if query.workflow is not None:
            where = f"workflow = ? AND {where}"
            arguments = (query.workflow,)
        sql = (
            f"SELECT {_FIELDS}, key FROM executions WHERE {where} "
            "ORDER BY started_at DESC, key DESC LIMIT ?"
        )
        statuses = STATUSES if query.status is None else (query.status,)
        with self._reading, self._reader.snapshot() as connection:
            found = [
                connection.rows(sql, (*arguments, status, *before, query.limit + 1))
                for status in statuses
            ]
        rows = list(merge(*found, key=_place, reverse=True))
        page = rows[: query.limit]
        more = len(rows) > query.limit
        return Page(
            [_head(row) for row in page],
            "{}-{}".format(*_place(page[-1])) if more else None,
        )


def _park(raw: sqlite3.Connection, key: int, bodies: tuple[str, ...]) -> None:
    first = raw.execute(
        "SELECT coalesce(max(number), -1) + 1 FROM parked WHERE execution = ?", (key,)
    ).fetchone()[0]
    raw.executemany(
        "INSERT INTO parked (execution, number, body) VALUES (?, ?, ?)",
        zip(repeat(key), count(first), bodies, strict=False),
    )


def _head(row: Any) -> Head:
    return Head(*row[:5], bool(row[5]), *row[6:10])


def _values(head: Head) -> tuple[Any, ...]:
    return (
        head.workflow,
        head.status,
        head.started_at,
        head.closed_at,
        int(head.busy),
        head.wake_at,
        head.blocked_kind,
        head.blocked_reason,
        head.run,
    )


def _place(row: Any) -> tuple[int, int]:
    """Where a row stands in a listing: by start, and among equal starts by order of creation."""
    return row[3], row[10]


def _position(after: str | None) -> tuple[int, int]:
    if after is None:
        return (2**63 - 1, 2**63 - 1)
    match = re.fullmatch(r"(-?\d{1,18})-(\d{1,18})", after, re.ASCII)
    if match is None:
        raise UsageError(f"not a page of a listing: {after!r}; pass the `next` of the page before")
    return int(match[1]), int(match[2])


_FIND = """
    SELECT key, partition,
        (SELECT coalesce(max(number) + 1, 0) FROM events WHERE execution = executions.key)
    FROM executions WHERE id = ?
"""
_EVENTS = "SELECT body FROM events WHERE execution = ? ORDER BY number"
_PARKED = "SELECT body FROM parked WHERE execution = ? ORDER BY number"
_HISTORY = """
    SELECT body FROM events
    WHERE execution = (SELECT key FROM executions WHERE id = ?) ORDER BY number
"""
_NEXT_KEY = "SELECT coalesce(max(key), 0) + 1 FROM executions"
_CREATE = """
    INSERT INTO executions (key, partition, workflow, status, started_at, closed_at, busy,
        wake_at, blocked_kind, blocked_reason, run, id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_APPEND = "INSERT INTO events (execution, number, body) VALUES (?, ?, ?)"
_UPDATE = """
    UPDATE executions SET workflow = ?, status = ?, started_at = ?, closed_at = ?, busy = ?,
        wake_at = ?, blocked_kind = ?, blocked_reason = ?, run = ?
    WHERE key = ?
"""
