"""Place a time on a timeline, in percent of its width, with breaks for idle time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from mini_workflow.core.records import frozen

LONG: Final = 0.05
"""The share of the window from which an idle stretch is a break."""

BREAK: Final = 6.0
"""Percent of the width that a break takes."""

MOST_BREAKS: Final = 12

LEAST: Final = 3.0
"""Percent of the width that a stretch between two breaks takes at least."""

NOW: Final = 92.0
"""Percent at which now stands while an execution is open: what is still to come is right of it."""

STEPS: Final = tuple(
    step * 1000
    for step in (
        *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
        *(60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200),
        *(86_400, 172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000),
    )
)
"""Milliseconds that two ticks may be apart."""

_FORMS: Final = {
    "second millisecond": "%S.%f",
    "hour minute second": "%H:%M:%S",
    "hour minute": "%H:%M",
    "day month": "%d %b",
    "month year": "%b %Y",
}
_FINEST: Final = (
    (1_000, "second millisecond"),
    (60_000, "hour minute second"),
    (86_400_000, "hour minute"),
    (7_776_000_000, "day month"),
)
"""Milliseconds between ticks below which a time is written so."""

WRITTEN: Final = 5.0
"""Percent of the width that a written time takes."""

TICKS: Final = 8
"""About so many ticks stand on the whole width."""


@frozen
class Break:
    """Idle time: its place `x` and its `width`, in percent, and how long it `lasted`, in milliseconds."""

    x: float
    width: float
    lasted: int


@frozen
class Tick:
    """A time that is written under the axis: its place `x`, in percent, the time `at` (milliseconds since the
    epoch), and the `parts` of it that are written, by the names of scripts.
    """

    x: float
    at: int
    parts: str = "hour minute"

    @property
    def iso(self) -> str:
        """The time as scripts read it."""
        return self._time.isoformat()

    @property
    def text(self) -> str:
        """The time in UTC, for pages without scripts."""
        return self._time.strftime(_FORMS[self.parts])[: -3 if "milli" in self.parts else None]

    @property
    def _time(self) -> datetime:
        return datetime.fromtimestamp(self.at / 1000, UTC)


class Scale:
    """Maps milliseconds since the epoch to percent, from `began` to `ended`.

    `active` are the stretches in which something ran, or the instants at which something arrived; time
    between them that is long becomes a break, unless `true` asks for one scale from end to end. With
    `is_open` the end stands at NOW.
    """

    def __init__(
        self,
        began: int,
        ended: int,
        active: Iterable[tuple[int, int]],
        *,
        is_open: bool = False,
        true: bool = False,
    ) -> None:
        self.began, self.ended = began, max(ended, began + 1)
        self.width: float = NOW if is_open else 100.0
        self.breaks: list[Break] = []
        idle = [] if true else self._idle(active)
        self._edges, self._places = self._lay_out(idle)

    def _idle(self, active: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the longest idle stretches, in order of time."""
        least = LONG * (self.ended - self.began)
        found: list[tuple[int, int]] = []
        until = self.began
        for start, end in [*sorted(active), (self.ended, self.ended)]:
            start = min(max(start, self.began), self.ended)
            if start - until > least:
                found.append((until, start))
            until = max(until, min(end, self.ended))
        longest = sorted(found, key=lambda one: one[0] - one[1])[:MOST_BREAKS]
        return sorted(longest)

    def _lay_out(self, idle: Sequence[tuple[int, int]]) -> tuple[list[int], list[float]]:
        """Return the times at which the scale bends, and their places in percent."""
        bounds = [self.began, *(edge for one in idle for edge in one), self.ended]
        parts = list(pairwise(bounds))
        shown = [end - start for start, end in parts[::2]]
        share = BREAK * self.width / 100
        room = self.width - share * len(idle)
        total = sum(shown) or 1
        least = min(LEAST, room / len(shown))
        widths = [max(room * one / total, least) for one in shown]
        scaled = room / sum(widths)
        edges, places, x = [self.began], [0.0], 0.0
        for number, (start, end) in enumerate(parts):
            if number % 2:
                self.breaks.append(Break(x, share, end - start))
                x += share
            else:
                x += widths[number // 2] * scaled
            edges.append(end)
            places.append(x)
        return edges, places

    def at(self, time: int) -> float:
        """Return the place of a time, in percent; a time outside is at the nearer end."""
        if time <= self.began:
            return 0.0
        if time >= self.ended:
            return self.width
        part = min(bisect_right(self._edges, time) - 1, len(self._edges) - 2)
        start, end = self._edges[part], self._edges[part + 1]
        left, right = self._places[part], self._places[part + 1]
        return left if end == start else left + (right - left) * (time - start) / (end - start)

    def time_at(self, x: float) -> int:
        """Return the time at `x` percent; the nearer end for a place outside."""
        if x <= 0:
            return self.began
        if x >= self.width:
            return self.ended
        part = min(bisect_right(self._places, x) - 1, len(self._places) - 2)
        left, right = self._places[part], self._places[part + 1]
        start, end = self._edges[part], self._edges[part + 1]
        return (
            start if right == left else round(start + (end - start) * (x - left) / (right - left))
        )

    def ticks(self) -> list[Tick]:
        """Return the times to write under the axis: round ones, for each stretch that is wide enough."""
        found: list[Tick] = []
        for number in range(0, len(self._edges) - 1, 2):
            start, end = self._edges[number], self._edges[number + 1]
            width = self._places[number + 1] - self._places[number]
            wanted = width / 100 * TICKS
            if wanted < 1 or end <= start:
                continue
            step = next((one for one in STEPS if one >= (end - start) / wanted), STEPS[-1])
            first = -(-start // step) * step
            count = int((end - first) / step) + 1
            parts = next((one for below, one in _FINEST if step < below), "month year")
            found += [
                Tick(self.at(at), at, parts)
                for at in (round(first + step * n) for n in range(max(count, 0)))
                if self.at(at) < self._places[number + 1] - WRITTEN
            ]
        return found
