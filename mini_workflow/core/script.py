"""Script: the recorded events that a replay is held to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

from mini_workflow.core import events
from mini_workflow.core.events import RECORDED, Event
from mini_workflow.core.where import user_line
from mini_workflow.errors import NonDeterminismError

_INLINE: Final = frozenset({events.InlineTaskCompleted, events.InlineTaskFailed})


def describe(event: Event) -> str:
    """An event in a few words, for an error message: its kind, number and name."""
    parts = [type(event).__name__]
    seq, name = getattr(event, "seq", None), getattr(event, "name", None)
    if seq is not None:
        parts.append(f"#{seq}")
    if name is not None:
        parts.append(repr(name))
    return " ".join(parts)


def _same(recorded: Event, asked: Event) -> bool:
    kinds = {type(recorded), type(asked)}
    if len(kinds) > 1 and not kinds <= _INLINE:
        return False
    fields: tuple[Any, ...] = (getattr(recorded, "seq", None), getattr(recorded, "name", None))
    return fields == (getattr(asked, "seq", None), getattr(asked, "name", None))


class Script:
    """A position in recorded events. What the code asks for must be what stands there."""

    __slots__ = ("_events", "_position", "_python")

    def __init__(self, recorded: Sequence[Event], python: str) -> None:
        self._events = recorded
        self._position = 0
        self._python = python

    def next_incoming(self) -> Event | None:
        """The incoming event at the position, stepping over it; None at the end.

        Raises NonDeterminismError when the code has not asked for something that is recorded.
        """
        if self._position == len(self._events):
            return None
        event = self._events[self._position]
        if type(event) in RECORDED:
            raise NonDeterminismError(
                f"the code no longer matches the history: event {self._position + 1} is "
                f"{describe(event)}, but the workflow's code did not ask for it"
                f"{self._other_python()}"
            )
        self._position += 1
        return event

    def ended(self) -> bool:
        """Whether nothing recorded is left."""
        return self._position == len(self._events)

    def peek(self) -> Event | None:
        """The event at the position, or None at the end."""
        return None if self.ended() else self._events[self._position]

    def expect(self, asked: Event) -> Event:
        """The recorded counterpart of what the code asks for, stepping over it.

        Raises NonDeterminismError when something else is recorded there.
        """
        recorded = self._events[self._position]
        if not _same(recorded, asked):
            expected = (
                describe(recorded)
                if type(recorded) in RECORDED
                else f"nothing more before {describe(recorded)}"
            )
            raise NonDeterminismError(
                f"the code no longer matches the history: event {self._position + 1} says "
                f"{expected}, but the workflow's code asks for {describe(asked)}{user_line()}"
                f"{self._other_python()}"
            )
        self._position += 1
        return recorded

    def _other_python(self) -> str:
        here = python_version()
        if not self._python or self._python == here:
            return ""
        return f"; the history was recorded on Python {self._python}, this is {here}"


def python_version() -> str:
    """The running Python's minor version, as recorded with each execution: asyncio's own order
    of operations differs between them in places."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"
