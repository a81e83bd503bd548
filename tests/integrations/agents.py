"""Agents with models of the framework's own for tests: no key, no network. What was called is counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ModelRetry, RunContext
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.usage import UsageLimits

from mini_workflow import Context, RetryPolicy, workflow
from mini_workflow.integrations.pydantic_ai import MiniWorkflowDurability

CALLS: Counter[str] = Counter()
AT_ONCE = RetryPolicy(max_attempts=3, initial=0.001, jitter="none")
MEETING = threading.Barrier(4)


def returned(messages: list[ModelMessage]) -> list[str]:
    """What tools have returned so far."""
    return [
        str(part.content)
        for message in messages
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]


def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Weigh two cities, then say what was found."""
    CALLS["model"] += 1
    seen = returned(messages)
    if len(seen) < 2:
        return ModelResponse(parts=[ToolCallPart("weigh", {"city": ["Ulm", "Bonn"][len(seen)]})])
    return ModelResponse(parts=[TextPart(" and ".join(seen))])


@dataclass
class Customer:
    name: str


scout = Agent(
    FunctionModel(answer, model_name="scripted"),
    name="scout",
    deps_type=Customer,
    capabilities=[MiniWorkflowDurability()],
)


@scout.instructions
def polite(ctx: RunContext[Customer]) -> str:
    return f"You work for {ctx.deps.name}."


@scout.tool(metadata={"mini_workflow": {"retry": AT_ONCE}})
def weigh(ctx: RunContext[Customer], city: str) -> str:
    CALLS[f"weigh {city}"] += 1
    if city == "Bonn" and CALLS["weigh Bonn"] == 1:
        raise ConnectionError("no answer")
    return f"{city} for {ctx.deps.name}"


@workflow("agents.scouts")
async def scouts(ctx: Context, customer: str) -> str:
    result = await scout.run("Which city?", deps=Customer(customer))
    return result.output


def fan_out(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    seen = returned(messages)
    if not seen:
        calls = [ToolCallPart("meet", {"number": number}) for number in range(4)]
        return ModelResponse(parts=calls)
    return ModelResponse(parts=[TextPart(", ".join(sorted(seen)))])


parallel = Agent(
    FunctionModel(fan_out, model_name="scripted"),
    name="parallel",
    capabilities=[MiniWorkflowDurability()],
)


@parallel.tool_plain
def meet(number: int) -> str:
    """Goes on only when four of them are there."""
    MEETING.wait(60)
    return str(number)


@workflow("agents.meets")
async def meets(ctx: Context) -> str:
    return (await parallel.run("Meet.")).output


def busy(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    CALLS["busy"] += 1
    if CALLS["busy"] < 3:
        raise ModelHTTPError(429, "scripted")
    return ModelResponse(parts=[TextPart("at last")])


def wrong(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    CALLS["wrong"] += 1
    raise ModelHTTPError(400, "scripted")


patient = Agent(
    FunctionModel(busy, model_name="scripted"),
    name="patient",
    capabilities=[
        MiniWorkflowDurability(models={"wrong": FunctionModel(wrong, model_name="wrong")})
    ],
)


@workflow("agents.waits")
async def waits(ctx: Context) -> str:
    return (await patient.run("Now?")).output


@workflow("agents.is_refused")
async def is_refused(ctx: Context) -> str:
    try:
        await patient.run("Now?", model="wrong")
    except ModelHTTPError as error:
        return f"{error.status_code}"
    return "nothing was raised"


@workflow("agents.is_limited")
async def is_limited(ctx: Context) -> str:
    result = await scout.run(
        "Which city?", deps=Customer("ann"), usage_limits=UsageLimits(request_limit=1)
    )
    return result.output


def careful_answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    CALLS["careful"] += 1
    seen = returned(messages)
    if not seen:
        return ModelResponse(parts=[ToolCallPart("delete", {"file": "a.txt"})])
    return ModelResponse(parts=[TextPart(seen[0])])


careful = Agent(
    FunctionModel(careful_answer, model_name="scripted"),
    name="careful",
    output_type=[str, DeferredToolRequests],
    capabilities=[MiniWorkflowDurability()],
)


@careful.tool_plain(requires_approval=True)
async def delete(file: str) -> str:
    CALLS["delete"] += 1
    return f"{file} is deleted"


@workflow("agents.asks_first")
async def asks_first(ctx: Context) -> str:
    waiting: dict[str, str] = {}
    ctx.on_query("waiting", lambda: waiting)
    result = await careful.run("Make room.")
    while isinstance(requests := result.output, DeferredToolRequests):
        answers = DeferredToolResults()
        for call in requests.approvals:
            promise = ctx.promise(call.tool_name)
            waiting[call.tool_name] = promise.token
            answers.approvals[call.tool_call_id] = await promise
        result = await careful.run(
            message_history=result.all_messages(), deferred_tool_results=answers
        )
    return result.output


def stubborn_answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    seen = [one for one in returned(messages) if one.startswith("it is")]
    if not seen:
        CALLS["stubborn"] += 1
        return ModelResponse(parts=[ToolCallPart("guess", {"number": CALLS["stubborn"]})])
    return ModelResponse(parts=[TextPart(seen[0])])


stubborn = Agent(
    FunctionModel(stubborn_answer, model_name="scripted"),
    name="stubborn",
    capabilities=[MiniWorkflowDurability()],
)


@stubborn.tool_plain(retries=3)
def guess(number: int) -> str:
    if number < 2:
        raise ModelRetry("higher")
    return f"it is {number}"


@workflow("agents.guesses")
async def guesses(ctx: Context) -> str:
    return (await stubborn.run("Guess.")).output


async def spoken(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
    CALLS["spoken"] += 1
    if not returned(messages):
        yield {0: DeltaToolCall("look", "{}", tool_call_id="call-1")}
        return
    for word in ("all", " is", " well"):
        yield word


speaker = Agent(
    FunctionModel(stream_function=spoken, model_name="scripted"),
    name="speaker",
    capabilities=[MiniWorkflowDurability(stream="events")],
)


@speaker.tool_plain
def look() -> str:
    return "seen"


@workflow("agents.speaks")
async def speaks(ctx: Context) -> str:
    return (await speaker.run("How is it?")).output


class Lock:
    """A value that cannot leave its process."""

    def __init__(self) -> None:
        self.name = "ann"
        self.lock = threading.Lock()


@workflow("agents.carries_a_lock")
async def carries_a_lock(ctx: Context) -> Any:
    return (await scout.run("Which city?", deps=Lock())).output  # type: ignore[arg-type]
