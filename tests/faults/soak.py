"""A soak: many executions over several processes, which are killed or stand still meanwhile.

`tools/soak.py` runs it by the clock, at any size; a test runs a small one by events.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event as EventType
from pathlib import Path
from typing import Any, Final

from mini_workflow import (
    Context,
    LocalClient,
    LocalRuntime,
    PostgresClient,
    PostgresRuntime,
    RetryPolicy,
    current_task,
    workflow,
)
from mini_workflow.core import events
from mini_workflow.engine.client import Client
from mini_workflow.engine.execution import Execution
from tests.postgres.server import end_with_parent
from tests.waiting import WAIT, eventually

_PROCESSES: Final = get_context("forkserver")
"""A process begins as the copy of one that has imported all: soon enough to live for a while."""
_PROCESSES.set_forkserver_preload([__name__])

LEASE: Final = 2.0
"""Seconds after which the executions of a process that stands still are others'."""

_PATIENT: Final = RetryPolicy(max_attempts=100, initial=0.0)
"""However often the process dies that runs it."""

_RECORDED: Final = {
    "ExecutionStarted": 1,
    "TaskScheduled": 4,
    "TaskCompleted": 4,
    "TimerStarted": 1,
    "TimerFired": 1,
    "SignalReceived": 0,
    "ChildStarted": 1,
    "ChildCompleted": 1,
    "ExecutionCompleted": 1,
}
"""What the history of each order has, whatever happens: no more and no less of it."""
_EVERY_SIGNALLED: Final = 5
"""Every so many-th order waits for a signal; each is one more call of the client."""

_OF_CHILD: Final = {
    "ExecutionStarted": 1,
    "TaskScheduled": 1,
    "TaskCompleted": 1,
    "ExecutionCompleted": 1,
}
STEPS: Final = _RECORDED["TaskCompleted"] + _OF_CHILD["TaskCompleted"]


@workflow("soak.order")
async def order(ctx: Context, ledger: str, number: int) -> int:
    total = await ctx.task(work, ledger, number, retry=_PATIENT)
    total += sum(
        await asyncio.gather(*[ctx.task(work, ledger, number, retry=_PATIENT) for _ in range(2)])
    )
    await ctx.sleep(0.01)
    if number % _EVERY_SIGNALLED == 0:
        await ctx.wait_for_signal("shipped")
    total += await ctx.child(part, ledger, number, id=f"{ctx.info.execution_id}-part")
    return total + await ctx.task(work, ledger, number, retry=_PATIENT)


@workflow("soak.part")
async def part(ctx: Context, ledger: str, number: int) -> int:
    return await ctx.task(work, ledger, number, retry=_PATIENT)


def work(ledger: str, number: int) -> int:
    """A task, which writes down that it ran: one line, which no kill cuts in two."""
    task = current_task()
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f"{task.idempotency_key} {task.attempt}\n".encode())
    os.close(file)
    return number


