"""A loop of agents whose every task says that it was begun, and stops in its first attempt."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mini_workflow import RetryPolicy, current_task
from mini_workflow.core.events import TaskCompleted
from tests.behaviours.stage import GATES, LEDGER, Background, Stage, gate, note
from tests.waiting import WAIT

AGAIN: Final = RetryPolicy(max_attempts=3, initial=0.001, jitter="none")

TASKS: Final = range(1, 6)
"""Three requests, and two tools between them."""

TWICE: Final = [(number, attempt) for number in TASKS for attempt in (1, 2)]
"""Each task was begun twice: once it was lost with its process, and once it was recorded."""

KILLED: Final = (2, 5)
"""The tasks in which a worker process is killed: a tool, and the request that has the last word. A process
that takes its place imports what agents need, which takes seconds."""

ONCE_KILLED: Final = [
    (number, attempt) for number, attempt in TWICE if attempt == 1 or number in KILLED
]
"""What was begun then."""

CITIES: Final = ("Ulm", "Bonn")
"""What the tool is called with, one after the other."""


def seq() -> int:
    return int(current_task().idempotency_key.rpartition(":")[2])


async def stop_once(ledger: str = "") -> None:
    """Note the attempt. In the first one, wait for the end of the process; in a worker, which has a
    ledger, be killed with it if it is one of those.
    """
    attempt = current_task().attempt
    if ledger:
        with Path(ledger).open("a") as file:
            file.write(f"{seq()} {attempt}\n")
        if attempt == 1 and seq() in KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        return
    note((seq(), attempt))
    held = gate(f"task-{seq()}")
    held.reached.set()
    while attempt == 1 and not held.opened.is_set():
        await asyncio.sleep(0.01)  # no thread, for which the end of the loop would wait


def lose_the_process_at_each_task(runtime: Stage, loop: Any) -> None:
    """Run a loop whose tasks call `stop_once`, and check what was done: what was recorded, once."""
    GATES.clear()
    LEDGER.clear()
    runtime.reopen(grace=0)
    execution = runtime.start(loop, "")
    waiting = []
    for number in TASKS:
        # Where time stands still, it goes on while somebody waits.
        waiting.append(Background(lambda: runtime.again(execution).result(WAIT)))
        gate(f"task-{number}").wait_until_reached()
        runtime.die()
        runtime.reopen(grace=0)
    assert runtime.again(execution).result(WAIT) == "Ulm and Bonn"
    for number in TASKS:
        gate(f"task-{number}").open()
    for one in waiting:
        with suppress(Exception):  # most were told that their runtime had closed
            one.get()
    assert sorted(LEDGER) == TWICE
    done = [e for e in runtime.again(execution).history() if isinstance(e, TaskCompleted)]
    assert [(event.seq, event.attempt) for event in done] == [(number, 2) for number in TASKS]
