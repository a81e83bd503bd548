"""The page of an agent: what it has asked models for, which tools it has called, and what it waits for."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, Usage
from agents.testing import ModelStep, ScriptedModel, assistant_message
from starlette.testclient import TestClient

from mini_workflow import Context, LocalRuntime, workflow
from mini_workflow.core.codec import Codec
from mini_workflow.integrations.openai_agents import DurableRunner, make_durable
from mini_workflow.ui.execution_page import ExecutionPage
from mini_workflow.ui.followed import AllFollowed
from tests.integrations import agents
from tests.ui.flows import fan_out
from tests.ui.test_pages import text_of
from tests.waiting import WAIT, eventually

TOOL = "careful__function_toolset__&lt;agent&gt;.call_tool:delete"


def test_an_agent_shows_its_requests_tools_tokens_and_approvals(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = runtime.start_execution(agents.asks_first, id="a-1")
    eventually(lambda: execution.query("waiting"))
    page = text_of(browser.get("/executions/a-1").text)
    assert "careful__model.request #1 , completed" in page
    assert "promise #2 &#39;delete&#39; made" in page
    assert TOOL not in page

    runtime.complete_promise(execution.query("waiting")["delete"], True)
    execution.result(WAIT)
    page = text_of(browser.get("/executions/a-1").text)
    assert "promise #2 &#39;delete&#39; completed" in page
    assert f"{TOOL} #3 , completed" in page
    assert "careful__model.request #4 , completed" in page
    # Which tool the model has asked for, with which arguments, and what that took.
    assert "tool_name &#34;delete&#34; args dict, 1 file &#34;a.txt&#34;" in page
    assert page.count("usage dict, 12 input_tokens") == page.count(" output_tokens ") == 2


greeter = make_durable(
    Agent(
        "open greeter",
        model=ScriptedModel(
            [
                ModelStep(
                    [assistant_message("hello")],
                    Usage(requests=1, input_tokens=given, output_tokens=9, total_tokens=given + 9),
                )
                for given in (1200, 34) * 2
            ]
        ),
    )
)


@workflow("shown-greetings")
async def greetings(ctx: Context) -> int:
    for _ in range(2):
        await DurableRunner.run(greeter, "Say something.")
    return await ctx.task(lambda: {"usage": {"input_tokens": "many"}}, name="others")


def test_the_tokens_of_all_answers_of_models_are_summed(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    runtime.start_execution(greetings, id="g-1").result(WAIT)
    page = text_of(browser.get("/executions/g-1").text)
    assert "tokens 1,234 in, 18 out, of 2 answers" in page

    # A run that waits has those that it has spent so far, and its live page what is added.
    known = AllFollowed(runtime)
    execution = runtime.start_execution(agents.asks_first, id="a-1")
    eventually(lambda: execution.query("waiting"))
    before = ExecutionPage.read(known, "a-1", {}).usage
    assert (before.requests, before.input > 0, before.output > 0) == (1, True, True)
    spent = before.input
    runtime.complete_promise(execution.query("waiting")["delete"], True)
    execution.result(WAIT)
    after = ExecutionPage.read(known, "a-1", {}).usage
    assert after.requests == 2
    assert after.input > spent


def test_tokens_are_summed_without_decoding_a_value(
    runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.start_execution(greetings, id="g-1").result(WAIT)
    known = AllFollowed(runtime)

    def never(*_: Any) -> Any:
        raise AssertionError("a value was decoded")

    monkeypatch.setattr(Codec, "decode", never)
    monkeypatch.setattr(Codec, "show", never)
    with known.at("g-1") as one:
        assert (one.usage.requests, one.usage.input, one.usage.output) == (2, 1234, 18)


def test_a_run_that_has_asked_no_model_tells_of_no_tokens(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    runtime.start_execution(fan_out, 2, id="f-1").result(WAIT)
    assert "tokens" not in text_of(browser.get("/executions/f-1").text)
