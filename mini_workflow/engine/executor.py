"""Run one attempt of a task: take the captured call, and return its result or its failure as data."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Token, copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from mini_workflow.attempts import cancelled, failed, timeout_message
from mini_workflow.core.codec import CapturedCall, Codec
from mini_workflow.core.failure import Failure, set_traceback
from mini_workflow.core.payload import Payload, text_at_hand
from mini_workflow.errors import CodecMismatch, TaskCancelled, TaskTimeout
from mini_workflow.ports import TaskOutcome, TaskRequest
from mini_workflow.stream_buffer import StreamSink
from mini_workflow.task import CURRENT, CurrentTask
from mini_workflow.task_stream import InlineSink

if TYPE_CHECKING:
    import asyncio

    from mini_workflow.core.run import Inline
    from mini_workflow.core.streams import StreamWrite

log = logging.getLogger("mini_workflow.engine")

_OURS: Final = (
    __name__,
    *(f"asyncio.{name}" for name in ("base_events", "events", "runners", "tasks", "timeouts")),
)
"""Modules whose frames lead to the user's code, and are left out of its tracebacks."""


_NO_AWAITABLES: Final = frozenset({int, str, float, bool, bytes, type(None), dict, list, tuple})
"""Types of most results: to look for a method that a type lacks takes longer."""


Execute = Callable[[TaskRequest, Codec], TaskOutcome]
"""Runs one attempt of a task on the calling thread."""

AroundTask = Callable[[CurrentTask], AbstractContextManager[object]]
"""Returns the context manager around the code of an attempt."""


def inline_runner(codec: Codec, execute: Execute) -> Inline:
    """Return the function that runs inline tasks: on the calling thread, inside the turn."""

    def run(
        execution_id: str,
        seq: int,
        name: str,
        payload: CapturedCall,
        written: list[StreamWrite],
        headers: dict[str, str] | None,
    ) -> Payload | Failure:
        request = TaskRequest(execution_id, seq, 1, name, payload, headers=headers)
        task = CurrentTask(request)
        task.sink = InlineSink(written)
        token = CURRENT.set(task)
        try:
            outcome = execute(request, codec)
        finally:
            CURRENT.reset(token)
        if outcome.failure is not None:
            return Failure.from_plain(outcome.failure)
        return Payload(text=outcome.result)

    return run


def execute(
    request: TaskRequest,
    codec: Codec,
    sink: StreamSink | None = None,
    around: AroundTask | None = None,
) -> TaskOutcome:
    """Run the attempt on this thread. Never raises: an error is the outcome, also KeyboardInterrupt and
    SystemExit, which fail this task only.

    If the function returns an awaitable, that is awaited on an event loop of its own, within the timeout.
    Chunks that the task writes go to the `sink`, and are stored before this returns. `around` returns the
    context manager that surrounds the call of the function.
    """
    return copy_context().run(_execute, request, codec, sink, around)


async def execute_async(
    request: TaskRequest,
    codec: Codec,
    sink: StreamSink | None = None,
    around: AroundTask | None = None,
) -> TaskOutcome:
    """Run the attempt on the running event loop, within its timeout.

    Raises asyncio.CancelledError when this coroutine is cancelled from outside, and nothing else.
    """
    import asyncio

    token = _enter(request, sink)
    task = CURRENT.get()
    task.codec = codec = codec.for_execution(request.execution_id)
    try:
        function, args, kwargs = codec.restore(request.payload)
        with nullcontext() if around is None else around(task):
            try:
                value: Any = function(*args, **kwargs)
                kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
                if getattr(kind, "__await__", None) is not None:
                    value = await _within_timeout(request, value)
            finally:
                if task.is_copy:
                    _end_copy(task, sys.exception())
        if task.streams is not None:
            await task.streams.close_async()
        return _completed(task, codec, value)
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        return await _failed_async(request, codec, error)
    except BaseException as error:
        return await _failed_async(request, codec, error)
    finally:
        if task.streams is not None or task.heard_at:
            _leave(task)
        if token is not None:
            CURRENT.reset(token)


def _leave(task: CurrentTask) -> None:
    """Have the buffers forget an attempt that is over."""
    if task.streams is not None:
        task.streams.sink.forget(task.request.key)
    if task.heard_at and task.sink is not None:
        task.sink.over(task.request.key)


async def _failed_async(request: TaskRequest, codec: Codec, error: BaseException) -> TaskOutcome:
    outcome = _failed(request, codec, error)
    if (streams := CURRENT.get().streams) is not None:
        with suppress(Exception):  # of what was not stored: the attempt has failed before
            await streams.close_async()
    return outcome


