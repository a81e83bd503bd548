"""The bars: what a figure of ours has to reach, by itself or beside that of another system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from benchmarks.systems import SYSTEMS


class Row(Protocol):
    """The figures that a bar may look at; None where there is none."""

    @property
    def size(self) -> int:
        """Of how many pieces the row is."""
        ...

    def ours(self, size: int | None = None) -> float | None:
        """Our own figure, of this row or at another size."""
        ...

    def times(self, system: str) -> float | None:
        """How many times better ours is than that of another system; below 1 it is worse."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar, what was measured against it, and whether it holds."""

    bar: str
    measured: str
    holds: bool


class Bar(Protocol):
    """Judges a row, or answers None where it says nothing about the row."""

    def judge(self, row: Row) -> Verdict | None:
        """See the class."""
        ...


@dataclass(frozen=True, slots=True)
class Faster:
    """At least `factor` times better than another system."""

    system: str
    factor: float

    def judge(self, row: Row) -> Verdict | None:
        """See `Bar.judge`."""
        bar = f"at least {self.factor:g}x better than {SYSTEMS[self.system].title}"
        times = row.times(self.system)
        return _verdict(bar, times, "x", times is not None and times >= self.factor)


@dataclass(frozen=True, slots=True)
class Within:
    """At most `factor` times worse than another system."""

    system: str
    factor: float

    def judge(self, row: Row) -> Verdict | None:
        """See `Bar.judge`."""
        bar = f"at most {self.factor:g}x the {SYSTEMS[self.system].title}"
        times = row.times(self.system)
        worse = 1 / times if times else None
        return _verdict(bar, worse, "x", worse is not None and worse <= self.factor)


@dataclass(frozen=True, slots=True)
class Counted:
    """At most so many; says nothing where that was not counted."""

    value: float
    unit: str

    def judge(self, row: Row) -> Verdict | None:
        """See `Bar.judge`."""
        ours = row.ours()
        if ours is None:
            return None
        return _verdict(f"at most {self.value:g} {self.unit}", ours, "", ours <= self.value)


@dataclass(frozen=True, slots=True)
class Flat:
    """At most `factor` times the figure at a smaller size; says nothing up to that size."""

    size: int
    factor: float

    def judge(self, row: Row) -> Verdict | None:
        """See `Bar.judge`."""
        if row.size <= self.size:
            return None
        bar = f"flat: at most {self.factor:g}x the figure at {self.size:,}"
        ours, other = row.ours(), row.ours(self.size)
        grown = ours / other if ours is not None and other else None
        return _verdict(bar, grown, "x", grown is not None and grown <= self.factor)


@dataclass(frozen=True, slots=True)
class AtMost:
    """At most a fixed value; says nothing below `from_size`."""

    value: float
    unit: str
    from_size: int = 0

    def judge(self, row: Row) -> Verdict | None:
        """See `Bar.judge`."""
        if row.size < self.from_size:
            return None
        ours = row.ours()
        holds = ours is not None and ours <= self.value
        return _verdict(f"at most {self.value:g} {self.unit}", ours, "", holds)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """At least a fixed value."""

    value: float
    unit: str

    def judge(self, row: Row) -> Verdict | None:
        """See `Bar.judge`."""
        ours = row.ours()
        holds = ours is not None and ours >= self.value
        return _verdict(f"at least {self.value:g} {self.unit}", ours, "", holds)


def _verdict(bar: str, measured: float | None, unit: str, holds: bool) -> Verdict:
    return Verdict(bar, "no figure" if measured is None else f"{number(measured)}{unit}", holds)


def number(value: float) -> str:
    """Three significant digits, and no more than two behind the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
