"""TimeLeft: how long a function may still run, as Lambda tells it."""

from __future__ import annotations

from typing import Any, Final

from mini_workflow.ports import Clock

UNTOLD: Final = 60_000
"""Milliseconds that are taken to be left where no context says so. Our own bound."""


class TimeLeft:
    """Milliseconds until the end of an invocation. `context` is what Lambda gives a handler, and
    `untold` what is taken to be left where it does not say.
    """

    def __init__(self, context: Any, clock: Clock, untold: int = UNTOLD) -> None:
        self._remaining = getattr(context, "get_remaining_time_in_millis", None)
        self._clock = clock
        self._ends = clock.now() + untold

    @property
    def told(self) -> bool:
        """Whether Lambda says so, or it is a guess."""
        return self._remaining is not None

    def __call__(self) -> int:
        """Return how many there are now."""
        if self._remaining is not None:
            return int(self._remaining())
        return self._ends - self._clock.now()
