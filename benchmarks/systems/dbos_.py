"""dbos on SQLite, with its defaults or in a file that was made in WAL mode; or on a Postgres server.

Steps of sequential workflows are synchronous and those under one gather asynchronous, the faster
way in each case. Many workflows are started by `start_workflow` from one thread, which is faster
than a queue.
"""

# Installed in an environment of its own, not where types are checked.
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID

from benchmarks.systems.script import (
    Figures,
    Job,
    die,
    expect,
    helper,
    latencies,
    opening,
    prepare_journal,
    repeated,
    resident_kib,
    seconds,
    serve,
)

MONTH_SECONDS = 30 * 24 * 3600.0


@DBOS.step()
def step(value: int) -> int:
    return value


@DBOS.step()
async def async_step(value: int) -> int:
    return value


@DBOS.workflow()
def sequential(n: int) -> int:
    return sum(step(i) for i in range(n))


@DBOS.workflow()
async def gathered(n: int) -> int:
    return sum(await asyncio.gather(*[async_step(i) for i in range(n)]))


@DBOS.workflow()
def empty() -> int:
    return 7


@DBOS.workflow()
async def sleeping() -> None:
    await DBOS.sleep_async(MONTH_SECONDS)


_dies = False
_reached: list[float] = []


@DBOS.step()
def last_step() -> int:
    if _dies:
        die()
    _reached.append(time.perf_counter())
    return 0


@DBOS.workflow()
def interrupted(n: int) -> int:
    return sum(step(i) for i in range(n)) + last_step()


