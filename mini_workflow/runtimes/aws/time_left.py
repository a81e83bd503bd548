"""Tell how long a function may still run, by Lambda's own clock."""

from __future__ import annotations

from typing import Any, Final

from mini_workflow.ports import Clock

UNTOLD: Final = 60_000
"""Milliseconds that count as left where no context tells the time. Our own bound."""


class TimeLeft:
    """Milliseconds until the end of an invocation. `context` is the one that Lambda gives a handler; where it
    does not tell the time, `untold` milliseconds count as left. With `most` there are no more than that, the
    time that the caller has.
    """

    def __init__(
        self, context: Any, clock: Clock, untold: int = UNTOLD, most: int | None = None
    ) -> None:
        self._remaining = getattr(context, "get_remaining_time_in_millis", None)
        self._clock = clock
        self._ends = clock.now() + (untold if most is None else most)
        self._is_limited = most is not None

    @property
    def is_known(self) -> bool:
        """Return whether Lambda tells the time, so that it is no guess."""
        return self._remaining is not None

    def __call__(self) -> int:
        """Return the milliseconds that are left now."""
        if self._remaining is None:
            return self._ends - self._clock.now()
        left = int(self._remaining())
        return min(left, self._ends - self._clock.now()) if self._is_limited else left
