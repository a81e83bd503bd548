"""Another Python is refused while executions are open: what Pulumi's engine asks before an update."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pulumi
import pytest

from mini_workflow import Context
from mini_workflow.settings import BUCKET_NAME
from pulumi_component import BadOption, upgrade
from pulumi_component.options import FunctionOptions
from tests.aws.world import World, registry_of
from tests.pulumi.recording import ACCOUNT, REGION

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"


async def flow(ctx: Context) -> str:
    return await ctx.wait_for_signal("go")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with World(registry_of(flow)) as world:

        def client(service: str, region_name: str) -> Any:
            assert region_name == REGION
            return world.aws(service)

        monkeypatch.setattr(boto3, "client", client)
        yield world


def update(before: str | None, after: str | None, accepted: str | None = None) -> None:
    def inputs(python: str | None) -> dict[str, Any]:
        return {"memorySize": 128} | ({"runtime": f"python{python}"} if python else {})

    variables = {BUCKET_NAME: "histories"}
    deployed = {"arn": ARN, "environment": {"variables": variables}}
    args = pulumi.ResourceHookArgs(
        "urn", "id", "Flow-worker-function", "type", inputs(after), inputs(before)
    )
    upgrade.check(args, deployed, accepted)


@pytest.mark.parametrize("status", ["running", "blocked"])
def test_it_is_refused_while_one_is_open(world: World, status: str) -> None:
    update("3.13", "3.14")
    world.client.start_execution("flow", id="a")
    if status == "blocked":
        world.registry = registry_of()
        world.orchestrator = world.process()
    world.settle()
    assert world.client.get_execution("a").describe().status == status
    with pytest.raises(BadOption) as refused:
        update("3.13", "3.14")
    assert "Flow-worker-function: from Python 3.13 to 3.14, while executions are open (a" in str(
        refused.value
    )
    assert 'accept_python="3.14"' in str(refused.value)
    with pytest.raises(BadOption):
        update("3.13", "3.14", accepted="3.13")
    update("3.13", "3.14", accepted="3.14")
    update("3.13", "3.13")
    update(None, "3.14")  # of an image, nobody here knows it
    update("3.13", None)


def test_it_is_refused_if_nobody_can_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def client(service: str, region_name: str) -> Any:
        raise ConnectionError("no credentials")

    monkeypatch.setattr(boto3, "client", client)
    with pytest.raises(BadOption, match=r"whether executions are open cannot be asked: .*no cred"):
        update("3.13", "3.14")
    update("3.13", "3.14", accepted="3.14")


@pytest.mark.parametrize("given", ["python3.14", "3", True])
def test_what_is_accepted_is_a_minor_version(given: Any) -> None:
    with pytest.raises(BadOption, match=r"accept_python: .* is not a minor version of Python"):
        FunctionOptions.from_args({"handler": "a.b", "accept_python": given})
