"""Hold: keeps the messages of a batch from being delivered again while this process works on them.

The queue's own visibility timeout has to be longer than the function may run. When a process dies, the
executions whose messages it had would wait for that long. So the messages are held for some seconds at a
time. Each call costs as much as the write of a small turn: a batch that is over in a moment, and has messages
of one execution only, is not held.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mini_workflow.stores.aws.clients import Clients, translate_errors
from mini_workflow.stores.aws.limits import BATCH_ENTRIES
from mini_workflow.threads import join_thread, start_thread

log = logging.getLogger("mini_workflow.runtimes.aws")

HELD: Final = 15
"""Seconds for which messages are held, and rest when their process has died. Our own bound."""

WAITING: Final = 4
"""Seconds for which messages are held that wait behind one that may end the process. Our own bound."""

PAUSE: Final = 1.0
"""Seconds between two looks whether the messages have to be held for longer. Our own bound."""

Records = Sequence[dict[str, Any]]


class Hold:
    """Holds the groups of one batch: `at_once`, or when the batch takes longer than a moment. `groups` are
    the records by execution. With `threaded` a thread of its own extends the hold; without it nothing does.
    """

    def __init__(
        self,
        clients: Clients,
        queue_url: Callable[[], str],
        groups: Mapping[str, Records],
        *,
        at_once: bool = True,
        threaded: bool = True,
    ) -> None:
        self._at_once = at_once
        self._clients = clients
        self._queue_url = queue_url
        self._groups = groups
        self._alone: str | None = None
        self._over = threading.Event()
        self._held = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        if threaded:
            name = "mini-workflow-hold"
            self._thread = threading.Thread(target=self._renew, name=name, daemon=True)
            start_thread(self._thread)
        elif at_once:
            self._change()

    def wait(self) -> None:
        """Wait until the messages are held, or cannot be held. Returns at once without `at_once`."""
        if self._at_once and self._thread is not None:
            self._held.wait()

    def single_out(self, name: str) -> None:
        """Hold all other messages for WAITING seconds only, while the messages of this group are handled,
        which may end the process.
        """
        with self._lock:
            self._alone = name
        self._change()

    def end(self) -> None:
        """End the hold. No message is changed any more after that."""
        self._over.set()
        join_thread(self._thread)

    def _renew(self) -> None:
        waited = float(HELD)
        if self._at_once:
            self._change()
            self._held.set()
            waited = 0.0
        while not self._over.wait(PAUSE):
            waited += PAUSE
            if waited >= (HELD if self._alone is None else WAITING) / 2:
                self._change()
                waited = 0.0

    def _change(self) -> None:
        with self._lock:
            changes = [
                (record, HELD if self._alone in (None, name) else WAITING)
                for name, records in self._groups.items()
                for record in records
            ]
            change_visibility(self._clients, self._queue_url, changes)


def change_visibility(
    clients: Clients, queue_url: Callable[[], str], changes: Sequence[tuple[dict[str, Any], int]]
) -> None:
    """Have messages delivered again after so many seconds, given as (record, seconds). Errors are logged, and
    not raised: the messages then come again after the visibility timeout of their queue.
    """
    for start in range(0, len(changes), BATCH_ENTRIES):
        entries = [
            {
                "Id": str(number),
                "ReceiptHandle": record["receiptHandle"],
                "VisibilityTimeout": seconds,
            }
            for number, (record, seconds) in enumerate(changes[start : start + BATCH_ENTRIES])
        ]
        try:
            url = queue_url()
            with translate_errors(f"changing the visibility of messages in queue {url!r}"):
                clients.get("sqs").change_message_visibility_batch(QueueUrl=url, Entries=entries)
        except Exception as error:
            log.warning("messages will come again later than asked for: %s", error)
