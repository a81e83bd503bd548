"""Recorder: check what a workflow decides against the recorded events, and record it.

Each durable verb (tasks, timers, promises, children, messages, conditions) holds the recorder of its
run. While recorded events are there, each event must be the recorded one, which is taken.
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
"""How often code that must not run on is told so; code that catches even that waits for ever."""
_FAILED_PRUNE_AT: Final = 64


class _Told(str):
    """A text that is its own representation."""

    __slots__ = ()
    __repr__ = str.__str__


class Recorder:
    """Records the events of one run, and says what its code may do now."""

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
        """What compares calls with those that are recorded, since a replay has begun."""
        self._unbound = codec
        self._strict = strict
        self.recorded: RecordedEvents | None = None
        """What the code is held to while it is replayed."""
        self.seq = 0
        """The number of the operation that was started last."""
        self.refused = 0
        """How many calls could not be captured since the last event."""
        self.reason = ""
        """Why operations are given up at the event that is delivered, if it says so."""
        self.dead = False
        self.reading: str | None = None
        """What runs that may start nothing: a query or a validator."""
        self.trying = False
        """Whether the predicate of a condition runs, which may start nothing either."""
        self.failed: Sequence[asyncio.Future[Any]] = ()
        """The futures that failed, as long as nobody has looked at their exception."""
        self._failed_prune = _FAILED_PRUNE_AT
        self.out: list[Event] = []
        """The events since `take` was called last, incoming and recorded, in order."""
        self.streams: Streams | None = None
        """What the code writes to streams, once it has any."""
        self._halts = 0
        self.hooks: Hooks | None = None
        """What goes around the code of the workflow, if anything does."""

    # Events

    def emit(self, event: Event) -> Event:
        """Record what the code has decided; returns the recorded event. Raises Halt."""
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
        """Return what compares calls from here on with those that are recorded."""
        self.comparison = Comparison(self._unbound.outline, self._strict, self._changed)
        return self.comparison

    def take(self) -> list[Event]:
        """Return the events since the last call, incoming and recorded, in order."""
        out, self.out = self.out, []
        return out

    def restore(self, out: list[Event]) -> None:
        """Put events back that `take` gave and that are still to be committed."""
        self.out = out

    # What the code may do

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
        if self.trying:
            self._refuse_in_predicate("starting something")
        return True

    def may_give_up(self) -> bool:
        """Raise like `may_start`; False where it does not matter any more."""
        if self.dead or self.loop.fault is not None or self.loop.ended:
            return False
        return self.may_start()

    def may_change(self, what: str) -> None:
        """Raise where code may only look: `what` is something that a replay would see."""
        if self.reading is not None:
            self.loop.touched = True
            raise NotAllowedInWorkflow(
                f"{self.reading} tried {what}, which changes what the workflow does next; it may only "
                f"look at the workflow's variables: use an update handler{user_line()}"
            )
        if self.trying:
            self._refuse_in_predicate(what)

    def _refuse_in_predicate(self, what: str) -> None:
        self.loop.refuse(
            f"{what} in the predicate of ctx.wait_for()",
            "only look at the workflow's variables there",
        )

    def around_handler(self, kind: str, message: Any) -> AbstractContextManager[object]:
        """Return what goes around the call of a handler of that message, or of a query of that name."""
        if self.hooks is None:
            return nullcontext()
        if isinstance(message, str):
            return self.hooks.around(kind, message, None)
        return self.hooks.around(kind, message.name, message.headers)

    # Failures and warnings

    def fail(self, future: asyncio.Future[Any], error: BaseException) -> None:
        """Fail the future of an operation, and remember it until somebody has looked."""
        future.set_exception(error)
        failed = self.failed if isinstance(self.failed, list) else []
        failed.append(future)
        if len(failed) > self._failed_prune:
            failed = [f for f in failed if unseen(f)]
            self._failed_prune = max(_FAILED_PRUNE_AT, 2 * len(failed))
        self.failed = failed

    def silence(self) -> None:
        """Have nobody told of failures that nobody has looked at."""
        for future in self.failed:
            silence(future)

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be logged: what happens now happened before, or does not count."""
        return self.recorded is not None or self.dead or self.loop.fault is not None

    def warn(self, message: str, *args: Any, exc_info: BaseException | None = None) -> None:
        """Log a warning about this execution, once: silent while replaying."""
        if not self.quiet:
            line = "[%s] " + message
            if self.codec.is_private:
                args, exc_info = tuple(map(self.told, args)), None
            with self.loop.outside():
                log.warning(line, self.execution_id, *args, exc_info=exc_info)

    def unreadable(self, name: str, error: SerializationError) -> None:
        """Drop a signal that cannot be read; one that can once a codec or a key is there is the fault."""
        if isinstance(error, CodecMismatch):
            self.loop.fault = error
        self.warn("signal %r cannot be read and is dropped: %s", name, error)

    def told(self, value: Any) -> Any:
        """Return what may be told of a value outside of the history: of an exception its class alone, if
        what is encoded is private.
        """
        private = isinstance(value, BaseException) and self.codec.is_private
        return _Told(type(value).__qualname__) if private else value

    def _changed(self, message: str) -> None:
        """Say that the code has changed: while replaying too, when it is found out."""
        line = message + user_line()
        with self.loop.outside():
            log.warning("[%s] %s", self.execution_id, line)
