"""The page of an agent: what it has asked models for, which tools it has called, and what it waits for."""

from __future__ import annotations

from starlette.testclient import TestClient

from mini_workflow import LocalRuntime
from tests.integrations import agents
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
