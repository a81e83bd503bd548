"""Find the rows of executions that match a query, by an index that answers it."""

from __future__ import annotations

from heapq import merge
from typing import Any, Final

from mini_workflow.core.records import replace
from mini_workflow.ports import Page, Query
from mini_workflow.stores.listing import is_about_the_end
from mini_workflow.stores.sql_listing import Dialect, sources
from mini_workflow.stores.sqlite.connection import Connection
from mini_workflow.stores.sqlite.damage import BEHIND, FIELDS, head_of

_DIALECT: Final = Dialect(
    plain="executions",
    tags="tags",
    tagged="tags CROSS JOIN executions ON executions.key = tags.execution",
    by_parent="executions INDEXED BY executions_parent",
    # The index of the column's UNIQUE, by the name that SQLite gives it.
    by_id="executions INDEXED BY sqlite_autoindex_executions_1",
    by_end="executions INDEXED BY executions_closed",
    condition="typeof(executions.id) = 'text'",
)

_PLAIN: Final = replace(_DIALECT, condition="")
_DAMAGED: Final = tuple(
    replace(_DIALECT, plain=_DIALECT.by_id, condition=f"executions.id {what}")
    for what in ("< ''", ">= x''")
)
"""The dialects for rows whose id is no text: those before all texts, and those behind them."""


def page(connection: Connection, query: Query) -> Page:
    """See `Store.list`. Within a snapshot."""
    found: list[list[Any]] = []
    for source in sources(query, _DIALECT):
        sql = source.in_order(query, FIELDS)
        found.append(connection.rows(sql, tuple(source.values)))
    rows = list(merge(*found, key=_place, reverse=query.order.startswith("-")))
    shown = rows[: query.limit]
    following = "{}-{}".format(*_place(shown[-1])) if len(rows) > query.limit else None
    return Page([head_of(row) for row in shown], following)


def count(connection: Connection, query: Query) -> int:
    """See `Store.count`. Within a snapshot."""
    if (
        query.tags
        or query.parent is not None
        or query.id_prefix is not None
        or is_about_the_end(query)
    ):
        return _count(connection, query, _DIALECT)
    # Count by the index, which lacks the id only: reading each row takes much longer.
    damaged = sum(_count(connection, query, dialect) for dialect in _DAMAGED)
    return _count(connection, query, _PLAIN) - damaged


def _count(connection: Connection, query: Query, dialect: Dialect) -> int:
    return sum(
        connection.row(f"SELECT count(*) {source.sql()}", tuple(source.values))[0]
        for source in sources(query, dialect)
    )


def _place(row: Any) -> tuple[int, int]:
    """Return the place of a row in a listing: its time, then its number in the order of creation."""
    return row[BEHIND], row[BEHIND + 1]
