"""Run: the life of one execution - the workflow's coroutine, from its start to its end.

Incoming events are delivered one at a time; each durable verb takes those that are about it.
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
from mini_workflow.loop.loop import Halt, running_loop
from mini_workflow.loop.ordered import unseen
from mini_workflow.loop.shutdown import name_of, report_unseen, run_cleanup
from mini_workflow.loop.source_line import user_line, waiting_line

if TYPE_CHECKING:
    from mini_workflow.core.conditions import Conditions
    from mini_workflow.core.messages import Messages
    from mini_workflow.core.promises import Promises

__all__ = ["Definition", "Inline", "OutOfTime", "Run"]


Part = TypeVar("Part")


class ContinueAsNew(BaseException):
    """Ends the run; raised by `continue_as_new` and caught by the run itself."""

    def __init__(self, arguments: Payload) -> None:
        super().__init__("the run continues as new; do not catch this")
        self.arguments = arguments


class Definition(Protocol):
    """A workflow, as far as the core needs to know it."""

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
        """Return the coroutine of a new run. Raises InvalidArguments."""
        ...

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise InvalidArguments unless it can be called with them."""
        ...


def _is_group(error: object) -> bool:
    return isinstance(error, BaseExceptionGroup)


def _continues(error: BaseException) -> ContinueAsNew | None:
    """Return the request that a TaskGroup has wrapped, if nothing else has gone wrong in it."""
    inner: Any = error
    while _is_group(inner):
        inner = inner.exceptions[0] if len(inner.exceptions) == 1 else None
    return inner if isinstance(inner, ContinueAsNew) else None


