"""Tasks: calls that run outside the workflow and whose results are recorded. Undos take them back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from mini_workflow.core import events
from mini_workflow.core.calls import about_function, check_call, is_lambda, takes_result
from mini_workflow.core.codec import CapturedCall
from mini_workflow.core.commands import RunTask
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure, add_note
from mini_workflow.core.mapping import as_it_is_now
from mini_workflow.core.payload import EMPTY, Payload
from mini_workflow.core.recorded import INLINE
from mini_workflow.core.recorder import Recorder
from mini_workflow.core.retry import JudgedCall, RetryPolicy
from mini_workflow.core.slots import see_to_limit
from mini_workflow.core.streams import StreamWrite, streams_of
from mini_workflow.errors import MiniWorkflowError, SerializationError, TaskError, UsageError
from mini_workflow.loop.loop import WorkflowLoop
from mini_workflow.loop.ordered import WorkflowFuture
from mini_workflow.loop.running import Halt

Inline = Callable[..., "Payload | Failure"]
"""Runs a captured call inside the turn: (execution id, seq, name, payload, list that takes its chunks of
streams, headers of the execution) -> its result or failure. Raises OutOfTime if the turn has no time left."""

UNDO_POLICY: Final = RetryPolicy(max_attempts=100, initial=1.0, maximum=300.0)
"""The retry policy of an undo. It goes on for hours, because the effect to take back is real."""

_SCHEDULED: Final = (events.TaskScheduled,)
NONE: Final[set[str]] = set()


class OutOfTime(MiniWorkflowError):
    """The turn has no time left for the next inline task: the run has to go on in another turn."""


class TaskFuture(WorkflowFuture[Any]):
    """A future of the result of a task. `seq` is its number in the run, `name` its name.

    `undo` takes the task back if it has succeeded and the execution fails later.
    """

    __slots__ = ("_tasks", "name", "seq", "undo")

    def __init__(self, seq: int, name: str, loop: WorkflowLoop, tasks: Tasks) -> None:
        WorkflowFuture.__init__(self, loop=loop)  # pyright: ignore[reportUnknownMemberType]
        self.undo: Callable[..., Any] | None = None
        self.seq = seq
        self.name = name
        self._tasks = tasks

    def subject(self) -> tuple[str, str, int]:
        """See `WorkflowFuture.subject`."""
        return "task", self.name, self.seq

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task. An outcome that still arrives is recorded and ignored."""
        if self.done():
            return False
        self._tasks.cancel(self.seq, msg if isinstance(msg, str) else "")
        return super().cancel(msg)


