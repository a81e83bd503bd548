"""AsyncClient, AsyncExecution and AsyncUpdateHandle: a runtime for coroutines. No call of them blocks an
event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    TypeVarTuple,
    Unpack,
    cast,
    overload,
)

from mini_workflow.context import Context
from mini_workflow.core.history import History
from mini_workflow.core.start_options import (
    BatchOptions,
    BoundWorkflow,
    SignalWithStartOptions,
    StartOptions,
)
from mini_workflow.durations import seconds
from mini_workflow.engine.debounce import DebounceOptions
from mini_workflow.engine.description import Description
from mini_workflow.engine.execution import Execution
from mini_workflow.engine.limits import AsyncLimits
from mini_workflow.engine.recording import Recording
from mini_workflow.engine.streams import AsyncExecutionStream
from mini_workflow.engine.timeline import Timeline
from mini_workflow.engine.transport import refuse_in_workflow, still_running
from mini_workflow.engine.updates import UpdateHandle, UpdateWithStartOptions
from mini_workflow.ports import Status
from mini_workflow.threads import start_thread
from mini_workflow.workflow import Workflow

if TYPE_CHECKING:
    from mini_workflow.engine.client import Client

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CALLS: Final = 32
"""The number of calls at a time; others queue. Our own bound; any number of updates and results may be
awaited beside them."""


class AsyncClient:
    """The calls of a runtime, for coroutines; ``runtime.aio`` is one.

    Every call of the runtime can be awaited here, and handles are AsyncExecution. As
    ``async with runtime.aio as client`` it closes the runtime at the end.

    A cancelled caller only stops waiting: a call that has begun is carried out, an awaited execution goes
    on, and so does an update.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._calls = _Calls(client)
        self.limits = AsyncLimits(client.limits, self._calls.wait)
        """The limits of the store, to look at them and to change them."""

    # Starting

    @overload
    async def start_execution(
        self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncExecution[R]: ...
    @overload
    async def start_execution(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, R]],
        /,
        *args: *Ts,
        **options: Unpack[StartOptions],
    ) -> AsyncExecution[R]: ...
    @overload
    async def start_execution(
        self, workflow: BoundWorkflow[R], /, **options: Unpack[StartOptions]
    ) -> AsyncExecution[R]: ...
    @overload
    async def start_execution(
        self,
        workflow: str,
        /,
        *args: Any,
        id: str | None = None,
        **kwargs: Any,
    ) -> AsyncExecution[Any]: ...
    async def start_execution(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Start an execution: see `Client.start_execution`."""
        return await self._calls.call(self._client.start_execution, workflow, *args, **kwargs)

    @overload
    async def start_executions(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, R]],
        calls: Iterable[tuple[*Ts]],
        **options: Unpack[BatchOptions],
    ) -> list[AsyncExecution[R]]: ...
    @overload
    async def start_executions(
        self,
        workflow: Workflow[P, R],
        calls: Iterable[BoundWorkflow[R]],
        **options: Unpack[BatchOptions],
    ) -> list[AsyncExecution[R]]: ...
    @overload
    async def start_executions(
        self, workflow: str, calls: Iterable[tuple[Any, ...]], **options: Unpack[BatchOptions]
    ) -> list[AsyncExecution[Any]]: ...
    async def start_executions(self, workflow: Any, calls: Any, **options: Any) -> Any:
        """Start many executions: see `Client.start_executions`."""
        return await self._calls.call(self._client.start_executions, workflow, calls, **options)

    @overload
    async def signal_with_start(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, R]],
        /,
        *args: *Ts,
        id: str,
        signal: str,
        **options: Unpack[SignalWithStartOptions],
    ) -> AsyncExecution[R]: ...
    @overload
    async def signal_with_start(
        self,
        workflow: BoundWorkflow[R],
        /,
        *,
        id: str,
        signal: str,
        **options: Unpack[SignalWithStartOptions],
    ) -> AsyncExecution[R]: ...
    @overload
    async def signal_with_start(
        self,
        workflow: str,
        /,
        *args: Any,
        id: str,
        signal: str,
        value: Any = None,
        **kwargs: Any,
    ) -> AsyncExecution[Any]: ...
    async def signal_with_start(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Send a signal, and start an execution before if there is none: see
        `Client.signal_with_start`.
        """
        return await self._calls.call(self._client.signal_with_start, workflow, *args, **kwargs)

    @overload
    async def update_with_start(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, R]],
        /,
        *args: *Ts,
        id: str,
        update: str,
        **options: Unpack[UpdateWithStartOptions],
    ) -> AsyncUpdateHandle: ...
    @overload
    async def update_with_start(
        self,
        workflow: BoundWorkflow[R],
        /,
        *,
        id: str,
        update: str,
        **options: Unpack[UpdateWithStartOptions],
    ) -> AsyncUpdateHandle: ...
    @overload
    async def update_with_start(
        self, workflow: str, /, *args: Any, id: str, update: str, **options: Any
    ) -> AsyncUpdateHandle: ...
    async def update_with_start(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Send an update, and start an execution before if there is none: see
        `Client.update_with_start`. Each that is awaited has a thread that waits.
        """
        ask = partial(self._client.update_with_start, workflow, *args, **kwargs)
        return AsyncUpdateHandle(await self._calls.wait(ask), self._calls)

    @overload
    async def debounce(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, Any]],
        /,
        *args: *Ts,
        key: str,
        delay: float | timedelta,
        **options: Unpack[DebounceOptions],
    ) -> str: ...
    @overload
    async def debounce(
        self,
        workflow: BoundWorkflow[Any],
        /,
        *,
        key: str,
        delay: float | timedelta,
        **options: Unpack[DebounceOptions],
    ) -> str: ...
    @overload
    async def debounce(
        self, workflow: str, /, *args: Any, key: str, delay: float | timedelta, **options: Any
    ) -> str: ...
    async def debounce(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Start an execution once calls have ceased: see `Client.debounce`. Each that is awaited has a
        thread that waits.
        """
        return await self._calls.wait(partial(self._client.debounce, workflow, *args, **kwargs))

    # Reading and controlling

    async def get_execution(self, id: str) -> AsyncExecution[Any]:  # noqa: A002
        """Return a handle to an execution. Raises ExecutionNotFound if there is none of that id."""
        return cast("AsyncExecution[Any]", await self._calls.call(self._client.get_execution, id))

    async def list_executions(
        self,
        *,
        workflow: Workflow[Any, Any] | str | None = None,
        status: Status | None = None,
        limit: int | None = None,
        **more: Any,
    ) -> list[Description]:
        """Return executions, newest first: see `Client.list_executions`."""
        listed = partial(self._client.list_executions, workflow=workflow, status=status)
        return await self._calls.call(listed, limit=limit, **more)

    async def delete_execution(self, id: str, reason: str = "", *, by: str = "") -> None:  # noqa: A002
        """Delete an execution that has closed: see `Execution.delete`."""
        await self._calls.call(partial(self._client.delete_execution, id, reason, by=by))

    async def purge(
        self,
        *,
        older_than: float | timedelta | None = None,
        workflow: Workflow[Any, Any] | str | None = None,
        status: Status | None = None,
        **more: Any,
    ) -> int:
        """Delete the executions that have closed and match: see `Client.purge`."""
        purge = partial(self._client.purge, older_than=older_than, workflow=workflow)
        return await self._calls.wait(partial(purge, status=status, **more))

    async def complete_promise(self, token: str, value: Any = None, *, by: str = "") -> None:
        """Give a promise its value: see `Client.complete_promise`."""
        await self._calls.call(partial(self._client.complete_promise, token, value, by=by))

    async def heartbeat_promise(self, token: str, details: Any = None) -> None:
        """Say that a promise is still being worked on: see `Client.heartbeat_promise`."""
        await self._calls.call(self._client.heartbeat_promise, token, details)

    async def fail_promise(self, token: str, why: str | BaseException, *, by: str = "") -> None:
        """Have a promise raise: see `Client.fail_promise`."""
        await self._calls.call(partial(self._client.fail_promise, token, why, by=by))

    async def close(self) -> None:
        """Close the runtime: see its `close`. Tasks that have begun have their seconds to end, also
        those on this event loop.
        """
        await self._calls.close()

    def end_threads(self) -> None:
        """End the threads that have made calls. For the runtime, which closes."""
        self._calls.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return any other call of the runtime, to be awaited."""
            return _awaitable(self._calls, self._client, name)

        def __dir__(self) -> list[str]:
            return sorted({*_public(type(self)), *dir(self._client)} - {"aio", "end_threads"})


class AsyncExecution(Generic[R_co]):
    """One durable execution, for coroutines: what `Execution` does, to be awaited.

    ``await execution`` gives its result.
    """

    __slots__ = ("_calls", "_execution", "id")

    def __init__(self, execution: Execution[R_co], calls: _Calls) -> None:
        self.id = execution.id
        self._execution = execution
        self._calls = calls

    async def result(self, timeout: float | timedelta | None = None) -> R_co:  # noqa: ASYNC109
        """Wait for the workflow's result: see `Execution.result`."""
        limit = None if timeout is None else seconds(timeout)
        ends = asyncio.timeout(limit)
        try:
            async with ends:
                settled = await self._execution.settled()
        except TimeoutError:
            if limit is None or not ends.expired():
                raise
            raise still_running(self.id, limit) from None
        return cast("R_co", await self._calls.call(self._execution.result_of, settled))

    def __await__(self) -> Generator[Any, None, R_co]:
        return self.result().__await__()

    async def describe(self) -> Description:
        """Return a description of the execution as of now: see `Execution.describe`."""
        return await self._calls.call(self._execution.describe)

    async def history(self) -> History:
        """Return all events so far, in order: see `Execution.history`."""
        return await self._calls.call(self._execution.history)

    async def timeline(self, *, trust: bool = False) -> Timeline:
        """Return all events so far as people read them: see `Execution.timeline`."""
        return await self._calls.call(self._execution.timeline, trust=trust)

    async def recording(self) -> Recording:
        """Return a recording of the execution, to be replayed elsewhere: see `Execution.recording`."""
        return await self._calls.call(self._execution.recording)

    def stream(self, name: str, after: int = 0) -> AsyncExecutionStream:
        """Return a stream, to be read with ``async for``: see `Execution.stream`."""
        return AsyncExecutionStream(self._execution.stream(name, after))

    async def signal(self, name: str, value: Any = None, *, by: str = "") -> None:
        """Send a signal: see `Execution.signal`."""
        await self._calls.call(partial(self._execution.signal, name, value, by=by))

    async def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Query the workflow: see `Execution.query`."""
        return await self._calls.call(self._execution.query, name, *args, **kwargs)

    async def update(
        self,
        name: str,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
        asked_by: str = "",
        **kwargs: Any,
    ) -> Any:
        """Have the workflow handle a request, and wait for its answer: see `Execution.update`. Each
        that is awaited has a thread that waits.
        """
        options = {"id": id, "timeout": timeout, "asked_by": asked_by}
        ask = partial(self._execution.update, name, *args, **options, **kwargs)
        return await self._calls.wait(ask)

    async def start_update(
        self,
        name: str,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
        asked_by: str = "",
        **kwargs: Any,
    ) -> AsyncUpdateHandle:
        """Have the workflow accept a request: see `Execution.start_update`. Each that is awaited has a
        thread that waits.
        """
        options = {"id": id, "timeout": timeout, "asked_by": asked_by}
        ask = partial(self._execution.start_update, name, *args, **options, **kwargs)
        return AsyncUpdateHandle(await self._calls.wait(ask), self._calls)

    async def get_update(self, id: str) -> AsyncUpdateHandle:  # noqa: A002
        """Return a handle to an update that was accepted: see `Execution.get_update`."""
        return cast("AsyncUpdateHandle", await self._calls.call(self._execution.get_update, id))

    async def cancel(self, reason: str = "", *, by: str = "") -> None:
        """Ask the execution to cancel itself: see `Execution.cancel`."""
        await self._calls.call(partial(self._execution.cancel, reason, by=by))

    async def terminate(self, reason: str = "", *, by: str = "") -> None:
        """End the execution at once: see `Execution.terminate`."""
        await self._calls.call(partial(self._execution.terminate, reason, by=by))

    async def resume(self, *, by: str = "") -> None:
        """Let a blocked execution go on: see `Execution.resume`."""
        await self._calls.call(partial(self._execution.resume, by=by))

    async def pause(self, why: str = "", *, by: str = "") -> None:
        """Have no code of the execution run until it is resumed: see `Execution.pause`."""
        await self._calls.call(partial(self._execution.pause, why, by=by))

    async def retry(self, *, by: str = "") -> None:
        """Have an execution go on from its last good point: see `Execution.retry`."""
        await self._calls.call(partial(self._execution.retry, by=by))

    async def restart(self, *, by: str = "") -> None:
        """Have an execution that has closed begin anew: see `Execution.restart`."""
        await self._calls.call(partial(self._execution.restart, by=by))

    async def delete(self, reason: str = "", *, by: str = "") -> None:
        """Delete an execution that has closed: see `Execution.delete`."""
        await self._calls.call(partial(self._execution.delete, reason, by=by))

    def __repr__(self) -> str:
        return repr(self._execution)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return any other call of the execution, to be awaited."""
            return _awaitable(self._calls, self._execution, name)

        def __dir__(self) -> list[str]:
            return sorted({*_public(type(self)), *_public(type(self._execution))})


class AsyncUpdateHandle:
    """An update that was accepted, for coroutines: what `UpdateHandle` does, to be awaited.

    ``await handle`` gives its answer.
    """

    __slots__ = ("_calls", "_handle", "execution", "id")

    def __init__(self, handle: UpdateHandle, calls: _Calls) -> None:
        self.id = handle.id
        self.execution: AsyncExecution[Any] = AsyncExecution(handle.execution, calls)
        self._handle = handle
        self._calls = calls

    async def result(self, timeout: float | timedelta | None = None) -> Any:  # noqa: ASYNC109
        """Wait for the answer: see `UpdateHandle.result`. Each that is awaited has a thread that waits."""
        return await self._calls.wait(partial(self._handle.result, timeout))

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    def __repr__(self) -> str:
        return repr(self._handle)


class _Calls:
    """Makes the calls of coroutines on threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._threads = ThreadPoolExecutor(CALLS, thread_name_prefix="mini-workflow-aio")

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Any:
        """Call a function that answers soon; the handles that it gives are for coroutines."""
        self._client.check_caller()
        try:
            done = self._threads.submit(copy_context().run, partial(function, *args, **kwargs))
        except RuntimeError:  # the threads have ended meanwhile
            self._client.check_caller()
            raise
        return self._for_coroutines(await asyncio.wrap_future(done))

    async def wait(self, function: Callable[[], T]) -> T:
        """Call a function that may wait for long, on a thread of its own: it holds up no other."""
        self._client.check_caller()
        return await _on_a_thread(function)

    async def close(self) -> None:
        """Close the client, which ends the threads."""
        refuse_in_workflow()
        await _on_a_thread(self._client.close)

    def end(self) -> None:
        """End the threads once they have finished their calls."""
        self._threads.shutdown(wait=False)

    def _for_coroutines(self, value: Any) -> Any:
        if isinstance(value, Execution):
            return AsyncExecution(cast("Execution[Any]", value), self)
        if isinstance(value, UpdateHandle):
            return AsyncUpdateHandle(value, self)
        if isinstance(value, list):
            return [self._for_coroutines(one) for one in cast("list[Any]", value)]
        return value


def _awaitable(calls: _Calls, owner: object, name: str) -> Any:
    """Return an attribute; a method is called on another thread, and awaited."""
    if name.startswith("_"):
        raise AttributeError(f"{type(owner).__name__} has nothing for coroutines called {name!r}")
    found = getattr(owner, name)
    return partial(calls.call, found) if callable(found) else found


def _public(kind: type) -> Iterable[str]:
    return (name for name in dir(kind) if not name.startswith("_"))


async def _on_a_thread(function: Callable[[], T]) -> T:
    """Call a function that may wait for long on a thread of its own, which holds up nobody."""
    future: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            value = context.run(function)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)

    future.set_running_or_notify_cancel()  # who is cancelled stops waiting; the call goes on
    start_thread(threading.Thread(target=run, name="mini-workflow-aio-wait", daemon=True))
    return await asyncio.wrap_future(future)
