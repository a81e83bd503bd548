"""Send updates, which workflows answer at once or later, also together with a start."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, TypeVarTuple, Unpack, overload

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.continuation import Answered
from mini_workflow.core.start_options import BoundWorkflow, IfClosed, unbind
from mini_workflow.core.validation import check_id, check_name, check_reason
from mini_workflow.durations import seconds
from mini_workflow.engine.execution import Execution
from mini_workflow.engine.pending_updates import find_answer
from mini_workflow.engine.requests import Answer, Update, UpdateStage
from mini_workflow.engine.run_again import RunAgain, wait_for_answer
from mini_workflow.engine.transport import CheckedStore, Transport
from mini_workflow.errors import ExecutionClosed, UpdateNotFound
from mini_workflow.waiting import blocking_wait

if TYPE_CHECKING:
    from mini_workflow.engine.client import Client

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class UpdateHandle:
    """An update that its workflow has accepted: it survives a crash, and its answer can be had later, in
    any process, by its id: ``runtime.get_execution(...).get_update(handle.id)``.
    """

    __slots__ = ("_updates", "execution", "id")

    def __init__(self, update_id: str, execution: Execution[Any], updates: Updates) -> None:
        self.id = update_id
        self.execution = execution
        self._updates = updates

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the answer, for at most `timeout` seconds (or a timedelta).

        Raises:
            TimeoutError: it is not done after `timeout` seconds; call again to wait on.
            ExecutionBlocked: the execution cannot go on; it is answered once it does.
            Exception: whatever the handler raises.
        """
        limit = None if timeout is None else seconds(timeout)
        return self._updates.result(self.execution.id, self.id, limit)

    def __repr__(self) -> str:
        return f"<update {self.id!r} of execution {self.execution.id!r}>"


class UpdateWithStartOptions(TypedDict, total=False):
    """The options of ``runtime.update_with_start`` that may be left out."""

    update_args: Sequence[Any]
    update_id: str | None
    update_timeout: float | timedelta | None
    if_closed: IfClosed
    tags: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    by: str


