"""Exchange: what workflow code has to do with the outside - promises, children, other executions,
and the change of its own code.
"""

from __future__ import annotations

import asyncio
from typing import Any

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.messages import Messages
from mini_workflow.core.operations import Inline, Operations
from mini_workflow.core.payload import Payload
from mini_workflow.core.promises import Child, Promise, make_token
from mini_workflow.core.validation import check_name, check_reason
from mini_workflow.errors import ChildFailed, UsageError
from mini_workflow.loop.ordered import WorkflowFuture


class ContinueAsNew(BaseException):
    """Ends the run; raised by `continue_as_new` and caught by the run itself."""

    def __init__(self, arguments: Payload) -> None:
        super().__init__("the run continues as new; do not catch this")
        self.arguments = arguments


class Exchange(Operations):
    """The part of a run that is about others."""

    __slots__ = (
        "_abort",
        "_cancel_at_start",
        "_cancel_reason",
        "_children",
        "_main",
        "_patched",
        "_promises",
        "messages",
        "recorded",
    )

    def __init__(
        self, execution_id: str, codec: Codec, inline: Inline | None, *, strict: bool = False
    ) -> None:
        super().__init__(execution_id, codec, inline, strict=strict)
        self._cancel_reason: str | None = None
        self._cancel_at_start: str | None = None
        self.messages = Messages(self, codec)
        self.recorded: frozenset[str] = frozenset()
        """The changes whose new path the history that is replayed has taken."""
        self._main: asyncio.Task[Any] | None = None
        self._abort: BaseException | None = None
        self._promises: dict[int, Promise] = {}
        self._children: dict[int, Child] = {}
        self._patched: dict[str, bool] = {}

    def record(self, event: events.Event) -> events.Event:
        """Record what the code has decided."""
        return self._emit(event)

    def abort(self, error: BaseException) -> None:
        """Fail the execution: a handler has failed, and nobody awaits it."""
        if self.messages.ended is not None:
            self.warn("a handler failed at the end of the workflow: %r", error, exc_info=error)
        elif self._abort is None and self._main is not None and not self._main.done():
            self._abort = error
            self._main.cancel()

    # Promises

    def promise(self, name: str) -> Promise:
        """A value that somebody outside will give."""
        if not self.may_start():
            return Promise("", name, loop=self.loop)
        self._seq += 1
        seq = self._seq
        self._emit(events.PromiseCreated(seq, name))
        token = make_token(self.execution_id, seq, self.state.secret(seq))
        promise = self._promises[seq] = Promise(token, name, loop=self.loop)
        return promise

    def _promise_completed(self, event: events.PromiseCompleted) -> None:
        promise = self._promises.pop(event.seq, None)
        if promise is not None and (future := promise.unsettled) is not None:
            future.set_result(self._codec.decode_ordered(event.value))

    def _promise_failed(self, event: events.PromiseFailed) -> None:
        promise = self._promises.pop(event.seq, None)
        if promise is not None and (future := promise.unsettled) is not None:
            self._give_error(future, self._codec.decode_failure(event.failure))

    # Children and other executions

    def start_child(
        self, workflow: str, arguments: Payload, child_id: str | None, on_parent_close: str
    ) -> Child:
        """Start a child execution now."""
        if not self.may_start():
            return Child(0, workflow, "", loop=self.loop, operations=self)
        self._seq += 1
        seq = self._seq
        name = child_id
        if name is None:
            name = f"{self.execution_id[:80]}.{self.state.seed % 100_000_000:08d}.{seq}"
        event = self._emit(events.ChildStarted(seq, workflow, name, arguments, on_parent_close))
        if isinstance(event, events.ChildStarted):
            name = event.id
        child = self._children[seq] = Child(seq, workflow, name, loop=self.loop, operations=self)
        return child

    def cancel_child(self, seq: int, reason: str) -> None:
        """Ask a child to cancel itself, and wait for it no longer."""
        if seq in self.state.children and self._may_give_up():
            self._children.pop(seq, None)
            self._emit(events.ChildCancelled(seq, reason))

    def send_signal(self, target: str, name: str, value: Any) -> None:
        """Send a signal to another execution, once this turn is committed."""
        check_name("signal", name)
        if self.may_start():
            payload = self._codec.encode(value, f"value of signal {name!r}")
            self._seq += 1
            self._emit(events.SignalSent(self._seq, target, name, payload))

    def send_cancel(self, target: str, reason: str) -> None:
        """Ask another execution to cancel itself, once this turn is committed."""
        check_reason(reason)
        if self.may_start():
            self._seq += 1
            self._emit(events.CancelSent(self._seq, target, reason))

    def _child_completed(self, event: events.ChildCompleted) -> None:
        child = self._children.pop(event.seq, None)
        if child is not None and not child.done():
            child.set_result(self._codec.decode_ordered(event.result))

    def _child_failed(self, event: events.ChildFailed) -> None:
        child = self._children.pop(event.seq, None)
        if child is not None and not child.done():
            cause = self._codec.decode_failure(event.failure)
            error = ChildFailed(
                f"child execution {child.id!r} of workflow {child.name!r} came to a bad end: "
                f"{event.failure.type.rpartition(':')[2]}: {event.failure.message}",
                execution_id=child.id,
            )
            error.__cause__ = cause
            self._give_error(child, error)

    def _give_error(self, future: WorkflowFuture, error: BaseException) -> None:
        future.set_exception(error)
        self._failed.append(future)  # type: ignore[arg-type]

    # Changes of the code

    def patched(self, name: str) -> bool:
        """Whether the execution takes the new path of a change; the answer stays the same."""
        known = self._patched.get(name)
        if known is not None:
            return known
        if not self.may_start():
            return False
        script = self._script
        answer = name in self.recorded or script is None or script.ended()
        if answer:
            self._emit(events.PatchMarked(name))
        self._patched[name] = answer
        return answer

    def continue_as_new(self, arguments: Payload) -> None:
        """End this run; the next one begins with these arguments. Raises, always."""
        if self.may_start() and asyncio.current_task(self.loop) is not self._main:
            raise UsageError(
                "ctx.continue_as_new() was called in a handler or in another asyncio.Task; set a "
                "variable there, and call it in the workflow function itself"
            )
        if (reason := self.take_cancel()) is not None:
            raise asyncio.CancelledError(reason)
        raise ContinueAsNew(arguments)

    def take_cancel(self) -> str | None:
        """Take the reason for which the run was cancelled before it began, until its code is told.

        A run that continues as new without waiting is told there, since it would never be otherwise.
        """
        reason, self._cancel_at_start = self._cancel_at_start, None
        if reason is not None:
            self._cancel_reason = self._why = reason
        return reason


class OtherExecution:
    """Another execution, as seen from a workflow. What is sent leaves after the commit."""

    __slots__ = ("_run", "id")

    __mini_workflow_refused__ = "a handle to another execution"
    __mini_workflow_instead__ = "pass its .id"

    def __init__(self, id: str, run: Exchange) -> None:  # noqa: A002
        self.id = id
        self._run = run

    def signal(self, name: str, value: Any = None) -> None:
        """Send a signal; it arrives once, after this turn's commit."""
        self._run.send_signal(self.id, name, value)

    def cancel(self, reason: str = "") -> None:
        """Ask it to cancel itself."""
        self._run.send_cancel(self.id, reason)
