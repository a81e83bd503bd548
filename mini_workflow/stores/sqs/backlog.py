"""Backlog: refuses signals to executions whose messages fill the queue of events.

SQS looks for messages to hand out only among the first 120,000 of a FIFO queue, and hands out one batch
of an execution after the other. An execution that gets messages faster than it takes them fills these
120,000, and all others stop. So a receiver that gets a batch of old messages marks the execution in the
bucket, and senders read the mark.
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
"""Executions whose last message a process remembers. Our own bound."""


class Backlog:
    """Marks of executions that are behind, written by receivers and read by senders. Any thread.

    `now` returns the time in milliseconds.
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
        self._noted: dict[str, int] = {}
        self._counted = 0
        self._over = False
        self._sent: OrderedDict[str, int] = OrderedDict()
        self._looked: dict[str, tuple[int, int]] = {}

    # Taking

    def note(self, execution_id: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Mark an execution as behind, if its batch is full, its messages are old, and the queue is long.

        Errors are logged, since the next batch marks it again.
        """
        now = self._now()
        if len(records) < BATCH_ENTRIES or now - _sent_at(records[0], now) < BACKLOG_AGE * 1000:
            return
        with self._lock:
            if self._noted.get(execution_id, 0) > now:
                return
        try:
            if not self._is_over(now):
                return
            until = now + BACKLOG_LASTS * 1000
            self._bucket.put(_key(execution_id), str(until).encode())
        except StoreError as error:
            log.warning(
                "[%s] the execution is behind, and cannot be marked: %s", execution_id, error
            )
            return
        log.warning(
            "[%s] the execution is behind, and the queue of events has too many of its messages: signals "
            "to it are refused for %d s",
            *(execution_id, BACKLOG_LASTS),
        )
        with self._lock:
            # Mark it again before the mark ends.
            self._noted = {name: at for name, at in self._noted.items() if at > now}
            self._noted[execution_id] = until - BACKLOG_LASTS * 500

    def _is_over(self, now: int) -> bool:
        with self._lock:
            if now - self._counted < BACKLOG_LOOK * 1000:
                return self._over
        url, wanted = self._queue_url(), "ApproximateNumberOfMessages"
        with translate_errors(f"reading the length of queue {url!r}"):
            answer = self._clients.get("sqs").get_queue_attributes(
                QueueUrl=url, AttributeNames=[wanted]
            )
        over = int(answer["Attributes"][wanted]) >= BACKLOG_OVER
        with self._lock:
            self._counted, self._over = now, over
        return over

    # Sending

    def admit(self, execution_id: str) -> None:
        """Raise MailboxFull if an execution is behind, or StoreUnavailable. Nothing was sent then."""
        if self.is_behind(execution_id):
            raise MailboxFull(
                f"execution {execution_id!r} is behind: it gets messages faster than it takes them, and the "
                f"queue of events has {BACKLOG_OVER:,} or more, which would make all other executions wait. "
                "Nothing was sent. Try again in a minute, and send fewer messages: lists of values, or to "
                "several executions",
                execution_id=execution_id,
            )

    def is_behind(self, execution_id: str) -> bool:
        """Return whether an execution is marked as behind, before a message to it. Raises StoreUnavailable.

        A process that has sent it nothing for a while does not read the mark: such senders do not fill a
        queue.
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
    # Beside the outcomes, which a deletion removes with one listing.
    return f"{KEPT}{execution_id}/behind"


def _sent_at(record: Mapping[str, Any], now: int) -> int:
    return int(record.get("attributes", {}).get("SentTimestamp", now))