class Updates:
    """The updates of a client. Callable from any thread."""

    def __init__(
        self, transport: Transport, store: CheckedStore, codec: Codec, again: RunAgain
    ) -> None:
        self._transport = transport
        self._store = store
        self._codec = codec
        self._again = again
        self._for_people = False

    def for_people(self) -> Updates:
        """Return Updates whose answers are for people, without their classes: reading them runs no code from
        the store, and imports nothing by a stored name.
        """
        other = Updates(self._transport, self._store, self._codec, self._again)
        other._for_people = True
        return other

    def ask(
        self,
        execution_id: str,
        name: str,
        args: Any,
        kwargs: Any,
        update_id: str | None,
        timeout: float | None,
        by: str = "",
    ) -> Any:
        """Make a request of an execution, and return its answer: see `Execution.update`."""
        request = self._request(execution_id, name, args, kwargs, update_id, "answered", by)
        return self._value(request, self._send(request, timeout))

    def start(
        self,
        execution: Execution[Any],
        name: str,
        args: Any,
        kwargs: Any,
        update_id: str | None,
        timeout: float | None,
        by: str = "",
    ) -> UpdateHandle:
        """Make a request, and return once it is accepted: see `Execution.start_update`."""
        request = self._request(execution.id, name, args, kwargs, update_id, "accepted", by)
        self._check_accepted(request, self._send(request, timeout))
        return UpdateHandle(request.update_id, execution, self)

    def get(self, execution: Execution[Any], update_id: str) -> UpdateHandle:
        """Return a handle to an update that was accepted. Raises UpdateNotFound."""
        self._known(execution.id, update_id)
        return UpdateHandle(update_id, execution, self)

    def result(self, execution_id: str, update_id: str, timeout: float | None) -> Any:
        """Wait for the answer to an update that was accepted: see `UpdateHandle.result`."""
        known = self._known(execution_id, update_id)
        if not isinstance(known, events.UpdateAccepted):
            return self._value_of(execution_id, Answer(known))
        request = Update(
            *(execution_id, update_id, known.name, known.arguments, known.at), known=True
        )
        return self._value(request, self._send(request, timeout))

    def make(
        self, execution_id: str, name: str, args: Any, update_id: str | None, by: str = ""
    ) -> events.UpdateRequested:
        """Return the message of a request whose answer is read in the history."""
        request = self._request(execution_id, name, args, {}, update_id, "accepted", by)
        return request.message(request.at, forwarded=True)

    def accepted(
        self, execution: Execution[Any], message: events.UpdateRequested, timeout: float | None
    ) -> UpdateHandle:
        """Wait until a request that was sent is accepted. Raises the errors of its validator."""
        about = (message.id, message.name, message.arguments, message.at)
        request = Update(execution.id, *about, until="accepted", known=True)
        self._check_accepted(request, self._waited_for(request, timeout, self._in_history))
        return UpdateHandle(message.id, execution, self)

    def knows(self, execution_id: str, update_id: str) -> bool:
        """Return whether an update of that id was accepted."""
        found = self._look(execution_id, update_id)
        return found is not None and not isinstance(found, events.UpdateRefused)

    # Inside

    def _request(
        self,
        execution_id: str,
        name: str,
        args: Any,
        kwargs: Any,
        update_id: str | None,
        until: UpdateStage,
        by: str = "",
    ) -> Update:
        check_id(execution_id)
        check_reason("", by)
        check_name("update", name)
        update_id = secrets.token_hex(8) if update_id is None else update_id
        check_name("update id", update_id)
        arguments = self._codec.for_execution(execution_id).encode_arguments(args, kwargs)
        now = self._transport.now()
        about = (execution_id, update_id, name, arguments, now, until)
        return Update(*about, asked_by=by)

    def _send(self, request: Update, timeout: float | None) -> Answer:
        return self._waited_for(request, timeout, self._asked)

    def _asked(
        self, request: Update, deadline: float | None, refused: list[BaseException]
    ) -> Answer:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        answer = self._transport.ask(request, left)
        if answer.event is None and answer.refusal is None:
            return self._in_history(request, deadline, refused)
        return answer

    def _in_history(
        self, request: Update, deadline: float | None, refused: list[BaseException]
    ) -> Answer:
        return wait_for_answer(self._transport, self._store, request, deadline, refused)

    def _waited_for(
        self,
        request: Update,
        timeout: float | None,
        wait: Callable[[Update, float | None, list[BaseException]], Answer],
    ) -> Answer:
        left = self._again.wait(request.execution_id, timeout)
        deadline = None if left is None else time.monotonic() + left
        refused: list[BaseException] = []

        def refuse(error: BaseException) -> None:
            refused.append(error)
            request.reply.fail(error)

        try:
            with blocking_wait(refuse, left):
                return wait(request, deadline, refused)
        except TimeoutError:
            stage = "done" if request.until == "answered" else "accepted"
            raise TimeoutError(
                f"update {request.name!r} of execution {request.execution_id!r} is not {stage} after "
                f"{timeout:g} s; ask again with id={request.update_id!r} to wait on"
            ) from None

    def _value(self, request: Update, answer: Answer) -> Any:
        return self._value_of(request.execution_id, answer)

    def _value_of(self, execution_id: str, answer: Answer) -> Any:
        codec = self._codec.for_execution(execution_id)
        if isinstance(answer.event, events.UpdateCompleted):
            result = answer.event.result
            return codec.show(result) if self._for_people else codec.decode(result)
        assert not isinstance(answer.event, events.UpdateAccepted)
        failure = answer.refusal if answer.event is None else answer.event.failure
        assert failure is not None
        raise (codec.show_failure if self._for_people else codec.decode_failure)(failure)

    def _check_accepted(self, request: Update, answer: Answer) -> None:
        """Raise the error of a validator. The error of a handler is raised by `result`."""
        refused = isinstance(answer.event, events.UpdateRefused)
        if refused or answer.refusal is not None:
            self._value(request, answer)

    def _look(self, execution_id: str, update_id: str) -> Answered | events.UpdateAccepted | None:
        self._again.wait(execution_id, None)
        return find_answer(self._store.history(execution_id), update_id, 0, "accepted")

    def _known(self, execution_id: str, update_id: str) -> Answered | events.UpdateAccepted:
        check_name("update id", update_id)
        known = self._look(execution_id, update_id)
        if known is None:
            raise UpdateNotFound(
                f"execution {execution_id!r} has accepted no update {update_id!r}: check the id, or send "
                "the update",
                execution_id=execution_id,
            )
        return known


