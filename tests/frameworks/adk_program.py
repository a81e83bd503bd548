"""Google's ADK: a model whose requests are tasks, asynchronous tools that call tasks, and the workflow's
own time and ids.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import urllib3  # which ADK imports in a run, where it may not look at sockets
from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.platform.time import set_time_provider
from google.adk.platform.uuid import set_id_provider
from google.adk.runners import InMemoryRunner
from google.genai import types

from mini_workflow import Context, current_workflow, workflow
from tests.frameworks.scales import conclusion, wanted, weigh
from tests.integrations.deaths import AGAIN, stop_once

assert urllib3


async def request(asked: LlmRequest) -> LlmResponse:
    await stop_once()
    parts = [part for content in asked.contents for part in content.parts or []]
    answers = [part.function_response.response for part in parts if part.function_response]
    seen = [str(answer["result"]) for answer in answers if answer]
    if city := wanted(seen):
        part = types.Part(function_call=types.FunctionCall(name="weigh_city", args={"city": city}))
    else:
        part = types.Part(text=conclusion(seen))
    return LlmResponse(content=types.Content(role="model", parts=[part]))


class TaskModel(BaseLlm):
    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        yield await current_workflow().task(request, llm_request, retry=AGAIN)


async def weigh_city(city: str) -> str:
    """Weigh a city."""
    return await current_workflow().task(weigh, city, retry=AGAIN)


agent = LlmAgent(name="scout", model=TaskModel(model="scripted"), tools=[weigh_city])


@workflow("frameworks.adk")
async def scouts(ctx: Context, question: str) -> str:
    set_time_provider(lambda: ctx.now().timestamp())
    set_id_provider(lambda: str(ctx.uuid4()))
    runner = InMemoryRunner(agent, app_name="scouts")
    session = await runner.session_service.create_session(app_name="scouts", user_id="ann")
    asked = types.UserContent(question or "Which city?")
    said = ""
    async for event in runner.run_async(user_id="ann", session_id=session.id, new_message=asked):
        if event.is_final_response() and event.content and event.content.parts:
            said = event.content.parts[0].text or ""
    return said
