"""Tell the code of a task about the attempt that runs it: current_task()."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from mini_workflow.attempts import CLOSING
from mini_workflow.core.codec import Codec
from mini_workflow.core.payload import Payload
from mini_workflow.errors import TaskCancelled, UsageError
from mini_workflow.ports import TaskRequest
from mini_workflow.ports.transactions import TaskTransactions
from mini_workflow.stream_buffer import StreamSink
from mini_workflow.task_stream import TaskStream, TaskStreams
from mini_workflow.task_transaction import TaskTransaction


class Beating(Protocol):
    """A listener to the heartbeats of an attempt."""

    def beat(self, details: str | None) -> None:
        """Take in a heartbeat: the details given last, as JSON text. Any thread; never raises."""
        ...


class CurrentTask:
    """The attempt that runs the calling code; `current_task` gives it."""

    __slots__ = (
        "_beating",
        "_cancelled",
        "_deadline",
        "_on_cancel",
        "begun",
        "codec",
        "details",
        "heard_at",
        "on_await",
        "on_wait",
        "ran_on",
        "request",
        "sink",
        "stops_early",
        "streams",
        "transactions",
    )

    def __init__(self, request: TaskRequest, beating: Beating | None = None) -> None:
        """Of an attempt that begins now; `beating` hears its heartbeats."""
        timeout = request.timeout
        self.request: Final = request
        self.codec: Codec | None = None
        """What encodes the details of heartbeats; set by who runs the code of the task."""
        self.begun = 0
        self.ran_on = ""
        """When and where it began, as in TaskOutcome; set by who runs it, if it is to be told."""
        self.details: str | None = None
        """The details that this attempt gave last, as JSON text; None if it gave none."""
        self.heard_at = 0
        """When the last heartbeat was given, in milliseconds since the epoch; 0 if none was."""
        self.on_wait: Callable[[TaskRequest], AbstractContextManager[None]] | None = None
        """Surrounds a wait of the code for an execution; set by a runner that needs to know. It does not
        refer to this attempt, which would be left to the garbage collector otherwise."""
        self.on_await: Callable[[], None] | None = None
        """Called when a sync function turns out to have given something to await, which can be
        cancelled; set by a runner that needs to know."""
        self._deadline = None if timeout is None else time.time() + timeout / 1000
        """In seconds since the epoch."""
        self._beating = beating
        self.stops_early = False
        """Whether the code has seen that the runtime closes: what it returns is no result."""
        self._cancelled: str | None = None
        self._on_cancel: Callable[[], None] | None = None
        self.sink: StreamSink | None = None
        """Where what the code writes to streams goes; set by who runs it."""
        self.transactions: TaskTransactions | None = None
        """What records results in transactions of the code's own; set by a runtime that can."""
        self.streams: TaskStreams | None = None
        """What the code has written to streams, if it has. For who runs it."""

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self.request.attempt

    @property
    def execution_id(self) -> str:
        """The id of the execution that started the task."""
        return self.request.execution_id

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.request.name

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this task, and another for every other task.

        Its form is ``<execution id>:<sequence number>``, for example ``order-o-1:3``. Give it to
        services that take such a key, so that an attempt after a lost one is not done twice.
        """
        return f"{self.request.execution_id}:{self.request.seq}"

    @property
    def headers(self) -> dict[str, str]:
        """What goes along with the execution: see ``start_execution(headers=...)``. A copy."""
        return dict(self.request.headers or {})

    @property
    def traceparent(self) -> str:
        """A W3C trace context for what the attempt calls, which is the same wherever it is computed. It is in
        the trace of the header of that name, and where there is none in one that belongs to the execution.
        """
        from mini_workflow.trace_context import traceparent

        return traceparent(*self.request.key, self.request.headers)

    @property
    def scheduled_at(self) -> datetime | None:
        """When the attempt was to be made (an aware datetime in UTC), by the engine's clock; None if that is
        not known. From then on it has waited for a thread, a worker, or a function.
        """
        at = self.request.scheduled_at
        return datetime.fromtimestamp(at / 1000, UTC) if at else None

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out (an aware datetime in UTC), or None."""
        return None if self._deadline is None else datetime.fromtimestamp(self._deadline, UTC)

    def heartbeat(self, details: object = None) -> None:
        """Say that the attempt is alive, and how far it has come.

        Cheap, and callable from any thread of the task. With a ``heartbeat_timeout``, an attempt
        that does not call it for so long is ended with TaskTimeout.

        The `details` (any value that can be encoded, such as the number of items that are done)
        reach the next attempt as `last_heartbeat`, if this one fails, times out, or loses its
        worker process; from a worker process they leave at most ten times a second. Nothing is
        written per heartbeat: when the engine itself is killed, those of the attempts that it was
        running are lost. None is no details, and leaves those given before. Twice a second at most (on
        AWS every ten seconds) the newest ones are kept beside the history, for ``execution.describe()``.

        Raises:
            TaskCancelled: nobody waits for the attempt any more, or the runtime closes; let it
                pass, and the task stops. The details are kept even so.
            ValueNotSerializable: the details cannot be encoded; nothing was said.
        """
        if details is not None:
            codec = self._the_codec()
            self.details = codec.encode(details, f"heartbeat of task {self.name!r}").text
        if self._cancelled is not None:
            because = f": {self._cancelled}" if self._cancelled else ""
            raise TaskCancelled(
                f"attempt {self.attempt} of task {self.name!r} shall end{because}"
                if self._cancelled == CLOSING
                else f"nobody waits for attempt {self.attempt} of task {self.name!r} any more{because}"
            )
        self.heard_at = time.time_ns() // 1_000_000
        if self._beating is not None:
            self._beating.beat(self.details)
        if self.sink is not None:
            self.sink.heard(self.request.key, self.details)

    @property
    def last_heartbeat(self) -> Any:
        """The details that the attempts before this one gave last by `heartbeat`, or None."""
        text = self.request.heartbeat
        return None if text is None else self._the_codec().decode(Payload(text=text))

    def stream(self, name: str) -> TaskStream:
        """Return the stream of that name of the execution, to write to: whoever reads
        ``execution.stream(name)`` gets the chunks while the attempt runs.

        Raises InvalidIdentifier unless the name is 1 to 64 letters, digits and ``_-.:@``, and
        UsageError where the store keeps no streams.
        """
        if self.streams is None:
            if self.sink is None:
                raise UsageError(
                    f"task {self.name!r} cannot write to a stream: the store of its runtime keeps none"
                )
            self.streams = TaskStreams(self.request, self._the_codec(), self.sink)
        return TaskStream(name, self.streams)

    def transaction(self, connection: Any) -> TaskTransaction:
        """Return what calls a function in a transaction of the user's connection, exactly once:
        ``return current_task().transaction(connection)(transfer, 7)``.

        The result is recorded in that transaction. So an attempt after one that was committed, and then
        lost, returns the same without calling the function again. `connection` is one of psycopg, to the
        database of the runtime, on which no transaction has begun.

        Raises UsageError on any runtime but PostgresRuntime, in worker processes, and in inline tasks.
        """
        if self.transactions is None:
            raise UsageError(
                f"task {self.name!r} cannot have its result recorded in a transaction: that takes a "
                "PostgresRuntime, a task that runs in its process (not in one of `workers`), and one that is "
                "not inline. Elsewhere keep `idempotency_key` in a unique column of your own"
            )
        return TaskTransaction(self.transactions, connection, self.request, self._the_codec())

    @property
    def cancelled(self) -> bool:
        """Whether the attempt shall end: a long task looks here and stops early.

        True when the runtime closes: what a task returns that has seen this does not count, and
        the same attempt begins again, from its `last_heartbeat`, when the runtime is opened again.
        Also true after a cancellation and, where the code cannot be stopped, after the timeout. Async
        tasks are stopped by asyncio and need not look; `heartbeat` looks by itself.
        """
        if self._cancelled == CLOSING:
            self.stops_early = True
        return self._cancelled is not None

    def cancel(self, reason: str = "") -> None:
        """Mark the attempt as cancelled. For runners; callable from any thread."""
        if self._cancelled is None:
            self._cancelled = reason
        on_cancel = self._on_cancel
        if on_cancel is not None:
            on_cancel()

    def tell(self, reason: str) -> None:
        """Cancel the attempt; but if its runtime closes, only say so. Any thread."""
        if reason != CLOSING:
            self.cancel(reason)
        elif self._cancelled is None:
            self._cancelled = reason

    @property
    def is_told(self) -> bool:
        """Whether it was told to end. For runners: the code of the task asks `cancelled`."""
        return self._cancelled is not None

    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        """Have `callback` called by `cancel`, on its thread: at once if that was before."""
        self._on_cancel = callback
        if callback is not None and self._cancelled is not None:
            callback()

    def _the_codec(self) -> Codec:
        if self.codec is None:
            raise UsageError(
                "heartbeats and streams need a codec: whoever runs the attempt has to set it"
            )
        return self.codec


CURRENT: Final[ContextVar[CurrentTask]] = ContextVar("mini_workflow.current_task")
"""Set by whoever runs an attempt; a runner that can be asked to cancel sets it itself."""


def current_task() -> CurrentTask:
    """Return the attempt that runs the calling code.

    Raises UsageError outside a task, and in threads that the task has started itself.
    """
    task = CURRENT.get(None)
    if task is None:
        raise UsageError(
            "current_task() was called outside a task: call it in the code of a task (the function"
            " given to ctx.task), and hand what you need from it to threads that the task starts;"
            " workflow code uses ctx.info"
        )
    return task
