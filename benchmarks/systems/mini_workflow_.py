"""mini-workflow with its defaults on SQLite, or on a Postgres server.

Tasks run in the process, or in two worker processes.

Many executions are started by `start_executions` from one thread, which then asks for the results;
one by one they are started by `start_execution`.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import platform
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
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
    synced,
)
from benchmarks.systems.shared import measure_answer, measure_processes, run_echo, run_share
from mini_workflow import Context, LocalRuntime, workflow
from mini_workflow.ports import Commit
from mini_workflow.stores.sqlite import SQLiteBackend
from mini_workflow.stores.system_clock import SystemClock

TIMEOUT_SECONDS = 100
LONG_SECONDS = 600
MONTH_SECONDS = 30 * 24 * 3600

WARM_UP = 10
"""Tasks of an execution that is run before measuring; worker processes are up after it."""


@workflow
async def sequential(ctx: Context, n: int) -> int:
    total = 0
    for i in range(n):
        total += await ctx.task(lambda: i)  # noqa: B023 - captured when called
    return total


async def same(number: int) -> int:
    return number


@workflow
async def asynchronous(ctx: Context, n: int) -> int:
    total = 0
    for number in range(n):
        total += await ctx.task(same, number)
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


def opened(job: Job, **settings: Any) -> Any:
    """A runtime on a file of its own, or in a schema of its own of the server."""
    if job.server:
        from mini_workflow import PostgresRuntime

        return PostgresRuntime(job.server, schema=job.name, **settings)
    return LocalRuntime(job.folder / "mini-workflow.db", **settings)


def run(runtime: LocalRuntime, workflow: Any, *args: int) -> Any:
    """Run to the end and check the number of events: two for each task, and two."""
    execution = runtime.start_execution(workflow, *args)
    result = execution.result(timeout=TIMEOUT_SECONDS)
    expect(len(execution.history()), 2 * sum(args) + 2, "events")
    return result


def measure_sequential(job: Job, workflow: Any = sequential, **settings: Any) -> Figures:
    total = job.size * (job.size - 1) // 2
    with opened(job, **settings) as runtime:
        expect(run(runtime, workflow, WARM_UP), 45, "result")
        executions: list[Any] = []

        def once() -> None:
            execution = runtime.start_execution(workflow, job.size)
            expect(execution.result(timeout=TIMEOUT_SECONDS), total, "result")
            executions.append(execution)

        taken = repeated(once)
        counted = synced(once, job.size)
        expect(_events(executions), len(executions) * (2 * job.size + 2), "events")
    return {"us_per_task": taken / job.size * 1e6, **counted}


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
        counted = synced(one_by_one, few)
        number = job.size + 2 * few
        expect((len(results), sum(results)), (number, number * result), "results")
        expect(_events(executions), number * (2 * tasks + 2), "events")
    return {"per_second": job.size / taken, "one_by_one_per_second": few / alone, **counted}


def measure_gather(job: Job, workers: int = 0) -> Figures:
    with opened(job, workers=workers) as runtime:
        expect(run(runtime, gathered, WARM_UP), 45, "result")
        results: list[int] = []
        execution: list[Any] = []

        def once() -> None:
            execution.append(runtime.start_execution(gathered, job.size))
            results.append(execution[0].result(timeout=TIMEOUT_SECONDS))

        before = _trips(runtime)
        taken = seconds(once)
        trips = {"trips": float(_trips(runtime) - before)} if job.server else {}
        expect(results, [job.size * (job.size - 1) // 2], "result")
        expect(_events(execution), 2 * job.size + 2, "events")
    return {"total_ms": taken * 1e3, **trips}


def measure_latency(job: Job, **settings: Any) -> Figures:
    with opened(job, **settings) as runtime:
        expect(run(runtime, empty), 7, "result")
        executions: list[Any] = []

        def once() -> None:
            execution = runtime.start_execution(empty)
            expect(execution.result(timeout=TIMEOUT_SECONDS), 7, "result")
            executions.append(execution)

        figures = latencies(once, job.size) | synced(once, 1)
        expect(_events(executions), 2 * (job.size + 1), "events")
    return figures


def measure_trips(job: Job) -> Figures:
    """How often the server is asked, which is exact on any machine."""
    figures: Figures = {}
    # Nobody renews a lease, or looks around, meanwhile.
    with opened(job, lease=24 * 3600.0) as runtime:
        run(runtime, sequential, WARM_UP)

        def counted(name: str, call: Callable[[], Any], pieces: int = 1) -> Any:
            before = _trips(runtime)
            answer = call()
            figures[name] = (_trips(runtime) - before) / pieces
            return answer

        def of_steps(tasks: int) -> None:
            runtime.start_execution(sequential, tasks).result(timeout=TIMEOUT_SECONDS)

        counted("fewer", lambda: of_steps(job.size))
        counted("more", lambda: of_steps(2 * job.size))
        figures["step"] = (figures.pop("more") - figures.pop("fewer")) / job.size
        one = counted("start", lambda: runtime.start_execution(empty))
        expect(one.result(timeout=TIMEOUT_SECONDS), 7, "result")
        counted("result", lambda: one.result(timeout=TIMEOUT_SECONDS))
        names = [f"many-{number}" for number in range(job.size)]
        calls: list[tuple[()]] = [()] * job.size
        many = counted("starts", lambda: runtime.start_executions(empty, calls, ids=names))
        results = counted("results", lambda: [each.result(timeout=LONG_SECONDS) for each in many])
        expect(results, [7] * job.size, "results")
        figures["starts"] += figures.pop("results")
    return figures


def _trips(runtime: Any) -> int:
    """Round trips to the server until now."""
    backend = getattr(runtime._opened, "backend", None)
    return getattr(backend, "trips", 0)


# What grows


_begun: list[float] = []
"""When each task of the workflows below has begun."""


def begin(number: int) -> int:
    _begun.append(time.perf_counter())
    return number


@workflow
async def timed(ctx: Context, n: int) -> int:
    total = 0
    for number in range(n):
        total += await ctx.task(begin, number)
    return total


@workflow
async def fanned_out(ctx: Context, n: int) -> int:
    return sum(await asyncio.gather(*[ctx.task(begin, number) for number in range(n)]))


@workflow
async def resuming(ctx: Context) -> int:
    await ctx.wait_for_signal("go")
    return await ctx.task(begin, 1)


@workflow
async def receiving(ctx: Context, n: int) -> int:
    total = 0
    for _ in range(n):
        total += await ctx.wait_for_signal("one")
    return total


@workflow
async def sleeping_until(ctx: Context, at: float) -> int:
    await ctx.sleep_until(datetime.fromtimestamp(at, UTC))
    return 1


@workflow
async def child(ctx: Context) -> int:
    return 1


@workflow
async def parent(ctx: Context, n: int) -> int:
    return sum(await asyncio.gather(*[ctx.child(child) for _ in range(n)]))


_AROUND = 5
"""How many steps before and behind the one that is asked for count for its median."""


def measure_steps(job: Job) -> Figures:
    """From the beginning of a step to that of the next, early and late, and to that of the first."""
    with opened(job) as runtime:
        run(runtime, sequential, WARM_UP)
        number = job.size + _AROUND + 1
        _begun.clear()
        started = time.perf_counter()
        execution = runtime.start_execution(timed, number)
        expect(execution.result(timeout=TIMEOUT_SECONDS), number * (number - 1) // 2, "result")
    expect(len(_begun), number, "steps")
    between = [after - before for before, after in pairwise(_begun)]

    def at(step: int) -> float:
        return statistics.median(between[max(0, step - _AROUND) : step + _AROUND]) * 1e6

    first = (_begun[0] - started) * 1e6
    return {"us_to_first": first, "us_at_10": at(min(10, job.size)), "us_at_size": at(job.size)}


def measure_fan_out(job: Job) -> Figures:
    """From the start of an execution to the beginning of the first and of the last of its tasks."""
    with opened(job) as runtime:
        run(runtime, gathered, WARM_UP)
        _begun.clear()
        started = time.perf_counter()
        execution = runtime.start_execution(fanned_out, job.size)
        execution.result(timeout=TIMEOUT_SECONDS)
    expect(len(_begun), job.size, "tasks")
    return {"first_ms": (_begun[0] - started) * 1e3, "last_ms": (_begun[-1] - started) * 1e3}


def measure_resume(job: Job) -> Figures:
    """From a signal to the task that waits for it, with the execution in memory and without."""
    figures: Figures = {}
    for name, size in (("warm", 4096), ("cold", 0)):
        with LocalRuntime(job.folder / f"{name}.db", cache_size=size) as runtime:
            run(runtime, sequential, WARM_UP)
            _begun.clear()
            taken: list[float] = []
            for _ in range(job.size):
                execution = runtime.start_execution(resuming)
                before = time.perf_counter()
                execution.signal("go")
                expect(execution.result(timeout=TIMEOUT_SECONDS), 1, "result")
                taken.append(_begun[-1] - before)
            expect(len(_begun), job.size, "tasks")
        figures[f"us_{name}"] = statistics.median(taken) * 1e6
    return figures


_SENDERS = 16


def measure_signals(job: Job) -> Figures:
    """Signals from many threads to one execution, until it has received the last of them."""
    with opened(job, history_limit=4 * job.size + 100) as runtime:
        run(runtime, sequential, WARM_UP)
        each = max(1, job.size // _SENDERS)
        execution = runtime.start_execution(receiving, each * _SENDERS)

        def send() -> None:
            for _ in range(each):
                execution.signal("one", 1)

        def together() -> None:
            senders = [threading.Thread(target=send) for _ in range(_SENDERS)]
            for sender in senders:
                sender.start()
            expect(execution.result(timeout=LONG_SECONDS), each * _SENDERS, "signals received")
            for sender in senders:
                sender.join()

        taken: list[float] = []
        counted = synced(lambda: taken.append(seconds(together)), each * _SENDERS)
    return {"us_per_signal": taken[0] / (each * _SENDERS) * 1e6, **counted}


def measure_timers(job: Job) -> Figures:
    """Executions that all sleep until the same moment: how late the last of them has ended."""
    with opened(job) as runtime:
        run(runtime, sequential, WARM_UP)
        at = time.time() + 2 + job.size / 500
        executions = runtime.start_executions(sleeping_until, [(at,)] * job.size)
        expect(time.time() < at, True, "all begun before the moment")

        def wait() -> None:
            for execution in executions:
                expect(execution.result(timeout=LONG_SECONDS), 1, "result")

        counted = synced(wait, job.size)
        return {"last_late_ms": (time.time() - at) * 1e3, **counted}


def measure_children(job: Job) -> Figures:
    with opened(job) as runtime:
        expect(run_family(runtime, WARM_UP), WARM_UP, "children")
        taken: list[float] = []

        def once() -> None:
            taken.append(
                seconds(lambda: expect(run_family(runtime, job.size), job.size, "children"))
            )

        counted = synced(once, job.size)
    return {"us_per_child": taken[0] / job.size * 1e6, **counted}


def run_family(runtime: LocalRuntime, children: int) -> Any:
    return runtime.start_execution(parent, children).result(timeout=LONG_SECONDS)


def measure_long(job: Job) -> Figures:
    """An execution of very many steps, once: what a step costs over all of them."""
    with opened(job, history_limit=4 * job.size + 100) as runtime:
        run(runtime, sequential, WARM_UP)
        execution: list[Any] = []

        def once() -> None:
            execution.append(runtime.start_execution(sequential, job.size))
            total = job.size * (job.size - 1) // 2
            expect(execution[0].result(timeout=LONG_SECONDS), total, "result")

        taken = seconds(once)
        expect(_events(execution), 2 * job.size + 2, "events")
    return {"us_per_task": taken / job.size * 1e6}


def prepare_closed(job: Job) -> Figures:
    """Make a file of many closed executions: one is run, the others are its copies."""
    return _copied(_closed(job), empty, job.size)


def measure_closed(job: Job) -> Figures:
    """What a file full of history costs: to open it, to list the newest, and to run another one."""
    path = _closed(job)
    if not path.exists():
        helper("closed-prepare", job)
    expect(_count(path, "executions WHERE status = 'completed'"), job.size, "closed executions")
    before = time.perf_counter()
    with LocalRuntime(path) as runtime:
        opened_in = time.perf_counter() - before
        most = min(100, job.size)
        listed_in = seconds(lambda: expect(len(runtime.list_executions(limit=100)), most, "listed"))
        runs_in = latencies(
            lambda: expect(runtime.start_execution(empty).result(), 7, "result"), 20
        )
    return {"open_ms": opened_in * 1e3, "list_ms": listed_in * 1e3, "p50_us": runs_in["p50_us"]}


def _closed(job: Job) -> Path:
    return job.shared / f"closed-{job.size}.db"


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
        _suspend(runtime, 1, "copied")
    return _copied(path, None, job.size)


def _copied(path: Path, started: Any, number: int) -> Figures:
    if started is not None:
        with LocalRuntime(path) as runtime:
            runtime.start_execution(started, id="copied-0").result(timeout=TIMEOUT_SECONDS)
    clock = SystemClock()
    backend = SQLiteBackend(path, owner="benchmark", clock=clock)
    backend.leases.acquire(clock.now())
    model = backend.store.load("copied-0")
    assert model is not None
    for first in range(1, number, 1_000):
        copies = [
            Commit(name, 0, tuple(model.events), replace(model.head, execution_id=name))
            for name in (f"copied-{n}" for n in range(first, min(first + 1_000, number)))
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


def measure_page(job: Job, what: str) -> Figures:
    """Requests of a page, in an environment that has what pages need."""
    from benchmarks.systems import page

    return page.measure_list(job) if what == "list" else page.measure_execution(job)


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


@workflow
async def rounds(ctx: Context, n: int) -> str:
    from benchmarks.systems import agent
    from mini_workflow.integrations.pydantic_ai import AGENTS

    return await agent.run(AGENTS.find(agent.NAME, __name__).agent, n)


def measure_agent(job: Job) -> Figures:
    from benchmarks.systems import agent
    from mini_workflow.integrations.pydantic_ai import MiniWorkflowDurability

    agent.made(MiniWorkflowDurability())
    with opened(job) as runtime:
        expect(runtime.start_execution(rounds, WARM_UP).result(TIMEOUT_SECONDS), "10", "rounds")
        executions: list[Any] = []

        def once() -> None:
            execution = runtime.start_execution(rounds, job.size)
            expect(execution.result(TIMEOUT_SECONDS), str(job.size), "rounds")
            executions.append(execution)

        taken = seconds(once)
        expect(_events(executions), 2 * agent.tasks(job.size) + 2, "events")
    return {"ms_per_round": taken / job.size * 1e3}


MEASUREMENTS: dict[str, Callable[[Job], Figures]] = {
    "sequential": measure_sequential,
    "executions-1": lambda job: measure_executions(job, 1),
    "executions-5": lambda job: measure_executions(job, 5),
    "gather": measure_gather,
    "sequential-normal": lambda job: measure_sequential(job, synchronous="NORMAL"),
    "async-normal": lambda job: measure_sequential(job, asynchronous, synchronous="NORMAL"),
    "workers-sequential": lambda job: measure_sequential(job, workers=2),
    "workers-executions-1": lambda job: measure_executions(job, 1, workers=2),
    "workers-gather": lambda job: measure_gather(job, workers=2),
    "latency": measure_latency,
    "latency-normal": lambda job: measure_latency(job, synchronous="NORMAL"),
    "steps": measure_steps,
    "fan-out": measure_fan_out,
    "resume": measure_resume,
    "signals": measure_signals,
    "timers": measure_timers,
    "children": measure_children,
    "long": measure_long,
    "closed": measure_closed,
    "closed-prepare": prepare_closed,
    "replay": measure_replay,
    "replay-prepare": prepare_replay,
    "memory": measure_memory,
    "suspended": measure_suspended,
    "suspended-prepare": prepare_suspended,
    "list-page": lambda job: measure_page(job, "list"),
    "execution-page": lambda job: measure_page(job, "execution"),
    "agent": measure_agent,
    "import": lambda job: opening(_OPENING, job),
    # On a server alone
    "trips": measure_trips,
    "answer": lambda job: measure_answer(job, opened),
    "echo": lambda job: run_echo(job, opened),
    "processes": measure_processes,
    "share": lambda job: run_share(job, opened, sequential),
}

if __name__ == "__main__":
    serve(MEASUREMENTS, _about)
