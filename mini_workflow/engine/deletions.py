"""Delete one execution, or many, for a client."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from mini_workflow.core.records import replace
from mini_workflow.core.validation import check_id, check_reason
from mini_workflow.durations import MAXIMUM_DURATION, milliseconds, seconds
from mini_workflow.engine.deletion import deletion_of, not_closed, run_again_before
from mini_workflow.engine.find import Filters, make_query
from mini_workflow.engine.replies import existing
from mini_workflow.engine.requests import Post
from mini_workflow.engine.run_again import LOOK_AGAIN, tell_asked
from mini_workflow.engine.transport import CheckedStore, Transport
from mini_workflow.errors import ExecutionNotClosed, ExecutionNotFound, UsageError
from mini_workflow.ports import CLOSED, Head, Query, Status

DELETED_WITHIN: Final = 60.0
"""Seconds for which `delete` waits for another process that has the execution. Our own bound."""

PURGED_AT_ONCE: Final = 500
"""How many executions `purge` has deleted together: as many as it has in memory. Our own bound."""


class Deletions:
    """Callable from any thread."""

    def __init__(self, transport: Transport, store: CheckedStore) -> None:
        self._transport = transport
        self._store = store

    def delete(self, execution_id: str, reason: str = "", by: str = "") -> None:
        """Delete an execution. Raises what `Execution.delete` raises."""
        check_id(execution_id)
        check_reason(reason, by)
        head = existing(execution_id, self._store.head(execution_id))
        if (refusal := not_closed(head)) is not None:
            raise refusal
        request = self._request(head)
        self._transport.post([request])
        request.reply.wait()
        tell_asked(head, "delete", by, reason)
        if self._is_gone(head):
            return
        ends = time.monotonic() + DELETED_WITHIN
        with self._transport.watch(execution_id) as wait:
            while not self._is_gone(head):
                left = ends - time.monotonic()
                if left <= 0:
                    raise TimeoutError(
                        f"the process that has execution {execution_id!r} has not deleted it within "
                        f"{DELETED_WITHIN:g} s: it was asked to, and does so once it works again"
                    )
                wait(min(LOOK_AGAIN, left))

    def _is_gone(self, head: Head) -> bool:
        """Return whether it is not there any more. Raises ExecutionNotClosed if it was run again instead."""
        found = self._store.head(head.execution_id)
        if found is None or found.started_at != head.started_at:
            return True
        if found.run == head.run:
            return False
        raise run_again_before(head.execution_id)

    def purge(
        self, query: Query, progress: Callable[[int], None], reason: str = "", by: str = ""
    ) -> int:
        """Delete all that match, some at a time; answers how many, and tells `progress` so after
        each of the steps.
        """
        check_reason(reason, by)
        done = 0
        while True:
            page = self._store.list(query)
            heads = [head for head in page.heads if head.closed_at is not None]
            requests = [self._request(head) for head in heads]
            if requests:
                self._transport.post(requests)
                for head, request in zip(heads, requests, strict=True):
                    # By somebody else, or it was run again meanwhile.
                    with contextlib.suppress(ExecutionNotFound, ExecutionNotClosed):
                        request.reply.wait()
                        done += 1
                        tell_asked(head, "delete", by, reason)
                progress(done)
            if page.next is None:
                return done
            query = replace(query, after=page.next)

    def _request(self, head: Head) -> Post:
        return Post(head.execution_id, deletion_of(head, self._transport.now()))

    def query(
        self,
        older_than: float | timedelta | None,
        workflow: str | None,
        status: Status | None,
        filters: Filters,
    ) -> Query:
        """Return the query for what is to be deleted. Raises UsageError."""
        if status is not None and status not in CLOSED:
            raise UsageError(
                f"purge(status={status!r}): only what has closed can be deleted: choose one of "
                f"{', '.join(CLOSED)}"
            )
        if "order" in filters:
            raise UsageError("purge(order=...): all that match are deleted, in no order")
        given = [name for name, value in filters.items() if value is not None]
        if older_than is None and workflow is None and status is None and not given:
            raise UsageError(
                "purge: which executions? Give older_than, workflow, status, tags or another filter; "
                "older_than=0 for all that have closed"
            )
        now = self._transport.now()
        if older_than is not None and filters.get("closed_before") is not None:
            raise UsageError("purge: give older_than or closed_before, not both")
        query = make_query(workflow=workflow, status=status, limit=PURGED_AT_ONCE, **filters)
        if query.closed_before is None:
            keep = 0 if older_than is None else _checked("purge(older_than", older_than)
            query = replace(query, closed_before=now - keep + 1)
        return query


def retention_of(retention: float | timedelta) -> int:
    """Return a retention in milliseconds. Raises UsageError."""
    keep = _checked("retention", retention)
    if keep < 1:
        raise UsageError(f"retention={retention!r}: give more than 0 seconds, or None to keep all")
    return keep


def _checked(what: str, value: float | timedelta) -> int:
    keep = milliseconds(seconds(value))
    if not 0 <= keep <= MAXIMUM_DURATION:
        raise UsageError(f"{what}={value!r}: give 0 seconds or more, up to a hundred years")
    return keep
