"""Delete executions that have closed: decide, refuse, make the turn, and sweep the rest in the store."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from mini_workflow.core import events
from mini_workflow.core.events import Message
from mini_workflow.core.records import replace
from mini_workflow.engine.requests import Post
from mini_workflow.engine.turn_data import Delivery, Turn
from mini_workflow.errors import ExecutionNotClosed, StoreError
from mini_workflow.ports import Commit, Head, Query, Store


def deletion_of(head: Head, at: int) -> events.DeletionRequested:
    """Return the request to delete the execution as it is now."""
    return events.DeletionRequested(at, head.run, head.started_at)


def is_meant(request: events.DeletionRequested, head: Head) -> bool:
    """Return whether the execution is still in the run that the request is about."""
    return (request.run, request.started_at) == (head.run, head.started_at)


def deletion_asked(messages: Iterable[Message], head: Head) -> bool:
    """Return whether an execution is to be deleted. A request before that for another run comes first."""
    for message in messages:
        if isinstance(message, events.ResetRequested):
            return False
        if isinstance(message, events.DeletionRequested) and is_meant(message, head):
            return head.closed_at is not None
    return False


def deletion_turn(delivery: Delivery, head: Head, length: int, now: int) -> Turn:
    """Return the turn that deletes an execution of `length` events at the time `now`. No code of it runs."""
    commit = Commit(delivery.execution_id, length, deleted_at=now)
    return Turn(delivery, commit, replace(head, busy=False, wake_at=None), None)


def deletion_refusal(request: events.DeletionRequested, head: Head) -> ExecutionNotClosed | None:
    """Return the error by which the deletion of an execution is refused now, or None."""
    return not_closed(head, "" if is_meant(request, head) else " again")


def not_closed(head: Head, again: str = "") -> ExecutionNotClosed | None:
    """Return the error about the deletion of an execution that is open, perhaps `again`; None if it has
    closed.
    """
    if head.closed_at is not None:
        return None
    name = head.execution_id
    return ExecutionNotClosed(
        f"execution {name!r} is {head.status}{again}, and only what has closed can be deleted: wait for "
        "its end, or call terminate(); nothing was changed",
        execution_id=name,
    )


def run_again_before(name: str) -> ExecutionNotClosed:
    """Return the error about the deletion of an execution that was run again before."""
    return ExecutionNotClosed(
        f"execution {name!r} was run again before it was deleted; nothing was deleted. Wait for its end, "
        "and delete it then",
        execution_id=name,
    )


def asks_to_delete(request: object) -> bool:
    """Return whether the request asks for a deletion."""
    return isinstance(request, Post) and isinstance(request.message, events.DeletionRequested)


log = logging.getLogger("mini_workflow.engine")

DELETED_AT_ONCE: Final = 50
"""The number of executions that the retention deletes in one commit. Our own bound: a few milliseconds."""

SWEPT_AT_ONCE: Final = 1_000
"""The number of events that are removed in one step: a few milliseconds. Our own bound."""

NEVER: Final = 2**62

PATIENCE: Final = 10
"""The number of batches that go first while events are left to sweep. Our own bound."""

RETRY_AFTER: Final = 1_000
"""Milliseconds after which a sweep is tried again when the store has failed."""


class Cleanup:
    """Deletes by retention, and sweeps, beside the work and a little at a time. For the engine's thread.

    Args:
        store: the store to sweep.
        retention: milliseconds after which executions that have closed are deleted, or None.
        drops_runs: whether the store drops the events of runs that are over.

    `due` is the time of the next step: milliseconds since the epoch, or NEVER.
    """

    def __init__(self, store: Store, retention: int | None, *, drops_runs: bool = False) -> None:
        self.due = 0
        self._store = store
        self._retention = retention
        self._drops_runs = drops_runs
        self._sweep_at = 0  # somebody before may have left something
        self._expire_at = NEVER if retention is None else 0
        self._after: str | None = None
        self._skipped = 0

    def closed(self, at: int) -> None:
        """Note that an execution has closed at that time."""
        if self._retention is not None and at + self._retention < self._expire_at:
            self._expire_at = at + self._retention
            self._plan()

    def deleted(self) -> None:
        """Note that an execution was deleted."""
        self._sweep_at = 0
        self._plan()

    def continued(self) -> None:
        """Note that a run has ended, and another one begun."""
        if self._drops_runs:
            self.deleted()

    def look_again(self, at: int = 0) -> None:
        """Look again, at the time `at`, at all closed executions: other processes may have closed some, or a
        deletion may have failed.
        """
        if self._retention is not None:
            self._after, self._expire_at = None, at
            self._plan()

    def expired(self, now: int) -> list[tuple[str, events.DeletionRequested]]:
        """Return the ids of executions to delete now, each with its request. Raises StoreError."""
        keep = self._retention
        if keep is None or now < self._expire_at:
            return []
        ends = now - keep + 1
        query = Query(closed_before=ends, order="closed", limit=DELETED_AT_ONCE, after=self._after)
        page = self._store.list(query)
        if page.next is None:
            later = self._store.list(Query(closed_after=ends, order="closed", limit=1)).heads
            ended = later[0].closed_at if later else None
            self._expire_at = NEVER if ended is None else ended + keep
        self._after = page.next
        self._plan()
        # The same request again, where another process has the execution and has not deleted it yet.
        return [
            (head.execution_id, deletion_of(head, (head.closed_at or 0) + keep))
            for head in page.heads
        ]

    def sweep(self, now: int, *, busy: bool) -> None:
        """Remove some of the events that are left, unless work goes first."""
        if now < self._sweep_at:
            return
        self._skipped += 1
        if busy and self._skipped < PATIENCE:
            return
        self._skipped = 0
        try:
            self._sweep_at = 0 if self._store.sweep(now, SWEPT_AT_ONCE) else NEVER
        except StoreError as error:
            log.warning(
                "events of deleted executions cannot be removed now; trying again in %d ms: %s",
                *(RETRY_AFTER, error),
            )
            self._sweep_at = now + RETRY_AFTER
        self._plan()

    def _plan(self) -> None:
        self.due = min(self._sweep_at, self._expire_at)
