"""Assert which events a history has, in order, with gaps for events that do not matter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import EllipsisType
from typing import Any

from mini_workflow.core.events import Event
from mini_workflow.engine.execution import Execution

Expected = str | EllipsisType


def summary(event: Event) -> str:
    """Return an event in short: its kind, and the name of its task, signal or other operation, if any."""
    name = getattr(event, "name", "")
    return f"{type(event).__name__} {name}" if name else type(event).__name__


def assert_history(history: Execution[Any] | Iterable[Event], expected: Sequence[Expected]) -> None:
    """Assert that a history has these events, in this order.

    Args:
        history: an execution, or its history.
        expected: the events in short: the kind, then a space and the name of a task, signal, update,
            promise, child or patch, which may be left out. ``...`` stands for any number of events.

    Raises:
        AssertionError: the history has other events; the message shows both.
    """
    events = list(history.history() if isinstance(history, Execution) else history)
    if not _fits(events, expected):
        wanted = "\n".join("  ..." if one is ... else f"  {one}" for one in expected)
        found = "\n".join(f"  {summary(event)}" for event in events)
        raise AssertionError(f"expected these events:\n{wanted}\nbut the history has:\n{found}")


def _fits(events: Sequence[Event], expected: Sequence[Expected]) -> bool:
    """Match like a pattern: follow all ways to fill the gaps at the same time."""
    reachable = {0}
    for one in expected:
        if one is ...:
            reachable = set(range(min(reachable), len(events) + 1))
        else:
            reachable = {at + 1 for at in reachable if at < len(events) and _is(events[at], one)}
        if not reachable:
            return False
    return len(events) in reachable


def _is(event: Event, expected: object) -> bool:
    return expected in (type(event).__name__, summary(event))
