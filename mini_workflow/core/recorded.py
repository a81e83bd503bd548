"""Compare what the code asks for in a replay with the recorded events."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NoReturn

from mini_workflow.core import events
from mini_workflow.core.calls import LAMBDA
from mini_workflow.core.comparison import COMPARED, Comparison
from mini_workflow.core.events import RECORDED, Event
from mini_workflow.core.records import defaults_of
from mini_workflow.core.state import ExecutionState
from mini_workflow.errors import NonDeterminismError
from mini_workflow.loop.source_line import line_of

INLINE: Final = (events.InlineTaskCompleted, events.InlineTaskFailed)
_INLINE: Final = frozenset(INLINE)
_PYTHON: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
_TASKS: Final = frozenset({events.TaskScheduled, *INLINE})


def describe(event: Event) -> str:
    """Return an event in a few words for an error message: its kind, number and name."""
    parts = [type(event).__name__]
    seq, name = getattr(event, "seq", None), getattr(event, "name", None)
    if seq is not None:
        parts.append(f"#{seq}")
    if name is not None:
        parts.append(repr(name))
    if (failure := getattr(event, "failure", None)) is not None:
        parts.append(f"({failure.type.rpartition(':')[2]}: {failure.message})")
    if refused := getattr(event, "refused", 0):
        parts.append(f"after {refused} that could not be captured")
    return " ".join(parts)


def _same(recorded: Event, asked: Event) -> bool:
    kind = type(asked)
    if type(recorded) is not kind and not (type(recorded) in _INLINE and kind in _INLINE):
        return False
    identity = _IDENTITY[kind]
    return identity is None or identity(recorded) == identity(asked)


def _identity(kind: type[Event]) -> attrgetter[Any] | None:
    """Return a function that reads the fields which are equal in two events of the same operation."""
    names = [name for name in defaults_of(kind) if name in ("seq", "name", "refused")]
    if kind is events.AskSent:
        names.append("kind")
    return attrgetter(*names) if names else None


_IDENTITY: Final = {kind: _identity(kind) for kind in RECORDED}


class RecordedEvents:
    """A position in recorded events. Each event that the code asks for must be the one at the position.

    `python` is the version that recorded them. `place` returns, for an error, the line of the code.
    """

    __slots__ = (
        "_comparison",
        "_events",
        "_place",
        "_position",
        "_python",
        "open_tasks",
        "patches",
    )

    def __init__(
        self,
        recorded: Sequence[Event],
        python: str,
        place: Callable[[], str],
        comparison: Comparison,
    ) -> None:
        """Raise WireError if the events are not a possible history."""
        end = ExecutionState.of(recorded)
        self.open_tasks = frozenset(end.tasks)
        """The numbers of the tasks that are open at the end. Only their calls are captured again."""
        self.patches = frozenset(end.patches)
        """The names of the patches whose new path the code has taken."""
        self._events = recorded
        self._position = 0
        self._python = python
        self._place = place
        self._comparison = comparison

    def next_incoming(self) -> Event | None:
        """Return the incoming event at the position and advance; None at the end.

        Raises NonDeterminismError if an event stands there that the code has not asked for.
        """
        if self._position == len(self._events):
            return None
        event = self._events[self._position]
        if type(event) in RECORDED:
            recorded = describe(event)
            self._refuse(
                f"event {self._position + 1} is {recorded}, but the workflow's code asks for nothing "
                "more",
                recorded,
                "",
                self._position + 1,
            )
        self._position += 1
        return event

    def is_terminated(self) -> bool:
        """Return whether the execution was terminated at the position. A termination runs no code, so that
        operations which a replay asks for at this position were not recorded.
        """
        return (
            self._position < len(self._events)
            and type(self._events[self._position]) is events.ExecutionTerminated
        )

    def ended(self) -> bool:
        """Return whether all recorded events have been taken."""
        return self._position == len(self._events)

    def is_next(self, kind: type[Event], fields: dict[str, object]) -> bool:
        """Return whether the event at the position has that kind and the values of those fields."""
        if self._position == len(self._events):
            return False
        event = self._events[self._position]
        return type(event) is kind and all(getattr(event, n) == v for n, v in fields.items())

    def stands_next(
        self, kinds: tuple[type[Event], ...], seq: int, name: str, refused: int
    ) -> bool:
        """Return whether the event at the position has one of those kinds, and those values."""
        if self._position == len(self._events):
            return False
        event: Any = self._events[self._position]
        return (
            type(event) in kinds
            and event.seq == seq
            and event.name == name
            and event.refused == refused
        )

    def expect(self, asked: Event) -> Event:
        """Return the recorded counterpart of an event that the code asks for, and advance.

        Raises NonDeterminismError if another event is recorded there.
        """
        recorded = self._events[self._position]
        if not _same(recorded, asked):
            expected = (
                describe(recorded)
                if type(recorded) in RECORDED
                else f"nothing more before {describe(recorded)}"
            )
            wanted = describe(asked)
            self._refuse(
                f"event {self._position + 1} says {expected}, but the workflow's code asks for {wanted}",
                expected,
                wanted,
                self._position + 1,
            )
        self._position += 1
        if type(asked) in COMPARED:
            try:
                self._comparison.check(recorded, asked, self._later)
            except NonDeterminismError as error:
                why = f"event {self._position}: {error}"
                self._refuse(why, describe(recorded), describe(asked), self._position)
        return recorded

    def _refuse(self, why: str, recorded: str, asked: str, event: int) -> NoReturn:
        place = self._place()
        raise NonDeterminismError(
            f"the code no longer matches the history: {why}{place}{self._other_python()}",
            recorded=recorded,
            asked=asked,
            event=event,
            line=line_of(place),
        ) from None

    def name_before(self, name: str) -> str:
        """Return the name of a lambda's task: `name`, or the one that all lambdas had when the next event
        was recorded.
        """
        if self._position < len(self._events):
            event: Any = self._events[self._position]
            if type(event) in _TASKS and event.name == LAMBDA and not event.call:
                return LAMBDA
        return name

    def calls_next(self) -> bool:
        """Return whether the event at the position is a task with a fingerprint, or there is none."""
        if self._position == len(self._events):
            return True
        return bool(getattr(self._events[self._position], "call", ""))

    def _later(self) -> Sequence[Event]:
        return self._events[self._position :]

    def _other_python(self) -> str:
        here = python_version()
        if not self._python or self._python == here:
            return ""
        return f"; the history was recorded on Python {self._python}, this is {here}"


def python_version() -> str:
    """Return the version of the running Python, as ``3.12``. Each execution records it, because the order
    of operations in asyncio differs between versions in places.
    """
    return _PYTHON
