"""Strands: a model whose requests are tasks, and asynchronous tools that call tasks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from strands import Agent, tool
from strands.models import Model

from mini_workflow import Context, current_workflow, workflow
from tests.frameworks.scales import conclusion, wanted, weigh
from tests.integrations.deaths import AGAIN, stop_once


class Scripted(Model):
    """A model without a provider."""

    def update_config(self, **model_config: Any) -> None:
        raise NotImplementedError

    def get_config(self) -> Any:
        return {}

    def structured_output(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        await stop_once()
        blocks = [block for message in messages for block in message["content"]]
        results = [block["toolResult"] for block in blocks if "toolResult" in block]
        seen = [result["content"][0]["text"] for result in results]
        yield {"messageStart": {"role": "assistant"}}
        if city := wanted(seen):
            use = {"name": "weigh", "toolUseId": f"call-{city}"}
            yield {"contentBlockStart": {"start": {"toolUse": use}}}
            given = json.dumps({"city": city})
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": given}}}}
        else:
            yield {"contentBlockDelta": {"delta": {"text": conclusion(seen)}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if city else "end_turn"}}


MODEL = Scripted()


async def request(messages: Any, tools: Any, prompt: Any) -> list[Any]:
    return [event async for event in MODEL.stream(messages, tools, prompt)]


class TaskModel(Scripted):
    async def stream(
        self, messages: Any, tool_specs: Any = None, system_prompt: Any = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        call = current_workflow().task(request, messages, tool_specs, system_prompt, retry=AGAIN)
        for event in await call:
            yield event


@tool(name="weigh")
async def weigh_city(city: str) -> str:
    """Weigh a city."""
    return await current_workflow().task(weigh, city, retry=AGAIN)


@workflow("frameworks.strands")
async def scouts(ctx: Context, question: str) -> str:
    agent = Agent(TaskModel(), tools=[weigh_city], callback_handler=None, retry_strategy=None)
    return str(await agent.invoke_async(question or "Which city?")).strip()


@tool(name="weigh")
def weigh_on_a_thread(city: str) -> str:
    """Weigh a city."""
    raise AssertionError


@workflow("frameworks.strands_on_a_thread")
async def on_a_thread(ctx: Context) -> str:
    tools = [weigh_on_a_thread]
    agent = Agent(TaskModel(), tools=tools, callback_handler=None, retry_strategy=None)
    return str(await agent.invoke_async("Which city?"))
