"""Asks: what a workflow asks of other executions, and waits to be answered."""

from __future__ import annotations

from typing import Any

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.failure import Failure
from mini_workflow.core.recorder import Recorder
from mini_workflow.core.validation import check_name
from mini_workflow.errors import ExecutionError, ExecutionFailed, TaskError, UsageError
from mini_workflow.loop.loop import WorkflowLoop
from mini_workflow.loop.ordered import WorkflowFuture


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
    """What one run has asked."""

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
