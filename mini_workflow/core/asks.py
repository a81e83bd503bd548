"""Ask other executions from a workflow, and answer the asks of others."""

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
    """The answer of another execution. Cancelling it gives up waiting; what was asked for takes place."""

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
    """Return what is waited for, as a kind and a name."""
    return ("result", target) if kind == "result" else ("answer", f"{kind} {name} of {target}")


class Asks:
    """The asks of one run."""

    __slots__ = ("_open", "_recorder")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._open: dict[int, AskFuture] = {}

    def result(self, target: str) -> AskFuture:
        """Ask for the result of an execution. Raises UsageError if it is this one."""
        if target == self._recorder.execution_id:
            raise UsageError(
                f"ctx.execution({target!r}).result(): the execution would wait for itself for ever; ask for "
                "the result of another one"
            )
        return self._ask("result", "", target, None)

    def call(
        self, kind: str, name: str, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AskFuture:
        """Ask an execution for an "update", or put a "query" to it."""
        check_name(kind, name)
        return self._ask(kind, name, target, [list(args), kwargs])

    def signal(self, name: str, target: str, value: Any) -> AskFuture:
        """Send a signal whose receipt is confirmed."""
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
            error: BaseException = codec.decode_failure(event.failure)
            if future.kind == "result":
                error = failure_of_result(codec, event.failure, future.target)
            if isinstance(error, ExecutionError) and not error.execution_id:
                error.execution_id = future.target
            self._recorder.fail(future, error)

    def clear(self) -> None:
        """Forget all."""
        self._open.clear()

    def _codec_of(self, target: str) -> Codec:
        return self._recorder.codec.for_execution(target)


def failure_of_result(codec: Codec, failure: Failure, execution_id: str) -> BaseException:
    """Return what whoever waits for the result of an execution gets that has failed: its own exception, if
    that can be rebuilt here. `codec` is that of the execution.
    """
    plain = codec.plain_failure(failure)
    error = codec.decode_failure(failure)
    if isinstance(error, TaskError) and not plain.type.startswith("mini_workflow.errors:"):
        return ExecutionFailed(
            f"execution {execution_id!r} failed: {plain.type.partition(':')[2]}: {plain.message}",
            execution_id=execution_id,
            type_name=plain.type,
            remote_traceback=plain.tracebacks,
        )
    return error


NOTHING = Payload(tree=None)
"""What confirms a signal."""

Outcome = Payload | Failure


def answer(ask_id: str, at: int, outcome: Outcome, place: object) -> SendMessage:
    """Return the answer to an ask. `place` tells it from another one to the same ask."""
    asker, seq = read_ask(ask_id)
    message: Event
    if isinstance(outcome, Failure):
        message = events.AskFailed(at, seq, outcome, ask_id)
    else:
        message = events.AskAnswered(at, seq, outcome, ask_id)
    return SendMessage(asker, message, f"{ask_id}/answer/{place}")


def nobody(ask_id: str, target: str, at: int, place: object = "nobody") -> SendMessage:
    """Return the answer to an ask of an execution that does not exist."""
    why = f"there is no execution {target!r} to ask: it was never started, or it was deleted"
    return answer(ask_id, at, failure_of(ExecutionNotFound(why)), place)


def outcome_of(end: Event, execution_id: str) -> Outcome:
    """Return what an execution has come to, by the event that it has closed with."""
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
    """Return what those are told who wait for an execution that closes."""
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
    """Return the answer of an execution that has closed, to anything but a query. What it has answered
    before it answers once more.
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
    """Return what an update was answered with, as far as that is known; None if it was not answered."""
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
    why = "it was handled, and the answer is too long, or too old, to be told once more"
    return failure_of(ExecutionClosed(why))


def _closed(execution_id: str, end: Event) -> Failure:
    status = type(end).__name__.removeprefix("Execution").lower()
    return failure_of(ExecutionClosed(f"execution {execution_id!r} has closed before ({status})"))


class OtherExecution:
    """Another execution, as seen from a workflow. What is sent leaves after the commit.

    What is asked is answered once: `result`, `update`, `query` and a confirmed `signal` return futures,
    which raise ExecutionNotFound if there is no execution of that id. An execution that is blocked or
    paused answers once it goes on; limit the wait by ``asyncio.timeout``. Cancelling a future gives up
    waiting, and nothing else.
    """

    __slots__ = ("_children", "id")

    __mini_workflow_refused__ = "a handle to another execution"
    __mini_workflow_instead__ = "pass its .id"

    def __init__(self, id: str, children: Children) -> None:  # noqa: A002
        self.id = id
        self._children = children

    def result(self) -> AskFuture:
        """Return a future of its result, also if it has closed before, and over `continue_as_new`.

        It raises what ``runtime.get_execution(id).result()`` does: the workflow's own exception, or
        ExecutionFailed where that cannot be rebuilt, ExecutionCancelled, ExecutionTerminated.
        Raises UsageError at once for the execution itself.
        """
        return self._children.asks.result(self.id)

    def update(self, name: str, /, *args: Any, **kwargs: Any) -> AskFuture:
        """Have its workflow handle a request, once, and return a future of the answer.

        It raises what the validator or the handler raises, UnknownHandler, or ExecutionClosed.
        """
        return self._children.asks.call("update", name, self.id, args, kwargs)

    def query(self, name: str, /, *args: Any, **kwargs: Any) -> AskFuture:
        """Query its workflow, also one that has closed, and return a future of the answer.

        It raises what the handler raises, UnknownHandler, or what keeps the code from being run.
        """
        return self._children.asks.call("query", name, self.id, args, kwargs)

    @overload
    def signal(self, name: str, value: Any = None, *, confirm: Literal[False] = False) -> None: ...
    @overload
    def signal(self, name: str, value: Any = None, *, confirm: Literal[True]) -> AskFuture: ...
    def signal(self, name: str, value: Any = None, *, confirm: bool = False) -> AskFuture | None:
        """Send a signal; it arrives once, after this turn's commit. One for nobody is only logged.

        With `confirm` a future is returned, which is done when the other execution has the signal. It
        raises ExecutionNotFound, or ExecutionClosed.
        """
        if confirm:
            return self._children.asks.signal(name, self.id, value)
        self._children.send_signal(self.id, name, value)
        return None

    def cancel(self, reason: str = "") -> None:
        """Ask it to cancel itself."""
        self._children.send_cancel(self.id, reason)

    def terminate(self, reason: str = "") -> None:
        """End it at once, without running any of its code; it takes place after this turn's commit."""
        self._children.send_cancel(self.id, reason, terminates=True)
