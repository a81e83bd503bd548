"""Pages of a listing, for stores that have all heads at hand."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mini_workflow.errors import UsageError
from mini_workflow.ports import Head, Page, Query


def page_of(found: Iterable[tuple[int, Head]], query: Query) -> Page:
    """Return a page of the heads that match. Each comes with a number that grows with the creation
    of its execution. Raises UsageError as `Store.list`.
    """
    before = page_start(query)
    matching = (
        ((head.started_at, number), head)
        for number, head in found
        if query.workflow in {None, head.workflow} and query.status in {None, head.status}
    )
    rest = [one for one in matching if before is None or one[0] < before]
    rest.sort(key=lambda one: one[0], reverse=True)
    page = rest[: query.limit]
    more = len(rest) > query.limit
    return Page([head for _, head in page], "{}-{}".format(*page[-1][0]) if more else None)


def page_start(query: Query) -> tuple[int, int] | None:
    """Return the place in a listing behind which a page begins, as (start, number of creation); None
    for the first page. Raises UsageError as `Store.list`.
    """
    if query.limit < 1:
        raise UsageError(f"the limit of a listing must be 1 or more, not {query.limit}")
    after = query.after
    if after is None:
        return None
    match = re.fullmatch(r"(-?\d{1,18})-(\d{1,18})", after, re.ASCII)
    if match is None:
        raise UsageError(f"not a page of a listing: {after!r}; pass the `next` of the page before")
    return int(match[1]), int(match[2])
