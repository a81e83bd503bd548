"""The end of a workflow function, as ``asyncio.run`` has it: what is left is cancelled and closed."""

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
        """Log it, with the exception's traceback if there is one."""
        ...


async def run_cleanup(loop: WorkflowLoop, warn: Warn) -> None:
    """Cancel the tasks that still run, in order of creation, and wait for their cleanup; then close
    the open asynchronous generators, in order. Again, until neither is left.

    A cancellation of the calling task meanwhile comes too late, and changes nothing.
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
        generators = loop.generators.take()
        if not generators:
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
    """Warn of each failure that nobody has looked at."""
    for future in futures:
        if future is not main and future.done() and unseen(future):
            silence(future)
            warn("%s failed and nobody awaited it: %r", name_of(future), future.exception())


def name_of(future: asyncio.Future[Any]) -> str:
    """Return what to call a future, or an asyncio.Task, in a message."""
    if isinstance(future, asyncio.Task):
        return future.get_name()
    name = getattr(future, "name", None)
    return "a future" if name is None else f"task {name!r}"
