"""Notice that the clock was set, and find the executions that have to plan anew."""

from __future__ import annotations

import logging
from typing import Final

from mini_workflow.core.events import Tick
from mini_workflow.ports import Head

log = logging.getLogger("mini_workflow.engine")

SHOWN: Final = 1_000
"""Milliseconds from which on it is logged that the clock was set back. Our own bound."""

KEPT: Final = 65_536
"""The number of executions that wait for a time and are remembered, those with the latest turns: some 10 MiB.
The others plan anew at their next turn. Our own bound."""

STEADY: Final = 60_000
"""Milliseconds between two looks at the clock above which it may have been set forward. Our own bound."""


class ClockSteps:
    """The time of the last turn of each execution that waits for a time.

    When the clock is set back, executions whose last turn was later than the new time have to plan anew.
    """

    def __init__(self) -> None:
        self.now = 0
        self._steady_since = 0
        self.turns: dict[str, int] = {}
        """By execution: the time of its last turn (milliseconds)."""
        self.to_tell: dict[str, int] = {}
        """By execution that has to plan anew: the milliseconds by which the clock was set back."""

    def look(self, now: int) -> bool:
        """Note the time (milliseconds). Answers whether the clock was set back. A caller that finds that the
        clock went on by no more than `STEADY` may set `now` instead.
        """
        before, self.now = self.now, now
        if now < before:
            later = [name for name, at in self.turns.items() if at > now]
            for name in later:
                self.to_tell[name] = self.to_tell.get(name, 0) + before - now
            if before - now >= SHOWN:
                log.warning(
                    "the clock was set back by %.1f s; executions that plan anew: %d",
                    (before - now) / 1000,
                    len(later),
                )
        if not 0 <= now - before <= STEADY:
            self._steady_since = now
        return now < before

    def committed(self, head: Head) -> None:
        """Note a committed turn of an execution."""
        name, turns = head.execution_id, self.turns
        self.to_tell.pop(name, None)
        # Taken out and put in again it is the youngest; the oldest make room.
        turns.pop(name, None)
        if head.wake_at is not None:
            turns[name] = self.now
            if len(turns) > KEPT:
                del turns[next(iter(turns))]

    def forget(self, execution_id: str) -> None:
        """Forget an execution that is not held here any more."""
        self.turns.pop(execution_id, None)
        self.to_tell.pop(execution_id, None)

    def tick(self, execution_id: str) -> Tick:
        """Return the message to an execution whose time may have come, or that has to plan anew."""
        return Tick(self.now, self.to_tell.get(execution_id, 0), self._steady_since)
