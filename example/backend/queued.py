"""A queued backend in one SQLite file: complete, and as small as it can be."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mini_workflow.errors import StoreError, StoreUnavailable
from mini_workflow.ports import Commit, Head, Page, Query, QueuedMessage, Stored, TaskRequest
from mini_workflow.ports.queue import PendingEffects, Received, Wakeup, Wakeups
from mini_workflow.stores.cached import Deleted, stored
from mini_workflow.stores.listing import count_of, page_of

TABLES = """
create table if not exists executions (id text unique, number integer primary key, document blob);
create table if not exists messages
    (number integer primary key autoincrement, execution_id, body, woken, delivery default 0);
create table if not exists in_hand (execution_id text unique);
create table if not exists requests (number integer primary key autoincrement, request blob);
create table if not exists wakeups (at integer, execution_id, unique (at, execution_id));
"""


class File:
    """The file; what is done in `change` is one durable step."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        with self.change() as sql:
            for statement in TABLES.split(";"):
                sql.execute(statement)

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as sql:
                sql.execute("begin immediate")
                yield sql
                sql.execute("commit")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the file {str(self._path)!r}: {error}") from error


@dataclass(frozen=True)
class Document:
    """All that is known of an execution, as `CachedStore` wants it. `version` counts its writes."""

    head: Head
    parent: dict[str, Any] | None
    fingerprint: str
    pending: PendingEffects
    wakeup: Wakeups
    events: tuple[str, ...] = ()
    parked: tuple[str, ...] = ()
    tries: int = 0
    version: int = 0
    listed: bool = True
    deleted: int = 0

    @property
    def length(self) -> int:
        return len(self.events)

    def after(self, commit: Commit) -> Document:
        return replace(
            self,
            head=commit.head or self.head,
            events=(*self.events, *commit.events),
            parked=(*(() if commit.unpark else self.parked), *commit.park),
            version=self.version + 1,
        )


class FileDocuments(File):
    """Implements `Documents` for a `CachedStore`, and for clients `head`, `load`, `history`, `list`."""

    def read(self, execution_id: str) -> Document | Deleted | None:
        with self.change() as sql:
            return _read(sql, execution_id)

    def changed(self, document: Document) -> bool:
        found = self._find(document.head.execution_id)
        return found is None or found.version != document.version

    def lines(self, document: Document) -> list[str]:
        return list(document.events[document.head.base :])

    def create(
        self,
        commit: Commit,
        parent: dict[str, Any] | None,
        fingerprint: str,
        pending: PendingEffects,
        wakeup: Wakeups,
        over: Deleted | None = None,
    ) -> Document | None:
        assert commit.head is not None
        new = Document(commit.head, parent, fingerprint, pending, wakeup).after(commit)
        with self.change() as sql:
            if over is not None and _read(sql, commit.execution_id) == over:
                sql.execute("delete from executions where id = ?", (commit.execution_id,))
                new = replace(new, deleted=over.events)
            done = sql.execute(
                "insert or ignore into executions (id, document) values (?, ?)",
                (commit.execution_id, pickle.dumps(new)),
            )
            return new if done.rowcount else None

    def write(
        self,
        document: Document,
        commit: Commit,
        pending: PendingEffects,
        wakeup: Wakeups,
        tries: int,
    ) -> Document | None:
        new = replace(document.after(commit), pending=pending, wakeup=wakeup, tries=tries)
        with self.change() as sql:  # the fence: the check and the write are one step
            if not _is_still(_read(sql, commit.execution_id), document):
                return None
            sql.execute(
                "update executions set document = ? where id = ?",
                (pickle.dumps(new), commit.execution_id),
            )
            return new

    def delete(self, execution_id: str, found: Document | Deleted, at: int) -> bool:
        if isinstance(found, Deleted):
            return True  # all of it goes in one step
        with self.change() as sql:
            if not _is_still(_read(sql, execution_id), found):
                return False
            left = Deleted(found.deleted + found.length)
            sql.execute(
                "update executions set document = ? where id = ?",
                (pickle.dumps(left), execution_id),
            )
            return True

    def _find(self, execution_id: str) -> Document | None:
        found = self.read(execution_id)
        return None if isinstance(found, Deleted) else found

    def head(self, execution_id: str) -> Head | None:
        found = self._find(execution_id)
        return found and found.head

    def load(self, execution_id: str) -> Stored | None:
        found = self._find(execution_id)
        return found and stored(found, self)

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        found = self._find(execution_id)
        return [] if found is None else list(found.events[max(found.head.base, since) :])

    def ends(self, execution_id: str, last: int) -> list[str]:
        lines = self.history(execution_id)
        return [*lines[:1], *lines[max(1, len(lines) - last) :]]

    def list(self, query: Query) -> Page:
        with self.change() as sql:
            rows = sql.execute("select number, document from executions").fetchall()
        found = ((number, pickle.loads(blob)) for number, blob in rows)
        return page_of(((n, one.head) for n, one in found if isinstance(one, Document)), query)

    def count(self, query: Query) -> int:
        with self.change() as sql:
            rows = sql.execute("select document from executions").fetchall()
        found = (pickle.loads(blob) for (blob,) in rows)
        return count_of((one.head for one in found if isinstance(one, Document)), query)


