"""What happened: the events of a history. Frozen, in the past tense.

Two kinds make up a history. *Incoming* events arrive from outside and are delivered to the
workflow one at a time; each carries `at`, its time in milliseconds since the epoch. *Recorded*
events are what the workflow's code decided while one incoming event was delivered; they follow it
in the history, in the order in which the code asked for them.

`seq` numbers the operations of a run (tasks, timers) from 1 in the order they were started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload


@dataclass(frozen=True, slots=True)
class ExecutionStarted:
    """The first event of every run. `arguments` encodes ``[[positional...], {keyword...}]``."""

    at: int
    workflow: str
    arguments: Payload
    seed: int
    python: str = ""
    run: int = 1


@dataclass(frozen=True, slots=True)
class TaskCompleted:
    """An attempt returned."""

    at: int
    seq: int
    attempt: int
    result: Payload


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """An attempt failed. As a recorded fact it is the last one; no other follows."""

    at: int
    seq: int
    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class TaskRetryScheduled:
    """An attempt failed and attempt number `attempt` will be made at `retry_at` (milliseconds)."""

    at: int
    seq: int
    attempt: int
    retry_at: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class TaskRetryStarted:
    """The wait before attempt number `attempt` is over; the attempt is dispatched."""

    at: int
    seq: int
    attempt: int


@dataclass(frozen=True, slots=True)
class TaskReleased:
    """A runtime closed in good order before it had begun the attempt; it is dispatched again."""

    at: int
    seq: int
    attempt: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer's time has come."""

    at: int
    seq: int


@dataclass(frozen=True, slots=True)
class ExecutionTerminated:
    """Ended from outside without running any code of the workflow."""

    at: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskScheduled:
    """The workflow started a task. `retry` is the policy as plain JSON, `timeout` milliseconds.

    `refused` counts the calls since the event before this one that could not be captured, so that
    the code got an error instead of a task: a replay must not take such a call for this one.
    """

    seq: int
    name: str
    retry: dict[str, Any] | None = None
    timeout: int | None = None
    refused: int = 0


@dataclass(frozen=True, slots=True)
class InlineTaskCompleted:
    """A task ran inside the turn and returned. `refused` as in TaskScheduled."""

    seq: int
    name: str
    result: Payload
    refused: int = 0


@dataclass(frozen=True, slots=True)
class InlineTaskFailed:
    """A task ran inside the turn and raised. `refused` as in TaskScheduled."""

    seq: int
    name: str
    failure: Failure
    refused: int = 0


@dataclass(frozen=True, slots=True)
class TaskCancelled:
    """The workflow gave a task up; a result that still arrives is recorded and ignored."""

    seq: int


@dataclass(frozen=True, slots=True)
class TimerStarted:
    """The workflow started a timer that fires at `fire_at` (milliseconds since the epoch)."""

    seq: int
    fire_at: int


@dataclass(frozen=True, slots=True)
class TimerCancelled:
    """The workflow gave a timer up before it fired."""

    seq: int


@dataclass(frozen=True, slots=True)
class ExecutionCompleted:
    """The workflow function returned."""

    result: Payload


@dataclass(frozen=True, slots=True)
class ExecutionFailed:
    """An exception escaped the workflow function."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class ExecutionCancelled:
    """A cancellation escaped the workflow function."""

    reason: str = ""


Incoming = (
    ExecutionStarted
    | TaskCompleted
    | TaskFailed
    | TaskRetryScheduled
    | TaskRetryStarted
    | TaskReleased
    | TimerFired
    | ExecutionTerminated
)
Recorded = (
    TaskScheduled
    | InlineTaskCompleted
    | InlineTaskFailed
    | TaskCancelled
    | TimerStarted
    | TimerCancelled
    | ExecutionCompleted
    | ExecutionFailed
    | ExecutionCancelled
)
Event = Incoming | Recorded

INCOMING: Final = frozenset(Incoming.__args__)
RECORDED: Final = frozenset(Recorded.__args__)
CLOSING: Final = frozenset(
    {ExecutionCompleted, ExecutionFailed, ExecutionCancelled, ExecutionTerminated}
)


@dataclass(frozen=True, slots=True)
class Tick:
    """A message, never recorded: the time is `at`; every timer and retry due by then happens."""

    at: int


Message = Incoming | Tick