class Tasks:
    """The tasks of one run."""

    __slots__ = ("_calls", "_futures", "_inline", "_recorder", "_undos")

    def __init__(self, recorder: Recorder, inline: Inline | None) -> None:
        self._recorder = recorder
        self._inline = inline
        self._futures: dict[int, TaskFuture] = {}
        self._calls: dict[int, CapturedCall | tuple[CapturedCall]] = {}
        """The captured calls of open tasks. One that is asynchronous is in a tuple, since few are, and each
        object that is kept takes time of the garbage collector."""
        self._undos: list[tuple[int, str, Callable[..., Any], tuple[Any, ...]]] | tuple[()] = ()
        """The undos of the tasks that have succeeded, in the order of the successes: (number of the task,
        name of the undo, function, its arguments)."""

    # Operations of the code

    def start(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: int | None = None,
        heartbeat_timeout: int | None = None,
        undo: Callable[..., Any] | None = None,
        worker: str = "",
        limit: dict[str, Any] | None = None,
        undoes: int = 0,
        options: set[str] = NONE,
        part_of: int = 0,
        mapped: dict[str, Any] | None = None,
    ) -> TaskFuture:
        """Start a task now, and return its future. Without a `name` it is named after the function.

        The timeouts are milliseconds. `worker` is empty for the default one. `limit` says of which limit
        each attempt needs a slot. `undoes` is the number of the task that this one takes back, 0 for
        none. `options` are the names of the engine's own arguments that the user has given. `part_of` is
        the number of the first task of its map; that task itself has `mapped`, the record of the map.

        The call is captured before anything is recorded, so that a failure to capture it leaves no trace.
        Raises UsageError if the function cannot be called so, and ClosureNotSerializable.
        """
        recorder, judge = self._recorder, None if retry is None else retry.retry_if
        begun = self._begin(_SCHEDULED, function, args, kwargs, name, options, judge, limit)
        if begun is None:
            return TaskFuture(0, name or "", recorder.loop, self)
        seq, name, captured, call = begun
        if captured is not None:
            self._calls[seq] = captured
        recorder.seq = seq
        plan = None if retry is None else retry.to_plain()
        worker = recorder.state.worker or worker
        loop, clock, at = recorder.loop, recorder.loop.clock, 0
        if clock is not None and clock > loop.now and recorder.state.limits is not None:
            at = loop.begins_at()
        at, refused, quiet = at if at > loop.now else 0, recorder.refused, heartbeat_timeout
        part = seq if mapped is not None else part_of
        event = events.TaskScheduled(
            seq, name, plan, timeout, refused, quiet, call, worker, at, undoes, part, mapped, limit
        )
        recorder.emit(event)
        future = TaskFuture(seq, name, loop, self)
        if undo is not None:
            future.undo = as_it_is_now(undo)
        self._futures[seq] = future
        return future

    def run_inline(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        name: str,
        options: set[str] = NONE,
    ) -> TaskFuture:
        """Run a task inside the turn, or take its recorded outcome, and return its future, which is done.

        Raises like `start`.
        """
        recorder = self._recorder
        begun = self._begin(INLINE, function, args, kwargs, name, options)
        if begun is None:
            return TaskFuture(0, name, recorder.loop, self)
        seq, name, captured, call = begun
        refused, recorded = recorder.refused, recorder.recorded
        written: list[StreamWrite] = []
        asked: Event = events.InlineTaskCompleted(seq, name, EMPTY, refused, call)
        if captured is not None and (recorded is None or recorded.ended()):
            if self._inline is None:
                recorder.loop.fault = UsageError(
                    f"inline task {name!r} comes next, and a replay runs no tasks"
                )
                raise Halt
            try:
                with recorder.loop.outside():
                    call_only = captured[0] if isinstance(captured, tuple) else captured
                    about = (recorder.execution_id, seq, name, call_only)
                    outcome = self._inline(*about, written, recorder.state.headers)
            except OutOfTime as error:
                recorder.loop.fault = error
                raise Halt from error
            if isinstance(outcome, Failure):
                asked = events.InlineTaskFailed(seq, name, outcome, refused, call)
            else:
                asked = events.InlineTaskCompleted(seq, name, outcome, refused, call)
        recorder.seq = seq
        event = recorder.emit(asked)
        if written:
            streams_of(recorder).out += written
        future = TaskFuture(seq, name, recorder.loop, self)
        try:
            if isinstance(event, events.InlineTaskFailed):
                self._fail(future, event.failure)
            elif isinstance(event, events.InlineTaskCompleted):
                future.set_result(recorder.codec.decode_ordered(event.result))
        except SerializationError as error:
            recorder.loop.fault = error
            raise Halt from error
        return future

    def cancel(self, seq: int, reason: str = "") -> None:
        """Cancel an open task. The default `reason` is that of the event which is delivered."""
        recorder = self._recorder
        if seq in recorder.state.tasks and recorder.may_give_up():
            self._futures.pop(seq, None)
            self._calls.pop(seq, None)
            recorder.emit(events.TaskCancelled(seq, reason or recorder.reason))

    async def undo(self) -> None:
        """Run the undos of the tasks that have succeeded, the last first. They ignore a cancellation."""
        warn = self._recorder.warn
        while self._undos:
            undoes, name, undo, args = self._undos.pop()
            try:
                future = self.start(undo, args, {}, name=name, retry=UNDO_POLICY, undoes=undoes)
            except SerializationError as error:
                warn("%s cannot be done: %s", name, error)
                continue
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled() and (error := future.exception()) is not None:
                warn("%s failed: %r", name, error)

    def _begin(
        self,
        kinds: tuple[type[Event], ...],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None,
        options: set[str],
        judge: Callable[[Exception], bool] | None = None,
        limit: dict[str, Any] | None = None,
    ) -> tuple[int, str, CapturedCall | tuple[CapturedCall] | None, str] | None:
        """Return the number, the name, the captured call (in a tuple if it is asynchronous) and the
        fingerprint of a task that begins; None if the run starts nothing any more. A task that is recorded
        and has ended has no captured call.

        A call that could not be captured has left no event. So a replay captures again each call that is
        not recorded, which fails again. The fingerprint omits the function's name if the task has the
        same one, and is empty if there is none to compare it with.
        """
        recorder = self._recorder
        if not recorder.may_start():
            return None
        if limit is not None:
            see_to_limit(recorder, limit["name"])
        about = about_function(function)
        if name is None:
            name = about.name
        seq, recorded, codec = recorder.seq + 1, recorder.recorded, recorder.codec
        if recorded is not None and is_lambda(function):
            # In older histories all lambdas have the same name.
            name = recorded.name_before(name)
        carried = function if judge is None else JudgedCall(function, judge)
        captured: CapturedCall | None = None
        if recorded is not None and recorded.stands_next(kinds, seq, name, recorder.refused):
            if seq in recorded.open_tasks:
                try:
                    captured = codec.capture(carried, args, kwargs)
                except SerializationError as error:
                    recorder.loop.fault = error
                    raise Halt from error
        else:
            try:
                if about.assigns or options or kwargs:
                    check_call(function, about.assigns, args, kwargs, options)
                captured = codec.capture(carried, args, kwargs)
                if type(captured) is bytes:
                    from mini_workflow.core.lost_writes import refuse_lost_writes

                    refuse_lost_writes(function, args, kwargs)
            except Exception:
                recorder.refused += 1
                raise
        kept = (captured,) if captured is not None and about.is_async else captured
        if recorded is not None and not recorded.calls_next():
            return seq, name, kept, ""
        call = codec.fingerprint(function, args, kwargs, captured)
        if call.startswith(name) and call[len(name)] == "#":
            call = call[len(name) :]
        return seq, name, kept, call

    # Events that arrive

    def completed(self, event: events.TaskCompleted) -> None:
        """Give the future of a task its result."""
        self._calls.pop(event.seq, None)
        future = self._futures.pop(event.seq, None)
        if future is not None and not future.done():
            result = self._recorder.codec.decode_ordered(event.result)
            if (undo := future.undo) is not None:
                given = (result,) if takes_result(undo) else ()
                self._undos = self._undos or []
                self._undos.append((event.seq, f"undo {future.name}", undo, given))
            future.set_result(result)

    def failed(self, event: events.TaskFailed) -> None:
        """Fail the future of a task."""
        self._calls.pop(event.seq, None)
        future = self._futures.pop(event.seq, None)
        if future is not None and not future.done():
            self._fail(future, event.failure)

    def late(self, event: events.TaskCompleted | events.TaskFailed, name: str) -> None:
        """Take the outcome of a task after the end of its workflow. A failure is logged."""
        known = self._calls.pop(event.seq, None)
        if known is not None and isinstance(event, events.TaskFailed):
            failure = event.failure
            self._recorder.warn(
                "task %r failed after the end of the workflow: %s: %s",
                name,
                failure.type,
                failure.message,
            )

    def _fail(self, future: TaskFuture, failure: Failure) -> None:
        error = self._recorder.codec.decode_failure(failure, ordered=True)
        if isinstance(error, StopIteration) or not isinstance(error, Exception):
            # A future refuses StopIteration; an exception that is no Exception would end the process.
            replacement = TaskError(
                f"{type(error).__name__}: {error}",
                type_name=failure.type,
                remote_traceback=failure.tracebacks,
            )
            replacement.__cause__ = error
            error = replacement
        if failure.attempts is not None and failure.attempts > 1:
            add_note(error, f"task {future.name!r} failed after {failure.attempts} attempts")
        self._recorder.fail(future, error)

    # Commands

    def attempt(self, seq: int) -> RunTask | None:
        """Return the command for the attempt of a task that is to be in flight now, or None."""
        state = self._recorder.state
        task, call = state.tasks.get(seq), self._calls.get(seq)
        if task is None or call is None or task.waits or task.retry_at is not None:
            return None
        number, name, worker, headers = task.attempt, task.name, task.worker, state.headers
        timeout, quiet, heartbeat = task.timeout, task.heartbeat_timeout, task.heartbeat
        since, is_async = task.since, type(call) is tuple
        payload = call[0] if isinstance(call, tuple) else call
        return RunTask(
            seq, number, name, payload, timeout, is_async, quiet, heartbeat, worker, headers, since
        )

    def clear(self) -> None:
        """Forget the futures of all tasks. The calls of those in flight are kept until `drop`."""
        self._futures.clear()

    def drop(self) -> None:
        """Forget the calls of all tasks."""
        self._calls.clear()
