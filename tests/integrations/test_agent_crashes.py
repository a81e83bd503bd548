"""Agents that are killed at each of their tasks: what was recorded is asked for once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mini_workflow import LocalRuntime
from tests.behaviours.conftest import EMULATED, OTHERS
from tests.behaviours.stage import Stage
from tests.integrations.crash_programs import AT_ONCE, crashes, doubles, open_crashes, open_doubles
from tests.integrations.deaths import ONCE_KILLED, lose_the_process_at_each_task
from tests.waiting import WAIT

LOOPS = pytest.mark.parametrize(
    "loop", [crashes, open_crashes], ids=["pydantic-ai", "openai-agents"]
)


@LOOPS
def test_a_process_that_dies_at_each_task_of_the_loop(runtime: Stage, loop: Any) -> None:
    lose_the_process_at_each_task(runtime, loop)


@pytest.mark.aws
def test_functions_that_die_at_each_task_of_the_loop_on_emulated_aws(
    request: pytest.FixtureRequest,
) -> None:
    stage = OTHERS[EMULATED](request)
    try:
        lose_the_process_at_each_task(stage, crashes)
    finally:
        stage.close()


@LOOPS
def test_a_worker_that_is_killed_in_a_tool_and_in_the_last_request(
    tmp_path: Path, loop: Any
) -> None:
    ledger = tmp_path / "ledger"
    with LocalRuntime(tmp_path / "state.db", workers=1, cache_size=0) as runtime:
        execution = runtime.start_execution(loop, str(ledger))
        assert execution.result(WAIT) == "Ulm and Bonn"
    begun = [tuple(map(int, line.split())) for line in ledger.read_text().splitlines()]
    assert begun == ONCE_KILLED


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
