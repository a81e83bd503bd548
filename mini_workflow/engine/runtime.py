"""Runtime: an engine on a thread of its own, and what callers on other threads ask of it."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Final, Protocol, Self

from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import CLOSING, Event
from mini_workflow.core.history import History
from mini_workflow.core.loop import WorkflowLoop
from mini_workflow.core.payload import Payload
from mini_workflow.engine.engine import Engine, Ports
from mini_workflow.engine.execution import Description, Execution, Settled
from mini_workflow.engine.requests import (
    Do,
    Nudge,
    Post,
    Release,
    Reply,
    Request,
    Resume,
    Start,
)
from mini_workflow.engine.turn import Turn
from mini_workflow.errors import (
    ExecutionNotFound,
    InvalidIdentifier,
    NotAllowedInWorkflow,
    RuntimeClosed,
    StoreCorrupt,
    UsageError,
)
from mini_workflow.ports import STATUSES, Head, Query, Report, Status, TaskRunner
from mini_workflow.workflow import REGISTRY, Registry, Workflow

log = logging.getLogger("mini_workflow.engine")

EXECUTION_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\-]{0,99}")
"""What an execution id may be. 100 characters is what EventBridge Pipes allows in a message group
id; the characters are safe in file names, object keys and message group ids alike."""

BATCH: Final = 1_000
"""How many requests are taken into one commit at most."""

RECHECK: Final = 5.0
"""Seconds after which somebody who waits for an execution looks at the store, because the process
that runs it may have died without a word."""

_IDLE_WAIT: Final = 60.0


class Pace(Protocol):
    """How the engine's thread waits."""

    def wait(self, until: int | None, idle: bool) -> float | None:
        """How many seconds to wait for a request: 0 for not at all, None for without end.

        `until` is when something is due (milliseconds since the epoch), or None; `idle` says that
        no task is running.
        """
        ...


