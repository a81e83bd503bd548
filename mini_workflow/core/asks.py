"""Ask other executions from a workflow, and answer the asks of other executions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import SendMessage
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure, failure_of
from mini_workflow.core.open_operations import read_ask
from mini_workflow.core.payload import Payload
from mini_workflow.core.recorder import Recorder
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.validation import check_name
from mini_workflow.errors import (
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionError,
    ExecutionFailed,
    ExecutionNotFound,
    ExecutionTerminated,
    TaskError,
    UsageError,
)
from mini_workflow.loop.loop import WorkflowLoop
from mini_workflow.loop.ordered import WorkflowFuture

if TYPE_CHECKING:
    from mini_workflow.core.children import Children


class AskFuture(WorkflowFuture[Any]):
    """A future of the answer of another execution. Cancelling it ends the wait; the request stands."""

    __mini_workflow_refused__ = "the answer of another execution"

    def __init__(self, seq: int, kind: str, name: str, target: str, *, loop: WorkflowLoop) -> None:
        super().__init__(loop=loop)
        self.seq = seq
        self.kind = kind
        self.name = name
        self.target = target

    def subject(self) -> tuple[str, str, int]:
        """See `WorkflowFuture.subject`."""
        return *subject_of(self.kind, self.name, self.target), self.seq


def subject_of(kind: str, name: str, target: str) -> tuple[str, str]:
    """Return the kind and the name of an awaited answer, for descriptions."""
    return ("result", target) if kind == "result" else ("answer", f"{kind} {name} of {target}")


class Asks:
    """The asks of one run."""

    __slots__ = ("_open", "_recorder")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._open: dict[int, AskFuture] = {}

    def result(self, target: str) -> AskFuture:
        """Ask for the result of an execution. Raises UsageError if `target` is this one."""
        if target == self._recorder.execution_id:
            raise UsageError(
                f"ctx.execution({target!r}).result(): the execution would wait for itself for ever; ask for "
                "the result of another one"
            )
        return self._ask("result", "", target, None)

    def call(
        self, kind: str, name: str, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AskFuture:
        """Send an "update" or a "query" to an execution, and return a future of the answer.

        Raises UsageError if `name` cannot be the name of one, and ValueNotSerializable.
        """
        check_name(kind, name)
        return self._ask(kind, name, target, [list(args), kwargs])

    def signal(self, name: str, target: str, value: Any) -> AskFuture:
        """Send a signal, and return a future that is done when it has arrived. Raises like `call`."""
        check_name("signal", name)
        return self._ask("signal", name, target, value)

    def _ask(self, kind: str, name: str, target: str, value: Any) -> AskFuture:
        recorder = self._recorder
        if not recorder.may_start():
            return AskFuture(0, kind, name, target, loop=recorder.loop)
        codec = self._codec_of(target)
        what = f"value of signal {name!r}" if kind == "signal" else "arguments"
        payload = codec.encode(value, what)
        seq = recorder.seq = recorder.seq + 1
        hooks = recorder.hooks
        sends = kind in ("signal", "update") and hooks is not None
        headers = hooks.sending(kind, name, target) if hooks is not None and sends else None
        recorder.emit(events.AskSent(seq, target, kind, name, payload, headers))
        future = self._open[seq] = AskFuture(seq, kind, name, target, loop=recorder.loop)
        return future

    def answered(self, event: events.AskAnswered) -> None:
        """Give the future of an ask its value."""
        future = self._open.pop(event.seq, None)
        if future is not None and not future.done():
            future.set_result(self._codec_of(future.target).decode_ordered(event.result))

    def failed(self, event: events.AskFailed) -> None:
        """Fail the future of an ask."""
        future = self._open.pop(event.seq, None)
        if future is not None and not future.done():
            codec = self._codec_of(future.target)
            error: BaseException = codec.decode_failure(event.failure, ordered=True)
            if future.kind == "result":
                error = failure_of_result(codec, event.failure, future.target, ordered=True)
            if isinstance(error, ExecutionError) and not error.execution_id:
                error.execution_id = future.target
            self._recorder.fail(future, error)

    def clear(self) -> None:
        """Forget all asks."""
        self._open.clear()

    def _codec_of(self, target: str) -> Codec:
        return self._recorder.codec.for_execution(target)


def failure_of_result(
    codec: Codec, failure: Failure, execution_id: str, *, ordered: bool = False
) -> BaseException:
    """Return the exception for those that wait for the result of a failed execution: its own one, or
    ExecutionFailed if that cannot be rebuilt here. `codec` is the codec of the execution, and `ordered` is as
    in `Codec.decode_failure`.
    """
    plain = codec.plain_failure(failure)
    error = codec.decode_failure(failure, ordered=ordered)
    if isinstance(error, TaskError) and not plain.type.startswith("mini_workflow.errors:"):
        return ExecutionFailed(
            f"execution {execution_id!r} failed: {plain.type.partition(':')[2]}: {plain.message}",
            execution_id=execution_id,
            type_name=plain.type,
            remote_traceback=plain.tracebacks,
        )
    return error


NOTHING = Payload(tree=None)
"""The answer that confirms a signal."""

Outcome = Payload | Failure


def answer(ask_id: str, at: int, outcome: Outcome, place: object) -> SendMessage:
    """Return the message with the answer to an ask. `place` makes its key differ from other answers."""
    asker, seq = read_ask(ask_id)
    message: Event
    if isinstance(outcome, Failure):
        message = events.AskFailed(at, seq, outcome, ask_id)
    else:
        message = events.AskAnswered(at, seq, outcome, ask_id)
    return SendMessage(asker, message, f"{ask_id}/answer/{place}")


def nobody(ask_id: str, target: str, at: int, place: object = "nobody") -> SendMessage:
    """Return the answer to an ask whose target does not exist."""
    why = f"there is no execution {target!r} to ask: it was never started, or it was deleted"
    return answer(ask_id, at, failure_of(ExecutionNotFound(why)), place)


def outcome_of(end: Event, execution_id: str) -> Outcome:
    """Return the result or failure of an execution from its closing event."""
    if isinstance(end, events.ExecutionCompleted):
        return end.result
    if isinstance(end, events.ExecutionFailed):
        return end.failure
    because = f": {reason}" if (reason := getattr(end, "reason", "")) else ""
    if isinstance(end, events.ExecutionTerminated):
        return failure_of(
            ExecutionTerminated(f"execution {execution_id!r} was terminated{because}")
        )
    return failure_of(ExecutionCancelled(f"execution {execution_id!r} was cancelled{because}"))


def answers_at_end(execution_id: str, state: ExecutionState, end: Event) -> Iterable[SendMessage]:
    """Return the answers to the open asks of an execution that closes."""
    for ask_id, kind in state.askers.items():
        if kind == "result":
            yield answer(ask_id, state.now, outcome_of(end, execution_id), state.length)
        elif not state.updates[ask_id]:
            yield answer(ask_id, state.now, _closed(execution_id, end), state.length)


def answer_of_closed(
    execution_id: str,
    state: ExecutionState,
    end: Event,
    asked: events.Asked,
    history: Sequence[Event] = (),
) -> SendMessage:
    """Return the answer of a closed execution to an ask other than a query. A repeated ask gets the
    earlier answer again, from `history` if it is there.
    """
    outcome: Outcome = _closed(execution_id, end)
    if asked.kind == "result":
        outcome = outcome_of(end, execution_id)
    elif asked.kind == "signal" and asked.id in state.signal_ids:
        outcome = NOTHING
    elif asked.kind == "update":
        outcome = given_before(state, asked.id, history) or outcome
    return answer(asked.id, max(asked.at, state.now), outcome, f"{state.length}/{asked.at}")


def given_before(
    state: ExecutionState, update_id: str, history: Sequence[Event] = ()
) -> Outcome | None:
    """Return the earlier answer to an update, or a failure if it is not kept; None if there was none."""
    for event in history:
        if isinstance(event, events.UpdateCompleted) and event.id == update_id:
            return event.result
        if isinstance(event, events.UpdateFailed) and event.id == update_id:
            return event.failure
    if not state.updates.get(update_id):
        return None
    about = state.answers.get(update_id, {})
    if "result" in about:
        return Payload(tree=about["result"])
    if "failure" in about:
        return Failure.from_plain(about["failure"])
    why = f"update {update_id!r} was handled, but its answer is too long or too old to be kept"
    return failure_of(ExecutionClosed(why))


def _closed(execution_id: str, end: Event) -> Failure:
    status = type(end).__name__.removeprefix("Execution").lower()
    return failure_of(ExecutionClosed(f"execution {execution_id!r} has closed before ({status})"))


class OtherExecution:
    """A handle to another execution, for workflow code. Messages leave after the commit of the turn.

    `result`, `update`, `query` and a confirmed `signal` return futures, which raise ExecutionNotFound if
    there is no execution of that id. An execution that is blocked or paused answers once it goes on;
    limit the wait by ``asyncio.timeout``. Cancelling a future only ends the wait for it.
    """

    __slots__ = ("_children", "id")

    __mini_workflow_refused__ = "a handle to another execution"
    __mini_workflow_instead__ = "pass its .id"

    def __init__(self, id: str, children: Children) -> None:  # noqa: A002
        self.id = id
        self._children = children

    def result(self) -> AskFuture:
        """Return a future of the execution's result, across `continue_as_new`. It may have closed before.

        The future raises like ``runtime.get_execution(id).result()``: the workflow's own exception or,
        where that cannot be rebuilt, ExecutionFailed; ExecutionCancelled or ExecutionTerminated. Raises
        UsageError at once if the execution asks for its own result.
        """
        return self._children.asks.result(self.id)

    def update(self, name: str, /, *args: Any, **kwargs: Any) -> AskFuture:
        """Send an update, which the workflow handles once, and return a future of the answer.

        The future raises the exception of the validator or the handler, UnknownHandler or
        ExecutionClosed.
        """
        return self._children.asks.call("update", name, self.id, args, kwargs)

    def query(self, name: str, /, *args: Any, **kwargs: Any) -> AskFuture:
        """Query the workflow, also of an execution that has closed, and return a future of the answer.

        The future raises the exception of the handler, UnknownHandler, or the fault of an execution
        whose code cannot be run.
        """
        return self._children.asks.call("query", name, self.id, args, kwargs)

    @overload
    def signal(self, name: str, value: Any = None, *, confirm: Literal[False] = False) -> None: ...
    @overload
    def signal(self, name: str, value: Any = None, *, confirm: Literal[True]) -> AskFuture: ...
    def signal(self, name: str, value: Any = None, *, confirm: bool = False) -> AskFuture | None:
        """Send a signal. It arrives once, after this turn's commit; if there is no such execution, a
        warning is logged.

        With `confirm`, return a future that is done when the other execution has the signal. The future
        raises ExecutionNotFound or ExecutionClosed.
        """
        if confirm:
            return self._children.asks.signal(name, self.id, value)
        self._children.send_signal(self.id, name, value)
        return None

    def cancel(self, reason: str = "") -> None:
        """Ask the execution to cancel itself. Raises UsageError if `reason` is not a text."""
        self._children.send_cancel(self.id, reason)

    def terminate(self, reason: str = "") -> None:
        """Terminate the execution without running any of its code, after this turn's commit.

        Raises UsageError if `reason` is not a text.
        """
        self._children.send_cancel(self.id, reason, terminates=True)
