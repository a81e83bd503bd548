"""Messenger: what users send to executions - signals, questions, requests, cancellations."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Incoming
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.promises import read_token
from mini_workflow.core.validation import check_id, check_name, encode_arguments
from mini_workflow.engine.pending_updates import find_answer
from mini_workflow.engine.replies import blocked
from mini_workflow.engine.requests import Answer, Ask, Post, Reply, Request, Update
from mini_workflow.errors import ExecutionClosed, ExecutionNotFound, PromiseNotOpen, UsageError
from mini_workflow.ports import Head
from mini_workflow.waiting import blocking_wait

T = TypeVar("T")

LOOK_AGAIN: float = 1.0
"""Seconds after which somebody who waits for an answer from another process looks at the store,
because its wake-up may have been lost."""


class Desk(Protocol):
    """What a messenger asks of its runtime."""

    def ask(self, request: Request, reply: Reply[T]) -> T:
        """Have the engine take the request, and wait for its reply."""
        ...

    def ask_within(self, request: Request, reply: Reply[T], timeout: float | None) -> T:
        """The same, for at most `timeout` seconds. Raises TimeoutError."""
        ...

    def clock_now(self) -> int:
        """Milliseconds since the epoch."""
        ...

    def lines(self, execution_id: str, since: int = 0) -> list[str]:
        """The lines of a history, from event number `since` on, counted over all runs. Raises
        ExecutionNotFound.
        """
        ...

    def watch(self, execution_id: str) -> AbstractContextManager[Callable[[float], None]]:
        """Notice changes of an execution from now on: the function waits for one, for at most so
        many seconds. It may come back without any, and raises RuntimeClosed.
        """
        ...

    def head(self, execution_id: str) -> Head:
        """The head of an execution. Raises ExecutionNotFound."""
        ...


class Messenger:
    """Sends messages through a runtime's engine. Callable from any thread."""

    def __init__(self, desk: Desk, codec: Codec) -> None:
        self._desk = desk
        self._codec = codec

    def make_signal(self, name: str, value: Any) -> events.SignalReceived:
        """A signal to send. Raises UsageError or ValueNotSerializable."""
        check_name("signal", name)
        payload = self._codec.encode(value, f"value of signal {name!r}")
        return events.SignalReceived(self._desk.clock_now(), name, payload, secrets.token_hex(8))

    def post(self, execution_id: str, message: Incoming) -> None:
        """Send a message; it is durable on return."""
        check_id(execution_id)
        request = Post(execution_id, message)
        self._desk.ask(request, request.reply)

    def query(self, execution_id: str, name: str, args: Any, kwargs: Any) -> Any:
        """Put a question to a workflow."""
        check_id(execution_id)
        check_name("query", name)
        request = Ask(execution_id, name, encode_arguments(self._codec.encode, args, kwargs))
        return self._codec.decode(self._desk.ask(request, request.reply))

    def update(
        self,
        execution_id: str,
        name: str,
        args: Any,
        kwargs: Any,
        update_id: str | None,
        timeout: float | None,
    ) -> Any:
        """Have a workflow handle a request, and wait for the answer."""
        check_id(execution_id)
        check_name("update", name)
        update_id = secrets.token_hex(8) if update_id is None else update_id
        check_name("update id", update_id)
        arguments = encode_arguments(self._codec.encode, args, kwargs)
        request = Update(execution_id, update_id, name, arguments, self._desk.clock_now())
        deadline = None if timeout is None else time.monotonic() + timeout
        refused: list[BaseException] = []

        def refuse(error: BaseException) -> None:
            refused.append(error)
            request.reply.fail(error)

        try:
            with blocking_wait(refuse):
                answer = self._desk.ask_within(request, request.reply, timeout)
                if answer.event is None and answer.refusal is None:
                    answer = self._from_elsewhere(request, deadline, refused)
        except TimeoutError:
            raise TimeoutError(
                f"update {name!r} of execution {execution_id!r} is not done after {timeout:g} s; "
                f"ask again with id={update_id!r} to wait on"
            ) from None
        return self._unwrap(answer)

    def _from_elsewhere(
        self, request: Update, deadline: float | None, refused: list[BaseException]
    ) -> Answer:
        """Wait until the process that has the execution has recorded the answer, or the wait is
        refused.
        """
        execution_id = request.execution_id
        seen = 0
        with self._desk.watch(execution_id) as wait:
            while True:
                # In this order: an answer is recorded before the end. Also, a run that begins in
                # between has lines read again, and none left out.
                head = self._desk.head(execution_id)
                lines = self._desk.lines(execution_id, seen)
                seen = max(seen, head.base) + len(lines)
                found = find_answer(lines, request.update_id, request.at)
                if found is not None:
                    return Answer(found)
                if head.status == "blocked":
                    raise blocked(head)
                if head.closed_at is not None:
                    raise ExecutionClosed(
                        f"execution {execution_id!r} has closed without an answer",
                        execution_id=execution_id,
                    )
                left = LOOK_AGAIN if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                if refused:
                    raise refused[0]
                wait(min(LOOK_AGAIN, left))

    def _unwrap(self, answer: Answer) -> Any:
        if isinstance(answer.event, events.UpdateCompleted):
            return self._codec.decode(answer.event.result)
        failure: Failure | None = (
            answer.event.failure if answer.event is not None else answer.refusal
        )
        assert failure is not None
        raise self._codec.decode_failure(failure)

    def complete_promise(self, token: str, make: Callable[[int, int, str], Incoming]) -> None:
        """Send what `make` makes of (now, seq, secret) to the promise's execution."""
        if not isinstance(token, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"{token!r} is not a token: give the promise's .token, a text")
        execution_id, seq, secret = read_token(token)
        try:
            self.post(execution_id, make(self._desk.clock_now(), seq, secret))
        except ExecutionNotFound:
            raise PromiseNotOpen(f"the token {token!r} is of no execution in this store") from None

    def completed(self, value: Any) -> Callable[[int, int, str], Incoming]:
        """Makes the completion of a promise. Raises ValueNotSerializable."""
        payload: Payload = self._codec.encode(value, "value of the promise")
        return lambda at, seq, secret: events.PromiseCompleted(at, seq, payload, secret)

    def failed(self, why: str | BaseException) -> Callable[[int, int, str], Incoming]:
        """Makes the failure of a promise. Raises UsageError."""
        if not isinstance(why, (str, BaseException)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"{why!r} is no reason: give an exception, or a text")
        error = RuntimeError(why) if isinstance(why, str) else why
        failure = self._codec.encode_failure(error)
        return lambda at, seq, secret: events.PromiseFailed(at, seq, failure, secret)
