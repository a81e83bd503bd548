"""Runtime: what users ask of an engine, on any thread of theirs."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import CLOSING, Event
from mini_workflow.core.history import History
from mini_workflow.core.loop import WorkflowLoop, running_loop
from mini_workflow.core.starting import check_id, encode_arguments
from mini_workflow.engine.answers import blocked
from mini_workflow.engine.driver import ENDED, Driver, Pace
from mini_workflow.engine.engine import DEFAULT_HISTORY_LIMIT, Engine, Ports
from mini_workflow.engine.execution import Description, Execution, Settled
from mini_workflow.engine.messenger import Messenger
from mini_workflow.engine.requests import Release, Reply, Request, Resume, Start
from mini_workflow.errors import (
    ExecutionNotFound,
    NotAllowedInWorkflow,
    RuntimeClosed,
    StoreCorrupt,
    StoreError,
    UsageError,
)
from mini_workflow.ports import STATUSES, Head, Query, Report, Status, TaskRunner
from mini_workflow.workflow import REGISTRY, Registry, Workflow

log = logging.getLogger("mini_workflow.engine")

T = TypeVar("T")

PAGE: Final = 1_000
"""How many executions are read at a time for a listing."""

RECHECK: Final = 5.0
"""Seconds after which somebody who waits for an execution looks at the store, because the process
that runs it may have died without a word."""


class Runtime:
    """Runs workflows. Made by a runtime's own module, which hands in the backend.

    Args:
        ports: the backend.
        codec: carries values and closures.
        make_runner: makes the runner of tasks, given where to report.
        pace: how to wait.
        wake_peers: tells other processes that have the same store open to look at it.
        look_for_peers: finds out which those are.
        on_stop: called when everything is done, to close the backend.
        registry: where workflows are looked up.
    """

    def __init__(
        self,
        ports: Ports,
        *,
        codec: Codec,
        make_runner: Callable[[Report], TaskRunner],
        pace: Pace,
        wake_peers: Callable[[], None] = lambda: None,
        look_for_peers: Callable[[], None] = lambda: None,
        on_stop: Callable[[], None] = lambda: None,
        registry: Registry = REGISTRY,
        cache_size: int = 4096,
        turn_limit: float | None = 10.0,
        grace: float = 10.0,
        history_limit: int = DEFAULT_HISTORY_LIMIT,
    ) -> None:
        self._ports = ports
        self._codec = codec
        self._registry = registry
        self._grace = grace
        self._on_stop = on_stop
        self._process = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        self._ended = False
        self._driver = Driver(
            store=ports.store,
            clock=ports.clock,
            pace=pace,
            wake_peers=wake_peers,
            on_end=self._end,
        )
        self._messenger = Messenger(self, codec, self._driver.lookers)
        try:
            self._runner = make_runner(self._driver.put)
            try:
                self._engine = Engine(
                    ports,
                    codec=codec,
                    definitions=registry.get,
                    known=registry.names,
                    entropy=lambda: secrets.randbits(53),
                    on_close=self._driver.announce,
                    on_post=self._driver.ring_later,
                    on_look=look_for_peers,
                    cache_size=cache_size,
                    turn_limit=turn_limit,
                    history_limit=history_limit,
                )
                self._engine.open(self._runner)
            except BaseException:
                self._runner.close(0)
                raise
        except BaseException:
            on_stop()
            raise
        self._driver.start(self._engine)
        look_for_peers()
        wake_peers()

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
        self._driver.put_all(requests)
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
        self._driver.put_all([request])
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
        if status is not None and status not in STATUSES:
            raise UsageError(f"status={status!r}: choose one of {', '.join(STATUSES)}")
        if limit is not None and (type(limit) is not int or limit < 1):
            raise UsageError(f"limit={limit!r}: give a whole number of 1 or more, or None for all")
        name = None if workflow is None else _name_of(workflow)
        found: list[Description] = []
        after: str | None = None
        while True:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            query = Query(name, status, size, after)
            page = self._read(lambda query=query: self._ports.store.list(query))
            found.extend(map(Description.from_head, page.heads))
            after = page.next
            if after is None or len(found) == limit:
                return found

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

    def close(self) -> None:
        """Stop. Tasks that have begun get some seconds to end; running executions stay in the
        store, and the next runtime that opens it continues them.

        Harmless if it was closed before. Who still waits for a result gets RuntimeClosed.
        """
        if self._process != os.getpid():
            return  # a copy made by fork: the runtime itself is the other process's
        self._check_not_inside()
        with self._closing:
            if self._ended:
                return
            self._closed = True
            # Each of these steps may be repeated: Ctrl-C may have interrupted a close before.
            with contextlib.suppress(RuntimeClosed):
                self._driver.call(self._engine.drain)
            for request in self._runner.close(self._grace):
                self._driver.put(Release(*request.key))
            self._driver.stop()
            self._ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # For handles

    def settled(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Service.settled`."""
        self._check_caller()
        reply: Reply[Settled] = Reply()
        self._driver.waiters.add(execution_id, reply.give)
        try:
            left = timeout
            while True:
                found = self._settled_now(execution_id)
                if found is not None:
                    return found
                wait = RECHECK if left is None else min(RECHECK, left)
                try:
                    return opened(reply.wait(wait))
                except TimeoutError:
                    if left is not None:
                        left -= wait
                        if left <= 0:
                            raise still_running(execution_id, timeout) from None
        finally:
            self._driver.waiters.remove(execution_id, reply.give)

    async def settled_async(self, execution_id: str) -> Settled:
        """See `Service.settled_async`."""
        self._check_caller()
        future, deliver = awaitable_reply()
        self._driver.waiters.add(execution_id, deliver)
        try:
            while True:
                found = self._settled_now(execution_id)
                if found is not None:
                    return found
                done, _ = await asyncio.wait([future], timeout=RECHECK)
                if done:
                    return opened(future.result())
        finally:
            self._driver.waiters.remove(execution_id, deliver)

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
        head = self._read(lambda: self._ports.store.head(execution_id))
        if head is None:
            raise ExecutionNotFound(
                f"there is no execution {execution_id!r} in this store; list_executions() shows "
                "all",
                execution_id=execution_id,
            )
        return head

    def history(self, execution_id: str) -> History:
        """See `Service.history`."""
        return History.from_lines(self._lines(execution_id))

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
        message = events.CancelRequested(self._ports.clock.now(), reason)
        self._messenger.post(execution_id, message)

    def terminate(self, execution_id: str, reason: str) -> None:
        """See `Service.terminate`."""
        _check_reason(reason)
        message = events.ExecutionTerminated(self._ports.clock.now(), reason)
        self._messenger.post(execution_id, message)

    def resume(self, execution_id: str) -> None:
        """See `Service.resume`."""
        self.head(execution_id)
        request = Resume(execution_id)
        self._ask(request, request.reply)

    # For the messenger

    def ask(self, request: Request, reply: Reply[T]) -> T:
        """See `Desk.ask`."""
        return self._ask(request, reply)

    def ask_within(self, request: Request, reply: Reply[T], timeout: float | None) -> T:
        """See `Desk.ask_within`."""
        self._check_caller()
        return self._driver.ask_within(request, reply, timeout)

    def clock_now(self) -> int:
        """See `Desk.clock_now`."""
        return self._ports.clock.now()

    def lines(self, execution_id: str) -> list[str]:
        """See `Desk.lines`."""
        return self._lines(execution_id)

    def closed(self, execution_id: str) -> bool:
        """See `Desk.closed`."""
        return self.head(execution_id).closed_at is not None

    def check_not_blocked(self, execution_id: str) -> None:
        """See `Desk.check_not_blocked`."""
        head = self.head(execution_id)
        if head.status == "blocked":
            raise blocked(head)

    # For other parts of the runtime

    def look_around(self) -> None:
        """Another process has rung: look at the store. Callable from any thread."""
        self._driver.nudge()

    def evict(self) -> None:
        """Drop all live executions from memory; the next event of each replays it."""
        self._check_caller()
        self._driver.call(self._engine.evict)

    # Inside

    def _ask(self, request: Request, reply: Reply[T]) -> T:
        self._check_caller()
        return self._driver.ask(request, reply)

    def _read(self, read: Callable[[], T]) -> T:
        """Read from the store, on the calling thread."""
        self._check_caller()
        try:
            return read()
        except StoreError:
            self._check_open()  # was it closed in between?
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeClosed("the runtime was closed; open a new one")
        if self._process != os.getpid():
            raise RuntimeClosed(
                "the runtime belongs to the process that forked this one; open one in this process"
            )

    def _check_caller(self) -> None:
        self._check_open()
        self._check_not_inside()

    def _check_not_inside(self) -> None:
        """Refuse a call from workflow code, which would wait for itself."""
        loop = running_loop()
        if isinstance(loop, WorkflowLoop):
            loop.refuse("using a runtime", "do it in a task: await ctx.task(...)")
        if self._driver.is_current():
            raise NotAllowedInWorkflow(
                "a runtime cannot be used by an inline task, which the engine itself runs; drop "
                "inline=True"
            )

    def _lines(self, execution_id: str) -> list[str]:
        check_id(execution_id)
        lines = self._read(lambda: self._ports.store.history(execution_id))
        if not lines:
            self.head(execution_id)
        return lines

    def _settled_now(self, execution_id: str) -> Settled | None:
        head = self.head(execution_id)
        return None if head.status == "running" else Settled(head)

    def _end(self) -> None:
        """The last thing on the engine's thread, however it ends."""
        self._closed = True
        try:
            self._ports.leases.release()
        except StoreError:
            log.exception("the store could not be left in good order; the next opening repairs it")
        finally:
            self._on_stop()


def opened(settled: Settled) -> Settled:
    """What a waiter was told, unless that is the end of the runtime: then RuntimeClosed."""
    if settled is ENDED:
        raise RuntimeClosed("the runtime was closed while the execution was running")
    return settled


def still_running(execution_id: str, timeout: float | None) -> TimeoutError:
    """The error of `result(timeout)`."""
    return TimeoutError(f"execution {execution_id!r} is still running after {timeout:g} s")


def awaitable_reply() -> tuple[asyncio.Future[Settled], Callable[[Settled], None]]:
    """A future of the running loop, and what sets it from any thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Settled] = loop.create_future()

    def set_result(settled: Settled) -> None:
        if not future.done():
            future.set_result(settled)

    def deliver(settled: Settled) -> None:
        # A loop that was closed meanwhile has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(set_result, settled)

    return future, deliver


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