class Run:
    """One execution in memory. Not thread-safe: one thread at a time may drive it."""

    __slots__ = (
        "_abort",
        "_asks",
        "_cancel_at_start",
        "_cancel_reason",
        "_children",
        "_conditions",
        "_definition",
        "_ended",
        "_inline",
        "_messages",
        "_parts",
        "_patched",
        "_promises",
        "_tasks",
        "awaited",
        "delivered",
        "execution_id",
        "loop",
        "main",
        "progress",
        "recorder",
        "started",
        "state",
        "summary",
        "timers",
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
        """How many incoming events it has taken."""
        self._definition = definition
        self._inline = inline
        self._parts: tuple[Any, ...] = ()
        """Those that the code has used."""
        self._asks: Asks | None = None
        self._children: Children | None = None
        self._conditions: Conditions | None = None
        self._messages: Messages | None = None
        self._promises: Promises | None = None
        self._tasks: Tasks | None = None
        self.main: asyncio.Task[Any] | None = None
        """The workflow function at work; None before it begins and after the end."""
        self._abort: BaseException | None = None
        self._ended: str | None = None
        """What the workflow function has come to, once it has."""
        self._cancel_reason: str | None = None
        self._cancel_at_start: str | None = None
        self._patched: dict[str, bool] | None = None
        self.summary: Summary | None = None
        """How the execution stood after the last decision, as long as nothing has changed since."""
        self.awaited: tuple[Any, int, str] | None = None
        """What it awaited when that was looked at last: see the module `awaited`."""
        self.progress = ""
        """What its code has told of its progress, as text: see the module `progress`."""

    # Its parts are made when they are first asked for: most runs need one or two, and all take 2 KiB. With a
    # `__getattr__` for them all else of a run would take longer to read.

    @property
    def tasks(self) -> Tasks:
        """Its tasks."""
        if (part := self._tasks) is None:
            part = self._tasks = self._added(Tasks(self.recorder, self._inline))
        return part

    @property
    def messages(self) -> Messages:
        """Its signals, updates and queries."""
        if (part := self._messages) is None:
            from mini_workflow.core.messages import Messages

            part = self._messages = Messages(self.recorder, self._handler_failed)
            part.ended = self._ended
        return part

    @property
    def asks(self) -> Asks:
        """What it has asked of other executions."""
        if (part := self._asks) is None:
            part = self._asks = self._added(Asks(self.recorder))
        return part

    @property
    def children(self) -> Children:
        """Its children."""
        if (part := self._children) is None:
            part = self._children = self._added(Children(self.recorder, self.asks))
        return part

    @property
    def conditions(self) -> Conditions:
        """The conditions that its code waits for."""
        if (part := self._conditions) is None:
            from mini_workflow.core.conditions import Conditions

            part = self._conditions = self._added(Conditions(self.recorder))
        return part

    @property
    def promises(self) -> Promises:
        """Its promises."""
        if (part := self._promises) is None:
            from mini_workflow.core.promises import Promises

            part = self._promises = self._added(Promises(self.recorder, self.timers))
        return part

    def _added(self, part: Part) -> Part:
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
        """Return where the workflow's code is, as a clause for an error message."""
        # Outside of a turn the stack is that of whoever drives the run.
        if running_loop() is self.loop and (line := user_line()):
            return line
        main = self.main
        if main is not None and not main.done() and (line := waiting_line(main.get_coro())):
            return f" (it waits at {line})"
        return f" (workflow {self._definition.name!r} at {self._definition.place})"

    def deliver(self, event: Event) -> None:
        """Take one incoming event and let the workflow run until it waits again.

        Whatever goes wrong is the run's `fault`. Raises KeyboardInterrupt only.
        """
        state, loop, recorder = self.state, self.loop, self.recorder
        closed = state.closed
        late = state.tasks.get(getattr(event, "seq", 0)) if closed else None
        self.summary = None
        state.apply(event)
        recorder.out.append(event)
        recorder.refused, recorder.reason = 0, ""
        self.delivered += 1
        loop.now = max(loop.now, state.now)
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
                # What is started from here on is nothing that the other run has started.
                recorder.seq = max(recorder.seq, event.highest)
            else:
                return
        except SerializationError as error:
            loop.fault = error
        if loop.fault is None:
            loop.drain()
        if loop.fault is None:
            if state.closed:
                self._release()
            elif not (state.tasks or len(state.timers) > (DEADLINE in state.timers)) or (
                self.main is not None and self.main.done()
            ):
                self._look_for_trouble()

    def close(self) -> None:
        """Drop the run. No code of the workflow that runs because of it can reach the store."""
        if self.recorder.dead:
            return
        self.recorder.dead = True
        self.recorder.silence()
        if self.main is not None or not self.loop.dead or self.loop.tasks:
            self._release()
        for part in self._parts:
            if isinstance(part, Tasks):
                part.drop()

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
        told = self.recorder.told
        because = "".join(
            f"; {name_of(f)} failed and nobody awaited it: {told(f.exception())!r}"
            for f in unseen_failures
        )
        self.loop.fault = WorkflowDeadlock(
            f"workflow {name!r} waits for ever: nothing is open that could wake it, and it listens to nobody"
            f"{f' (it waits at {where})' if where else ''}{because}"
        )

    # The workflow function

    def _begin(self, event: events.ExecutionStarted) -> None:
        self.started = event
        self.recorder.seq = event.first_seq
        self.loop.generators.closes_early = event.behaviour >= 1
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
        """Run the workflow function, once there is the slot that it needs."""
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
        # An empty context: what the caller has in its own is not there on replay.
        self.main = self.loop.create_task(
            self._conduct(args, kwargs), name=event.workflow, context=Context()
        )
        if event.cancel is not None:
            self._cancel_at_start = event.cancel
            self.loop.call_soon(self._cancel_now)  # behind the first step of the code

    def _see_to_slot(self, limit: str) -> None:
        """See to the limit being there that has to grant a slot, unless it was cancelled meanwhile."""
        if self.main is not None or not self.recorder.may_start():
            return
        try:
            see_to_limit(self.recorder, limit, f"execution {self.execution_id!r}")
        except UsageError as error:
            self.loop.fault = error
            raise Halt from error

    def _end_before_code(self, closing: Event) -> None:
        """Come to an end without running any code."""
        assert self.started is not None
        self.main = self.loop.create_task(
            self._end(closing), name=self.started.workflow, context=Context()
        )

    def _cancel_now(self) -> None:
        if (reason := self._take_cancel()) is not None and self.main is not None:
            self.main.cancel(reason)

    async def _conduct(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        # One frame only while the code waits: each takes memory, and is gone through at every step.
        try:
            called = self._called(args, kwargs)
            del args, kwargs  # which would be kept for as long as the code waits
            result = await called
            if self._abort is not None:
                raise self._abort
            closing: Event = events.ExecutionCompleted(self.recorder.codec.encode(result, "result"))
        except (Halt, KeyboardInterrupt):
            raise
        except BaseException as error:
            if type(error) is not ContinueAsNew and not isinstance(error, asyncio.CancelledError):
                if self.recorder.dead or running_loop() is not self.loop:
                    raise  # not the workflow's own: its coroutine is being closed
                if error.__traceback__ is not None:
                    begins = error.__traceback__.tb_next  # at the user's code
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
            self._abort.__cause__ = error  # of the cleanup: what ends it is the deadline
            error = self._abort
        return self._failed_with(error)

    def _called(self, args: list[Any], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """Return the workflow function's coroutine. That it cannot be called is no end of the
        execution: its parameters were changed, and may be fixed.
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
        return events.ExecutionFailed(self.recorder.codec.encode_failure(error))

    def _tried_again(self, closing: Event) -> Event:
        """Return what is to come of the run instead, if it has failed and is to be tried again."""
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
        if (made := self._messages) is not None:
            made.ended = self._ended
            for what in made.unfinished():
                self.recorder.warn("the handler of %s is not done at the end of the workflow", what)
        await run_cleanup(self.loop, self.recorder.warn)
        report_unseen(self.main, [*self.recorder.failed, *self.loop.tasks], self.recorder.warn)
        made = None if continues else self._messages
        if made is not None and (unreceived := made.unreceived()):
            left = dict(Counter(event.name for event in unreceived))
            self.recorder.warn("signals that nobody received: %s", left)
            self.recorder.emit(events.MessagesUnhandled(left))
        self.recorder.emit(closing)
        self.loop.ended = True

    # Cancellation

    def _cancel_requested(self, event: events.CancelRequested) -> None:
        self._cancel_reason = event.reason
        # A TaskGroup does not hand on the message with which it is cancelled.
        self.recorder.reason = event.reason
        if self.main is not None:
            # As a callback: what the cancellation gives up is the workflow's own doing.
            self.loop.call_soon(self.main.cancel, event.reason)
        else:
            self._end_before_code(events.ExecutionCancelled(event.reason))

    def _deadline_reached(self) -> None:
        """End the run: its code is cancelled where it waits, and may clean up."""
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

    # What the code asks of its own execution

    def patched(self, name: str) -> bool:
        """Return whether the execution takes the new path of a change; the answer
        stays the same.
        """
        patched = self._patched = self._patched or {}
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
        """End this run; the next one begins with these arguments. Raises, always."""
        if self.recorder.may_start() and asyncio.current_task(self.loop) is not self.main:
            raise UsageError(
                "ctx.continue_as_new() was called in a handler or in another asyncio.Task; set a "
                "variable there, and call it in the workflow function itself"
            )
        if (reason := self._take_cancel()) is not None:
            raise asyncio.CancelledError(reason)
        raise ContinueAsNew(arguments)

    def _take_cancel(self) -> str | None:
        """Take the reason for which the run was cancelled before it began, until its code is told.

        A run that continues as new without waiting is told there, since it would never be otherwise.
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
"""The part that each incoming event is about, and its method that takes it."""
