"""Promises: values that somebody outside of the workflow provides, once each."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import timedelta
from functools import partial
from typing import Any

from mini_workflow.core import events
from mini_workflow.core.open_operations import OpenPromise
from mini_workflow.core.recorder import Recorder
from mini_workflow.core.timers import Timers
from mini_workflow.core.validation import shown
from mini_workflow.durations import limited
from mini_workflow.errors import PromiseNotOpen, PromiseTimeout, UsageError
from mini_workflow.loop.loop import WorkflowLoop
from mini_workflow.loop.ordered import WorkflowFuture

_SEPARATOR = "~"
"""Not a character of an execution id, and safe in a URL."""


def make_token(execution_id: str, seq: int, secret: str) -> str:
    """Return the token of a promise, which suffices to complete it."""
    return f"{execution_id}{_SEPARATOR}{seq}{_SEPARATOR}{secret}"


def read_token(token: str) -> tuple[str, int, str]:
    """Return the execution id, number and secret of a token.

    Raises PromiseNotOpen if the text is not a token, and UsageError if `token` is not a text.
    """
    if not isinstance(token, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{token!r} is not a token: give the .token of the promise, a text")
    parts = token.split(_SEPARATOR)
    if len(parts) == 3 and parts[0] and parts[1].isdecimal() and parts[2]:
        return parts[0], int(parts[1]), parts[2]
    raise PromiseNotOpen(f"{shown(token)} is not the token of a promise: give its token unchanged")


def reason_of(why: str | BaseException) -> BaseException:
    """Return the exception that a promise is to raise; a text becomes a RuntimeError.

    Raises UsageError if `why` is neither an exception nor a text.
    """
    if not isinstance(why, (str, BaseException)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{why!r} is not a reason: give an exception or a text")
    return RuntimeError(why) if isinstance(why, str) else why


class Promise(WorkflowFuture[Any]):
    """A future of the workflow that is completed or failed once from outside, by its `token`.

    The promise stays open when an await of it is given up, as ``asyncio.timeout`` does, and when the
    future itself is cancelled, as ``asyncio.gather`` does, and ``asyncio.wait_for`` before Python
    3.12. It may be awaited again.
    """

    __mini_workflow_refused__ = "a promise"
    __mini_workflow_instead__ = "pass its .token, with which it is completed"

    def __init__(self, token: str, name: str, seq: int = 0, *, loop: WorkflowLoop) -> None:
        super().__init__(loop=loop)
        self.token = token
        self.name = name
        self.seq = seq
        self._numbering = loop
        self._rest: WorkflowFuture[Any] | None = None

    @property
    def unsettled(self) -> WorkflowFuture[Any] | None:
        """The future that receives the value; None once it has."""
        future = self._rest if self.cancelled() else self
        return None if future is None or future.done() else future

    def subject(self) -> tuple[str, str, int]:
        """See `WorkflowFuture.subject`."""
        return "promise", self.name, self.seq

    def cancel(self, msg: Any = None) -> bool:
        """Cancel waiting for the promise, not the promise: a later await waits for it again."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._rest = WorkflowFuture(loop=self._numbering)
        return cancelled

    def __await__(self) -> Generator[Any, None, Any]:
        future = self._rest if self.cancelled() else self
        if future is None or (future is self and self.done()):
            return super().__await__()
        shield = asyncio.shield(future)
        shield.subject = self.subject  # type: ignore[attr-defined]
        return shield.__await__()

    __iter__ = __await__


class Promises:
    """The promises of one run."""

    __slots__ = ("_open", "_recorder", "_timers")

    def __init__(self, recorder: Recorder, timers: Timers) -> None:
        self._recorder = recorder
        self._timers = timers
        self._open: dict[int, Promise] = {}

    def create(
        self, name: str, timeout: float | timedelta | None, heartbeat: float | timedelta | None
    ) -> Promise:
        """Create a promise that fails after `timeout` seconds, or after `heartbeat` seconds without a sign
        of life. None is for no limit. Raises UsageError if one is out of range.
        """
        what = f"promise {name!r}" if name else "a promise"
        limits = limited(what, "timeout", timeout), limited(what, "heartbeat", heartbeat)
        recorder = self._recorder
        if not recorder.may_start():
            return Promise("", name, loop=recorder.loop)
        seq = recorder.seq = recorder.seq + 1
        recorder.emit(events.PromiseCreated(seq, name, *limits))
        token = make_token(recorder.execution_id, seq, recorder.state.secret(seq))
        promise = self._open[seq] = Promise(token, name, seq, loop=recorder.loop)
        opened = recorder.state.promises.get(seq)
        if opened is not None and opened.due is not None:
            self._timers.expect(seq, partial(self._expired, seq, opened))
        return promise

    def _expired(self, seq: int, opened: OpenPromise) -> None:
        """Fail a promise with PromiseTimeout."""
        promise = self._open.pop(seq, None)
        if promise is None or (future := promise.unsettled) is None:
            return
        name = repr(promise.name) if promise.name else f"#{seq}"
        late = opened.late(self._recorder.state.now)
        limit = opened.timeout if late else opened.heartbeat_timeout
        what = "was not completed within" if late else "has ended: no heartbeat came for"
        error = PromiseTimeout(f"promise {name} {what} {(limit or 0) / 1000:g} s")
        self._recorder.fail(future, error)

    def send(self, token: str, value: Any = None, error: BaseException | None = None) -> None:
        """Complete a promise of any execution once this turn is committed: with `error` if there is one,
        otherwise with `value`. Raises PromiseNotOpen, UsageError or ValueNotSerializable.
        """
        target, number, secret = read_token(token)
        recorder = self._recorder
        if recorder.may_start():
            codec = recorder.codec.for_execution(target)
            payload = codec.encode(value, "value of the promise")
            failure = None if error is None else codec.encode_failure(error)
            seq = recorder.seq = recorder.seq + 1
            recorder.emit(events.CompletionSent(seq, target, number, secret, payload, failure))

    def completed(self, event: events.PromiseCompleted) -> None:
        """Give a promise its value."""
        promise = self._ended(event.seq)
        if promise is not None and (future := promise.unsettled) is not None:
            future.set_result(self._recorder.codec.decode_ordered(event.value))

    def failed(self, event: events.PromiseFailed) -> None:
        """Give a promise its exception."""
        promise = self._ended(event.seq)
        if promise is not None and (future := promise.unsettled) is not None:
            self._recorder.fail(
                future, self._recorder.codec.decode_failure(event.failure, ordered=True)
            )

    def _ended(self, seq: int) -> Promise | None:
        self._timers.forget(seq)
        return self._open.pop(seq, None)

    def clear(self) -> None:
        """Forget all promises."""
        self._open.clear()
