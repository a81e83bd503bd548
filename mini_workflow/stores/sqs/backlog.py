"""Backlog: executions with so many messages in the queue of events that all others would wait for them.

SQS looks for messages that it may hand out among the first 120,000 of a FIFO queue alone. Those of an
execution are handed out one batch after the other: one that gets more than it takes fills that place with
its own, and nothing else moves. So whoever takes a batch that tells of it says so in the bucket, and whoever
sends looks there.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mini_workflow.errors import MailboxFull, StoreError
from mini_workflow.stores.aws.clients import Clients, translate_errors
from mini_workflow.stores.aws.limits import (
    BACKLOG_AGE,
    BACKLOG_LASTS,
    BACKLOG_LOOK,
    BACKLOG_OVER,
    BATCH_ENTRIES,
)
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.sqs.outcomes import KEPT

log = logging.getLogger("mini_workflow.runtimes.aws")

_REMEMBERED: Final = 1_000
"""Executions that a process remembers to have sent something. Our own bound."""


class Backlog:
    """Reports on executions, by those that take from the queue, to those that send. Callable from any
    thread. `now` tells the time in milliseconds.
    """

    def __init__(
        self,
        clients: Clients,
        queue_url: Callable[[], str],
        bucket: Bucket,
        now: Callable[[], int],
    ) -> None:
        self._clients = clients
        self._queue_url = queue_url
        self._bucket = bucket
        self._now = now
        self._lock = threading.Lock()
        self._said: dict[str, int] = {}
        self._counted = 0
        self._over = False
        self._sent: OrderedDict[str, int] = OrderedDict()
        self._looked: dict[str, tuple[int, int]] = {}

    # Taking

    def note(self, execution_id: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Say that an execution is behind, if a batch of it tells so: a full one, of old messages, from a
        queue that has many. What goes wrong is logged: the next batch says it again.
        """
        now = self._now()
        if len(records) < BATCH_ENTRIES or now - _sent_at(records[0], now) < BACKLOG_AGE * 1000:
            return
        with self._lock:
            if self._said.get(execution_id, 0) > now:
                return
        try:
            if not self._is_over(now):
                return
            until = now + BACKLOG_LASTS * 1000
            self._bucket.put(_key(execution_id), str(until).encode())
        except StoreError as error:
            log.warning("[%s] it is behind, and that cannot be said: %s", execution_id, error)
            return
        log.warning(
            "[%s] it is behind in taking its messages, of which the queue of events has too many: signals to "
            "it are refused for %d s",
            *(execution_id, BACKLOG_LASTS),
        )
        with self._lock:
            # Said again before it is over.
            self._said = {name: at for name, at in self._said.items() if at > now}
            self._said[execution_id] = until - BACKLOG_LASTS * 500

    def _is_over(self, now: int) -> bool:
        with self._lock:
            if now - self._counted < BACKLOG_LOOK * 1000:
                return self._over
        url, wanted = self._queue_url(), "ApproximateNumberOfMessages"
        with translate_errors(f"asking how much is in queue {url!r}"):
            answer = self._clients.get("sqs").get_queue_attributes(
                QueueUrl=url, AttributeNames=[wanted]
            )
        over = int(answer["Attributes"][wanted]) >= BACKLOG_OVER
        with self._lock:
            self._counted, self._over = now, over
        return over

    # Sending

    def admit(self, execution_id: str) -> None:
        """Raise MailboxFull if an execution is behind: nothing has been sent then. Or StoreUnavailable."""
        if self.is_behind(execution_id):
            raise MailboxFull(
                f"execution {execution_id!r} is behind: it gets messages faster than it takes them, and the "
                f"queue of events has {BACKLOG_OVER:,} or more, which would keep all other executions "
                "waiting. Nothing was sent; try again in a minute, and send less: lists in fewer signals, or "
                "to several executions",
                execution_id=execution_id,
            )

    def is_behind(self, execution_id: str) -> bool:
        """Return whether an execution, to which this process is about to send something, is said to be
        behind. Raises StoreUnavailable.

        A process that sends it something once in a while does not look: many that do so cannot fill a queue.
        """
        now = self._now()
        with self._lock:
            last = self._sent.pop(execution_id, None)
            self._sent[execution_id] = now
            if len(self._sent) > _REMEMBERED:
                forgotten, _ = self._sent.popitem(last=False)
                self._looked.pop(forgotten, None)
            if last is None or now - last > BACKLOG_LASTS * 1000:
                return False
            at, until = self._looked.get(execution_id, (0, 0))
        if now - at >= BACKLOG_LOOK * 1000:
            until = self._until(execution_id)
            with self._lock:
                self._looked[execution_id] = (now, until)
        return until > now

    def _until(self, execution_id: str) -> int:
        found = self._bucket.get(_key(execution_id))
        text = b"" if found is None else found.body
        return int(text) if text.isdigit() else 0


def _key(execution_id: str) -> str:
    # Beside the outcomes, all of which are removed with the execution by one listing.
    return f"{KEPT}{execution_id}/behind"


def _sent_at(record: Mapping[str, Any], now: int) -> int:
    return int(record.get("attributes", {}).get("SentTimestamp", now))
