"""Agents of the OpenAI Agents SDK with models that are functions: no key, no network."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from agents import (
    Agent,
    RunContextWrapper,
    RunState,
    Session,
    SQLiteSession,
    function_tool,
    handoff,
)
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call
from openai import APIConnectionError, APIStatusError
from pydantic import BaseModel

from mini_workflow import Context, RetryPolicy, workflow
from mini_workflow.integrations.openai_agents import DurableRunner, DurableSession, make_durable

CALLS: Counter[str] = Counter()
AT_ONCE = RetryPolicy(max_attempts=3, initial=0.001, jitter="none")
MEETING = threading.Barrier(4)


def scripted(answer: Callable[[ModelCall, list[str]], Any]) -> ScriptedModel:
    """A model that answers by what tools have returned so far, however often it is asked."""

    def respond(call: ModelCall) -> Any:
        items = call.input if isinstance(call.input, list) else []
        seen = [str(item["output"]) for item in items if item.get("type") == "function_call_output"]
        return answer(call, seen)

    return ScriptedModel([ModelStep.respond(respond)] * 200)


@dataclass
class Customer:
    name: str


def weighs(call: ModelCall, seen: list[str]) -> Any:
    """Weigh two cities, then say what was found."""
    CALLS["model"] += 1
    if len(seen) < 2:
        city = ["Ulm", "Bonn"][len(seen)]
        return [function_call("weigh", {"city": city}, call_id=f"call-{city}")]
    return [assistant_message(f"{' and '.join(seen)}")]


@function_tool(failure_error_function=None)
def weigh(context: RunContextWrapper[Customer], city: str) -> str:
    CALLS[f"weigh {city}"] += 1
    if city == "Bonn" and CALLS["weigh Bonn"] == 1:
        raise ConnectionError("no answer")
    return f"{city} for {context.context.name}"


scout = make_durable(
    Agent(
        "open scout",
        instructions=lambda context, agent: f"You work for {context.context.name}.",
        model=scripted(weighs),
        tools=[weigh],
    ),
    tool_options={"weigh": {"retry": AT_ONCE}},
)


@workflow("openai_agents.scouts")
async def scouts(ctx: Context, customer: str) -> str:
    result = await DurableRunner.run(scout, "Which city?", context=Customer(customer))
    return str(result.final_output)


def fans_out(call: ModelCall, seen: list[str]) -> Any:
    if not seen:
        return [
            function_call("meet", {"number": number}, call_id=f"call-{number}")
            for number in range(4)
        ]
    return [assistant_message(", ".join(sorted(seen)))]


@function_tool
def meet(number: int) -> str:
    """Goes on only when four of them are there."""
    MEETING.wait(60)
    return str(number)


parallel = make_durable(Agent("open parallel", model=scripted(fans_out), tools=[meet]))


@workflow("openai_agents.meets")
async def meets(ctx: Context) -> str:
    return str((await DurableRunner.run(parallel, "Meet.")).final_output)


def status_error(status: int, headers: dict[str, str] | None = None) -> APIStatusError:
    request = httpx2.Request("POST", "http://127.0.0.1/responses")
    response = httpx2.Response(status, headers=headers, request=request)
    return APIStatusError(f"status {status}", response=response, body=None)


def busy(call: ModelCall, seen: list[str]) -> Any:
    CALLS["busy"] += 1
    if CALLS["busy"] == 1:
        return status_error(429, {"Retry-After": "3600"})
    if CALLS["busy"] == 2:
        return status_error(503)
    if CALLS["busy"] == 3:
        return APIConnectionError(request=httpx2.Request("POST", "http://127.0.0.1/responses"))
    return [assistant_message("at last")]


def wrong(call: ModelCall, seen: list[str]) -> Any:
    CALLS["wrong"] += 1
    return status_error(400)


patient = make_durable(Agent("open patient", model=scripted(busy)))
refused = make_durable(Agent("open refused", model=scripted(wrong)))


@workflow("openai_agents.waits")
async def waits(ctx: Context) -> str:
    return str((await DurableRunner.run(patient, "Now?")).final_output)


@workflow("openai_agents.is_refused")
async def is_refused(ctx: Context) -> str:
    try:
        await DurableRunner.run(refused, "Now?")
    except Exception as error:
        return str(error)
    return "nothing was raised"


def spaniard(call: ModelCall, seen: list[str]) -> Any:
    CALLS["spanish"] += 1
    return [assistant_message("Buenas.")]


def receptionist(call: ModelCall, seen: list[str]) -> Any:
    CALLS["reception"] += 1
    (to,) = call.handoffs
    return [function_call(to.tool_name, "{}", call_id="call-1")]


spanish = Agent("open spanish", model=scripted(spaniard))
reception = make_durable(Agent("open reception", model=scripted(receptionist), handoffs=[spanish]))
stranger = Agent("open stranger", model=scripted(spaniard))
careless = make_durable(
    Agent("open careless", model=scripted(receptionist), handoffs=[handoff(stranger)])
)


@workflow("openai_agents.hands_over")
async def hands_over(ctx: Context) -> list[str]:
    result = await DurableRunner.run(reception, "Hola.")
    return [result.last_agent.name, str(result.final_output)]


@workflow("openai_agents.hands_to_a_stranger")
async def hands_to_a_stranger(ctx: Context) -> str:
    return str((await DurableRunner.run(careless, "Hola.")).final_output)


def deletes(call: ModelCall, seen: list[str]) -> Any:
    CALLS["careful"] += 1
    if not seen:
        return [function_call("delete", {"file": "a.txt"}, call_id="call-1")]
    return [assistant_message(seen[0])]


@function_tool(needs_approval=True)
async def delete(file: str) -> str:
    CALLS["delete"] += 1
    return f"{file} is deleted"


careful = make_durable(Agent("open careful", model=scripted(deletes), tools=[delete]))


@workflow("openai_agents.asks_first")
async def asks_first(ctx: Context) -> str:
    waiting: dict[str, str] = {}
    ctx.on_query("waiting", lambda: waiting)
    result = await DurableRunner.run(careful, "Make room.")
    while result.interruptions:
        state = result.to_state()
        for call in result.interruptions:
            promise = ctx.promise(call.name)
            waiting[str(call.name)] = promise.token
            if await promise:
                state.approve(call)
            else:
                state.reject(call)
        result = await DurableRunner.run(careful, state)
    return str(result.final_output)


@workflow("openai_agents.goes_on_in_another")
async def goes_on_in_another(ctx: Context, state: dict[str, Any] | None = None) -> str:
    """The state of an interrupted run goes to the next run of the execution."""
    if state is None:
        result = await DurableRunner.run(careful, "Make room.")
        ctx.continue_as_new(result.to_state().to_json())
    restored = await RunState.from_json(careful, state)
    for call in restored.get_interruptions():
        restored.approve(call)
    return str((await DurableRunner.run(careful, restored)).final_output)


def remembers(call: ModelCall, seen: list[str]) -> Any:
    CALLS["remembers"] += 1
    said = [item["content"] for item in call.input if item.get("role") == "user"]
    return [assistant_message(f"You said: {', '.join(said)}", item_id=f"message-{len(said)}")]


forgetful = make_durable(Agent("open forgetful", model=scripted(remembers)))


def open_session(session_id: str) -> Session:
    path, _, name = session_id.rpartition("#")
    return SQLiteSession(name, Path(path))


@workflow("openai_agents.remembers_in_a_session")
async def remembers_in_a_session(ctx: Context, session_id: str) -> list[Any]:
    session = DurableSession(session_id, open_session)
    for text in ("one", "two"):
        result = await DurableRunner.run(forgetful, text, session=session)
    last = await session.pop_item()
    left = await session.get_items()
    await session.clear_session()
    return [str(result.final_output), last is not None, len(left), await session.get_items()]


class Weather(BaseModel):
    city: str
    degrees: int


def forecasts(call: ModelCall, seen: list[str]) -> Any:
    CALLS["spoken"] += 1
    if not seen:
        return [function_call("look", "{}", call_id="call-1")]
    return [assistant_message(Weather(city="Ulm", degrees=20).model_dump_json())]


@function_tool
def look() -> str:
    return "sunny"


speaker = make_durable(
    Agent("open speaker", model=scripted(forecasts), tools=[look], output_type=Weather),
    stream="events",
    tracing=True,
)


@workflow("openai_agents.speaks")
async def speaks(ctx: Context) -> Weather:
    weather: Weather = (await DurableRunner.run(speaker, "How is it?")).final_output
    return weather


def asks_inside(call: ModelCall, seen: list[str]) -> Any:
    if not seen:
        return [function_call("ask_scout", {"input": "Which city?"}, call_id="call-1")]
    return [assistant_message(f"It says: {seen[0]}")]


chief = make_durable(
    Agent("open chief", model=scripted(asks_inside), tools=[scout.as_tool("ask_scout", "Asks.")]),
    tool_options={"ask_scout": False},
)


@workflow("openai_agents.asks_another")
async def asks_another(ctx: Context) -> str:
    result = await DurableRunner.run(chief, "Ask.", context=Customer("bob"))
    return str(result.final_output)


def never_ends(call: ModelCall, seen: list[str]) -> Any:
    return [function_call("look", "{}", call_id=f"call-{len(seen)}")]


endless = make_durable(Agent("open endless", model=scripted(never_ends), tools=[look]))


@workflow("openai_agents.is_limited")
async def is_limited(ctx: Context) -> str:
    return str((await DurableRunner.run(endless, "On.", max_turns=3)).final_output)
