"""Conditions over a workflow's variables, for which its code waits: `ctx.wait_for`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from mini_workflow.core.recorder import Recorder
from mini_workflow.errors import UsageError
from mini_workflow.loop.loop import WorkflowLoop
from mini_workflow.loop.ordered import WorkflowFuture
from mini_workflow.loop.running import Halt
from mini_workflow.loop.source_line import predicate_text

Predicate = Callable[[], bool]


class ConditionFuture(WorkflowFuture[Any]):
    """A future that is done when the predicate holds."""

    def __init__(self, predicate: Predicate, *, loop: WorkflowLoop) -> None:
        super().__init__(loop=loop)
        self.predicate = predicate

    def subject(self) -> tuple[str, str, int]:
        """See `WorkflowFuture.subject`."""
        return "condition", predicate_text(self.predicate), 0


class Conditions:
    """The conditions of one run: tries each predicate whenever all of the workflow's code waits.

    A predicate may only read variables; it is refused to start anything.
    """

    __slots__ = ("_recorder", "waiting")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.waiting: list[tuple[Predicate, Context, WorkflowFuture[Any]]] = []
        recorder.loop.idle = self

    def holds(self, predicate: Predicate) -> bool:
        """Try a predicate. Raises UsageError if it is asynchronous or none, and any exception of its own."""
        if not callable(predicate):
            raise UsageError(
                f"ctx.wait_for({predicate!r}): give a function that is called again and again, as in "
                "ctx.wait_for(lambda: paid)"
            )
        self._recorder.trying = True
        try:
            answer: Any = predicate()
        finally:
            self._recorder.trying = False
        if inspect.iscoroutine(answer):
            answer.close()
            raise UsageError(
                f"ctx.wait_for({predicate!r}): the predicate is asynchronous; give a plain "
                "function that reads the workflow's variables"
            )
        return bool(answer)

    def wait(self, predicate: Predicate) -> WorkflowFuture[Any]:
        """Return a future that is done when the predicate holds. The predicate is tried after every
        change, with the context variables of the caller.
        """
        started = self._recorder.may_start()
        future = ConditionFuture(predicate, loop=self._recorder.loop)
        if started:
            self.waiting.append((predicate, copy_context(), future))
        return future

    def try_all(self) -> bool:
        """Complete the futures whose predicates hold, in the order in which they began to wait. A predicate
        that raises fails its future. Return whether any future was completed.
        """
        if not self.waiting:
            return False
        any_completed = False
        waiting: list[tuple[Predicate, Context, WorkflowFuture[Any]]] = []
        for entry in self.waiting:
            predicate, context, future = entry
            if future.done():
                continue
            try:
                holds = context.run(self.holds, predicate)
            except (Halt, KeyboardInterrupt):
                raise
            except StopIteration as error:
                failure = RuntimeError("the predicate raised StopIteration")
                failure.__cause__ = error
                future.set_exception(failure)
                any_completed = True
            except BaseException as error:
                future.set_exception(error)
                any_completed = True
            else:
                if holds:
                    future.set_result(None)
                    any_completed = True
                else:
                    waiting.append(entry)
        self.waiting = waiting
        return any_completed

    def clear(self) -> None:
        """Forget all conditions."""
        self.waiting = []
