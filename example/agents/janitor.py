"""The agent: it looks for what fills a disk, and deletes it if a person allows that.

Its model is a script, for want of a key and a network; `JANITOR_MODEL=openai:gpt-5`, for example, has it
ask a real one. Every request to the model and every call of a tool is a task.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from mini_workflow import Context, Execution, Promise, PromiseTimeout, workflow
from mini_workflow.integrations.pydantic_ai import MiniWorkflowDurability

EVENTS = "events"
"""The stream of an execution with what the agent says: the events of pydantic-ai, and approvals."""

PATIENCE = timedelta(days=7)
"""How long a person may think."""

DISKS = {"web-1": "97 %", "web-2": "12 %"}

Call = tuple[str, dict[str, str]]

SCRIPT: dict[int, tuple[str, list[Call]]] = {
    0: ("Let me look at both.", [("disk_usage", {"host": host}) for host in DISKS]),
    2: ("It is web-1. What lies there?", [("list_files", {"host": "web-1"})]),
    3: ("The log may go.", [("delete", {"host": "web-1", "file": "access.log"})]),
    4: ("I am done with web-1, as you told me.", []),
}
"""What the model says and which tools it calls, by how much tools have answered so far."""


async def scripted(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    """Stand in for a model, which says one word after the other."""
    answers = sum(
        isinstance(part, ToolReturnPart) for message in messages for part in message.parts
    )
    note(f"model {answers}")
    text, calls = SCRIPT[answers]
    for number, word in enumerate(text.split(" ")):
        if number == 2 and f"{answers}" == os.environ.get("JANITOR_STALLS"):
            await asyncio.Event().wait()  # for the story: here the process is killed
        yield f"{' ' * bool(number)}{word}"
    for number, (tool, arguments) in enumerate(calls, start=1):
        call = DeltaToolCall(tool, tool_call_id=f"{tool}-{number}")
        yield {number: call}
        yield {number: DeltaToolCall(json_args=_json(arguments))}


def _json(arguments: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{name}": "{value}"' for name, value in arguments.items()) + "}"


def note(what: str) -> None:
    """Write down what was really done, where the story wants to count it."""
    if ledger := os.environ.get("JANITOR_LEDGER"):
        with Path(ledger).open("a") as file:
            file.write(f"{what}\n")


janitor = Agent(
    os.environ.get("JANITOR_MODEL") or FunctionModel(stream_function=scripted, model_name="script"),
    name="janitor",
    instructions="You keep disks from filling up.",
    output_type=[str, DeferredToolRequests],
    capabilities=[MiniWorkflowDurability(stream=EVENTS)],
)


@janitor.tool_plain
def disk_usage(host: str) -> str:
    note(f"disk_usage {host}")
    return DISKS[host]


@janitor.tool_plain
def list_files(host: str) -> list[str]:
    note(f"list_files {host}")
    return ["access.log", "database"]


@janitor.tool_plain(requires_approval=True)
def delete(host: str, file: str) -> str:
    note(f"delete {host} {file}")
    return "deleted"


@workflow("example.make_room")
async def make_room(ctx: Context, question: str) -> str:
    said = ctx.stream(EVENTS)
    result = await janitor.run(question)
    while isinstance(requests := result.output, DeferredToolRequests):
        answers = DeferredToolResults()
        for call in requests.approvals:
            wanted = " ".join([call.tool_name, *call.args_as_dict().values()])
            promise, since = ctx.promise(wanted, timeout=PATIENCE), ctx.now()
            said.write({"event_kind": "approval_wanted", "for": wanted})
            allowed = await answered(promise)
            days = (ctx.now() - since) // timedelta(days=1)
            said.write({"event_kind": "approval_given", "allowed": allowed, "days": days})
            answers.approvals[call.tool_call_id] = allowed
        result = await janitor.run(
            message_history=result.all_messages(), deferred_tool_results=answers
        )
    return str(result.output)


async def answered(promise: Promise) -> bool:
    """Wait for a person, without a process if need be; who is silent for too long has refused."""
    try:
        return bool(await promise)
    except PromiseTimeout:
        return False


def told(execution: Execution) -> dict[str, Any]:
    """Return what can be told of an execution: how it is, and its answer or what it wants to be allowed."""
    status = execution.describe().status
    if status == "completed":
        return {"id": execution.id, "status": status, "answer": execution.result(timeout=5)}
    wanted = {promise.name: promise.token for promise in execution.open_promises()}
    return {"id": execution.id, "status": status, "approvals": wanted}
