"""Connect to the file, translate the errors of SQLite, and wait for other writers."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from mini_workflow.core.wire import text_of
from mini_workflow.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from mini_workflow.stores.sqlite import forking

Synchronous = Literal["FULL", "NORMAL"]

_CACHE_KIB: Final = 8_192
"""KiB that SQLite caches per connection at most; it takes memory as it needs it."""

_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Bytes to which the write-ahead log is cut after a burst; by default SQLite never cuts it."""

_SHORTEST_WAIT: Final = 0.000_5
_LONGEST_WAIT: Final = 0.005


class WriteLock:
    """The lock of the connections that write to one file in this process, and whether a thread writes now."""

    def __init__(self) -> None:
        self.lock: Final = threading.RLock()
        self.writes = False


class Connection:
    """A connection whose `with` block is one durable transaction.

    The block holds the write lock from its beginning, so that no other writer changes the data that it
    reads. The connections of one backend share the lock of `writers`, on which threads wait cheaply, while
    SQLite would poll. A write inside of another one on the same thread, as by a signal handler, is refused.

    `patience` is the number of seconds to wait for the lock of another process. With `read_only` SQLite
    refuses all changes.

    Every use first checks that the file is still the one that was opened: SQLite would write to a file
    that was deleted or replaced, and the data would be lost. The connection is closed around a fork; in
    the child every use raises StoreUnavailable.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Synchronous,
        patience: float,
        writers: WriteLock,
        read_only: bool = False,
    ) -> None:
        self._path = path
        self._names = str(path), log_of(path), index_of(path)
        self._patience = patience
        self._writers = writers
        self._pragmas = (
            f"synchronous = {synchronous}",
            "temp_store = MEMORY",
            f"cache_size = -{_CACHE_KIB}",
            f"journal_size_limit = {_WAL_LIMIT_BYTES}",
            f"query_only = {int(read_only)}",
        )
        self._using = threading.RLock()
        self._opened: _Files = (None, None, None)
        self._closed: str | None = None
        """The reason why the connection cannot be used any more, or None."""
        self._is_suspended = False
        """Whether it was closed for a fork, and could not be opened again after that."""
        with forking.OPENING:
            self.raw = self._open()
            forking.enter(self)

    def _open(self) -> sqlite3.Connection:
        self._check_others()
        try:
            # SQLite itself sleeps up to 100 ms at a time, and starves beside a busy writer. So its
            # waiting is switched off (timeout=0), and `_run_patiently` waits in shorter steps.
            self.raw = sqlite3.connect(
                self._path,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
        except sqlite3.Error as error:
            raise self.translated(error) from error
        # By default one damaged text makes every query fail that reads it.
        self.raw.text_factory = text_of
        try:
            for pragma in self._pragmas:
                self._execute(f"PRAGMA {pragma}", ())
            found = _identities(self._names)
            self._opened = self._opened[0] or found[0], *found[1:]
        except BaseException:
            self.raw.close()
            raise
        self._is_suspended = False
        return self.raw

    def _check_file(self) -> None:
        """Raise StoreUnavailable unless the file, and what is beside it, are those that were opened. A
        connection that was closed for a fork is opened again if need be.
        """
        if self._closed is not None:
            raise StoreUnavailable(f"{self._path}: {self._closed}")
        found = _identities(self._names)
        if found != self._opened:
            self._check_change(found)
            self._opened = found
        if self._is_suspended:
            self._open()

    def _check_others(self) -> None:
        """Raise StoreUnavailable if a connection of this process has the file with another log or index.

        SQLite would use those here, too.
        """
        found = _identities(self._names)
        for other in (*forking.entered(), *_left):
            if isinstance(other, Connection) and other is not self and other._opened[0] == found[0]:
                other._check_change(found)

    def _check_change(self, found: _Files) -> None:
        """Raise StoreUnavailable unless SQLite has only made what was not there before."""
        changed = self._changed(found)
        if changed == [_INDEX]:
            raise StoreUnavailable(
                f"{self._path}{_INDEX} was deleted or replaced while it was open: this process reads and "
                "writes the file no more, since others do not see what it does. End all processes that "
                "have the file open, and open it again"
            )
        if changed:
            raise StoreUnavailable(
                f"{self._path} was deleted or replaced while it was open: this process reads and writes "
                "it no more. End this process, put the file and its -wal back or restore a backup, and "
                "open it again"
            )

    def _changed(self, found: _Files) -> list[str]:
        """Return, by the ends of their names, which files are not those that were opened."""
        pairs = zip(("", _LOG, _INDEX), self._opened, found, strict=True)
        return [end for end, opened, now in pairs if opened is not None and opened != now]

    def _has_another_log(self) -> bool:
        """Return whether the file has another log or index than it was opened with. (SQLite itself notices if
        the file is another one, and then closes without a change.)
        """
        changed = self._changed(_identities(self._names))
        return bool(changed) and "" not in changed

    # Around a fork

    def suspend(self) -> None:
        """See `Forkable.suspend`."""
        self._using.acquire()
        # In a transaction of the forking thread the connection stays open; the child cannot use it.
        is_used = self._closed is not None or self.raw.in_transaction
        if not is_used and not self._has_another_log():
            # The last one to close removes the log.
            self._is_suspended, self._opened = True, (self._opened[0], None, None)
            self.raw.close()

    def reopen(self) -> None:
        """See `Forkable.reopen`."""
        try:
            # A file that was replaced stays closed: the next use reports that.
            if self._is_suspended and _identities(self._names)[0] == self._opened[0]:
                self._open()
        finally:
            self._using.release()

    def abandon(self) -> None:
        """See `Forkable.abandon`."""
        self._closed = (
            "this connection belongs to the process that forked this one; open the file anew in "
            "this process"
        )
        self._using.release()

    # Use

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction of this connection is open."""
        return self._closed is None and not self._is_suspended and self.raw.in_transaction

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute one statement, and wait for other processes that hold a lock."""
        with self._using:
            if self._closed is not None or self._is_suspended or not self.raw.in_transaction:
                self._check_file()
            return self._execute(sql, parameters)

    def _execute(self, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        try:
            return self.raw.execute(sql, parameters)
        except sqlite3.Error as error:
            if not _is_busy(error) or self.raw.in_transaction:
                raise self.translated(error) from error
        return self._run_patiently(sql, parameters)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a query."""
        with self._using:
            cursor = self.run(sql, parameters)
            try:
                return cursor.fetchall()
            except sqlite3.Error as error:
                raise self.translated(error) from error

    def column(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return the first column of all rows of a query.

        Makes no list of the rows, and no call for each text unless one is damaged.
        """
        with self._using:
            try:
                self.raw.text_factory = str
                return [row[0] for row in self.run(sql, parameters)]
            except sqlite3.OperationalError:
                # A text that is not UTF-8, or another error, which the second try raises again.
                self.raw.text_factory = text_of
                return [row[0] for row in self.rows(sql, parameters)]
            except sqlite3.Error as error:
                raise self.translated(error) from error
            finally:
                self.raw.text_factory = text_of

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the first row of a query, or None."""
        with self._using:
            cursor = self.run(sql, parameters)
            try:
                row = cursor.fetchone()
                cursor.close()
            except sqlite3.Error as error:
                raise self.translated(error) from error
            return row

    def write(self, sql: str, parameters: Sequence[Any]) -> int:
        """Execute one statement that is a durable transaction by itself. Return how many rows it changed."""
        with self._writers.lock, self._using:
            if self._writers.writes:
                raise self._writes_already()
            self._check_file()
            return self._execute(sql, parameters).rowcount

    def snapshot(self) -> Snapshot:
        """Return a `with` block in which all queries see the same state of the file."""
        return Snapshot(self, self._using)

    def __enter__(self) -> sqlite3.Connection:
        self._writers.lock.acquire()
        self._using.acquire()
        try:
            if self._writers.writes:
                raise self._writes_already()
            self._writers.writes = True
            try:
                self.run("BEGIN IMMEDIATE")
            except BaseException:
                self._writers.writes = False
                raise
        except BaseException:
            self._using.release()
            self._writers.lock.release()
            raise
        return self.raw

    def _writes_already(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._path}: this thread writes to the file already, and was interrupted by this call: a"
            " signal handler may read here, and has another thread write"
        )

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
            self._writers.writes = False
            self._using.release()
            self._writers.lock.release()

    def _commit(self) -> None:
        try:
            try:
                self.raw.execute("COMMIT")
            except sqlite3.Error as error:
                # Before the file is in WAL mode a reader may hold a lock: wait for it.
                if not _is_busy(error):
                    raise self.translated(error) from error
                self._run_patiently("COMMIT", ())
        except BaseException:
            self.roll_back()
            raise

    def roll_back(self) -> None:
        """Drop the changes of the transaction, if there is one."""
        # After some errors, such as a full disk, SQLite has rolled back by itself.
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")

    def close(self) -> None:
        """Close; the last connection to the file also empties and removes the log."""
        with self._using:
            self._closed = self._closed or "the store was closed"
            if self._has_another_log():
                self._leave_open()
            else:
                self.raw.close()
        forking.leave(self)

    def _leave_open(self) -> None:
        """Do not close what has another log or index than it began with.

        SQLite would take it for the last connection, write what it knows of the log over what others have
        committed since, and remove their log, which has the same name. So would Python at its end.
        """
        _left.append(self)
        with contextlib.suppress(ImportError):
            import ctypes

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.raw))

    def translated(self, error: sqlite3.Error) -> StoreError:
        """Return the library's error for an error of SQLite."""
        # An extended code has the primary code in its low byte. Errors of the Python module itself,
        # such as the use of a closed connection, have no code.
        code: int | None = getattr(error, "sqlite_errorcode", None)
        if code is None:
            if "binding parameter" in str(error):
                return StoreRefused(f"{self._path}: {error}")
            return StoreUnavailable(f"{self._path}: {error}")
        primary = code & 0xFF
        # Some calls, such as making the log's index, report a full disk as "disk I/O error".
        if primary in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN} and self._is_disk_full():
            primary = sqlite3.SQLITE_FULL
        match primary:
            case sqlite3.SQLITE_FULL:
                return StoreFull(
                    f"{self._path}: there is no space left; nothing was written. "
                    "Free some space: the next commit then works again"
                )
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
                return StoreUnavailable(
                    f"{self._path}: locked for more than {self._patience:g} s {self._by_whom()}"
                )
            case sqlite3.SQLITE_NOTADB:
                return StoreCorrupt(
                    f"{self._path} is not an SQLite file, or its beginning is damaged; nothing was "
                    "changed. Name another file, or restore this one from a backup"
                )
            case sqlite3.SQLITE_CORRUPT:
                return StoreCorrupt(f"{self._path}: {error}; restore the file from a backup")
            case (
                sqlite3.SQLITE_READONLY
                | sqlite3.SQLITE_CANTOPEN
                | sqlite3.SQLITE_PERM
                | sqlite3.SQLITE_IOERR
            ):
                return StoreUnavailable(f"{self._path}: {error}; {_remedy()}")
            case sqlite3.SQLITE_TOOBIG | sqlite3.SQLITE_CONSTRAINT | sqlite3.SQLITE_MISMATCH:
                return StoreRefused(f"{self._path}: {error}")
            case _:
                return StoreError(f"{self._path}: {error}")

    def _by_whom(self) -> str:
        try:
            from mini_workflow.stores.sqlite import lock_holder
        except OSError:  # nothing can be opened now
            return "by another process"
        return lock_holder.describe(self._path)

    def _is_disk_full(self) -> bool:
        try:
            import shutil

            return shutil.disk_usage(self._path.parent).free == 0
        except OSError:
            return False

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
    """See `Connection.snapshot`. One within another, as of a signal handler, sees the same state."""

    def __init__(self, connection: Connection, using: threading.RLock) -> None:
        self._connection = connection
        self._using = using
        self._is_inner = False

    def __enter__(self) -> Connection:
        self._using.acquire()
        try:
            self._is_inner = self._connection.in_transaction
            if not self._is_inner:
                self._connection.run("BEGIN")
        except BaseException:
            self._using.release()
            raise
        return self._connection

    def __exit__(self, *_: object) -> None:
        try:
            # There is nothing to commit: this releases the state that was read.
            if not self._is_inner:
                self._connection.roll_back()
        finally:
            self._using.release()


