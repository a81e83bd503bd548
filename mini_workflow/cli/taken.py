"""Wait until a request has been taken, so that the next command of a script finds its effect."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from threading import Event
from typing import Final

from mini_workflow.engine.client import Client
from mini_workflow.errors import ExecutionNotFound

PATIENCE: Final = 10.0
"""Seconds that a command waits in all. The request is saved before, and is taken later if not by then."""


def wait_until_taken(client: Client, verb: str, execution_ids: Iterable[str]) -> str | None:
    """Wait until the process that runs these executions has taken a request to them.

    Returns the first execution that has not got it after `PATIENCE`, or None. A request whose effect cannot
    be told from what was before (cancel, resume) is not waited for.
    """
    shows = _TAKEN.get(verb)
    if shows is None:
        return None
    ends = time.monotonic() + PATIENCE
    for execution_id in execution_ids:
        changed = Event()
        with client.changes(execution_id, changed.set) as pauses:
            while not _is_taken(shows, client, execution_id):
                left = ends - time.monotonic()
                if left <= 0:
                    return execution_id
                changed.wait(pauses.take(left))
                changed.clear()
    return None


def _is_taken(shows: Callable[[Client, str], bool], client: Client, execution_id: str) -> bool:
    try:
        return shows(client, execution_id)
    except ExecutionNotFound:  # deleted since
        return True


def _runs_again(client: Client, execution_id: str) -> bool:
    return client.head(execution_id).run > client.again.over.get(execution_id, 0)


def _has_closed(client: Client, execution_id: str) -> bool:
    return client.head(execution_id).closed_at is not None


def _stands_still(client: Client, execution_id: str) -> bool:
    head = client.head(execution_id)
    return head.status == "blocked" or head.closed_at is not None


_TAKEN: Final[Mapping[str, Callable[[Client, str], bool]]] = {
    "pause": _stands_still,
    "restart": _runs_again,
    "retry": _runs_again,
    "terminate": _has_closed,
}
