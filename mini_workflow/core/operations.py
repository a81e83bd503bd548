"""Operations: what workflow code can start and give up, each recorded as an event.

While a script is there, each event must be what the script says, and the script's is taken
instead.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, Final

from mini_workflow.core import events
from mini_workflow.core.calls import check_call, is_lambda
from mini_workflow.core.codec import Codec
from mini_workflow.core.comparison import COMPARED, Comparison
from mini_workflow.core.conditions import Conditions
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.futures import SleepFuture, TaskFuture
from mini_workflow.core.mapping import Mapping, as_it_is_now
from mini_workflow.core.payload import EMPTY, Payload
from mini_workflow.core.raised import add_note
from mini_workflow.core.recorded import INLINE, Script
from mini_workflow.core.retry import JudgedCall, RetryPolicy
from mini_workflow.core.state import ExecutionState
from mini_workflow.errors import (
    MiniWorkflowError,
    NonDeterminismError,
    NotAllowedInWorkflow,
    SerializationError,
    TaskError,
    UsageError,
)
from mini_workflow.loop.handles import TimerHandle
from mini_workflow.loop.loop import Halt, WorkflowLoop, running_loop
from mini_workflow.loop.ordered import WorkflowFuture, unseen
from mini_workflow.loop.source_line import user_line

log = logging.getLogger("mini_workflow.workflow")

Inline = Callable[[str, int, str, bytes], "Payload | Failure"]
"""Runs a captured call inside the turn: (execution id, seq, name, payload) -> what came of it."""

_SCHEDULED: Final = (events.TaskScheduled,)
NONE: Final[set[str]] = set()
_HALTS: Final = 10
"""How often code that must not run on is told so; code that catches even that waits for ever."""
_FAILED_PRUNE_AT: Final = 64


class Operations:
    """The operations of one run."""

    __slots__ = (
        "_calls",
        "_codec",
        "comparison",
        "_conditions",
        "_failed",
        "_failed_prune",
        "_futures",
        "_halts",
        "_inline",
        "_out",
        "_refused",
        "_script",
        "_seq",
        "_timers",
        "_wanted",
        "_why",
        "dead",
        "execution_id",
        "loop",
        "reading",
        "state",
        "undos",
    )

    def __init__(
        self, execution_id: str, codec: Codec, inline: Inline | None, *, strict: bool = False
    ) -> None:
        self._codec = codec
        self._inline = inline
        self.execution_id = execution_id
        self.state = ExecutionState()
        self.loop = WorkflowLoop(execution_id, self)
        self.dead = False
        self.reading: str | None = None
        """What runs that may start nothing: a query or a validator."""
        self.undos: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []
        """What takes back the tasks that have succeeded, in their order."""
        self._conditions = Conditions(self.loop)
        self.comparison = Comparison(codec.outline, strict, self._changed)
        self._seq = 0
        self._futures: dict[int, TaskFuture] = {}
        self._timers: dict[int, TimerHandle] = {}
        self._calls: dict[int, tuple[bytes, bool]] = {}
        self._failed: list[TaskFuture] = []
        self._failed_prune = _FAILED_PRUNE_AT
        self._out: list[Event] = []
        self._script: Script | None = None
        self._wanted: frozenset[int] = frozenset()
        self._refused = 0
        self._why = ""
        self._halts = 0

    @property
    def fault(self) -> MiniWorkflowError | None:
        """Why the run cannot go on, or None."""
        return self.loop.fault

    @property
    def replaying(self) -> bool:
        """Whether what happens now is a repetition of what is recorded."""
        return self._script is not None

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be logged: what happens now happened before, or does not count."""
        return self._script is not None or self.dead or self.loop.fault is not None

    def warn(self, message: str, *args: Any, exc_info: BaseException | None = None) -> None:
        """Log a warning about this execution, once: silent while replaying."""
        if not self.quiet:
            line = "[%s] " + message
            with self.loop.outside():
                log.warning(line, self.execution_id, *args, exc_info=exc_info)

    def _changed(self, message: str) -> None:
        """Say that the code has changed: while replaying too, when it is found out."""
        line = message + user_line()
        with self.loop.outside():
            log.warning("[%s] %s", self.execution_id, line)

    @property
    def last_seq(self) -> int:
        """The number of the operation that was started last."""
        return self._seq

    def decode(self, payload: Payload) -> Any:
        """An encoded value again."""
        return self._codec.decode_ordered(payload)

    def encode(self, value: object, path: str) -> Payload:
        """A value, encoded; `path` names it in an error."""
        return self._codec.encode(value, path)

    def encode_failure(self, error: BaseException) -> Failure:
        """An exception as data."""
        return self._codec.encode_failure(error)

    def call_of(self, seq: int) -> tuple[bytes, bool] | None:
        """The captured call of an open task, and whether it is asynchronous; None if unknown."""
        return self._calls.get(seq)

    def may_start(self) -> bool:
        """Raise unless this is the workflow's own code, in its own turn, and may go on.

        False for code that goes on all the same: what it starts is never done.
        """
        if self.reading is not None:
            self.loop.touched = True
            raise NotAllowedInWorkflow(
                f"{self.reading} tried to start something; it may only look at the workflow's "
                f"variables: use an update handler for what changes them{user_line()}"
            )
        if running_loop() is not self.loop:
            raise NotAllowedInWorkflow(
                "the workflow's context was used outside its workflow function (in a task, in "
                "another thread or after the end); pass results back to the workflow instead"
            )
        if self.dead or self.loop.fault is not None:
            self._halts += 1
            if self._halts <= _HALTS:
                raise Halt
            return False
        if self._conditions.trying:
            self.loop.refuse(
                "starting something in the predicate of ctx.wait_for()",
                "only look at the workflow's variables there",
            )
        return True

    def may_change(self, what: str) -> None:
        """Raise where code may only look: `what` is something that a replay would see."""
        if self.reading is not None:
            self.loop.touched = True
            raise NotAllowedInWorkflow(
                f"{self.reading} tried {what}, which changes what the workflow does next; it may only "
                f"look at the workflow's variables: use an update handler{user_line()}"
            )
        if self._conditions.trying:
            self.loop.refuse(
                f"{what} in the predicate of ctx.wait_for()",
                "only look at the workflow's variables there",
            )

    def _emit(self, event: Event) -> Event:
        script = self._script
        if script is not None and not script.ended():
            if script.is_terminated():
                self.loop.ended = True
                raise Halt
            try:
                event = script.expect(event)
            except NonDeterminismError as error:
                self.loop.fault = error
                raise Halt from error
        elif type(event) in COMPARED:
            try:
                self.comparison.check_new(event)
            except NonDeterminismError as error:
                self.loop.fault = NonDeterminismError(
                    f"the code no longer matches the history: {error}{user_line()}"
                )
                raise Halt from error
        self.state.apply(event)
        self._out.append(event)
        self._refused = 0
        return event

    # Tasks

    def start_task(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        name: str,
        retry: RetryPolicy | None,
        timeout: int | None,
        heartbeat_timeout: int | None = None,
        undo: Callable[..., Any] | None = None,
        options: set[str] = NONE,
    ) -> TaskFuture:
        """Start a task now. The timeouts are in milliseconds; `options` are what the user has given
        of the engine's own arguments.

        The call is captured before anything is recorded, so that a failure to capture it leaves
        no trace.
        """
        if not self.may_start():
            return TaskFuture(0, name, loop=self.loop, operations=self)
        seq = self._seq + 1
        name = self._name_before(name, function)
        judge = None if retry is None else retry.retry_if
        payload = self._capture(_SCHEDULED, seq, name, function, args, kwargs, options, judge)
        if payload is not None:
            self._calls[seq] = (payload, is_async(function))
        self._seq = seq
        plan = None if retry is None else retry.to_plain()
        call = self._fingerprint(name, function, args, kwargs)
        self._emit(
            events.TaskScheduled(seq, name, plan, timeout, self._refused, heartbeat_timeout, call)
        )
        future = TaskFuture(seq, name, loop=self.loop, operations=self)
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
        """Run a task inside the turn, or take its recorded result; the future is done."""
        if not self.may_start():
            return TaskFuture(0, name, loop=self.loop, operations=self)
        seq = self._seq + 1
        name = self._name_before(name, function)
        payload = self._capture(INLINE, seq, name, function, args, kwargs, options)
        call = self._fingerprint(name, function, args, kwargs)
        asked: Event = events.InlineTaskCompleted(seq, name, EMPTY, self._refused, call)
        if payload is not None and (self._script is None or self._script.ended()):
            if self._inline is None:
                self.loop.fault = UsageError(
                    f"inline task {name!r} comes next, and no task runs in a replay"
                )
                raise Halt
            with self.loop.outside():
                outcome = self._inline(self.execution_id, seq, name, payload)
            if isinstance(outcome, Failure):
                asked = events.InlineTaskFailed(seq, name, outcome, self._refused, call)
            else:
                asked = events.InlineTaskCompleted(seq, name, outcome, self._refused, call)
        self._seq = seq
        event = self._emit(asked)
        future = TaskFuture(seq, name, loop=self.loop, operations=self)
        if isinstance(event, events.InlineTaskFailed):
            self._fail(future, event.failure)
        elif isinstance(event, events.InlineTaskCompleted):
            try:
                future.set_result(self._codec.decode_ordered(event.result))
            except SerializationError as error:
                self.loop.fault = error
                raise Halt from error
        return future

    def map(
        self, start: Callable[[Any], TaskFuture], items: list[Any], concurrency: int | None
    ) -> WorkflowFuture:
        """A task for every item; the results in the order of the items."""
        if not self.may_start():
            return self.loop.create_future()
        return Mapping(start, items, concurrency, loop=self.loop)

    def _capture(
        self,
        kinds: tuple[type[Event], ...],
        seq: int,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: set[str],
        judge: Callable[[Exception], bool] | None = None,
    ) -> bytes | None:
        """The call as bytes, or None when the task is recorded and over.

        A call that could not be captured when it was recorded has left no event behind. So
        whatever does not stand in the script is captured again, and fails again.
        """
        carried = function if judge is None else JudgedCall(function, judge)
        script = self._script
        if script is not None and script.stands_next(kinds, seq, name, self._refused):
            if seq not in self._wanted:
                return None
            try:
                return self._codec.capture(carried, args, kwargs)
            except SerializationError as error:
                self.loop.fault = error
                raise Halt from error
        try:
            check_call(function, args, kwargs, options)
            return self._codec.capture(carried, args, kwargs)
        except Exception:
            self._refused += 1
            raise

    def _name_before(self, name: str, function: Callable[..., Any]) -> str:
        """The name of a task, in a history from before lambdas were named after what they call."""
        script = self._script
        if script is None or not is_lambda(function):
            return name
        return script.name_before(name)

    def _fingerprint(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        """The fingerprint of a call, without the name that the task has anyway; empty where there
        is nothing to compare it with.
        """
        script = self._script
        if script is not None and not script.calls_next():
            return ""
        call = self._codec.fingerprint(function, args, kwargs)
        return call[len(name) :] if call.startswith(name) and call[len(name)] == "#" else call

    def cancel_task(self, seq: int, reason: str = "") -> None:
        """Give an open task up; without a `reason` it is that of the delivery."""
        if seq in self.state.tasks and self._may_give_up():
            self._futures.pop(seq, None)
            self._calls.pop(seq, None)
            self._emit(events.TaskCancelled(seq, reason or self._why))

    def _may_give_up(self) -> bool:
        """Raise like `may_start`; False where it does not matter any more."""
        if self.dead or self.loop.fault is not None or self.loop.ended:
            return False
        return self.may_start()

    def _fail(self, future: TaskFuture, failure: Failure) -> None:
        error = self._codec.decode_failure(failure)
        if isinstance(error, StopIteration) or not isinstance(error, Exception):
            # The one cannot be set on a future; the others would end more than the workflow.
            replacement = TaskError(
                f"{type(error).__name__}: {error}",
                type_name=failure.type,
                remote_traceback=failure.traceback,
            )
            replacement.__cause__ = error
            error = replacement
        if failure.attempts is not None and failure.attempts > 1:
            add_note(error, f"task {future.name!r} failed after {failure.attempts} attempts")
        future.set_exception(error)
        self._failed.append(future)
        if len(self._failed) > self._failed_prune:
            self._failed = [f for f in self._failed if unseen(f)]
            self._failed_prune = max(_FAILED_PRUNE_AT, 2 * len(self._failed))

    # Timers and conditions

    def start_timer(self, fire_at: int, wait: int | None, handle: TimerHandle) -> int:
        """Start a durable timer that fires at `fire_at` (milliseconds since the epoch), after `wait`
        milliseconds unless it is meant for that time of the clock.
        """
        if not self.may_start():
            return 0
        self._seq += 1
        self._timers[self._seq] = handle
        self._emit(events.TimerStarted(self._seq, fire_at, wait))
        return self._seq

    def cancel_timer(self, seq: int) -> None:
        """Give an open timer up."""
        if seq in self._timers and self._may_give_up():
            del self._timers[seq]
            self._emit(events.TimerCancelled(seq))

    def sleep(self, wait: int) -> WorkflowFuture:
        """A future that is done after `wait` milliseconds; at once, after others, for 0 or less."""
        future = SleepFuture(loop=self.loop)
        if self.may_start():
            future.timer = self.loop.call_later(wait / 1000, future.wake)
        return future

    def sleep_until(self, fire_at: int) -> WorkflowFuture:
        """A future that is done at a time of the clock (milliseconds since the epoch)."""
        future = SleepFuture(loop=self.loop)
        if self.may_start():
            future.timer = self.loop.call_when(fire_at, future.wake)
        return future

    def holds(self, predicate: Callable[[], bool]) -> bool:
        """Try a predicate, which can start nothing."""
        return self._conditions.holds(predicate)

    def when(self, predicate: Callable[[], bool]) -> WorkflowFuture:
        """A future that is done when the predicate holds, which is tried after every change."""
        if not self.may_start():
            return self.loop.create_future()
        return self._conditions.wait(predicate)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine: through partials, methods and callable objects too."""
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    if inspect.iscoroutinefunction(function):
        return True
    inner: object = function
    while isinstance(inner, partial):
        inner = inner.func
    # A class with an asynchronous __call__ still gives an instance when it is called itself.
    return not isinstance(inner, type) and inspect.iscoroutinefunction(type(inner).__call__)


def takes_result(undo: Callable[..., Any]) -> bool:
    """Whether an undo wants the result of the task that it takes back."""
    try:
        inspect.signature(undo).bind(None)
    except (TypeError, ValueError):
        return False
    return True