_Identity = tuple[int, int]
"""The device and inode of a file, by which it differs from a later file with the same name."""

_Files = tuple[_Identity | None, _Identity | None, _Identity | None]
"""A file, its log and the index of that, each None if there is none."""

_LOG: Final = "-wal"
_INDEX: Final = "-shm"

_left: Final[list[Connection]] = []
"""The connections that stay open until the process has ended."""


def log_of(path: Path) -> str:
    """Return the name of a file's log. SQLite keeps it beside the file to which a symbolic link leads."""
    return f"{os.path.realpath(path)}{_LOG}"


def index_of(path: Path) -> str:
    """Return the name of the index of a file's log, which all processes with the file open share."""
    return f"{os.path.realpath(path)}{_INDEX}"


def _identities(names: Iterable[str]) -> _Files:
    """Return the identities of a file, its log and the index of that. They are not opened."""
    found: list[_Identity | None] = []
    for name in names:
        try:
            status = os.stat(name)  # noqa: PTH116 - at every commit, and Path takes twice as long
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino))
    file, log, index = found
    return file, log, index


def _remedy() -> str:
    """Return what to do about a file that cannot be opened, read or written."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return f"{error.strerror}: close some, or raise the limit (ulimit -n)"
    return "check that the file, its directory and the files beside it exist and are writable for this user"


def _is_busy(error: sqlite3.Error) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY
