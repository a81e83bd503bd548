"""History: the immutable, append-only list of an execution's events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, overload

from mini_workflow.core import wire
from mini_workflow.core.events import INCOMING, Event, ExecutionStarted
from mini_workflow.core.state import ExecutionState
from mini_workflow.errors import WireError


class History(Sequence[Event]):
    """The events of an execution in order. The constructor refuses an impossible history.

    Raises:
        WireError: the events do not begin with ExecutionStarted, or one is about an operation
            that was never started or has ended.
    """

    __slots__ = ("_events",)

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._events = tuple(events)
        ExecutionState.of(self._events)

    def append(self, events: Iterable[Event]) -> History:
        """Return a history with `events` behind those of this one."""
        return History((*self._events, *events))

    def state(self) -> ExecutionState:
        """Return the state of the execution after the history, as a new object."""
        return ExecutionState.of(self._events)

    def prefixes(self) -> Iterator[History]:
        """Iterate over the histories as they were before each incoming event, and this one last."""
        for index, event in enumerate(self._events):
            if index and type(event) in INCOMING:
                yield History(self._events[:index])
        yield self

    @property
    def started(self) -> ExecutionStarted:
        """The first event. Raises WireError if the history is empty."""
        if not self._events or not isinstance(self._events[0], ExecutionStarted):
            raise WireError("the history is empty")
        return self._events[0]

    def to_lines(self) -> list[str]:
        """Return the events as lines of JSON."""
        return [wire.encode(event) for event in self._events]

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> History:
        """Return the history that `to_lines` described. Raises WireError."""
        return cls(wire.decode(line) for line in lines)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...
    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        return self._events[index]

    def __len__(self) -> int:
        return len(self._events)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return self._events == other._events

    __hash__: ClassVar[None]  # pyright: ignore[reportIncompatibleMethodOverride] payloads have none

    def __repr__(self) -> str:
        return "\n".join(f"{number:5} {event!r}" for number, event in enumerate(self._events, 1))
