"""Retention: executions that closed long ago are deleted, a few at a time, beside the work on AWS.

Nobody runs on AWS where there is no work, so that each process of the orchestrator looks, at the end of
a batch, whether it is time. An object in the bucket says when that is and where to go on. Whoever writes
it has the next few: it asks them to delete themselves, by messages as those of `delete_execution`. If
it dies on the way, another one does the same again, which deletes nothing twice.
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
"""The object that says when it is time."""

DELETED_AT_ONCE: Final = 50
"""How many executions are looked at in one step. Our own bound: about a second beside a batch."""

CLAIMED_FOR: Final = 120_000
"""Milliseconds for which the next few are left to whoever has claimed them. Our own bound."""

NEXT_STEP: Final = 1_000
"""Milliseconds between two steps while there is more to look at. Our own bound."""

LONGEST_PAUSE: Final = 3_600_000
SHORTEST_PAUSE: Final = 60_000
"""Milliseconds between two looks at all that have closed: the 24th part of the retention, within these.
Our own bounds; a look takes some 80 requests, most of which list."""

NEEDED: Final = 20_000
"""Milliseconds that have to be left to this process for a step. Our own bound."""

RETRY_AFTER: Final = 60_000
"""Milliseconds after which a step is tried again that AWS refused."""


@frozen
class _Plan:
    """The next step: when it is due, behind which place it goes on, and the ETag of the object."""

    due: int = 0
    after: str = ""
    etag: str = ""


class Retention:
    """See the module's description. `keep` is how long executions stay that have closed, in
    milliseconds.
    """

    def __init__(self, parts: Container, keep: int) -> None:
        self._parts = parts
        self._keep = keep
        self._look_at = 0

    def work(self, left: Callable[[], int]) -> None:
        """Do a step if it is time for one, and `left` milliseconds are enough. Raises nothing: what AWS
        refuses is done later.
        """
        now = self._parts.clock.now()
        if now < self._look_at or left() < NEEDED:
            return
        try:
            self._step(now)
        except StoreError as error:
            log.warning("what has closed long ago is deleted later: %s", error)
            self._look_at = now + RETRY_AFTER

    def _step(self, now: int) -> None:
        plan = self._read()
        if plan.due > now:
            self._look_at = plan.due
            return
        claimed = self._write(plan, now + CLAIMED_FOR, plan.after)
        if claimed is None:
            self._look_at = now + NEXT_STEP  # somebody else has them
            return
        page = self._parts.store.closed(now - self._keep + 1, plan.after, DELETED_AT_ONCE)
        self._parts.post.send(
            [
                SqsMessage(
                    head.execution_id,
                    "messages",
                    wire.encode(deletion_of(head, (head.closed_at or 0) + self._keep)),
                    # One message, if this is done again soon.
                    f"expired/{head.execution_id}/{head.started_at}/{head.run}",
                )
                for head in page.heads
            ]
        )
        pause = min(max(self._keep // 24, SHORTEST_PAUSE), LONGEST_PAUSE)
        self._look_at = now + (pause if page.next is None else NEXT_STEP)
        # If that is lost, they are looked at again.
        self._write(claimed, self._look_at, page.next or "")

    def _read(self) -> _Plan:
        found = self._parts.bucket.get(KEY)
        if found is None:
            return _Plan()
        try:
            plain: Any = json.loads(found.body)
            return _Plan(int(plain["due"]), str(plain["after"]), found.etag)
        except (ValueError, KeyError, TypeError):
            return _Plan(etag=found.etag)  # whatever it is, it is written anew

    def _write(self, plan: _Plan, due: int, after: str) -> _Plan | None:
        """Write the next plan; None if somebody else has written since this one was read."""
        plain = {"due": due, "after": after, "writer": secrets.token_hex(8)}
        body, bucket = json.dumps(plain).encode(), self._parts.bucket
        etag = bucket.replace(KEY, body, plan.etag) if plan.etag else bucket.create(KEY, body)
        return None if etag is None else _Plan(due, after, etag)
