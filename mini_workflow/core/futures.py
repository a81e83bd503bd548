"""The futures of durable operations: cancelling one gives the operation up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mini_workflow.loop.handles import Handle
from mini_workflow.loop.loop import WorkflowLoop
from mini_workflow.loop.ordered import WorkflowFuture


class Canceller(Protocol):
    """What a future asks of its run."""

    def cancel_task(self, seq: int, reason: str) -> None:
        """Give a task up."""
        ...


class TaskFuture(WorkflowFuture):
    """The result of a task. `seq` is its number in the run, `name` its name.

    `undo` takes it back, when it has succeeded and the execution fails later.
    """

    undo: Callable[..., Any] | None = None

    def __init__(self, seq: int, name: str, *, loop: WorkflowLoop, operations: Canceller) -> None:
        super().__init__(loop=loop)
        self.seq = seq
        self.name = name
        self._operations = operations

    def cancel(self, msg: Any = None) -> bool:
        """Give the task up. What it still returns is recorded and ignored."""
        if self.done():
            return False
        self._operations.cancel_task(self.seq, msg if isinstance(msg, str) else "")
        return super().cancel(msg)


class SleepFuture(WorkflowFuture):
    """Done when its timer fires."""

    timer: Handle | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Give the timer up."""
        if self.done():
            return False
        if self.timer is not None:
            self.timer.cancel()
        return super().cancel(msg)

    def wake(self) -> None:
        """The timer has fired."""
        if not self.done():
            self.set_result(None)
