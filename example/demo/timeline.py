"""A history as lines to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mini_workflow.core.history import History


def timeline(history: History) -> Iterator[str]:
    """One line per event, with the seconds since the execution was started."""
    start = now = history.started.at
    names: dict[int, str] = {}
    for event in history:
        now = getattr(event, "at", now)  # a decision is as old as the event it answers
        parts = list(_parts(event, now, names))
        line = f"{(now - start) / 1000:8.3f} s  {type(event).__name__:<18}  {', '.join(parts)}"
        yield line.rstrip()


def _parts(event: Any, now: int, names: dict[int, str]) -> Iterator[str]:
    """What there is to say of an event; operations (tasks and timers) are numbered by `seq`."""
    seq = getattr(event, "seq", None)
    if seq is None:
        name = getattr(event, "workflow", None)
    else:
        name = names.setdefault(seq, getattr(event, "name", "timer"))
        name = f"{seq} {name}"
    if name is not None:
        yield name
    if getattr(event, "attempt", 1) > 1:
        yield f"attempt {event.attempt}"
    if hasattr(event, "fire_at"):
        yield f"{(event.fire_at - now) / 1000:g} s"
    if (failure := getattr(event, "failure", None)) is not None:
        yield failure.message