class FileQueue(File):
    """Implements `Dispatch`; the other end is `receive`, `finish` and `take_request`."""

    def run(self, requests: Sequence[TaskRequest]) -> list[StoreError | None]:
        blobs = [(pickle.dumps(request),) for request in requests]
        try:
            with self.change() as sql:
                sql.executemany("insert into requests (request) values (?)", blobs)
        except StoreError as error:
            return [error for _ in requests]
        return [None for _ in requests]

    def outcomes(self, execution_id: str, attempts: Sequence[tuple[int, int]]) -> list[str]:
        return []  # what cannot be posted is not kept

    def cancel(self, execution_id: str, seq: int, reason: str) -> None: ...

    def post(self, messages: Sequence[QueuedMessage]) -> None:
        rows = [(message.execution_id, message.body) for message in messages]
        with self.change() as sql:
            sql.executemany("insert into messages (execution_id, body) values (?, ?)", rows)

    def wakeup(self, execution_id: str, at: int, now: int) -> Wakeup:
        return Wakeup(at, f"{execution_id}@{at}")

    def set(self, execution_id: str, wakeup: Wakeup, now: int) -> None:
        with self.change() as sql:
            sql.execute("insert or ignore into wakeups values (?, ?)", (wakeup.at, execution_id))

    def unset(self, wakeup: Wakeup) -> None:
        name = wakeup.schedule.rpartition("@")[0]
        with self.change() as sql:
            sql.execute("delete from wakeups where at = ? and execution_id = ?", (wakeup.at, name))

    def receive(self, limit: int, now: int) -> list[Received]:
        """Hand out messages in order, of executions of which nothing is in hand."""
        with self.change() as sql:
            due = sql.execute(
                "delete from wakeups where at <= ? returning execution_id, at", (now,)
            )
            sql.executemany(
                "insert into messages (execution_id, body, woken) values (?, '', ?)",
                due.fetchall(),
            )
            rows = sql.execute(
                "select number, execution_id, body, woken, delivery + 1 from messages "
                "where execution_id not in (select execution_id from in_hand) "
                "order by number limit ?",
                (limit,),
            ).fetchall()
            for number, name, *_ in rows:
                sql.execute("insert or ignore into in_hand values (?)", (name,))
                sql.execute(
                    "update messages set delivery = delivery + 1 where number = ?", (number,)
                )
        return [Received(str(number), *rest) for number, *rest in rows]

    def finish(self, received: Sequence[Received], failed: Sequence[str]) -> None:
        """Remove what is done with; the rest is handed out again."""
        with self.change() as sql:
            for one in received:
                sql.execute("delete from in_hand where execution_id = ?", (one.execution_id,))
                if one.execution_id not in failed:
                    sql.execute("delete from messages where number = ?", (int(one.id),))

    def recover(self) -> None:
        """Hand out again what a process that has died had in hand."""
        with self.change() as sql:
            sql.execute("delete from in_hand")

    def take_request(self) -> TaskRequest | None:
        """Take the oldest attempt. If this process dies with it, it is lost, and tried again later."""
        with self.change() as sql:
            row = sql.execute("select number, request from requests order by number").fetchone()
            if row is None:
                return None
            sql.execute("delete from requests where number = ?", (row[0],))
        return pickle.loads(row[1])


def _read(sql: sqlite3.Connection, execution_id: str) -> Document | Deleted | None:
    found = sql.execute("select document from executions where id = ?", (execution_id,)).fetchone()
    return None if found is None else pickle.loads(found[0])


def _is_still(found: Document | Deleted | None, document: Document) -> bool:
    return isinstance(found, Document) and found.version == document.version
