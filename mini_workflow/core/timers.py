"""Timers: sleeps of workflow code, and the timers of its asyncio loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mini_workflow.core import events
from mini_workflow.core.recorder import Recorder
from mini_workflow.loop.handles import Handle, TimerHandle
from mini_workflow.loop.ordered import WorkflowFuture


class Sleep(WorkflowFuture[Any]):
    """A future that is done when its timer fires. Cancelling the future cancels the timer."""

    __slots__ = ("timer",)

    def __init__(self, *, loop: Any) -> None:
        super().__init__(loop=loop)
        self.timer: Handle | TimerHandle | None = None

    def subject(self) -> tuple[str, str, int]:
        """See `WorkflowFuture.subject`."""
        return "timer", "", getattr(self.timer, "seq", 0)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the sleep and its timer."""
        if self.done():
            return False
        if self.timer is not None:
            self.timer.cancel()
        return super().cancel(msg)

    def wake(self) -> None:
        """End the sleep, because the timer has fired."""
        if not self.done():
            self.set_result(None)


class Timers:
    """The durable timers of one run: those of its asyncio loop, and those of the execution itself."""

    __slots__ = ("_of_execution", "_open", "_recorder")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._open: dict[int, TimerHandle] = {}
        self._of_execution: dict[int, Callable[[], None]] | None = None
        """Called when a timer of the execution itself fires, by its number."""
        recorder.loop.timers = self

    def sleep(self, wait: int) -> WorkflowFuture[Any]:
        """Return a future that is done after `wait` milliseconds. With 0 or less it is done once the code
        that is ready now has run.
        """
        loop = self._recorder.loop
        future = Sleep(loop=loop)
        if self._recorder.may_start():
            future.timer = loop.call_later(wait / 1000, future.wake, context=loop.context())
        return future

    def sleep_until(self, fire_at: int) -> WorkflowFuture[Any]:
        """Return a future that is done at the time `fire_at` (milliseconds since the epoch)."""
        loop = self._recorder.loop
        future = Sleep(loop=loop)
        if self._recorder.may_start():
            future.timer = loop.call_when(fire_at, future.wake, loop.context())
        return future

    def start(self, fire_at: int, wait: int | None, handle: TimerHandle) -> int:
        """Start a durable timer that fires at `fire_at` (milliseconds since the epoch), and return its
        number. `wait` is its duration in milliseconds; None if the time of the clock is meant.
        """
        recorder = self._recorder
        if not recorder.may_start():
            return 0
        seq = recorder.seq = recorder.seq + 1
        self._open[seq] = handle
        recorder.emit(events.TimerStarted(seq, fire_at, wait))
        return seq

    def cancel(self, seq: int) -> None:
        """Cancel an open timer."""
        if seq in self._open and self._recorder.may_give_up():
            del self._open[seq]
            self._recorder.emit(events.TimerCancelled(seq))

    def fired(self, event: events.TimerFired) -> None:
        """Run the callback of a timer that has fired."""
        handle = self._open.pop(event.seq, None)
        if handle is not None:
            self._recorder.loop.timer_fired(handle)
        elif (then := self.forget(event.seq)) is not None:
            then()

    def expect(self, seq: int, then: Callable[[], None]) -> None:
        """Call `then` when the timer `seq` of the execution itself fires."""
        if self._of_execution is None:
            self._of_execution = {}
        self._of_execution[seq] = then

    def forget(self, seq: int) -> Callable[[], None] | None:
        """Remove the callback of a timer of the execution itself, and return it; None if there is none."""
        return None if self._of_execution is None else self._of_execution.pop(seq, None)

    def handles(self) -> Iterable[TimerHandle]:
        """Return the handles of the open timers of the loop."""
        return self._open.values()

    def clear(self) -> None:
        """Forget all timers."""
        self._open.clear()
        self._of_execution = None
