"""The tables of the file, and how an older file becomes a current one.

An execution belongs to a partition, a partition to at most one owner: a takeover changes one row,
however many executions there are. `owners.id` is never used twice and only rises, so it is the
fence of a lease: an owner whose row is gone has lost everything it held.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

from mini_workflow.errors import StoreCorrupt, StoreError, StoreTooNew, StoreUnavailable, UsageError
from mini_workflow.stores.sqlite.connection import Connection

APPLICATION_ID: Final = 0x4D57464C
"""Marks the file as ours, in the header field that SQLite keeps for the purpose ("MWFL")."""

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
)
"""The statements of each version; the version of a file is how many of them it has seen."""

_HEADER = struct.Struct(">60xI4xI28x")
"""The parts of SQLite's file header that are of interest: user version and application id."""


def inspect(path: Path, *, read_only: bool = False) -> None:
    """Refuse a file that is not a usable store, without touching it.

    Raises StoreUnavailable, StoreCorrupt or StoreTooNew. A file that does not exist is fine as
    long as it can be made; so is an empty one. For reading it has to be there.
    """
    if str(path) == ":memory:":
        raise UsageError("SQLiteBackend needs a file; for a store in memory use MemoryBackend")
    try:
        header = _header(path)
    except OSError as error:
        raise StoreUnavailable(f"cannot open {path}: {error}; check its permissions") from error
    if not header:
        if read_only:
            raise StoreUnavailable(
                f"there is no store at {path}; whatever starts executions makes one"
            )
        return
    if len(header) < _HEADER.size or not header.startswith(b"SQLite format 3\0"):
        raise StoreCorrupt(
            f"{path} is not an SQLite file, or its beginning is damaged; nothing was changed. "
            "Name another file, or restore this one from a backup"
        )
    version, application = _HEADER.unpack(header)
    _check(path, application, version)


def _header(path: Path) -> bytes:
    """The first bytes of the file; none if there is no file yet."""
    folder = path.parent
    if not folder.is_dir():
        raise StoreUnavailable(f"cannot open {path}: there is no directory {folder}; create it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnavailable(
            f"cannot open {path}: the directory {folder} is not writable, and SQLite keeps files "
            "beside the store; change its permissions or choose another directory"
        )
    if path.is_dir():
        raise StoreUnavailable(f"cannot open {path}: it is a directory; name a file in it")
    if not path.exists():
        return b""
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(
            f"cannot open {path}: the file is not readable and writable for this user; "
            "change its permissions"
        )
    with path.open("rb") as file:
        return file.read(_HEADER.size)


def upgrade(connection: Connection, path: Path) -> None:
    """Bring the file to the current version, in one transaction, or leave it as it is."""
    if _version(connection, path) == len(MIGRATIONS):
        return
    with connection as raw:
        version = _version(connection, path)
        for number in range(version, len(MIGRATIONS)):
            for statement in MIGRATIONS[number]:
                raw.execute(statement)
        raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        raw.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def check_version(connection: Connection, path: Path) -> None:
    """Refuse a file that would have to be upgraded. Raises StoreUnavailable too."""
    version = _version(connection, path)
    if version < len(MIGRATIONS):
        raise StoreUnavailable(
            f"{path} has version {version} and has to be upgraded to {len(MIGRATIONS)} before it "
            "can be read: open it once with LocalRuntime"
        )


def _version(connection: Connection, path: Path) -> int:
    try:
        ((application,),) = connection.rows("PRAGMA application_id")
        ((version,),) = connection.rows("PRAGMA user_version")
        ((tables,),) = connection.rows("SELECT count(*) FROM sqlite_master")
    except StoreError as error:
        if isinstance(error, StoreUnavailable):
            raise
        raise StoreCorrupt(f"{path} is damaged: {error}; restore it from a backup") from error
    if tables or application or version:
        _check(path, application, version)
    return version


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
