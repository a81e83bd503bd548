"""Runtime: what users ask of an engine, on any thread of theirs."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.starting import check_id, encode_arguments
from mini_workflow.engine.driver import Driver, Pace
from mini_workflow.engine.engine import DEFAULT_HISTORY_LIMIT, Engine, Ports
from mini_workflow.engine.execution import Description, Execution, Settled
from mini_workflow.engine.messenger import Messenger
from mini_workflow.engine.requests import Release, Start
from mini_workflow.engine.serving import Serving
from mini_workflow.errors import (
    RuntimeClosed,
    StoreError,
    UsageError,
)
from mini_workflow.ports import STATUSES, Query, Report, Status, TaskRunner
from mini_workflow.workflow import REGISTRY, Registry, Workflow

log = logging.getLogger("mini_workflow.engine")

T = TypeVar("T")

PAGE: Final = 1_000
"""How many executions are read at a time for a listing."""


class Runtime(Serving):
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

    def _end(self) -> None:
        """The last thing on the engine's thread, however it ends."""
        self._closed = True
        try:
            self._ports.leases.release()
        except StoreError:
            log.exception("the store could not be left in good order; the next opening repairs it")
        finally:
            self._on_stop()


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