def _execute(
    request: TaskRequest, codec: Codec, sink: StreamSink | None, around: AroundTask | None
) -> TaskOutcome:
    task = CURRENT.get(None)
    if task is None or task.request is not request:
        task = CurrentTask(request)
        CURRENT.set(task)  # in a context of its own
    task.sink = task.sink or sink
    task.codec = codec = codec.for_execution(request.execution_id)
    try:
        function, args, kwargs = codec.restore(request.payload)
        if around is None:
            value = _value_of(task, function, args, kwargs)
        else:
            with around(task):
                value = _value_of(task, function, args, kwargs)
        if task.streams is not None:
            task.streams.close()
        return _completed(task, codec, value)
    except BaseException as error:
        if task.streams is not None:
            with suppress(Exception):  # of what was not stored: the attempt has failed before
                task.streams.close()
        if task.cancelled and _is_cancellation(error):
            return cancelled(request, task.details)
        return _failed(request, codec, error)
    finally:
        if task.streams is not None or task.heard_at:
            _leave(task)


def _value_of(
    task: CurrentTask,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Return the result of the function, which is awaited if it is an awaitable."""
    try:
        value: Any = function(*args, **kwargs)
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind in _NO_AWAITABLES or getattr(kind, "__await__", None) is None:
            return value
        return _run(task.request, value)
    finally:
        if task.is_copy:
            _end_copy(task, sys.exception())


def _end_copy(task: CurrentTask, error: BaseException | None) -> NoReturn:
    """End this process, which the code of a task has forked and which has left that code: it would run other
    attempts of the engine, which the process that has forked it runs too.
    """
    code: object = 1
    try:
        if isinstance(error, SystemExit):
            code = error.code
            if code is not None and not isinstance(code, int):
                sys.stderr.write(f"{code}\n")
        else:
            log.error(
                "[%s] task %r has forked process %d, which has left the code of the task and is ended: have"
                " such a process end there, by sys.exit(), or start it by multiprocessing or subprocess",
                *(task.execution_id, task.name, os.getpid()),
                exc_info=error,
            )
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code & 0xFF if isinstance(code, int) else int(code is not None))


def _enter(request: TaskRequest, sink: StreamSink | None) -> Token[CurrentTask] | None:
    """Make the attempt the current one, unless the runner has done so."""
    task = CURRENT.get(None)
    if task is not None and task.request is request:
        task.sink = task.sink or sink
        return None
    task = CurrentTask(request)
    task.sink = sink
    return CURRENT.set(task)


def _run(request: TaskRequest, value: Awaitable[Any]) -> Any:
    import asyncio

    task = CURRENT.get()
    if task.on_await is not None:
        task.on_await()

    async def stoppable() -> Any:
        loop = asyncio.get_running_loop()
        this = asyncio.current_task()
        task.on_cancel(lambda: _stop(loop, this))
        try:
            return await _within_timeout(request, value)
        finally:
            task.on_cancel(None)

    # By a factory the loop does not become the thread's event loop, which a caller may have set.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(stoppable())


def _stop(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
    try:
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)
    except RuntimeError:  # the loop is closed: the task has ended
        pass


async def _within_timeout(request: TaskRequest, value: Awaitable[Any]) -> Any:
    if request.timeout is None:
        return await value
    from asyncio import timeout

    scope = timeout(request.timeout / 1000)
    try:
        async with scope:
            return await value
    except TimeoutError as error:
        if scope.expired():
            raise TaskTimeout(timeout_message(request)) from error
        raise


def _is_cancelled() -> bool:
    """Return whether this coroutine is cancelled from outside, and has not raised the error itself."""
    import asyncio

    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_cancellation(error: BaseException) -> bool:
    """Return whether asyncio has cancelled what raised it."""
    from asyncio import CancelledError

    return isinstance(error, CancelledError)


def _completed(task: CurrentTask, codec: Codec, value: object) -> TaskOutcome:
    request = task.request
    if task.stops_early:
        return cancelled(request, task.details)
    payload = codec.encode(value, f"result of task {request.name!r}")
    text, name = text_at_hand(payload) or payload.text, request.execution_id
    begun, ran_on = task.begun, task.ran_on
    return TaskOutcome(name, request.seq, request.attempt, text, None, None, begun, ran_on)


def _failed(request: TaskRequest, codec: Codec, error: BaseException) -> TaskOutcome:
    task = CURRENT.get()
    if isinstance(error, TaskCancelled) and task.cancelled:
        return cancelled(request, task.details)
    if isinstance(error, CodecMismatch):
        # With the wrong key the encoded failure would be as unreadable as the call was.
        return failed(request, error, task.details)
    set_traceback(error, _from_users_code(error.__traceback__))
    failure = codec.encode_failure(error)
    return TaskOutcome(*request.key, failure=failure.to_plain(), heartbeat=task.details)


def _from_users_code(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames that lead to the first frame of the user's code."""
    ours = {sys.modules[name].__file__ for name in _OURS if name in sys.modules}
    inner = traceback
    while inner is not None and inner.tb_frame.f_code.co_filename in ours:
        inner = inner.tb_next
    return inner or traceback
