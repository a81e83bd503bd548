"""Executions that wait cost no thread, no processor and, evicted, no memory."""

import gc
import resource
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import LocalRuntime
from mini_workflow.core.run import Run
from mini_workflow.engine.engine import Engine
from mini_workflow.stores.system_clock import SystemClock
from tests.unit.local import flows
from tests.waiting import WAIT, eventually

MANY = 1_000


def test_a_thousand_sleep_and_finish(path: Path, monkeypatch: Any, others: int) -> None:
    ahead: list[int] = [0]
    now = SystemClock.now
    monkeypatch.setattr(SystemClock, "now", lambda clock: now(clock) + ahead[0])
    with LocalRuntime(path, cache_size=10, lease=7200, synchronous="NORMAL") as runtime:
        runtime.start_execution(flows.steps, 1).result(WAIT)
        before = threading.active_count()
        executions = [
            runtime.start_execution(flows.sleeper, 1000, id=f"sleeper-{number}")
            for number in range(MANY)
        ]
        assert threading.active_count() <= before
        gc.collect()
        assert live_runs() - others <= 10
        ahead[0] = 1_001_000
        runtime.look_around()  # as somebody would who has set the clock
        for execution in executions:
            assert execution.result(WAIT) >= 1000
        assert threading.active_count() <= before


def live_runs() -> int:
    return sum(isinstance(one, Run) and not one.recorder.dead for one in gc.get_objects())


@pytest.fixture
def others() -> int:
    """The runs that other tests of this process have left."""
    gc.collect()
    return live_runs()


def sleeps(threads: set[int | None]) -> int:
    """How often these threads have gone to sleep so far; all of the process, where no system says."""
    found = [Path(f"/proc/self/task/{thread}/status") for thread in threads]
    if not all(path.exists() for path in found):
        return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    lines = [line for path in found for line in path.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))


def test_nothing_polls_while_they_sleep(path: Path, monkeypatch: Any) -> None:
    turns: list[int] = []
    process = Engine.process
    others = {thread.native_id for thread in threading.enumerate()}

    def counted(engine: Engine, requests: Sequence[Any]) -> None:
        turns.append(len(requests))
        process(engine, requests)

    monkeypatch.setattr(Engine, "process", counted)
    with LocalRuntime(path, lease=3600, synchronous="NORMAL", turn_timeout=0.5) as runtime:
        for _ in range(MANY):
            runtime.start_execution(flows.sleeper, 1000)
        # The watchdog looks once more after the last turn (every turn_timeout), and then sleeps.
        eventually(lambda: runtime._engine._watchdog._asleep)
        turns.clear()
        ours = {thread.native_id for thread in threading.enumerate()} - others
        before, began = sleeps(ours), time.monotonic()
        threading.Event().wait(1)  # a window to look at, not a wait for something
        woken, window = sleeps(ours) - before, time.monotonic() - began
        assert turns == []
        # A poll of 50 ms would be twenty times a second.
        assert woken < 10 * window


def test_reopened_they_take_no_memory_until_they_wake(path: Path, others: int) -> None:
    with LocalRuntime(path, synchronous="NORMAL") as runtime:
        for number in range(MANY):
            runtime.start_execution(flows.sleeper, 1000, id=f"sleeper-{number}")
        runtime.start_execution(flows.naps, str(path.with_name("ledger")), 2, 0.1, id="napper")
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("napper").result(WAIT) == 2
        gc.collect()
        assert live_runs() - others <= 1
        assert len(runtime.list_executions(status="running")) == MANY


def test_each_keeps_its_own_time(path: Path) -> None:
    with LocalRuntime(path, cache_size=5) as runtime:
        waits = [number / 100 for number in range(50, 0, -1)]
        executions = [runtime.start_execution(flows.sleeper, wait) for wait in waits]
        for wait, execution in zip(waits, executions, strict=True):
            assert execution.result(WAIT) >= wait
