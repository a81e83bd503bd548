"""The deterministic asyncio loop that workflow code runs on.

It has no selector and no clock of its own. Callbacks run first in, first out until none is left;
time is set from outside and stands still in between; ``call_at`` and ``call_later`` become
durable timers. The standard Task and Future run on it, in subclasses whose hash follows the order
of creation, so that code which keeps them in sets behaves the same on every replay.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio.events import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any, Final, NoReturn, Protocol
from zlib import crc32

from mini_workflow.core import guard, ordering
from mini_workflow.core.where import user_line
from mini_workflow.errors import DeterminismError, NotAllowedInWorkflow, UsageError

log = logging.getLogger("mini_workflow.workflow")

_PRUNE_AT: Final = 64
"""How many finished tasks or generators may be remembered before they are dropped."""


_SPREAD: Final = 0x9E3779B97F4A7C15
_HASH_MASK: Final = (1 << 56) - 1
"""Hashes of one execution follow each other; those of two executions begin far apart, because
asyncio keeps the tasks of all loops in one set."""


class Halt(BaseException):
    """Stops workflow code that must not run on; the reason is the loop's `fault`."""


class Timers(Protocol):
    """Where the loop takes its timers."""

    def start_timer(self, fire_at: int, handle: TimerHandle) -> int:
        """Start a durable timer; answers its number."""
        ...

    def cancel_timer(self, seq: int) -> None:
        """Give the timer up."""
        ...


class Handle:
    """A callback that is ready to run."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context")

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        """Do not run it."""
        self._cancelled = True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def run(self) -> None:
        """Run the callback, unless it was cancelled."""
        if not self._cancelled:
            self._context.run(self._callback, *self._args)


class TimerHandle(Handle):
    """A callback that waits for a durable timer."""

    __slots__ = ("_timers", "_when", "seq")

    def __init__(
        self,
        when: int,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
        timers: Timers,
    ) -> None:
        super().__init__(callback, args, context)
        self._when = when
        self._timers: Timers | None = timers
        self.seq = timers.start_timer(when, self)

    def when(self) -> float:
        """When it fires, in seconds on the loop's clock."""
        return self._when / 1000

    def cancel(self) -> None:
        """Give the timer up; harmless when it has fired or was cancelled before."""
        timers, self._timers = self._timers, None
        if timers is not None and not self._cancelled:
            timers.cancel_timer(self.seq)
        self._cancelled = True

    def fired(self) -> None:
        """Its time has come: a later cancel cannot cancel the timer any more."""
        self._timers = None


class WorkflowFuture(asyncio.Future[Any]):
    """A future whose hash follows the order of creation."""

    def __init__(self, *, loop: WorkflowLoop) -> None:
        super().__init__(loop=loop)
        self._mw_hash = loop.next_hash()

    def __hash__(self) -> int:
        return self._mw_hash


