"""Listings: which rows of executions match a query, by an index that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any, Final

from mini_workflow.ports import STATUSES, Page, Query
from mini_workflow.stores.listing import is_about_the_end, page_start
from mini_workflow.stores.sqlite.connection import Connection
from mini_workflow.stores.sqlite.damage import BEHIND, FIELDS, head_of

_BEHIND_ALL: Final = 2**63 - 1
"""The largest integer of SQLite."""

_TAGGED: Final = (
    "EXISTS (SELECT 1 FROM tags AS other WHERE other.name = ? AND other.value = ? "
    "AND other.started_at = tags.started_at AND other.execution = tags.execution)"
)


@dataclass(slots=True)
class _Source:
    """Where rows come from: tables and their index, the columns by which it is in order, and what is
    asked of a row.
    """

    tables: str
    time: str
    key: str
    conditions: list[str]
    values: list[Any]

    def where(self, condition: str, *values: Any) -> None:
        self.conditions.append(condition)
        self.values.extend(values)

    def sql(self) -> str:
        return f"FROM {self.tables} WHERE {' AND '.join(self.conditions)}"


def page(connection: Connection, query: Query) -> Page:
    """See `Store.list`. Within a snapshot."""
    start = page_start(query)
    descending = query.order.startswith("-")
    way, sign = ("DESC", "<") if descending else ("ASC", ">")
    found: list[list[Any]] = []
    for source in _sources(query):
        edge = _BEHIND_ALL if descending else -_BEHIND_ALL
        time, key = source.time, source.key
        if query.order.endswith("closed"):
            time = "executions.closed_at"
        source.where(f"({time}, {key}) {sign} (?, ?)", *(start or (edge, edge)))
        order = f"ORDER BY {time} {way}, {key} {way}"
        sql = f"SELECT {FIELDS}, {time}, executions.key {source.sql()} {order} LIMIT ?"
        found.append(connection.rows(sql, (*source.values, query.limit + 1)))
    rows = list(merge(*found, key=_place, reverse=descending))
    shown = rows[: query.limit]
    following = "{}-{}".format(*_place(shown[-1])) if len(rows) > query.limit else None
    return Page([head_of(row) for row in shown], following)


def count(connection: Connection, query: Query) -> int:
    """See `Store.count`. Within a snapshot."""
    return sum(
        connection.row(f"SELECT count(*) {source.sql()}", tuple(source.values))[0]
        for source in _sources(query)
    )


def _sources(query: Query) -> Sequence[_Source]:
    """Return the sources of the rows that match. Several are merged by their order."""
    if query.tags:
        # The first tag leads: a list that its rows are in order of.
        (name, value), *others = query.tags
        source = _Source(
            "tags CROSS JOIN executions ON executions.key = tags.execution",
            *("tags.started_at", "tags.execution"),
            ["tags.name = ?", "tags.value = ?"],
            [name, value],
        )
        for other in others:
            source.where(_TAGGED, *other)
    elif query.parent is not None:
        source = _Source(
            "executions INDEXED BY executions_parent",
            *("executions.started_at", "executions.key"),
            [],
            [],
        )
    elif is_about_the_end(query):
        source = _Source(
            "executions INDEXED BY executions_closed",
            *("executions.started_at", "executions.key"),
            [],
            [],
        )
    else:
        # A listing merges the statuses, so that two indexes serve all four kinds of filter.
        statuses = STATUSES if query.status is None else (query.status,)
        return [_by_status(query, status) for status in statuses]
    if query.workflow is not None:
        source.where("executions.workflow = ?", query.workflow)
    if query.status is not None:
        source.where("executions.status = ?", query.status)
    _narrow(source, query)
    return [source]


def _by_status(query: Query, status: str) -> _Source:
    source = _Source("executions", "executions.started_at", "executions.key", [], [])
    if query.workflow is not None:
        source.where("executions.workflow = ?", query.workflow)
    source.where("executions.status = ?", status)
    _narrow(source, query)
    return source


def _narrow(source: _Source, query: Query) -> None:
    source.where("typeof(executions.id) = 'text'")
    if query.parent is not None:
        source.where("executions.parent = ?", query.parent)
    if query.started_after is not None:
        source.where(f"{source.time} >= ?", query.started_after)
    if query.started_before is not None:
        source.where(f"{source.time} < ?", query.started_before)
    if is_about_the_end(query):
        source.where("executions.closed_at IS NOT NULL")
    if query.closed_after is not None:
        source.where("executions.closed_at >= ?", query.closed_after)
    if query.closed_before is not None:
        source.where("executions.closed_at < ?", query.closed_before)


def _place(row: Any) -> tuple[int, int]:
    """Return where a row stands in a listing: by its time, and among equal times by order of
    creation.
    """
    return row[BEHIND], row[BEHIND + 1]
