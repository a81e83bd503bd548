"""Refuse a path at which no store can be kept, before a file is opened."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

from mini_workflow.core.validation import shown
from mini_workflow.errors import StoreCorrupt, StoreUnavailable, UsageError

_MOUNTS: Final = Path("/proc/self/mountinfo")
"""The mounts that this process sees (Linux). The first field behind the dash is the type: see proc(5)."""

_Mounts = list[tuple[str, str]]
"""Mounts, each as its place and type."""

_PLACE: Final = 4
"""The number of the field that says where a mount is."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
"""A space, tab, line feed or backslash in a field of a mount, see proc(5)."""

_NETWORKS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "gfs2", "ocfs2"}
    | {"fuse.sshfs", "fuse.s3fs", "fuse.glusterfs", "fuse.ceph", "fuse.rclone"}
)
"""The types of file systems by which several machines have the same files: those of Linux and of FUSE that
are in wide use.
"""

_HEADER_BYTES: Final = 100
"""Bytes of the header of every SQLite file that is not empty (SQLite, "Database File Format", 1.3)."""

_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|(file|sqlite):")
"""The beginning of what people write for a database that is no path."""


def path_of(given: str | os.PathLike[str]) -> Path:
    """Return what a caller has given as the path of a store. Raises UsageError if it is none."""
    try:
        path = Path(given)
        text = os.fspath(path)
    except TypeError:
        raise UsageError(
            f"{shown(given)} is no path of a file: give a str or a pathlib.Path"
        ) from None
    if text == ":memory:":
        raise UsageError("an SQLite store needs a file; for one in memory use MemoryBackend")
    if "\0" in text:
        raise UsageError(f"{shown(text)} is no path of a file: it has a null character")
    if isinstance(given, str) and (found := _ADDRESS.match(given)):
        raise UsageError(
            f"{found[0]!r} begins an address, and a store in a file is named by its path, such as "
            "'state.db'; a store of Postgres takes PostgresRuntime or PostgresClient"
        )
    return path


def inspect(path: Path, *, read_only: bool = False) -> str:
    """Refuse a path at which no store can be. Raises StoreUnavailable or StoreCorrupt.

    Return the type of the network file system that the path is on, such as "nfs4"; empty for a local one, and
    where nobody says so.

    A missing file is refused only with `read_only`. The file is not opened: closing a descriptor of a
    file drops every lock that the process has on it, those of SQLite included.
    """
    mounts = _mounts()
    try:
        _inspect(path, read_only, mounts)
        return _network_of(path, mounts)
    except OSError as error:
        raise StoreUnavailable(f"cannot open {path}: {error}; check its permissions") from error


def _inspect(path: Path, read_only: bool, mounts: _Mounts) -> None:
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
    size = path.stat().st_size if path.exists() else 0
    if not size and read_only:
        raise StoreUnavailable(
            f"there is no store at {path}: name another file, or start an execution"
        )
    if not path.exists():
        return
    if not path.is_file():
        raise StoreUnavailable(f"cannot open {path}: it is no regular file; name another one")
    _check_names(path, read_only, mounts)
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(
            f"cannot open {path}: the file is not readable and writable for this user; "
            "change its permissions"
        )
    if 0 < size < _HEADER_BYTES:
        # SQLite would take the file for empty, and write over it.
        raise StoreCorrupt(
            f"{path} is not an SQLite file; nothing was changed. Name another file, or restore this "
            "one from a backup"
        )


def _check_names(path: Path, read_only: bool, mounts: _Mounts) -> None:
    """Refuse a file that others may open by another name: SQLite keeps its log beside the name by which it
    opens a file, so that neither sees, and a checkpoint overwrites, what the other has committed.
    """
    if path.stat().st_nlink > 1:
        left = _leftovers(path, remove=not read_only)
        names = path.stat().st_nlink - (left if read_only else 0)
        if names > 1:
            raise StoreUnavailable(
                f"cannot open {path}: the file has {names} names (hard links), and SQLite keeps a log beside "
                "each name by which it is opened: what is in one log is lost to the others. Remove the other "
                f"names, which find -samefile {path} lists; mini-workflow backup makes copies"
            )
    if os.path.realpath(path) in dict(mounts):
        raise StoreUnavailable(
            f"cannot open {path}: the file itself is mounted, and SQLite keeps a log beside it, which would "
            "stay in the container and be lost with it. Mount its directory instead"
        )


def _leftovers(path: Path, *, remove: bool) -> int:
    """Return how many names a file has under which it was being made: whoever made it has died since, or is
    about to remove that name.
    """
    from glob import escape

    found, own = 0, path.stat().st_ino
    for name in path.parent.glob(f".{escape(path.name)}-*"):
        with contextlib.suppress(FileNotFoundError):
            if name.stat().st_ino == own:
                found += 1
                if remove:
                    name.unlink()
    return found


def _network_of(path: Path, mounts: _Mounts) -> str:
    folder, longest, kind = f"{os.path.realpath(path.parent)}/", 0, ""
    for point, found in mounts:
        if len(point) >= longest and folder.startswith(f"{point.rstrip('/')}/"):
            longest, kind = len(point), found
    return kind if kind in _NETWORKS else ""


def _mounts() -> _Mounts:
    """Return the mounts that this process sees; an empty list where this is not Linux."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    found: _Mounts = []
    for line in lines:
        about, _, source = line.partition(" - ")
        fields = about.split(" ")
        if len(fields) > _PLACE:
            place = _OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[_PLACE])
            found.append((place, source.partition(" ")[0]))
    return found
