"""One JSON file that several processes change in turns, each change whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from mini_workflow.errors import StoreCorrupt, StoreFull, StoreUnavailable

EMPTY: dict[str, Any] = {
    "last": 0,  # the number that was given out last
    "owners": {},  # number -> {"address", "until"}
    "partitions": {},  # number -> the owner's number, or null
    "executions": {},  # id -> {"key", "partition", "head", "events", "parked"}
    "letters": [],  # [number, execution id, body, key]
    "deleted": {},  # id -> how many events those of that id had that were deleted
}


class File:
    """The state, as this process has it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.closed = False
        self._threads = RLock()

    @contextmanager
    def reading(self) -> Iterator[dict[str, Any]]:
        """The state as of the last change."""
        with self._locked():
            yield self._load()

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """The state, to be changed: written when the block ends, and not at all when it raises."""
        with self._locked():
            state = self._load()
            yield state
            self._write(state)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            if self.closed:
                raise StoreUnavailable(f"{self.path} was closed")
            try:
                lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise StoreUnavailable(f"cannot open {self.path}: {error}") from error
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)  # which unlocks

    def _load(self) -> dict[str, Any]:
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return json.loads(json.dumps(EMPTY))
        except ValueError as error:
            raise StoreCorrupt(f"{self.path}: {error}; restore it from a backup") from error
        except OSError as error:
            raise StoreUnavailable(f"cannot read {self.path}: {error}") from error

    def _write(self, state: dict[str, Any]) -> None:
        # A crash leaves the old file or the new one: the new one is complete, and on the disk,
        # before it takes the name; and the name is on the disk before anybody is told.
        beside = Path(f"{self.path}.new")
        try:
            with beside.open("w", encoding="utf-8") as file:
                json.dump(state, file, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreFull(f"cannot write {self.path}: {error}; nothing was changed") from error


def number(state: dict[str, Any]) -> int:
    """A number that was never given out before."""
    state["last"] += 1
    return state["last"]
