"""Note the execution whose turn an owner is in, in a file that outlives the process.

The file is small, stands beside the store, and is mapped into memory: writing takes less than a
microsecond and no commit, and the note stays if the process is killed in the next instruction.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from mini_workflow.errors import StoreUnavailable

_BYTES: Final = 256
"""Room for an id, which has at most 100 characters of one byte each."""


class Holds(Protocol):
    """The holdings of an owner."""

    @property
    def lease(self) -> int | None:
        """The number of its lease, or None while it has none."""
        ...


class TurnNote:
    """The note of the owner whose lease `holding` names, for the store at `path`.

    Its file is made by the first write.
    """

    def __init__(self, path: Path, holding: Holds) -> None:
        self._path = path
        self._holding = holding
        self._lease: int | None = None
        self._map: mmap.mmap | None = None

    def write(self, execution_id: str | None) -> None:
        """Note the execution whose turn the owner is in; None between turns. Raises StoreUnavailable."""
        lease = self._holding.lease
        if lease is None:
            return
        if lease != self._lease:
            self.remove()
            self._map = self._make(lease)
            self._lease = lease
        assert self._map is not None
        if execution_id is None:
            self._map[0] = 0
        else:
            data = execution_id.encode()[: _BYTES - 1] + b"\0"
            self._map[: len(data)] = data

    def remove(self) -> None:
        """Forget the note, and remove its file. Harmless if there is none."""
        lease, self._lease = self._lease, None
        if self._map is not None:
            self._map.close()
            self._map = None
        if lease is not None:
            forget(self._path, lease)

    def _make(self, lease: int) -> mmap.mmap:
        mode = self._path.stat().st_mode & 0o666
        try:
            descriptor = os.open(_name(self._path, lease), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.fchmod(descriptor, mode)  # as SQLite does for the files beside the store
                os.ftruncate(descriptor, _BYTES)
                return mmap.mmap(descriptor, _BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreUnavailable(
                f"cannot write {_name(self._path, lease)}, which this library keeps beside the store: "
                f"{error}; free some space, or change the permissions of the directory"
            ) from error


def read(path: Path, lease: int) -> str | None:
    """Return the id of the execution whose turn an owner was in, or None."""
    try:
        data = _name(path, lease).read_bytes()
    except OSError:
        return None
    return data.partition(b"\0")[0].decode(errors="replace") or None


def forget(path: Path, lease: int) -> None:
    """Remove the note of an owner that is gone."""
    with suppress(OSError):
        _name(path, lease).unlink()


def _name(path: Path, lease: int) -> Path:
    return path.with_name(f"{path.name}-turn-{lease}")
