"""Index: empty objects whose keys say which executions have which status, newest start first.

An execution has a marker under its status before it has the status, and may for a moment, or after
a crash, have one under another: whoever lists looks at the execution itself. One that a client has
started has its first marker with its first turn, under the status in which that leaves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from heapq import merge
from typing import Final, Protocol
from urllib.parse import quote

from mini_workflow.core.records import frozen
from mini_workflow.stores.aws.clients import Clients

ROOT: Final = "executions/index/"

SPREAD: Final = ROOT + "spread/"
"""Below a status the markers are spread over 16 prefixes: S3 takes 3,500 writes a second below each
(S3 User Guide, "Optimizing Amazon S3 performance"), and markers in the order of time would all go to
the same. A listing asks each of them. Executions from before have theirs in ROOT itself, until they
have closed and after."""

TAGS: Final = ROOT + "tags/"
"""Below it are the markers of executions by the digest of a tag, whatever their status is."""

_LATEST: Final = 10**17 - 1
"""Microseconds since the epoch from which times are counted down: the year 5138."""

_PAGE: Final = 1_000
_SOME: Final = 12


class Markers(Protocol):
    """Empty entries by key, in order: what an index is made of. Every method raises StoreUnavailable
    when the service cannot do its part.
    """

    def put(self, key: str, body: bytes) -> None:
        """Enter the key, which may be there already; `body` is empty."""
        ...

    def delete(self, key: str) -> None:
        """Remove the key; harmless if it is not there."""
        ...

    def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return keys below a prefix, in order, beginning behind the key `after`."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """Return the prefixes below a prefix, each up to and with its next slash, in order."""
        ...


@frozen
class Entry:
    """An execution as the index knows it; `place` is where it stands in the order."""

    place: str
    execution_id: str


def place_of(execution_id: str, workflow: str, started_at: int, born: int) -> str:
    """Return where an execution stands in the order: by its start (milliseconds), then by when it
    was written first (microseconds), both descending.
    """
    start, birth = _LATEST - started_at * 1000, _LATEST - born
    return f"{start:017}~{birth:017}~{quote(workflow, safe='')}~{execution_id}"


def key_of(status: str, place: str, *, spread: bool) -> str:
    """Return the key of a marker."""
    if not spread:
        return f"{ROOT}{status}/{place}"
    return f"{SPREAD}{status}/{sha256(place.encode()).hexdigest()[0]}/{place}"


def tag_key(name: str, value: str, place: str) -> str:
    """Return the key of the marker of a tag."""
    return f"{_tag_prefix(name, value)}{place}"


def _tag_prefix(name: str, value: str) -> str:
    # Its length is bounded, whatever the value is: keys on S3 have 1,024 bytes at most.
    return f"{TAGS}{sha256(f'{name}={value}'.encode()).hexdigest()[:32]}/"


def behind(started_before: int) -> str:
    """Return the place behind which all stand that were started before that time (milliseconds)."""
    return f"{_LATEST - (started_before - 1) * 1000:017}"


def enter(markers: Markers, status: str, place: str, *, spread: bool) -> None:
    """Mark that an execution has a status, or is about to."""
    markers.put(key_of(status, place, spread=spread), b"")


def leave(markers: Markers, status: str, place: str, *, spread: bool) -> None:
    """Remove a marker of an execution that has it no more."""
    markers.delete(key_of(status, place, spread=spread))


def prefixes(markers: Markers, clients: Clients, statuses: Sequence[str]) -> list[str]:
    """Return the prefixes below which the markers of executions with these statuses are."""
    spread = clients.all(lambda status: markers.folders(f"{SPREAD}{status}/"), list(statuses))
    return [f"{ROOT}{status}/" for status in statuses] + [p for some in spread for p in some]


def tag_prefixes(tags: Sequence[tuple[str, str]]) -> list[str]:
    """Return the prefix below which the markers of executions with the first of these tags are."""
    return [_tag_prefix(*tags[0])]


def entries(
    markers: Markers,
    clients: Clients,
    below: Sequence[str],
    workflow: str | None,
    after: str,
    limit: int,
    started_after: int | None = None,
) -> tuple[list[Entry], str | None]:
    """Return at least `limit` executions with markers below these prefixes that stand behind the place
    `after` and may match, in order, and the place to go on from; fewer of them, and None, if there
    are no more.
    """
    wanted = None if workflow is None else quote(workflow, safe="")
    last_start = "" if started_after is None else f"{_LATEST - started_after * 1000:017}"
    found: list[Entry] = []
    while len(found) < limit:
        # A fair share of each prefix, and some more: what is behind the end of one comes later.
        share = 2 * (limit - len(found)) // len(below) + _SOME
        size = min(_PAGE, share if wanted is None else 8 * share)

        def page(prefix: str, after: str = after, size: int = size) -> list[str]:
            keys = markers.keys(prefix, prefix + after if after else "", size)
            return [key[len(prefix) :] for key in keys]

        pages = clients.all(page, list(below))
        # Behind the end of a page that is full there may be more of its status.
        ends = [keys[-1] for keys in pages if len(keys) == size]
        horizon = min(ends, default="")
        last = after
        for place in merge(*pages):
            if last_start and place[: len(last_start)] > last_start:
                return found, None
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
