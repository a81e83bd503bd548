"""Law 24: an orderly close costs no attempt, and tells running tasks why they are to end."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import Context, LocalRuntime, TaskCancelled, current_task, workflow
from mini_workflow.core import events
from tests.waiting import WAIT

CLOSES = 3


def _note(log: str, word: object) -> None:
    with Path(log).open("a") as file:
        file.write(f"{word}\n")


def copy(log: str, done: str) -> int:
    """Counts up from where the last one stopped, until there is the file `done`."""
    task = current_task()
    number: int = task.last_heartbeat or 0
    _note(log, task.attempt)
    while not Path(done).exists():
        number += 1
        task.heartbeat(number)
        time.sleep(0.005)
    return number


async def copy_async(log: str, done: str) -> int:
    task = current_task()
    number: int = task.last_heartbeat or 0
    _note(log, task.attempt)
    while not Path(done).exists():
        number += 1
        task.heartbeat(number)
        await asyncio.sleep(0.005)
    return number


def deaf(log: str, done: str) -> int:
    """The same, and never listens."""
    _note(log, current_task().attempt)
    while not Path(done).exists():
        time.sleep(0.005)
    return 1


TASKS: dict[str, Any] = {"sync": copy, "async": copy_async, "deaf": deaf}


@workflow("law_24.copies")
async def copies(ctx: Context, kind: str, log: str, done: str) -> int:
    return await ctx.task(TASKS[kind], log, done)


def wait_for_lines(log: Path, count: int) -> list[str]:
    ends_at = time.monotonic() + WAIT
    while True:
        lines = log.read_text().split() if log.exists() else []
        if len(lines) >= count:
            return lines
        assert time.monotonic() < ends_at
        time.sleep(0.005)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", list(TASKS))
def test_law_24_closes_cost_no_attempt(path: Path, tmp_path: Path, kind: str, workers: int) -> None:
    log, done = tmp_path / "log", tmp_path / "done"
    options: dict[str, Any] = {"workers": workers, "grace": 0.1 if kind == "deaf" else WAIT}
    for number in range(CLOSES):
        with LocalRuntime(path, **options) as runtime:
            runtime.start_execution(copies, kind, str(log), str(done), id="one")
            wait_for_lines(log, number + 1)
    done.touch()
    with LocalRuntime(path, **options) as runtime:
        execution = runtime.get_execution("one")
        assert execution.result(WAIT) >= 1
        assert set(wait_for_lines(log, CLOSES)) == {"1"}
        history = execution.history()
        assert not [e for e in history if isinstance(e, events.TaskFailed)]
        released = [e for e in history if isinstance(e, events.TaskReleased)]
        assert len(released) == CLOSES
        if kind != "deaf":
            details = [runtime.codec.decode(e.heartbeat) for e in released if e.heartbeat]
            assert len(details) == CLOSES
            assert details == sorted(set(details))


def test_law_24_the_reason_is_told(path: Path) -> None:
    told: list[str] = []
    begun = threading.Event()
    TOLD["begun"], TOLD["told"] = begun, told
    with LocalRuntime(path) as runtime:
        runtime.start_execution(listens)
        assert begun.wait(WAIT)
    assert len(told) == 1
    assert "its runtime closes" in told[0]


TOLD: dict[str, Any] = {}


def _listen() -> None:
    TOLD["begun"].set()
    try:
        while True:
            current_task().heartbeat()
            time.sleep(0.005)
    except TaskCancelled as error:
        TOLD["told"].append(str(error))
        raise


@workflow("law_24.listens")
async def listens(ctx: Context) -> None:
    await ctx.task(_listen)


def test_law_24_a_task_that_can_end_in_time_does(path: Path, tmp_path: Path) -> None:
    """Being told stops nothing: what takes a moment more has its result."""
    log, done = tmp_path / "log", tmp_path / "done"
    with LocalRuntime(path, grace=WAIT) as runtime:
        runtime.start_execution(copies, "deaf", str(log), str(done), id="one")
        wait_for_lines(log, 1)
        timer = threading.Timer(0.05, done.touch)
        timer.start()
    timer.join()
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("one").result(WAIT) == 1
    assert wait_for_lines(log, 1) == ["1"]
