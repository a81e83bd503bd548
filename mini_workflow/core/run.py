"""Run the code of one execution from its start to its end.

Incoming events are delivered one at a time. Each goes to the durable verb that it is about.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

from mini_workflow.core import events
from mini_workflow.core.asks import Asks
from mini_workflow.core.children import Children
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event
from mini_workflow.core.failure import set_traceback
from mini_workflow.core.payload import Payload
from mini_workflow.core.recorder import Recorder
from mini_workflow.core.records import replace
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.core.slots import see_to_limit
from mini_workflow.core.state import Summary
from mini_workflow.core.tasks import Inline, OutOfTime, Tasks
from mini_workflow.core.timers import Timers
from mini_workflow.core.timing import BEGIN, DEADLINE, moment_text
from mini_workflow.errors import (
    DeterminismError,
    ExecutionTimeout,
    InvalidArguments,
    MiniWorkflowError,
    PayloadNotReadable,
    SerializationError,
    UsageError,
    WorkflowDeadlock,
)
from mini_workflow.loop.ordered import unseen
from mini_workflow.loop.running import Halt, running_loop
from mini_workflow.loop.shutdown import name_of, report_unseen, run_cleanup
from mini_workflow.loop.source_line import user_line, waiting_line

if TYPE_CHECKING:
    from mini_workflow.core.conditions import Conditions
    from mini_workflow.core.messages import Messages
    from mini_workflow.core.promises import Promises

__all__ = ["Definition", "Inline", "OutOfTime", "Run"]


Part = TypeVar("Part")


class ContinueAsNew(BaseException):
    """Raised by `continue_as_new` to end the run, and caught by the run itself."""

    def __init__(self, arguments: Payload) -> None:
        super().__init__("the run continues as new; do not catch this")
        self.arguments = arguments


class Definition(Protocol):
    """The interface of a workflow that the core needs."""

    @property
    def name(self) -> str:
        """The name under which the workflow is registered."""
        ...

    @property
    def place(self) -> str:
        """The place of the workflow's definition, as ``file:line in function``, for errors."""
        ...

    @property
    def changed_values(self) -> Literal["warn", "block"]:
        """Whether an execution goes on or blocks if its code gives other values to recorded calls."""
        ...

    def begin(self, run: Run, args: list[Any], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of a new run. Raises InvalidArguments."""
        ...

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise InvalidArguments unless the workflow can be called with these arguments."""
        ...


def _is_group(error: object) -> bool:
    return isinstance(error, BaseExceptionGroup)


def _continues(error: BaseException) -> ContinueAsNew | None:
    """Return the ContinueAsNew in an exception, also as the only one in a group; otherwise None."""
    inner: Any = error
    while _is_group(inner):
        inner = inner.exceptions[0] if len(inner.exceptions) == 1 else None
    return inner if isinstance(inner, ContinueAsNew) else None


class Run:
    """One execution in memory. Not thread-safe: one thread at a time may drive it."""

    __slots__ = (
        *("_abort", "_asks", "_cancel_at_start", "_cancel_reason", "_children", "_conditions"),
        *("_definition", "_ended", "_messages", "_parts", "_patched"),
        *("_promises", "awaited", "delivered", "execution_id", "loop"),
        *("main", "progress", "recorder", "started", "state", "summary"),
        *("tasks", "timers", "unwaited"),
    )

    def __init__(
        self,
        definition: Definition,
        execution_id: str,
        codec: Codec,
        inline: Inline | None = None,
        *,
        make_recorder: Callable[..., Recorder] = Recorder,
    ) -> None:
        recorder = make_recorder(execution_id, codec, strict=definition.changed_values == "block")
        self.recorder = recorder
        self.execution_id = execution_id
        self.loop = recorder.loop
        self.state = recorder.state
        self.timers = Timers(recorder)
        self.started: events.ExecutionStarted | None = None
        self.delivered = 0
        """The number of incoming events that the run has taken."""
        self._definition = definition
        self.tasks = Tasks(recorder, inline)
        self._parts: tuple[Any, ...] = (self.tasks,)
        """The parts that the code has used, except the messages."""
        self._asks: Asks | None = None
        self._children: Children | None = None
        self._conditions: Conditions | None = None
        self._messages: Messages | None = None
        self._promises: Promises | None = None
        self.main: asyncio.Task[Any] | None = None
        """The asyncio task of the workflow function; None before it begins and after its end."""
        self._abort: BaseException | None = None
        self._ended: str | None = None
        """The end of the workflow function in words: "has ended" or "has continued as new"."""
        self._cancel_reason: str | None = None
        self._cancel_at_start: str | None = None
        self._patched: dict[str, bool] | None = None
        self.unwaited = 0
        """The number of runs in a row, up to this one, that have continued as new without waiting."""
        self.summary: Summary | None = None
        """The summary of the state after the last decision, as long as nothing has changed since."""
        self.awaited: tuple[Any, tuple[int, int], str] | None = None
        """The last description of the awaits of the run: see the module `awaited`."""
        self.progress = ""
        """The progress that the code has reported, as text: see the module `progress`."""

    # The parts but the tasks are made when they are first used: most runs need one or none, and all take
    # 2 KiB. With a `__getattr__` for them all other attributes of a run would take longer to read.

    @property
    def messages(self) -> Messages:
        """The signals, updates and queries of the run."""
        if (part := self._messages) is None:
            from mini_workflow.core.messages import Messages

            part = self._messages = Messages(self.recorder, self._handler_failed)
            part.ended = self._ended
        return part

    @property
    def asks(self) -> Asks:
        """The asks of the run."""
        return self._asks or self._added("_asks", Asks(self.recorder))

    @property
    def children(self) -> Children:
        """The children of the run."""
        return self._children or self._added("_children", Children(self.recorder, self.asks))

    @property
    def conditions(self) -> Conditions:
        """The conditions of the run."""
        if (part := self._conditions) is None:
            from mini_workflow.core.conditions import Conditions

            part = self._added("_conditions", Conditions(self.recorder))
        return part

    @property
    def promises(self) -> Promises:
        """The promises of the run."""
        if (part := self._promises) is None:
            from mini_workflow.core.promises import Promises

            part = self._added("_promises", Promises(self.recorder, self.timers))
        return part

    def _added(self, slot: str, part: Part) -> Part:
        setattr(self, slot, part)
        self._parts = (*self._parts, part)
        return part

    @property
    def fault(self) -> MiniWorkflowError | None:
        """Why the run cannot go on, or None."""
        return self.loop.fault

    def waiter(self) -> Any:
        """Return the future that the workflow function awaits, or None."""
        return getattr(self.main, "_fut_waiter", None)

    def place(self) -> str:
        """Return the place of the workflow's code, as a clause for an error message."""
        # Outside of a turn the stack is that of the engine.
        if running_loop() is self.loop and (line := user_line()):
            return line
        main = self.main
        if main is not None and not main.done() and (line := waiting_line(main.get_coro())):
            return f" (it waits at {line})"
        return f" (workflow {self._definition.name!r} at {self._definition.place})"

    def deliver(self, event: Event) -> None:
        """Take one incoming event, and run the workflow until it waits again.

        An error becomes the run's `fault`. Raises KeyboardInterrupt only.
        """
        state, loop, recorder = self.state, self.loop, self.recorder
        loop.resting = False
        closed = state.closed
        late = state.tasks.get(getattr(event, "seq", 0)) if closed else None
        self.summary = None
        state.apply(event)
        recorder.out.append(event)
        recorder.refused, recorder.reason = 0, ""
        self.delivered += 1
        if state.now > loop.now:
            loop.now = state.now
        arrival = _ARRIVALS.get(type(event))
        if closed:
            if isinstance(event, (events.TaskCompleted, events.TaskFailed)):
                self.tasks.late(event, "" if late is None else late.name)
            return
        try:
            if arrival is not None:
                getattr(getattr(self, arrival[0]), arrival[1])(event)
            elif isinstance(event, events.ExecutionStarted):
                self._begin(event)
            elif isinstance(event, events.CancelRequested):
                self._cancel_requested(event)
            elif isinstance(event, events.SlotsGranted) and self.main is None:
                self._begin_code()
            elif isinstance(event, events.ExecutionReset):
                # New operations get other numbers than those of the earlier run.
                recorder.seq = max(recorder.seq, event.highest)
            else:
                return
        except SerializationError as error:
            loop.fault = error
        if loop.fault is None:
            loop.drain()
        loop.resting = True
        if loop.fault is None:
            if state.closed:
                self._release()
            elif not (state.tasks or len(state.timers) > (DEADLINE in state.timers)) or (
                self.main is not None and self.main.done()
            ):
                self._look_for_trouble()

    def close(self) -> None:
        """Drop the run. Code of the workflow that runs because its coroutines are closed records nothing."""
        if self.recorder.dead:
            return
        self.recorder.dead = True
        self.recorder.silence()
        if self.main is not None or not self.loop.dead or self.loop.tasks:
            self._release()
        self.tasks.drop()

    def _release(self) -> None:
        self.loop.drop()
        self.main = None
        self.timers.clear()
        for part in self._parts:
            part.clear()
        self.recorder.failed = ()

    def _look_for_trouble(self) -> None:
        main, name = self.main, self._definition.name
        if main is None or self.loop.ended:
            return
        if main.done():
            self.loop.fault = DeterminismError(
                f"workflow {name!r} ended without a result: {main!r}"
            )
            return
        state = self.state
        if state.promises or state.children or state.asks or self.messages.listening():
            return
        where = waiting_line(main.get_coro())
        unseen_failures = [
            f for f in (*self.recorder.failed, *self.loop.tasks) if f.done() and unseen(f)
        ]
        shown = self.recorder.shown
        because = "".join(
            f"; {name_of(f)} failed and nobody awaited it: {shown(f.exception())!r}"
            for f in unseen_failures
        )
        self.loop.fault = WorkflowDeadlock(
            f"workflow {name!r} waits for ever: no operation of it is open, it has no handler of messages, "
            f"and code of others cannot wake it{f' (it waits at {where})' if where else ''}{because}"
        )

    # The workflow function

    def _begin(self, event: events.ExecutionStarted) -> None:
        self.started = event
        self.recorder.seq = event.first_seq
        self.loop.closes_early = event.behaviour >= 1
        timers = self.state.timers
        if DEADLINE in timers or event.timeout is not None:
            self.timers.expect(DEADLINE, self._deadline_reached)
        if event.cancel is not None and not self.state.has_begun():
            self._end_before_code(events.ExecutionCancelled(event.cancel))
        elif BEGIN not in timers:
            self._begin_code()
        else:
            self.timers.expect(BEGIN, self._begin_code)

    def _begin_code(self) -> None:
        """Start the workflow function, once it has the slot that it needs."""
        event, slot = self.started, self.state.own_slot
        assert event is not None
        if slot is not None and slot.waits:
            self.loop.call_soon(self._see_to_slot, slot.limit["name"])
            return
        arguments = self.recorder.codec.decode_ordered(event.arguments)
        if self.recorder.codec.is_private:
            self.recorder.codec = self.recorder.codec.for_run(event.arguments)
        try:
            args, kwargs = arguments
        except (TypeError, ValueError):
            raise PayloadNotReadable(
                f"the arguments of execution {self.execution_id!r} are damaged: {arguments!r}"
            ) from None
        # An empty context, since a replay does not have the context variables of the caller.
        self.main = self.loop.create_task(
            self._conduct(args, kwargs), name=event.workflow, context=Context()
        )
        if event.cancel is not None:
            self._cancel_at_start = event.cancel
            self.loop.call_soon(self._cancel_now)  # behind the first step of the code

    def _see_to_slot(self, limit: str) -> None:
        """Start the execution of the limit that grants the slot, unless this one was cancelled meanwhile."""
        if self.main is not None or not self.recorder.may_start():
            return
        try:
            see_to_limit(self.recorder, limit, f"execution {self.execution_id!r}")
        except UsageError as error:
            self.loop.fault = error
            raise Halt from error

    def _end_before_code(self, closing: Event) -> None:
        """End the execution without running any of its code."""
        assert self.started is not None
        self.main = self.loop.create_task(
            self._end(closing), name=self.started.workflow, context=Context()
        )

    def _cancel_now(self) -> None:
        if (reason := self._take_cancel()) is not None and self.main is not None:
            self.main.cancel(reason)

    async def _conduct(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        # Only one frame while the code waits: each frame takes memory, and time at every step.
        try:
            called = self._called(args, kwargs)
            del args, kwargs  # otherwise they stay in memory as long as the code waits
            result = await called
            if self._abort is not None:
                raise self._abort
            closing: Event = events.ExecutionCompleted(self.recorder.codec.encode(result, "result"))
        except (Halt, KeyboardInterrupt):
            raise
        except BaseException as error:
            if type(error) is not ContinueAsNew and not isinstance(error, asyncio.CancelledError):
                if self.recorder.dead or running_loop() is not self.loop:
                    raise  # the coroutine is being closed, not ended by the workflow
                if error.__traceback__ is not None:
                    begins = error.__traceback__.tb_next  # the first frame of the user's code
                    if self.recorder.hooks is not None and begins is not None:
                        begins = begins.tb_next
                    set_traceback(error, begins)
            closing = self._ended_by(error)
            if not isinstance(closing, events.ContinuedAsNew):
                await self.tasks.undo()
        await self._end(self._tried_again(closing))

    def _ended_by(self, error: BaseException) -> Event:
        """Return the closing event of a workflow function that has raised."""
        cancelled = isinstance(error, asyncio.CancelledError)
        if self._abort is not None and (cancelled or type(error) is ContinueAsNew):
            return self._failed_with(self._abort)
        if (request := _continues(error)) is not None:
            return events.ContinuedAsNew(request.arguments)
        if cancelled:
            reason = str(error) if self._cancel_reason is None else self._cancel_reason
            return events.ExecutionCancelled(reason)
        if isinstance(self._abort, ExecutionTimeout) and error is not self._abort:
            self._abort.__cause__ = error  # raised by the cleanup; the deadline ends the execution
            error = self._abort
        return self._failed_with(error)

    def _called(self, args: list[Any], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """Return the workflow function's coroutine. If the arguments do not fit, the run has a fault and
        the execution stays open: its parameters were changed, and can be fixed.
        """
        try:
            return self._definition.begin(self, args, kwargs)
        except InvalidArguments as error:
            self.loop.fault = InvalidArguments(
                f"the arguments of execution {self.execution_id!r} do not fit its workflow any more: "
                f"{error}; change the parameters so that they fit, for example give new ones a default"
            )
            raise Halt from error

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise InvalidArguments unless the next run can be called with these arguments."""
        self._definition.check_arguments(args, kwargs)

    def _failed_with(self, error: BaseException) -> events.ExecutionFailed:
        return events.ExecutionFailed(self.recorder.codec.encode_failure(error))

    def _tried_again(self, closing: Event) -> Event:
        """Return the closing event, or ContinuedAsNew if the run has failed and its policy allows a retry."""
        started = self.started
        assert started is not None
        if started.retry is None or not isinstance(closing, events.ExecutionFailed):
            return closing
        failure, attempt = closing.failure, started.attempt
        policy = RetryPolicy.from_plain(started.retry)
        if isinstance(self._abort, ExecutionTimeout) or not policy.retries(failure, attempt):
            return events.ExecutionFailed(replace(failure, attempts=attempt))
        draw = Random(f"{started.seed}:{BEGIN}:{attempt}").random()
        delay = policy.delay(failure, attempt, draw)
        self.recorder.warn(
            "attempt %d failed: %s; attempt %d follows in %g s",
            *(attempt, failure.summary(), attempt + 1, delay / 1000),
        )
        return events.ContinuedAsNew(started.arguments, failure, delay)

    async def _end(self, closing: Event) -> None:
        continues = isinstance(closing, events.ContinuedAsNew)
        self._ended = "has continued as new" if continues else "has ended"
        if (messages := self._messages) is not None:
            messages.ended = self._ended
            for what in messages.unfinished():
                self.recorder.warn("the handler of %s is not done at the end of the workflow", what)
        await run_cleanup(self.loop, self.recorder.warn)
        report_unseen(self.main, [*self.recorder.failed, *self.loop.tasks], self.recorder.warn)
        messages = None if continues else self._messages
        if messages is not None and (unreceived := messages.unreceived()):
            left = dict(Counter(event.name for event in unreceived))
            self.recorder.warn("the workflow ended without receiving these signals: %s", left)
            self.recorder.emit(events.MessagesUnhandled(left))
        self.recorder.emit(closing)
        self.loop.ended = True

    # Cancellation

    def _cancel_requested(self, event: events.CancelRequested) -> None:
        self._cancel_reason = event.reason
        # A TaskGroup does not hand on the message with which it is cancelled.
        self.recorder.reason = event.reason
        if self.main is not None:
            # As a callback, since operations may be cancelled only in the workflow's own turn.
            self.loop.call_soon(self.main.cancel, event.reason)
        else:
            self._end_before_code(events.ExecutionCancelled(event.reason))

    def _deadline_reached(self) -> None:
        """End the run at its deadline: cancel its code where it waits, which may clean up."""
        error = ExecutionTimeout(
            f"execution {self.execution_id!r} has not ended by its deadline, "
            f"{moment_text(self.state.now)}",
            execution_id=self.execution_id,
        )
        if self.main is None:
            self._end_before_code(self._failed_with(error))
        elif self._ended is None and not self.main.done():
            self._abort = error
            self.loop.call_soon(self.main.cancel)

    def _handler_failed(self, error: BaseException) -> None:
        if self._ended is not None:
            self.recorder.warn(
                "a handler failed at the end of the workflow: %r", error, exc_info=error
            )
        elif self._abort is None and self.main is not None and not self.main.done():
            self._abort = error
            self.main.cancel()

    # Calls of the code about its own execution

    def patched(self, name: str) -> bool:
        """Return whether the execution takes the new path of the patch `name`. The answer stays the same
        for the whole run.
        """
        patched = self._patched = self._patched or {}
        if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"ctx.patched({name!r}): give the name of the change, a text")
        if name in patched:
            return patched[name]
        recorder = self.recorder
        if not recorder.may_start():
            return False
        recorded = recorder.recorded
        answer = recorded is None or recorded.ended() or name in recorded.patches
        if answer:
            recorder.emit(events.PatchMarked(name))
        patched[name] = answer
        return answer

    def continue_as_new(self, arguments: Payload) -> None:
        """End this run by raising ContinueAsNew; the next run begins with these arguments.

        Raises UsageError outside of the workflow function itself, and CancelledError if the execution was
        cancelled and its code was not told yet.
        """
        if self.recorder.may_start() and asyncio.current_task(self.loop) is not self.main:
            raise UsageError(
                "ctx.continue_as_new() was called in a handler or in another asyncio.Task; set a "
                "variable there, and call it in the workflow function itself"
            )
        if (reason := self._take_cancel()) is not None:
            raise asyncio.CancelledError(reason)
        raise ContinueAsNew(arguments)

    def _take_cancel(self) -> str | None:
        """Return, once, the reason of a cancellation from before the run began; None if there is none.

        A run that never waits gets it when it continues as new.
        """
        reason, self._cancel_at_start = self._cancel_at_start, None
        if reason is not None:
            self._cancel_reason = self.recorder.reason = reason
        return reason


_ARRIVALS: Final[dict[type[Event], tuple[str, str]]] = {
    events.TaskCompleted: ("tasks", "completed"),
    events.TaskFailed: ("tasks", "failed"),
    events.TimerFired: ("timers", "fired"),
    events.SignalReceived: ("messages", "signal_received"),
    events.UpdateAccepted: ("messages", "update_accepted"),
    events.PromiseCompleted: ("promises", "completed"),
    events.PromiseFailed: ("promises", "failed"),
    events.ChildCompleted: ("children", "completed"),
    events.ChildFailed: ("children", "failed"),
    events.AskAnswered: ("asks", "answered"),
    events.AskFailed: ("asks", "failed"),
}
"""The part of a run that takes each incoming event, and its method."""
