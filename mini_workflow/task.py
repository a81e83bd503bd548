"""Give the code of a task its current attempt: current_task()."""

from __future__ import annotations

import os
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
        """Take a heartbeat, with its last details as JSON text. Called on any thread; never raises."""
        ...


class CurrentTask:
    """The attempt that runs the calling code; `current_task` returns it."""

    __slots__ = (
        "_beating",
        "_cancelled",
        "_deadline",
        "_on_cancel",
        "begun",
        "codec",
        "details",
        "heard_at",
        "is_copy",
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
        """Describe an attempt that begins now. `beating` listens to its heartbeats."""
        timeout = request.timeout
        self.request: Final = request
        self.codec: Codec | None = None
        """Encodes the details of heartbeats. Set by the runner."""
        self.begun = 0
        self.ran_on = ""
        """The time and the place of its begin, as in TaskOutcome. Set by the runner, if they are reported."""
        self.details: str | None = None
        """The last details that this attempt gave, as JSON text; None if it gave none."""
        self.heard_at = 0
        """The time of the last heartbeat (milliseconds since the epoch); 0 if there was none."""
        self.on_wait: Callable[[TaskRequest], AbstractContextManager[None]] | None = None
        """Returns the context manager around a wait of the code for an execution. Set by some runners. The
        function does not refer to this attempt, which would be left to the garbage collector otherwise."""
        self.on_await: Callable[[], None] | None = None
        """Called when a sync function has returned an awaitable, which can be cancelled. Set by some
        runners."""
        self._deadline = None if timeout is None else time.time() + timeout / 1000
        """Seconds since the epoch."""
        self._beating = beating
        self.is_copy = False
        """Whether the code has forked this process, which is not the one that runs the attempt."""
        self.stops_early = False
        """Whether the code has seen that the runtime closes. Then its return value is no result."""
        self._cancelled: str | None = None
        self._on_cancel: Callable[[], None] | None = None
        self.sink: StreamSink | None = None
        """The target of chunks and heartbeats. Set by the runner."""
        self.transactions: TaskTransactions | None = None
        """Records results in transactions of the user's connection. Set by a PostgresRuntime."""
        self.streams: TaskStreams | None = None
        """The streams of the attempt, once its code has used one. For runners."""

    @property
    def attempt(self) -> int:
        """The number of this attempt, counted from 1."""
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
        """A key that is the same for every attempt of this task, and differs for every other task.

        Its form is ``<execution id>:<sequence number>``, for example ``order-o-1:3``. Pass it to services
        that take such a key, so that an attempt after a lost one has no second effect.
        """
        return f"{self.request.execution_id}:{self.request.seq}"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the execution: see ``start_execution(headers=...)``. A copy."""
        return dict(self.request.headers or {})

    @property
    def traceparent(self) -> str:
        """The W3C trace context for calls of the attempt, which is the same in every process. It belongs to
        the trace of the header of that name, or without such a header to a trace of the execution.
        """
        from mini_workflow.trace_context import traceparent

        return traceparent(*self.request.key, self.request.headers)

    @property
    def scheduled_at(self) -> datetime | None:
        """The time at which the attempt was due (an aware datetime in UTC), by the engine's clock; None if it
        is not known. From then on the attempt waited for a thread, a worker or a function.
        """
        at = self.request.scheduled_at
        return datetime.fromtimestamp(at / 1000, UTC) if at else None

    @property
    def deadline(self) -> datetime | None:
        """The time at which this attempt times out (an aware datetime in UTC), or None."""
        return None if self._deadline is None else datetime.fromtimestamp(self._deadline, UTC)

    def heartbeat(self, details: object = None) -> None:
        """Report that the attempt is alive, and its progress.

        The call is cheap and allowed on any thread of the task. With a ``heartbeat_timeout``, an attempt
        without a call for so long is ended with TaskTimeout.

        The `details` (any value that can be encoded, such as the number of finished items) reach the
        next attempt as `last_heartbeat`, if this one fails, times out, or loses its worker process. A
        worker process sends them at most ten times a second. A heartbeat alone writes nothing: if the
        engine itself is killed, the details of its running attempts are lost. None leaves the details
        that were given before. At most twice a second (on AWS every ten seconds) the newest details are
        stored beside the history, for ``execution.describe()``.

        Raises:
            TaskCancelled: the result of the attempt is not needed any more, or the runtime closes.
                Let the error pass, so that the task stops. The details are kept.
            ValueNotSerializable: the details cannot be encoded; nothing was reported.
            UsageError: the call is made in a process that the task has forked.
        """
        self._check_process()
        if details is not None:
            codec = self._the_codec()
            self.details = codec.encode(details, f"heartbeat of task {self.name!r}").text
        if self._cancelled is not None:
            because = f": {self._cancelled}" if self._cancelled else ""
            raise TaskCancelled(
                f"attempt {self.attempt} of task {self.name!r} has to end{because}"
                if self._cancelled == CLOSING
                else f"attempt {self.attempt} of task {self.name!r} is not needed any more{because}"
            )
        self.heard_at = time.time_ns() // 1_000_000
        if self._beating is not None:
            self._beating.beat(self.details)
        if self.sink is not None:
            self.sink.heard(self.request.key, self.details)

    @property
    def last_heartbeat(self) -> Any:
        """The last details that an attempt before this one gave by `heartbeat`, or None."""
        text = self.request.heartbeat
        return None if text is None else self._the_codec().decode(Payload(text=text))

    def stream(self, name: str) -> TaskStream:
        """Return the execution's stream of that name, to write to. Readers of ``execution.stream(name)`` get
        the chunks while the attempt runs.

        Raises InvalidIdentifier unless the name is 1 to 64 letters, digits and ``_-.:@``, and UsageError
        if the store keeps no streams, or in a process that the task has forked.
        """
        self._check_process()
        if self.streams is None:
            if self.sink is None:
                raise UsageError(
                    f"task {self.name!r} cannot write to a stream: the store of its runtime keeps none; "
                    "use a runtime whose store does"
                )
            self.streams = TaskStreams(self.request, self._the_codec(), self.sink)
        return TaskStream(name, self.streams)

    def transaction(self, connection: Any) -> TaskTransaction:
        """Return a callable that runs a function exactly once, in a transaction of the user's connection:
        ``return current_task().transaction(connection)(transfer, 7)``.

        The result is recorded in that transaction. So an attempt after one that was committed and then lost
        returns the same result without calling the function again. `connection` is a psycopg connection to
        the database of the runtime, on which no transaction has begun.

        Raises UsageError on any runtime but PostgresRuntime, in worker processes, and in inline tasks.
        """
        if self.transactions is None:
            raise UsageError(
                f"the result of task {self.name!r} cannot be recorded in a transaction: that takes a "
                "PostgresRuntime, and a task that runs in its process (not in one of `workers`) and is not "
                "inline. Elsewhere keep `idempotency_key` in a unique column of your own"
            )
        return TaskTransaction(self.transactions, connection, self.request, self._the_codec())

    @property
    def cancelled(self) -> bool:
        """Whether the attempt has to end. A long task reads this and stops early.

        It is true when the runtime closes. The return value of a task that has read this then does not
        count, and the same attempt begins again, from its `last_heartbeat`, when the runtime is opened
        again. It is also true after a cancellation and, if the code cannot be stopped, after the timeout.
        Async tasks are stopped by asyncio and need not read it; `heartbeat` raises by itself.
        """
        if self._cancelled == CLOSING:
            self.stops_early = True
        return self._cancelled is not None

    def cancel(self, reason: str = "") -> None:
        """Mark the attempt as cancelled. For runners; callable on any thread."""
        if self._cancelled is None:
            self._cancelled = reason
        on_cancel = self._on_cancel
        if on_cancel is not None:
            on_cancel()

    def tell(self, reason: str) -> None:
        """Tell the attempt the `reason` to end, and cancel it unless that is the closing of its runtime.
        Callable on any thread.
        """
        if reason != CLOSING:
            self.cancel(reason)
        elif self._cancelled is None:
            self._cancelled = reason

    @property
    def is_told(self) -> bool:
        """Whether the attempt was told to end. For runners; the code of the task reads `cancelled`."""
        return self._cancelled is not None

    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        """Set a callback for `cancel`, which calls it on its thread; at once if the attempt is cancelled."""
        self._on_cancel = callback
        if callback is not None and self._cancelled is not None:
            callback()

    def _check_process(self) -> None:
        if self.is_copy:
            raise UsageError(
                f"task {self.name!r} of execution {self.execution_id!r} has forked this process, which"
                " reports nothing of the attempt: pass what it has to say to the process that has"
                " forked it, by a pipe or a queue"
            )

    def _the_codec(self) -> Codec:
        if self.codec is None:
            raise UsageError(
                "heartbeats with details and streams need a codec: set CurrentTask.codec in the runner"
            )
        return self.codec


CURRENT: Final[ContextVar[CurrentTask]] = ContextVar("mini_workflow.current_task")
"""The current attempt. Set by the code that runs it; a runner that can cancel attempts sets it itself."""


def _mark_copy() -> None:
    task = CURRENT.get(None)
    if task is not None:
        task.is_copy = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_copy)


def current_task() -> CurrentTask:
    """Return the attempt that runs the calling code.

    Raises UsageError outside a task, and in threads that the task has started itself.
    """
    task = CURRENT.get(None)
    if task is None:
        raise UsageError(
            "current_task() was called outside a task: call it in the code of a task (the function"
            " given to ctx.task), and pass its data to threads that the task starts;"
            " workflow code uses ctx.info"
        )
    return task
