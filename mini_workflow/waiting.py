"""blocking_wait(): what a thread says before it waits for an execution, so that tasks go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Protocol
from weakref import WeakSet

from mini_workflow.errors import UsageError
from mini_workflow.task import CURRENT

Fail = Callable[[BaseException], None]
"""Ends the wait with an error. Any thread; does not block."""

WAY_OUT: Final = (
    "write `await execution` instead of result(), and"
    " `await asyncio.to_thread(execution.update, ...)` instead of update()"
)


class LoopUser(Protocol):
    """Who runs attempts on an event loop that belongs to the application."""

    def waits(
        self, loop: asyncio.AbstractEventLoop, fail: Fail
    ) -> AbstractContextManager[None] | None:
        """The thread of this loop is about to wait; None if it is another loop.

        Raises UsageError if attempts would be held up.
        """
        ...


LOOP_USERS: Final[WeakSet[LoopUser]] = WeakSet()
"""Every runner that may run attempts on the application's event loop."""


@contextmanager
def blocking_wait(fail: Fail) -> Generator[None]:
    """Surround a wait of the calling thread for an execution.

    Raises UsageError, or has `fail` called with one, where the wait would hold up async tasks, or
    where too many sync tasks wait already.
    """
    loop = _running_loop()
    if loop is not None:
        task = CURRENT.get(None)
        if task is not None and task.request.is_async:
            raise UsageError(
                f"async task {task.name!r} of execution {task.execution_id!r} waits for an"
                f" execution in a way that blocks its event loop: {WAY_OUT}"
            )
        for user in list(LOOP_USERS):
            waits = user.waits(loop, fail)
            if waits is not None:
                with waits:
                    yield
                return
    with _thread_waits():
        yield


def _thread_waits() -> AbstractContextManager[None]:
    task = CURRENT.get(None)
    if task is None or task.on_wait is None:
        return nullcontext()
    return task.on_wait()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
