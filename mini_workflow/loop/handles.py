"""Callbacks that wait: for their turn in the loop, or for a durable timer."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Protocol


class Timers(Protocol):
    """The source of durable timers."""

    def start(self, fire_at: int, wait: int | None, handle: TimerHandle) -> int:
        """Start a durable timer; returns its number. See `TimerHandle`."""
        ...

    def cancel(self, seq: int) -> None:
        """Give the timer up."""
        ...


class Handle:
    """A callback that is ready to run. Who makes one sets what it has: there is one at every step."""

    __slots__ = ("args", "callback", "context", "is_cancelled")

    callback: Callable[..., Any]
    args: tuple[Any, ...]
    context: Context
    is_cancelled: bool

    def cancel(self) -> None:
        """Do not run it."""
        self.is_cancelled = True

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
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
        """Fire at `when` on the loop's clock, which is `fire_at` on the real one; `wait` is None if
        it is meant for that time, not for that many milliseconds.
        """
        ready = self._ready = Handle()
        ready.callback, ready.args, ready.is_cancelled = callback, args, False
        ready.context = copy_context() if context is None else context
        self._when = when
        self._timers: Timers | None = timers
        self.seq = timers.start(fire_at, wait, self)

    @property
    def callback(self) -> Callable[..., Any]:
        """What is called when it fires."""
        return self._ready.callback

    @property
    def args(self) -> tuple[Any, ...]:
        """What it is called with."""
        return self._ready.args

    def when(self) -> float:
        """Return when it fires, in seconds on the loop's clock."""
        return self._when / 1000

    def cancel(self) -> None:
        """Give the timer up; harmless when it has fired or was cancelled before."""
        timers, self._timers = self._timers, None
        if timers is not None and not self._ready.cancelled():
            timers.cancel(self.seq)
        self._ready.cancel()

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return self._ready.cancelled()

    def fired(self) -> Handle:
        """Return what is ready to run, because its time has come: a later cancel does not give the
        timer up any more.
        """
        self._timers = None
        return self._ready
