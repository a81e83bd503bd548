"""Context: everything workflow code may call."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import uuid
from collections.abc import Callable, Coroutine, Iterable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, overload

from mini_workflow.core.durations import MAXIMUM_DURATION, milliseconds, seconds
from mini_workflow.core.futures import TaskFuture
from mini_workflow.core.mapping import as_it_is_now
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.core.run import Run
from mini_workflow.errors import UsageError

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - the item of ctx.map


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """What a workflow may know of its own execution. `run` counts the generations from 1;
    `history_length` is the number of events so far.
    """

    execution_id: str
    workflow: str
    run: int
    started_at: datetime
    history_length: int


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
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        inline: bool = False,
    ) -> Callable[[Callable[[], Any]], asyncio.Future[Any]]: ...
    @overload
    def task(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *args: Any,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        inline: bool = False,
        **kwargs: Any,
    ) -> asyncio.Future[T]: ...
    @overload
    def task(
        self,
        fn: Callable[..., T],
        /,
        *args: Any,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        inline: bool = False,
        **kwargs: Any,
    ) -> asyncio.Future[T]: ...
    def task(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *args: Any,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        inline: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Start a task now: `fn`, with its arguments and captured variables as they are now.

        The task runs outside the workflow, at least once; its recorded result is never computed
        again. Also a decorator, ``@ctx.task`` or ``@ctx.task(retry=...)``: the function's name
        then becomes the future.

        Args:
            fn: a sync or async callable.
            *args: what it is called with.
            **kwargs: what it is called with by name.
            name: what the task is called in the history; by default the function's name.
            retry: when a failed attempt is made again; by default only after the death of a
                worker, at most five attempts in all.
            timeout: seconds (or a timedelta) that one attempt may take from its start.
            inline: run it inside the turn, in the orchestrator: for quick work that need not be
                committed on its own. It takes neither `retry` nor `timeout`.

        Returns:
            A future. Cancelling it gives the task up.

        Raises:
            ClosureNotSerializable: `fn` captures what cannot leave the process; nothing is
                recorded.
            UsageError: an argument is out of range.
        """
        if fn is None:
            return functools.partial(
                self.task, name=name, retry=retry, timeout=timeout, inline=inline
            )
        if not callable(fn):
            if asyncio.iscoroutine(fn):
                fn.close()
            raise UsageError(
                f"ctx.task({fn!r}): give a function, not its result; for example "
                "ctx.task(lambda: charge(card)) or ctx.task(charge, card)"
            )
        name = _task_name(fn) if name is None else name
        if inline:
            if retry is not None or timeout is not None:
                raise UsageError(
                    f"task {name!r}: an inline task runs inside the turn and can neither be "
                    "retried nor timed out; drop inline=True"
                )
            return self._run.run_inline(fn, args, kwargs, name=name)
        return self._run.start_task(
            fn, args, kwargs, name=name, retry=retry, timeout=_timeout(name, timeout)
        )

    def map(
        self,
        fn: Callable[[I], Any],
        items: Iterable[I],
        *,
        concurrency: int | None = None,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
    ) -> asyncio.Future[list[Any]]:
        """Run a task for every item; the results come in the order of the items.

        The first failure cancels the tasks that are still open and is raised. Cancelling the
        future cancels them as well.

        Args:
            fn: called with one item, as by `task`. Its captured variables are taken as they are
                now; an object that they refer to, as it is when the task of an item is started.
            items: any iterable; it is read to its end at once.
            concurrency: how many tasks may be open at a time; None for no limit.
            name: as for `task`, for each of the tasks; so are the others.
            retry: when a failed attempt is made again.
            timeout: seconds (or a timedelta) that one attempt may take.

        Raises:
            UsageError: `concurrency` is not a whole number of 1 or more.
            ClosureNotSerializable: as `task`; nothing stays started.
        """
        if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
            raise UsageError(
                f"ctx.map(concurrency={concurrency!r}): give a whole number of 1 or more, or None"
            )
        function = as_it_is_now(fn)
        task_name = _task_name(fn) if name is None else name
        limit = _timeout(task_name, timeout)

        def start(item: Any) -> TaskFuture:
            return self._run.start_task(
                function, (item,), {}, name=task_name, retry=retry, timeout=limit
            )

        return self._run.map(start, list(items), concurrency)

    # Time

    def sleep(self, delay: float | timedelta) -> asyncio.Future[None]:
        """A durable timer of `delay` seconds (or a timedelta), started now; await it.

        It never ends early. Zero or less lets others run and starts no timer.
        """
        wait = milliseconds(seconds(delay))
        if wait > MAXIMUM_DURATION:
            raise UsageError(f"ctx.sleep({delay!r}): more than a hundred years; seconds are meant")
        return self._run.sleep(wait)

    def sleep_until(self, when: datetime) -> asyncio.Future[None]:
        """A durable timer that ends at `when`, which must have a time zone."""
        if when.tzinfo is None:
            raise UsageError(
                f"ctx.sleep_until({when!r}): the time has no time zone; use for example "
                "datetime(..., tzinfo=timezone.utc) or ctx.now() + timedelta(...)"
            )
        return self.sleep(when - self.now())

    def now(self) -> datetime:
        """The time in UTC, to the millisecond. It stands still between two awaits of anything
        durable, and is the same on replay.
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
        if self._run.holds(predicate):
            return
        async with asyncio.timeout(None if timeout is None else seconds(timeout)):
            await self._run.when(predicate)

    # Chance

    @property
    def random(self) -> random.Random:
        """A generator of random numbers that gives the same ones on replay."""
        if self._random is None:
            self._random = random.Random(f"random:{self._run.state.seed}")
        return self._random

    def uuid4(self) -> uuid.UUID:
        """A random UUID that is the same on replay."""
        if self._uuids is None:
            self._uuids = random.Random(f"uuid:{self._run.state.seed}")
        return uuid.UUID(int=self._uuids.getrandbits(128), version=4)

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
        )

    @property
    def logger(self) -> WorkflowLogger:
        """A logger that is silent while replaying and names the execution in each line."""
        if self._logger is None:
            self._logger = WorkflowLogger(self._run)
        return self._logger

    def __repr__(self) -> str:
        return f"<context of execution {self._run.execution_id!r}>"


class WorkflowLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs once per live line: a replay is silent. Records carry `execution_id`."""

    def __init__(self, run: Run) -> None:
        super().__init__(
            logging.getLogger("mini_workflow.workflow"), {"execution_id": run.execution_id}
        )
        self._run = run

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        """Whether a line of that level is logged now."""
        return not self._run.quiet and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the execution's id in front of the line."""
        msg, kwargs = super().process(msg, kwargs)
        return f"[{self._run.execution_id}] {msg}", kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a line, unless replaying. Handlers run as if outside the workflow."""
        if self.isEnabledFor(level):
            with self._run.loop.outside():
                kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
                super().log(level, msg, *args, **kwargs)


def _datetime(at: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _task_name(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__


def _timeout(name: str, timeout: float | timedelta | None) -> int | None:
    if timeout is None:
        return None
    wait = milliseconds(seconds(timeout))
    if wait <= 0:
        raise UsageError(f"task {name!r}: timeout={timeout!r} must be more than 0 seconds")
    return wait
