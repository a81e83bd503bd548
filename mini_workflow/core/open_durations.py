"""OpenDurations: when the open timers and the waits before retries began, for a clock that is set back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState

_NONE: Final[dict[int, int]] = {}
"""Shared by all of whose durations none is moved, and never changed: clocks are rarely set back."""


class OpenDurations:
    """When each duration that is open began, by number. One that began later than the clock says now
    began before the clock was set back: its end is moved by as much.
    """

    moved: dict[int, int]
    """By how many milliseconds durations end earlier than was planned."""

    __slots__ = ("_began", "latest", "moved")

    def __init__(self) -> None:
        self._began: dict[int, int] = {}
        self.moved = _NONE
        self.latest = 0
        """When the last one of all, ended ones included, began."""

    def begin(self, seq: int, at: int) -> None:
        """Note that a duration begins."""
        self._began[seq] = at
        self.keep_end(seq)
        if at > self.latest:
            self.latest = at

    def end(self, seq: int) -> None:
        """Note that a duration is over; harmless if it is none."""
        if self._began.pop(seq, None) is not None:
            self.keep_end(seq)

    def keep_end(self, seq: int) -> None:
        """Have a duration end when it was to end in the first place."""
        if seq in self.moved:
            del self.moved[seq]

    def clear(self) -> None:
        """Forget all durations."""
        self._began.clear()
        self.moved = _NONE

    def begun_after(self, now: int) -> list[int]:
        """Return those that began later than `now`, as far as is known of the clock."""
        moved = self.moved
        return [seq for seq, at in self._began.items() if at - moved.get(seq, 0) > now]

    def move(self, seq: int, now: int, by: int) -> None:
        """Have one end earlier, by as much as the clock was set back, or, where that is too little,
        as if it began `now`.
        """
        moved = self.moved.get(seq, 0)
        if self.moved is _NONE:
            self.moved = {}
        self.moved[seq] = moved + max(by, self._began[seq] - moved - now)

    def is_moved(self, seq: int, now: int, steady_since: int) -> bool:
        """Return whether the moved end of one counts: the clock has not been set forward again
        meanwhile.

        If it began later than `now`, that is so. So it is if the clock has come to when it began
        without a jump: it has not jumped since `steady_since`.
        """
        began = self._began[seq]
        return began > now or steady_since < began


NO_DURATIONS: Final = OpenDurations()
"""What runs share that had none: it stays empty."""


def begin_duration(state: ExecutionState, seq: int, at: int) -> None:
    """Note in a state that a duration begins."""
    if state.durations is NO_DURATIONS:
        state.durations = OpenDurations()
    state.durations.begin(seq, at)
