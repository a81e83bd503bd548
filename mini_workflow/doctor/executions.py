"""Find executions that are blocked, late or slow, and say what to do about each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mini_workflow.core.events import TaskRetryStarted, TaskScheduled
from mini_workflow.doctor.findings import Finding
from mini_workflow.engine.client import Client
from mini_workflow.engine.description import Description
from mini_workflow.engine.instants import duration
from mini_workflow.runners.routed import worker_message

NEWEST: Final = 1_000
"""How many running executions, and how many blocked ones, are examined."""

OVERDUE: Final = timedelta(seconds=60)
"""How late a wake-up may be before it counts as a sign that the worker hangs."""

LONG: Final = timedelta(hours=1)
"""How long an attempt of a task may run before it is worth a look."""

_NAMED: Final = 5
"""How many of the executions that wait for the same worker are named."""

REMEDIES: Final[dict[str, str]] = {
    "UnknownWorkflow": "run a worker that imports the module which defines it: "
    "mini-workflow worker MODULE; it goes on by itself",
    "NonDeterminismError": "mini-workflow replay {id} MODULE shows both sides; change the code with "
    "ctx.patched, then mini-workflow resume {id}",
    "HistoryTooLong": "let the workflow call ctx.continue_as_new(), or raise history_limit, then "
    "mini-workflow resume {id}",
    "TurnTimeout": "do long work in a task; mini-workflow replay {id} MODULE runs into the line, "
    "and mini-workflow resume {id} continues it",
    "ExecutionPaused": "an operator has paused it; mini-workflow resume {id} continues it",
    "SchemaTooNew": "upgrade mini-workflow where it runs, then mini-workflow resume {id}",
    "PythonVersionMismatch": "run it on the Python version that the message names, then "
    "mini-workflow resume {id}",
}
REMEDY: Final = (
    "mini-workflow replay {id} MODULE shows the line; fix it, then mini-workflow resume {id}"
)


def examine_executions(
    client: Client, place: str, limit: int = NEWEST, *, served: bool = True
) -> Iterator[Finding]:
    """Find problems of the newest running executions and of the newest blocked ones, `limit` of each.

    `place` names the store for people. `served` says that a worker runs its executions. Raises StoreError.
    """
    running = client.list_executions(status="running", limit=limit)
    blocked = client.list_executions(status="blocked", limit=limit)
    yield Finding("ok", f"the store answers; running: {len(running)}, blocked: {len(blocked)}")
    if running and not served:
        yield Finding(
            "problem",
            f"no worker is running for {place}, and executions wait for one: {len(running)}",
            "start one: mini-workflow worker MODULE",
        )
    for one in blocked:
        remedy = REMEDIES.get(one.blocked_kind or "", REMEDY).format(id=one.id)
        yield Finding(
            "problem", f"{one.id} ({one.workflow}) is blocked: {one.blocked_reason}", remedy, one.id
        )
    if not served:
        return
    yield from _examine_workers(running)
    now = datetime.now(UTC)
    for one in running:
        if one.next_wake_at is not None and now - one.next_wake_at > OVERDUE:
            yield Finding(
                "problem",
                f"{one.id} ({one.workflow}) should have gone on {duration(now - one.next_wake_at)} "
                "ago",
                "its worker hangs or cannot write: look at the worker's log, and restart it",
                one.id,
            )
        elif one.busy and now - one.started_at > LONG:
            yield from _examine_tasks(client, one, now)


def _examine_workers(running: Sequence[Description]) -> Iterator[Finding]:
    """Find the workers that tasks wait for and no process serves: one finding for each."""
    waiting: dict[str, list[str]] = {}
    for one in running:
        for worker in one.unserved:
            waiting.setdefault(worker, []).append(one.id)
    for worker, names in sorted(waiting.items()):
        yield Finding(
            "problem",
            f"tasks wait for worker {worker!r}, which no process serves, of executions: {len(names)} "
            f"({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})",
            worker_message(worker),
            names[0],
        )


def _examine_tasks(client: Client, one: Description, now: datetime) -> Iterator[Finding]:
    history = client.history(one.id)
    at = history.started.at
    begun: dict[int, int] = {}
    for event in history:
        at = getattr(event, "at", at)
        if isinstance(event, (TaskScheduled, TaskRetryStarted)):
            begun[event.seq] = at
    tasks: dict[int, Any] = history.state().tasks
    for seq, task in tasks.items():
        took = now - datetime.fromtimestamp(begun.get(seq, at) / 1000, UTC)
        if task.retry_at is None and took > LONG:
            what = f"attempt {task.attempt} of task #{seq} {task.name!r}"
            state, hint = (
                "has been running",
                "give the task a timeout= or a heartbeat_timeout=, if it hangs",
            )
            if task.worker:
                state = f"has been with worker {task.worker!r}, or waiting for it,"
                hint = f"if nobody serves it, {task_message(task.worker)}; else {hint}"
            yield Finding(
                "problem",
                f"{one.id} ({one.workflow}): {what} {state} for {duration(took)}",
                hint,
                one.id,
            )


def task_message(worker: str) -> str:
    """Return the remedy for tasks of a worker that nobody serves, on AWS and elsewhere."""
    return f"add it to the component's workers on AWS; elsewhere {worker_message(worker)}"
