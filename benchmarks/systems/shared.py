"""What is measured of processes that share a server: how soon they hear each other, what they add up to."""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from benchmarks.systems.script import ON_POSTGRES, Figures, Job, expect, latencies, seconds
from mini_workflow import Context, workflow

WITHIN_SECONDS = 600
PROCESSES = 4

_came: queue.Queue[int] = queue.Queue()


def note(number: int) -> int:
    _came.put(number)
    return number


@workflow
async def asking(ctx: Context, n: int) -> int:
    """Begins a task when an answer has come."""
    for number in range(n):
        await ctx.wait_for_signal("back")
        await ctx.task(note, number)
    return n


@workflow
async def echoing(ctx: Context, n: int) -> int:
    """Sends each signal back, to an execution that another process runs."""
    for _ in range(n):
        await ctx.wait_for_signal("there")
        ctx.execution("asking").signal("back")
    return n


def measure_answer(job: Job, opened: Callable[[Job], Any]) -> Figures:
    """From a signal to an execution that another process runs, to a task behind its answer."""
    with opened(job) as runtime:
        asks = runtime.start_execution(asking, job.size + 1, id="asking")
        with started(job, "echo") as other:
            hear(other, "ready")
            echo = runtime.get_execution("echoing")
            numbers = iter(range(job.size + 1))

            def once() -> None:
                echo.signal("there")
                expect(_came.get(timeout=WITHIN_SECONDS), next(numbers), "answer")

            once()
            figures = latencies(once, job.size)
            expect(asks.result(timeout=WITHIN_SECONDS), job.size + 1, "answers")
            tell(other)
    return figures


def run_echo(job: Job, opened: Callable[[Job], Any]) -> Figures:
    """The other process of `measure_answer`."""
    with opened(job) as runtime:
        runtime.start_execution(echoing, job.size + 1, id="echoing")
        print("ready", flush=True)
        sys.stdin.readline()
    return {}


def measure_processes(job: Job) -> Figures:
    """Executions of one task: in one process, and shared by several."""
    one, several = (_per_second(job, number) for number in (1, PROCESSES))
    return {"one_per_second": one, "per_second": several, "times": several / one}


def _per_second(job: Job, processes: int) -> float:
    folder = job.folder / f"of{processes}"
    folder.mkdir()
    share = replace(job, size=max(1, job.size // processes), folder=folder)
    with ExitStack() as stack:
        others = [stack.enter_context(started(share, "share")) for _ in range(processes)]
        for other in others:
            hear(other, "ready")

        def together() -> None:
            for other in others:
                tell(other)
            for other in others:
                hear(other, "done")

        return share.size * processes / seconds(together)


def run_share(job: Job, opened: Callable[[Job], Any], one_task: Any) -> Figures:
    """One of the processes of `measure_processes`."""
    with opened(job) as runtime:
        runtime.start_execution(one_task, 1).result(timeout=WITHIN_SECONDS)
        print("ready", flush=True)
        sys.stdin.readline()
        executions = runtime.start_executions(one_task, [(1,)] * job.size)
        results = [execution.result(timeout=WITHIN_SECONDS) for execution in executions]
        expect(results, [0] * job.size, "results")
        print("done", flush=True)
    return {}


@contextmanager
def started(job: Job, measurement: str) -> Iterator[subprocess.Popen[str]]:
    """Another process of the same script, which ends with the block."""
    script = sys.modules["__main__"].__spec__
    assert script is not None
    command = [sys.executable, "-m", script.name, f"{ON_POSTGRES}{measurement}", str(job.size)]
    other = subprocess.Popen(
        [*command, str(job.folder), str(job.shared), job.variant],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield other
        expect(other.wait(WITHIN_SECONDS), 0, f"exit status of {measurement}")
    finally:
        other.kill()
        other.wait()
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.close()
        other.stdout.close()


def hear(other: subprocess.Popen[str], word: str) -> None:
    assert other.stdout is not None
    expect(other.stdout.readline().strip(), word, "word of another process")


def tell(other: subprocess.Popen[str]) -> None:
    assert other.stdin is not None
    other.stdin.write("go on\n")
    other.stdin.flush()
