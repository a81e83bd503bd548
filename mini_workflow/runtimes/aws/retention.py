"""Retention: deletes executions that closed long ago, a few at a time, beside the work on AWS.

On AWS no process runs without work. So each process of the orchestrator looks, at the end of a batch, whether
the next step is due. An object in the bucket says when it is due and where it goes on. The process that
writes the object takes the next few executions: it sends them the messages of `delete_execution`. If it dies
on the way, another process repeats the step, which deletes nothing twice.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

from mini_workflow.core import wire
from mini_workflow.core.records import frozen
from mini_workflow.engine.deletion import deletion_of
from mini_workflow.errors import StoreError
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.stores.s3.index import ROOT
from mini_workflow.stores.sqs.messages import SqsMessage

log = logging.getLogger("mini_workflow.runtimes.aws")

KEY: Final = f"{ROOT}retention.json"
"""The key of the object that says when the next step is due."""

DELETED_AT_ONCE: Final = 50
"""The number of executions in one step. Our own bound: about a second beside a batch."""

CLAIMED_FOR: Final = 120_000
"""Milliseconds for which the next few executions are left to the process that has claimed them. Our own
bound."""

NEXT_STEP: Final = 1_000
"""Milliseconds between two steps while there is more to look at. Our own bound."""

LONGEST_PAUSE: Final = 3_600_000
SHORTEST_PAUSE: Final = 60_000
"""Milliseconds between two looks at all closed executions: the 24th part of the retention, within these
bounds. Our own bounds; a look takes some 80 requests, most of which list."""

NEEDED: Final = 20_000
"""Milliseconds that have to be left to this process for a step. Our own bound."""

RETRY_AFTER: Final = 60_000
"""Milliseconds after which a step is tried again when AWS has failed."""


@frozen
class _Plan:
    """The next step: the time at which it is `due`, the place `after` which it goes on, and the `etag` of the
    object.
    """

    due: int = 0
    after: str = ""
    etag: str = ""


class Retention:
    """See the module's description. `keep` is the time for which closed executions stay, in milliseconds."""

    def __init__(self, parts: Container, keep: int) -> None:
        self._parts = parts
        self._keep = keep
        self._look_at = 0

    def work(self, left: Callable[[], int]) -> None:
        """Do a step if one is due, and enough milliseconds are `left`. Does not raise StoreError: a step that
        fails is done later.
        """
        now = self._parts.clock.now()
        if now < self._look_at or left() < NEEDED:
            return
        try:
            self._step(now)
        except StoreError as error:
            log.warning(
                "executions whose retention has passed cannot be deleted now; trying again in %d s: %s",
                *(RETRY_AFTER // 1_000, error),
            )
            self._look_at = now + RETRY_AFTER

    def _step(self, now: int) -> None:
        plan = self._read()
        if plan.due > now:
            self._look_at = plan.due
            return
        claimed = self._write(plan, now + CLAIMED_FOR, plan.after)
        if claimed is None:
            self._look_at = now + NEXT_STEP  # another process has them
            return
        page = self._parts.store.closed(now - self._keep + 1, plan.after, DELETED_AT_ONCE)
        self._parts.post.send(
            [
                SqsMessage(
                    head.execution_id,
                    "messages",
                    wire.encode(deletion_of(head, (head.closed_at or 0) + self._keep)),
                    # The same key, so that a repeated step sends no second message soon.
                    f"expired/{head.execution_id}/{head.started_at}/{head.run}",
                )
                for head in page.heads
            ]
        )
        pause = min(max(self._keep // 24, SHORTEST_PAUSE), LONGEST_PAUSE)
        self._look_at = now + (pause if page.next is None else NEXT_STEP)
        # If this write is lost, the step is repeated.
        self._write(claimed, self._look_at, page.next or "")

    def _read(self) -> _Plan:
        found = self._parts.bucket.get(KEY)
        if found is None:
            return _Plan()
        try:
            plain: Any = json.loads(found.body)
            return _Plan(int(plain["due"]), str(plain["after"]), found.etag)
        except (ValueError, KeyError, TypeError):
            return _Plan(etag=found.etag)  # an unreadable plan is written anew

    def _write(self, plan: _Plan, due: int, after: str) -> _Plan | None:
        """Write the next plan, and return it; None if another process has written one since the read."""
        plain = {"due": due, "after": after, "writer": secrets.token_hex(8)}
        body, bucket = json.dumps(plain).encode(), self._parts.bucket
        etag = bucket.replace(KEY, body, plan.etag) if plan.etag else bucket.create(KEY, body)
        return None if etag is None else _Plan(due, after, etag)
