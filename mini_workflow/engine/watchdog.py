"""Interrupt workflow code that keeps a turn from ending."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Final

from mini_workflow.errors import TurnTimeout
from mini_workflow.loop.running import Halt
from mini_workflow.loop.source_line import describe_frame, user_frame
from mini_workflow.threads import NoThread, has_begun, join_thread, start_thread

if TYPE_CHECKING:
    from mini_workflow.core.run import Run

log = logging.getLogger("mini_workflow.engine")

DEFAULT_LIMIT: Final = 10.0
"""Seconds that workflow code may run between two events: short enough that the other executions on
the same engine do not starve for long. Our own bound."""


class Watchdog:
    """Watches the turns of one thread.

    A turn in which no event is delivered for longer than `limit` seconds (and at most twice that)
    gets a TurnTimeout as its run's fault, which names the line, and is interrupted at its next Python
    instruction. A replay of many events may take as long as it needs. The watching thread sleeps
    while there are no turns, and wakes once per `limit` while there are.
    """

    def __init__(self, limit: float | None = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._run: Run | None = None
        self._turn = 0
        self._asleep = True
        self._struck = False
        self._strikes = 0
        self._closed = False
        self._watched = 0
        self._thread: threading.Thread | None = None
        self._told = False  # that there is no such thread

    def begin(self, run: Run) -> None:
        """Watch a turn of `run` that begins on the calling thread."""
        if self._limit is None:
            return
        self._turn += 1
        self._strikes = 0
        self._run = run
        self._watched = threading.get_ident()
        if self._asleep:
            self._asleep = False
            if not has_begun(self._thread):
                self._thread = threading.Thread(
                    target=self._watch, name="mini-workflow-watchdog", daemon=True
                )
                try:
                    start_thread(self._thread)
                except NoThread as error:
                    self._asleep = True
                    if not self._told:
                        self._told = True
                        log.error("turns that take too long are not interrupted: %s", error)
            else:
                self._wake.set()

    def end(self) -> None:
        """Stop watching the turn. Afterwards no interruption can arrive any more."""
        try:
            with self._lock:
                self._run = None
                struck, self._struck = self._struck, False
            if struck:
                # The interruption is on its way: give it instructions to arrive at.
                for _ in range(10_000):
                    pass
        except Halt:
            self._struck = False

    def hangs(self) -> str | None:
        """Return the execution whose turn goes on although it was interrupted, or None. Any thread.

        Such a turn is in a call that never comes back to Python, or swallows the interruption.
        """
        with self._lock:
            run = self._run
            return run.execution_id if run is not None and self._strikes > 1 else None

    def close(self) -> None:
        """End the watching thread."""
        self._closed = True
        self._wake.set()
        join_thread(self._thread)

    def _watch(self) -> None:
        seen = (-1, -1)
        while not self._closed:
            if self._run is None:
                # Set before the second look: a turn that begins after that look finds it set.
                self._asleep = True
                if self._run is None:
                    self._wake.wait()
                self._asleep = False
            elif seen == self._progress():
                self._strike(seen)
            seen = self._progress()
            self._wake.clear()
            if not self._closed:
                self._wake.wait(self._limit)

    def _progress(self) -> tuple[int, int]:
        """Return the number of the turn, and how many events it has delivered."""
        run = self._run
        return self._turn, 0 if run is None else run.delivered

    def _strike(self, seen: tuple[int, int]) -> None:
        import ctypes

        with self._lock:
            run = self._run
            if run is None or seen != self._progress():
                return
            frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
            frame = user_frame(frames.get(self._watched))
            place = f" at {describe_frame(frame)}" if frame is not None else ""
            if run.loop.fault is None:
                run.loop.fault = TurnTimeout(
                    f"workflow code ran for more than {self._limit:g} s without waiting{place}; do long "
                    "work in a task, and wait with await ctx.sleep(...)"
                )
            self._struck = True
            self._strikes += 1
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._watched), ctypes.py_object(Halt)
            )
