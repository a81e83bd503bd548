"""One connection to the file: errors of the library's tree, and patience with other writers."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from mini_workflow.errors import StoreCorrupt, StoreError, StoreFull, StoreUnavailable

Synchronous = Literal["FULL", "NORMAL"]

_CACHE_KIB: Final = 8_192
"""Upper bound of what SQLite caches per connection; it takes memory only as it needs it."""

_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""To what the write-ahead log is cut back after a burst; SQLite itself would never cut it."""

_SHORTEST_WAIT: Final = 0.000_5
_LONGEST_WAIT: Final = 0.005


class Connection:
    """A connection whose `with` block is one durable transaction.

    The block begins with the write lock held, so what is read in it stays true until it is
    committed. `writers` is shared by the connections of one backend: threads queue there, where
    waiting is cheap, and not inside SQLite, which polls.

    `patience` is how many seconds to wait for the lock of another process. SQLite itself refuses
    whatever would change a file that is opened `read_only`.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Synchronous,
        patience: float,
        writers: threading.Lock,
        read_only: bool = False,
    ) -> None:
        self._path = path
        self._patience = patience
        self._writers = writers
        try:
            # SQLite's own waiting sleeps up to 100 ms at a time, and starves beside a busy
            # writer: it is switched off (timeout=0) for the finer one below.
            self.raw = sqlite3.connect(
                path,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
        except sqlite3.Error as error:
            raise self.translated(error) from error
        try:
            for pragma in (
                f"synchronous = {synchronous}",
                "temp_store = MEMORY",
                f"cache_size = -{_CACHE_KIB}",
                f"journal_size_limit = {_WAL_LIMIT_BYTES}",
                f"query_only = {int(read_only)}",
            ):
                self.run(f"PRAGMA {pragma}")
        except BaseException:
            self.raw.close()
            raise

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute one statement, waiting for other processes if they are in the way."""
        try:
            return self.raw.execute(sql, parameters)
        except sqlite3.Error as error:
            if not _is_busy(error) or self.raw.in_transaction:
                raise self.translated(error) from error
        return self._run_patiently(sql, parameters)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        cursor = self.run(sql, parameters)
        try:
            return cursor.fetchall()
        except sqlite3.Error as error:
            raise self.translated(error) from error

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first row of a query, or None."""
        cursor = self.run(sql, parameters)
        try:
            row = cursor.fetchone()
            cursor.close()
        except sqlite3.Error as error:
            raise self.translated(error) from error
        return row

    def snapshot(self) -> Snapshot:
        """A `with` block in which all queries see the same state of the file."""
        return Snapshot(self)

    def __enter__(self) -> sqlite3.Connection:
        self._writers.acquire()
        try:
            self.run("BEGIN IMMEDIATE")
        except BaseException:
            self._writers.release()
            raise
        return self.raw

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._commit()
            else:
                self.roll_back()
                if isinstance(error, sqlite3.Error):
                    raise self.translated(error) from error
        finally:
            self._writers.release()

    def _commit(self) -> None:
        try:
            try:
                self.raw.execute("COMMIT")
            except sqlite3.Error as error:
                # Before the file is in WAL mode a reader can be in the way; waiting helps.
                if not _is_busy(error):
                    raise self.translated(error) from error
                self._run_patiently("COMMIT", ())
        except BaseException:
            self.roll_back()
            raise

    def roll_back(self) -> None:
        """End the transaction, if there is one, without a trace."""
        # After some errors, such as a full disk, SQLite has rolled back by itself.
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")

    def close(self) -> None:
        """Close; the last connection to the file also empties and removes the log."""
        self.raw.close()

    def translated(self, error: sqlite3.Error) -> StoreError:
        """The library's error for an error of SQLite."""
        # An extended code carries the primary one in its low byte. Errors of the Python module
        # itself, such as the use of a closed connection, carry none.
        code: int | None = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return StoreUnavailable(f"{self._path}: {error}")
        match code & 0xFF:
            case sqlite3.SQLITE_FULL:
                return StoreFull(
                    f"{self._path}: there is no space left; nothing was written. "
                    "Free some space: the next commit then works again"
                )
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
                return StoreUnavailable(
                    f"{self._path}: locked by another process for more than "
                    f"{self._patience:g} s; find out which one keeps a transaction open"
                )
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return StoreCorrupt(f"{self._path}: {error}; restore the file from a backup")
            case (
                sqlite3.SQLITE_READONLY
                | sqlite3.SQLITE_CANTOPEN
                | sqlite3.SQLITE_PERM
                | sqlite3.SQLITE_IOERR
            ):
                return StoreUnavailable(
                    f"{self._path}: {error}; check that the file, its directory and the files "
                    "beside it exist and are writable for this user"
                )
            case _:
                return StoreError(f"{self._path}: {error}")

    def _run_patiently(self, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        deadline = time.monotonic() + self._patience
        wait = _SHORTEST_WAIT
        while True:
            time.sleep(wait)
            try:
                return self.raw.execute(sql, parameters)
            except sqlite3.Error as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise self.translated(error) from error
            wait = min(wait * 1.5, _LONGEST_WAIT)


class Snapshot:
    """See `Connection.snapshot`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Connection:
        self._connection.run("BEGIN")
        return self._connection

    def __exit__(self, *_: object) -> None:
        # There is nothing to commit: this only lets go of the state that was read.
        self._connection.roll_back()


def _is_busy(error: sqlite3.Error) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY
