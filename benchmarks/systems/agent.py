"""The agent that is run: so many rounds of a request to a model and a call of a tool.

The model is the framework's own for tests, which is a function. Only measurements of agents import this.
"""

from __future__ import annotations

from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import UsageLimits

NAME = "rounds"


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Call the tool as often as the prompt says, and then say how often it was."""
    rounds, done = int(str(messages[0].parts[-1].content)), len(messages) // 2  # type: ignore[union-attr]
    if done < rounds:
        return ModelResponse(parts=[ToolCallPart("double", {"number": done})])
    return ModelResponse(parts=[TextPart(str(done))])


async def double(number: int) -> str:
    return f"{2 * number}"


def made(*capabilities: Any, tool: Any = double) -> Agent[None, str]:
    """Return the agent, with what makes it and its tool durable."""
    model = FunctionModel(answer, model_name="scripted")
    return Agent(model, name=NAME, tools=[tool], capabilities=list(capabilities))


async def run(agent: Any, rounds: int) -> str:
    """Run the agent; by default the framework stops after fifty requests."""
    result = await agent.run(str(rounds), usage_limits=UsageLimits(request_limit=None))
    return str(result.output)


def tasks(rounds: int) -> int:
    """How many requests and calls of tools there are."""
    return 2 * rounds + 1
