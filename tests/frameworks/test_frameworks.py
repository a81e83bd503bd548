"""Agents of frameworks that are durable since their models and tools are called in tasks.

In an environment of its own, which tests/integrations/test_environments.py starts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import ExecutionBlocked
from mini_workflow.core.events import TaskScheduled
from mini_workflow.testing import WorkflowEnvironment, check_replay
from tests.behaviours.stage import LEDGER, Stage
from tests.frameworks import adk_program, langgraph_program, llama_program, strands_program
from tests.integrations.deaths import lose_the_process_at_each_task

LOOPS = pytest.mark.parametrize(
    "loop",
    [
        pytest.param(langgraph_program.scouts, id="langgraph"),
        pytest.param(strands_program.scouts, id="strands"),
        # It drives awaitables by hand, and says so when an execution is dropped from memory.
        pytest.param(
            adk_program.scouts,
            id="adk",
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
        ),
        pytest.param(llama_program.scouts, id="llama-index"),
    ],
)


@LOOPS
def test_a_process_that_dies_at_each_task_of_the_loop(
    runtime: Stage, loop: Any, tmp_path: Path
) -> None:
    lose_the_process_at_each_task(runtime, loop)
    (execution,) = runtime.list_executions()
    recorded = tmp_path / "recorded.json"
    recorded.write_text(json.dumps(runtime.get_execution(execution.id).recording().to_plain()))
    LEDGER.clear()
    assert check_replay(recorded) == 1
    assert LEDGER == []
    history = runtime.get_execution(execution.id).history()
    names = [event.name for event in history if isinstance(event, TaskScheduled)]
    assert names == ["request", "weigh", "request", "weigh", "request"]


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning")
def test_a_thread_of_a_framework_is_refused() -> None:
    with WorkflowEnvironment() as env:
        for on_a_thread in (strands_program.on_a_thread, llama_program.on_a_thread):
            execution = env.start_execution(on_a_thread)
            with pytest.raises(ExecutionBlocked, match="running code in a thread"):
                execution.result()
