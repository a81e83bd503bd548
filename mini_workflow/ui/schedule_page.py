"""Schedule page: what starts executions by itself, when it did so last, and when it will."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mini_workflow.engine.schedules import Schedule, ScheduleDescription
from mini_workflow.ui import words

SCHEDULE_ACTIONS: Final[dict[str, Callable[[Schedule], Any]]] = {
    "pause": lambda schedule: schedule.pause("on the page"),
    "resume": lambda schedule: schedule.resume(),
    "trigger": lambda schedule: schedule.trigger(),
}
"""What can be asked of a schedule on its row."""


@dataclass(frozen=True, slots=True)
class ScheduleLine:
    """A schedule in the list."""

    description: ScheduleDescription
    following: str

    @classmethod
    def of(cls, schedule: Schedule, now: datetime) -> ScheduleLine:
        """Return the line of a schedule."""
        found = schedule.describe()
        following = words.ago(found.next[0], now) if found.next else ""
        return cls(found, following)
