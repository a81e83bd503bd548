"""Slot: a worker that is ready, with its attempts."""

from __future__ import annotations

from typing import Final

from mini_workflow.ports import TaskRequest
from mini_workflow.runners.attempts import Attempt
from mini_workflow.runners.processes.protocol import Key
from mini_workflow.runners.processes.worker import Worker

CLEANUP_GRACE: Final = 1.0
"""Seconds after its timeout at which an async attempt is given up that the worker did not end. This also
holds for a sync function that returns a coroutine, once the worker has said so."""
KILL_GRACE: Final = 0.1
"""Seconds after its timeout at which a worker is killed for a sync attempt. Both graces also apply after an
attempt was told that its heartbeat is missing."""


class SentAttempt(Attempt):
    """An attempt that is given to a worker."""

    __slots__ = ("awaits", "host", "last_heartbeat", "sent")

    def __init__(self, request: TaskRequest) -> None:
        super().__init__(request)
        self.host: Slot | None = None  # once it has begun
        self.sent = False
        self.awaits = request.is_async  # and can be cancelled
        self.last_heartbeat: str | None = None

    @property
    def details(self) -> str | None:
        """The details of the last heartbeat that the worker has sent."""
        return self.last_heartbeat


class Slot:
    """A worker that is ready, with its attempts: `sync` on its main thread, `running` on its loop. `doomed`
    is the reason why the engine has killed it.
    """

    __slots__ = ("doomed", "running", "sync", "worker")

    def __init__(self, worker: Worker) -> None:
        self.worker: Final = worker
        self.sync: SentAttempt | None = None
        self.running: Final[dict[Key, SentAttempt]] = {}  # the async ones
        self.doomed: str | None = None

    def find(self, key: Key) -> SentAttempt | None:
        """Return the attempt, if the worker still has it."""
        sync = self.sync
        return sync if sync is not None and sync.request.key == key else self.running.get(key)


def grace(attempt: SentAttempt) -> float:
    """Return the seconds that an attempt has to end after it was told to."""
    return CLEANUP_GRACE if attempt.awaits else KILL_GRACE
