"""What is measured, at which sizes, and what the figures have to reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from benchmarks.bars import AtLeast, AtMost, Bar, Counted, Faster, Flat, Within
from benchmarks.systems import AWS_DURABLE, DBOS, DBOS_WAL, LIMIT, OURS, TEMPORAL

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
    whatever was asked for. `profile` is another environment for it than that of the system, where it
    needs more. `on_server` says that it takes a Postgres server, the same one for all systems.
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
    profile: str = ""
    on_server: bool = False

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
                (Faster(DBOS_WAL, 40 if tasks == 1 else 20),),
                more_is_better=True,
            ),
            Figure(
                "one_by_one_per_second",
                f"executions of {title}, one by one: executions/s",
                (Within(LIMIT, 1 / 0.6),) if tasks == 1 else (),
                more_is_better=True,
            ),
            Figure("syncs", f"executions of {title}, one by one: file syncs each"),
        ),
        sizes=(1_000,),
        quick=(100,),
        systems=ALL,
        most=_SLOW_STARTERS,
    )


_SHARED: Final = (OURS, LIMIT, DBOS)


def _shared_executions(tasks: int, title: str, bars: tuple[Bar, ...]) -> Case:
    return Case(
        f"postgres-executions-{tasks}",
        f"executions-{tasks} on a Postgres server",
        (
            Figure(
                "per_second",
                f"Postgres, {{size:,}} executions of {title}: executions/s",
                bars,
                more_is_better=True,
            ),
        ),
        sizes=(1_000,),
        quick=(100,),
        systems=_SHARED,
        most={DBOS: 200},
        on_server=True,
    )


_ON_POSTGRES: Final = (
    Case(
        "postgres-sequential",
        "sequential on a Postgres server",
        (
            Figure(
                "us_per_task",
                "Postgres, {size:,} sequential tasks: us per task",
                (Within(LIMIT, 2.5), Faster(DBOS, 4)),
            ),
        ),
        sizes=(200,),
        quick=(50,),
        systems=_SHARED,
        on_server=True,
    ),
    _shared_executions(1, "1 task", (Faster(DBOS, 12), Within(LIMIT, 4))),
    _shared_executions(5, "5 tasks", (Faster(DBOS, 15),)),
    Case(
        "postgres-gather",
        "gather on a Postgres server",
        (
            Figure(
                "total_ms", "Postgres, {size:,} tasks under one gather: ms", (Faster(DBOS, 40),)
            ),
            Figure(
                "trips",
                "Postgres, {size:,} tasks under one gather: round trips",
                (AtMost(5, "round trips"),),
            ),
        ),
        sizes=(1_000,),
        quick=(100,),
        systems=_SHARED,
        on_server=True,
    ),
    Case(
        "postgres-trips",
        "round trips to a Postgres server, which are exact on any machine",
        (
            Figure("step", "Postgres: round trips of a sequential task", (AtMost(1, "each"),)),
            Figure("start", "Postgres: round trips of a start", (AtMost(1, "each"),)),
            Figure(
                "starts",
                "Postgres: round trips of {size:,} starts with ids and their results",
                (AtMost(10, "in all"),),
            ),
            Figure(
                "result", "Postgres: round trips of a result that is there", (AtMost(1, "each"),)
            ),
        ),
        sizes=(1_000,),
        quick=(100,),
        systems=(OURS,),
        once=True,
        on_server=True,
    ),
    Case(
        "postgres-answer",
        "from a signal to another process, by Postgres, to a task behind its answer",
        (
            Figure(
                "p50_us",
                "Postgres, a signal to another process and back: p50, us",
                (AtMost(10_000, "us"),),
            ),
            Figure("p99_us", "Postgres, a signal to another process and back: p99, us"),
        ),
        sizes=(200,),
        quick=(30,),
        systems=(OURS,),
        on_server=True,
    ),
    Case(
        "postgres-processes",
        "executions-1 in 4 processes on a Postgres server, and in one",
        (
            Figure(
                "per_second",
                "Postgres, {size:,} executions of 1 task, 4 processes: executions/s",
                more_is_better=True,
            ),
            Figure(
                "times",
                "Postgres, {size:,} executions of 1 task, 4 processes: times 1 process",
                (AtLeast(1.5, "times"),),
                more_is_better=True,
            ),
        ),
        sizes=(4_000,),
        quick=(400,),
        systems=(OURS,),
        on_server=True,
    ),
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
                    (Faster(DBOS_WAL, 8), Within(LIMIT, 2), Flat(100, 1.25)),
                ),
                Figure(
                    "syncs",
                    "{size:,} sequential tasks: file syncs per task",
                    (Counted(1.2, "per task"),),
                ),
            ),
            sizes=(10, 100, 1_000, 5_000),
            quick=(10, 100),
            systems=ALL,
            most=LONGEST,
        ),
        Case(
            "sequential-normal",
            "sequential, with synchronous=NORMAL, so that a slow disk hides nothing",
            (
                Figure(
                    "us_per_task",
                    "{size:,} sequential tasks, NORMAL: us per task",
                    (Within(LIMIT, 3.5),),
                ),
            ),
            sizes=(1_000,),
            quick=(100,),
            systems=(OURS, LIMIT),
        ),
        Case(
            "async-normal",
            "the same with async tasks",
            (
                Figure(
                    "us_per_task",
                    "{size:,} sequential async tasks, NORMAL: us per task",
                    (Within(LIMIT, 4.5),),
                ),
            ),
            sizes=(1_000,),
            quick=(100,),
            systems=(OURS, LIMIT),
            others="sequential-normal",
        ),
        Case(
            "steps",
            "from one step to the next, early and late in an execution, and to the first",
            (
                Figure("us_to_first", "from the start to the first step: us"),
                Figure("us_at_10", "from step 10 to the next: us"),
                Figure("us_at_size", "from step {size:,} to the next: us"),
            ),
            sizes=(1_000,),
            quick=(100,),
            systems=(OURS,),
        ),
        Case(
            "long",
            "one execution of very many tasks, one after the other",
            (
                Figure(
                    "us_per_task",
                    "an execution of {size:,} steps: us per step",
                    (Flat(1_000, 1.25),),
                ),
            ),
            sizes=(1_000, 50_000),
            quick=(100, 1_000),
            systems=(OURS, LIMIT),
            others="sequential",
            once=True,
        ),
        Case(
            "fan-out",
            "from the start of an execution to the first and the last of N tasks under one gather",
            (
                Figure("first_ms", "fan-out of {size:,} tasks: the first begins after, ms"),
                Figure("last_ms", "fan-out of {size:,} tasks: the last begins after, ms"),
            ),
            sizes=(1_000,),
            quick=(100,),
            systems=(OURS,),
        ),
        Case(
            "resume",
            "from a signal to the task behind it, with the execution in memory and without",
            (
                Figure("us_warm", "resume after a signal, in memory: us"),
                Figure("us_cold", "resume after a signal, from the file: us"),
            ),
            sizes=(200,),
            quick=(50,),
            systems=(OURS,),
        ),
        Case(
            "signals",
            "N signals to one execution, from 16 threads",
            (
                Figure(
                    "us_per_signal",
                    "{size:,} signals to one execution: us each",
                    (Flat(10_000, 1.25),),
                ),
                Figure("syncs", "{size:,} signals to one execution: file syncs each"),
            ),
            sizes=(10_000, 100_000),
            quick=(1_000,),
            systems=(OURS,),
            once=True,
        ),
        Case(
            "timers",
            "N executions that sleep until the same moment",
            (
                Figure(
                    "last_late_ms", "{size:,} timers due at one moment: the last is late by, ms"
                ),
                Figure("syncs", "{size:,} timers due at one moment: file syncs each"),
            ),
            sizes=(1_000, 10_000),
            quick=(200,),
            systems=(OURS,),
            once=True,
        ),
        Case(
            "children",
            "one execution that starts N children and gathers their results",
            (
                Figure(
                    "us_per_child",
                    "{size:,} children of one execution: us each",
                    (Flat(200, 1.25),),
                ),
                Figure("syncs", "{size:,} children of one execution: file syncs each"),
            ),
            sizes=(200, 2_000),
            quick=(100,),
            systems=(OURS,),
        ),
        Case(
            "closed",
            "a file of N closed executions, opened and used",
            (
                Figure(
                    "open_ms",
                    "file of {size:,} closed executions: open, ms",
                    (Flat(1_000, 2),),
                ),
                Figure("list_ms", "file of {size:,} closed executions: list the newest 100, ms"),
                Figure(
                    "p50_us",
                    "file of {size:,} closed executions: an empty one, p50, us",
                    (Flat(1_000, 2),),
                ),
            ),
            sizes=(1_000, 1_000_000),
            quick=(1_000, 20_000),
            systems=(OURS,),
            once=True,
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
                    (Faster(DBOS_WAL, 25), Within(LIMIT, 4)),
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
                Figure("syncs", "empty workflow, start to result: file syncs"),
            ),
            sizes=(1_000,),
            quick=(100,),
            systems=ALL,
            most={DBOS: 200, DBOS_WAL: 200, AWS_DURABLE: 10},
        ),
        Case(
            "latency-normal",
            "latency, with synchronous=NORMAL",
            (
                Figure(
                    "p50_us",
                    "empty workflow, NORMAL: p50, us",
                    (Within(LIMIT, 6),),
                ),
            ),
            sizes=(1_000,),
            quick=(100,),
            systems=(OURS, LIMIT),
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
            systems=(*DURABLE, TEMPORAL),
            most={DBOS: 1_000, DBOS_WAL: 1_000},
        ),
        Case(
            "memory",
            "memory of an execution that waits and is kept in memory",
            (
                Figure(
                    "kib_per_execution",
                    "{size:,} suspended executions in the cache: KiB each",
                    (AtMost(7, "KiB"),),
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
            "list-page",
            "the page that lists N executions, beside its bare query",
            (
                Figure("ms", "list page of {size:,} executions: ms"),
                Figure("query_ms", "list page of {size:,} executions: bare query, ms"),
                Figure(
                    "times",
                    "list page of {size:,} executions: times the bare query",
                    (AtMost(5, "times", from_size=1_000_000),),
                ),
            ),
            sizes=(1_000_000,),
            quick=(20_000,),
            systems=(OURS,),
            once=True,
            profile="test",
        ),
        Case(
            "execution-page",
            "the page of an execution of N events, closed and with tasks that run, beside its bare query",
            tuple(
                figure
                for what, about in (
                    ("first", "page of {size:,} events, first"),
                    ("again", "page of {size:,} events, again"),
                    ("open_first", "page of {size:,} events that runs tasks, first"),
                    ("open_again", "page of {size:,} events that runs tasks, again"),
                )
                for figure in (
                    Figure(f"{what}_ms", f"{about}: CPU, ms"),
                    Figure(f"{what}_query_ms", f"{about}: rows read, CPU, ms"),
                    Figure(
                        f"{what}_times",
                        f"{about}: times its rows read",
                        (AtMost(5, "times", from_size=50_000),),
                    ),
                )
            ),
            sizes=(50_000,),
            quick=(2_000,),
            systems=(OURS,),
            once=True,
            profile="test",
        ),
        Case(
            "agent",
            "an agent of pydantic-ai: N rounds of a request to a model and a call of a tool",
            (
                Figure(
                    "ms_per_round",
                    "an agent of {size:,} rounds: ms per round",
                    (Faster(DBOS, 1), Faster(DBOS_WAL, 1)),
                ),
            ),
            sizes=(200,),
            quick=(20,),
            systems=DURABLE,
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
        *_ON_POSTGRES,
    )
}
