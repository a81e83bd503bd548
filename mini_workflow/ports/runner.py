"""Declare what the engine asks of a runner of tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, runtime_checkable

from mini_workflow.core.codec import CapturedCall
from mini_workflow.core.records import record


@record
class TaskRequest:
    """One attempt to run. `payload` is the captured call as the codec of the runtime has made it (bytes
    wherever it may leave the process), `timeout` milliseconds from its start.

    `heartbeat_timeout` are the milliseconds that it may be silent, from its start and from each
    heartbeat. `heartbeat` are the details, as JSON text, that the attempts before gave last.
    `worker` names the worker that is to run it; empty is the default one. `headers` are those of the
    execution, None if it has none. `scheduled_at` is when it was to be made (milliseconds since the epoch),
    0 if that is not known.
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
        """What identifies the attempt."""
        return (self.execution_id, self.seq, self.attempt)


@record
class TaskOutcome:
    """The outcome of an attempt: `result` is JSON text, or `failure` a Failure as plain JSON.

    With a failure, `heartbeat` are the details that the attempt gave last, as JSON text, or None
    if it gave none. It really began `begun` (milliseconds since the epoch; 0 if that is not known) on the
    worker `ran_on`.
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
        """What identifies the attempt."""
        return (self.execution_id, self.seq, self.attempt)


Report = Callable[[TaskOutcome], None]
"""Takes an outcome to the engine; callable from any thread, never blocks, never raises."""


class HandIn(Protocol):
    """A Report that may keep the calling thread for a while to do the engine's work."""

    def __call__(self, outcome: TaskOutcome, /, *, more: bool = False) -> None:
        """Take an outcome. With `more` others are about to come, since attempts wait for a thread."""
        ...


@runtime_checkable
class NamedWorkerRunner(Protocol):
    """A TaskRunner that serves some workers, and has other processes run the attempts of others."""

    def unserved(self, execution_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Return the names of the workers that attempts of these executions wait for and nobody serves, in
        order, for each that has some. Any thread. Raises StoreError.
        """
        ...

    def kept(self) -> list[tuple[str, int, int]]:
        """Return the attempts of what this owner holds that are with other processes, or on the way to or
        from them: they are not lost, whoever has submitted them.
        """
        ...

    def look(self) -> None:
        """Look at the store, which another process may have changed. Does not wait. Any thread."""
        ...


@record
class AttemptCounts:
    """The attempts that a runner has, and those that it has had: how many `run` and `wait` now, how many have
    `begun` and after how many seconds in all and at most, and how many have `ended` and how long they ran.
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
        """Return how many there are and were. Any thread."""
        ...


class TaskRunner(Protocol):
    """Runs attempts of tasks, away from who leads the engine.

    Made with a `Report`. Each submitted attempt is reported exactly once: completed, failed, timed
    out (TaskTimeout, also when its heartbeat is missing) or lost (WorkerLost) - unless it was
    handed back by `close`.
    """

    def submit(self, request: TaskRequest) -> None:
        """Run the attempt as soon as there is room. Never blocks."""
        ...

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        """Cancel a task for which nobody waits: stop it if that is possible. Still reported once.

        `reason` is told to the task.
        """
        ...

    def holds(self, key: tuple[str, int, int]) -> bool:
        """Return whether an attempt was submitted here, and has neither been reported nor handed
        back. Never blocks. An attempt that it does not hold, and that was not reported before,
        counts as lost.
        """
        ...

    def close(self, grace: float) -> list[TaskRequest]:
        """Stop: tell the attempts that have begun that they shall end, and wait up to `grace` seconds
        for them, reporting them as usual.

        Answers the attempts that had not begun, and those that had and did not end in time, or
        ended because they were told to: these are not reported. The `heartbeat` of what is
        answered are the details that the attempt gave last, or those before it.

        No thread or process of the runner's own is left behind, except a thread that runs a task
        which does not end.
        """
        ...
