"""Define the commands of a decision: immutable, named by verbs, sent only after the commit."""

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

    `heartbeat` encodes the details of the last heartbeat of the attempts before. `worker` names the
    worker that is to run the attempt; empty is the default one. `headers` are those of the execution.
    `scheduled_at` is the time at which the attempt was due (milliseconds since the epoch).
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
    """Tell the runner of a task that its result is not needed any more, with the reason if there is one."""

    seq: int
    reason: str = ""


@record
class StartTimer:
    """Deliver a TimerFired at `fire_at` (milliseconds since the epoch), never earlier."""

    seq: int
    fire_at: int


@record
class CancelTimer:
    """Cancel a timer. It may still fire, without effect."""

    seq: int


@record
class StartChild:
    """Start a child execution, whose parent receives its outcome. `worker` names the worker of all its
    tasks; empty leaves the choice to each task.

    A `detached` execution has no parent. `notify` may name a signal that the execution which started it
    receives when it has closed.
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
        """Return the `parent` of its first event: the execution that starts it, as plain JSON."""
        about: dict[str, Any] = {"id": execution_id, "seq": self.seq}
        if self.detached:
            return {**about, "notify": self.notify} if self.notify else None
        return about


@record
class SendMessage:
    """Deliver a message to another execution. `key` stays the same when the message is sent again."""

    execution_id: str
    message: Event | UnrecordedMessage | Request
    key: str


Command = RunTask | CancelTask | StartTimer | CancelTimer | StartChild | SendMessage
