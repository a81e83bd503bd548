"""Cleanup: what is deleted by itself, and what is removed of it, beside the work and a little at a time."""

from __future__ import annotations

import logging
from typing import Final

from mini_workflow.core import events
from mini_workflow.engine.deletion import deletion_of
from mini_workflow.errors import StoreError
from mini_workflow.ports import Query, Store

log = logging.getLogger("mini_workflow.engine")

DELETED_AT_ONCE: Final = 50
"""How many executions are deleted by themselves in one commit. Our own bound: a few milliseconds."""

SWEPT_AT_ONCE: Final = 1_000
"""How many events are removed in one step: a few milliseconds. Our own bound."""

NEVER: Final = 2**62

PATIENCE: Final = 10
"""How many times the work goes first while something is left to sweep. Our own bound."""

RETRY_AFTER: Final = 1_000
"""Milliseconds after which a sweep is tried again that the store refused."""


class Cleanup:
    """See the module's description. For the engine's thread.

    Args:
        store: what is swept.
        retention: milliseconds after which executions that have closed are deleted, or None.
        drops_runs: whether the store drops the events of runs that are over.

    `due` is when it has something to do: milliseconds since the epoch, or NEVER.
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
        """Look again at that time at all that has closed: others may have closed something, or what was
        to be deleted was not.
        """
        if self._retention is not None:
            self._after, self._expire_at = None, at
            self._plan()

    def expired(self, now: int) -> list[tuple[str, events.DeletionRequested]]:
        """Return executions that are to be deleted now, with the request for it. May raise StoreError."""
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
        # The same again where another process has it and has not done it yet.
        return [
            (head.execution_id, deletion_of(head, (head.closed_at or 0) + keep))
            for head in page.heads
        ]

    def sweep(self, now: int, *, busy: bool) -> None:
        """Remove a little of what is left, unless there is work that goes first."""
        if now < self._sweep_at:
            return
        self._skipped += 1
        if busy and self._skipped < PATIENCE:
            return
        self._skipped = 0
        try:
            self._sweep_at = 0 if self._store.sweep(now, SWEPT_AT_ONCE) else NEVER
        except StoreError as error:
            log.warning("what was deleted is swept later: %s", error)
            self._sweep_at = now + RETRY_AFTER
        self._plan()

    def _plan(self) -> None:
        self.due = min(self._sweep_at, self._expire_at)