class UpdateWithStart:
    """``runtime.update_with_start``: see `__call__`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @overload
    def __call__(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, R]],
        /,
        *args: *Ts,
        id: str,
        update: str,
        **options: Unpack[UpdateWithStartOptions],
    ) -> UpdateHandle: ...
    @overload
    def __call__(
        self,
        workflow: BoundWorkflow[R],
        /,
        *,
        id: str,
        update: str,
        **options: Unpack[UpdateWithStartOptions],
    ) -> UpdateHandle: ...
    @overload
    def __call__(
        self, workflow: str, /, *args: Any, id: str, update: str, **options: Any
    ) -> UpdateHandle: ...
    def __call__(
        self,
        workflow: Any,
        /,
        *args: Any,
        id: str,  # noqa: A002 - the API's own word
        update: str,
        update_args: Sequence[Any] = (),
        update_id: str | None = None,
        update_timeout: float | timedelta | None = None,
        if_closed: IfClosed = "return",
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        by: str = "",
        **kwargs: Any,
    ) -> UpdateHandle:
        """Send an update to the execution of that id, and start it before if there is none: both in one
        step. Returns once the workflow has accepted it; ``.result()`` waits for the answer, and
        ``.execution`` is the execution.

        The code has to register the handler before it first awaits anything. A refusal is recorded, and
        an execution that was started for it goes on.

        Args:
            workflow: the workflow, ``workflow.bind(...)`` with its arguments, or its name.
            *args: the workflow's arguments.
            **kwargs: its arguments by name; beside options, bind them.
            id: the execution's id.
            update: the name of the update.
            update_args: the arguments of the update.
            update_id: the same id again is the same update: it is handled once, and answered again.
            update_timeout: seconds (or a timedelta) to wait until it is accepted; it stays sent.
            if_closed: as for `start_execution`. An update to an execution that has closed raises
                ExecutionClosed, unless it was accepted before or this is "restart".
            tags: those of a new execution.
            headers: those of a new execution.
            by: who sends the update. It is recorded.

        Raises:
            TimeoutError: it is not accepted after `update_timeout` seconds.
            Exception: the errors of `start_execution` and `Execution.update`.
        """
        options: dict[str, Any] = {"update_id": update_id, "tags": tags, "headers": headers}
        options["update_args"], options["by"] = update_args or None, by or None
        options["update_timeout"] = update_timeout
        options["if_closed"] = None if if_closed == "return" else if_closed
        given = {"id", "update", *(name for name, value in options.items() if value is not None)}
        workflow, args, kwargs = unbind(workflow, args, kwargs, given)
        client, updates = self._client, self._client.updates
        limit = None if update_timeout is None else seconds(update_timeout)
        message = updates.make(id, update, tuple(update_args), update_id, by)
        try:
            execution = client.start_with(
                *(workflow, args, kwargs, id, message),
                tags=tags,
                if_closed=if_closed,
                headers=headers,
            )
        except ExecutionClosed:
            if not updates.knows(id, message.id):
                raise
            return UpdateHandle(message.id, client.get_execution(id), updates)
        return updates.accepted(execution, message, limit)

    def __repr__(self) -> str:
        return "<update_with_start>"
