"""`make demo-postgres`: four workers on one database, one of which is killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from mini_workflow import Context, PostgresClient, PostgresRuntime, StoreUnavailable, workflow
from mini_workflow.core.events import TaskCompleted

ROOT = Path(__file__).resolve().parent.parent
ORDERS, STEPS, WORKERS = 40, 10, 4
PATIENCE = 60.0
"""Seconds after which something must be stuck."""


@workflow("demo.order")
async def order(ctx: Context, ledger: str) -> int:
    done = 0
    for step in range(STEPS):
        done += await ctx.task(work, ledger, ctx.info.execution_id, step)
    return done


def work(ledger: str, execution: str, step: int) -> int:
    """A task: it takes a moment, and writes down that it was done."""
    time.sleep(0.02)
    with Path(ledger).open("a") as file:
        file.write(f"{os.getpid()} {execution} {step}\n")
    return 1


def serve(url: str) -> None:
    """A worker, until it is told to end."""
    with PostgresRuntime(url, schema="demo", lease=2, threads=4):
        print("serves", flush=True)
        signal.sigwait({signal.SIGTERM})


def main(url: str | None = None) -> int:
    """The story; 0 if it went as told."""
    with ExitStack() as stack:
        if url is None:
            from tests.postgres.server import server

            url = stack.enter_context(server()).url
        folder = stack.enter_context(TemporaryDirectory())
        ledger = Path(folder, "ledger")
        client = stack.enter_context(PostgresClient(url, schema="demo"))
        workers = [stack.enter_context(started(url)) for _ in range(WORKERS)]
        stack.callback(lambda: [worker.kill() for worker in workers])
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        print(f"workers that serve the database: {len(workers)}")
        calls = [(str(ledger),)] * ORDERS
        orders = client.start_executions(order, calls)
        print(f"executions started by a client: {ORDERS}, each of {STEPS} steps")
        wait_for(ledger, ORDERS * STEPS // 3)
        workers[0].kill()
        print("killed one of the workers, with kill -9")
        results = [execution.result(PATIENCE) for execution in orders]
        recorded = sum(
            isinstance(event, TaskCompleted) for one in orders for event in one.history()
        )
        ran = Counter(tuple(line.split()[1:]) for line in ledger.read_text().splitlines())
        lost = sum(ran.values()) - len(ran)
        print(f"executions that have completed: {results.count(STEPS)} of {ORDERS}")
        print(f"steps recorded: {recorded}, of {ORDERS * STEPS}: none is lost, none recorded twice")
        print(f"steps that ran again, because the worker died before they were recorded: {lost}")
        return 0 if recorded == len(ran) == ORDERS * STEPS == sum(results) else 1


def started(url: str) -> subprocess.Popen[str]:
    """A worker process."""
    # Held back in it from the start, so that it can wait for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "example.postgres", "worker", url],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def wait_for(ledger: Path, lines: int) -> None:
    ends = time.monotonic() + PATIENCE
    while not ledger.exists() or ledger.read_text().count("\n") < lines:
        if time.monotonic() > ends:
            raise SystemExit("the workers do not get on")
        time.sleep(0.02)


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["worker"]:
            serve(sys.argv[2])
        else:
            raise SystemExit(main(*sys.argv[1:]))
    except StoreUnavailable as error:
        raise SystemExit(str(error)) from None
