"""Count the work of an engine, its latency and its failures."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from datetime import datetime

from mini_workflow.core import events
from mini_workflow.core.records import frozen
from mini_workflow.engine.turn_data import Turn


@frozen
class Latency:
    """Durations of one kind: how many were measured, their sum and the longest, in seconds."""

    count: int = 0
    sum: float = 0.0
    max: float = 0.0

    @property
    def mean(self) -> float:
        """The average in seconds; 0 if none was measured."""
        return self.sum / self.count if self.count else 0.0


@frozen
class Metrics:
    """The state of a runtime at a moment.

    `executions` counts the executions in the store, by status, whichever process runs them; paused ones count
    as blocked. All else is about this process, `since` it has opened the runtime.

    `tasks_running` and `tasks_waiting` count attempts that run now, and that wait for a thread, a process or
    a worker. `attempts` counts those that have ended, `retries` the failures that another attempt follows,
    and `failed_tasks` the failures of last attempts. `blocked` counts how often an execution was blocked or
    paused.

    `queue_wait` is the time that attempts have waited until they began, `task_time` the time that they then
    ran, and `execution_time` the time from start to end of executions that have closed here.

    `turns` counts committed turns, `commits` the commits that they took, and `cached` the executions in
    memory.
    """

    since: datetime
    executions: Mapping[str, int]
    tasks_running: int
    tasks_waiting: int
    attempts: int
    retries: int
    failed_tasks: int
    blocked: int
    queue_wait: Latency
    task_time: Latency
    execution_time: Latency
    turns: int
    commits: int
    cached: int

    def to_prometheus(self) -> str:
        """Return the same as text in the exposition format of Prometheus."""
        lines = [executions_text(self.executions)]

        def add(name: str, kind: str, *samples: tuple[str, float]) -> None:
            lines.append(f"# TYPE mini_workflow_{name} {kind}")
            lines.extend(f"mini_workflow_{name}{label} {value:.15g}" for label, value in samples)

        for name in ("tasks_running", "tasks_waiting", "cached"):
            add(name, "gauge", ("", getattr(self, name)))
        for name in ("attempts", "retries", "failed_tasks", "blocked", "turns", "commits"):
            add(f"{name}_total", "counter", ("", getattr(self, name)))
        for name in ("queue_wait", "task_time", "execution_time"):
            one: Latency = getattr(self, name)
            add(f"{name}_seconds", "summary", ("_sum", one.sum), ("_count", one.count))
            add(f"{name}_seconds_max", "gauge", ("", one.max))
        return "\n".join(lines) + "\n"


def executions_text(counts: Mapping[str, int]) -> str:
    """Return the number of executions of each status, as text in the exposition format of Prometheus."""
    lines = ["# TYPE mini_workflow_executions gauge"]
    lines += [f'mini_workflow_executions{{status="{name}"}} {n}' for name, n in counts.items()]
    return "\n".join(lines)


class TurnCounts:
    """The counts of an engine: its `turns` and `commits`, and the failures, retries, blocks and ends in those
    turns.
    """

    __slots__ = (
        *(
            "_cache",
            "blocked",
            "closed",
            "commits",
            "failed",
            "longest",
            "retries",
            "total",
            "turns",
        ),
    )

    def __init__(self, cache: Sized) -> None:
        self._cache = cache
        self.turns = self.commits = 0
        self.blocked = 0
        self.failed = 0
        self.retries = 0
        self.closed = 0
        self.total = 0
        """Milliseconds that the executions which have closed took, all together."""
        self.longest = 0

    def add(self, turn: Turn) -> None:
        """Count a turn that was committed."""
        head = turn.head
        if turn.failed and turn.decision is not None:
            kinds = list(map(type, turn.decision.events))
            self.retries += kinds.count(events.TaskRetryScheduled)
            self.failed += kinds.count(events.TaskFailed)
        if head.status == "blocked" and turn.commit.head is not None:
            self.blocked += 1
        if turn.closing is not None and head.closed_at is not None:
            took = max(0, head.closed_at - head.started_at)
            self.closed += 1
            self.total += took
            self.longest = max(self.longest, took)

    @property
    def cached(self) -> int:
        """The number of executions in memory."""
        return len(self._cache)

    @property
    def latency(self) -> Latency:
        """The time that executions took which have closed."""
        return Latency(self.closed, self.total / 1_000, self.longest / 1_000)
