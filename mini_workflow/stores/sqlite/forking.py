"""Close connections around a fork, so that a child process inherits none.

SQLite remembers in memory which locks a process has on a file. A child made by fork inherits that memory
and not the locks: it would open the file without locks, and its commits would be lost when another
process takes the file for unused. So every connection is closed before a fork, and opened again after it
in the parent. The child begins without connections, and takes its own locks.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final, Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """A connection that is closed around a fork. After `suspend` follows one of the other calls."""

    def suspend(self) -> None:
        """Wait until no thread uses the connection, close it, and let no thread use it."""
        ...

    def reopen(self) -> None:
        """Open the connection again, in the parent."""
        ...

    def abandon(self) -> None:
        """Let every use of the connection fail, in the child."""
        ...


OPENING: Final = threading.RLock()
"""Held while a connection is opened and entered, so that no fork comes in between."""

_connections: Final[WeakSet[Forkable]] = WeakSet()
_suspended: Final[list[Forkable]] = []


def enter(connection: Forkable) -> None:
    """Close a connection around every fork from now on. The caller holds `OPENING`."""
    _connections.add(connection)


def entered() -> list[Forkable]:
    """Return the connections of this process."""
    return list(_connections)


def leave(connection: Forkable) -> None:
    """Forget a connection that is closed for good."""
    with OPENING:
        _connections.discard(connection)


def _before() -> None:
    OPENING.acquire()
    for connection in list(_connections):
        _suspended.append(connection)
        connection.suspend()


def _after_in_parent() -> None:
    try:
        while _suspended:
            # A connection that cannot be opened now raises the error at its next use.
            with suppress(Exception):
                _suspended.pop().reopen()
    finally:
        OPENING.release()


def _after_in_child() -> None:
    try:
        while _suspended:
            _suspended.pop().abandon()
        _connections.clear()
    finally:
        OPENING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
