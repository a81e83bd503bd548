"""Handles of callbacks that wait for their turn in the loop, or for a durable timer."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Protocol


class Timers(Protocol):
    """The source of durable timers."""

    def start(self, fire_at: int, wait: int | None, handle: TimerHandle) -> int:
        """Start a durable timer, and return its number. See `TimerHandle`."""
        ...

    def cancel(self, seq: int) -> None:
        """Cancel a timer."""
        ...


class Handle:
    """A callback that is ready to run. It has no constructor, which would cost time at every step."""

    __slots__ = ("args", "callback", "context", "is_cancelled")

    callback: Callable[..., Any]
    args: tuple[Any, ...]
    context: Context
    is_cancelled: bool

    def cancel(self) -> None:
        """Mark the callback as cancelled, so that it does not run."""
        self.is_cancelled = True

    def cancelled(self) -> bool:
        """Return whether the callback was cancelled."""
        return self.is_cancelled


class TimerHandle:
    """A callback that waits for a durable timer."""

    __slots__ = ("_ready", "_timers", "_when", "seq")

    def __init__(
        self,
        when: int,
        fire_at: int,
        wait: int | None,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
        timers: Timers,
    ) -> None:
        """Start the timer. It fires at `when` by the loop's clock, which is `fire_at` by the real clock
        (milliseconds). `wait` is its duration in milliseconds, or None if the time of the clock is meant.
        """
        ready = self._ready = Handle()
        ready.callback, ready.args, ready.is_cancelled = callback, args, False
        ready.context = copy_context() if context is None else context
        self._when = when
        self._timers: Timers | None = timers
        self.seq = timers.start(fire_at, wait, self)

    @property
    def callback(self) -> Callable[..., Any]:
        """The function that is called when the timer fires."""
        return self._ready.callback

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments of that function."""
        return self._ready.args

    def when(self) -> float:
        """Return the time at which the timer fires, in seconds by the loop's clock."""
        return self._when / 1000

    def cancel(self) -> None:
        """Cancel the timer and its callback. Has no effect on a timer that has fired or was cancelled."""
        timers, self._timers = self._timers, None
        if timers is not None and not self._ready.cancelled():
            timers.cancel(self.seq)
        self._ready.cancel()

    def cancelled(self) -> bool:
        """Return whether the callback was cancelled."""
        return self._ready.cancelled()

    def fired(self) -> Handle:
        """Return the callback, which is ready to run. A later cancel does not cancel the timer any more."""
        self._timers = None
        return self._ready
