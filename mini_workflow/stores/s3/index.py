"""Index: empty objects whose keys say which executions have which status, newest start first.

An execution has a marker under its status before it has the status, and may for a moment, or after
a crash, have one under another: whoever lists looks at the execution itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Final
from urllib.parse import quote

from mini_workflow.stores.aws_clients import Clients
from mini_workflow.stores.s3.bucket import Bucket

ROOT: Final = "executions/index/"

_LATEST: Final = 10**17 - 1
"""Microseconds since the epoch from which times are counted down: the year 5138."""

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """An execution as the index knows it; `place` is where it stands in the order."""

    place: str
    execution_id: str


def place_of(execution_id: str, workflow: str, started_at: int, born: int) -> str:
    """Where an execution stands in the order: by its start (milliseconds), then by when it was
    written first (microseconds), both descending.
    """
    start, birth = _LATEST - started_at * 1000, _LATEST - born
    return f"{start:017}~{birth:017}~{quote(workflow, safe='')}~{execution_id}"


def enter(bucket: Bucket, status: str, place: str) -> None:
    """Mark that an execution has a status, or is about to."""
    bucket.put(f"{ROOT}{status}/{place}", b"")


def leave(bucket: Bucket, status: str, place: str) -> None:
    """It has it no more."""
    bucket.delete(f"{ROOT}{status}/{place}")


def entries(
    bucket: Bucket,
    clients: Clients,
    statuses: Sequence[str],
    workflow: str | None,
    after: str,
    limit: int,
) -> tuple[list[Entry], str | None]:
    """At least `limit` executions behind the place `after` that may match, in order, and the place
    to go on from; fewer of them, and None, if there are no more.
    """
    wanted = None if workflow is None else quote(workflow, safe="")
    found: list[Entry] = []
    while len(found) < limit:
        size = _PAGE if wanted is not None else min(_PAGE, limit - len(found))

        def page(status: str, after: str = after, size: int = size) -> list[str]:
            prefix = f"{ROOT}{status}/"
            keys = bucket.keys(prefix, prefix + after if after else "", size)
            return [key[len(prefix) :] for key in keys]

        pages = clients.all(page, list(statuses))
        # Behind the end of a page that is full there may be more of its status.
        ends = [keys[-1] for keys in pages if len(keys) == size]
        horizon = min(ends, default="")
        last = after
        for place in merge(*pages):
            if horizon and place > horizon:
                break
            if place != last:
                last = place
                _, _, name, execution_id = place.split("~", 3)
                if wanted is None or name == wanted:
                    found.append(Entry(place, execution_id))
        if not horizon:
            return found, None
        after = horizon
    return found, after
