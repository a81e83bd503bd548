"""Define the commands of a decision: frozen, imperative, sent only after the commit."""

from __future__ import annotations

from typing import Any

from mini_workflow.core.codec import CapturedCall
from mini_workflow.core.events import Event, Request, UnrecordedMessage
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import record
from mini_workflow.core.timing import UNTIMED, Timing


@record
class RunTask:
    """Run one attempt of a task. `payload` is the captured call; the timeouts are milliseconds.

    `heartbeat` encodes the details that the attempts before have given last with a heartbeat.
    `worker` names the worker that is to run it; empty is the default one. `headers` are those of the
    execution. `scheduled_at` is when it was to be made (milliseconds since the epoch).
    """

    seq: int
    attempt: int
    name: str
    payload: CapturedCall
    timeout: int | None
    is_async: bool
    heartbeat_timeout: int | None = None
    heartbeat: Payload | None = None
    worker: str = ""
    headers: dict[str, str] | None = None
    scheduled_at: int = 0


@record
class CancelTask:
    """Tell whoever runs the task that nobody waits for it any more, and why if that is known."""

    seq: int
    reason: str = ""


@record
class StartTimer:
    """Deliver a TimerFired at `fire_at` (milliseconds since the epoch), never earlier."""

    seq: int
    fire_at: int


@record
class CancelTimer:
    """A timer is not needed any more; it may still fire, to no effect."""

    seq: int


@record
class StartChild:
    """Start an execution whose parent this one is; tell the parent what becomes of it. `worker` is
    that of all its tasks, if they are for one.

    One that is `detached` has no parent: with `notify`, the name of a signal, the execution that has
    started it is told when it has closed.
    """

    seq: int
    execution_id: str
    workflow: str
    arguments: Payload
    timing: Timing = UNTIMED
    detached: bool = False
    notify: str = ""
    worker: str = ""
    tags: dict[str, str] | None = None
    headers: dict[str, str] | None = None

    def parent(self, execution_id: str) -> dict[str, Any] | None:
        """Return what the first event says of the execution that has started it."""
        about: dict[str, Any] = {"id": execution_id, "seq": self.seq}
        if self.detached:
            return {**about, "notify": self.notify} if self.notify else None
        return about


@record
class SendMessage:
    """Deliver a message to another execution. `key` is the same whenever it is sent again."""

    execution_id: str
    message: Event | UnrecordedMessage | Request
    key: str


Command = RunTask | CancelTask | StartTimer | CancelTimer | StartChild | SendMessage