class File:
    """The system database, seen from outside."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def expect(self, workflows: int, steps: int) -> None:
        """Check how many workflows have succeeded and how many steps are recorded."""
        connection = sqlite3.connect(self._path)
        (succeeded,) = connection.execute(
            "SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'"
        ).fetchone()
        (recorded,) = connection.execute("SELECT count(*) FROM operation_outputs").fetchone()
        connection.close()
        expect((succeeded, recorded), (workflows, steps), "workflows and steps in the file")


class Database(File):
    """The same on a Postgres server."""

    def __init__(self, job: Job) -> None:
        import psycopg

        with psycopg.connect(job.server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {job.name}".encode())
        before, _, query = job.server.partition("?")
        self.url = f"{before.rpartition('/')[0]}/{job.name}?{query}"

    def expect(self, workflows: int, steps: int) -> None:
        """See `File.expect`."""
        import psycopg

        with psycopg.connect(self.url) as connection:
            found = connection.execute(
                "SELECT (SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'), "
                "(SELECT count(*) FROM dbos.operation_outputs)"
            ).fetchone()
        expect(found, (workflows, steps), "workflows and steps in the database")


@contextmanager
def launched(job: Job) -> Iterator[File]:
    """A launched dbos. The process ends after the measurement, which stops it."""
    if job.server:
        database = Database(job)
        _launch(database.url)
        yield database
        return
    path = job.folder / "dbos.db"
    if not path.exists():
        prepare_journal(path, job.variant)
    _launch(f"sqlite:///{path}")
    mode = "wal" if job.variant == "wal" else "delete"
    connection = sqlite3.connect(path)
    expect(connection.execute("PRAGMA journal_mode").fetchone(), (mode,), "journal mode")
    connection.close()
    yield File(path)


def _launch(url: str) -> None:
    DBOS(config={"name": "benchmark", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()


def run(workflow: Any, *args: int) -> Any:
    return DBOS.start_workflow(workflow, *args).get_result()


def measure_sequential(job: Job) -> Figures:
    with launched(job) as file:
        expect(run(sequential, 10), 45, "result")
        runs = [10]

        def once() -> None:
            expect(run(sequential, job.size), job.size * (job.size - 1) // 2, "result")
            runs.append(job.size)

        taken = repeated(once)
        file.expect(len(runs), sum(runs))
    return {"us_per_task": taken / job.size * 1e6}


def measure_executions(job: Job, tasks: int) -> Figures:
    result = tasks * (tasks - 1) // 2
    few = max(1, job.size // 4)
    with launched(job) as file:
        run(sequential, tasks)
        results: list[int] = []

        def together() -> None:
            handles = [DBOS.start_workflow(sequential, tasks) for _ in range(job.size)]
            results.extend(handle.get_result() for handle in handles)

        def one_by_one() -> None:
            # A plain call: no other way to run workflows one after the other is faster.
            results.extend(sequential(tasks) for _ in range(few))

        taken = seconds(together)
        expect((len(results), sum(results)), (job.size, job.size * result), "results")
        alone = seconds(one_by_one)
        workflows = job.size + few
        expect((len(results), sum(results)), (workflows, workflows * result), "results")
        file.expect(1 + workflows, tasks * (1 + workflows))
    return {"per_second": job.size / taken, "one_by_one_per_second": few / alone}


def measure_gather(job: Job) -> Figures:
    with launched(job) as file:
        expect(run(gathered, 10), 45, "result")
        results: list[int] = []
        taken = seconds(lambda: results.append(run(gathered, job.size)))
        expect(results, [job.size * (job.size - 1) // 2], "result")
        file.expect(2, 10 + job.size)
    return {"total_ms": taken * 1e3}


def measure_latency(job: Job) -> Figures:
    with launched(job) as file:
        run(empty)
        figures = latencies(lambda: expect(run(empty), 7, "result"), job.size)
        file.expect(1 + job.size, 0)
    return figures


def prepare_replay(job: Job) -> Figures:
    global _dies
    _dies = True
    with launched(job), SetWorkflowID("interrupted"):
        run(interrupted, _steps(job))
    raise AssertionError("not killed")


def measure_replay(job: Job) -> Figures:
    """From launch to the first new step; a recorded step counts as two events."""
    steps = _steps(job)
    helper("replay-prepare", job, killed=True)
    started = time.perf_counter()
    with launched(job) as file:
        result = DBOS.retrieve_workflow("interrupted").get_result()
        expect(result, steps * (steps - 1) // 2, "result")
        expect(len(_reached), 1, "times that the last step ran")
        file.expect(1, steps + 1)
    return {"us_per_event": (_reached[0] - started) / job.size * 1e6}


def _steps(job: Job) -> int:
    return (job.size - 2) // 2


def measure_memory(job: Job) -> Figures:
    with launched(job) as file:
        for _ in range(job.size // 10):
            DBOS.start_workflow(sleeping)
        time.sleep(1)
        before = resident_kib()
        for _ in range(job.size):
            DBOS.start_workflow(sleeping)
        time.sleep(1)
        grown = resident_kib() - before
        file.expect(0, job.size + job.size // 10)
    return {"kib_per_execution": grown / job.size}


_agents: list[Any] = []


@DBOS.workflow()
async def rounds(n: int) -> str:
    from benchmarks.systems import agent

    return await agent.run(_agents[0], n)


def measure_agent(job: Job) -> Figures:
    from pydantic_ai.durable_exec.dbos import DBOSDurability

    from benchmarks.systems import agent

    # Of tools only those that are steps are recorded. All steps have to be there before the launch.
    _agents.append(agent.made(DBOSDurability(), tool=DBOS.step()(agent.double)))
    with launched(job) as file:
        expect(run(rounds, 10), "10", "rounds")
        said: list[str] = []
        taken = seconds(lambda: said.append(run(rounds, job.size)))
        expect(said, [str(job.size)], "rounds")
        file.expect(2, agent.tasks(10) + agent.tasks(job.size))
    return {"ms_per_round": taken / job.size * 1e3}


_OPENING = """
import sys, time
started = time.perf_counter()
from dbos import DBOS
url = f"sqlite:///{sys.argv[1]}"
DBOS(config={"name": "benchmark", "system_database_url": url, "log_level": "ERROR"})
DBOS.launch()
taken = time.perf_counter() - started
import json, os
print(json.dumps([taken * 1e3, len(sys.modules)]), flush=True)
os._exit(0)
"""


def _about() -> dict[str, str]:
    return {"python": platform.python_version(), "dbos": importlib.metadata.version("dbos")}


if __name__ == "__main__":
    serve(
        {
            "sequential": measure_sequential,
            "executions-1": lambda job: measure_executions(job, 1),
            "executions-5": lambda job: measure_executions(job, 5),
            "gather": measure_gather,
            "latency": measure_latency,
            "replay": measure_replay,
            "replay-prepare": prepare_replay,
            "memory": measure_memory,
            "agent": measure_agent,
            "import": lambda job: opening(_OPENING, job),
        },
        _about,
    )
