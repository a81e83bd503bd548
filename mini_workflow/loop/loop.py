"""The deterministic asyncio loop that workflow code runs on.

The loop has no selector and no clock of its own. Callbacks run first in, first out, until none is left.
The time is set from outside and stands still in between; ``call_at`` and ``call_later`` become durable
timers. The standard Task and Future run on the loop, in subclasses whose hash follows the order of
creation, so that code which keeps them in sets behaves the same in every replay.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import inspect
import sys
from asyncio import events
from collections.abc import AsyncGenerator, Callable, Generator, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, copy_context
from typing import Any, Final, NoReturn, Protocol

from mini_workflow.durations import MAXIMUM_DURATION, milliseconds
from mini_workflow.errors import (
    DeterminismError,
    MiniWorkflowError,
    NotAllowedInWorkflow,
    UsageError,
)
from mini_workflow.loop import ordered, sandbox
from mini_workflow.loop.closing import close_waiting, is_closing
from mini_workflow.loop.generators import OpenGenerators
from mini_workflow.loop.handles import Handle, TimerHandle, Timers
from mini_workflow.loop.ordered import WorkflowFuture, WorkflowTask, hash_base, silence, unseen
from mini_workflow.loop.running import HOLDS, Halt
from mini_workflow.loop.source_line import user_line

# These have an underscore, but are meant for authors of loops: asyncio.events lists them in __all__.
running_loop = events._get_running_loop  # pyright: ignore[reportPrivateUsage]
_set_running_loop = events._set_running_loop  # pyright: ignore[reportPrivateUsage]
_swap_current_task: Callable[[Any, Any], Any] | None = getattr(
    asyncio.tasks, "_swap_current_task", None
)
"""Since Python 3.14 a thread has one current task, whichever loops run on it. Before 3.12 the function does
not exist and is not needed."""

_enter_task: Callable[[Any, Any], None] = asyncio.tasks._enter_task  # pyright: ignore[reportPrivateUsage]
_exit_task: Callable[[Any, Any], None] = asyncio.tasks._leave_task  # pyright: ignore[reportPrivateUsage]

_PRUNE_AT: Final = 64
"""The number of remembered tasks at which the finished ones are dropped."""

_CANCELS: Final = 100
"""The number of cancellations of one task in one delivery after which a callback that cancels it in every
pass of the loop waits for the next delivery. Our own bound."""

UNDER_WAY: Final = 10_000
"""Milliseconds that an event may be under way, for example in a queue, so that durations still begin at its
time. Our own bound."""

_SHARED: Final = "an object of asyncio that is shared (Event, Queue, Lock, Semaphore, Future, Task)"
_UNSHARED: Final = "make one in each workflow function, and wake others by a signal"


class Idle(Protocol):
    """A source that may make callbacks ready when none is: the conditions of a run."""

    @property
    def waiting(self) -> Sized:
        """The conditions; empty if there is none to try."""
        ...

    def try_all(self) -> bool:
        """Try all conditions, and return whether any callback has become ready."""
        ...


class Owner(Protocol):
    """The interface of the run that the loop needs."""

    def warn(self, message: str, *args: Any, exc_info: BaseException | None = None) -> None:
        """Log a warning about this execution."""
        ...


class _Nobody:
    """A stand-in for the owner and the timers of a loop that was dropped. To refer to them any longer
    would leave the run to the garbage collector, which is slow.
    """

    def warn(self, message: str, *args: Any, exc_info: BaseException | None = None) -> None:
        """Tell nobody."""

    def start(self, fire_at: int, wait: int | None, handle: TimerHandle) -> int:
        """Start no timer."""
        return 0

    def cancel(self, seq: int) -> None:
        """Give up none."""


_NOBODY: Final = _Nobody()


@sandbox.refuse_the_rest
class WorkflowLoop(asyncio.AbstractEventLoop):
    """Runs callbacks in order, one delivery at a time. See the description of the module."""

    def __init__(self, identity: str, owner: Owner) -> None:
        _install()
        self.first_hash = self.last_hash = hash_base(identity)
        """The hash of the last task or future, and the one from which they are counted: each has the next
        number."""
        self._owner = owner
        self.timers: Timers = _NOBODY
        """The source of durable timers. It has to be set before code runs."""
        self.fault: MiniWorkflowError | None = None
        """The error for which the workflow cannot go on, or None."""
        self.dead = False
        """Whether the execution has been dropped from memory."""
        self.idle: Idle | None = None
        """The source that is tried whenever no callback is ready."""
        self.workflow: object | None = None
        """The context of the workflow, for code that is not given it."""
        self._ready: list[Handle] = []
        self.now = 0
        self.clock: int | None = None
        """The time of the real clock, if it is known (milliseconds since the epoch). Durations begin at it.
        After the clock was set back `now` is ahead of it, since `now` never goes back.
        """
        self.looking = False
        self.touched = False
        """Whether code that may only read has tried to change something, so that the run may have changed."""
        self.resting = False
        """Whether the code waits for the next delivery: until then nobody may wake it."""
        self._current: Handle | None = None
        self._repeated: dict[WorkflowTask, int] | None = None
        self._repeating: Handle | None = None
        self._held: tuple[Handle, ...] = ()
        """The callbacks that go on cancelling at the next delivery."""
        self.ended = False
        """Whether the workflow has ended: callbacks that are still ready do not run."""
        self.tasks: list[WorkflowTask] = []
        self._tasks_prune = _PRUNE_AT
        self.generators: OpenGenerators | None = None
        """The open asynchronous generators, once one has begun."""
        self.closes_early = False
        """Whether abandoned generators are closed in the next pass: see `OpenGenerators`."""
        self._has_hooks = False
        """Whether the hooks of asynchronous generators are those of this loop already."""
        self._outer: asyncio.AbstractEventLoop | None = None
        """The loop that runs on the thread between the deliveries meanwhile."""

    def refuse(self, what: str, instead: str) -> NoReturn:
        """Raise NotAllowedInWorkflow, which becomes the `fault`. `what` names the refused action, `instead`
        the remedy.
        """
        error = NotAllowedInWorkflow(
            f"{what} is not allowed in a workflow, because a replay cannot repeat it; {instead}"
            f"{user_line()}"
        )
        if not self.dead and self.fault is None:
            self.fault = error
        raise error

    # Running

    def drain(self) -> None:
        """Run the ready callbacks, and those that they make ready, until none is left.

        Then `idle` is tried, which may make more ready. Stop early at a `fault` or the end of the
        workflow. Raises KeyboardInterrupt only; the run cannot go on after that.
        """
        holds = self._has_hooks or HOLDS.get()
        outer_hooks = None if holds else sys.get_asyncgen_hooks()
        outer = self._outer if self._has_hooks else running_loop()
        outer_task = None if outer is None else _leave_task(outer)
        _set_running_loop(self)
        if not self._has_hooks:
            sys.set_asyncgen_hooks(self._generator_begins, self._generator_abandoned)
        ready = self._ready
        self._repeated = None
        ready.extend(self._held)
        self._held = ()
        try:
            while True:
                while ready:
                    # The list is taken as a whole. An empty deque would take 600 bytes.
                    handles = ready[:]
                    ready.clear()
                    for handle in handles:
                        self._current = handle
                        try:
                            if not handle.is_cancelled:
                                handle.context.run(handle.callback, *handle.args)
                        except BaseException as error:
                            self._callback_failed(handle, error)
                        if self.fault is not None or self.ended:
                            return
                idle = self.idle
                if idle is None or not idle.waiting or not idle.try_all():
                    return
        except Halt:
            return
        except KeyboardInterrupt:
            if self.fault is None:
                self.fault = DeterminismError("the turn was interrupted by KeyboardInterrupt")
            raise
        finally:
            self._current = None  # frees the objects that its callback holds
            if outer_hooks is not None:
                sys.set_asyncgen_hooks(*outer_hooks)
            _set_running_loop(outer)
            if outer_task is not None:
                _return_to_task(outer, outer_task)

    def _callback_failed(self, handle: Handle, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
            raise error
        if isinstance(error, Halt):
            return
        if isinstance(error, SystemExit) and isinstance(
            getattr(handle.callback, "__self__", None), asyncio.Task
        ):
            return  # the task keeps the exception for the code that awaits it
        self._owner.warn("a callback of the workflow failed: %r", error, exc_info=error)

    @contextmanager
    def with_hooks(self) -> Generator[None]:
        """Surround calls of `drain` that follow each other, so that they set the hooks of asynchronous
        generators once, which takes four audit events, and ask for the outer loop once, which takes a system
        call. No other code of a workflow runs in between.
        """
        outer_hooks = sys.get_asyncgen_hooks()
        try:
            sys.set_asyncgen_hooks(self._generator_begins, self._generator_abandoned)
            self._outer, self._has_hooks = running_loop(), True
            yield
        finally:
            self._outer, self._has_hooks = None, False
            sys.set_asyncgen_hooks(*outer_hooks)

    def inside(self) -> _Inside:
        """Return a context manager in which code runs as part of the workflow, but may only read. Everything
        else is refused without harm to the run.
        """
        return _Inside(self)

    def outside(self) -> _Outside:
        """Return a context manager in which code runs as if it were not part of the workflow."""
        return _Outside()

    def drop(self) -> None:
        """Close all coroutines that still wait, in order of creation, and drop all callbacks.

        The ``finally`` blocks of the coroutines run. The loop runs nothing that they start, and refuses
        what it refuses in a workflow.
        """
        if self.dead and not self.tasks:
            return
        self.dead = True
        self._ready.clear()
        self._held = ()
        self._repeated = None
        self._current = self._repeating = None
        if all(task.done() for task in self.tasks):
            for task in self.tasks:
                silence(task)
            self.tasks.clear()
        else:
            self._close_tasks()
        # Only now, since a library may behave differently in a workflow, also while its code ends.
        self.workflow = None
        if self.generators is not None:
            self.generators.clear()
        self._ready.clear()
        self._owner = self.timers = _NOBODY

    def _close_tasks(self) -> None:
        outer, outer_hooks = running_loop(), sys.get_asyncgen_hooks()
        outer_task = _leave_task(outer)
        _set_running_loop(self)
        sys.set_asyncgen_hooks(_ignore, _ignore)
        try:
            # Code that ends may start new tasks. They never run, so that the loop ends.
            while self.tasks:
                tasks, self.tasks = self.tasks, []
                for task in tasks:
                    silence(task)
                for task in tasks:
                    if not task.done():
                        # The context managers of asyncio read the current task.
                        _enter_task(self, task)
                        task.context.run(close_waiting, task.get_coro())
                        _exit_task(self, task)
        finally:
            sys.set_asyncgen_hooks(*outer_hooks)
            _set_running_loop(outer)
            _return_to_task(outer, outer_task)

    # The interface of an asyncio loop

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        if self.looking:
            self._refuse_to_look()
        if self.resting and not self.dead:
            self._refuse_others()
        handle = Handle()
        handle.callback, handle.args, handle.is_cancelled = callback, args, False
        handle.context = copy_context() if context is None else context
        if self._repeating is not None and self._is_repeating(callback):
            self._held = (*self._held, handle)
        elif not self.dead:
            self._ready.append(handle)
        return handle

    def cancelled_again(self, task: WorkflowTask) -> None:
        """Count a cancellation of a task. A scope of anyio cancels again in every pass of the loop until
        the task has left it, also while the task cleans up.
        """
        repeated = self._repeated = self._repeated or {}
        count = repeated[task] = repeated.get(task, 0) + 1
        self._repeating = self._current if count > _CANCELS else None

    def _is_repeating(self, callback: Callable[..., Any]) -> bool:
        """Return whether the callback that runs now schedules itself again, only to cancel a task that was
        cancelled often enough in this delivery. It goes on with the next delivery.
        """
        repeating = self._repeating
        return (
            repeating is not None and repeating is self._current and repeating.callback == callback
        )

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        if running_loop() is not self:
            raise NotAllowedInWorkflow(
                "call_soon_threadsafe() was called from outside a workflow's turn: threads cannot "
                "reach a workflow; send it a signal, or complete a task"
            )
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        return self._call_after(milliseconds(delay), callback, args, context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        return self._call_after(milliseconds(when) - self.now, callback, args, context)

    def _call_after(
        self,
        wait: int,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> Handle | TimerHandle:
        if self.resting and not self.dead:
            self._refuse_others()
        if wait <= 0:
            handle: Handle = self.call_soon(callback, *args, context=context)
            return handle
        if wait > MAXIMUM_DURATION:
            raise UsageError("a timer may take at most a hundred years: give the delay in seconds")
        fire_at = self.begins_at() + wait
        return TimerHandle(self.now + wait, fire_at, wait, callback, args, context, self.timers)

    def begins_at(self) -> int:
        """Return the begin of a duration that starts now (milliseconds since the epoch): the time of the
        delivered event, unless the clock was set back since, or the event was long under way.
        """
        clock = self.clock
        if clock is None or 0 <= clock - self.now <= UNDER_WAY:
            return self.now
        return clock

    def context(self) -> Context | None:
        """Return the context of the callback that runs, for a callback that uses no context variables. A
        copy would take memory for as long as the callback waits.
        """
        return None if self._current is None else self._current.context

    def call_when(
        self, fire_at: int, callback: Callable[..., Any], context: Context | None = None
    ) -> Handle | TimerHandle:
        """Call `callback` at the time `fire_at` (milliseconds since the epoch); soon, if it has passed."""
        if fire_at <= self.now:
            handle: Handle = self.call_soon(callback, context=context)
            return handle
        if fire_at - self.now > MAXIMUM_DURATION:
            raise UsageError("a timer may take at most a hundred years: give the delay in seconds")
        return TimerHandle(fire_at, fire_at, None, callback, (), context, self.timers)

    def timer_fired(self, handle: TimerHandle) -> None:
        """Make the callback of a timer ready."""
        self._ready.append(handle.fired())

    def time(self) -> float:
        return self.now / 1000

    def create_future(self) -> WorkflowFuture[Any]:
        return WorkflowFuture(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **_options: Any,
    ) -> WorkflowTask:
        """Create a task of any awaitable. Tasks never start eagerly, whatever the options say."""
        if self.looking:
            if asyncio.iscoroutine(coro):
                coro.close()
            self._refuse_to_look()
        future: asyncio.Future[Any] | None = None
        if not asyncio.iscoroutine(coro):
            if not inspect.isawaitable(coro):
                raise TypeError(f"a coroutine was expected, got {coro!r}")
            future = coro if isinstance(coro, asyncio.Future) else None
            coro = _awaiting(coro)
        task = WorkflowTask(coro, loop=self, name=name, context=context)
        if future is not None:
            task.add_done_callback(_Passing(future))
        # The task is kept until it is done. asyncio's own references are weak, and the garbage collector
        # must not decide the behaviour.
        self.tasks.append(task)
        if len(self.tasks) > self._tasks_prune:
            self.tasks = [t for t in self.tasks if not t.done() or unseen(t)]
            self._tasks_prune = max(_PRUNE_AT, 2 * len(self.tasks))
        return task

    def _refuse_to_look(self) -> NoReturn:
        self.touched = True
        raise NotAllowedInWorkflow(
            "the handler of a query, or a validator, tried to start or to wake something; it may "
            "only read the workflow's variables: use an update handler to change them"
            f"{user_line()}"
        )

    def _refuse_others(self) -> None:
        """Refuse what code of no workflow, or of another one, does to an object for which this code waits. It
        is done already in part, so that neither can go on: both have a `fault`.

        Not so what this code does itself as it ends, where nobody has closed it but the garbage collector.
        """
        if any(is_closing(task.get_coro()) for task in self.tasks):
            return
        self.fault = NotAllowedInWorkflow(
            f"{_SHARED} cannot wake a workflow; {_UNSHARED}{user_line()}"
        )
        running = running_loop()
        if isinstance(running, WorkflowLoop):
            running.refuse(f"waking another execution by {_SHARED}", _UNSHARED)
        raise NotAllowedInWorkflow(str(self.fault))

    def _generator_begins(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self.generators is None:
            self.generators = OpenGenerators(closes_early=self.closes_early)
        self.generators.enter(generator)

    def _generator_abandoned(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Close an abandoned generator in the next pass of the loop, as asyncio does."""
        if self.dead or self.ended or self.generators is None:
            return
        if not self.generators.leave(generator):
            return
        if running_loop() is self and not self.looking:
            self.create_task(self._close_generator(generator))

    async def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        try:
            await generator.aclose()
        except (Halt, KeyboardInterrupt, asyncio.CancelledError):
            raise
        except BaseException as error:
            self._owner.warn("an asynchronous generator failed while it was closed", exc_info=error)

    # asyncio calls this for every future. `bool` returns False without a Python frame.
    get_debug = bool  # type: ignore[assignment]

    def set_debug(self, enabled: bool) -> None:
        if enabled:
            raise NotAllowedInWorkflow("asyncio's debug mode cannot be used in a workflow")

    def is_running(self) -> bool:
        return running_loop() is self

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            error = context.get("exception")
            self._owner.warn("%s: %r", context.get("message"), error, exc_info=error)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """Do nothing: asyncio calls this for its own timer handles, which this loop does not use."""


