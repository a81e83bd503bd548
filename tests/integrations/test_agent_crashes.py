"""Agents that are killed at each of their tasks: what was recorded is asked for once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import LocalRuntime
from mini_workflow.core.events import TaskCompleted
from tests.behaviours.stage import GATES, LEDGER, Background, Stage, gate
from tests.integrations.crash_programs import AT_ONCE, crashes, doubles, open_crashes, open_doubles
from tests.waiting import WAIT

LOOPS = pytest.mark.parametrize(
    "loop", [crashes, open_crashes], ids=["pydantic-ai", "openai-agents"]
)
TASKS = range(1, 6)
"""Three requests, and two tools between them."""

TWICE = [(number, attempt) for number in TASKS for attempt in (1, 2)]
"""Each task was begun twice: once it was lost with its process, and once it was recorded."""


@LOOPS
def test_a_process_that_dies_at_each_task_of_the_loop(runtime: Stage, loop: Any) -> None:
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


@LOOPS
def test_a_worker_that_is_killed_at_each_task_of_the_loop(tmp_path: Path, loop: Any) -> None:
    ledger = tmp_path / "ledger"
    with LocalRuntime(tmp_path / "state.db", workers=2, cache_size=0) as runtime:
        execution = runtime.start_execution(loop, str(ledger))
        assert execution.result(WAIT) == "Ulm and Bonn"
    begun = [tuple(map(int, line.split())) for line in ledger.read_text().splitlines()]
    assert begun == TWICE


def test_fifty_agents_with_parallel_tools_and_a_limit_on_requests(tmp_path: Path) -> None:
    AT_ONCE.clear()
    with LocalRuntime(tmp_path / "state.db", cache_size=10) as runtime:
        started = [
            runtime.start_execution(loop) for _ in range(25) for loop in (doubles, open_doubles)
        ]
        assert [execution.result(WAIT) for execution in started] == ["0 2 4 6"] * 50
    # Two requests each, and never more than three at a time.
    assert len(AT_ONCE) == 100
    assert max(AT_ONCE) <= 3
