"""What differs from place to place, and from value to value: partitions, characters, and patience."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mini_workflow import Context
from mini_workflow.settings import ROLE_ARN, SCHEDULE_KEY_ARN
from mini_workflow.stores.aws.clients import ANSWERS_WITHIN, LONGEST_ANSWER, Clients
from mini_workflow.stores.sqs.envelopes import dump, parse
from tests.aws.world import ENVIRONMENT, World, registry_of

ODD = "a\ufffeb\uffff\\\x00\x1b\x7f\u2028\U0001ffff"


async def nap(ctx: Context) -> None:
    await ctx.sleep(3600)


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_a_schedule_is_in_the_partition_of_its_role(
    partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, ROLE_ARN, f"arn:{partition}:iam::000000000000:role/scheduler")
    with World(registry_of(nap)) as world:
        world.client.start_execution("nap", id="e")
        world.run()
        assert world.services.targets == [f"arn:{partition}:scheduler:::aws-sdk:sqs:sendMessage"]


@pytest.mark.parametrize("key", [None, "arn:aws:kms:us-east-1:000000000000:key/0a1b"])
def test_a_schedule_is_encrypted_with_the_key_of_the_engine(key: str | None) -> None:
    with World(registry_of(nap), settings={SCHEDULE_KEY_ARN: key} if key else {}) as world:
        world.client.start_execution("nap", id="e")
        world.run()
        assert world.services.keys == [key]


def echo(value: Any) -> Any:
    return value


async def odd(ctx: Context, text: str) -> list[Any]:
    """Odd characters wherever a text goes by way of a queue."""
    found: list[Any] = [text, await ctx.task(echo, text, name=text)]
    child = ctx.child("odd_child", text, id="child")
    child.signal(text, text)
    found.append(await child)
    found.append(await ctx.wait_for_signal(text))
    try:
        await ctx.task(fail, text, name=text)
    except ValueError as error:
        found.append(str(error))
    return found


async def odd_child(ctx: Context, text: str) -> Any:
    return await ctx.wait_for_signal(text)


def fail(text: str) -> None:
    raise ValueError(text)


def test_no_text_is_refused_by_the_queue() -> None:
    with World(registry_of(odd, odd_child)) as world:
        execution = world.client.start_execution("odd", ODD, id="e")
        execution.signal(ODD, ODD)
        world.run()
        assert execution.result(timeout=0) == [ODD] * 5


def test_what_nobody_can_read_is_set_aside_whatever_it_says() -> None:
    with World(registry_of(nap)) as world:
        world.client.start_execution("nap", id="e")
        world.services.put("e", json.dumps({"execution_id": ODD, "kind": "wake", "content": ODD}))
        world.services.put("e", json.dumps({"execution_id": "e", "kind": ODD}))
        world.run()
        assert len(world.services.entries) == 2


def test_an_envelope_is_as_it_was() -> None:
    for text in (ODD, "plain", "\ufffe", '\\ufffe "'):
        assert parse(dump({"content": text})) == {"content": text}


def test_whoever_asks_waits_for_the_answer_and_everybody_else_asks_again() -> None:
    """A query may take as long as the orchestrator's function. Asked again it would run twice."""
    clients = Clients(lambda service: object())
    assert clients.get("s3") is clients.get("s3", answers_within=ANSWERS_WITHIN)
    assert clients.get("lambda") is not clients.get("lambda", answers_within=LONGEST_ANSWER)


def test_boto3_waits_as_long_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    clients = Clients()
    assert clients.get("lambda").meta.config.read_timeout == ANSWERS_WITHIN
    patient = clients.get("lambda", answers_within=LONGEST_ANSWER)
    assert patient.meta.config.read_timeout == LONGEST_ANSWER > 900


async def asked(ctx: Context) -> None:
    ctx.on_query("how", lambda: "well")
    await ctx.sleep(60)


def test_a_query_is_asked_by_the_patient_client() -> None:
    with World(registry_of(asked)) as world:
        execution = world.client.start_execution("asked", id="e")
        world.deliver()
        assert execution.query("how") == "well"
        made = world.client._parts.clients._made
        assert ("lambda", LONGEST_ANSWER) in made
        assert ("lambda", ANSWERS_WITHIN) not in made
