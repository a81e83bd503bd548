"""LoopMonitor: finds an event loop that does not answer, and names the task that blocks it."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio import base_events
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from mini_workflow.loop.source_line import describe_frame, is_user_code
from mini_workflow.task import CURRENT, CurrentTask

INTERVAL: Final = 1.0
"""Seconds between two looks: a loop that is blocked for twice as long is found. Our own bound."""

_LOOP_FILE: Final = base_events.__file__
_SELECTORS: Final = "selectors.py"


class Watcher(Protocol):
    """Calls `look` of a monitor at a time of `time.monotonic`: a Deadlines."""

    def watch(self, item: LoopMonitor, at: float) -> None:
        """Call `item.look` at the time `at`, on another thread than that of the loop."""
        ...


class LoopMonitor:
    """Checks once a second whether a loop answers, for as long as there are tasks for it.

    Args:
        watcher: calls `look` every second.
        busy: returns whether there are tasks for the loop. Any thread.
        warn: called with a sentence about the code that blocks the loop: at once, and again each time the
            silence has doubled.
        ended: called when the loop was closed, or did not run at two looks in a row.
    """

    __slots__ = (
        "_asked_at",
        "_busy",
        "_ended",
        "_idle",
        "_loop",
        "_thread",
        "_warn",
        "_warn_after",
        "_watched",
        "_watcher",
    )

    def __init__(
        self,
        watcher: Watcher,
        busy: Callable[[], bool],
        warn: Callable[[str], None],
        ended: Callable[[asyncio.AbstractEventLoop], None] = lambda _: None,
    ) -> None:
        self._watcher: Final = watcher
        self._busy: Final = busy
        self._warn: Final = warn
        self._ended: Final = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._asked_at: float | None = None  # and not answered
        self._warn_after = 0.0  # seconds without an answer
        self._idle = False  # it was not running at the last look
        self._watched = False

    def watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        """Watch this loop, which has tasks and runs on that thread. Any thread; cheap."""
        if loop is not self._loop:
            self._loop, self._thread = loop, thread
            self._asked_at, self._warn_after, self._idle = None, 0.0, False
        if not self._watched:
            self._watched = True
            self._watcher.watch(self, time.monotonic() + INTERVAL)

    def look(self) -> None:
        """Check whether the loop answers, and have the watcher call this again in a second."""
        # Set before `busy` is asked: a task that comes after that has the loop watched again.
        self._watched = False
        loop = self._loop
        if loop is None or not self._busy():
            return
        now = time.monotonic()
        self._watched = True
        self._watcher.watch(self, now + INTERVAL)
        idle, self._idle = self._idle, not loop.is_running()
        if loop.is_closed() or (idle and self._idle):
            self._ended(loop)
        elif self._idle:
            return
        elif self._asked_at is None:
            self._asked_at = now
            try:
                loop.call_soon_threadsafe(self._answer, context=Context())
            except RuntimeError:  # closed in between
                self._asked_at = None
        elif (silent := now - self._asked_at) >= self._warn_after:
            found = _blocking(loop, self._thread)
            if found is not None:
                self._warn_after = 2 * silent + INTERVAL / 2
                self._warn(
                    f"the event loop of async tasks has not answered for {silent:.1f} s: {found}."
                    " Have it await instead, or do that in a sync task or by asyncio.to_thread."
                )

    def _answer(self) -> None:
        self._asked_at = None
        self._warn_after = 0.0


def task_name(current: CurrentTask) -> str:
    """Return the name of the asyncio task that runs an attempt."""
    return f"async task {current.name!r} of execution {current.execution_id!r}"


def _blocking(loop: asyncio.AbstractEventLoop, thread: int) -> str | None:
    """Return a clause about the code that blocks the loop, and its line; None if the loop itself waits."""
    frame = _blocking_frame(thread)
    if frame is None:
        return None
    task: asyncio.Task[Any] | None = asyncio.current_task(loop)
    if task is None:
        who = "a callback"
    else:
        get_context: Callable[[], Context] | None = getattr(task, "get_context", None)
        current = get_context().get(CURRENT) if get_context is not None else None
        who = task.get_name() if current is None else task_name(current)
    return f"{who} blocks it at {describe_frame(frame)}"


def _blocking_frame(thread: int) -> FrameType | None:
    """Return the innermost frame of user code that the loop has called, or of other code if there is none;
    None if the loop itself waits.
    """
    frame = innermost = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]
    called = None
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _LOOP_FILE and code.co_name == "_run_once":
            idle = called is None or Path(called.f_code.co_filename).name == _SELECTORS
            return None if idle else innermost
        if is_user_code(code.co_filename):
            return frame
        called, frame = frame, frame.f_back
    return innermost
