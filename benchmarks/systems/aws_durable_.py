"""The local runner of the AWS durable execution SDK, with its store in memory.

It keeps nothing on disk, so it does less than the others. Tasks that run at a time are branches of
a `map` with a step each.
"""

# Installed in an environment of its own, not where types are checked.
# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
from collections.abc import Callable
from typing import Any

from aws_durable_execution_sdk_python.context import DurableContext
from aws_durable_execution_sdk_python.execution import InvocationStatus, durable_execution
from aws_durable_execution_sdk_python_testing.runner import DurableFunctionTestRunner

from benchmarks.systems.script import (
    Figures,
    Job,
    expect,
    latencies,
    opening,
    repeated,
    seconds,
    serve,
)

TIMEOUT_SECONDS = 100


@durable_execution
def sequential(event: Any, context: DurableContext) -> int:
    return sum(context.step(lambda _: i, name="step") for i in range(event["n"]))  # noqa: B023


@durable_execution
def gathered(event: Any, context: DurableContext) -> int:
    results = context.map(
        range(event["n"]), lambda branch, item, index, items: branch.step(lambda _: item)
    )
    return sum(results.get_results())


@durable_execution
def empty(event: Any, context: DurableContext) -> int:
    return 7


class Runner:
    """A runner for one function; every execution has a name of its own."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._runner = DurableFunctionTestRunner(handler=function)
        self._started = 0

    def start(self, n: int) -> str:
        self._started += 1
        return self._runner.run_async(
            input=json.dumps({"n": n}),
            execution_name=f"execution-{self._started}",
            execution_timeout=TIMEOUT_SECONDS,
        )

    def result(self, execution: str, operations: int) -> int:
        """The result; fails unless so many operations are recorded."""
        done = self._runner.wait_for_result(execution, timeout=TIMEOUT_SECONDS)
        expect(done.status, InvocationStatus.SUCCEEDED, "status")
        expect(len(done.get_all_operations()), operations, "operations")
        return json.loads(str(done.result))

    def run(self, n: int, operations: int) -> int:
        return self.result(self.start(n), operations)


def measure_sequential(job: Job) -> Figures:
    runner = Runner(sequential)
    expect(runner.run(10, 10), 45, "result")
    total = job.size * (job.size - 1) // 2
    taken = repeated(lambda: expect(runner.run(job.size, job.size), total, "result"))
    return {"us_per_task": taken / job.size * 1e6}


def measure_executions(job: Job, tasks: int) -> Figures:
    runner = Runner(sequential)
    runner.run(tasks, tasks)
    results: list[int] = []

    def together() -> None:
        started = [runner.start(tasks) for _ in range(job.size)]
        results.extend(runner.result(execution, tasks) for execution in started)

    def one_by_one() -> None:
        results.extend(runner.run(tasks, tasks) for _ in range(10))

    taken = seconds(together)
    alone = seconds(one_by_one)
    total = (job.size + 10) * tasks * (tasks - 1) // 2
    expect((len(results), sum(results)), (job.size + 10, total), "results")
    return {"per_second": job.size / taken, "one_by_one_per_second": 10 / alone}


def measure_gather(job: Job) -> Figures:
    runner = Runner(gathered)
    # The map, and for each item a branch with a step.
    expect(runner.run(10, 21), 45, "result")
    results: list[int] = []
    taken = seconds(lambda: results.append(runner.run(job.size, 2 * job.size + 1)))
    expect(results, [job.size * (job.size - 1) // 2], "result")
    return {"total_ms": taken * 1e3}


def measure_latency(job: Job) -> Figures:
    runner = Runner(empty)
    runner.run(0, 0)
    return latencies(lambda: expect(runner.run(0, 0), 7, "result"), job.size)


_OPENING = """
import sys, time
started = time.perf_counter()
from aws_durable_execution_sdk_python.execution import durable_execution
from aws_durable_execution_sdk_python_testing.runner import DurableFunctionTestRunner
runner = DurableFunctionTestRunner(handler=durable_execution(lambda event, context: None))
taken = time.perf_counter() - started
import json, os
print(json.dumps([taken * 1e3, len(sys.modules)]), flush=True)
os._exit(0)
"""


def _about() -> dict[str, str]:
    names = ("aws-durable-execution-sdk-python", "aws-durable-execution-sdk-python-testing")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **versions}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    serve(
        {
            "sequential": measure_sequential,
            "executions-1": lambda job: measure_executions(job, 1),
            "executions-5": lambda job: measure_executions(job, 5),
            "gather": measure_gather,
            "latency": measure_latency,
            "import": lambda job: opening(_OPENING, job),
        },
        _about,
    )
