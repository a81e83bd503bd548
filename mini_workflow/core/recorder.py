"""Record the operations of a run, and compare them with the recorded events in a replay.

Each durable verb (tasks, timers, promises, children, messages, conditions) holds the recorder of its
run. In a replay each new event must match the recorded one at the position, which is taken instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.core.codec import Codec
from mini_workflow.core.comparison import COMPARED, Comparison
from mini_workflow.core.events import Event
from mini_workflow.core.headers import Hooks
from mini_workflow.core.recorded import RecordedEvents
from mini_workflow.core.state import ExecutionState
from mini_workflow.errors import (
    CodecMismatch,
    NonDeterminismError,
    NotAllowedInWorkflow,
    SerializationError,
)
from mini_workflow.loop.loop import WorkflowLoop, running_loop
from mini_workflow.loop.ordered import silence, unseen
from mini_workflow.loop.running import Halt
from mini_workflow.loop.source_line import line_of, user_line

if TYPE_CHECKING:
    from mini_workflow.core.streams import Streams

log = logging.getLogger("mini_workflow.workflow")

_HALTS: Final = 10
"""The number of times that Halt is raised in code that must not go on. If the code catches even that, it
gets futures that are never done."""
_FAILED_PRUNE_AT: Final = 64


class _Plain(str):
    """A text whose `repr` has no quotes."""

    __slots__ = ()
    __repr__ = str.__str__


class Recorder:
    """Records the events of one run, and decides whether its code may act now."""

    __slots__ = (
        "_failed_prune",
        "_halts",
        "_strict",
        "_unbound",
        "codec",
        "comparison",
        "dead",
        "execution_id",
        "failed",
        "hooks",
        "loop",
        "out",
        "reading",
        "reason",
        "refused",
        "recorded",
        "seq",
        "state",
        "streams",
        "trying",
    )

    def __init__(self, execution_id: str, codec: Codec, *, strict: bool = False) -> None:
        self.execution_id = execution_id
        self.codec = codec.for_execution(execution_id)
        self.state = ExecutionState()
        self.loop = WorkflowLoop(execution_id, self)
        self.comparison: Comparison | None = None
        """Compares new calls with the recorded ones, once a replay has begun."""
        self._unbound = codec
        self._strict = strict
        self.recorded: RecordedEvents | None = None
        """The recorded events while the run is replayed."""
        self.seq = 0
        """The number of the operation that was started last."""
        self.refused = 0
        """The number of calls that could not be captured since the last event."""
        self.reason = ""
        """The reason for cancelling operations at the event that is delivered, if it gives one."""
        self.dead = False
        self.reading: str | None = None
        """The query handler or validator that runs now, in words; it may start nothing."""
        self.trying = False
        """Whether the predicate of a condition runs now; it may start nothing."""
        self.failed: Sequence[asyncio.Future[Any]] = ()
        """The failed futures whose exception has not been retrieved."""
        self._failed_prune = _FAILED_PRUNE_AT
        self.out: list[Event] = []
        """The events since the last call of `take`, incoming and recorded, in order."""
        self.streams: Streams | None = None
        """The streams of the run, once it has written to one."""
        self._halts = 0
        self.hooks: Hooks | None = None
        """The hooks around the code of the workflow, if there are any."""

    # Events

    def emit(self, event: Event) -> Event:
        """Record an event that the code asks for, and return it; in a replay the recorded one.

        Raises Halt if the code must not go on: it does not match the history, or was terminated.
        """
        recorded = self.recorded
        if recorded is not None and not recorded.ended():
            if recorded.is_terminated():
                self.loop.ended = True
                raise Halt
            try:
                event = recorded.expect(event)
            except NonDeterminismError as error:
                self.loop.fault = error
                raise Halt from error
        elif (
            (comparison := self.comparison) is not None
            and comparison.moved
            and type(event) in COMPARED
        ):
            try:
                comparison.check_new(event)
            except NonDeterminismError as error:
                place = user_line()
                self.loop.fault = NonDeterminismError(
                    f"the code no longer matches the history: {error}{place}",
                    recorded=error.recorded,
                    asked=error.asked,
                    line=line_of(place),
                )
                raise Halt from error
        self.state.apply(event)
        self.out.append(event)
        self.refused = 0
        return event

    def begin_comparison(self) -> Comparison:
        """Return a new comparison, which is used for the calls from here on."""
        self.comparison = Comparison(self._unbound.outline, self._strict, self._changed)
        return self.comparison

    def take(self) -> list[Event]:
        """Return the events since the last call, incoming and recorded, in order."""
        out, self.out = self.out, []
        return out

    def restore(self, out: list[Event]) -> None:
        """Put back events from `take` that are still to be committed."""
        self.out = out

    # What the code may do

    def may_start(self) -> bool:
        """Return True if the caller is the workflow's own code in its own turn, and may go on.

        Return False for code that has caught Halt many times: its operations are not started. Raises
        NotAllowedInWorkflow outside the workflow's code, in queries, validators and predicates, and
        Halt in a run that must not go on.
        """
        if self.reading is not None:
            self.loop.touched = True
            raise NotAllowedInWorkflow(
                f"{self.reading} tried to start something; it may only read the workflow's "
                f"variables: use an update handler to change them{user_line()}"
            )
        if running_loop() is not self.loop:
            raise NotAllowedInWorkflow(
                "the workflow's context was used outside its workflow function (in a task, in "
                "another thread or after the end): return results to the workflow instead"
            )
        if self.dead or self.loop.fault is not None:
            self._halts += 1
            if self._halts <= _HALTS:
                raise Halt
            return False
        if self.trying:
            self._refuse_in_predicate("starting something")
        return True

    def may_give_up(self) -> bool:
        """Return whether the code may cancel an operation: False where that has no effect any more.

        Raises like `may_start`.
        """
        if self.dead or self.loop.fault is not None or self.loop.ended:
            return False
        return self.may_start()

    def may_change(self, what: str) -> None:
        """Raise NotAllowedInWorkflow in a query, validator or predicate. `what` names the refused action."""
        if self.reading is not None:
            self.loop.touched = True
            raise NotAllowedInWorkflow(
                f"{self.reading} tried {what}, which changes what the workflow does next; it may only "
                f"read the workflow's variables: use an update handler{user_line()}"
            )
        if self.trying:
            self._refuse_in_predicate(what)

    def _refuse_in_predicate(self, what: str) -> None:
        self.loop.refuse(
            f"{what} in the predicate of ctx.wait_for()",
            "only read the workflow's variables there",
        )

    def around_handler(self, kind: str, message: Any) -> AbstractContextManager[object]:
        """Return the context manager to enter around the handler of a message, or of a query by its name."""
        if self.hooks is None:
            return nullcontext()
        if isinstance(message, str):
            return self.hooks.around(kind, message, None)
        return self.hooks.around(kind, message.name, message.headers)

    # Failures and warnings

    def fail(self, future: asyncio.Future[Any], error: BaseException) -> None:
        """Fail the future of an operation, and remember it until its exception is retrieved."""
        future.set_exception(error)
        failed = self.failed if isinstance(self.failed, list) else []
        failed.append(future)
        if len(failed) > self._failed_prune:
            failed = [f for f in failed if unseen(f)]
            self._failed_prune = max(_FAILED_PRUNE_AT, 2 * len(failed))
        self.failed = failed

    def silence(self) -> None:
        """Stop asyncio from logging the exceptions that were never retrieved."""
        for future in self.failed:
            silence(future)

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be logged, because the run is replayed or has stopped."""
        return self.recorded is not None or self.dead or self.loop.fault is not None

    def warn(self, message: str, *args: Any, exc_info: BaseException | None = None) -> None:
        """Log a warning about this execution, unless the run is replayed."""
        if not self.quiet:
            line = "[%s] " + message
            if self.codec.is_private:
                args, exc_info = tuple(map(self.shown, args)), None
            with self.loop.outside():
                log.warning(line, self.execution_id, *args, exc_info=exc_info)

    def unreadable(self, name: str, error: SerializationError) -> None:
        """Log that a signal cannot be read and is dropped. If only a codec or key is missing, the error
        becomes the fault of the run, so that the signal is not lost.
        """
        if isinstance(error, CodecMismatch):
            self.loop.fault = error
        self.warn("signal %r cannot be read and is dropped: %s", name, error)

    def shown(self, value: Any) -> Any:
        """Return the value as logs may show it: of an exception the class alone, if the codec is private."""
        private = isinstance(value, BaseException) and self.codec.is_private
        return _Plain(type(value).__qualname__) if private else value

    def _changed(self, message: str) -> None:
        """Log a warning that the code has changed, also in a replay, which finds that out."""
        line = message + user_line()
        with self.loop.outside():
            log.warning("[%s] %s", self.execution_id, line)
