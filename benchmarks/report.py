"""From what was measured to the table and the JSON document."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.bars import Verdict, number
from benchmarks.cases import Case, Figure
from benchmarks.measure import Measured, Plan
from benchmarks.systems import OURS, SYSTEMS

NOTES = """\
(3x) after another system's figure: mini-workflow's is 3 times better; below 1x it is worse.
~    the runs differ by more than a factor of 2: something else used the machine; measure again.
*    measured at a smaller size, since the system is too slow for that one; compared per piece.
limit: a bare loop that commits the same rows, with the same file settings, and does nothing else.
On Postgres all are on the same server, with its own settings for what keeps data.
dbos: SQLite with its defaults, and in WAL mode; it has no worker processes, so it is compared as
it is. Its figures per event count a recorded step as two, and so do those of temporal, whose SDK replays a
history in memory here, without a server. aws-durable keeps nothing on disk."""

_DISTURBED: Final = 2.0
"""By what factor runs may differ."""

_NOTHING: Final = 1.0
"""Figures up to here are next to nothing, and so are their differences."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one case at one size."""

    case: Case
    figure: Figure
    size: int
    measured: Measured

    @property
    def title(self) -> str:
        """The first column."""
        return self.figure.title.format(size=self.size)

    def key(self, system: str, size: int | None = None) -> tuple[str, int, str]:
        """Where the system's measurement is."""
        wanted = self.size if size is None else size
        return self.case.measurement(system), self.case.size_for(system, wanted), system

    def median(self, system: str) -> float | None:
        """The system's figure."""
        return self.measured.median(self.key(system), self.figure.name)

    def ours(self, size: int | None = None) -> float | None:
        """See `bars.Row.ours`."""
        return self.measured.median(self.key(OURS, size), self.figure.name)

    def times(self, system: str) -> float | None:
        """See `bars.Row.times`."""
        ours, other = self.ours(), self.median(system)
        if not ours or not other:
            return None
        return ours / other if self.figure.more_is_better else other / ours

    def disturbed(self, system: str) -> bool:
        """Whether the runs differ so much that their median says little."""
        runs = self.measured.runs(self.key(system), self.figure.name)
        return max(runs) > _DISTURBED * max(0.0, min(runs)) and max(runs) > _NOTHING

    def verdicts(self, systems: Sequence[str]) -> list[Verdict]:
        """The bars that apply. Those that compare with a system that was left out do not."""
        judged = (
            bar.judge(self)
            for bar in self.figure.bars
            if getattr(bar, "system", OURS) in systems and OURS in systems
        )
        return [verdict for verdict in judged if verdict is not None]


def rows(plan: Plan, measured: Measured) -> Iterator[Row]:
    """The rows of the table."""
    for case in plan.cases:
        for figure in case.figures:
            for size in plan.sizes(case):
                yield Row(case, figure, size, measured)


def holds(plan: Plan, measured: Measured) -> bool:
    """Whether every measurement gave figures and every bar holds."""
    verdicts = [v for row in rows(plan, measured) for v in row.verdicts(plan.systems)]
    return not measured.failures and all(verdict.holds for verdict in verdicts)


def table(plan: Plan, measured: Measured) -> str:
    """What a person reads: a line for each row, and one below it for each of its bars."""
    head = ["case", *(SYSTEMS[name].title for name in plan.systems), "holds"]
    lines = [head]
    failed = 0
    for row in rows(plan, measured):
        lines.append([row.title, *(_cell(row, name) for name in plan.systems), ""])
        for verdict in row.verdicts(plan.systems):
            failed += not verdict.holds
            text = f"    {verdict.bar}: {verdict.measured}"
            lines.append([text, *("" for _ in plan.systems), "yes" if verdict.holds else "NO"])
    summary = "all bars hold" if not failed else f"{failed} bars do not hold"
    if measured.failures:
        summary += f"; {len(measured.failures)} measurements failed"
    versions = "; ".join(
        ", ".join(f"{name} {version}" for name, version in about.items())
        for about in measured.about.values()
    )
    return "\n".join([*_aligned(lines), "", NOTES, "", versions, summary])


def _cell(row: Row, system: str) -> str:
    value = row.median(system)
    if value is None:
        return "-"
    text = number(value)
    if row.key(system)[1] != row.size:
        text += "*"
    if row.disturbed(system):
        text += "~"
    times = row.times(system)
    if system == OURS or times is None:
        return text
    return f"{text} ({times:,.0f}x)" if times >= 10 else f"{text} ({times:.1f}x)"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return [
        "  ".join(
            [title.ljust(first), *(cell.rjust(w) for cell, w in zip(cells, others, strict=True))]
        ).rstrip()
        for title, *cells in lines
    ]


def document(plan: Plan, measured: Measured) -> dict[str, Any]:
    """What a program reads: every run of every figure, and the verdicts."""
    return {
        "machine": {
            "cores": os.cpu_count(),
            "architecture": platform.machine(),
            "system": platform.system(),
        },
        "versions": measured.about,
        "runs": plan.runs,
        "quick": plan.quick,
        "holds": holds(plan, measured),
        "failures": measured.failures,
        "rows": [_plain(row, plan.systems) for row in rows(plan, measured)],
    }


def _plain(row: Row, systems: Sequence[str]) -> dict[str, Any]:
    figures = {
        name: {
            "median": row.median(name),
            "runs": row.measured.runs(row.key(name), row.figure.name),
            "size": row.key(name)[1],
            "times": row.times(name),
        }
        for name in systems
        if row.median(name) is not None
    }
    return {
        "case": row.case.name,
        "figure": row.figure.name,
        "title": row.title,
        "size": row.size,
        "more_is_better": row.figure.more_is_better,
        "systems": figures,
        "bars": [asdict(verdict) for verdict in row.verdicts(systems)],
    }
