"""Tools of MCP servers: which there are, and each call, is a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mini_workflow import LocalRuntime
from mini_workflow.core.events import TaskScheduled
from mini_workflow.testing import WorkflowEnvironment
from tests.integrations.mcp_programs import weighs_far, weighs_near
from tests.waiting import WAIT

WEIGHED = '{"weigh":"a is heavy"}'


def names(execution: Any) -> list[str]:
    return [event.name for event in execution.history() if isinstance(event, TaskScheduled)]


@pytest.mark.parametrize("cache_size", [4096, 0])
def test_a_server_in_memory(cache_size: int) -> None:
    with WorkflowEnvironment(cache_size=cache_size) as env:
        execution = env.start_execution(weighs_near)
        assert execution.result(WAIT) == WEIGHED
        assert names(execution) == [
            "near__mcp_server__scales.get_tools",
            "near__model.request",
            "near__mcp_server__scales.call_tool",
            "near__model.request",
        ]


@pytest.mark.parametrize("cache_size", [4096, 0])
def test_a_session_that_agents_side_by_side_share(cache_size: int) -> None:
    """An agent that is dropped from memory leaves the session to the tasks of the others."""
    with WorkflowEnvironment(cache_size=cache_size) as env:
        started = [env.start_execution(weighs_near) for _ in range(4)]
        assert [execution.result(WAIT) for execution in started] == [WEIGHED] * 4


def test_servers_that_worker_processes_start(tmp_path: Path) -> None:
    with LocalRuntime(tmp_path / "state.db", workers=2, cache_size=0) as runtime:
        started = [runtime.start_execution(weighs_far) for _ in range(3)]
        assert [execution.result(WAIT) for execution in started] == [WEIGHED] * 3