class WorkflowTask(asyncio.Task[Any]):
    """An ``asyncio.Task`` whose hash follows the order of creation."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: WorkflowLoop,
        name: str | None,
        context: Context | None,
    ) -> None:
        # The hash comes first: the base class enters the task into a set.
        self._mw_hash = loop.next_hash()
        name = name if name is not None else f"Task-{loop.created}"
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._mw_hash


class WorkflowLoop(asyncio.AbstractEventLoop):
    """Runs callbacks in order, one delivery at a time. See the module's description."""

    def __init__(self, identity: str, timers: Timers) -> None:
        _install()
        self._timers = timers
        self._ready: deque[Handle] = deque()
        self._hash_base = crc32(identity.encode()) * _SPREAD & _HASH_MASK
        self.created = 0
        self.now = 0
        self.fault: DeterminismError | None = None
        self.tasks: list[WorkflowTask] = []
        self._tasks_prune = _PRUNE_AT
        self.generators: list[AsyncGenerator[Any, Any]] = []
        self._generators_prune = _PRUNE_AT
        self._dead = False

    def next_hash(self) -> int:
        """The hash of the next task or future; the base keeps executions apart in global sets."""
        self.created += 1
        return self._hash_base + self.created

    # Running

    def drain(self, idle: Callable[[], bool]) -> None:
        """Run what is ready, and what that makes ready, until nothing is.

        `idle` is asked then whether it has made something ready. Stops early when there is a
        `fault`. Raises KeyboardInterrupt only.
        """
        outer, outer_hooks = _get_running_loop(), sys.get_asyncgen_hooks()
        _set_running_loop(self)
        sys.set_asyncgen_hooks(self._generator_started, _ignore)
        ready = self._ready
        try:
            while True:
                while ready:
                    handle = ready.popleft()
                    try:
                        handle.run()
                    except KeyboardInterrupt:
                        raise
                    except (Halt, SystemExit):
                        pass  # a task that ends so keeps it as its exception
                    except BaseException as error:
                        self.call_exception_handler(
                            {"message": "a callback of the workflow failed", "exception": error}
                        )
                    if self.fault is not None:
                        return
                if not idle():
                    return
        except Halt:
            return
        finally:
            sys.set_asyncgen_hooks(*outer_hooks)
            _set_running_loop(outer)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Inside the block code runs as if it were not part of the workflow."""
        hooks = sys.get_asyncgen_hooks()
        _set_running_loop(None)
        sys.set_asyncgen_hooks(None, None)
        try:
            yield
        finally:
            _set_running_loop(self)
            sys.set_asyncgen_hooks(*hooks)

    def refuse(self, what: str, instead: str) -> NoReturn:
        """Record that the workflow did what it must not, and raise the error at that place."""
        error = NotAllowedInWorkflow(
            f"{what} is not allowed in a workflow, because a replay cannot repeat it; {instead}"
            f"{user_line()}"
        )
        if not self._dead:
            self.fault = error
        raise error

    def close(self) -> None:
        """Drop everything that still waits, in order of creation, without running any of it."""
        self._dead = True
        self._ready.clear()
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if _unseen(task):
                task._log_traceback = False  # type: ignore[attr-defined]
        for task in self.tasks:
            if not task.done():
                _close(task.get_coro())
        self.tasks.clear()
        self.generators.clear()
        self._ready.clear()

    # What asyncio asks of a loop

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        handle = Handle(callback, args, context)
        if not self._dead:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        if _get_running_loop() is not self:
            raise NotAllowedInWorkflow(
                "call_soon_threadsafe() from outside a workflow's turn: threads cannot reach a "
                "workflow; send it a signal, or complete a task"
            )
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        wait = milliseconds(delay)
        if wait <= 0:
            return self.call_soon(callback, *args, context=context)
        return TimerHandle(self.now + wait, callback, args, context, self._timers)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        at = milliseconds(when)
        if at <= self.now:
            return self.call_soon(callback, *args, context=context)
        return TimerHandle(at, callback, args, context, self._timers)

    def timer_fired(self, handle: TimerHandle) -> None:
        """Make the callback of a timer ready."""
        handle.fired()
        self._ready.append(handle)

    def time(self) -> float:
        return self.now / 1000

    def create_future(self) -> WorkflowFuture:
        return WorkflowFuture(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **_options: Any,
    ) -> WorkflowTask:
        if not asyncio.iscoroutine(coro):
            coro = _awaiting(coro)
        task = WorkflowTask(coro, loop=self, name=name, context=context)
        # Kept until it is done: asyncio's own references are weak, and the garbage collector
        # must not decide what happens.
        self.tasks.append(task)
        if len(self.tasks) > self._tasks_prune:
            self.tasks = [t for t in self.tasks if not t.done() or _unseen(t)]
            self._tasks_prune = max(_PRUNE_AT, 2 * len(self.tasks))
        return task

    def _generator_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        self.generators.append(generator)
        if len(self.generators) > self._generators_prune:
            self.generators = self.open_generators()
            self._generators_prune = max(_PRUNE_AT, 2 * len(self.generators))

    def open_generators(self) -> list[AsyncGenerator[Any, Any]]:
        """Asynchronous generators that have begun and not ended, in order."""
        return [g for g in self.generators if getattr(g, "ag_frame", None) is not None]

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        if enabled:
            raise NotAllowedInWorkflow("asyncio's debug mode cannot be used in a workflow")

    def is_running(self) -> bool:
        return _get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._dead:
            return
        error = context.get("exception")
        log.warning("%s: %r", context.get("message"), error, exc_info=error)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """asyncio calls this for its own timer handles; there are none here."""


def milliseconds(duration: float) -> int:
    """Seconds as whole milliseconds, rounded up, so that nothing ends early.

    What is less than a microsecond away from a whole number counts as it: sums of floats differ
    by that much. Raises UsageError for NaN and infinity.
    """
    try:
        return -(-round(duration * 1_000_000) // 1000)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{duration!r} is not a number of seconds") from error


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable


def _ignore(_generator: AsyncGenerator[Any, Any]) -> None:
    """What the garbage collector finds does not matter: generators are closed in order."""


def _unseen(task: WorkflowTask) -> bool:
    """Whether the task has failed and nobody has looked at the exception."""
    return bool(getattr(task, "_log_traceback", False))


def _close(coroutine: Any, limit: int = 100) -> None:
    """Close a coroutine; one that awaits in a ``finally`` block is closed again and again."""
    for _ in range(limit):
        try:
            coroutine.close()
            return
        except RuntimeError:  # it ignored GeneratorExit by awaiting
            continue
        except BaseException:
            return


_REFUSED: Final[dict[str, str]] = {
    "run_in_executor": "asyncio.to_thread() and run_in_executor()",
    "set_default_executor": "an executor",
    "getaddrinfo": "a name lookup",
    "getnameinfo": "a name lookup",
    "create_connection": "opening a connection",
    "create_server": "opening a server",
    "create_unix_connection": "opening a connection",
    "create_unix_server": "opening a server",
    "create_datagram_endpoint": "opening a socket",
    "connect_accepted_socket": "a socket",
    "connect_read_pipe": "a pipe",
    "connect_write_pipe": "a pipe",
    "start_tls": "TLS",
    "sendfile": "sending a file",
    "sock_recv": "a socket",
    "sock_recv_into": "a socket",
    "sock_recvfrom": "a socket",
    "sock_recvfrom_into": "a socket",
    "sock_sendto": "a socket",
    "sock_sendall": "a socket",
    "sock_connect": "a socket",
    "sock_accept": "a socket",
    "sock_sendfile": "a socket",
    "add_reader": "watching a file descriptor",
    "remove_reader": "watching a file descriptor",
    "add_writer": "watching a file descriptor",
    "remove_writer": "watching a file descriptor",
    "subprocess_exec": "starting a process",
    "subprocess_shell": "starting a process",
    "add_signal_handler": "a handler of operating-system signals",
    "remove_signal_handler": "a handler of operating-system signals",
    "run_until_complete": "running a loop",
    "run_forever": "running a loop",
    "set_task_factory": "a task factory",
    "set_exception_handler": "an exception handler",
    "stop": "stopping the loop",
    "shutdown_default_executor": "an executor",
    "shutdown_asyncgens": "closing all generators",
}


def _refused(what: str) -> Callable[..., NoReturn]:
    def method(self: WorkflowLoop, *_args: Any, **_kwargs: Any) -> NoReturn:
        self.refuse(what, "do it in a task: await ctx.task(...)")

    return method


for _name, _what in _REFUSED.items():
    setattr(WorkflowLoop, _name, _refused(_what))


def _in_workflow() -> bool:
    return isinstance(_get_running_loop(), WorkflowLoop)


def _refuse_if_in_workflow(what: str, instead: str) -> None:
    loop = _get_running_loop()
    if isinstance(loop, WorkflowLoop):
        loop.refuse(what, instead)


_installed = False


def _install() -> None:
    global _installed
    if not _installed:
        _installed = True
        ordering.install(_in_workflow)
        guard.install(_refuse_if_in_workflow)
