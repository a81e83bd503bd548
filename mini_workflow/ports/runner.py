"""Declare the port of a runner of tasks: the attempts that the engine gives it, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, runtime_checkable

from mini_workflow.core.codec import CapturedCall
from mini_workflow.core.records import record


@record
class TaskRequest:
    """One attempt to run.

    `payload` is the captured call as the codec of the runtime has made it: bytes wherever it may leave the
    process. `timeout` is the time it may run, and `heartbeat_timeout` the time it may be silent, from its
    start and from each heartbeat, both in milliseconds. `heartbeat` is the last JSON text that an attempt
    before gave with a heartbeat. `worker` names the worker that is to run it; empty is the default worker.
    `headers` are those of the execution, None if it has none. `scheduled_at` is the time for which the
    attempt was planned (milliseconds since the epoch), 0 if that is not known.
    """

    execution_id: str
    seq: int
    attempt: int
    name: str
    payload: CapturedCall
    timeout: int | None = None
    is_async: bool = False
    heartbeat_timeout: int | None = None
    heartbeat: str | None = None
    worker: str = ""
    headers: dict[str, str] | None = None
    scheduled_at: int = 0

    @property
    def key(self) -> tuple[str, int, int]:
        """The key of the attempt: (execution id, sequence number of the task, attempt number)."""
        return (self.execution_id, self.seq, self.attempt)


@record
class TaskOutcome:
    """The outcome of an attempt: `result` is JSON text, or `failure` a Failure as plain JSON.

    With a failure, `heartbeat` is the last JSON text that the attempt gave with a heartbeat, or None if it
    gave none. The attempt began at `begun` (milliseconds since the epoch; 0 if that is not known) on the
    worker `ran_on`, which is empty if that is not known.
    """

    execution_id: str
    seq: int
    attempt: int
    result: str | None = None
    failure: dict[str, object] | None = None
    heartbeat: str | None = None
    begun: int = 0
    ran_on: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        """The key of the attempt: (execution id, sequence number of the task, attempt number)."""
        return (self.execution_id, self.seq, self.attempt)


Report = Callable[[TaskOutcome], None]
"""Takes an outcome to the engine; callable from any thread, never blocks, never raises."""


class HandIn(Protocol):
    """A Report that may keep the calling thread for a while to do the engine's work."""

    def __call__(self, outcome: TaskOutcome, /, *, more: bool = False) -> None:
        """Take an outcome. With `more` others are about to follow, since attempts wait for a thread."""
        ...


@runtime_checkable
class NamedWorkerRunner(Protocol):
    """A TaskRunner that serves some workers, and gives attempts for other workers to other processes."""

    def unserved(self, execution_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Return, for each of these executions whose attempts wait for workers that nobody serves, the names
        of these workers in order. Any thread. Raises StoreError.
        """
        ...

    def kept(self) -> list[tuple[str, int, int]]:
        """Return the keys of the attempts that other processes have, or that are on the way to or from them,
        for the executions that this owner holds. They are not lost, also if another runner has submitted
        them.
        """
        ...

    def look(self) -> None:
        """Look at the store, which another process may have changed. Does not wait. Any thread."""
        ...


@record
class AttemptCounts:
    """Counts of the attempts of a runner.

    `run` and `wait` count those that run and wait now. `begun` counts all that have begun; they waited
    `waited` seconds in all before, and `longest_wait` at most. `ended` counts all that have ended; they ran
    `ran` seconds in all, and `longest_run` at most.
    """

    run: int = 0
    wait: int = 0
    begun: int = 0
    waited: float = 0.0
    longest_wait: float = 0.0
    ended: int = 0
    ran: float = 0.0
    longest_run: float = 0.0

    def __add__(self, other: AttemptCounts) -> AttemptCounts:
        return AttemptCounts(
            self.run + other.run,
            self.wait + other.wait,
            self.begun + other.begun,
            self.waited + other.waited,
            max(self.longest_wait, other.longest_wait),
            self.ended + other.ended,
            self.ran + other.ran,
            max(self.longest_run, other.longest_run),
        )


@runtime_checkable
class CountingRunner(Protocol):
    """A TaskRunner that counts its attempts."""

    def counts(self) -> AttemptCounts:
        """Return the counts as of now. Any thread."""
        ...


class TaskRunner(Protocol):
    """Runs attempts of tasks, away from the thread that leads the engine.

    A runner is made with a `Report`. It reports each submitted attempt exactly once: completed, failed,
    timed out (TaskTimeout, also when its heartbeat is missing) or lost (WorkerLost); `close` hands back the
    others.
    """

    def submit(self, request: TaskRequest) -> None:
        """Run the attempt as soon as there is room. Never blocks."""
        ...

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        """Cancel a task for which nobody waits: stop its attempt if that is possible. The attempt is still
        reported once. `reason` is told to the task.
        """
        ...

    def holds(self, key: tuple[str, int, int]) -> bool:
        """Return whether the attempt with this key was submitted here, and has neither been reported nor
        handed back. Never blocks. An attempt that the runner does not hold, and that was not reported
        before, counts as lost.
        """
        ...

    def close(self, grace: float) -> list[TaskRequest]:
        """Stop: tell the running attempts to end, and wait up to `grace` seconds for them, reporting those
        that end as usual.

        Hands back, and does not report, the attempts that had not begun, and those that did not end in time
        or ended because they were told to. The `heartbeat` of an attempt that is handed back is the JSON
        text that it gave last, or that the attempts before it gave.

        No thread or process of the runner is left behind, except a thread whose task does not end.
        """
        ...
