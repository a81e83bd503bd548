"""Agents of both frameworks whose every task says that it was begun, and stops in its first attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agents import Agent as OpenAgent
from agents import RunContextWrapper, function_tool
from agents.testing import ModelCall, assistant_message, function_call
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from mini_workflow import Context, Limit, workflow
from mini_workflow.integrations.openai_agents import DurableRunner, make_durable
from mini_workflow.integrations.pydantic_ai import MiniWorkflowDurability
from tests.integrations.agents import returned
from tests.integrations.deaths import AGAIN, CITIES, stop_once
from tests.integrations.openai_programs import scripted


async def weighs(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    await stop_once(info.instructions or "")
    seen = returned(messages)
    if len(seen) < 2:
        return ModelResponse(parts=[ToolCallPart("weigh", {"city": CITIES[len(seen)]})])
    return ModelResponse(parts=[TextPart(" and ".join(seen))])


scout = Agent(
    FunctionModel(weighs, model_name="scripted"),
    name="crashing",
    deps_type=str,
    capabilities=[MiniWorkflowDurability(model={"retry": AGAIN}, tools={"retry": AGAIN})],
)


@scout.instructions
def ledger_of(ctx: RunContext[str]) -> str:
    return ctx.deps


@scout.tool(name="weigh")
async def weigh(ctx: RunContext[str], city: str) -> str:
    await stop_once(ctx.deps)
    return city


@workflow("agents.crashes")
async def crashes(ctx: Context, ledger: str) -> str:
    return (await scout.run("Which city?", deps=ledger)).output


async def open_weighs(call: ModelCall, seen: list[str]) -> Any:
    await stop_once(call.system_instructions or "")
    if len(seen) < 2:
        city = CITIES[len(seen)]
        return [function_call("weigh", {"city": city}, call_id=f"call-{city}")]
    return [assistant_message(" and ".join(seen))]


@function_tool(name_override="weigh")
async def open_weigh(context: RunContextWrapper[str], city: str) -> str:
    await stop_once(context.context)
    return city


open_scout = make_durable(
    OpenAgent(
        "open crashing",
        instructions=lambda context, agent: context.context,
        model=scripted(open_weighs),
        tools=[open_weigh],
    ),
    model={"retry": AGAIN},
    tools={"retry": AGAIN},
)


@workflow("openai_agents.crashes")
async def open_crashes(ctx: Context, ledger: str) -> str:
    result = await DurableRunner.run(open_scout, "Which city?", context=ledger)
    return str(result.final_output)


Limit("agents.requests", concurrency=3)
AT_ONCE: list[int] = []
"""How many requests were under way when each began."""

_BUSY: set[object] = set()


@contextmanager
def counted() -> Iterator[None]:
    """Count a request to a model while it is under way."""
    mark = object()
    _BUSY.add(mark)
    AT_ONCE.append(len(_BUSY))
    try:
        yield
    finally:
        _BUSY.remove(mark)


async def fans_out(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    with counted():
        await asyncio.sleep(0)
    seen = returned(messages)
    if not seen:
        return ModelResponse(parts=[ToolCallPart("double", {"number": n}) for n in range(4)])
    return ModelResponse(parts=[TextPart(" ".join(sorted(seen)))])


many = Agent(
    FunctionModel(fans_out, model_name="scripted"),
    name="many",
    capabilities=[MiniWorkflowDurability(model={"limit": "agents.requests"})],
)


@many.tool_plain
def double(number: int) -> str:
    return str(2 * number)


@workflow("agents.doubles")
async def doubles(ctx: Context) -> str:
    return (await many.run("Double.")).output


async def open_fans_out(call: ModelCall, seen: list[str]) -> Any:
    with counted():
        await asyncio.sleep(0)
    if not seen:
        return [function_call("open_double", {"number": n}, call_id=f"call-{n}") for n in range(4)]
    return [assistant_message(" ".join(sorted(seen)))]


@function_tool
def open_double(number: int) -> str:
    return str(2 * number)


open_many = make_durable(
    OpenAgent("open many", model=scripted(open_fans_out), tools=[open_double]),
    model={"limit": "agents.requests"},
)


@workflow("openai_agents.doubles")
async def open_doubles(ctx: Context) -> str:
    return str((await DurableRunner.run(open_many, "Double.")).final_output)
