"""current_task(): what the code of a task may know about the attempt that is running it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from mini_workflow.errors import UsageError
from mini_workflow.ports import TaskRequest


class CurrentTask:
    """The attempt that runs the calling code; `current_task` gives it."""

    __slots__ = ("_cancelled", "_deadline", "_on_cancel", "request")

    def __init__(self, request: TaskRequest, deadline: float | None = None) -> None:
        self.request: Final = request
        self._deadline = deadline
        self._cancelled = False
        self._on_cancel: Callable[[], None] | None = None

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self.request.attempt

    @property
    def execution_id(self) -> str:
        """The id of the execution that started the task."""
        return self.request.execution_id

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.request.name

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this task, and another for every other task.

        Its form is ``<execution id>:<sequence number>``, for example ``order-o-1:3``. Give it to
        services that take such a key, so that an attempt after a lost one is not done twice.
        """
        return f"{self.request.execution_id}:{self.request.seq}"

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out (an aware datetime in UTC), or None."""
        return None if self._deadline is None else datetime.fromtimestamp(self._deadline, UTC)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more: a long task looks here and stops early.

        True after a cancellation and, where the code cannot be stopped, after the timeout. Async
        tasks are stopped by asyncio and need not look.
        """
        return self._cancelled

    def cancel(self) -> None:
        """Mark the attempt as cancelled. For runners; callable from any thread."""
        self._cancelled = True
        on_cancel = self._on_cancel
        if on_cancel is not None:
            on_cancel()

    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        """Have `callback` called by `cancel`, on its thread: at once if that was before."""
        self._on_cancel = callback
        if callback is not None and self._cancelled:
            callback()


CURRENT: Final[ContextVar[CurrentTask]] = ContextVar("mini_workflow.current_task")
"""Set by whoever runs an attempt; a runner that can be asked to cancel sets it itself."""


def current_task() -> CurrentTask:
    """The attempt that runs the calling code.

    Raises UsageError outside a task, and in threads that the task has started itself.
    """
    task = CURRENT.get(None)
    if task is None:
        raise UsageError(
            "current_task() was called outside a task: call it in the code of a task (the function"
            " given to ctx.task), and hand what you need from it to threads that the task starts;"
            " workflow code uses ctx.info"
        )
    return task
