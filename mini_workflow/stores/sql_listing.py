"""Choose the tables from which SQL reads the rows of a query, so that an index answers each part of it.

The placeholder of a value is a question mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mini_workflow.core.records import frozen, mutable, replace
from mini_workflow.ports import STATUSES, Query
from mini_workflow.stores.listing import is_about_the_end, page_start

_BEHIND_ALL: Final = 2**63 - 1
"""The largest integer that a column has room for."""

_TAGGED: Final = (
    "EXISTS (SELECT 1 FROM {tags} AS other WHERE other.name = ? AND other.value = ? "
    "AND other.started_at = tags.started_at AND other.execution = tags.execution)"
)


@frozen
class Dialect:
    """The differences between databases: the FROM clause of each kind of listing.

    A clause names its tables, and the index to use where the database needs a hint. `plain` is for
    listings by status and workflow, `tagged` for those by a tag, whose table is called `tags`,
    `by_parent` and `by_id` for those by the parent and by the beginning of ids, and `by_end` for
    those of closed executions. `condition` is added for every row.
    """

    plain: str
    tags: str
    tagged: str
    by_parent: str
    by_id: str
    by_end: str
    condition: str = ""


@mutable
class Source:
    """A source of rows: its FROM clause, the columns of its order, and its conditions."""

    tables: str
    time: str
    key: str
    conditions: list[str]
    values: list[Any]

    def where(self, condition: str, *values: Any) -> None:
        """Add a condition with the values of its placeholders."""
        self.conditions.append(condition)
        self.values.extend(values)

    def sql(self) -> str:
        """Return the query from FROM on."""
        return f"FROM {self.tables} WHERE {' AND '.join(self.conditions)}"

    def in_order(self, query: Query, fields: str) -> str:
        """Return the query for the rows of a page and one more.

        A row has the fields, the time of the order, and the key.
        """
        descending = query.order.startswith("-")
        way, sign = ("DESC", "<") if descending else ("ASC", ">")
        edge = _BEHIND_ALL if descending else -_BEHIND_ALL
        time = "executions.closed_at" if query.order.endswith("closed") else self.time
        self.where(f"({time}, {self.key}) {sign} (?, ?)", *(page_start(query) or (edge, edge)))
        self.values.append(query.limit + 1)
        return (
            f"SELECT {fields}, {time}, executions.key {self.sql()} "
            f"ORDER BY {time} {way}, {self.key} {way} LIMIT ?"
        )


def sources(query: Query, dialect: Dialect) -> Sequence[Source]:
    """Return the sources of the rows that match. The caller merges several by their order."""
    if query.tags:
        # The rows of the first tag are in order; the other tags are conditions.
        (name, value), *others = query.tags
        source = Source(dialect.tagged, "tags.started_at", "tags.execution", [], [])
        source.where("tags.name = ?", name)
        source.where("tags.value = ?", value)
        for other in others:
            source.where(_TAGGED.format(tags=dialect.tags), *other)
    elif query.parent is not None:
        source = _by_start(dialect.by_parent)
    elif query.id_prefix is not None:
        source = _by_start(dialect.by_id)
    elif is_about_the_end(query):
        source = _by_start(dialect.by_end)
    else:
        # A listing merges the statuses, so that two indexes serve all four kinds of filter.
        statuses = STATUSES if query.status is None else (query.status,)
        return [
            _narrowed(_by_start(dialect.plain), replace(query, status=status), dialect)
            for status in statuses
        ]
    return [_narrowed(source, query, dialect)]


def _by_start(tables: str) -> Source:
    return Source(tables, "executions.started_at", "executions.key", [], [])


def _narrowed(source: Source, query: Query, dialect: Dialect) -> Source:
    if query.workflow is not None:
        source.where("executions.workflow = ?", query.workflow)
    if query.status is not None:
        source.where("executions.status = ?", query.status)
    if dialect.condition:
        source.where(dialect.condition)
    if query.parent is not None:
        source.where("executions.parent = ?", query.parent)
    if query.id_prefix is not None:
        first, last = query.id_prefix[:-1], query.id_prefix[-1:]
        source.where("executions.id >= ?", query.id_prefix)
        source.where("executions.id < ?", first + chr(ord(last) + 1))
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
    return source
