"""LlamaIndex: the steps of its workflows ask models and call tools in tasks."""

from __future__ import annotations

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import MockFunctionCallingLLM, MockLLM
from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step

from mini_workflow import Context, current_workflow, workflow
from tests.frameworks.scales import conclusion, wanted, weigh
from tests.integrations.deaths import AGAIN, stop_once


async def request(seen: list[str]) -> str:
    """A model, which repeats what it is told."""
    await stop_once()
    return str(await MockLLM().acomplete(wanted(seen) or conclusion(seen)))


class Asked(Event):
    seen: list[str]


class Called(Event):
    city: str
    seen: list[str]


class Scout(Workflow):
    @step
    async def begin(self, event: StartEvent) -> Asked:
        return Asked(seen=[])

    @step
    async def ask(self, event: Asked) -> Called | StopEvent:
        said = await current_workflow().task(request, event.seen, retry=AGAIN)
        if wanted(event.seen):
            return Called(city=said, seen=event.seen)
        return StopEvent(result=said)

    @step
    async def call(self, event: Called) -> Asked:
        found = await current_workflow().task(weigh, event.city, retry=AGAIN)
        return Asked(seen=[*event.seen, found])


@workflow("frameworks.llama_index")
async def scouts(ctx: Context, question: str) -> str:
    return await Scout(timeout=None).run()


@workflow("frameworks.llama_index_on_a_thread")
async def on_a_thread(ctx: Context) -> str:
    agent = FunctionAgent(llm=MockFunctionCallingLLM(), tools=[weigh])
    return str(await agent.run("Which city?"))
