"""Client: what users ask of any runtime, and what the handles of executions ask of it."""

from __future__ import annotations

import inspect
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import CLOSING, Event
from mini_workflow.core.history import History
from mini_workflow.core.validation import check_id, encode_arguments
from mini_workflow.engine.execution import Description, Execution, Settled
from mini_workflow.engine.messenger import Messenger
from mini_workflow.engine.replies import not_found
from mini_workflow.engine.requests import Reply, Request, Resume, Start
from mini_workflow.errors import StoreCorrupt, UsageError
from mini_workflow.loop.loop import WorkflowLoop, running_loop
from mini_workflow.ports import STATUSES, Head, Query, Status, Store, Stored
from mini_workflow.workflow import Registry, Workflow

T = TypeVar("T")

PAGE: Final = 1_000
"""How many executions are read at a time for a listing."""


class Client(ABC):
    """The common part of all runtimes: it encodes, checks, reads the store, and has requests
    answered by whatever runs the executions.
    """

    _store: Store
    _codec: Codec
    _registry: Registry
    _messenger: Messenger

    # For users

    def start_execution(
        self,
        workflow: Workflow[Any, Any] | str,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002 - the API's own word
        **kwargs: Any,
    ) -> Execution:
        """Start an execution; when this returns, it survives a crash.

        Args:
            workflow: the workflow, or its name.
            *args: its positional arguments.
            **kwargs: its keyword arguments; one called `id` has to be given by position.
            id: 1 to 100 letters, digits and ``_-.:@``; the same id again gives the same execution,
                whether it is still running or not. Without one it is made up.

        Raises:
            UnknownWorkflow, InvalidArguments, InvalidIdentifier, ValueNotSerializable: the call is
                wrong; nothing was started.
            ExecutionAlreadyExists: the id belongs to another workflow or other arguments.
            StoreError: the store refused; nothing was started.
        """
        _check_options(workflow, {"id"} if id is not None else set(), args)
        return self._start(workflow, args, kwargs, id, None)

    def start_executions(
        self,
        workflow: Workflow[Any, Any] | str,
        calls: Iterable[tuple[Any, ...]],
        *,
        ids: Iterable[str] | None = None,
    ) -> list[Execution]:
        """Start many executions of a workflow, in as few commits as possible.

        Args:
            workflow: the workflow, or its name.
            calls: the positional arguments of each, as tuples.
            ids: their ids, as many as there are calls; without them they are made up.

        Returns:
            Their handles, in the order of the calls. When this returns, all survive a crash.

        Raises:
            UsageError: there are not as many ids as calls.
            Exception: what `start_execution` raises. Wrong calls are found before anything is
                started; of the rest, those before and behind the one at fault are started.
        """
        self._check_caller()
        name = _name_of(workflow)
        arguments = list(calls)
        names = None if ids is None else list(ids)
        if names is not None and len(names) != len(arguments):
            raise UsageError(f"start_executions: {len(arguments)} calls, but {len(names)} ids")
        requests = [
            self._start_request(name, args, {}, None if names is None else names[index], None)
            for index, args in enumerate(arguments)
        ]
        self.put_all(requests)
        return [self._started(request) for request in requests]

    def signal_with_start(
        self,
        workflow: Workflow[Any, Any] | str,
        /,
        *args: Any,
        id: str,  # noqa: A002
        signal: str,
        value: Any = None,
        **kwargs: Any,
    ) -> Execution:
        """Send a signal to the execution of that id, and start it before if there is none: both in
        one step, and both survive a crash when this returns.

        Raises what `start_execution` and `Execution.signal` raise.
        """
        given = {"id", "signal"} if value is None else {"id", "signal", "value"}
        _check_options(workflow, given, args)
        return self._start(workflow, args, kwargs, id, self._messenger.make_signal(signal, value))

    def _start(
        self,
        workflow: Workflow[Any, Any] | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        id: str | None,  # noqa: A002
        signal: events.SignalReceived | None,
    ) -> Execution:
        self._check_caller()
        request = self._start_request(_name_of(workflow), args, kwargs, id, signal)
        self.put_all([request])
        return self._started(request)

    def _start_request(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        id: str | None,  # noqa: A002
        signal: events.SignalReceived | None,
    ) -> Start:
        self._registry.get(name).check_arguments(args, kwargs)
        execution_id = f"{name[:60]}-{secrets.token_hex(8)}" if id is None else id
        check_id(execution_id)
        arguments = encode_arguments(self._codec.encode, args, kwargs)
        return Start(execution_id, name, arguments, id is None, signal)

    def _started(self, request: Start) -> Execution:
        started = request.reply.wait()
        settled = Settled(started.head, started.closing) if started.closing is not None else None
        return Execution(request.execution_id, self, self._codec, settled)

    def get_execution(self, id: str) -> Execution:  # noqa: A002
        """A handle to an execution. Raises ExecutionNotFound if there is none of that id."""
        self.head(id)
        return Execution(id, self, self._codec)

    def list_executions(
        self,
        *,
        workflow: Workflow[Any, Any] | str | None = None,
        status: Status | None = None,
        limit: int | None = None,
    ) -> list[Description]:
        """Executions, newest first: of one workflow, of one status, or at most `limit` of them.

        Raises UsageError if there is no such status, or `limit` is less than 1.
        """
        if limit is not None and (type(limit) is not int or limit < 1):
            raise UsageError(f"limit={limit!r}: give a whole number of 1 or more, or None for all")
        found: list[Description] = []
        after: str | None = None
        while True:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            page, after = self.list_page(workflow=workflow, status=status, size=size, after=after)
            found.extend(page)
            if after is None or len(found) == limit:
                return found

    def list_page(
        self,
        *,
        workflow: Workflow[Any, Any] | str | None = None,
        status: Status | None = None,
        size: int = 100,
        after: str | None = None,
    ) -> tuple[list[Description], str | None]:
        """One page of `list_executions`, and the `after` of the next one; None on the last.

        Pages fit together, whatever is started or closes in between. Raises UsageError if there is
        no such status, `size` is less than 1, or `after` is not what a page before has answered.
        """
        if status is not None and status not in STATUSES:
            raise UsageError(f"status={status!r}: choose one of {', '.join(STATUSES)}")
        name = None if workflow is None else _name_of(workflow)
        query = Query(name, status, size, after)
        page = self._read(lambda: self._store.list(query))
        return list(map(Description.from_head, page.heads)), page.next

    def complete_promise(self, token: str, value: Any = None) -> None:
        """Give a promise its value, by its token.

        Raises:
            PromiseNotOpen: it was completed or failed before, or the token is wrong.
            ExecutionClosed: the execution that made it has closed.
            ValueNotSerializable: the value cannot be sent.
        """
        self._messenger.complete_promise(token, self._messenger.completed(value))

    def fail_promise(self, token: str, why: str | BaseException) -> None:
        """Have a promise raise `why`: that exception, or a RuntimeError with that text.

        Raises PromiseNotOpen or ExecutionClosed, as `complete_promise` does.
        """
        self._messenger.complete_promise(token, self._messenger.failed(why))

    @property
    def codec(self) -> Codec:
        """What carries values here, with the runtime's signing key if it has one."""
        return self._codec

    # For handles

    def closing(self, execution_id: str) -> Event:
        """See `Service.closing`."""
        for line in reversed(self._lines(execution_id)):
            if line.startswith('{"event":"Execution'):
                event = wire.decode(line)
                if type(event) in CLOSING:
                    return event
        raise StoreCorrupt(f"execution {execution_id!r} has closed without a closing event")

    def head(self, execution_id: str) -> Head:
        """See `Service.head`."""
        check_id(execution_id)
        head = self._read(lambda: self._store.head(execution_id))
        if head is None:
            raise not_found(execution_id)
        return head

    def history(self, execution_id: str) -> History:
        """See `Service.history`."""
        return History.from_lines(self._lines(execution_id))

    def stored(self, execution_id: str) -> Stored:
        """See `Service.stored`."""
        check_id(execution_id)
        stored = self._load(execution_id)
        if stored is None:
            raise not_found(execution_id)
        return stored

    def signal(self, execution_id: str, name: str, value: Any) -> None:
        """See `Service.signal`."""
        self._messenger.post(execution_id, self._messenger.make_signal(name, value))

    def query(self, execution_id: str, name: str, args: Any, kwargs: Any) -> Any:
        """See `Service.query`."""
        return self._messenger.query(execution_id, name, args, kwargs)

    def update(
        self,
        execution_id: str,
        name: str,
        args: Any,
        kwargs: Any,
        update_id: str | None,
        timeout: float | None,
    ) -> Any:
        """See `Service.update`."""
        return self._messenger.update(execution_id, name, args, kwargs, update_id, timeout)

    def cancel(self, execution_id: str, reason: str) -> None:
        """See `Service.cancel`."""
        _check_reason(reason)
        message = events.CancelRequested(self.clock_now(), reason, secrets.token_hex(8))
        self._messenger.post(execution_id, message)

    def terminate(self, execution_id: str, reason: str) -> None:
        """See `Service.terminate`."""
        _check_reason(reason)
        message = events.ExecutionTerminated(self.clock_now(), reason)
        self._messenger.post(execution_id, message)

    def resume(self, execution_id: str) -> None:
        """See `Service.resume`."""
        self.head(execution_id)
        request = Resume(execution_id)
        self.ask(request, request.reply)

    # For the messenger

    def lines(self, execution_id: str, since: int = 0) -> list[str]:
        """See `Desk.lines`."""
        if since:
            return self._read(lambda: self._store.history(execution_id, since))
        return self._lines(execution_id)

    # How requests get to where they are answered

    @abstractmethod
    def settled(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Service.settled`."""

    @abstractmethod
    async def settled_async(self, execution_id: str) -> Settled:
        """See `Service.settled_async`."""

    @abstractmethod
    def clock_now(self) -> int:
        """See `Desk.clock_now`."""

    @abstractmethod
    def watch(self, execution_id: str) -> AbstractContextManager[Callable[[float], None]]:
        """See `Desk.watch`."""

    @abstractmethod
    def put_all(self, requests: Iterable[Start]) -> None:
        """Have the requests taken, together as far as that goes; their replies say how it went."""

    @abstractmethod
    def ask_within(self, request: Request, reply: Reply[T], timeout: float | None) -> T:
        """See `Desk.ask_within`."""

    def ask(self, request: Request, reply: Reply[T]) -> T:
        """See `Desk.ask`."""
        return self.ask_within(request, reply, None)

    @abstractmethod
    def _check_caller(self) -> None:
        """Raise if the runtime cannot be used now, or not by the caller."""

    @abstractmethod
    def _read(self, read: Callable[[], T]) -> T:
        """Read from the store, on the calling thread."""

    # Inside

    def _load(self, execution_id: str) -> Stored | None:
        """The execution from the store, by whichever thread may do that."""
        return self._read(lambda: self._store.load(execution_id))

    def _lines(self, execution_id: str) -> list[str]:
        check_id(execution_id)
        lines = self._read(lambda: self._store.history(execution_id))
        if not lines:
            self.head(execution_id)
        return lines

    def _settled_now(self, execution_id: str) -> Settled | None:
        head = self.head(execution_id)
        return None if head.status == "running" else Settled(head)


def refuse_in_workflow() -> None:
    """Refuse a call from workflow code: a runtime is used from outside, or in a task."""
    loop = running_loop()
    if isinstance(loop, WorkflowLoop):
        loop.refuse("using a runtime", "do it in a task: await ctx.task(...)")


def still_running(execution_id: str, timeout: float | None) -> TimeoutError:
    """The error of `result(timeout)`."""
    return TimeoutError(f"execution {execution_id!r} is still running after {timeout:g} s")


def _check_options(
    workflow: Workflow[Any, Any] | str, options: set[str], args: tuple[Any, ...]
) -> None:
    if isinstance(workflow, Workflow):
        workflow.check_options(options, args)


def _name_of(workflow: object) -> str:
    if isinstance(workflow, Workflow):
        return workflow.name
    if isinstance(workflow, str):
        return workflow
    if inspect.iscoroutine(workflow):
        workflow.close()  # or Python would warn that nobody awaits it
        raise UsageError(
            f"{workflow!r} is a call of the workflow: give the workflow itself, and its arguments "
            "behind it"
        )
    raise UsageError(
        f"{workflow!r} is not a workflow: give a function decorated with @workflow, or the name of "
        "one"
    )


def _check_reason(reason: object) -> None:
    if not isinstance(reason, str):
        raise UsageError(f"{reason!r} is not a reason: give a text")
