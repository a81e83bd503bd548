"""mini-workflow on SQLite with its defaults; tasks in the process, or in two worker processes.

Many executions are started by `start_executions` from one thread, which then asks for the results;
one by one they are started by `start_execution`.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import platform
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.systems.script import (
    Figures,
    Job,
    die,
    expect,
    helper,
    latencies,
    opening,
    repeated,
    resident_kib,
    seconds,
    serve,
)
from mini_workflow import Context, LocalRuntime, workflow
from mini_workflow.ports import Commit
from mini_workflow.stores.sqlite import SQLiteBackend
from mini_workflow.stores.system_clock import SystemClock

TIMEOUT_SECONDS = 100
MONTH_SECONDS = 30 * 24 * 3600

WARM_UP = 10
"""Tasks of an execution that is run before measuring; worker processes are up after it."""


@workflow
async def sequential(ctx: Context, n: int) -> int:
    total = 0
    for i in range(n):
        total += await ctx.task(lambda: i)  # noqa: B023 - captured when called
    return total


@workflow
async def gathered(ctx: Context, n: int) -> int:
    return sum(await asyncio.gather(*[ctx.task(lambda: i) for i in range(n)]))  # noqa: B023


@workflow
async def empty(ctx: Context) -> int:
    return 7


@workflow
async def sleeping(ctx: Context) -> None:
    await ctx.sleep(MONTH_SECONDS)


_dies = False
_reached: list[float] = []


def last_step() -> int:
    if _dies:
        die()
    _reached.append(time.perf_counter())
    return 0


@workflow
async def interrupted(ctx: Context, n: int) -> int:
    total = 0
    for i in range(n):
        total += await ctx.task(lambda: i)  # noqa: B023
    return total + await ctx.task(last_step)


def opened(job: Job, **settings: Any) -> LocalRuntime:
    return LocalRuntime(job.folder / "mini-workflow.db", **settings)


def run(runtime: LocalRuntime, workflow: Any, *args: int) -> Any:
    """Run to the end and check the number of events: two for each task, and two."""
    execution = runtime.start_execution(workflow, *args)
    result = execution.result(timeout=TIMEOUT_SECONDS)
    expect(len(execution.history()), 2 * sum(args) + 2, "events")
    return result


def measure_sequential(job: Job, workers: int = 0) -> Figures:
    total = job.size * (job.size - 1) // 2
    with opened(job, workers=workers) as runtime:
        expect(run(runtime, sequential, WARM_UP), 45, "result")
        executions: list[Any] = []

        def once() -> None:
            execution = runtime.start_execution(sequential, job.size)
            expect(execution.result(timeout=TIMEOUT_SECONDS), total, "result")
            executions.append(execution)

        taken = repeated(once)
        expect(_events(executions), len(executions) * (2 * job.size + 2), "events")
    return {"us_per_task": taken / job.size * 1e6}


def measure_executions(job: Job, tasks: int, workers: int = 0) -> Figures:
    result = tasks * (tasks - 1) // 2
    few = max(1, job.size // 4)
    with opened(job, workers=workers) as runtime:
        run(runtime, sequential, WARM_UP)
        executions: list[Any] = []
        results: list[int] = []

        def together() -> None:
            executions.extend(runtime.start_executions(sequential, [(tasks,)] * job.size))
            for execution in executions:
                results.append(execution.result(timeout=TIMEOUT_SECONDS))  # noqa: PERF401

        def one_by_one() -> None:
            for _ in range(few):
                execution = runtime.start_execution(sequential, tasks)
                executions.append(execution)
                results.append(execution.result(timeout=TIMEOUT_SECONDS))

        taken = seconds(together)
        expect((len(results), sum(results)), (job.size, job.size * result), "results")
        alone = seconds(one_by_one)
        number = job.size + few
        expect((len(results), sum(results)), (number, number * result), "results")
        expect(_events(executions), number * (2 * tasks + 2), "events")
    return {"per_second": job.size / taken, "one_by_one_per_second": few / alone}


def measure_gather(job: Job, workers: int = 0) -> Figures:
    with opened(job, workers=workers) as runtime:
        expect(run(runtime, gathered, WARM_UP), 45, "result")
        results: list[int] = []
        execution: list[Any] = []

        def once() -> None:
            execution.append(runtime.start_execution(gathered, job.size))
            results.append(execution[0].result(timeout=TIMEOUT_SECONDS))

        taken = seconds(once)
        expect(results, [job.size * (job.size - 1) // 2], "result")
        expect(_events(execution), 2 * job.size + 2, "events")
    return {"total_ms": taken * 1e3}


def measure_latency(job: Job) -> Figures:
    with opened(job) as runtime:
        expect(run(runtime, empty), 7, "result")
        executions: list[Any] = []

        def once() -> None:
            execution = runtime.start_execution(empty)
            expect(execution.result(timeout=TIMEOUT_SECONDS), 7, "result")
            executions.append(execution)

        figures = latencies(once, job.size)
        expect(_events(executions), 2 * job.size, "events")
    return figures


def prepare_replay(job: Job) -> Figures:
    global _dies
    _dies = True
    with opened(job) as runtime:
        execution = runtime.start_execution(interrupted, _tasks(job), id="interrupted")
        execution.result(timeout=TIMEOUT_SECONDS)
    raise AssertionError("not killed")


def measure_replay(job: Job) -> Figures:
    """From opening a file to the first new task of an execution that was killed at that task."""
    helper("replay-prepare", job, killed=True)
    tasks = _tasks(job)
    expect(_count(job.folder / "mini-workflow.db", "events"), job.size, "events to replay")
    started = time.perf_counter()
    with opened(job) as runtime:
        execution = runtime.get_execution("interrupted")
        result = execution.result(timeout=TIMEOUT_SECONDS)
        expect(result, tasks * (tasks - 1) // 2, "result")
        expect(len(_reached), 1, "times that the last task ran")
        # The attempt that was killed is recorded as lost and followed by another one.
        expect(len(execution.history()), job.size + 4, "events in the end")
    return {"us_per_event": (_reached[0] - started) / job.size * 1e6}


def _tasks(job: Job) -> int:
    """How many finished tasks make `job.size` events, with the start and a task that is open."""
    return (job.size - 2) // 2


def measure_memory(job: Job) -> Figures:
    """What an execution costs that waits for a timer and is kept in memory."""
    first = job.size // 10
    with opened(job, cache_size=2 * job.size) as runtime:
        _suspend(runtime, first, "first")
        gc.collect()
        before = resident_kib()
        _suspend(runtime, job.size, "more")
        gc.collect()
        grown = resident_kib() - before
    expect(
        _count(job.folder / "mini-workflow.db", "events"), 2 * (first + job.size) + 2 * 2, "events"
    )
    return {"kib_per_execution": grown / job.size}


def _suspend(runtime: LocalRuntime, number: int, prefix: str) -> None:
    for index in range(number):
        runtime.start_execution(sleeping, id=f"{prefix}-{index}")
    # Whatever has been started before has had its first turn when this one has ended.
    expect(run(runtime, empty), 7, "result")
    expect(len(runtime.get_execution(f"{prefix}-{number - 1}").history()), 2, "events")


def prepare_suspended(job: Job) -> Figures:
    """Make a file of many suspended executions: one is started, the others are its copies."""
    path = _suspended(job)
    with LocalRuntime(path) as runtime:
        _suspend(runtime, 1, "suspended")
    clock = SystemClock()
    backend = SQLiteBackend(path, owner="benchmark", clock=clock)
    backend.leases.acquire(clock.now())
    model = backend.store.load("suspended-0")
    assert model is not None
    for first in range(1, job.size, 1_000):
        copies = [
            Commit(name, 0, tuple(model.events), replace(model.head, execution_id=name))
            for name in (f"suspended-{n}" for n in range(first, min(first + 1_000, job.size)))
        ]
        expect(all(backend.store.commit(copies)), True, "copies written")
    backend.leases.release()
    backend.close()
    return {}


def measure_suspended(job: Job) -> Figures:
    """What a file full of waiting executions costs, beyond what an empty one does."""
    path = _suspended(job)
    if not path.exists():
        helper("suspended-prepare", job)
    expect(_count(path, "executions WHERE status = 'running'"), job.size, "suspended executions")
    expect(_count(path, "events"), 2 * job.size + 2, "events")
    _, small, _ = _idle(job.folder / "empty.db")
    taken, large, cpu = _idle(path)
    return {"open_ms": taken * 1e3, "grown_mib": (large - small) / 1024, "idle_cpu_ms": cpu * 1e3}


def _suspended(job: Job) -> Path:
    return job.shared / f"suspended-{job.size}.db"


def _idle(path: Path) -> tuple[float, float, float]:
    """Open and do nothing: seconds to open, resident KiB, seconds of CPU in one second."""
    started = time.perf_counter()
    with LocalRuntime(path):
        taken = time.perf_counter() - started
        time.sleep(0.5)
        before = time.process_time()
        time.sleep(1)
        cpu = time.process_time() - before
        gc.collect()
        return taken, resident_kib(), cpu


def _events(executions: list[Any]) -> int:
    return sum(len(execution.history()) for execution in executions)


def _count(path: Path, what: str) -> int:
    connection = sqlite3.connect(path)
    (number,) = connection.execute(f"SELECT count(*) FROM {what}").fetchone()
    connection.close()
    return int(number)


_OPENING = """
import sys, time
started = time.perf_counter()
from mini_workflow import LocalRuntime
with LocalRuntime(sys.argv[1]):
    taken = time.perf_counter() - started
import json
print(json.dumps([taken * 1e3, len(sys.modules)]))
"""


def _about() -> dict[str, str]:
    version = importlib.metadata.version("mini-workflow")
    return {"python": platform.python_version(), "mini-workflow": version}


MEASUREMENTS: dict[str, Callable[[Job], Figures]] = {
    "sequential": measure_sequential,
    "executions-1": lambda job: measure_executions(job, 1),
    "executions-5": lambda job: measure_executions(job, 5),
    "gather": measure_gather,
    "workers-sequential": lambda job: measure_sequential(job, workers=2),
    "workers-executions-1": lambda job: measure_executions(job, 1, workers=2),
    "workers-gather": lambda job: measure_gather(job, workers=2),
    "latency": measure_latency,
    "replay": measure_replay,
    "replay-prepare": prepare_replay,
    "memory": measure_memory,
    "suspended": measure_suspended,
    "suspended-prepare": prepare_suspended,
    "import": lambda job: opening(_OPENING, job),
}

if __name__ == "__main__":
    serve(MEASUREMENTS, _about)
