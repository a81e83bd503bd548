"""Copy a file that may be in use, by SQLite's online backup."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mini_workflow.errors import StoreCorrupt, StoreUnavailable, UsageError
from mini_workflow.stores.sqlite.connection import Connection, WriteLock
from mini_workflow.stores.sqlite.file_checks import inspect
from mini_workflow.stores.sqlite.schema import check_is_store

_PAGES_AT_ONCE: Final = 1_024
"""Pages copied between two calls of `progress`: 4 MiB of a file with SQLite's usual pages."""

_PATIENCE_SECONDS: Final = 10.0

_BESIDE: Final = ("-wal", "-journal", "-shm")
"""Files that SQLite may keep beside a store. It applies a log to any file that has the name."""


def back_up(
    source: Path,
    target: Path,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Copy the store at `source`, as it is at one moment, to the file `target`. Return its size in bytes.

    Others may read and write the store meanwhile. The copy is made under another name, checked, and
    then renamed, so that `target` is never half a copy. It is one file, without a log beside it.

    Args:
        source: the file of the store. It is not changed.
        target: the file to make.
        force: replace `target` if it exists.
        progress: called with the number of copied pages, and that of all pages.

    Raises:
        UsageError: `target` exists and `force` is not given, or it is the store itself, or has a log.
        StoreUnavailable, StoreCorrupt, StoreTooNew, StoreFull: the store cannot be read, or the copy
            cannot be written or is damaged. `target` is unchanged.
    """
    inspect(source, read_only=True)
    _check_target(source, target, force)
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
        os.close(descriptor)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot write to {target.parent}: {error}; name a file in another directory"
        ) from error
    made = Path(name)
    try:
        _copy(source, made, progress)
        return _put_in_place(made, target, force)
    except OSError as error:
        raise StoreUnavailable(f"cannot write {target}: {error}; name another file") from error
    finally:
        for suffix in ("", *_BESIDE):
            Path(name + suffix).unlink(missing_ok=True)


def _check_target(source: Path, target: Path, force: bool) -> None:
    if not target.parent.is_dir():
        raise UsageError(f"there is no directory {target.parent}; create it")
    if target.is_dir():
        raise UsageError(f"{target} is a directory; name a file in it")
    if target.exists():
        if target.samefile(source):
            raise UsageError(f"{target} is the store itself; name another file")
        if not force:
            raise _exists(target)
    for suffix in _BESIDE:
        beside = Path(f"{target}{suffix}")
        if beside.exists():
            raise UsageError(
                f"{beside} exists: {target} is in use, or was not closed, and its log would be "
                "applied to the backup; name another file"
            )


def _exists(target: Path) -> UsageError:
    return UsageError(f"{target} exists; name another file, or replace it with --force")


def _copy(source: Path, made: Path, progress: Callable[[int, int], None]) -> None:
    reader = _connect(source, read_only=True)
    try:
        copy = _connect(made)
        try:
            # Within one snapshot, since otherwise each commit of another process restarts the copy.
            with reader.snapshot():
                check_is_store(reader, source)
                try:
                    reader.raw.backup(
                        copy.raw,
                        pages=_PAGES_AT_ONCE,
                        progress=lambda status, left, total: progress(total - left, total),
                    )
                except sqlite3.Error as error:
                    raise copy.translated(error) from error
            # Move the content of the log into the file.
            copy.row("PRAGMA journal_mode = DELETE")
            found = copy.rows("PRAGMA integrity_check(1)")
            if found != [("ok",)]:
                raise StoreCorrupt(
                    f"the copy of {source} is damaged, and so is the store: {found[0][0]}; "
                    "no backup was made"
                )
        finally:
            copy.close()
    finally:
        reader.close()


def _connect(path: Path, *, read_only: bool = False) -> Connection:
    return Connection(
        path,
        synchronous="FULL",
        patience=_PATIENCE_SECONDS,
        writers=WriteLock(),
        read_only=read_only,
    )


def _put_in_place(made: Path, target: Path, force: bool) -> int:
    size = made.stat().st_size
    if force:
        if target.exists():
            made.chmod(target.stat().st_mode & 0o777)
        made.replace(target)
    else:
        try:
            # Unlike a rename, a link fails if there is such a file by now.
            os.link(made, target)
        except FileExistsError as error:
            raise _exists(target) from error
        except OSError:  # a file system without links
            if target.exists():
                raise _exists(target) from None
            made.rename(target)
    # Let the name survive a power cut; some systems cannot sync a directory.
    with contextlib.suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return size
