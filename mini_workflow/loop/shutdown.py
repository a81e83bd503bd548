"""Clean up at the end of a workflow function, as ``asyncio.run`` does: cancel tasks, close generators."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

from mini_workflow.loop.loop import WorkflowLoop
from mini_workflow.loop.ordered import silence, unseen
from mini_workflow.loop.running import Halt


class Warn(Protocol):
    """Logs a warning about the execution."""

    def __call__(self, message: str, *args: Any, exc_info: BaseException | None = None) -> None:
        """Log the warning, with the traceback of the exception if there is one."""
        ...


async def run_cleanup(loop: WorkflowLoop, warn: Warn) -> None:
    """Cancel the tasks that still run, in order of creation, and wait for their cleanup; then close the
    open asynchronous generators, in order. Repeat this until neither is left.

    A cancellation of the calling task meanwhile has no effect.
    """
    main = asyncio.current_task(loop)
    asked: set[asyncio.Future[Any]] = set()
    while True:
        left = [task for task in loop.tasks if task is not main and not task.done()]
        for task in left:
            if task not in asked:
                asked.add(task)
                task.cancel()
        if left:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(left)
            continue
        if loop.generators is None or not (generators := loop.generators.take()):
            return
        for generator in generators:
            try:
                await generator.aclose()
            except (Halt, KeyboardInterrupt):
                raise
            except BaseException as error:
                warn("an asynchronous generator failed while it was closed", exc_info=error)


def report_unseen(
    main: asyncio.Future[Any] | None, futures: list[asyncio.Future[Any]], warn: Warn
) -> None:
    """Log a warning for each failed future, except `main`, whose exception was not retrieved."""
    for future in futures:
        if future is not main and future.done() and unseen(future):
            silence(future)
            warn("%s failed and nobody awaited it: %r", name_of(future), future.exception())


def name_of(future: asyncio.Future[Any]) -> str:
    """Return the name of a future or asyncio.Task for a message."""
    if isinstance(future, asyncio.Task):
        return future.get_name()
    name = getattr(future, "name", None)
    return "a future" if name is None else f"task {name!r}"
