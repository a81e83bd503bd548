"""Run: one live execution - the workflow's coroutine, its loop, and the operations it started.

Incoming events are delivered one at a time; what the code decides meanwhile is emitted as
recorded events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, ClassVar, Final, Literal, Protocol

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event
from mini_workflow.core.exchange import ContinueAsNew, Exchange
from mini_workflow.core.operations import Inline, OutOfTime, takes_result
from mini_workflow.core.raised import set_traceback
from mini_workflow.core.recorded import Script
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.errors import (
    DeterminismError,
    InvalidArguments,
    PayloadNotReadable,
    SerializationError,
    WorkflowDeadlock,
)
from mini_workflow.loop.loop import Halt, running_loop
from mini_workflow.loop.ordered import hush, unseen
from mini_workflow.loop.shutdown import name_of, report_unseen, wind_down
from mini_workflow.loop.source_line import user_line, waiting_line

UNDO_POLICY: Final = RetryPolicy(max_attempts=100, initial=1.0, maximum=300.0)
"""How an undo is retried: for hours, because what it takes back is real."""

__all__ = ["Definition", "Inline", "OutOfTime", "Run"]


class Definition(Protocol):
    """What the core needs to know of a workflow."""

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        ...

    @property
    def place(self) -> str:
        """Where it is defined, as ``file:line in function``, for an error."""
        ...

    @property
    def changed_values(self) -> Literal["warn", "block"]:
        """What becomes of an execution whose recorded calls were given other values."""
        ...

    def begin(self, run: Run, args: list[Any], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """The coroutine of a new run. Raises InvalidArguments."""
        ...

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise InvalidArguments unless it can be called with them."""
        ...


def _is_group(error: object) -> bool:
    return isinstance(error, BaseExceptionGroup)


def _continues(error: BaseException) -> ContinueAsNew | None:
    """The request that a TaskGroup has wrapped, if nothing else has gone wrong in it."""
    inner: Any = error
    while _is_group(inner):
        inner = inner.exceptions[0] if len(inner.exceptions) == 1 else None
    return inner if isinstance(inner, ContinueAsNew) else None


