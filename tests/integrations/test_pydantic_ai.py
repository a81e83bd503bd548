"""Agents of pydantic-ai: what a model has said and a tool has returned is never asked for again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

from mini_workflow import ClosureNotSerializable, LocalRuntime
from mini_workflow.integrations.pydantic_ai import event_of
from mini_workflow.testing import WorkflowEnvironment
from tests.behaviours.stage import Stage
from tests.integrations.agents import (
    CALLS,
    carries_a_lock,
    guesses,
    patient,
    scout,
    speaks,
    waits,
)
from tests.waiting import WAIT


@pytest.fixture(autouse=True)
def _counted() -> None:
    CALLS.clear()


def test_a_tool_may_ask_the_model_to_try_again(runtime: Stage) -> None:
    assert runtime.run(guesses) == "it is 2"


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
