"""Index: empty objects whose keys list the executions of each status, newest start first.

An execution has a marker under a status before it has the status, and for a moment, or after a crash,
also under another one. So a listing reads the execution itself. An execution that a client has started
gets its first marker with its first turn, under the status behind that turn.
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
"""Below a status the markers are spread over 16 prefixes, since S3 takes 3,500 writes a second below each
(S3 User Guide, "Optimizing Amazon S3 performance") and markers in the order of time would all have the
same. A listing reads all of them. Executions of older versions keep their markers in ROOT itself."""

TAGS: Final = ROOT + "tags/"
"""The prefix of the markers of executions by the digest of a tag, for every status."""

_LATEST: Final = 10**17 - 1
"""Microseconds since the epoch from which times are counted down: the year 5138."""

_PAGE: Final = 1_000
_SOME: Final = 12


class Markers(Protocol):
    """The empty entries of an index, in the order of their keys.

    Every method raises StoreUnavailable if a call of the service fails.
    """

    def put(self, key: str, body: bytes) -> None:
        """Enter the key, which may be there already; `body` is empty."""
        ...

    def delete(self, key: str) -> None:
        """Remove the key. Harmless if it is not there."""
        ...

    def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return keys below a prefix, in order, beginning behind the key `after`."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """Return the prefixes below a prefix, each up to and with its next slash, in order."""
        ...


@frozen
class Entry:
    """An entry of the index: the id of an execution, and its place in the order."""

    place: str
    execution_id: str


def place_of(execution_id: str, workflow: str, started_at: int, born: int) -> str:
    """Return the place of an execution in the order: newest start first, then newest first write.

    `started_at` is in milliseconds, `born` in microseconds, both since the epoch.
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
    # A digest bounds the length: keys on S3 have 1,024 bytes at most.
    return f"{TAGS}{sha256(f'{name}={value}'.encode()).hexdigest()[:32]}/"


def behind(started_before: int) -> str:
    """Return the place behind which all executions were started before a time in milliseconds."""
    return f"{_LATEST - (started_before - 1) * 1000:017}"


def enter(markers: Markers, status: str, place: str, *, spread: bool) -> None:
    """Mark that an execution has a status, or will have it."""
    markers.put(key_of(status, place, spread=spread), b"")


def leave(markers: Markers, status: str, place: str, *, spread: bool) -> None:
    """Remove the marker of a status that an execution no longer has."""
    markers.delete(key_of(status, place, spread=spread))


def prefixes(markers: Markers, clients: Clients, statuses: Sequence[str]) -> list[str]:
    """Return the prefixes of the markers of executions with these statuses."""
    spread = clients.all(lambda status: markers.folders(f"{SPREAD}{status}/"), list(statuses))
    return [f"{ROOT}{status}/" for status in statuses] + [p for some in spread for p in some]


def tag_prefixes(tags: Sequence[tuple[str, str]]) -> list[str]:
    """Return the prefix of the markers of executions with the first of these tags."""
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
    """Return at least `limit` entries that may match, in order, and the place to go on from.

    The entries have markers below the prefixes `below`, and stand behind the place `after`. Returns
    fewer, and None, if there are no more.
    """
    wanted = None if workflow is None else quote(workflow, safe="")
    last_start = "" if started_after is None else f"{_LATEST - started_after * 1000:017}"
    found: list[Entry] = []
    while len(found) < limit:
        # A fair share of each prefix, and some more. Entries behind the end of a page come later.
        share = 2 * (limit - len(found)) // len(below) + _SOME
        size = min(_PAGE, share if wanted is None else 8 * share)

        def page(prefix: str, after: str = after, size: int = size) -> list[str]:
            keys = markers.keys(prefix, prefix + after if after else "", size)
            return [key[len(prefix) :] for key in keys]

        pages = clients.all(page, list(below))
        # Behind the end of a full page there may be more of its status.
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