class Run(Exchange):
    """One execution in memory. Not thread-safe: one thread at a time may drive it."""

    __slots__ = ("_definition", "delivered", "started")

    def __init__(
        self, definition: Definition, execution_id: str, codec: Codec, inline: Inline | None = None
    ) -> None:
        super().__init__(execution_id, codec, inline, strict=definition.changed_values == "block")
        self._definition = definition
        self.started: events.ExecutionStarted | None = None
        self.delivered = 0
        """How many incoming events it has taken."""

    def follow(self, script: Script | None, wanted: frozenset[int] = frozenset()) -> None:
        """Hold the run to a script; None ends that.

        `wanted` are the tasks still open at its end: only their calls are captured again.
        """
        self._script = script
        self._wanted = wanted

    def take(self) -> list[Event]:
        """The events since the last call, incoming and recorded, in order."""
        out, self._out = self._out, []
        return out

    def restore(self, out: list[Event]) -> None:
        """Put events back that `take` gave and that are still to be committed."""
        self._out = out

    def place(self) -> str:
        """Where the workflow's code is, as a clause for an error message."""
        # Outside of a turn the stack is that of whoever drives the run.
        if running_loop() is self.loop and (line := user_line()):
            return line
        main = self._main
        if main is not None and not main.done() and (line := waiting_line(main.get_coro())):
            return f" (it waits at {line})"
        return f" (workflow {self._definition.name!r} at {self._definition.place})"

    def deliver(self, event: Event) -> None:
        """Take one incoming event and let the workflow run until it waits again.

        Whatever goes wrong is the run's `fault`. Raises KeyboardInterrupt only.
        """
        state, loop = self.state, self.loop
        closed = state.closed
        late = state.tasks.get(getattr(event, "seq", 0)) if closed else None
        state.apply(event)
        self._out.append(event)
        self.delivered += 1
        self._refused = 0
        self._why = ""
        if state.now > loop.now:
            loop.now = state.now
        handler = self._HANDLERS.get(type(event))
        if handler is None:
            return
        if closed:
            self._late(event, "" if late is None else late.name)
            return
        try:
            handler(self, event)
        except SerializationError as error:
            loop.fault = error
        if loop.fault is None:
            loop.drain(self._conditions.try_all)
        if loop.fault is None:
            if state.closed:
                self._release()
            elif not (state.tasks or state.timers) or self._has_ended():
                self._look_for_trouble()

    def close(self) -> None:
        """Drop the run. No code of the workflow that runs because of it can reach the store."""
        if self.dead:
            return
        self.dead = True
        for future in self._failed:
            hush(future)
        self._release()
        self._calls.clear()

    def _release(self) -> None:
        self.loop.drop()
        self._main = None
        self._futures.clear()
        self._timers.clear()
        self._promises.clear()
        self._children.clear()
        self._failed.clear()
        self._conditions.clear()

    def _has_ended(self) -> bool:
        return self._main is not None and self._main.done()

    def _look_for_trouble(self) -> None:
        main, name = self._main, self._definition.name
        if main is None or self.loop.ended:
            return
        if main.done():
            self.loop.fault = DeterminismError(
                f"workflow {name!r} ended without a result: {main!r}"
            )
            return
        if self.state.promises or self.state.children or self.messages.listening():
            return
        where = waiting_line(main.get_coro())
        unseen_failures = [f for f in (*self._failed, *self.loop.tasks) if f.done() and unseen(f)]
        because = "".join(
            f"; {name_of(f)} failed and nobody awaited it: {f.exception()!r}"
            for f in unseen_failures
        )
        self.loop.fault = WorkflowDeadlock(
            f"workflow {name!r} waits for ever: nothing is open that could wake it, and it listens to nobody"
            f"{f' (it waits at {where})' if where else ''}{because}"
        )

    # The workflow function

    def _begin(self, event: events.ExecutionStarted) -> None:
        self.started = event
        self._seq = event.first_seq
        arguments = self._codec.decode_ordered(event.arguments)
        try:
            args, kwargs = arguments
        except (TypeError, ValueError):
            raise PayloadNotReadable(
                f"the arguments of execution {self.execution_id!r} are damaged: {arguments!r}"
            ) from None
        self.loop.generators.closes_early = event.behaviour >= 1
        # An empty context: what the caller has in its own is not there on replay.
        self._main = self.loop.create_task(
            self._conduct(args, kwargs), name=event.workflow, context=Context()
        )
        if event.cancel is not None:
            self._cancel_at_start = event.cancel
            self.loop.call_soon(self._cancel_now)  # behind the first step of the code

    def _cancel_now(self) -> None:
        if (reason := self.take_cancel()) is not None and self._main is not None:
            self._main.cancel(reason)

    async def _conduct(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        closing = await self._work(args, kwargs)
        await self._end(closing)

    async def _work(self, args: list[Any], kwargs: dict[str, Any]) -> Event:
        try:
            result = await self._called(args, kwargs)
            if self._abort is not None:
                raise self._abort
            return events.ExecutionCompleted(self._codec.encode(result, "result"))
        except (Halt, KeyboardInterrupt):
            raise
        except ContinueAsNew as request:
            if self._abort is None:
                return events.ContinuedAsNew(request.arguments)
            return await self._undo(self._failed_with(self._abort))
        except asyncio.CancelledError as error:
            if self._abort is not None:
                return await self._undo(self._failed_with(self._abort))
            reason = str(error) if self._cancel_reason is None else self._cancel_reason
            return await self._undo(events.ExecutionCancelled(reason))
        except BaseException as error:
            if self.dead or running_loop() is not self.loop:
                raise  # not the workflow's own: its coroutine is being closed
            if (request := _continues(error)) is not None:
                return events.ContinuedAsNew(request.arguments)
            if error.__traceback__ is not None:
                set_traceback(error, error.__traceback__.tb_next)  # begin at the user's code
            return await self._undo(self._failed_with(error))

    def _called(self, args: list[Any], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """The workflow function's coroutine. That it cannot be called is no end of the execution:
        its parameters were changed, and may be fixed.
        """
        try:
            return self._definition.begin(self, args, kwargs)
        except InvalidArguments as error:
            self.loop.fault = InvalidArguments(
                f"the arguments that execution {self.execution_id!r} was started with do not fit: "
                f"{error}; make them fit again, for example by a default for what was added"
            )
            raise Halt from error

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise InvalidArguments unless the next run could be called with them."""
        self._definition.check_arguments(args, kwargs)

    def _failed_with(self, error: BaseException) -> events.ExecutionFailed:
        return events.ExecutionFailed(self._codec.encode_failure(error))

    async def _end(self, closing: Event) -> None:
        continues = isinstance(closing, events.ContinuedAsNew)
        self.messages.ended = "has continued as new" if continues else "has ended"
        for what in self.messages.unfinished():
            self.warn("the handler of %s is not done at the end of the workflow", what)
        await wind_down(self.loop, self.warn)
        report_unseen(self._main, [*self._failed, *self.loop.tasks], self.warn)
        left = Counter(event.name for event in self.messages.unreceived())
        if left and not continues:
            self.warn("signals that nobody received: %s", dict(left))
            self._emit(events.MessagesUnhandled(dict(left)))
        self._emit(closing)
        self.loop.ended = True

    async def _undo(self, closing: Event) -> Event:
        """Take back what succeeded, the last first; a cancellation meanwhile comes too late."""
        while self.undos:
            name, undo, args = self.undos.pop()
            try:
                future = self.start_task(undo, args, {}, name=name, retry=UNDO_POLICY, timeout=None)
            except SerializationError as error:
                self.warn("%s cannot be done: %s", name, error)
                continue
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled() and (error := future.exception()) is not None:
                self.warn("%s failed: %r", name, error)
        return closing

    # What arrives

    def _task_completed(self, event: events.TaskCompleted) -> None:
        self._calls.pop(event.seq, None)
        future = self._futures.pop(event.seq, None)
        if future is not None and not future.done():
            result = self._codec.decode_ordered(event.result)
            if future.undo is not None:
                takes = takes_result(future.undo)
                self.undos.append((f"undo {future.name}", future.undo, (result,) if takes else ()))
            future.set_result(result)

    def _task_failed(self, event: events.TaskFailed) -> None:
        self._calls.pop(event.seq, None)
        future = self._futures.pop(event.seq, None)
        if future is not None and not future.done():
            self._fail(future, event.failure)

    def _cancel_requested(self, event: events.CancelRequested) -> None:
        self._cancel_reason = event.reason
        # A TaskGroup does not hand on the message with which it is cancelled.
        self._why = event.reason
        if self._main is not None:
            # As a callback: what the cancellation gives up is the workflow's own doing.
            self.loop.call_soon(self._main.cancel, event.reason)

    def _timer_fired(self, event: events.TimerFired) -> None:
        handle = self._timers.pop(event.seq, None)
        if handle is not None:
            self.loop.timer_fired(handle)

    def _late(self, event: Event, name: str) -> None:
        """The outcome of a task that nobody awaits, because the workflow has come to its end."""
        if isinstance(event, (events.TaskCompleted, events.TaskFailed)):
            known = self._calls.pop(event.seq, None)
            if known is not None and isinstance(event, events.TaskFailed):
                failure = event.failure
                self.warn(
                    "task %r failed after the end of the workflow: %s: %s",
                    name,
                    failure.type,
                    failure.message,
                )

    _HANDLERS: ClassVar[dict[type[Event], Callable[[Run, Any], None]]] = {
        events.ExecutionStarted: _begin,
        events.TaskCompleted: _task_completed,
        events.TaskFailed: _task_failed,
        events.TimerFired: _timer_fired,
        events.SignalReceived: lambda run, event: run.messages.signal_received(event),
        events.UpdateAccepted: lambda run, event: run.messages.update_accepted(event),
        events.CancelRequested: _cancel_requested,
        events.PromiseCompleted: Exchange._promise_completed,
        events.PromiseFailed: Exchange._promise_failed,
        events.ChildCompleted: Exchange._child_completed,
        events.ChildFailed: Exchange._child_failed,
    }
