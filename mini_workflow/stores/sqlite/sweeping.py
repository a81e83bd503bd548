"""Remove events of deleted executions and dropped runs, and free pages, a few at a time."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from mini_workflow.ports import DELETIONS_KEPT
from mini_workflow.stores.sqlite.connection import Connection

SLACK: Final = 256
"""Free pages that the file may keep for new data, a MiB. Our own bound."""

SHARE: Final = 10
"""The file may also keep one of so many pages free, if that is more than SLACK."""

PAGES_AT_ONCE: Final = 256
"""Free pages that one step gives back. Our own bound."""

INCREMENTAL: Final = 2
"""The `auto_vacuum` of files that can give pages back (SQLite, "PRAGMA auto_vacuum")."""

DROP: Final = """
    INSERT INTO leftovers (execution, below) VALUES (?, ?)
    ON CONFLICT (execution) DO UPDATE SET below = excluded.below
"""
"""A statement that marks the events of an execution (its key) below a number for removal."""


def is_needed(connection: Connection, now: int) -> bool:
    """Return whether there are events to remove, deletions to forget, or pages to give back."""
    left, old = connection.row(_LEFT, (now - DELETIONS_KEPT,))
    return bool(left or old or _too_many(*_pages(connection.row(_PAGES))))


def remove(raw: sqlite3.Connection, limit: int) -> None:
    """Remove about `limit` events of deleted executions and dropped runs."""
    for key, below in raw.execute(
        "SELECT execution, below FROM leftovers ORDER BY execution LIMIT ?", (limit,)
    ).fetchall():
        gone = raw.execute(_REMOVE, (key, key, below, limit)).rowcount
        if gone < limit:
            raw.execute("DELETE FROM leftovers WHERE execution = ?", (key,))
        # An entry without events counts too, since it takes time.
        limit -= gone + 1
        if limit <= 0:
            return


def forget(raw: sqlite3.Connection, now: int, limit: int) -> None:
    """Forget deletions of long ago."""
    raw.execute(_FORGET, (now - DELETIONS_KEPT, limit))


def give_back(raw: sqlite3.Connection) -> None:
    """Cut free pages from the end of the file, if it has many and its `auto_vacuum` allows it."""
    if _too_many(*_pages(raw.execute(_PAGES).fetchone())):
        raw.execute(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})").fetchall()


def _pages(row: Any) -> tuple[int, int, int]:
    free, pages, kind = row
    return int(free), int(pages), int(kind)


def _too_many(free: int, pages: int, kind: int) -> bool:
    return kind == INCREMENTAL and free > max(SLACK, pages // SHARE)


_OLD = """
    SELECT id FROM deleted
    WHERE at <= ? AND NOT EXISTS (SELECT 1 FROM executions WHERE executions.id = deleted.id)
"""
_LEFT = f"SELECT EXISTS (SELECT 1 FROM leftovers), EXISTS ({_OLD})"
_FORGET = f"DELETE FROM deleted WHERE id IN ({_OLD} LIMIT ?)"
_REMOVE = """
    DELETE FROM events WHERE execution = ? AND number IN (
        SELECT number FROM events WHERE execution = ? AND number < coalesce(?, 9e18)
        ORDER BY number LIMIT ?
    )
"""
_PAGES = """
    SELECT
        (SELECT freelist_count FROM pragma_freelist_count),
        (SELECT page_count FROM pragma_page_count),
        (SELECT auto_vacuum FROM pragma_auto_vacuum)
"""
