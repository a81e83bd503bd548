"""Start executions and act on them, the same on every runtime: the calls of users and their handles."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    ParamSpec,
    Self,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event, Incoming
from mini_workflow.core.headers import check_headers
from mini_workflow.core.limit import Limit, check_declared, limit_of, queue_of
from mini_workflow.core.records import replace
from mini_workflow.core.start_options import (
    BoundWorkflow,
    IfClosed,
    SignalWithStartOptions,
    StartOptions,
    unbind,
)
from mini_workflow.core.tags import check_tags
from mini_workflow.core.timing import UNTIMED, Timing, timing_of
from mini_workflow.core.validation import check_id, check_name, check_reason
from mini_workflow.engine import parts
from mini_workflow.engine.execution import Execution, Settled
from mini_workflow.engine.replies import existing
from mini_workflow.engine.requests import Post, Resume, Start
from mini_workflow.engine.run_again import RunAgain, closing_option
from mini_workflow.engine.starts import name_of
from mini_workflow.engine.transport import CheckedStore, Pauses, Transport
from mini_workflow.errors import (
    ExecutionNotFound,
    PromiseNotOpen,
    UsageError,
)
from mini_workflow.interceptors import NO_INTERCEPTORS, Interceptors
from mini_workflow.ports import Head, Status, Stored, StreamPage
from mini_workflow.workflow import Registry, Workflow

if TYPE_CHECKING:
    from mini_workflow.context import Context
    from mini_workflow.core.history import History
    from mini_workflow.core.retry import RetryPolicy
    from mini_workflow.engine.aio import AsyncClient
    from mini_workflow.engine.description import Description
    from mini_workflow.engine.find import Filters
    from mini_workflow.engine.open_promises import ToPromise

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


_FOR_HANDLES: Final = {name for name in vars(Execution) if not name.startswith("_")} | {
    "again",
    "changes",
    "check_caller",
    "closing",
    "deletions",
    "forks",
    "given",
    "head",
    "lines",
    "looks",
    "queries",
    "read_stream",
    "start_request",
    "start_with",
    "started",
    "stored",
    "updates",
    "wait",
    "wait_async",
}
"""The names that handles use of a client: users have the handles."""


class Client:
    """The common part of all runtimes: it encodes, checks, reads the store, and has its transport
    take requests to the engine that runs the executions.
    """

    deletions = cached_property(parts.deletions)
    forks = cached_property(parts.forks)
    queries = cached_property(parts.queries)
    updates = cached_property(parts.updates)
    start_executions = cached_property(parts.start_executions)
    update_with_start = cached_property(parts.update_with_start)
    debounce = cached_property(parts.debounce)
    schedules = cached_property(parts.schedules)
    limits = cached_property(parts.limits)
    looks = cached_property(parts.looks)

    def __init__(
        self,
        transport: Transport,
        store: CheckedStore,
        codec: Codec,
        registry: Registry,
        interceptors: Interceptors = NO_INTERCEPTORS,
    ) -> None:
        if interceptors:
            from mini_workflow.engine.intercepted import with_interceptors

            transport = with_interceptors(transport, interceptors)
        self._transport = transport
        self._interceptors = interceptors
        self._store = store
        self._codec = codec
        self._registry = registry
        self.again = RunAgain(transport, store)
        self.given = parts.Given(transport, store, codec, registry, interceptors)
        self._aio: AsyncClient | None = None

    # For users

    @overload
    def start_execution(
        self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Execution[R]: ...
    @overload
    def start_execution(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, R]],
        /,
        *args: *Ts,
        **options: Unpack[StartOptions],
    ) -> Execution[R]: ...
    @overload
    def start_execution(
        self, workflow: BoundWorkflow[R], /, **options: Unpack[StartOptions]
    ) -> Execution[R]: ...
    @overload
    def start_execution(
        self,
        workflow: str,
        /,
        *args: Any,
        id: str | None = None,
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float | timedelta | None = None,
        start_at: datetime | None = None,
        timeout: float | timedelta | None = None,
        retry: RetryPolicy | None = None,
        **kwargs: Any,
    ) -> Execution[Any]: ...
    def start_execution(
        self,
        workflow: Any,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002 - the API's own word
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        if_closed: IfClosed = "return",
        delay: float | timedelta | None = None,
        start_at: datetime | None = None,
        timeout: float | timedelta | None = None,
        retry: RetryPolicy | None = None,
        queue: str | Limit | None = None,
        limit_key: str | None = None,
        priority: int | None = None,
        **kwargs: Any,
    ) -> Execution[Any]:
        """Start an execution; when this returns, it survives a crash.

        Args:
            workflow: the workflow, ``workflow.bind(...)`` with its arguments, or its name.
            *args: its positional arguments.
            **kwargs: its keyword arguments; beside options, bind them: see `Workflow.bind`.
            id: 1 to 100 letters, digits and ``_-.:@``; the same id again gives the same execution,
                whether it is still running or not, and its other options do not count then. Without
                one it is made up.
            delay: seconds (or a timedelta) after which its code begins. Until then signals are
                kept, and a cancellation ends it without running any code.
            start_at: the time at which its code begins, a datetime with a time zone.
            timeout: seconds (or a timedelta) within which the execution has to end, from when its
                code first begins, over all its runs and retries. Then its code is cancelled where
                it waits: it may clean up, what has an `undo` is taken back, and the execution
                fails with ExecutionTimeout, whatever the code returns.
            retry: when a run that fails is followed by another one with the same arguments, which
                begins anew after the policy's wait; `retry_if` is not for executions. Its own
                timeout and a cancellation are not tried again.
            queue: a `Limit`, or the name of one, of which the execution needs a slot before its code begins;
                it gives the slot back when it has closed. It replaces the workflow's own limit.
            limit_key: the key at the limit: keys take turns, as those of ``ctx.task``. It also counts for the
                workflow's own limit, as `priority` does.
            priority: -100 to 100, 0 by default; the highest goes first.
            tags: names and values by which `list_executions` finds the execution, at most 20; names of up to
                64 characters as in ids, values of up to 256.
            headers: names and values that the execution, its tasks, its children and its later runs get, such
                as a tenant: ``ctx.headers`` and ``current_task().headers`` have them. Names as of tags, and
                4,096 bytes of names and values together.
            if_closed: what to do if an execution of that id has closed: "return" it, "restart"
                it with these arguments, or "reject" the start. A repeated start with "restart" begins
                another run if the one before has closed by then.

        Raises:
            UnknownWorkflow, InvalidArguments, InvalidIdentifier, ValueNotSerializable, UsageError:
                the call is wrong; nothing was started.
            ExecutionAlreadyExists: the id belongs to another workflow or other arguments, or, with
                "reject", to an execution that has closed.
            StoreError: the store refused; nothing was started.
        """
        options = {
            "id": id,
            "tags": tags,
            "headers": headers,
            "delay": delay,
            "start_at": start_at,
            "timeout": timeout,
            "retry": retry,
            "if_closed": closing_option(if_closed),
        }
        options |= {"queue": queue, "limit_key": limit_key, "priority": priority}
        given = {option for option, value in options.items() if value is not None}
        workflow, args, kwargs = unbind(workflow, args, kwargs, given)
        limit = queue_of("start_execution", name_of(workflow), queue, limit_key, priority)
        timing = timing_of("start_execution", delay, start_at, timeout, retry, limit)
        return self.start_with(workflow, args, kwargs, id, None, timing, tags, if_closed, headers)

    @overload
    def signal_with_start(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, R]],
        /,
        *args: *Ts,
        id: str,
        signal: str,
        **options: Unpack[SignalWithStartOptions],
    ) -> Execution[R]: ...
    @overload
    def signal_with_start(
        self,
        workflow: BoundWorkflow[R],
        /,
        *,
        id: str,
        signal: str,
        **options: Unpack[SignalWithStartOptions],
    ) -> Execution[R]: ...
    @overload
    def signal_with_start(
        self, workflow: str, /, *args: Any, id: str, signal: str, value: Any = None, **kwargs: Any
    ) -> Execution[Any]: ...
    def signal_with_start(
        self,
        workflow: Any,
        /,
        *args: Any,
        id: str,  # noqa: A002
        signal: str,
        value: Any = None,
        if_closed: IfClosed = "return",
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        by: str = "",
        **kwargs: Any,
    ) -> Execution[Any]:
        """Send a signal to the execution of that id, and start it before if there is none: both in
        one step, and both survive a crash when this returns. A new execution gets the `tags` and `headers`.
        A closed execution takes no signal, unless `if_closed` is "restart": then its next run gets the
        signal. `by` says who sends it, and is recorded.

        Raises the errors of `start_execution` and `Execution.signal`.
        """
        options = {"value": value, "tags": tags, "headers": headers, "by": by or None}
        options["if_closed"] = closing_option(if_closed)
        given = {"id", "signal", *(name for name, one in options.items() if one is not None)}
        workflow, args, kwargs = unbind(workflow, args, kwargs, given)
        check_reason("", by)
        message = replace(self._make_signal(id, signal, value), asked_by=by)
        about = (id, message, UNTIMED, tags, if_closed, headers)
        return self.start_with(workflow, args, kwargs, *about)

    def start_with(
        self,
        workflow: Workflow[Any, Any] | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        id: str | None,  # noqa: A002
        message: events.SignalReceived | events.UpdateRequested | None,
        timing: Timing = UNTIMED,
        tags: Mapping[str, str] | None = None,
        if_closed: IfClosed = "return",
        headers: Mapping[str, str] | None = None,
    ) -> Execution[Any]:
        """Start an execution, or find it, with a message that it gets either way."""
        self._store.check()
        name, about = name_of(workflow), (message, timing, tags, headers)
        request = self.start_request(name, args, kwargs, id, *about)
        request.if_closed = if_closed
        self._transport.start([request])
        return self.started(request)

    def start_request(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        id: str | None,  # noqa: A002
        message: events.SignalReceived | events.UpdateRequested | None = None,
        timing: Timing = UNTIMED,
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Start:
        """Return the request to start an execution, after a check of all arguments. Raises the errors of
        `start_execution` that concern them.
        """
        definition = self._registry.get(name)
        definition.check_arguments(args, kwargs)
        if (limit := timing.limit or limit_of(name)) is not None:
            check_declared(limit["name"], f"workflow {name!r}")
        execution_id = f"{name[:60]}-{os.urandom(8).hex()}" if id is None else id
        check_id(execution_id)
        checked = None if tags is None else check_tags(tags)
        codec = self._codec.for_execution(execution_id)
        arguments = codec.encode_arguments(*definition.ordered(args, kwargs))
        request = Start(execution_id, name, arguments, id is None, message, timing, checked)
        request.headers = None if headers is None else check_headers(headers)
        if kwargs and id is not None:
            request.as_given = codec.encode_arguments(args, kwargs)
        return request

    def started(self, request: Start) -> Execution[Any]:
        """Return the handle of the started execution. Raises the error if the start failed."""
        started = request.reply.wait()
        if request.restarts and started.head.closed_at is not None:
            # Another process has it, and begins its next run.
            self.again.over[request.execution_id] = started.head.run
        settled = Settled(started.head, started.closing) if started.closing is not None else None
        return Execution(request.execution_id, self, self._codec, settled)

    def get_execution(self, id: str) -> Execution[Any]:  # noqa: A002
        """Return a handle to an execution. Raises ExecutionNotFound if there is none of that id."""
        self.head(id)
        return Execution(id, self, self._codec)

    def list_executions(
        self,
        *,
        workflow: Workflow[Any, Any] | str | None = None,
        status: Status | None = None,
        limit: int | None = None,
        **filters: Unpack[Filters],
    ) -> list[Description]:
        """Return the executions that match all given filters, newest start first.

        Args:
            workflow: those of this workflow, or of the workflow of this name.
            status: those that have this status now.
            **filters: any of the following.
            tags: those that have all these tags now. The first tag should be the rarest one.
            started_after: those that were started then or later; a datetime with a time zone.
            started_before: those that were started before.
            closed_after: those that have closed then or later.
            closed_before: those that have closed before.
            parent: the children of the execution of this id.
            id_prefix: those whose ids begin so.
            order: "-started" (the default) is newest start first and "started" oldest first; "-closed"
                and "closed" are by the end, and list only closed executions.
            limit: the highest number of executions to return.

        Raises:
            UsageError: an argument is out of range, or the store has no index for a filter. On
                AWS it has none for `parent`, `id_prefix`, `closed_after` and every `order` but the default.
        """
        if limit is not None and (type(limit) is not int or limit < 1):
            raise UsageError(f"limit={limit!r}: give a whole number of 1 or more, or None for all")
        from mini_workflow.engine.find import make_query, matching

        name = None if workflow is None else name_of(workflow)
        query = make_query(workflow=name, status=status, **filters)
        return self.described(list(matching(self._store.list, query, limit)))

    def count_executions(
        self,
        *,
        workflow: Workflow[Any, Any] | str | None = None,
        status: Status | None = None,
        **filters: Unpack[Filters],
    ) -> int:
        """Return how many executions match all given filters: see `list_executions`, which raises
        the same errors.

        The store counts them in an index. On AWS that takes a request for each 1,000 executions, and with
        `tags` or `closed_before` one for each; an execution whose status changes at that moment may count
        with its old status.
        """
        from mini_workflow.engine.find import make_query

        name = None if workflow is None else name_of(workflow)
        query = make_query(workflow=name, status=status, **filters)
        return self._store.count(query)

    def list_page(
        self,
        *,
        workflow: Workflow[Any, Any] | str | None = None,
        status: Status | None = None,
        size: int = 100,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> tuple[list[Description], str | None]:
        """Return one page of `list_executions`, and the `after` of the next one; None on the last.

        Pages fit together whichever executions start or close in between. Raises the errors of
        `list_executions`, and UsageError if `size` is less than 1, or `after` is not from a page before.
        """
        from mini_workflow.engine.find import make_query

        name = None if workflow is None else name_of(workflow)
        query = make_query(workflow=name, status=status, limit=size, after=after, **filters)
        page = self._store.list(query)
        return self.described(page.heads), page.next

    def described(self, heads: Sequence[Head]) -> list[Description]:
        """Return the descriptions of executions with these heads."""
        from mini_workflow.engine.description import Description

        missing = self._unserved({head.execution_id for head in heads if head.busy})
        return [Description.from_head(h, missing.get(h.execution_id, ())) for h in heads]

    def _unserved(self, execution_ids: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        """Return, for each execution, the workers that its tasks wait for and nobody serves, if that is
        known.
        """
        return {}

    def delete_execution(self, id: str, reason: str = "", *, by: str = "") -> None:  # noqa: A002
        """Delete an execution that has closed: see `Execution.delete`."""
        self.deletions.delete(id, reason, by)
        self.again.over.pop(id, None)  # another execution of that id begins with its first run

    def purge(
        self,
        *,
        older_than: float | timedelta | None = None,
        workflow: Workflow[Any, Any] | str | None = None,
        status: Status | None = None,
        progress: Callable[[int], None] = lambda done: None,
        reason: str = "",
        by: str = "",
        **filters: Unpack[Filters],
    ) -> int:
        """Delete all executions that have closed and match all that is given, some hundreds at a time,
        and return how many. Executions of another process, and on AWS, may be gone a moment later.

        Args:
            older_than: those that have closed so many seconds ago (or a timedelta) or earlier; 0 for all
                that have closed.
            workflow: those of this workflow, or of one of this name.
            status: those that have this status.
            progress: is called with the number of those that were deleted so far.
            reason: why. It is logged for each, as for `delete_execution`.
            by: who asks for it, which is logged as well.
            **filters: as for `list_executions`, but for `order`.

        Raises:
            UsageError: nothing is given, or the store has no index that answers it; nothing was
                deleted.
            StoreError: what was deleted so far is deleted.
        """
        name = None if workflow is None else name_of(workflow)
        query = self.deletions.query(older_than, name, status, filters)
        return self.deletions.purge(query, progress, reason, by)

    def complete_promise(self, token: str, value: Any = None, *, by: str = "") -> None:
        """Give a promise its value, by its token. `by` says who does, and is recorded.

        Raises:
            PromiseNotOpen: it was completed or failed before, or the token is wrong.
            ExecutionClosed: the execution that made it has closed.
            ValueNotSerializable: the value cannot be sent.
        """
        from mini_workflow.engine.open_promises import completion_of

        now = self._transport.now()
        self._settle_promise(token, completion_of(token, value, self._codec, now, by))

    def fail_promise(self, token: str, why: str | BaseException, *, by: str = "") -> None:
        """Have a promise raise `why`: that exception, or a RuntimeError with that text. `by` says who
        does, and is recorded.

        Raises PromiseNotOpen or ExecutionClosed, as `complete_promise` does.
        """
        from mini_workflow.engine.open_promises import failure_of

        now = self._transport.now()
        self._settle_promise(token, failure_of(token, why, self._codec, now, by))

    def heartbeat_promise(self, token: str, details: Any = None) -> None:
        """Say that a promise is still being worked on, by its token: a promise made with ``heartbeat=``
        raises PromiseTimeout when no such call has come for that long. A third of it is a good pause.

        The history does not record the call. The `details`, a value of at most 4 KiB when it is encoded,
        replace those of the call before: ``execution.open_promises()`` shows them.

        Raises:
            PromiseNotOpen: it was completed, failed or has ended before, or the token is wrong: stop.
            ExecutionClosed: the execution that made it has closed.
            ValueNotSerializable: the details cannot be sent.
            ValueTooLarge: the details are too large.
        """
        from mini_workflow.engine.open_promises import heartbeat_of

        beat = heartbeat_of(token, details, self._codec, self._transport.now())
        self._settle_promise(token, beat)

    @property
    def codec(self) -> Codec:
        """The codec of values, with the runtime's signing key if it has one."""
        return self._codec

    @property
    def aio(self) -> AsyncClient:
        """The same for coroutines: every call is awaited, and blocks no event loop."""
        from mini_workflow.engine.aio import AsyncClient

        if self._aio is None:
            self._aio = AsyncClient(self)
        return self._aio

    def close(self) -> None:
        """End the threads of this process. Harmless if it was closed before."""
        if self._aio is not None:
            self._aio.end_threads()
        self._interceptors.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aio.close()

    def __dir__(self) -> list[str]:
        """Return the names for users, without those that handles use."""
        names = (name for name in super().__dir__() if not name.startswith("_"))
        return [name for name in names if name not in _FOR_HANDLES]

    # For handles

    def check_caller(self) -> None:
        """Raise RuntimeClosed if the runtime is closed, and NotAllowedInWorkflow in a workflow."""
        self._store.check()

    def wait(self, execution_id: str, timeout: float | None) -> Settled:
        """Wait until the execution has closed or is blocked."""
        timeout = self.again.wait(execution_id, timeout)
        return self._transport.wait(execution_id, timeout)

    async def wait_async(self, execution_id: str) -> Settled:
        """Wait for the same on the running event loop."""
        if execution_id in self.again.over:
            import asyncio

            await asyncio.to_thread(self.again.wait, execution_id, None)
        return await self._transport.wait_async(execution_id)

    def closing(self, execution_id: str) -> Event:
        """Return the closing event of a closed execution, from the store."""
        check_id(execution_id)
        return self.looks.closing(execution_id)

    def head(self, execution_id: str) -> Head:
        """Return the head. Raises ExecutionNotFound."""
        check_id(execution_id)
        return existing(execution_id, self._store.head(execution_id))

    def history(self, execution_id: str) -> History:
        """Return the history. Raises ExecutionNotFound."""
        from mini_workflow.core.history import History

        return History.from_lines(self.lines(execution_id))

    def lines(self, execution_id: str, since: int = 0) -> list[str]:
        """Return the lines of the current run from event number `since` on, counted from 0 over all runs.
        Raises ExecutionNotFound.
        """
        check_id(execution_id)
        lines = self._store.history(execution_id, since)
        if not lines:
            self.head(execution_id)
        return lines

    def stored(self, execution_id: str) -> Stored:
        """Return the stored execution, with its current run. Raises ExecutionNotFound."""
        check_id(execution_id)
        return existing(execution_id, self._store.load(execution_id))

    def read_stream(self, execution_id: str, name: str, after: int, limit: int) -> StreamPage:
        """Return the next chunks of a stream: see `StreamStore.read`."""
        self._store.check()
        return self._transport.streams.read(execution_id, name, after, limit)

    def stream_names(self, execution_id: str) -> list[str]:
        """Return the names of the streams of an execution. Raises ExecutionNotFound."""
        self.head(execution_id)
        return self._transport.streams.names(execution_id)

    def changes(
        self, execution_id: str, wake: Callable[[], None]
    ) -> AbstractContextManager[Pauses]:
        """Have `wake` called after each change: see `Transport.changes`."""
        return self._transport.changes(execution_id, wake)

    def signal(self, execution_id: str, name: str, value: Any, by: str = "") -> None:
        """Send a signal. Raises ExecutionNotFound or ExecutionClosed."""
        check_reason("", by)
        signal = self._make_signal(execution_id, name, value)
        self._post(execution_id, replace(signal, asked_by=by) if by else signal)

    def cancel(self, execution_id: str, reason: str, by: str = "") -> None:
        """Ask an execution to cancel itself. Raises as `signal`."""
        check_reason(reason, by)
        now, request_id = self._transport.now(), os.urandom(8).hex()
        self._post(execution_id, events.CancelRequested(now, reason, request_id, by))

    def terminate(self, execution_id: str, reason: str, by: str = "") -> None:
        """End an execution. Raises as `signal`."""
        check_reason(reason, by)
        self._post(execution_id, events.ExecutionTerminated(self._transport.now(), reason, by))

    def resume(self, execution_id: str, by: str = "") -> None:
        """Let an execution go on. Raises as `signal`."""
        from mini_workflow.engine.run_again import tell_asked

        check_reason("", by)
        head = self.head(execution_id)
        self._transport.ask(Resume(execution_id))
        tell_asked(head, "resume", by)

    def pause(self, execution_id: str, reason: str, by: str = "") -> None:
        """Have no code of an execution run until it is resumed. Raises as `signal`."""
        check_reason(reason, by)
        reason = f"{reason} (by {by})".lstrip() if by else reason
        self._post(execution_id, events.PauseRequested(self._transport.now(), reason))

    def query(self, execution_id: str, name: str, args: Any, kwargs: Any) -> Any:
        """Query an execution: see `Execution.query`."""
        return self.queries.ask(execution_id, name, args, kwargs)

    # Inside

    def _make_signal(self, execution_id: str, name: str, value: Any) -> events.SignalReceived:
        check_id(execution_id)
        check_name("signal", name)
        payload = self._codec.for_execution(execution_id).encode(value, f"value of signal {name!r}")
        return events.SignalReceived(self._transport.now(), name, payload, os.urandom(8).hex())

    def _post(self, execution_id: str, message: ToPromise | Incoming | events.Request) -> None:
        check_id(execution_id)
        self._transport.ask(Post(execution_id, message, self.again.over.get(execution_id, 0)))

    def _settle_promise(self, token: str, given: tuple[str, ToPromise]) -> None:
        try:
            self._post(*given)
        except ExecutionNotFound:
            raise PromiseNotOpen(
                f"no execution in this store has a promise with the token {token!r}: check the token, and "
                "that this is the right store"
            ) from None
