"""Agents of both frameworks: what a model has said and a tool has returned is asked for once."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from agents import MaxTurnsExceeded, set_trace_processors
from pydantic_ai.exceptions import UsageLimitExceeded

from mini_workflow import LocalRuntime
from mini_workflow.core.events import TaskCompleted, TaskScheduled
from tests.behaviours.stage import Stage
from tests.integrations import agents, openai_programs
from tests.waiting import WAIT, eventually

TOOL = "scout__function_toolset__<agent>.call_tool:weigh"

SCOUTED: Final[dict[Any, list[str]]] = {
    agents: ["scout__model.request", TOOL] * 2 + ["scout__model.request"],
    openai_programs: ["open scout.model", "open scout.tool:weigh"] * 2 + ["open scout.model"],
}
"""Names stand in histories: a change of one strands executions that are in flight."""

LIMITED: Final[dict[Any, tuple[type[Exception], str | None]]] = {
    agents: (UsageLimitExceeded, "request_limit of 1"),
    openai_programs: (MaxTurnsExceeded, None),
}


@pytest.fixture(
    params=[
        pytest.param(agents, id="pydantic-ai"),
        pytest.param(openai_programs, id="openai-agents"),
    ]
)
def programs(request: pytest.FixtureRequest) -> ModuleType:
    """The agents of one framework, of which none was called yet."""
    set_trace_processors([])
    request.param.CALLS.clear()
    request.param.MEETING.reset()
    module: ModuleType = request.param
    return module


def test_each_request_and_each_tool_is_a_task_with_its_own_retry(
    runtime: Stage, programs: ModuleType
) -> None:
    execution = runtime.start(programs.scouts, "ann")
    assert execution.result(WAIT) == "Ulm for ann and Bonn for ann"
    history = execution.history()
    names = [event.name for event in history if isinstance(event, TaskScheduled)]
    assert names == SCOUTED[programs]
    # Whatever was replayed: the model was asked as often as the history says, a tool tried again.
    assert programs.CALLS == {"model": 3, "weigh Ulm": 1, "weigh Bonn": 2}


def test_tools_of_one_answer_run_at_the_same_time(runtime: Stage, programs: ModuleType) -> None:
    assert runtime.run(programs.meets) == "0, 1, 2, 3"


def test_an_approval_waits_without_a_process(runtime: Stage, programs: ModuleType) -> None:
    execution = runtime.start(programs.asks_first)
    eventually(lambda: execution.query("waiting"))
    asked = programs.CALLS["careful"]
    runtime.reopen()
    again = runtime.get_execution(execution.id)
    runtime.complete_promise(again.query("waiting")["delete"], True)
    assert again.result(WAIT) == "a.txt is deleted"
    assert asked == 1
    assert programs.CALLS == {"careful": 2, "delete": 1}


def test_what_a_model_refuses_is_not_tried_again(runtime: Stage, programs: ModuleType) -> None:
    assert "400" in runtime.run(programs.is_refused)
    assert programs.CALLS["wrong"] == 1


def test_a_limit_ends_the_execution_with_its_own_type(runtime: Stage, programs: ModuleType) -> None:
    raised, said = LIMITED[programs]
    with pytest.raises(raised, match=said):
        runtime.run(programs.is_limited)


def test_worker_processes_ask_no_model_twice(tmp_path: Path, programs: ModuleType) -> None:
    with LocalRuntime(tmp_path / "state.db", workers=2, cache_size=0) as runtime:
        execution = runtime.start_execution(programs.scouts, "ann")
        assert execution.result(WAIT) == "Ulm for ann and Bonn for ann"
        done = [event for event in execution.history() if isinstance(event, TaskCompleted)]
        assert len(done) == 5
