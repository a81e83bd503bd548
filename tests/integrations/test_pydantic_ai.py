"""Agents of pydantic-ai: what a model has said and a tool has returned is never asked for again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

from mini_workflow import ClosureNotSerializable, LocalRuntime
from mini_workflow.core.events import TaskCompleted, TaskScheduled
from mini_workflow.integrations.pydantic_ai import event_of
from mini_workflow.testing import WorkflowEnvironment
from tests.behaviours.stage import Stage
from tests.integrations.agents import (
    CALLS,
    MEETING,
    asks_first,
    carries_a_lock,
    guesses,
    is_limited,
    is_refused,
    meets,
    patient,
    scout,
    scouts,
    speaks,
    waits,
)
from tests.waiting import WAIT, eventually


@pytest.fixture(autouse=True)
def _counted() -> None:
    CALLS.clear()
    MEETING.reset()


def names(execution: object) -> list[str]:
    history = execution.history()  # type: ignore[attr-defined]
    return [event.name for event in history if isinstance(event, TaskScheduled)]


SCOUTED = [
    "scout__model.request",
    "scout__function_toolset__<agent>.call_tool:weigh",
    "scout__model.request",
    "scout__function_toolset__<agent>.call_tool:weigh",
    "scout__model.request",
]
"""Names stand in histories: a change of one strands executions that are in flight."""


def test_each_request_and_each_tool_is_a_task_with_its_own_retry(runtime: Stage) -> None:
    execution = runtime.start(scouts, "ann")
    assert execution.result(WAIT) == "Ulm for ann and Bonn for ann"
    assert names(execution) == SCOUTED
    # Whatever was replayed: the model was asked as often as the history says, a tool tried again.
    assert CALLS == {"model": 3, "weigh Ulm": 1, "weigh Bonn": 2}


def test_tools_of_one_answer_run_at_the_same_time(runtime: Stage) -> None:
    assert runtime.run(meets) == "0, 1, 2, 3"


def test_an_approval_waits_without_a_process(runtime: Stage) -> None:
    execution = runtime.start(asks_first)
    eventually(lambda: execution.query("waiting"))
    asked = CALLS["careful"]
    runtime.reopen()
    again = runtime.get_execution(execution.id)
    runtime.complete_promise(again.query("waiting")["delete"], True)
    assert again.result(WAIT) == "a.txt is deleted"
    assert asked == 1
    assert CALLS == {"careful": 2, "delete": 1}


def test_what_a_model_refuses_is_not_tried_again(runtime: Stage) -> None:
    assert runtime.run(is_refused) == "400"
    assert CALLS["wrong"] == 1


def test_a_tool_may_ask_the_model_to_try_again(runtime: Stage) -> None:
    assert runtime.run(guesses) == "it is 2"


def test_a_usage_limit_ends_the_execution_with_its_own_type(runtime: Stage) -> None:
    with pytest.raises(UsageLimitExceeded, match="request_limit of 1"):
        runtime.run(is_limited)


def test_what_a_model_says_is_read_while_it_speaks_once_and_in_order(runtime: Stage) -> None:
    execution = runtime.start(speaks)
    events = [event_of(chunk.value) for chunk in execution.stream("events")]
    assert execution.result(WAIT) == "all is well"
    parts = [event.part for event in events if isinstance(event, PartStartEvent)]
    deltas = [event.delta for event in events if isinstance(event, PartDeltaEvent)]
    said = [part.content for part in parts if isinstance(part, TextPart)]
    said += [delta.content_delta for delta in deltas if isinstance(delta, TextPartDelta)]
    assert "".join(said) == "all is well"
    kinds = [type(event).__name__ for event in events]
    assert kinds.count("FunctionToolCallEvent") == kinds.count("FunctionToolResultEvent") == 1
    assert kinds.index("FunctionToolResultEvent") < len(kinds) - 3
    assert CALLS["spoken"] == 2


def test_deps_that_cannot_leave_the_process_are_named(tmp_path: Path) -> None:
    with LocalRuntime(tmp_path / "state.db") as runtime, pytest.raises(ClosureNotSerializable):
        runtime.start_execution(carries_a_lock).result(WAIT)


def test_outside_of_a_workflow_an_agent_runs_as_without() -> None:
    CALLS["busy"] = 5
    assert asyncio.run(patient.run("Now?")).output == "at last"


def test_worker_processes_and_deaths_ask_no_model_twice(tmp_path: Path) -> None:
    with LocalRuntime(tmp_path / "state.db", workers=2, cache_size=0) as runtime:
        execution = runtime.start_execution(scouts, "ann")
        assert execution.result(WAIT) == "Ulm for ann and Bonn for ann"
        done = [event for event in execution.history() if isinstance(event, TaskCompleted)]
        assert len(done) == 5


def test_the_names_of_an_agent_are_pinned() -> None:
    durability = next(
        one for one in scout.root_capability.capabilities if hasattr(one, "operations")
    )
    assert sorted(durability.operations.by_name) == [
        "scout__function_toolset__<agent>.call_tool",
        "scout__function_toolset__<agent>.validate_args",
        "scout__model.cancel_suspended_response",
        "scout__model.compact_messages",
        "scout__model.request",
        "scout__model.request_stream",
    ]


def test_a_model_that_is_busy_is_asked_again_later() -> None:
    with WorkflowEnvironment() as env:
        assert env.start_execution(waits).result() == "at last"
    assert CALLS["busy"] == 3
