"""List the executions that match a query, in order and in pages, for stores with all heads in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mini_workflow.core.tags import tags_from_text
from mini_workflow.errors import UsageError
from mini_workflow.ports import Head, Page, Query


def page_of(found: Iterable[tuple[int, Head]], query: Query) -> Page:
    """Return a page of the heads that match. Raises UsageError as `Store.list`.

    `found` has pairs of a number, which grows in the order of creation, and a head.
    """
    before = page_start(query)
    descending = query.order.startswith("-")
    rest: list[tuple[tuple[int, int], Head]] = []
    for number, head in found:
        place = (ordered_by(head, query), number)
        behind = before is None or (place < before if descending else place > before)
        if behind and matches(head, query):
            rest.append((place, head))
    rest.sort(key=lambda one: one[0], reverse=descending)
    page = rest[: query.limit]
    more = len(rest) > query.limit
    return Page([head for _, head in page], "{}-{}".format(*page[-1][0]) if more else None)


def count_of(heads: Iterable[Head], query: Query) -> int:
    """Return how many of the heads match."""
    return sum(matches(head, query) for head in heads)


def matches(head: Head, query: Query) -> bool:
    """Return whether an execution matches the query."""
    return (
        query.workflow in (None, head.workflow)
        and query.status in (None, head.status)
        and query.parent in (None, head.parent)
        and (query.id_prefix is None or head.execution_id.startswith(query.id_prefix))
        and _within(head.started_at, query.started_after, query.started_before)
        and (
            not is_about_the_end(query)
            or (
                head.closed_at is not None
                and _within(head.closed_at, query.closed_after, query.closed_before)
            )
        )
        and (not query.tags or set(query.tags) <= tags_from_text(head.tags).items())
    )


def is_about_the_end(query: Query) -> bool:
    """Return whether the query matches only executions that have closed."""
    return (
        query.order.endswith("closed")
        or query.closed_after is not None
        or query.closed_before is not None
    )


def ordered_by(head: Head, query: Query) -> int:
    """Return the time by which a listing orders the execution, in milliseconds."""
    return (head.closed_at or 0) if query.order.endswith("closed") else head.started_at


def page_start(query: Query) -> tuple[int, int] | None:
    """Return the place behind which a page begins, as (time, number of creation).

    None for the first page. Raises UsageError as `Store.list`.
    """
    if query.limit < 1:
        raise UsageError(f"the limit of a listing must be 1 or more, not {query.limit}")
    after = query.after
    if after is None:
        return None
    match = re.fullmatch(r"(-?\d{1,18})-(\d{1,18})", after, re.ASCII)
    if match is None:
        raise UsageError(
            f"after={after!r} is no page of a listing: pass the `next` of the page before"
        )
    return int(match[1]), int(match[2])


def _within(at: int, first: int | None, end: int | None) -> bool:
    return (first is None or at >= first) and (end is None or at < end)
