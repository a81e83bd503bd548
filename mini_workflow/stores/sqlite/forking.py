"""Close connections around a fork, so that a child process inherits none.

SQLite keeps the locks that a process has on a file in memory. A child made by fork inherits that
memory and not the locks: what it opens anew takes none, and its commits are lost when another process
takes the file for unused. So every connection is closed before a fork, and opened again after it in
the parent. A child begins with nothing open, and what it opens takes its own locks.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final, Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """A connection, as a fork sees it. The calls come in pairs: suspend, then one of the others."""

    def suspend(self) -> None:
        """Wait until nobody uses it, close it, and let nobody use it."""
        ...

    def reopen(self) -> None:
        """Open it again and let it be used: this is the parent."""
        ...

    def abandon(self) -> None:
        """Let every use of it fail: this is the child."""
        ...


OPENING: Final = threading.RLock()
"""Held while a connection is opened and entered, so that no fork comes in between."""

_connections: Final[WeakSet[Forkable]] = WeakSet()
_suspended: Final[list[Forkable]] = []


def enter(connection: Forkable) -> None:
    """Have a connection closed around every fork. The caller holds `OPENING`."""
    _connections.add(connection)


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
            # What cannot be opened now says so to whoever uses it next.
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
