"""Context: everything workflow code may call."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    NoReturn,
    ParamSpec,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from mini_workflow.core.calls import TaskDecorator, TaskOptions, default_name
from mini_workflow.core.chance import WorkflowRandom
from mini_workflow.core.children import Child, OtherExecution
from mini_workflow.core.headers import check_headers
from mini_workflow.core.info import ExecutionInfo
from mini_workflow.core.limit import Limit, queue_of, wish_of
from mini_workflow.core.logger import WorkflowLogger
from mini_workflow.core.mapping import (
    MapOptions,
    Tolerance,
    TolerantMapOptions,
    as_it_is_now,
    item_name,
    map_items,
)
from mini_workflow.core.progress import text_of_progress
from mini_workflow.core.retry import RetryPolicy, check_policy
from mini_workflow.core.run import Run
from mini_workflow.core.start_options import (
    BoundWorkflow,
    ChildOptions,
    DetachedOptions,
    Startable,
    closing_of_child,
    named,
)
from mini_workflow.core.streams import WorkflowStream
from mini_workflow.core.tags import check_tags, set_tags
from mini_workflow.core.tasks import TaskFuture
from mini_workflow.core.timing import timing_of
from mini_workflow.core.validation import check_id, worker_of
from mini_workflow.durations import MAXIMUM_DURATION, limited, milliseconds, seconds
from mini_workflow.errors import UsageError

if TYPE_CHECKING:
    from uuid import UUID

    from mini_workflow.core.promises import Promise
P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
I = TypeVar("I")  # noqa: E741 - the item of ctx.map


class Context:
    """Handed to a workflow function as its first argument; of no use outside of it."""

    __slots__ = ("_logger", "_random", "_run", "_uuids")

    __mini_workflow_refused__ = "the workflow's context"

    def __init__(self, run: Run) -> None:
        self._run = run
        self._random: random.Random | None = None
        self._uuids: random.Random | None = None
        self._logger: WorkflowLogger | None = None

    # Tasks

    @overload
    def task(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]: ...
    @overload
    def task(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]: ...
    @overload
    def task(
        self,
        fn: Callable[[*Ts], Coroutine[Any, Any, T]],
        /,
        *args: *Ts,
        **options: Unpack[TaskOptions],
    ) -> asyncio.Future[T]: ...
    @overload
    def task(
        self,
        fn: Callable[[*Ts], T],
        /,
        *args: *Ts,
        **options: Unpack[TaskOptions],
    ) -> asyncio.Future[T]: ...
    @overload
    def task(self, fn: None = None, /, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def task(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *args: Any,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        inline: bool = False,
        undo: Callable[..., Any] | None = None,
        worker: str | None = None,
        limit: str | Limit | None = None,
        limit_key: str | None = None,
        priority: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start a task now: `fn`, with its arguments and captured variables as they are now.

        The task runs outside the workflow, at least once; its recorded result is never computed
        again. Also a decorator, ``@ctx.task`` or ``@ctx.task(retry=...)``: the function's name
        then becomes the future. With options and arguments by name write the options first,
        ``ctx.task(retry=...)(fn, *args, **kwargs)``: what comes behind them is the function's, also
        where it is called like an option, and type checkers compare it with its parameters.

        Args:
            fn: a sync or async callable.
            *args: what it is called with.
            **kwargs: what it is called with by name.
            name: what the task is called in the history; by default the function's name; for a
                lambda, those of the functions and methods that it calls.
            retry: when a failed attempt is made again; by default only after the death of a
                worker, at most five attempts in all.
            timeout: seconds (or a timedelta) that one attempt may take from its start.
            heartbeat_timeout: seconds (or a timedelta) that one attempt may go without calling
                ``current_task().heartbeat()``, from its start and from each call. It then ends
                with TaskTimeout, long before its `timeout` if that is long.
            inline: run it inside the turn, in the orchestrator: for quick work that need not be
                committed on its own. It takes neither `retry` nor a timeout.
            undo: what takes the task back: it runs as a task of its own, retried for hours, if
                this one has succeeded and the execution fails or is cancelled later; the last
                task first. It is called with the task's result if it takes an argument. Its
                captured variables are taken as they are now. The default worker runs it.
            limit: a `Limit`, or its name, of which each attempt needs a slot. It is not begun before
                the limit grants one, and takes no thread and no worker until then. It has the
                slot until it ends; also if its execution is blocked.
            limit_key: whom it is for, a text of at most 200 characters: keys take turns.
            priority: from -100 to 100; higher ones are granted first, 0 by default.
            worker: the name of the worker that is to run it: 1 to 32 letters, digits and '-',
                beginning with a letter. By default, and for "default", the one that runs every
                task. Where none of that name is served it waits for one, or fails on AWS.

        Returns:
            A future. Cancelling it gives the task up.

        Raises:
            ClosureNotSerializable: `fn` captures what cannot leave the process; nothing is
                recorded.
            UsageError: an argument is out of range.
        """
        if fn is None:
            chosen = TaskOptions(
                name=name,
                retry=retry,
                timeout=timeout,
                heartbeat_timeout=heartbeat_timeout,
                inline=inline,
                undo=undo,
                worker=worker,
                limit=limit,
                limit_key=limit_key,
                priority=priority,
            )
            return functools.partial(self._task_with, chosen)
        if not callable(fn):
            if asyncio.iscoroutine(fn):
                fn.close()
            raise UsageError(
                f"ctx.task({fn!r}): give a function, not its result; for example "
                "ctx.task(lambda: charge(card)) or ctx.task(charge, card)"
            )
        wish = None
        if not (limit is limit_key is priority is None):
            wish = wish_of(limit, limit_key, priority, "ctx.task()")
        plain = name is retry is timeout is undo is heartbeat_timeout is worker is wish is None
        if plain and not inline:
            return self._run.tasks.start(fn, args, kwargs)
        check_policy(retry)
        given = {"name": name, "retry": retry, "timeout": timeout, "undo": undo}
        given |= {"heartbeat_timeout": heartbeat_timeout, "inline": inline or None}
        given |= {"worker": worker, "limit": limit, "limit_key": limit_key, "priority": priority}
        options = {option for option, value in given.items() if value is not None}
        name = default_name(fn) if name is None else name
        if inline:
            if not (retry is timeout is heartbeat_timeout is undo is worker is wish is None):
                raise UsageError(
                    f"task {name!r}: an inline task runs inside the turn and can neither be "
                    "retried nor timed out, nor run by a worker, nor limited; drop inline=True"
                )
            return self._run.tasks.run_inline(fn, args, kwargs, name=name, options=options)
        return self._run.tasks.start(
            *(fn, args, kwargs),
            name=name,
            retry=retry,
            timeout=limited(f"task {name!r}", "timeout", timeout),
            heartbeat_timeout=limited(f"task {name!r}", "heartbeat_timeout", heartbeat_timeout),
            undo=undo,
            worker=worker_of(worker),
            limit=wish,
            options=options,
        )

    def _task_with(
        self, options: TaskOptions, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> asyncio.Future[Any]:
        if kwargs:
            fn, args = functools.partial(fn, *args, **kwargs), ()
        return self.task(fn, *args, **options)

    @overload
    def map(
        self,
        fn: Callable[[I], Coroutine[Any, Any, T]],
        items: Iterable[I],
        **options: Unpack[MapOptions],
    ) -> asyncio.Future[list[T]]: ...
    @overload
    def map(
        self, fn: Callable[[I], T], items: Iterable[I], **options: Unpack[MapOptions]
    ) -> asyncio.Future[list[T]]: ...
    @overload
    def map(
        self,
        fn: Callable[[I], Coroutine[Any, Any, T]],
        items: Iterable[I],
        **options: Unpack[TolerantMapOptions],
    ) -> asyncio.Future[list[T | Exception]]: ...
    @overload
    def map(
        self, fn: Callable[[I], T], items: Iterable[I], **options: Unpack[TolerantMapOptions]
    ) -> asyncio.Future[list[T | Exception]]: ...
    def map(
        self,
        fn: Callable[[I], Any],
        items: Iterable[I],
        *,
        concurrency: int | None = None,
        name: str | Callable[[I], str] | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        worker: str | None = None,
        limit: str | Limit | None = None,
        limit_key: str | None = None,
        priority: int | None = None,
        return_exceptions: bool = False,
        min_successful: int | None = None,
        tolerated_failures: int | None = None,
    ) -> asyncio.Future[Any]:
        """Run a task for every item; the results come in the order of the items.

        The first failure cancels the tasks that are still open and is raised, unless failures are
        tolerated: then the exception of each stands in the list in place of its result. Cancelling
        the future cancels the open tasks as well.

        Args:
            fn: called with one item, as by `task`. Its captured variables are taken as they are
                now; an object that they refer to, as it is when the task of an item is started.
            items: any iterable; it is read to its end at once.
            concurrency: how many tasks may be open at a time; None for no limit.
            name: as for `task`, for each of the tasks; or a function that is called with the item
                and gives the name, ``name=lambda path: f"load {path}"``.
            retry: when a failed attempt is made again.
            timeout: seconds (or a timedelta) that one attempt may take.
            heartbeat_timeout: seconds (or a timedelta) that one attempt may be silent.
            worker: the name of the worker that is to run them.
            limit: a `Limit`, or its name, of which each attempt of each task needs a slot, as by `task`.
            limit_key: whom they are for, all of them.
            priority: that of all of them.
            return_exceptions: tolerate all failures.
            min_successful: end when so many have succeeded, and give up the others: a TaskCancelled
                stands for each in the list. The failure by which too few can succeed is raised.
            tolerated_failures: how many may fail; the next failure is raised.

        Raises:
            UsageError: `concurrency` is not a whole number of 1 or more, or another argument is out
                of range.
            ClosureNotSerializable: as `task`; nothing stays started.
        """
        if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
            raise UsageError(
                f"ctx.map(concurrency={concurrency!r}): give a whole number of 1 or more, or None"
            )
        check_policy(retry)
        function = as_it_is_now(fn)
        name_of = name if callable(name) else None
        task_name = name if isinstance(name, str) else default_name(fn)
        longest = limited(f"task {task_name!r}", "timeout", timeout)
        silence = limited(f"task {task_name!r}", "heartbeat_timeout", heartbeat_timeout)
        named, wish = worker_of(worker), wish_of(limit, limit_key, priority, "ctx.map()")

        def start(item: Any, part_of: int, mapped: dict[str, Any] | None) -> TaskFuture:
            return self._run.tasks.start(
                function,
                (item,),
                {},
                name=task_name if name_of is None else item_name(name_of, item),
                retry=retry,
                timeout=longest,
                heartbeat_timeout=silence,
                worker=named,
                limit=wish,
                part_of=part_of,
                mapped=mapped,
            )

        listed = list(items)
        tolerance = Tolerance.of(len(listed), return_exceptions, min_successful, tolerated_failures)
        return map_items(self._run.recorder, start, listed, concurrency, tolerance, task_name)

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Say how far the workflow has got, for whoever looks: ``describe().progress`` and the command
        line show what was said last. It is no part of the history, so it may be added to, changed and
        taken from code at any time. Each `ctx.map` is counted by itself.

        Args:
            done: how much is done, a number of 0 or more.
            total: of how much, or None where that is not known.
            text: what stands beside it, at most 200 characters.

        Raises:
            UsageError: an argument is none of these.
        """
        told = text_of_progress(done, total, text)
        if self._run.recorder.may_start():
            self._run.progress = told

    # Messages

    async def wait_for_signal(self, name: str) -> Any:
        """Wait for a signal of that name, and receive it: the oldest one that nobody has received.

        Signals that arrive before anybody waits are kept, in order.
        """
        return await self._run.messages.receive(name)

    def signals(self, name: str) -> AsyncIterator[Any]:
        """Return all signals of that name, one after the other: ``async for value in
        ctx.signals(...)``.
        """
        return self._run.messages.stream(name)

    def on_signal(self, name: str, handler: Callable[[Any], Any]) -> None:
        """Have `handler` (sync or async) take each signal of that name from now on.

        Those that are waiting are handed over at once, in order. An exception of the handler fails
        the execution. With `ANY` for the name it takes all signals, as ``handler(name, value)``, that have no
        handler of their own and that the code is not waiting for when they arrive.
        """
        self._run.recorder.may_change("registering a handler")
        self._run.messages.on_signal(name, handler)

    def on_query(self, name: str, handler: Callable[..., Any]) -> None:
        """Answer ``execution.query(name, ...)`` by `handler`, a plain function that only looks at
        the workflow's variables. Queries are answered also after the end. With `ANY` for the name it
        answers all that have no handler of their own, as ``handler(name, ...)``.
        """
        self._run.recorder.may_change("registering a handler")
        self._run.messages.on_query(name, handler)

    def on_update(
        self,
        name: str,
        handler: Callable[..., Any],
        validator: Callable[..., Any] | None = None,
    ) -> None:
        """Answer ``execution.update(name, ...)`` by `handler`, sync or async; it may run tasks.

        Args:
            name: the name of the update; `ANY` for all that have no handler of their own: both are then
                called with the name first.
            handler: what it returns or raises is the caller's answer.
            validator: a plain function with the same arguments; if it raises, the update is
                refused with that exception and leaves no trace in the history.
        """
        self._run.recorder.may_change("registering a handler")
        self._run.messages.on_update(name, handler, validator)

    def all_handlers_finished(self) -> bool:
        """Return whether no handler of a signal or an update is at work, apart from the one that asks:
        ``await ctx.wait_for(ctx.all_handlers_finished)`` before the workflow returns has all of them done.
        """
        return self._run.messages.all_finished()

    def promise(
        self,
        name: str | None = None,
        *,
        timeout: float | timedelta | None = None,
        heartbeat: float | timedelta | None = None,
    ) -> Promise:
        """Return a value that somebody outside gives, once: ``await`` it here, send its ``.token``
        to whoever calls ``runtime.complete_promise(token, value)``.

        Args:
            name: what it is called in the history.
            timeout: seconds (or a timedelta), from now on, after which it raises PromiseTimeout.
            heartbeat: seconds (or a timedelta) after which it raises PromiseTimeout unless
                ``runtime.heartbeat_promise(token)`` is called, from now on and from each call.
        """
        return self._run.promises.create(name or "", timeout, heartbeat)

    def complete_promise(self, token: str, value: Any = None) -> None:
        """Give a promise of another execution its value, by its token: once, after this turn's commit.

        One that is not open any more, or whose token is wrong, stays as it is. Raises PromiseNotOpen if it is
        no token at all.
        """
        self._run.promises.send(token, value)

    def fail_promise(self, token: str, why: str | BaseException) -> None:
        """Have a promise of another execution raise `why`: that exception, or a RuntimeError with that text.
        All else as `complete_promise`.
        """
        from mini_workflow.core.promises import reason_of

        self._run.promises.send(token, None, reason_of(why))

    def stream(self, name: str) -> WorkflowStream:
        """Return the stream of that name, to write to: whoever reads ``execution.stream(name)`` gets
        what is written once the turn is committed. Nothing of it is in the history.

        Raises InvalidIdentifier unless the name is 1 to 64 letters, digits and ``_-.:@``.
        """
        started = self._run.started
        return WorkflowStream(name, self._run.recorder, 0 if started is None else started.run)

    # Other executions

    @overload
    def child(
        self, workflow: Startable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Child[T]: ...
    @overload
    def child(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, T]],
        /,
        *args: *Ts,
        **options: Unpack[ChildOptions],
    ) -> Child[T]: ...
    @overload
    def child(self, workflow: BoundWorkflow[T], /, **options: Unpack[ChildOptions]) -> Child[T]: ...
    @overload
    def child(self, workflow: str, /, *args: Any, **options: Any) -> Child[Any]: ...
    def child(
        self,
        workflow: Any,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002
        on_parent_close: Literal["terminate", "cancel", "abandon"] = "terminate",
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        queue: str | Limit | None = None,
        limit_key: str | None = None,
        priority: int | None = None,
        **kwargs: Any,
    ) -> Child[Any]:
        """Start a child execution now; the future is its result.

        Args:
            workflow: the workflow, ``workflow.bind(...)`` with its arguments, or its name.
            *args: its arguments.
            **kwargs: its arguments by name; beside options, bind them.
            id: the child's id; by default one is made of this execution's.
            on_parent_close: what becomes of a child that is open when this execution closes, in
                whatever run: "terminate" it, "cancel" it, or "abandon" it to run on by itself.
            tags: those that the child begins with; it does not get those of this execution.
            headers: what goes along with the child, beside the headers of this execution; of the same
                name these count.
            queue: a `Limit`, or the name of one, of which the child needs a slot before its code begins, as
                for ``runtime.start_execution``; so are `limit_key` and `priority`.
            limit_key: whom the child is for: keys take turns.
            priority: -100 to 100, 0 by default; the highest goes first.

        Returns:
            A future with ``.id`` and ``.signal(name, value)``. Cancelling it cancels the child. It
            raises ChildFailed, whose cause is the child's exception.

        Raises:
            InvalidArguments, InvalidIdentifier, UsageError, ValueNotSerializable: the call is
                wrong; nothing was started.
        """
        options: dict[str, Any] = {"id": id, "tags": tags, "headers": headers, "queue": queue}
        options |= {"limit_key": limit_key, "priority": priority}
        options["on_parent_close"] = closing_of_child(on_parent_close)
        name, args, kwargs = named(workflow, args, kwargs, options)
        return self._run.children.start(
            name,
            lambda codec: codec.encode_arguments(args, kwargs),
            id,
            on_parent_close,
            None if tags is None else check_tags(tags),
            check_headers(headers),
            queue_of("ctx.child", name, queue, limit_key, priority),
        )

    @overload
    def start(
        self, workflow: Startable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> OtherExecution: ...
    @overload
    def start(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, Any]],
        /,
        *args: *Ts,
        **options: Unpack[DetachedOptions],
    ) -> OtherExecution: ...
    @overload
    def start(
        self, workflow: BoundWorkflow[Any], /, **options: Unpack[DetachedOptions]
    ) -> OtherExecution: ...
    @overload
    def start(self, workflow: str, /, *args: Any, **options: Any) -> OtherExecution: ...
    def start(
        self,
        workflow: Any,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002
        delay: float | timedelta | None = None,
        start_at: datetime | None = None,
        timeout: float | timedelta | None = None,
        retry: RetryPolicy | None = None,
        notify: str | None = None,
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        queue: str | Limit | None = None,
        limit_key: str | None = None,
        priority: int | None = None,
        **kwargs: Any,
    ) -> OtherExecution:
        """Start another execution that goes on by itself, whatever becomes of this one. It begins
        once this turn is committed.

        Args:
            workflow: the workflow, ``workflow.bind(...)`` with its arguments, or its name.
            *args: its arguments.
            **kwargs: its arguments by name; beside options, bind them.
            id: its id; by default one is made of this execution's. If there is an execution of
                that id, nothing is started.
            delay: as for ``runtime.start_execution``; so are `start_at`, `timeout` and `retry`.
            start_at: the time at which its code begins.
            timeout: seconds (or a timedelta) within which it has to end.
            retry: when a run of it that fails is followed by another one.
            notify: the name of a signal that this execution is sent when the other one has
                closed. Its value is ``{"id": ..., "status": ...}``; the status is "not started" if
                the id was taken.
            tags: those that it begins with; it does not get those of this execution.
            headers: as for ``ctx.child``; so are `queue`, `limit_key` and `priority`.
            queue: a limit of which it needs a slot before its code begins.
            limit_key: whom it is for.
            priority: -100 to 100.

        Returns:
            A handle with ``.id``, ``.signal(name, value)``, ``.cancel()`` and ``.terminate()``.

        Raises:
            InvalidArguments, InvalidIdentifier, UsageError, ValueNotSerializable: the call is
                wrong; nothing was started.
        """
        options: dict[str, Any] = {"id": id, "delay": delay, "start_at": start_at}
        options |= {"timeout": timeout, "retry": retry, "notify": notify, "tags": tags}
        options |= {"headers": headers, "queue": queue}
        options |= {"limit_key": limit_key, "priority": priority}
        name, args, kwargs = named(workflow, args, kwargs, options)
        limit = queue_of("ctx.start", name, queue, limit_key, priority)
        return self._run.children.start_detached(
            name,
            lambda codec: codec.encode_arguments(args, kwargs),
            id,
            timing_of("ctx.start", delay, start_at, timeout, retry, limit),
            notify,
            None if tags is None else check_tags(tags),
            check_headers(headers),
        )

    def execution(self, id: str) -> OtherExecution:  # noqa: A002
        """Return a handle to another execution, to signal, cancel or terminate it."""
        check_id(id)
        return OtherExecution(id, self._run.children)

    # This execution

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Change tags of this execution, by which ``list_executions(tags=...)`` finds it: those that are
        given have that value from now on, and None removes one. The others stay. They are kept with
        what the code does next, and over `continue_as_new`.

        Raises UsageError if a name, a value or their number is out of range: an execution has at most
        20 tags, with names of up to 64 and values of up to 256 characters.
        """
        set_tags(self._run.recorder, check_tags(tags, removable=True))

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End this run and begin the next one of the same workflow, with these arguments and an
        empty history. The id stays, ``result()`` follows, signals that nobody has received move
        on, and so do open children, without their results. For what would grow for ever.

        Raises UsageError in a handler, or in another asyncio.Task than the workflow function's, and
        InvalidArguments if the workflow cannot be called with them.
        """
        self._run.check_arguments(args, kwargs)
        self._run.continue_as_new(self._run.recorder.codec.encode_arguments(args, kwargs))
        raise AssertionError("unreachable")

    def patched(self, change_id: str) -> bool:
        """Return whether this execution takes the new path of a change of the code.

        True in executions that come here for the first time with the new code, False in those
        that were here before; the answer never changes within a run.
        """
        return self._run.patched(change_id)

    # Time

    def sleep(self, delay: float | timedelta) -> asyncio.Future[None]:
        """Return a durable timer of `delay` seconds (or a timedelta), started now; await it.

        It never ends early. Zero or less lets others run and starts no timer.
        """
        wait = milliseconds(seconds(delay))
        if wait > MAXIMUM_DURATION:
            raise UsageError(f"ctx.sleep({delay!r}): more than a hundred years; seconds are meant")
        return self._run.timers.sleep(wait)

    def sleep_until(self, when: datetime) -> asyncio.Future[None]:
        """Return a durable timer that ends at `when`, which must have a time zone."""
        if when.tzinfo is None:
            raise UsageError(
                f"ctx.sleep_until({when!r}): the time has no time zone; use for example "
                "datetime(..., tzinfo=timezone.utc) or ctx.now() + timedelta(...)"
            )
        since = when - _EPOCH
        wait = since - (self.now() - _EPOCH)
        if milliseconds(wait.total_seconds()) > MAXIMUM_DURATION:
            raise UsageError(f"ctx.sleep_until({when!r}): more than a hundred years from now")
        return self._run.timers.sleep_until(milliseconds(since.total_seconds()))

    def now(self) -> datetime:
        """Return the time in UTC, to the millisecond. It stands still between two awaits of
        anything durable, and is the same on replay.
        """
        return _datetime(self._run.loop.now)

    async def wait_for(
        self,
        predicate: Callable[[], bool],
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - as asyncio.wait_for has it
    ) -> None:
        """Wait until `predicate()` holds. It is tried whenever the workflow has made a move.

        It must only look at the workflow's own variables: starting or cancelling anything in it
        is refused. What it raises is raised here.

        Raises:
            TimeoutError: it did not come true within `timeout` seconds (or a timedelta).
            UsageError: the predicate is asynchronous.
        """
        if self._run.conditions.holds(predicate):
            return
        async with asyncio.timeout(None if timeout is None else seconds(timeout)):
            await self._run.conditions.wait(predicate)

    # Chance

    @property
    def random(self) -> random.Random:
        """A generator of random numbers that gives the same ones on replay."""
        if self._random is None:
            self._random = WorkflowRandom(
                f"random:{self._run.state.seed}", self._run.recorder.may_change
            )
        return self._random

    def uuid4(self) -> UUID:
        """Return a random UUID that is the same on replay."""
        self._run.recorder.may_change("drawing ctx.uuid4()")
        if self._uuids is None:
            self._uuids = random.Random(f"uuid:{self._run.state.seed}")
        # Imported here: the module looks for much that nobody needs.
        from uuid import UUID

        return UUID(int=self._uuids.getrandbits(128), version=4)

    # The execution

    @property
    def info(self) -> ExecutionInfo:
        """What is known of this execution."""
        started = self._run.started
        assert started is not None
        return ExecutionInfo(
            execution_id=self._run.execution_id,
            workflow=started.workflow,
            run=started.run,
            started_at=_datetime(started.at),
            history_length=self._run.state.length,
            parent_id=None if started.parent is None else started.parent["id"],
            attempt=started.attempt,
            last_failure=None if started.failure is None else started.failure.summary(),
        )

    @property
    def headers(self) -> dict[str, str]:
        """What goes along with this execution since its start, such as a tenant or a trace; a copy."""
        return dict(self._run.state.headers or {})

    @property
    def replaying(self) -> bool:
        """Whether what happens now has happened before: it is repeated to bring the execution back into
        memory. For what is to be told once, such as telemetry; code that does other things then is no
        longer deterministic.
        """
        return self._run.recorder.quiet

    @property
    def logger(self) -> WorkflowLogger:
        """A logger that is silent while replaying and names the execution in each line."""
        if self._logger is None:
            self._logger = WorkflowLogger(self._run.recorder)
        return self._logger

    def __repr__(self) -> str:
        return f"<context of execution {self._run.execution_id!r}>"


def _datetime(at: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
