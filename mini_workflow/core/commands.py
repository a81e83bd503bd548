"""What to do: the commands of a decision. Frozen, imperative, sent only after the commit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunTask:
    """Run one attempt of a task. `payload` is the captured call, `timeout` milliseconds."""

    seq: int
    attempt: int
    name: str
    payload: bytes
    timeout: int | None
    is_async: bool


@dataclass(frozen=True, slots=True)
class CancelTask:
    """Tell whoever runs the task that nobody waits for it any more."""

    seq: int


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Deliver a TimerFired at `fire_at` (milliseconds since the epoch), never earlier."""

    seq: int
    fire_at: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """A timer is not needed any more; it may still fire, to no effect."""

    seq: int


Command = RunTask | CancelTask | StartTimer | CancelTimer
