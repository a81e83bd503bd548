"""Children: executions that an execution starts, and messages that it sends to others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from mini_workflow.core import commands, events
from mini_workflow.core.asks import Asks, OtherExecution
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.headers import check_headers
from mini_workflow.core.payload import Payload
from mini_workflow.core.recorder import Recorder
from mini_workflow.core.slots import check_unless_recorded
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.timing import Timing
from mini_workflow.core.validation import check_name, check_text
from mini_workflow.errors import ChildFailed
from mini_workflow.loop.loop import WorkflowLoop
from mini_workflow.loop.ordered import WorkflowFuture

R = TypeVar("R")


class Child(WorkflowFuture[R]):
    """A future of the result of a child execution, whose id is `id`. Cancelling it cancels the child."""

    __mini_workflow_refused__ = "the future of a child"
    __mini_workflow_instead__ = "pass its .id, or await it in the workflow and pass its result"

    def __init__(
        self,
        seq: int,
        name: str,
        id: str,  # noqa: A002
        *,
        loop: WorkflowLoop,
        children: Children,
    ) -> None:
        super().__init__(loop=loop)
        self.seq = seq
        self.name = name
        self.id = id
        self._children = children

    def subject(self) -> tuple[str, str, int]:
        """See `WorkflowFuture.subject`."""
        return "child", self.id, self.seq

    def signal(self, name: str, value: Any = None) -> None:
        """Send a signal to the child, once this turn is committed.

        Raises UsageError if `name` cannot be the name of a signal, and ValueNotSerializable.
        """
        self._children.send_signal(self.id, name, value)

    def cancel(self, msg: Any = None) -> bool:
        """Ask the child to cancel itself, and stop waiting for it."""
        if self.done():
            return False
        self._children.cancel(self.seq, msg if isinstance(msg, str) else "")
        return super().cancel(msg)


class Children:
    """The child executions of one run, and the messages that it sends to other executions."""

    __slots__ = ("_open", "_recorder", "asks")

    def __init__(self, recorder: Recorder, asks: Asks) -> None:
        self._recorder = recorder
        self._open: dict[int, Child[Any]] = {}
        self.asks = asks

    def start(
        self,
        workflow: str,
        encode: Callable[[Codec], Payload],
        child_id: str | None,
        on_parent_close: str,
        tags: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        limit: dict[str, Any] | None = None,
    ) -> Child[Any]:
        """Start a child execution, and return the future of its result.

        `encode` encodes its arguments by the codec of the child. `child_id` is None for a made-up id.
        `on_parent_close` is "cancel", "terminate" or "abandon".
        """
        recorder = self._recorder
        seq = recorder.seq + 1
        name = made_up_id(recorder.execution_id, recorder.state.seed, seq)
        name = name if child_id is None else child_id
        arguments, beside = encode(recorder.codec.for_execution(name)), self._beside(headers)
        if limit is not None:
            about = (limit["name"], "ctx.child", events.ChildStarted)
            check_unless_recorded(recorder, *about, {"limit": limit})
        if not recorder.may_start():
            return Child(0, workflow, "", loop=recorder.loop, children=self)
        recorder.seq = seq
        having = self._headers("child", workflow, name, beside)
        asked = (seq, workflow, name, arguments, on_parent_close, tags or None, having, limit)
        event = recorder.emit(events.ChildStarted(*asked))
        if isinstance(event, events.ChildStarted):
            name = event.id
        child = self._open[seq] = Child(seq, workflow, name, loop=recorder.loop, children=self)
        return child

    def start_detached(
        self,
        workflow: str,
        encode: Callable[[Codec], Payload],
        execution_id: str | None,
        timing: Timing,
        notify: str | None,
        tags: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> OtherExecution:
        """Start an execution that does not depend on this one, once this turn is committed.

        Raises UsageError if `notify` cannot be the name of a signal.
        """
        recorder = self._recorder
        if notify is not None:
            check_name("signal", notify)
        if timing.limit is not None:
            about = (timing.limit["name"], "ctx.start", events.StartSent)
            check_unless_recorded(recorder, *about, {"limit": timing.limit})
        seq = recorder.seq + 1
        name = made_up_id(recorder.execution_id, recorder.state.seed, seq)
        name = name if execution_id is None else execution_id
        arguments, beside = encode(recorder.codec.for_execution(name)), self._beside(headers)
        if recorder.may_start():
            recorder.seq = seq
            asked = events.StartSent(
                *(seq, workflow, name, arguments),
                **timing.to_plain(),
                notify=notify or "",
                tags=tags or None,
                headers=self._headers("start", workflow, name, beside),
            )
            event = recorder.emit(asked)
            name = event.id if isinstance(event, events.StartSent) else name
        return OtherExecution(name, self)

    def cancel(self, seq: int, reason: str) -> None:
        """Ask a child to cancel itself, and stop waiting for it."""
        if seq in self._recorder.state.children and self._recorder.may_give_up():
            self._open.pop(seq, None)
            self._recorder.emit(events.ChildCancelled(seq, reason))

    def send_signal(self, target: str, name: str, value: Any) -> None:
        """Send a signal to another execution, once this turn is committed.

        Raises UsageError if `name` cannot be the name of a signal, and ValueNotSerializable.
        """
        check_name("signal", name)
        recorder = self._recorder
        if recorder.may_start():
            codec = recorder.codec.for_execution(target)
            payload = codec.encode(value, f"value of signal {name!r}")
            seq = recorder.seq = recorder.seq + 1
            headers = self._headers("signal", name, target)
            recorder.emit(events.SignalSent(seq, target, name, payload, headers))

    def send_cancel(self, target: str, reason: str, *, terminates: bool = False) -> None:
        """Ask another execution to cancel itself, or terminate it, once this turn is committed.

        Raises UsageError if `reason` is not a text.
        """
        check_text("reason", reason)  # of any length: it may be recorded already
        recorder = self._recorder
        if recorder.may_start():
            seq = recorder.seq = recorder.seq + 1
            recorder.emit(events.CancelSent(seq, target, reason, terminates))

    def completed(self, event: events.ChildCompleted) -> None:
        """Give the future of a child its result."""
        child = self._open.pop(event.seq, None)
        if child is not None and not child.done():
            child.set_result(self._codec_of(child).decode_ordered(event.result))

    def failed(self, event: events.ChildFailed) -> None:
        """Fail the future of a child."""
        child = self._open.pop(event.seq, None)
        if child is not None and not child.done():
            codec = self._codec_of(child)
            failure = codec.plain_failure(event.failure)
            cause = codec.decode_failure(event.failure, ordered=True)
            error = ChildFailed(
                f"child execution {child.id!r} of workflow {child.name!r} failed: "
                f"{failure.type.rpartition(':')[2]}: {failure.message}",
                execution_id=child.id,
            )
            error.__cause__ = cause
            self._recorder.fail(child, error)

    def _headers(
        self, kind: str, name: str, target: str, given: dict[str, str] | None = None
    ) -> dict[str, str] | None:
        """Return the headers of a message. None stands for those of the execution; for a signal, for none."""
        hooks = self._recorder.hooks
        return given if hooks is None else hooks.sending(kind, name, target, given)

    def _beside(self, headers: dict[str, str] | None) -> dict[str, str] | None:
        """Return the headers of the execution together with others; None if there are no others."""
        own = self._recorder.state.headers or {}
        return check_headers({**own, **headers}) if headers else None

    def _codec_of(self, child: Child[Any]) -> Codec:
        return self._recorder.codec.for_execution(child.id)

    def clear(self) -> None:
        """Forget all children."""
        self._open.clear()


def made_up_id(execution_id: str, seed: int, seq: int) -> str:
    """Return the id for an execution that operation `seq` of another one starts without giving an id."""
    return f"{execution_id[:80]}.{seed % 100_000_000:08d}.{seq}"


def sender_of(execution_id: str, state: ExecutionState) -> str:
    """Return the beginning of the keys of messages about the end of a run. Each run has its own, also a
    run that begins with the events of an earlier one.
    """
    return f"{execution_id}/{state.generation()}"


def end_children(execution_id: str, state: ExecutionState) -> Iterable[commands.SendMessage]:
    """Return the messages that cancel or terminate the open children of an execution that closes."""
    reason = f"its parent {execution_id!r} has closed"
    for seq, child in state.family().items():
        key = f"{sender_of(execution_id, state)}/{seq}/close"
        if child.on_parent_close == "cancel":
            message = events.CancelRequested(state.now, reason, key)
            yield commands.SendMessage(child.id, message, key)
        elif child.on_parent_close == "terminate":
            yield commands.SendMessage(child.id, events.ExecutionTerminated(state.now, reason), key)


def tell_parent(
    execution_id: str, started: events.ExecutionStarted | None, state: ExecutionState, end: Event
) -> Iterable[commands.SendMessage]:
    """Return the message about the end of an execution to its parent, or to the one to notify."""
    if started is None or started.parent is None or started.forked_from is not None:
        return
    parent, seq = started.parent["id"], started.parent["seq"]
    key = f"{sender_of(execution_id, state)}/end"
    message: Event
    if "notify" in started.parent:
        message = closed_signal(started.parent, execution_id, state.condition, state.now, key)
    elif isinstance(end, events.ExecutionCompleted):
        message = events.ChildCompleted(state.now, seq, end.result)
    elif isinstance(end, events.ExecutionFailed):
        message = events.ChildFailed(state.now, seq, end.failure)
    else:
        kind = "ExecutionCancelled" if isinstance(end, events.ExecutionCancelled) else ""
        kind = kind or "ExecutionTerminated"
        reason = getattr(end, "reason", "")
        failure = Failure(
            type=f"mini_workflow.errors:{kind}",
            message=reason,
            lineage=(f"mini_workflow.errors:{kind}", "builtins:Exception"),
            state={"args": [reason], "how": "call"},
        )
        message = events.ChildFailed(state.now, seq, failure)
    yield commands.SendMessage(parent, message, key)


def is_child(started: events.ExecutionStarted) -> bool:
    """Return whether an execution is a child: not detached, and not a fork."""
    if started.forked_from is not None:
        return False
    return started.parent is not None and "notify" not in started.parent


def closed_signal(
    parent: dict[str, Any], execution_id: str, status: str, at: int, key: str
) -> events.SignalReceived:
    """Return the signal to the execution that started a detached one, which has closed with `status`."""
    value = Payload(tree={"id": execution_id, "status": status})
    return events.SignalReceived(at, parent["notify"], value, key)
