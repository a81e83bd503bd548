"""Define the tables of the file, and upgrade an older file.

An execution belongs to a partition, and a partition to at most one owner, so that a takeover changes one
row, however many executions there are. `owners.id` only rises and is never used twice. It is the fence of
a lease: an owner whose row is gone has lost all its executions.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from mini_workflow.errors import StoreCorrupt, StoreError, StoreTooNew, StoreUnavailable
from mini_workflow.stores.sqlite import forking
from mini_workflow.stores.sqlite.connection import Connection

APPLICATION_ID: Final = 0x4D57464C
"""The id of this application in the header of the file: "MWFL"."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE owners (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL,
            address TEXT NOT NULL,
            until INTEGER NOT NULL,
            host TEXT NOT NULL,
            pid INTEGER NOT NULL,
            born TEXT NOT NULL
        )
        """,
        """
        CREATE TABLE partitions (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            owner INTEGER
        )
        """,
        """
        CREATE TABLE executions (
            key INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            workflow TEXT NOT NULL,
            status TEXT NOT NULL,
            partition INTEGER NOT NULL,
            started_at INTEGER NOT NULL,
            closed_at INTEGER,
            busy INTEGER NOT NULL,
            wake_at INTEGER,
            blocked_kind TEXT,
            blocked_reason TEXT,
            run INTEGER NOT NULL,
            base INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE events (
            execution INTEGER NOT NULL,
            number INTEGER NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (execution, number)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE parked (
            execution INTEGER NOT NULL,
            number INTEGER NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (execution, number)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE mailbox (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            execution INTEGER NOT NULL,
            body TEXT NOT NULL,
            key TEXT NOT NULL,
            UNIQUE (execution, key)
        )
        """,
        "CREATE INDEX executions_partition ON executions (partition)",
        """
        CREATE INDEX executions_waking ON executions (partition, wake_at)
            WHERE wake_at IS NOT NULL
        """,
        "CREATE INDEX executions_busy ON executions (partition, id) WHERE busy = 1",
        """
        CREATE INDEX executions_blocked ON executions (partition, blocked_kind, id)
            WHERE status = 'blocked'
        """,
        # A listing merges the six statuses, so that two indexes serve all four kinds of filter.
        "CREATE INDEX executions_status ON executions (status, started_at)",
        "CREATE INDEX executions_workflow ON executions (workflow, status, started_at)",
    ),
    ("ALTER TABLE executions ADD COLUMN tries INTEGER NOT NULL DEFAULT 0",),
    (
        "ALTER TABLE executions ADD COLUMN parent TEXT",
        "ALTER TABLE executions ADD COLUMN tags TEXT NOT NULL DEFAULT ''",
        """
        UPDATE executions SET parent = (
            SELECT json_extract(body, '$.parent.id') FROM events
            WHERE execution = executions.key AND number = executions.base
                AND body LIKE '%"parent":{%' AND json_valid(body)
        )
        """,
        "CREATE INDEX executions_parent ON executions (parent, started_at) WHERE parent IS NOT NULL",
        "CREATE INDEX executions_closed ON executions (closed_at) WHERE closed_at IS NOT NULL",
        """
        CREATE TABLE tags (
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            started_at INTEGER NOT NULL,
            execution INTEGER NOT NULL,
            PRIMARY KEY (name, value, started_at, execution)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX tags_execution ON tags (execution)",
        # So whoever writes a head writes no row of a tag that has not changed, and forgets none.
        """
        CREATE TRIGGER tags_created AFTER INSERT ON executions WHEN new.tags <> '' BEGIN
            INSERT OR IGNORE INTO tags
                SELECT tag.key, tag.value, new.started_at, new.key FROM json_each(new.tags) AS tag;
        END
        """,
        """
        CREATE TRIGGER tags_changed AFTER UPDATE OF tags ON executions
        WHEN new.tags IS NOT old.tags BEGIN
            DELETE FROM tags WHERE execution = new.key;
            INSERT OR IGNORE INTO tags
                SELECT tag.key, tag.value, new.started_at, new.key
                FROM json_each(iif(new.tags = '', '{}', new.tags)) AS tag;
        END
        """,
    ),
    (
        """
        CREATE TABLE streams (
            key INTEGER PRIMARY KEY AUTOINCREMENT,
            execution INTEGER NOT NULL,
            name TEXT NOT NULL,
            last INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            UNIQUE (execution, name)
        )
        """,
        """
        CREATE TABLE chunks (
            stream INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            source INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            restarts INTEGER NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (stream, offset)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE stream_sources (
            stream INTEGER NOT NULL,
            source INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            number INTEGER NOT NULL,
            PRIMARY KEY (stream, source)
        ) WITHOUT ROWID
        """,
    ),
    (
        # How many events executions had that were deleted, by their id.
        """
        CREATE TABLE deleted (
            id TEXT PRIMARY KEY,
            events INTEGER NOT NULL,
            at INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX deleted_at ON deleted (at)",
        # The events of that key that are to be removed: those below a number, or all.
        "CREATE TABLE leftovers (execution INTEGER PRIMARY KEY, below INTEGER)",
    ),
    (
        "ALTER TABLE executions ADD COLUMN waits TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE executions ADD COLUMN progress TEXT NOT NULL DEFAULT ''",
    ),
    (
        "ALTER TABLE owners ADD COLUMN serves TEXT NOT NULL DEFAULT ''",
        """
        CREATE TABLE tasks (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            execution INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            worker TEXT NOT NULL,
            body TEXT NOT NULL,
            heartbeat TEXT,
            taker INTEGER,
            cancelled TEXT,
            message INTEGER,
            UNIQUE (execution, seq, attempt)
        )
        """,
        """
        CREATE INDEX tasks_waiting ON tasks (worker, number) WHERE taker IS NULL AND message IS NULL
        """,
        "CREATE INDEX tasks_taken ON tasks (taker) WHERE message IS NULL",
        # A key is free when its execution is gone.
        """
        CREATE TRIGGER tasks_deleted AFTER DELETE ON executions BEGIN
            DELETE FROM tasks WHERE execution = old.key;
        END
        """,
    ),
    (
        # The last ones of tasks, for whoever looks from outside.
        """
        CREATE TABLE heartbeats (
            execution INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            at INTEGER NOT NULL,
            details TEXT,
            PRIMARY KEY (execution, seq)
        ) WITHOUT ROWID
        """,
        """
        CREATE TRIGGER heartbeats_deleted AFTER DELETE ON executions BEGIN
            DELETE FROM heartbeats WHERE execution = old.key;
        END
        """,
    ),
)
"""The statements of each version; the version of a file is the number of its migrations."""


def make_private(path: Path) -> None:
    """Make a file of the current version that only its user can read, unless there is a file.

    SQLite gives the files beside it the same mode. The file is made under another name and linked, so
    that nobody reads a part of it, and no descriptor of the file itself is closed.
    """
    if path.exists():
        return
    with contextlib.suppress(OSError):  # SQLite reports best why no file can be made here
        name = path.with_name(f".{path.name}-{os.urandom(6).hex()}")
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            try:
                _fill(name)
            except sqlite3.Error:  # `upgrade` tries again
                os.truncate(name, 0)
            # Fails if another process was faster.
            os.link(name, path)
        finally:
            name.unlink(missing_ok=True)


def _fill(name: Path) -> None:
    """Make a store of an empty file that no other process uses.

    It is synced once, as a whole: a sync after each step takes a dozen times as long.
    """
    with forking.OPENING, contextlib.closing(sqlite3.connect(name, isolation_level=None)) as raw:
        for pragma in ("synchronous = OFF", "journal_mode = MEMORY", _GIVES_BACK):
            raw.execute(f"PRAGMA {pragma}")
        raw.execute("BEGIN")
        _migrate(raw, 0)
        raw.execute("COMMIT")
        raw.execute("PRAGMA journal_mode = WAL")
    file = os.open(name, os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)


_GIVES_BACK: Final = "auto_vacuum = INCREMENTAL"
"""The pragma by which a file gives space back, possible only before its first table is made."""


def upgrade(connection: Connection, path: Path) -> None:
    """Bring the file to the current version, in one transaction, or leave it unchanged."""
    found = _version(connection, path)
    if found == len(MIGRATIONS):
        return
    if found == 0:
        connection.run(f"PRAGMA {_GIVES_BACK}")
    with connection as raw:
        _migrate(raw, _version(connection, path))


def _migrate(raw: sqlite3.Connection, version: int) -> None:
    for number in range(version, len(MIGRATIONS)):
        for statement in MIGRATIONS[number]:
            raw.execute(statement)
    raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    raw.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def check_version(connection: Connection, path: Path) -> None:
    """Refuse a file that has to be upgraded. Raises StoreUnavailable, StoreCorrupt or StoreTooNew."""
    version = _version(connection, path)
    if version < len(MIGRATIONS):
        raise StoreUnavailable(
            f"{path} has version {version} and has to be upgraded to {len(MIGRATIONS)} before it "
            "can be read: open it once with LocalRuntime, or run `mini-workflow worker MODULE`"
        )


def check_is_store(connection: Connection, path: Path) -> None:
    """Refuse a file that is no store. Raises StoreUnavailable, StoreCorrupt or StoreTooNew."""
    if not _version(connection, path):
        raise StoreUnavailable(
            f"there is no store at {path}: name another file, or start an execution"
        )


def _version(connection: Connection, path: Path) -> int:
    """Return the version of the file, 0 for an empty one, by one statement that sees one state."""
    try:
        application, version, tables = connection.row(_MARKS)
    except StoreError as error:
        if isinstance(error, StoreUnavailable) or "not an SQLite file" in str(error):
            raise
        raise StoreCorrupt(f"{path} is damaged: {error}; restore it from a backup") from error
    if tables or application or version:
        _check(path, application, version)
    return int(version)


_MARKS: Final = """
    SELECT
        (SELECT application_id FROM pragma_application_id),
        (SELECT user_version FROM pragma_user_version),
        (SELECT count(*) FROM sqlite_master)
"""


def _check(path: Path, application: int, version: int) -> None:
    if application != APPLICATION_ID:
        raise StoreCorrupt(
            f"{path} is an SQLite file of another program; nothing was changed. Name another file"
        )
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"{path} has version {version} and this library reads up to {len(MIGRATIONS)}; "
            "nothing was changed. Install the version of mini-workflow that wrote it, or a later one"
        )
