"""Show the schedules: when they started executions, when they will, and the actions on them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from mini_workflow.core.records import frozen
from mini_workflow.engine.client import Client
from mini_workflow.engine.picture import words
from mini_workflow.engine.schedules import Schedule, ScheduleDescription
from mini_workflow.errors import MiniWorkflowError, UsageError
from mini_workflow.ui.forms import Form

SCHEDULES: Final = 100
"""Schedules on a page: each is asked how it stands."""

ANSWER: Final = 10.0
"""Seconds that a page waits for the answer of a schedule."""


@frozen
class ScheduleAction:
    """An action on a schedule: the text of its button, its call, and the fields that a person fills in, of
    ``reason``, ``start`` and ``end``; an action without fields is done at once.
    """

    label: str
    does: str
    do: Callable[[Schedule, Form], Any]
    fields: tuple[str, ...] = ()


def _time_in(form: Form, field: str) -> datetime:
    text = form.get(field, "").strip()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{field}={text!r}: give a time such as 2030-01-31T02:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _backfill(schedule: Schedule, form: Form) -> None:
    schedule.backfill(_time_in(form, "start"), _time_in(form, "end"))


SCHEDULE_ACTIONS: Final = {
    "pause": ScheduleAction(
        "Pause…",
        "It starts nothing by its plan until it is resumed. Times in the pause are not made up for.",
        lambda schedule, form: schedule.pause(form.get("reason", "")),
        ("reason",),
    ),
    "resume": ScheduleAction(
        "Resume", "It goes on with the next time.", lambda schedule, form: schedule.resume()
    ),
    "trigger": ScheduleAction(
        "Trigger",
        "It starts an execution now, beside its plan.",
        lambda schedule, form: schedule.trigger(),
    ),
    "backfill": ScheduleAction(
        "Backfill…",
        "It starts the executions of its plan between two times, one after the other. A time whose execution "
        "was started before is left out.",
        _backfill,
        ("start", "end"),
    ),
}
"""What can be asked of a schedule."""


@frozen
class ScheduleLine:
    """A schedule in the list. A schedule that does not answer has an error in place of a description."""

    id: str
    description: ScheduleDescription | None
    following: str
    problem: str = ""

    @classmethod
    def of(cls, schedule: Schedule, now: datetime) -> ScheduleLine:
        """Return the line of a schedule."""
        try:
            found = schedule.describe()
        except (MiniWorkflowError, TimeoutError) as error:
            return cls(schedule.id, None, "", f"{type(error).__name__}: {error}")
        following = words.ago(found.next[0], now) if found.next else ""
        return cls(schedule.id, found, following)

    @property
    def can(self) -> list[str]:
        """The actions that it takes now."""
        paused = self.description is not None and self.description.paused
        return [name for name in SCHEDULE_ACTIONS if name != ("pause" if paused else "resume")]


def lines_of_schedules(client: Client, now: datetime) -> tuple[list[ScheduleLine], int]:
    """Return the schedules, the newest first, and how many more there are."""
    found = client.schedules.list()
    shown = [client.schedules.get(one.id, timeout=ANSWER) for one in found[:SCHEDULES]]
    return [ScheduleLine.of(one, now) for one in shown], max(0, len(found) - SCHEDULES)