class _Inside:
    """See `WorkflowLoop.inside`. A generator would set attributes of an exception that passes through it."""

    __slots__ = ("_fault", "_loop", "_outer", "_task")

    def __init__(self, loop: WorkflowLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        loop = self._loop
        self._outer = running_loop()
        self._task = _leave_task(self._outer)
        self._fault, loop.fault = loop.fault, None
        loop.looking = True
        _set_running_loop(loop)

    def __exit__(self, *_error: object) -> None:
        loop = self._loop
        loop.looking = False
        loop.touched = loop.touched or loop.fault is not None
        loop.fault = self._fault
        _set_running_loop(self._outer)
        _return_to_task(self._outer, self._task)


class _Outside:
    """See `WorkflowLoop.outside`."""

    __slots__ = ("_hooks", "_loop", "_task")

    def __enter__(self) -> None:
        self._loop, self._hooks = running_loop(), sys.get_asyncgen_hooks()
        self._task = _leave_task(self._loop)
        _set_running_loop(None)
        sys.set_asyncgen_hooks(None, None)

    def __exit__(self, *_error: object) -> None:
        _set_running_loop(self._loop)
        sys.set_asyncgen_hooks(*self._hooks)
        _return_to_task(self._loop, self._task)


class _Passing:
    """Passes the cancellation of a task on to the future that it awaits, also if the task was cancelled
    before its first step and so never awaited it.
    """

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future

    def __call__(self, task: asyncio.Future[Any]) -> None:
        if task.cancelled():
            self._future.cancel()


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable


def _ignore(_generator: AsyncGenerator[Any, Any]) -> None:
    """Ignore generators that the garbage collector finds, since they are closed in order."""


def _leave_task(loop: asyncio.AbstractEventLoop | None) -> Any:
    if loop is None or _swap_current_task is None or asyncio.current_task(loop) is None:
        return None
    return _swap_current_task(loop, None)


def _return_to_task(loop: asyncio.AbstractEventLoop | None, task: Any) -> None:
    if task is not None and _swap_current_task is not None:
        _swap_current_task(loop, task)


def _in_workflow() -> bool:
    return isinstance(running_loop(), WorkflowLoop)


def _refuse_if_in_workflow(what: str, instead: str) -> None:
    loop = running_loop()
    if isinstance(loop, WorkflowLoop):
        loop.refuse(what, instead)


def _outside_workflow() -> AbstractContextManager[None]:
    loop = running_loop()
    return loop.outside() if isinstance(loop, WorkflowLoop) else nullcontext()


_installed = False


def _install() -> None:
    global _installed
    if not _installed:
        _installed = True
        ordered.install(_in_workflow, _refuse_if_in_workflow)
        sandbox.install(_refuse_if_in_workflow, _outside_workflow)
