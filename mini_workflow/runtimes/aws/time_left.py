"""Tell how long a function may still run, by Lambda's own clock."""

from __future__ import annotations

from typing import Any, Final

from mini_workflow.ports import Clock

UNTOLD: Final = 60_000
"""Milliseconds that are taken to be left where no context says so. Our own bound."""


class TimeLeft:
    """Milliseconds until the end of an invocation. `context` is what Lambda gives a handler, and
    `untold` what is taken to be left where it does not say. There are no more than `most`, which is
    what whoever waits for the answer has.
    """

    def __init__(
        self, context: Any, clock: Clock, untold: int = UNTOLD, most: int | None = None
    ) -> None:
        self._remaining = getattr(context, "get_remaining_time_in_millis", None)
        self._clock = clock
        self._ends = clock.now() + (untold if most is None else most)
        self._is_limited = most is not None

    @property
    def told(self) -> bool:
        """Whether Lambda says so, or it is a guess."""
        return self._remaining is not None

    def __call__(self) -> int:
        """Return how many there are now."""
        if self._remaining is None:
            return self._ends - self._clock.now()
        left = int(self._remaining())
        return min(left, self._ends - self._clock.now()) if self._is_limited else left
