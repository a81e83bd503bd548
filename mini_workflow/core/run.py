"""Run: one live execution - the workflow's coroutine, its loop, and the operations it started.

Incoming events are delivered one at a time; what the code decides meanwhile is emitted as
recorded events. While a script is there, each emission must be what the script says, and the
script's event is taken instead.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from asyncio.events import _get_running_loop
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, Protocol

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.futures import SleepFuture, TaskFuture
from mini_workflow.core.loop import Halt, TimerHandle, WorkflowFuture, WorkflowLoop, WorkflowTask
from mini_workflow.core.payload import Payload
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.core.script import Script
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.where import waiting_line
from mini_workflow.errors import (
    DeterminismError,
    NonDeterminismError,
    NotAllowedInWorkflow,
    SerializationError,
    UsageError,
    WorkflowDeadlock,
)

log = logging.getLogger("mini_workflow.workflow")

Inline = Callable[[str, int, str, bytes], "Payload | Failure"]
"""Runs a captured call inside the turn: (execution id, seq, name, payload) -> what came of it."""


class Definition(Protocol):
    """What the core needs to know of a workflow."""

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        ...

    def begin(
        self, run: Run, args: list[Any], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """The coroutine of a new run."""
        ...


class Run:
    """One execution in memory. Not thread-safe: one thread at a time may drive it."""

    __slots__ = (
        "_calls",
        "_codec",
        "_conditions",
        "_definition",
        "_failed",
        "_futures",
        "_inline",
        "_main",
        "_out",
        "_script",
        "_seq",
        "_timers",
        "_wanted",
        "dead",
        "execution_id",
        "loop",
        "started",
        "state",
    )

    def __init__(
        self, definition: Definition, execution_id: str, codec: Codec, inline: Inline | None = None
    ) -> None:
        self._definition = definition
        self._codec = codec
        self._inline = inline
        self.execution_id = execution_id
        self.state = ExecutionState()
        self.loop = WorkflowLoop(execution_id, self)
        self.started: events.ExecutionStarted | None = None
        self.dead = False
        self._main: WorkflowTask | None = None
        self._seq = 0
        self._futures: dict[int, TaskFuture] = {}
        self._timers: dict[int, TimerHandle] = {}
        self._calls: dict[int, tuple[bytes, bool]] = {}
        self._failed: list[TaskFuture] = []
        self._conditions: list[tuple[Callable[[], bool], WorkflowFuture]] = []
        self._out: list[Event] = []
        self._script: Script | None = None
        self._wanted: frozenset[int] = frozenset()

    # Driven by replay.py

    @property
    def fault(self) -> DeterminismError | SerializationError | None:
        """Why the run cannot go on, or None."""
        return self.loop.fault

    @property
    def replaying(self) -> bool:
        """Whether what happens now is a repetition of what is recorded."""
        return self._script is not None

    def follow(self, script: Script | None, wanted: frozenset[int] = frozenset()) -> None:
        """Hold the run to a script; None ends that. `wanted` are the tasks still open at its end:
        only their calls are captured again."""
        self._script = script
        self._wanted = wanted

    def take(self) -> list[Event]:
        """The events since the last call, incoming and recorded, in order."""
        out, self._out = self._out, []
        return out

    def restore(self, out: list[Event]) -> None:
        """Put events back that `take` gave and that are still to be committed."""
        self._out = out

    def call_of(self, seq: int) -> tuple[bytes, bool] | None:
        """The captured call of an open task, and whether it is asynchronous; None if unknown."""
        return self._calls.get(seq)

    def deliver(self, event: Event) -> None:
        """Take one incoming event and let the workflow run until it waits again."""
        closed = self.state.closed
        self.state.apply(event)
        self._out.append(event)
        if self.state.now > self.loop.now:
            self.loop.now = self.state.now
        handler = _DELIVER.get(type(event))
        if handler is None or closed:
            return
        handler(self, event)
        if self.fault is None:
            self.loop.drain(self._idle)
        if self.fault is None and not self.state.closed:
            self._look_for_trouble()

    def _look_for_trouble(self) -> None:
        main = self._main
        if main is not None and main.done():
            self.loop.fault = DeterminismError(
                f"workflow {self._definition.name!r} ended without a result: {main!r}"
            )
        elif self._stuck():
            where = waiting_line(self._main.get_coro()) if self._main is not None else ""
            self.loop.fault = WorkflowDeadlock(
                f"workflow {self._definition.name!r} waits for ever: no task or timer is open that "
                f"could wake it{f' (it waits at {where})' if where else ''}"
            )

    def close(self) -> None:
        """Drop the run. No code of the workflow that runs because of it can reach the store."""
        self.dead = True
        for future in self._failed:
            future._log_traceback = False  # type: ignore[attr-defined]
        self.loop.close()
        self._main = None
        self._futures.clear()
        self._timers.clear()
        self._conditions.clear()

    def _idle(self) -> bool:
        """Whether a condition somebody waits for has come true; wakes all that have."""
        if not self._conditions:
            return False
        woken = False
        waiting: list[tuple[Callable[[], bool], WorkflowFuture]] = []
        for entry in self._conditions:
            predicate, future = entry
            if future.done():
                continue
            try:
                holds = predicate()
            except Exception as error:
                future.set_exception(error)
                woken = True
                continue
            if holds:
                future.set_result(None)
                woken = True
            else:
                waiting.append(entry)
        self._conditions = waiting
        return woken

    def _stuck(self) -> bool:
        main, state = self._main, self.state
        if main is None or main.done():
            return False
        return not (state.tasks or state.timers)

    # Delivery

    def _begin(self, event: events.ExecutionStarted) -> None:
        self.started = event
        try:
            args, kwargs = self._codec.decode(event.arguments)
        except SerializationError as error:
            self.loop.fault = error
            return
        coroutine = self._conduct(args, kwargs)
        self._main = self.loop.create_task(
            coroutine, name=event.workflow, context=Context()
        )

    async def _conduct(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        closing: Event
        try:
            result = await self._definition.begin(self, args, kwargs)
            closing = events.ExecutionCompleted(self._codec.encode(result, "result"))
        except (Halt, KeyboardInterrupt, GeneratorExit):
            raise
        except asyncio.CancelledError as error:
            closing = events.ExecutionCancelled(str(error))
        except BaseException as error:
            closing = events.ExecutionFailed(self._codec.encode_failure(error))
        await self._wind_down()
        self._report_unseen()
        self._emit(closing)

    async def _wind_down(self) -> None:
        """As ``asyncio.run`` does: cancel what was left running, then close open generators."""
        while left := [t for t in self.loop.tasks if t is not self._main and not t.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        for generator in self.loop.open_generators():
            try:
                await generator.aclose()
            except Exception:
                self.warn("an asynchronous generator failed while it was closed", exc_info=True)

    def _report_unseen(self) -> None:
        for future in self._failed:
            if getattr(future, "_log_traceback", False):
                future._log_traceback = False  # type: ignore[attr-defined]
                self.warn("task %r failed and nobody awaited it: %r", future.name, future._exception)  # type: ignore[attr-defined]
        for task in self.loop.tasks:
            if task is not self._main and task.done() and getattr(task, "_log_traceback", False):
                task._log_traceback = False  # type: ignore[attr-defined]
                self.warn("%s failed and nobody awaited it: %r", task.get_name(), task._exception)  # type: ignore[attr-defined]

    def warn(self, message: str, *args: Any, exc_info: bool = False) -> None:
        """Log a warning about this execution, once: silent while replaying."""
        if not self.replaying and not self.dead:
            with self.loop.outside():
                log.warning(f"[%s] {message}", self.execution_id, *args, exc_info=exc_info)

    def _task_completed(self, event: events.TaskCompleted) -> None:
        self._calls.pop(event.seq, None)
        future = self._futures.pop(event.seq, None)
        if future is None or future.done():
            return
        try:
            future.set_result(self._codec.decode(event.result))
        except SerializationError as error:
            self.loop.fault = error

    def _task_failed(self, event: events.TaskFailed) -> None:
        self._calls.pop(event.seq, None)
        future = self._futures.pop(event.seq, None)
        if future is None or future.done():
            return
        self._fail(future, event.failure)

    def _fail(self, future: TaskFuture, failure: Failure) -> None:
        error = self._codec.decode_failure(failure)
        if failure.attempts is not None and failure.attempts > 1:
            error.add_note(f"task {future.name!r} failed after {failure.attempts} attempts")
        future.set_exception(error)
        self._failed.append(future)

    def _timer_fired(self, event: events.TimerFired) -> None:
        handle = self._timers.pop(event.seq, None)
        if handle is not None:
            self.loop.timer_fired(handle)

    # What the workflow's code starts

    def _emit(self, event: Event) -> Event:
        script = self._script
        if script is not None and not script.ended():
            try:
                event = script.expect(event)
            except NonDeterminismError as error:
                self.loop.fault = error
                raise Halt from error
        self.state.apply(event)
        self._out.append(event)
        return event

    def check(self) -> None:
        """Raise unless this is the workflow's own code, in its own turn."""
        if self.dead:
            raise Halt
        if _get_running_loop() is not self.loop:
            raise NotAllowedInWorkflow(
                "the workflow's context was used outside its workflow function (in a task, in "
                "another thread or after the end); pass results back to the workflow instead"
            )

    def start_task(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        name: str,
        retry: RetryPolicy | None,
        timeout: int | None,
    ) -> TaskFuture:
        """Start a task now. `timeout` is in milliseconds. The call is captured before anything
        is recorded, so that a failure to capture it leaves no trace."""
        self.check()
        seq = self._seq + 1
        if self._capturing(seq):
            payload = self._codec.capture(function, args, kwargs)
            self._calls[seq] = (payload, is_async(function))
        self._seq = seq
        plan = None if retry is None else retry.to_plain()
        self._emit(events.TaskScheduled(seq, name, plan, timeout))
        future = TaskFuture(seq, name, loop=self.loop, operations=self)
        self._futures[seq] = future
        return future

    def _capturing(self, seq: int) -> bool:
        return self._script is None or self._script.ended() or seq in self._wanted

    def run_inline(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        name: str,
    ) -> TaskFuture:
        """Run a task inside the turn, or take its recorded result; the future is done."""
        self.check()
        seq = self._seq + 1
        asked: Event = events.InlineTaskCompleted(seq, name, Payload(text="null"))
        if self._script is None or self._script.ended():
            if self._inline is None:
                raise UsageError("inline tasks cannot run here: nothing is there to run them")
            payload = self._codec.capture(function, args, kwargs)
            with self.loop.outside():
                outcome = self._inline(self.execution_id, seq, name, payload)
            if isinstance(outcome, Failure):
                asked = events.InlineTaskFailed(seq, name, outcome)
            else:
                asked = events.InlineTaskCompleted(seq, name, outcome)
        self._seq = seq
        event = self._emit(asked)
        future = TaskFuture(seq, name, loop=self.loop, operations=self)
        if isinstance(event, events.InlineTaskFailed):
            self._fail(future, event.failure)
        elif isinstance(event, events.InlineTaskCompleted):
            future.set_result(self._codec.decode(event.result))
        return future

    def cancel_task(self, seq: int) -> None:
        """Give an open task up."""
        if self.dead or seq not in self.state.tasks:
            return
        self._futures.pop(seq, None)
        self._calls.pop(seq, None)
        self._emit(events.TaskCancelled(seq))

    def start_timer(self, fire_at: int, handle: TimerHandle) -> int:
        """Start a durable timer that fires at `fire_at` (milliseconds since the epoch)."""
        self.check()
        self._seq += 1
        self._timers[self._seq] = handle
        self._emit(events.TimerStarted(self._seq, fire_at))
        return self._seq

    def cancel_timer(self, seq: int) -> None:
        """Give an open timer up."""
        if self.dead or self._timers.pop(seq, None) is None:
            return
        self._emit(events.TimerCancelled(seq))

    def sleep(self, wait: int) -> WorkflowFuture:
        """A future that is done after `wait` milliseconds; at once, after others, for 0 or less."""
        self.check()
        future = SleepFuture(loop=self.loop)
        handle = self.loop.call_later(wait / 1000, future.wake)
        future.timer = handle
        return future

    def when(self, predicate: Callable[[], bool]) -> WorkflowFuture:
        """A future that is done when the predicate holds, which is tried after every change."""
        self.check()
        future = self.loop.create_future()
        self._conditions.append((predicate, future))
        return future


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine, as far as can be told without calling it."""
    if inspect.iscoroutinefunction(function):
        return True
    call = getattr(type(function), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(call)


_DELIVER: Final[dict[type, Any]] = {
    events.ExecutionStarted: Run._begin,
    events.TaskCompleted: Run._task_completed,
    events.TaskFailed: Run._task_failed,
    events.TimerFired: Run._timer_fired,
}
