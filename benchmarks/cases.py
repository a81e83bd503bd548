"""What is measured, at which sizes, and what the figures have to reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from benchmarks.bars import AtMost, Bar, Faster, Flat, Within
from benchmarks.systems import AWS_DURABLE, DBOS, DBOS_WAL, LIMIT, OURS

LONGEST: Final = {DBOS: 1_000, DBOS_WAL: 1_000, AWS_DURABLE: 1_000}


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table for each size: `name` is the script's, `title` has {size:,} in it."""

    name: str
    title: str
    bars: tuple[Bar, ...] = ()
    more_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of measurement.

    `most` caps the size for systems that would take too long; where the figure is a rate or a
    cost per piece it is compared all the same, and marked in the table. `others` is the case that
    stands for this one with all other systems than our own. `once` says that there is one run,
    whatever was asked for.
    """

    name: str
    about: str
    figures: tuple[Figure, ...]
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    systems: tuple[str, ...]
    most: dict[str, int] = field(default_factory=dict)
    others: str = ""
    once: bool = False

    def measurement(self, system: str) -> str:
        """The case that a system is measured by."""
        return self.others if self.others and system != OURS else self.name

    def size_for(self, system: str, size: int) -> int:
        """The size at which a system is measured, for the row of that size."""
        return min(size, self.most.get(system, size))


ALL: Final = (OURS, LIMIT, DBOS, DBOS_WAL, AWS_DURABLE)
DURABLE: Final = (OURS, LIMIT, DBOS, DBOS_WAL)

_SLOW_STARTERS: Final = {DBOS: 200, DBOS_WAL: 200, AWS_DURABLE: 50}


def _executions(tasks: int, title: str) -> Case:
    return Case(
        f"executions-{tasks}",
        f"executions of {title}, all started before the first result is asked for",
        (
            Figure(
                "per_second",
                f"{{size:,}} executions of {title}: executions/s",
                (Faster(DBOS_WAL, 20),),
                more_is_better=True,
            ),
            Figure(
                "one_by_one_per_second",
                f"executions of {title}, one by one: executions/s",
                more_is_better=True,
            ),
        ),
        sizes=(1_000,),
        quick=(100,),
        systems=ALL,
        most=_SLOW_STARTERS,
    )


CASES: Final[dict[str, Case]] = {
    case.name: case
    for case in (
        Case(
            "sequential",
            "one execution of N tasks, one after the other",
            (
                Figure(
                    "us_per_task",
                    "{size:,} sequential tasks: us per task",
                    (Faster(DBOS_WAL, 8), Within(LIMIT, 3), Flat(100, 1.25)),
                ),
            ),
            sizes=(10, 100, 1_000, 5_000),
            quick=(10, 100),
            systems=ALL,
            most=LONGEST,
        ),
        _executions(1, "1 task"),
        _executions(5, "5 tasks"),
        Case(
            "gather",
            "one execution of N tasks under one gather",
            (
                Figure(
                    "total_ms",
                    "{size:,} tasks under one gather: ms",
                    (Faster(DBOS_WAL, 25),),
                ),
            ),
            sizes=(1_000,),
            quick=(100,),
            systems=ALL,
        ),
        Case(
            "workers-sequential",
            "sequential, with the tasks in 2 worker processes",
            (
                Figure(
                    "us_per_task",
                    "{size:,} sequential tasks, 2 workers: us per task",
                    (Faster(DBOS_WAL, 5), Flat(100, 1.25)),
                ),
            ),
            sizes=(100, 1_000),
            quick=(100,),
            systems=ALL,
            most=LONGEST,
            others="sequential",
        ),
        Case(
            "workers-executions-1",
            "executions-1, with the tasks in 2 worker processes",
            (
                Figure(
                    "per_second",
                    "{size:,} executions of 1 task, 2 workers: executions/s",
                    (Faster(DBOS_WAL, 5),),
                    more_is_better=True,
                ),
            ),
            sizes=(1_000,),
            quick=(100,),
            systems=ALL,
            most=_SLOW_STARTERS,
            others="executions-1",
        ),
        Case(
            "workers-gather",
            "gather, with the tasks in 2 worker processes",
            (
                Figure(
                    "total_ms",
                    "{size:,} tasks under one gather, 2 workers: ms",
                    (Faster(DBOS_WAL, 5),),
                ),
            ),
            sizes=(1_000,),
            quick=(100,),
            systems=ALL,
            others="gather",
        ),
        Case(
            "latency",
            "from start to result of a workflow that does nothing",
            (
                Figure(
                    "p50_us", "empty workflow, start to result: p50, us", (Faster(DBOS_WAL, 10),)
                ),
                Figure("p99_us", "empty workflow, start to result: p99, us"),
            ),
            sizes=(1_000,),
            quick=(100,),
            systems=ALL,
            most={DBOS: 200, DBOS_WAL: 200, AWS_DURABLE: 10},
        ),
        Case(
            "replay",
            "from opening the file to the first new task, after a kill at N events",
            (
                Figure(
                    "us_per_event",
                    "replay of {size:,} events: us per event",
                    (AtMost(20, "us per event", from_size=10_000), Flat(10_000, 1.25)),
                ),
            ),
            sizes=(1_000, 10_000, 20_000),
            quick=(1_000,),
            systems=DURABLE,
            most={DBOS: 1_000, DBOS_WAL: 1_000},
        ),
        Case(
            "memory",
            "memory of an execution that waits and is kept in memory",
            (
                Figure(
                    "kib_per_execution",
                    "{size:,} suspended executions in the cache: KiB each",
                    (AtMost(10, "KiB"),),
                ),
            ),
            sizes=(2_000,),
            quick=(500,),
            systems=(OURS, DBOS_WAL),
            most={DBOS_WAL: 200},
        ),
        Case(
            "suspended",
            "a file with N waiting executions, opened and left alone",
            (
                Figure("open_ms", "file of {size:,} suspended executions: open, ms"),
                Figure(
                    "grown_mib",
                    "file of {size:,} suspended executions: memory, MiB",
                    (AtMost(1, "MiB more than for an empty file"),),
                ),
                Figure(
                    "idle_cpu_ms",
                    "file of {size:,} suspended executions: CPU in 1 s, ms",
                    (AtMost(5, "ms"),),
                ),
            ),
            sizes=(100_000,),
            quick=(2_000,),
            systems=(OURS,),
            once=True,
        ),
        Case(
            "import",
            "import and open a new file in a fresh interpreter",
            (
                Figure("open_ms", "import and open a new file: ms", (Faster(DBOS_WAL, 5),)),
                Figure("modules", "import and open a new file: modules loaded"),
            ),
            sizes=(1,),
            quick=(1,),
            systems=(OURS, DBOS, DBOS_WAL, AWS_DURABLE),
        ),
    )
}
