"""Messages are pickled once however many requests have them, and are those of their time."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    UserPromptPart,
)

from mini_workflow import LocalRuntime, workflow
from mini_workflow.codecs import picklers
from mini_workflow.codecs.closures import HandedCall, capture_call, restore_call, share_call
from mini_workflow.context import Context
from mini_workflow.integrations.agent_messages import Messages
from mini_workflow.integrations.agent_tasks import Sent
from tests.waiting import WAIT


def content_of(sent: Sent) -> Any:
    return sent.content, sent.messages


def talk() -> list[ModelMessage]:
    return [
        ModelRequest(parts=[UserPromptPart("how full?")]),
        ModelResponse(parts=[ToolCallPart("usage", {"hosts": ["a"]}, "id")]),
    ]


def handed(messages: list[Any]) -> HandedCall:
    call = share_call(content_of, (Sent("rest", Messages(messages)),), {})
    assert isinstance(call, HandedCall)
    return call


def received(call: Any) -> list[Any]:
    function, args, kwargs = restore_call(call)
    return function(*args, **kwargs)[1]


@pytest.fixture
def pickled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of what was pickled."""
    sizes: list[int] = []
    dump = picklers.dump_call

    def counted(value: object) -> bytes:
        data = dump(value)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(picklers, "dump_call", counted)
    return sizes


async def length(sent: Sent) -> int:
    return len(sent.messages or [])


@workflow
async def growing(ctx: Context, rounds: int) -> int:
    messages: list[Any] = []
    for _ in range(rounds):
        messages += talk()
        assert await ctx.task(length, Sent(None, Messages(messages))) == len(messages)
    return len(messages)


def test_what_is_pickled_grows_with_the_conversation_not_with_its_square(
    runtime_in_threads: LocalRuntime, pickled: list[int]
) -> None:
    sums: list[int] = []
    for rounds in (5, 10):
        pickled.clear()
        assert runtime_in_threads.start_execution(growing, rounds).result(WAIT) == 2 * rounds
        sums.append(sum(pickled))
    assert sums[1] == 2 * sums[0]


@pytest.fixture
def runtime_in_threads(tmp_path: Any) -> Any:
    with LocalRuntime(tmp_path / "agents.db") as runtime:
        yield runtime


def test_a_task_gets_the_messages_of_the_time_of_its_call() -> None:
    messages = talk()
    expected = talk_like(messages)
    call = handed(messages)
    messages[1].parts[0].args["hosts"].append("b")  # type: ignore[union-attr]
    messages.append(messages[0])
    assert received(call) == expected
    assert received(handed(messages)) == messages


def talk_like(messages: list[Any]) -> list[Any]:
    return pickle.loads(pickle.dumps(messages))


@pytest.mark.parametrize("change", ["part", "arguments", "key", "field"])
def test_a_message_that_was_changed_is_pickled_again(change: str) -> None:
    messages: list[Any] = talk()
    handed(messages)
    if change == "part":
        messages[1].parts.append(ToolCallPart("other", None, "id 2"))
    elif change == "arguments":
        messages[1].parts[0].args["hosts"] = ["b"]
    elif change == "key":
        arguments = messages[1].parts[0].args
        arguments["others"] = arguments.pop("hosts")
    else:
        messages[0].parts[0].content = "how empty?"
    assert received(handed(messages)) == messages


def test_what_a_task_changes_is_seen_by_no_other() -> None:
    messages = talk()
    expected = talk_like(messages)
    call = handed(messages)
    spoiled = received(call)
    spoiled[1].parts[0].args["hosts"].clear()
    spoiled.clear()
    assert received(call) == received(handed(messages)) == messages == expected


class Odd:
    """May change unseen."""

    def __init__(self) -> None:
        self.values = [1]


def test_messages_with_what_may_change_unseen_are_pickled_each_time() -> None:
    message = ModelResponse(parts=[], metadata={"odd": Odd()})
    received(handed([message]))
    message.metadata["odd"].values.append(2)  # type: ignore[index]
    assert received(handed([message]))[0].metadata["odd"].values == [1, 2]


def test_messages_reach_another_process_as_a_list() -> None:
    messages = talk()
    call = capture_call(content_of, (Sent("rest", Messages(messages)),), {})
    assert received(call) == messages
