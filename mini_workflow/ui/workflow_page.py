"""Show counts and recent executions of each workflow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from mini_workflow.core.records import frozen
from mini_workflow.engine.client import Client
from mini_workflow.engine.picture import words
from mini_workflow.engine.picture.operations import Operation, course_of
from mini_workflow.errors import MiniWorkflowError, UsageError
from mini_workflow.ports import CLOSED, Status
from mini_workflow.workflow import REGISTRY

WINDOWS: Final = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}
"""The times that are looked at, by the start of executions."""

NEWEST: Final = 500
"""So many of the newest executions are looked at for the names of workflows."""

WORKFLOWS: Final = 50
"""Workflows on a page."""

SAMPLE: Final = 200
"""So many of the latest that have completed are looked at for durations: the page says so."""

HISTORIES: Final = 10
"""So many histories are read for the slowest tasks of one workflow."""

SHORTEST: Final = 10.0
LONGEST: Final = 30 * 86_400_000.0
"""The ends of the scale of durations, in milliseconds."""


@frozen
class WorkflowLine:
    """A workflow in the list: the numbers of executions, of those started in the time that is looked at, that
    are open, have failed and have closed; and the durations of the completed ones, in milliseconds.
    """

    name: str
    running: int
    blocked: int
    closed: int
    failed: int
    sample: int
    p50: float | None
    p95: float | None

    @property
    def rate(self) -> float:
        """The failed executions in percent of the closed ones."""
        return 100 * self.failed / self.closed if self.closed else 0.0

    @property
    def places(self) -> tuple[float, float]:
        """The places of the durations on the scale, in percent."""
        return place_of(self.p50 or 0), place_of(self.p95 or 0)


@frozen
class TaskLine:
    """A task of a workflow: how many of it were `made` and failed, its attempts, and its durations in
    milliseconds.
    """

    name: str
    made: int
    failed: int
    attempts: int
    p50: float
    p95: float
    slowest: float
    slowest_in: str
    slowest_key: str


@frozen
class WorkflowPage:
    """One workflow: its line, its slowest tasks, and the number of histories read for them."""

    line: WorkflowLine
    tasks: list[TaskLine]
    histories: int


def window_of(asked: Mapping[str, str]) -> str:
    """Return the time that an address asks for. Raises UsageError."""
    name = asked.get("t", "day")
    if name not in WINDOWS:
        raise UsageError(f"t={name!r}: choose one of {', '.join(WINDOWS)}")
    return name


def lines_of_workflows(
    client: Client, window: str, now: datetime
) -> tuple[list[WorkflowLine], int]:
    """Return the workflows, by the rate of failures, and the number of other ones."""
    known = dict.fromkeys(one.workflow for one in client.list_executions(limit=NEWEST))
    # One that is defined here and has no executions has nothing to tell, and the library's own are schedules.
    names = [name for name in (*known, *REGISTRY.names()) if not name.startswith("mini_workflow")]
    names = list(dict.fromkeys(names))
    lines = [line_of_workflow(client, name, window, now) for name in names[:WORKFLOWS]]
    lines.sort(key=lambda one: (-one.rate, -one.failed, -(one.running + one.blocked), one.name))
    return lines, max(0, len(names) - WORKFLOWS)


def line_of_workflow(client: Client, name: str, window: str, now: datetime) -> WorkflowLine:
    """Return the line of a workflow. All is counted in the index but for the durations."""
    since = now - WINDOWS[window]

    def count(status: Status, **others: Any) -> int:
        return client.count_executions(workflow=name, status=status, **others)

    closed = {status: count(status, started_after=since) for status in CLOSED}
    took = _durations(client, name, since)
    return WorkflowLine(
        name,
        count("running"),
        count("blocked"),
        sum(closed.values()),
        closed["failed"],
        len(took),
        quantile(took, 0.5),
        quantile(took, 0.95),
    )


def _durations(client: Client, name: str, since: datetime) -> list[float]:
    found = client.list_executions(
        workflow=name, status="completed", started_after=since, limit=SAMPLE
    )
    return sorted(
        (one.closed_at - one.started_at) / timedelta(milliseconds=1)
        for one in found
        if one.closed_at is not None
    )


def page_of_workflow(client: Client, name: str, window: str, now: datetime) -> WorkflowPage:
    """Return one workflow with its slowest tasks, of a few histories of the latest executions."""
    line = line_of_workflow(client, name, window, now)
    since = now - WINDOWS[window]
    tasks: dict[str, list[tuple[Operation, str]]] = {}
    looked = 0
    for one in client.list_executions(workflow=name, started_after=since, limit=HISTORIES):
        try:
            course = course_of(client.get_execution(one.id).timeline())
        except MiniWorkflowError:
            continue  # it was deleted meanwhile, or cannot be read: its own page says so
        looked += 1
        for made in course.operations:
            if made.kind == "task":
                tasks.setdefault(made.name, []).append((made, one.id))
    lines = [_task(name, made) for name, made in tasks.items()]
    lines.sort(key=lambda one: -one.p95)
    return WorkflowPage(line, lines[:WORKFLOWS], looked)


def _task(name: str, made: Sequence[tuple[Operation, str]]) -> TaskLine:
    ended = [(one.ended - one.started, one, where) for one, where in made if one.ended is not None]
    took = sorted(float(lasted) for lasted, *_ in ended)
    slowest = max(ended, key=lambda one: one[0], default=None)
    return TaskLine(
        name,
        len(made),
        sum(one.state == "failed" for one, _ in made),
        sum(one.attempts for one, _ in made),
        quantile(took, 0.5) or 0.0,
        quantile(took, 0.95) or 0.0,
        took[-1] if took else 0.0,
        slowest[2] if slowest else "",
        slowest[1].key if slowest else "",
    )


def quantile(ordered: Sequence[float], part: float) -> float | None:
    """Return the value below which a part of the ordered values lies, None if there are none."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


def place_of(milliseconds: float) -> float:
    """Return the place of a duration on the logarithmic scale, in percent."""
    within = min(max(milliseconds, SHORTEST), LONGEST)
    return 100 * math.log(within / SHORTEST) / math.log(LONGEST / SHORTEST)


SCALE: Final = [
    (place_of(one), words.span(one))
    for one in (SHORTEST, 1000.0, 60_000.0, 3_600_000.0, 86_400_000.0, LONGEST)
]
"""Durations to write over the scale, with their places."""
