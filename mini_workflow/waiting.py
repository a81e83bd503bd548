"""Tell runners that a thread is about to wait for an execution, so that tasks go on: blocking_wait()."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakSet

from mini_workflow.errors import UsageError
from mini_workflow.loop.running import running_loop
from mini_workflow.task import CURRENT

if TYPE_CHECKING:
    import asyncio

Fail = Callable[[BaseException], None]
"""Ends the wait with an error. Any thread; does not block."""

WAY_OUT: Final = (
    "write `await execution` instead of result(), and use `runtime.aio`, whose handles have"
    " `await execution.update(...)`"
)


class LoopUser(Protocol):
    """A runner of attempts on an event loop that belongs to the application."""

    def waits(
        self, loop: asyncio.AbstractEventLoop, fail: Fail
    ) -> AbstractContextManager[None] | None:
        """Return the thread of this loop is about to wait; None if it is another loop.

        Raises UsageError if attempts would be held up.
        """
        ...


_LOOP_USERS: Final[WeakSet[LoopUser]] = WeakSet()
_LOCK: Final = threading.Lock()


def add_loop_user(user: LoopUser) -> None:
    """Have `blocking_wait` ask it, for as long as it lives."""
    with _LOCK:
        _LOOP_USERS.add(user)


@contextmanager
def blocking_wait(fail: Fail, timeout: float | None = None) -> Generator[None]:
    """Surround a wait of the calling thread for an execution, for at most `timeout` seconds.

    Raises UsageError, or has `fail` called with one, where the wait would hold up async tasks, or
    where too many sync tasks wait already.
    """
    if timeout is not None and timeout <= 0:  # a look, which holds up nothing
        yield
        return
    loop = running_loop()
    if loop is not None:
        task = CURRENT.get(None)
        if task is not None and task.request.is_async:
            raise UsageError(
                f"async task {task.name!r} of execution {task.execution_id!r} waits for an"
                f" execution in a way that blocks its event loop: {WAY_OUT}"
            )
    with _LOCK:
        users = [] if loop is None else list(_LOOP_USERS)
    with ExitStack() as surroundings:
        for user in users:
            waits = None if loop is None else user.waits(loop, fail)
            if waits is not None:
                surroundings.enter_context(waits)
        surroundings.enter_context(_thread_waits())
        yield


def _thread_waits() -> AbstractContextManager[None]:
    task = CURRENT.get(None)
    if task is None or task.on_wait is None:
        return nullcontext()
    return task.on_wait(task.request)