class Runtime:
    """Runs workflows. Made by a runtime's own module, which hands in the backend.

    Args:
        ports: the backend.
        codec: carries values and closures.
        make_runner: makes the runner of tasks, given where to report.
        pace: how to wait.
        wake_peers: tells other processes that have the same store open to look at it.
        look_for_peers: finds out which those are.
        on_stop: called on the engine's thread when everything is done, to close the backend.
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
    ) -> None:
        self._ports = ports
        self._codec = codec
        self._pace = pace
        self._wake_peers = wake_peers
        self._on_stop = on_stop
        self._registry = registry
        self._grace = grace
        self._inbox: SimpleQueue[Request] = SimpleQueue()
        self._watching: dict[str, list[Callable[[Settled], None]]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._stopping = False
        self._ring = False
        self._runner = make_runner(self._inbox.put)
        self._engine = Engine(
            ports,
            codec=codec,
            definitions=registry.get,
            known=registry.names,
            entropy=lambda: secrets.randbits(53),
            on_close=self._announce,
            on_post=self._ring_later,
            on_look=look_for_peers,
            cache_size=cache_size,
            turn_limit=turn_limit,
        )
        try:
            self._engine.open(self._runner)
        except BaseException:
            self._closed = True
            self._runner.close(0)
            on_stop()
            raise
        self._thread = threading.Thread(target=self._run, name="mini-workflow-engine", daemon=True)
        self._thread.start()
        look_for_peers()
        wake_peers()

    # For users

    def start_execution(
        self, workflow: Workflow[Any, Any] | str, /, *args: Any, id: str | None = None, **kwargs: Any
    ) -> Execution:
        """Start an execution; when this returns, it survives a crash.

        Args:
            workflow: the workflow, or its name.
            args, kwargs: its arguments.
            id: 1 to 100 letters, digits and ``_-.:@``; the same id again gives the same execution,
                whether it is still running or not. Without one it is made up.

        Raises:
            UnknownWorkflow, InvalidArguments, InvalidIdentifier, ValueNotSerializable: the call is
                wrong; nothing was started.
            ExecutionAlreadyExists: the id belongs to another workflow or other arguments.
            StoreError: the store refused; nothing was started.
        """
        name = workflow if isinstance(workflow, str) else workflow.name
        found = self._registry.get(name)
        found.check_arguments(args, kwargs)
        fresh = id is None
        if id is None:
            id = f"{name[:60]}-{secrets.token_hex(8)}"
        _check_id(id)
        request = Start(id, name, self._encode_arguments(args, kwargs), fresh)
        started = self._ask(request, request.reply)
        settled = Settled(started.head, started.closing) if started.closing is not None else None
        return Execution(id, self, self._codec, settled)

    def get_execution(self, id: str) -> Execution:
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
        if limit is not None and limit < 1:
            raise UsageError(f"limit={limit!r}: give 1 or more, or None for all")
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        self._check_open()
        found: list[Description] = []
        after: str | None = None
        while True:
            size = 1000 if limit is None else min(1000, limit - len(found))
            page = self._ports.store.list(Query(name, status, size, after))
            found.extend(map(Description.from_head, page.heads))
            after = page.next
            if after is None or len(found) == limit:
                return found

    def close(self) -> None:
        """Stop. Tasks that have begun get some seconds to end; running executions stay in the
        store, and the next runtime that opens it continues them."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        drained: Reply[None] = Reply()
        self._inbox.put(Do(lambda: drained.give(self._engine.drain())))
        drained.wait()
        for request in self._runner.close(self._grace):
            self._inbox.put(Release(*request.key))
        self._inbox.put(Do(self._stop))
        self._thread.join()
        with self._lock:
            left, self._watching = self._watching, {}
        for callbacks in left.values():
            for callback in callbacks:
                callback(_CLOSED)

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
        self._check_thread()
        reply: Reply[Settled] = Reply()
        self._watch(execution_id, reply.give)
        try:
            left = timeout
            while True:
                found = self._settled_now(execution_id)
                if found is not None:
                    return found
                wait = RECHECK if left is None else min(RECHECK, left)
                try:
                    return _open(reply.wait(wait))
                except TimeoutError:
                    if left is not None:
                        left -= wait
                        if left <= 0:
                            raise TimeoutError(
                                f"execution {execution_id!r} is still running after {timeout:g} s"
                            ) from None
        finally:
            self._unwatch(execution_id, reply.give)

    async def settled_async(self, execution_id: str) -> Settled:
        """See `Service.settled_async`."""
        self._check_thread()
        loop = asyncio.get_running_loop()
        if isinstance(loop, WorkflowLoop):
            loop.refuse("awaiting another execution's handle", "wait for it in a task")
        future: asyncio.Future[Settled] = loop.create_future()

        def deliver(settled: Settled) -> None:
            loop.call_soon_threadsafe(lambda: future.done() or future.set_result(settled))

        self._watch(execution_id, deliver)
        try:
            while True:
                found = self._settled_now(execution_id)
                if found is not None:
                    return found
                done, _ = await asyncio.wait([future], timeout=RECHECK)
                if done:
                    return _open(future.result())
        finally:
            self._unwatch(execution_id, deliver)

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
        _check_id(execution_id)
        self._check_open()
        head = self._ports.store.head(execution_id)
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

    def terminate(self, execution_id: str, reason: str) -> None:
        """See `Service.terminate`."""
        self.head(execution_id)
        message = events.ExecutionTerminated(self._ports.clock.now(), reason)
        request = Post(execution_id, message)
        self._ask(request, request.reply)

    def resume(self, execution_id: str) -> None:
        """See `Service.resume`."""
        self.head(execution_id)
        request = Resume(execution_id)
        self._ask(request, request.reply)

    # For other parts of the runtime

    def look_around(self) -> None:
        """Another process has rung: look at the store. Callable from any thread."""
        self._inbox.put(Nudge())
        self._inbox.put(Do(self._recheck))

    def evict(self) -> None:
        """Drop all live executions from memory; the next event of each replays it."""
        done: Reply[None] = Reply()
        self._inbox.put(Do(lambda: done.give(self._engine.evict())))
        done.wait()

    # Inside

    def _ask(self, request: Request, reply: Reply[Any]) -> Any:
        self._check_thread()
        with self._lock:
            if self._closed:
                raise RuntimeClosed("the runtime was closed; open a new one")
            self._inbox.put(request)
        return reply.wait()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeClosed("the runtime was closed; open a new one")

    def _check_thread(self) -> None:
        self._check_open()
        if threading.current_thread() is self._thread:
            raise NotAllowedInWorkflow(
                "a runtime cannot be used inside a workflow; do it in a task: await ctx.task(...)"
            )

    def _lines(self, execution_id: str) -> list[str]:
        self._check_open()
        lines = self._ports.store.history(execution_id)
        if not lines:
            self.head(execution_id)
        return lines

    def _encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        encode = self._codec.encode
        positional = ",".join(
            encode(value, f"argument {number}").text for number, value in enumerate(args, 1)
        )
        keyword = ",".join(
            f'"{name}":{encode(value, f"argument {name!r}").text}' for name, value in kwargs.items()
        )
        return Payload(text=f"[[{positional}],{{{keyword}}}]")

    def _watch(self, execution_id: str, callback: Callable[[Settled], None]) -> None:
        with self._lock:
            self._watching.setdefault(execution_id, []).append(callback)

    def _unwatch(self, execution_id: str, callback: Callable[[Settled], None]) -> None:
        with self._lock:
            callbacks = self._watching.get(execution_id, [])
            if callback in callbacks:
                callbacks.remove(callback)
                if not callbacks:
                    del self._watching[execution_id]

    def _settled_now(self, execution_id: str) -> Settled | None:
        head = self.head(execution_id)
        return None if head.status == "running" else Settled(head)

    def _announce(self, turn: Turn) -> None:
        self._ring = True
        self._tell(turn.head.execution_id, Settled(turn.head, turn.closing))

    def _tell(self, execution_id: str, settled: Settled) -> None:
        if execution_id in self._watching:
            with self._lock:
                callbacks: Iterable[Callable[[Settled], None]] = self._watching.pop(
                    execution_id, []
                )
            for callback in callbacks:
                callback(settled)

    def _recheck(self) -> None:
        """Tell those who wait for executions that another process runs."""
        with self._lock:
            names = list(self._watching)
        for name in names:
            head = self._ports.store.head(name)
            if head is not None and head.status != "running":
                self._tell(name, Settled(head))

    def _ring_later(self) -> None:
        self._ring = True

    def _stop(self) -> None:
        self._stopping = True

    def _run(self) -> None:
        """The engine's thread."""
        engine, inbox, clock = self._engine, self._inbox, self._ports.clock
        while not (self._stopping and inbox.empty() and not engine.unsettled):
            requests: list[Request] = []
            until = engine.deadline()
            if until is None or until > clock.now() or not inbox.empty():
                timeout = self._pace.wait(until, engine.in_flight == 0 and inbox.empty())
                try:
                    requests.append(inbox.get(timeout != 0, timeout))
                    for _ in range(min(inbox.qsize(), BATCH)):
                        requests.append(inbox.get_nowait())
                except Empty:
                    pass
            engine.process(requests)
            if self._ring:
                self._ring = False
                self._wake_peers()
        try:
            engine.close()
            self._ports.leases.release()
        except Exception:
            log.exception("the store could not be left in good order; the next opening repairs it")
        finally:
            self._on_stop()


_CLOSED: Final = Settled(Head("", "", "running", 0))


def _open(settled: Settled) -> Settled:
    if settled is _CLOSED:
        raise RuntimeClosed("the runtime was closed while the execution was running")
    return settled


def _check_id(execution_id: Any) -> None:
    if not isinstance(execution_id, str) or EXECUTION_ID.fullmatch(execution_id) is None:
        raise InvalidIdentifier(
            f"{execution_id!r} cannot be an execution id: use 1 to 100 letters, digits and '_', "
            "'-', '.', ':', '@', beginning with a letter, a digit or '_'"
        )
