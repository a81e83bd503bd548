"""Turn filters of users into a query of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

from mini_workflow.core.records import replace
from mini_workflow.core.tags import check_tags
from mini_workflow.core.validation import check_id, shown
from mini_workflow.errors import UsageError
from mini_workflow.ports import ORDERS, STATUSES, Head, Order, Page, Query, Status
from mini_workflow.workflow import NAME

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


PAGE: Final = 1_000
"""The number of executions that are read at a time for a listing."""


class Filters(TypedDict, total=False):
    """Filters of executions beside workflow and status: see `Client.list_executions`."""

    tags: Mapping[str, str] | None
    started_after: datetime | None
    started_before: datetime | None
    closed_after: datetime | None
    closed_before: datetime | None
    parent: str | None
    id_prefix: str | None
    order: Order


def make_query(
    *,
    workflow: str | None = None,
    status: Status | None = None,
    tags: Mapping[str, str] | None = None,
    started_after: datetime | None = None,
    started_before: datetime | None = None,
    closed_after: datetime | None = None,
    closed_before: datetime | None = None,
    parent: str | None = None,
    id_prefix: str | None = None,
    order: Order = "-started",
    limit: int = 100,
    after: str | None = None,
) -> Query:
    """Return the query of these filters. Raises UsageError, or InvalidIdentifier for a parent or a prefix."""
    if status is not None and status not in STATUSES:
        raise UsageError(f"status={shown(status)}: choose one of {', '.join(STATUSES)}")
    if workflow is not None and NAME.fullmatch(workflow) is None:
        raise UsageError(f"workflow={shown(workflow)}: no workflow can have that name")
    if order not in ORDERS:
        raise UsageError(f"order={shown(order)}: choose one of {', '.join(ORDERS)}")
    if parent is not None:
        check_id(parent)
    if id_prefix is not None:
        check_id(id_prefix)
    return Query(
        workflow=workflow,
        status=status,
        limit=limit,
        after=after,
        tags=() if tags is None else tuple(check_tags(tags).items()),
        started_after=_milliseconds("started_after", started_after),
        started_before=_milliseconds("started_before", started_before),
        closed_after=_milliseconds("closed_after", closed_after),
        closed_before=_milliseconds("closed_before", closed_before),
        parent=parent,
        order=order,
        id_prefix=id_prefix,
    )


def matching(
    read: Callable[[Query], Page], query: Query, limit: int | None = None
) -> Iterator[Head]:
    """Iterate over the executions that match, page by page as `read` returns them, at most `limit` of
    them. Pages fit together whichever executions start or close in between.
    """
    found = 0
    while True:
        size = PAGE if limit is None else min(PAGE, limit - found)
        page = read(replace(query, limit=size))
        yield from page.heads
        found += len(page.heads)
        if page.next is None or found == limit:
            return
        query = replace(query, after=page.next)


def _milliseconds(name: str, when: datetime | None) -> int | None:
    if when is None:
        return None
    if not isinstance(when, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{name}={when!r}: give a datetime")
    if when.tzinfo is None:
        raise UsageError(
            f"{name}={when!r}: the time has no time zone; use for example "
            "datetime(..., tzinfo=timezone.utc)"
        )
    # Rounded up: the store has whole milliseconds, and those before `when` must not match.
    return -((_EPOCH - when) // timedelta(milliseconds=1))
