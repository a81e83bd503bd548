"""Find damaged rows of executions, and replace their heads.

A column of SQLite takes values of any type. A damaged row stops its own execution only: the execution is
shown as blocked, and is not run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mini_workflow.core.records import frozen
from mini_workflow.ports import STATUSES, Head

_YEAR_1: Final = -62_135_596_800_000
_YEAR_9999: Final = 253_402_300_799_999
"""The first and last time that can be shown, in milliseconds."""

_LARGEST: Final = 2**63 - 1


@frozen
class Damage:
    """A column of an execution with a wrong value. `shown` is the value, for people."""

    execution_id: str
    column: str
    shown: str

    def __str__(self) -> str:
        return f"{self.column} is {self.shown}"


@frozen
class _Column:
    """A column of a head. `low` and `high` bound an integer; without them it is a text."""

    name: str
    stand_in: Any
    low: int | None = None
    high: int | None = None
    optional: bool = False

    def fits(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if self.low is None or self.high is None:
            return type(value) is str
        return type(value) is int and self.low <= value <= self.high

    @property
    def sql(self) -> str:
        """An expression that is true where the value fits."""
        if self.low is None:
            fits = f"typeof({self.name}) = 'text'"
        else:
            fits = f"typeof({self.name}) = 'integer' AND {self.name} BETWEEN {self.low} AND {self.high}"
        return f"({self.name} IS NULL OR {fits})" if self.optional else f"({fits})"


_COLUMNS: Final = (
    _Column("id", ""),
    _Column("workflow", ""),
    _Column("status", "running"),
    _Column("started_at", 0, _YEAR_1, _YEAR_9999),
    _Column("closed_at", None, _YEAR_1, _YEAR_9999, optional=True),
    _Column("busy", 0, 0, 1),
    _Column("wake_at", None, -_LARGEST, _LARGEST, optional=True),
    _Column("blocked_kind", None, optional=True),
    _Column("blocked_reason", None, optional=True),
    _Column("run", 1, 1, _LARGEST),
    _Column("base", 0, 0, _LARGEST),
    _Column("parent", None, optional=True),
    _Column("tags", ""),
    _Column("waits", ""),
    _Column("progress", ""),
)

OF_OWNER: Final = (
    "CAST(address AS TEXT), CAST(until AS INTEGER), CAST(host AS TEXT), CAST(pid AS INTEGER), "
    "CAST(born AS TEXT)"
)
"""The columns of an owner, as `dead_owners` takes them. In a damaged row the lease has ended, and its owner
finds that out at its next commit.
"""

FIELDS: Final = ", ".join(f"executions.{column.name}" for column in _COLUMNS)
"""The columns of a head, in the order that `head_of` takes them."""

BEHIND: Final = len(_COLUMNS)
"""The position in a row of the first value behind FIELDS."""

_ALL: Final = (
    *_COLUMNS,
    _Column("partition", 0, 0, _LARGEST),
    _Column("tries", 0, 0, _LARGEST),
)

_KNOWN: Final = f"status IN ({', '.join(repr(status) for status in STATUSES)})"

SOUND: Final = " AND ".join([*(column.sql for column in _ALL), _KNOWN])
"""An expression that is true for rows without damage."""

FIND: Final = (
    f"SELECT {', '.join(c.name for c in _ALL)} FROM executions WHERE NOT ({SOUND}) LIMIT ?"
)
"""A query for damaged rows, to be passed to `damages`."""


def head_of(row: Any) -> Head:
    """Return the head in a row, or a replacement for a damaged one.

    An execution that has closed stays closed if its status and end are sound. Any other damaged row
    becomes the head of a blocked execution; `resume()` writes the row anew from the history.
    """
    name, workflow, status, started_at, closed_at, busy, *rest = row[: len(_COLUMNS)]
    if status in STATUSES and all(map(_fits, _CHECKS, row)):
        return Head(name, workflow, status, started_at, closed_at, bool(busy), *rest)
    return _stand_in(row)


def _fits(check: Callable[[Any], bool], value: Any) -> bool:
    return check(value)


_CHECKS: Final = tuple(column.fits for column in _COLUMNS)


def _stand_in(row: Any) -> Head:
    wrong = damages(row)
    bad = {damage.column for damage in wrong}
    values: dict[str, Any] = {
        c.name: c.stand_in if c.name in bad else value
        for c, value in zip(_COLUMNS, row, strict=False)
    }
    name = wrong[0].execution_id
    head = Head(
        name,
        values["workflow"] or "unknown",
        values["status"],
        values["started_at"],
        values["closed_at"],
        bool(values["busy"]),
        values["wake_at"],
        values["blocked_kind"],
        values["blocked_reason"],
        values["run"],
        values["base"],
        values["parent"],
        values["tags"],
        values["waits"],
        values["progress"],
    )
    if head.closed_at is not None and head.status not in ("running", "blocked"):
        return head
    reason = (
        f"its row in the file is damaged: {', '.join(map(str, wrong))}; restore a backup, or call "
        "resume() to write the row anew from the history"
    )
    return Head(
        name,
        head.workflow,
        "blocked",
        head.started_at,
        blocked_kind="StoreCorrupt",
        blocked_reason=f"StoreCorrupt: {reason}",
        run=head.run,
        base=head.base,
        parent=head.parent,
        tags=head.tags,
    )


def damages(row: Any) -> list[Damage]:
    """Return the damaged columns of a row whose values are in the order of `FIND` or `FIELDS`."""
    name = row[0] if type(row[0]) is str else f"id {row[0]!r}"
    return [
        Damage(name, column.name, _shown(value))
        for column, value in zip(_ALL, row, strict=False)
        if not column.fits(value) or (column.name == "status" and value not in STATUSES)
    ]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
