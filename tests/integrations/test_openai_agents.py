"""Agents of the OpenAI Agents SDK: what a model has said and a tool has returned is asked for once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    ModelSettings,
    RunConfig,
    Runner,
    ShellTool,
    Span,
    Trace,
    TracingProcessor,
    set_trace_processors,
)
from agents.retry import ModelRetrySettings

from mini_workflow import Context, UsageError, workflow
from mini_workflow.integrations.openai_agents import DurableRunner, event_of, make_durable
from mini_workflow.testing import WorkflowEnvironment
from tests.behaviours.stage import Stage
from tests.integrations.openai_programs import (
    CALLS,
    Weather,
    asks_another,
    asks_first,
    careful,
    forgetful,
    goes_on_in_another,
    hands_over,
    hands_to_a_stranger,
    look,
    patient,
    remembers_in_a_session,
    speaks,
    waits,
)
from tests.waiting import WAIT, eventually


class Spans(TracingProcessor):
    """Keeps the names of what was traced."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.spans: list[Span[Any]] = []

    def on_trace_start(self, trace: Trace) -> None:
        self.traces.append(trace)

    def on_trace_end(self, trace: Trace) -> None:
        pass

    def on_span_start(self, span: Span[Any]) -> None:
        pass

    def on_span_end(self, span: Span[Any]) -> None:
        self.spans.append(span)

    def shutdown(self) -> None:
        pass

    def force_flush(self) -> None:
        pass


@pytest.fixture(autouse=True)
def spans() -> Iterator[Spans]:
    """What is traced goes nowhere else."""
    CALLS.clear()
    kept = Spans()
    set_trace_processors([kept])
    yield kept
    set_trace_processors([])


def test_what_is_refused_is_not_done_and_the_model_is_told(runtime: Stage) -> None:
    execution = runtime.start(asks_first)
    eventually(lambda: execution.query("waiting"))
    runtime.complete_promise(execution.query("waiting")["delete"], False)
    assert "not approved" in execution.result(WAIT)
    assert CALLS == {"careful": 2}


def test_an_interrupted_run_goes_on_in_the_next_run_of_the_execution(runtime: Stage) -> None:
    assert runtime.run(goes_on_in_another) == "a.txt is deleted"
    assert CALLS == {"careful": 2, "delete": 1}


def test_an_agent_hands_over_to_another(runtime: Stage) -> None:
    assert runtime.run(hands_over) == ["open spanish", "Buenas."]
    assert CALLS == {"reception": 1, "spanish": 1}


def test_an_agent_that_is_not_durable_is_not_handed_over_to(runtime: Stage) -> None:
    with pytest.raises(UsageError, match="'open stranger' is not durable"):
        runtime.run(hands_to_a_stranger)
    assert CALLS["spanish"] == 0


def test_an_agent_may_be_the_tool_of_another(runtime: Stage) -> None:
    assert runtime.run(asks_another) == "It says: Ulm for bob and Bonn for bob"
    assert CALLS["model"] == 3


def test_a_session_is_read_and_written_by_tasks(runtime: Stage, tmp_path: Path) -> None:
    said = runtime.run(remembers_in_a_session, f"{tmp_path / 'sessions.db'}#ann")
    assert said == ["You said: one, two", True, 3, []]
    with closing(sqlite3.connect(tmp_path / "sessions.db")) as connection:
        assert connection.execute("SELECT count(*) FROM agent_messages").fetchone() == (0,)


def test_what_a_model_says_is_read_while_it_speaks_and_traced_once(
    runtime: Stage, spans: Spans
) -> None:
    execution = runtime.start(speaks)
    events = [event_of(chunk.value) for chunk in execution.stream("events")]
    assert execution.result(WAIT) == Weather(city="Ulm", degrees=20)
    kinds = [event["type"] if isinstance(event, dict) else event.type for event in events]
    assert kinds.count("response.completed") == CALLS["spoken"] == 2
    called, returned = (kinds.index(kind) for kind in ("tool_called", "tool_output"))
    assert kinds.index("response.completed") < called < returned
    assert events[returned] == {
        "type": "tool_output",
        "tool": "look",
        "call_id": "call-1",
        "output": "sunny",
    }
    text = "".join(
        event.delta for event in events if getattr(event, "type", "").endswith("text.delta")
    )
    assert Weather.model_validate_json(text) == Weather(city="Ulm", degrees=20)
    assert len({trace.trace_id for trace in spans.traces}) == 1
    assert [span.span_data.export()["name"] for span in spans.spans] == ["look"]
    assert spans.spans[0].span_data.export()["output"] == "sunny"


def test_a_busy_model_is_asked_again_when_it_says() -> None:
    with WorkflowEnvironment() as env:
        execution = env.start_execution(waits)
        env.advance(timedelta(minutes=59))
        assert CALLS["busy"] == 1
        env.advance(timedelta(minutes=10))
        assert execution.result() == "at last"
    assert CALLS["busy"] == 4


def test_outside_of_a_workflow_an_agent_runs_as_before(spans: Spans) -> None:
    CALLS["busy"] = 5
    assert asyncio.run(DurableRunner.run(patient, "Now?")).final_output == "at last"
    assert asyncio.run(Runner.run(careful, "Make room.")).interruptions

    async def streamed() -> Any:
        result = Runner.run_streamed(patient, "Now?")
        async for _ in result.stream_events():
            pass
        return result.final_output

    assert asyncio.run(streamed()) == "at last"


@workflow("openai_agents.runs_plainly")
async def runs_plainly(ctx: Context, how: str) -> Any:
    if how == "streamed":
        result = Runner.run_streamed(patient, "Now?", run_config=RunConfig(tracing_disabled=True))
        async for _ in result.stream_events():
            pass
    elif how == "another model":
        await DurableRunner.run(patient, "Now?", run_config=RunConfig(model="other"))
    else:
        await DurableRunner.run(Agent("open unknown"), "Now?")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("streamed", "use DurableRunner.run"),
        ("another model", "run_config has a model"),
        ("not durable", "'open unknown' is not durable"),
    ],
)
def test_what_would_ask_a_model_in_the_workflow_is_refused(how: str, said: str) -> None:
    with WorkflowEnvironment() as env, pytest.raises(UsageError, match=said):
        env.start_execution(runs_plainly, how).result()


def test_what_cannot_be_a_task_is_refused() -> None:
    with pytest.raises(UsageError, match="'loook', which is no tool of agent 'a'; it has look"):
        make_durable(Agent("a", tools=[look]), tool_options={"loook": {}})
    with pytest.raises(UsageError, match="is a ShellTool"):
        make_durable(Agent("b", tools=[ShellTool(executor=lambda request: "")]))
    again = ModelSettings(retry=ModelRetrySettings(max_retries=2))
    with pytest.raises(UsageError, match="would multiply"):
        make_durable(Agent("c", model_settings=again))
    assert make_durable(forgetful) is forgetful
