"""Context: the calls that workflow code may make."""

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
    items_of,
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
    """The first argument of a workflow function, for calls in its code. It cannot be used elsewhere."""

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
        again. The method is also a decorator, ``@ctx.task`` or ``@ctx.task(retry=...)``: the
        function's name then becomes the future. To give both options and arguments by name, write the
        options first: ``ctx.task(retry=...)(fn, *args, **kwargs)``. All arguments of the second call
        are the function's, also those that are named like an option, and type checkers compare them
        with its parameters.

        Args:
            fn: a sync or async callable.
            *args: its arguments.
            **kwargs: its arguments by name.
            name: the name of the task in the history; by default the function's name, or for a
                lambda the names of the functions and methods that it calls.
            retry: whether and when a failed attempt is made again; by default only after the death
                of a worker, at most five attempts in all.
            timeout: seconds (or a timedelta) that one attempt may take from its start.
            heartbeat_timeout: seconds (or a timedelta) that one attempt may go without calling
                ``current_task().heartbeat()``, from its start and from each call. Otherwise it ends
                with TaskTimeout, which may be long before its `timeout`.
            inline: run the task inside the turn, in the orchestrator, for quick work that needs no
                commit of its own. An inline task takes neither `retry` nor a timeout.
            undo: a function that takes the task back. If the task has succeeded and the execution
                fails or is cancelled later, the function runs as a task of its own, retried for
                hours; the undos of several tasks run in reverse order. It is called with the task's
                result if it takes an argument. Its captured variables are taken as they are now. The
                default worker runs it.
            limit: a `Limit`, or its name, of which each attempt needs a slot. An attempt does not begin,
                and takes no thread and no worker, before the limit grants the slot. It has the slot
                until it ends, also if its execution is blocked.
            limit_key: a text of at most 200 characters, such as a customer; keys take turns.
            priority: from -100 to 100; higher ones are granted first. The default is 0.
            worker: the name of the worker that is to run the task: 1 to 32 letters, digits and '-',
                beginning with a letter. The default, also named "default", runs every task. If no
                process serves that worker, the task waits for one; on AWS it fails.

        Returns:
            A future. Cancelling it cancels the task.

        Raises:
            ClosureNotSerializable: `fn` captures a variable that cannot leave the process; nothing
                is recorded.
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
                    f"task {name!r}: an inline task runs inside the turn and takes no retry, timeout, "
                    "undo, worker or limit: leave out inline=True, or these options"
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
        """Run a task for every item, and return a future of the results in the order of the items.

        The first failure cancels the open tasks and is raised, unless failures are tolerated: then the
        list has the exception of a failed task in place of its result. Cancelling the future cancels
        the open tasks too.

        Args:
            fn: called with one item, as by `task`. Its captured variables are taken as they are
                now; the objects that they refer to, as they are when the task of an item is started.
            items: any iterable; it is read to its end at once.
            concurrency: the number of tasks that may be open at a time; None for no limit.
            name: the name of each task, as for `task`; or a function that is called with the item
                and returns the name, ``name=lambda path: f"load {path}"``.
            retry: whether and when a failed attempt is made again.
            timeout: seconds (or a timedelta) that one attempt may take.
            heartbeat_timeout: seconds (or a timedelta) that one attempt may be silent.
            worker: the name of the worker that is to run the tasks.
            limit: a `Limit`, or its name, of which each attempt of each task needs a slot, as for `task`.
            limit_key: the key of all tasks at the limit.
            priority: the priority of all tasks at the limit.
            return_exceptions: tolerate all failures.
            min_successful: the number of successes after which the map ends and cancels the other
                tasks, each of which has a TaskCancelled in the list. The failure after which so many
                successes are impossible is raised.
            tolerated_failures: the number of tasks that may fail; the next failure is raised.

        Raises:
            UsageError: `concurrency` is not a whole number of 1 or more, or another argument is out
                of range.
            ClosureNotSerializable: as for `task`; tasks that were started already are cancelled.
        """
        if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
            raise UsageError(
                f"ctx.map(concurrency={concurrency!r}): give a whole number of 1 or more, or None"
            )
        listed = items_of(fn, items)
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

        tolerance = Tolerance.of(len(listed), return_exceptions, min_successful, tolerated_failures)
        return map_items(self._run.recorder, start, listed, concurrency, tolerance, task_name)

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Report the progress of the workflow. ``describe().progress`` and the command line show the last
        report. The history does not contain it, so that calls may be added to code, changed and removed
        at any time. Each `ctx.map` is counted without a call.

        Args:
            done: the amount that is done, a number of 0 or more.
            total: the total amount, or None if it is not known.
            text: a text of at most 200 characters beside it.

        Raises:
            UsageError: an argument is out of range.
        """
        progress = text_of_progress(done, total, text)
        if self._run.recorder.may_start():
            self._run.progress = progress

    # Messages

    async def wait_for_signal(self, name: str) -> Any:
        """Return the value of the oldest signal of that name that was not received yet; wait for one if
        there is none.

        Signals that arrive before the code waits for them are kept in order. Raises UsageError if `name`
        cannot be the name of a signal.
        """
        return await self._run.messages.receive(name)

    def signals(self, name: str) -> AsyncIterator[Any]:
        """Iterate over the values of all signals of that name: ``async for value in ctx.signals(...)``."""
        return self._run.messages.stream(name)

    def on_signal(self, name: str, handler: Callable[[Any], Any]) -> None:
        """Handle each signal of that name by `handler(value)`, sync or async, from now on.

        Signals that wait are handed over at once, in order. An exception of the handler fails the
        execution. With `ANY` for the name, the handler takes all signals, as ``handler(name, value)``, that
        have no handler of their own and that the code is not waiting for when they arrive. Raises
        UsageError if the handler or the name is not allowed.
        """
        self._run.recorder.may_change("registering a handler")
        self._run.messages.on_signal(name, handler)

    def on_query(self, name: str, handler: Callable[..., Any]) -> None:
        """Answer ``execution.query(name, ...)`` by `handler`, a plain function that only reads the
        workflow's variables. Queries are answered also after the end. With `ANY` for the name, the handler
        answers all queries that have no handler of their own, as ``handler(name, ...)``. Raises UsageError
        if the handler or the name is not allowed.
        """
        self._run.recorder.may_change("registering a handler")
        self._run.messages.on_query(name, handler)

    def on_update(
        self,
        name: str,
        handler: Callable[..., Any],
        validator: Callable[..., Any] | None = None,
    ) -> None:
        """Answer ``execution.update(name, ...)`` by `handler`, sync or async, which may run tasks.

        Args:
            name: the name of the update; `ANY` for all updates that have no handler of their own, with
                the name as the first argument of handler and validator.
            handler: a function whose result or exception is the caller's answer.
            validator: a plain function with the same arguments. If it raises, the update is refused
                with that exception and leaves no trace in the history.

        Raises:
            UsageError: the handler, the validator or the name is not allowed.
        """
        self._run.recorder.may_change("registering a handler")
        self._run.messages.on_update(name, handler, validator)

    def all_handlers_finished(self) -> bool:
        """Return whether no handler of a signal or an update is at work, apart from the calling one. To let
        all of them finish, call ``await ctx.wait_for(ctx.all_handlers_finished)`` before the workflow
        returns.
        """
        return self._run.messages.all_finished()

    def promise(
        self,
        name: str | None = None,
        *,
        timeout: float | timedelta | None = None,
        heartbeat: float | timedelta | None = None,
    ) -> Promise:
        """Return a promise: a future of a value that somebody outside provides once. Await it here, and send
        its ``.token`` to the program that calls ``runtime.complete_promise(token, value)``.

        Args:
            name: its name in the history.
            timeout: seconds (or a timedelta) from now on after which the promise raises PromiseTimeout.
            heartbeat: seconds (or a timedelta), from now on and from each call of
                ``runtime.heartbeat_promise(token)``, after which the promise raises PromiseTimeout
                unless there is another call.

        Raises:
            UsageError: a duration is out of range.
        """
        return self._run.promises.create(name or "", timeout, heartbeat)

    def complete_promise(self, token: str, value: Any = None) -> None:
        """Complete a promise of another execution by its token, after this turn's commit.

        The call has no effect on a promise that is not open any more, or if the secret in the token is
        wrong. Raises PromiseNotOpen if `token` is not a token, and ValueNotSerializable.
        """
        self._run.promises.send(token, value)

    def fail_promise(self, token: str, why: str | BaseException) -> None:
        """Fail a promise of another execution with `why`: an exception, or a text for a RuntimeError.
        Otherwise like `complete_promise`.
        """
        from mini_workflow.core.promises import reason_of

        self._run.promises.send(token, None, reason_of(why))

    def stream(self, name: str) -> WorkflowStream:
        """Return the stream of that name, to write to. Readers of ``execution.stream(name)`` get the chunks
        once the turn is committed. The history does not contain them.

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
        """Start a child execution now, and return a future of its result.

        Args:
            workflow: the workflow, ``workflow.bind(...)`` with its arguments, or its name.
            *args: its arguments.
            **kwargs: its arguments by name; to give options too, bind them.
            id: the child's id; by default one is derived from the id of this execution.
            on_parent_close: the fate of a child that is open when this execution closes, in any of its
                runs: "terminate" it, "cancel" it, or "abandon" it, so that it continues by itself.
            tags: the tags of the child. It does not inherit those of this execution.
            headers: headers of the child beside those of this execution; they win over headers of the
                same name.
            queue: a `Limit`, or its name, of which the child needs a slot before its code begins; like
                `limit_key` and `priority` as for ``runtime.start_execution``.
            limit_key: the key at the limit; keys take turns.
            priority: from -100 to 100; higher ones are granted first. The default is 0.

        Returns:
            A future with ``.id`` and ``.signal(name, value)``. Cancelling it cancels the child. The
            future raises ChildFailed, whose cause is the child's exception.

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
        """Start a detached execution, which continues whatever happens to this one. It begins once this
        turn is committed.

        Args:
            workflow: the workflow, ``workflow.bind(...)`` with its arguments, or its name.
            *args: its arguments.
            **kwargs: its arguments by name; to give options too, bind them.
            id: its id; by default one is derived from the id of this execution. If there is an
                execution of that id, nothing is started.
            delay: seconds (or a timedelta) after which its code begins; like `start_at`, `timeout` and
                `retry` as for ``runtime.start_execution``.
            start_at: the time at which its code begins, with a time zone.
            timeout: seconds (or a timedelta) within which it has to end.
            retry: whether and when another run follows a failed one.
            notify: the name of a signal that this execution gets when the other one has closed. Its
                value is ``{"id": ..., "status": ...}``; the status is "not started" if the id was taken.
            tags: its tags. It does not inherit those of this execution.
            headers: as for ``ctx.child``; so are `queue`, `limit_key` and `priority`.
            queue: a `Limit`, or its name, of which it needs a slot before its code begins.
            limit_key: the key at the limit; keys take turns.
            priority: from -100 to 100; higher ones are granted first. The default is 0.

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
        """Return a handle to another execution, to ask, signal, cancel or terminate it.

        Raises InvalidIdentifier if `id` cannot be the id of an execution.
        """
        check_id(id)
        return OtherExecution(id, self._run.children)

    # This execution

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Change tags of this execution, by which ``list_executions(tags=...)`` finds it. A value sets a tag,
        None removes it, and all other tags stay. The change is committed with this turn, and stays across
        `continue_as_new`.

        Raises UsageError if a name, a value or their number is out of range: an execution has at most
        20 tags, with names of up to 64 and values of up to 256 characters.
        """
        set_tags(self._run.recorder, check_tags(tags, removable=True))

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End this run and begin the next one of the same workflow, with these arguments and an empty
        history, so that the history does not grow for ever. The id stays, ``result()`` returns the result
        of the last run, and signals that were not received are handed on. Open children keep running, but
        their results are dropped: have them send a signal. Promises are void.

        Raises UsageError in a handler, or in another asyncio.Task than the workflow function's, and
        InvalidArguments if the workflow cannot be called with these arguments.
        """
        self._run.check_arguments(args, kwargs)
        self._run.continue_as_new(self._run.recorder.codec.encode_arguments(args, kwargs))
        raise AssertionError("unreachable")

    def patched(self, change_id: str) -> bool:
        """Return whether this execution takes the new path of a change of the code, the patch `change_id`.

        Return True if the execution comes here for the first time with the new code, False if it was here
        before. In a loop, the first answer holds for all iterations of the run.
        """
        return self._run.patched(change_id)

    # Time

    def sleep(self, delay: float | timedelta) -> asyncio.Future[None]:
        """Start a durable timer of `delay` seconds (or a timedelta), and return a future to await.

        The timer never ends early. With 0 or less there is no timer; other code gets a chance to run.
        Raises UsageError if the delay is not a duration, or more than a hundred years.
        """
        wait = milliseconds(seconds(delay))
        if wait > MAXIMUM_DURATION:
            raise UsageError(f"ctx.sleep({delay!r}): more than a hundred years; give seconds")
        return self._run.timers.sleep(wait)

    def sleep_until(self, when: datetime) -> asyncio.Future[None]:
        """Start a durable timer that ends at `when`, and return a future to await.

        Raises UsageError if `when` has no time zone, or is more than a hundred years from now.
        """
        if when.tzinfo is None:
            raise UsageError(
                f"ctx.sleep_until({when!r}): the time has no time zone; use for example "
                "datetime(..., tzinfo=timezone.utc) or ctx.now() + timedelta(...)"
            )
        since = when - _EPOCH
        wait = since - (self.now() - _EPOCH)
        if milliseconds(wait.total_seconds()) > MAXIMUM_DURATION:
            raise UsageError(f"ctx.sleep_until({when!r}): give a time within a hundred years")
        return self._run.timers.sleep_until(milliseconds(since.total_seconds()))

    def now(self) -> datetime:
        """Return the time in UTC, to the millisecond. The time stands still between two awaits of durable
        operations, and is the same in a replay.
        """
        return _datetime(self._run.loop.now)

    async def wait_for(
        self,
        predicate: Callable[[], bool],
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - as asyncio.wait_for has it
    ) -> None:
        """Wait until `predicate()` returns true. It is called after every step of the workflow.

        The predicate may only read the workflow's own variables; it is refused to start or cancel
        anything. An exception of the predicate is raised here.

        Raises:
            TimeoutError: the predicate did not return true within `timeout` seconds (or a timedelta).
            UsageError: the predicate is asynchronous.
        """
        if self._run.conditions.holds(predicate):
            return
        async with asyncio.timeout(None if timeout is None else seconds(timeout)):
            await self._run.conditions.wait(predicate)

    # Chance

    @property
    def random(self) -> random.Random:
        """A generator of random numbers that draws the same numbers in a replay."""
        if self._random is None:
            self._random = WorkflowRandom(
                f"random:{self._run.state.seed}", self._run.recorder.may_change
            )
        return self._random

    def uuid4(self) -> UUID:
        """Return a random UUID that is the same in a replay."""
        self._run.recorder.may_change("drawing ctx.uuid4()")
        if self._uuids is None:
            self._uuids = random.Random(f"uuid:{self._run.state.seed}")
        # Imported here, since the import searches for libraries that few programs need.
        from uuid import UUID

        return UUID(int=self._uuids.getrandbits(128), version=4)

    # The execution

    @property
    def info(self) -> ExecutionInfo:
        """Facts about this execution, such as its id and its run."""
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
        """The headers that this execution was started with, such as a tenant or a trace; a copy."""
        return dict(self._run.state.headers or {})

    @property
    def replaying(self) -> bool:
        """Whether the code is being replayed to bring the execution back into memory. Use it for effects
        that must happen once, such as telemetry. A workflow must not behave differently in a replay.
        """
        return self._run.recorder.quiet

    @property
    def logger(self) -> WorkflowLogger:
        """A logger that is silent in a replay and puts the execution's id into each line."""
        if self._logger is None:
            self._logger = WorkflowLogger(self._run.recorder)
        return self._logger

    def __repr__(self) -> str:
        return f"<context of execution {self._run.execution_id!r}>"


def _datetime(at: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
