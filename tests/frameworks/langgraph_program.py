"""LangGraph: nodes that ask models and call tools in tasks."""

from __future__ import annotations

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from mini_workflow import Context, current_workflow, workflow
from tests.frameworks.scales import conclusion, wanted, weigh
from tests.integrations.deaths import AGAIN, stop_once


class State(TypedDict):
    seen: list[str]
    city: str | None
    said: str


async def request(seen: list[str]) -> tuple[str | None, str]:
    await stop_once()
    return wanted(seen), conclusion(seen)


async def model(state: State) -> dict[str, str | None]:
    city, said = await current_workflow().task(request, state["seen"], retry=AGAIN)
    return {"city": city, "said": said}


async def tool(state: State) -> dict[str, list[str]]:
    found = await current_workflow().task(weigh, state["city"], retry=AGAIN)
    return {"seen": [*state["seen"], found]}


async def after_model(state: State) -> str:
    """Asynchronous too: another would be called on a thread."""
    return "tool" if state["city"] else END


graph = StateGraph(State)
graph.add_node("model", model)
graph.add_node("tool", tool)
graph.add_edge(START, "model")
graph.add_conditional_edges("model", after_model)
graph.add_edge("tool", "model")
compiled = graph.compile()


@workflow("frameworks.langgraph")
async def scouts(ctx: Context, question: str) -> str:
    return (await compiled.ainvoke({"seen": [], "city": None, "said": ""}))["said"]