def serve(place: str, schema: str, lease: float, ready: EventType) -> None:
    """A worker, until it is told to end."""
    # Held back from the start, so that it can be waited for.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if (dies_with_parent := end_with_parent()) is not None:
        dies_with_parent()
    if schema:
        runtime: Any = PostgresRuntime(place, schema=schema, lease=lease, threads=2)
    else:
        runtime = LocalRuntime(place, lease=lease, threads=2)
    with runtime:
        ready.set()
        signal.sigwait({signal.SIGTERM})


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that serves the store, from when it is ready."""

    process: BaseProcess
    ready: EventType

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        self.process.join()
        self.process.close()


class Soak:
    """Workers on one store, which may be killed; and what they have been given to do.

    `schema` is that of a Postgres database; without it `place` is an SQLite file.
    """

    def __init__(
        self, place: str, schema: str, ledger: Path, lease: float = LEASE, seed: int | None = None
    ) -> None:
        self._place, self._schema, self._ledger, self._lease = place, schema, ledger, lease
        self._chance = random.Random(seed)
        self._workers: list[Worker] = []
        self._standing: list[Worker] = []
        self._orders: list[Execution[int]] = []
        self._read = 0
        self._lines: list[str] = []
        self.killed = self.stopped = 0

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the store, which runs nothing."""
        if self._schema:
            opened: Any = PostgresClient(self._place, schema=self._schema)
        else:
            opened = LocalClient(self._place)
        with opened as client:
            yield client

    def start_worker(self, *, waited_for: bool = False) -> None:
        """Start one more worker."""
        ready = _PROCESSES.Event()
        arguments = (self._place, self._schema, self._lease, ready)
        process = _PROCESSES.Process(target=serve, args=arguments)
        process.start()
        self._workers.append(Worker(process, ready))
        if waited_for:
            assert ready.wait(WAIT)

    def kill(self) -> None:
        """Kill a worker, whatever it does just now."""
        self._one().kill()
        self.killed += 1

    @property
    def may_stop(self) -> bool:
        """Whether one may stand still at any moment: within a commit to a file it holds up all others."""
        return bool(self._schema)

    def stop(self) -> None:
        """Have a worker stand still."""
        worker = self._one()
        worker.send(signal.SIGSTOP)
        self._standing.append(worker)
        self.stopped += 1

    def let_go_on(self) -> bool:
        """Have the one go on that has stood still for the longest; whether there is one."""
        if self._standing:
            worker = self._standing.pop(0)
            worker.send(signal.SIGCONT)
            self._workers.append(worker)
            return True
        return False

    def _one(self) -> Worker:
        """One of those that are ready."""
        ready = eventually(lambda: [one for one in self._workers if one.ready.is_set()])
        worker = self._chance.choice(ready)
        self._workers.remove(worker)
        return worker

    def start(self, client: Client, number: int) -> None:
        """Start so many orders, and send each its signal."""
        first = len(self._orders)
        numbers = range(first, first + number)
        ids = [f"order-{n}" for n in numbers]
        started = client.start_executions(order, [(str(self._ledger), n) for n in numbers], ids=ids)
        for n, execution in zip(numbers, started, strict=True):
            if n % _EVERY_SIGNALLED == 0:
                execution.signal("shipped")
        self._orders.extend(started)

    @property
    def started(self) -> int:
        """How many orders have been started."""
        return len(self._orders)

    @property
    def steps(self) -> int:
        """How many steps all that have been started are."""
        return STEPS * len(self._orders)

    def progress(self) -> str:
        """How far it is."""
        return (
            f"started: {self.started}, runs of steps: {self.ran()}, steps: {self.steps}, "
            f"killed: {self.killed}, stood still: {self.stopped}"
        )

    def ran(self) -> int:
        """How often a step has run."""
        if self._ledger.exists():
            with self._ledger.open() as file:
                file.seek(self._read)
                self._lines.extend(file.read().splitlines())
                self._read = file.tell()
        return len(self._lines)

    def end(self) -> list[str]:
        """Have all workers end in order; what is wrong with that."""
        while self.let_go_on():
            pass
        for worker in self._workers:
            assert worker.ready.wait(WAIT)
            worker.send(signal.SIGTERM)
        for worker in self._workers:
            worker.process.join(WAIT)
        codes = [worker.process.exitcode for worker in self._workers]
        return [f"a worker that nobody killed has ended with {code}" for code in codes if code != 0]

    def close(self) -> None:
        """Leave no process behind."""
        for worker in (*self._workers, *self._standing):
            worker.kill()

    def wrong(self, client: Client, timeout: float) -> Iterator[str]:
        """What has been lost, or recorded twice, when all orders are to be done in so many seconds."""
        for number, execution in enumerate(self._orders):
            try:
                result: object = execution.result(timeout)
            except Exception as error:  # whatever it is, it is told
                result = error
            if result != 5 * number:
                yield f"{execution.id}: {result!r} instead of {5 * number}"
        self.ran()
        attempts: dict[str, list[int]] = defaultdict(list)
        for line in self._lines:
            key, attempt = line.split()
            attempts[key].append(int(attempt))
        for number, execution in enumerate(self._orders):
            expected = {**_RECORDED, "SignalReceived": int(number % _EVERY_SIGNALLED == 0)}
            yield from _compared(client, execution.id, expected, attempts)
            yield from _compared(client, f"{execution.id}-part", _OF_CHILD, attempts)
        if attempts:
            yield f"steps that ran and are in no history: {', '.join(sorted(attempts)[:10])}"

    def again(self) -> int:
        """How many runs of steps were lost with their worker, and made again."""
        return self.ran() - self.steps


def _compared(
    client: Client, name: str, expected: dict[str, int], attempts: dict[str, list[int]]
) -> Iterator[str]:
    """Compare a history with what it has to have, and with what ran, which it takes out of `attempts`."""
    history: Sequence[events.Event] = client.history(name)
    found = Counter(type(event).__name__ for event in history)
    for kind, number in expected.items():
        if found[kind] != number:
            yield f"{name}: {kind} is recorded {found[kind]} times instead of {number}"
    for event in history:
        if isinstance(event, events.TaskCompleted):
            made = attempts.pop(f"{name}:{event.seq}", [])
            if len(made) != len(set(made)):
                yield f"{name}: attempts {made} of task {event.seq} ran, one of them twice"
            if max(made, default=0) != event.attempt:
                yield f"{name}: attempts {made} of task {event.seq} ran, {event.attempt} is recorded"
