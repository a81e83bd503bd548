"""Versions that nothing needs are deleted after a deployment: what Pulumi's engine asks after an update."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pulumi
import pytest

from mini_workflow import Context
from mini_workflow.settings import BUCKET_NAME, SIGNING_KEY
from pulumi_component import BadOption, prune
from pulumi_component.options import EngineOptions
from tests.aws.deployed import DAY, Deployed
from tests.aws.world import ENVIRONMENT, registry_of
from tests.pulumi.recording import ACCOUNT, REGION
from tests.pulumi.test_bundle import PLAIN, written

DEPLOYED = {
    "name": "orchestrator",
    "arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:orchestrator",
    "environment": {"variables": {name: ENVIRONMENT[name] for name in (BUCKET_NAME, SIGNING_KEY)}},
}


class Said:
    """What the user is told by Pulumi."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.warnings: list[str] = []
        self.news: list[str] = []
        monkeypatch.setattr(pulumi.log, "warn", self.warnings.append)
        monkeypatch.setattr(pulumi.log, "info", self.news.append)


async def flow(ctx: Context) -> str:
    return await ctx.wait_for_signal("go")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    with Deployed(registry_of(flow), registry_of(flow)) as world:

        def client(service: str, region_name: str) -> Any:
            assert region_name == REGION
            return world.aws(service)

        monkeypatch.setattr(boto3, "client", client)
        for version in ("8", "9", "10"):
            world.clock.advance(DAY)
            world.deploy(version, registry_of(flow))
            world.alias = (version,)
        yield world


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    return Said(monkeypatch)


def test_what_nothing_needs_is_deleted_and_what_is_needed_stays(
    world: Deployed, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mini_workflow.runtimes.aws.container.SystemClock", lambda: world.clock)
    world.at("8")
    world.client.start_execution("flow", id="open")
    world.settle()
    world.clock.advance(DAY)
    prune.prune(DEPLOYED, 1)
    assert list(world.published["orchestrator"]) == list(world.published["worker"]) == ["8", "10"]
    assert said.warnings == []
    [told] = said.news
    assert "orchestrator:7, orchestrator:9, worker:7, worker:9" in told
    # Asked again, by a deployment whose answer was lost: there is nothing more to do, or to say.
    prune.prune(DEPLOYED, 1)
    assert said.news == [told]


def test_what_was_the_newest_a_moment_ago_stays(
    world: Deployed, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mini_workflow.runtimes.aws.container.SystemClock", lambda: world.clock)
    prune.prune(DEPLOYED, 1)
    assert list(world.published["worker"]) == ["9", "10"]


def test_few_versions_are_kept_without_a_look_at_the_executions(
    world: Deployed, said: Said
) -> None:
    prune.prune({**DEPLOYED, "environment": {"variables": {}}}, 4)
    assert said.warnings == said.news == []
    assert len(world.published["worker"]) == 4


def test_a_failure_is_a_warning_for_the_deployment_has_been_made(
    world: Deployed, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(service: str, region_name: str) -> Any:
        raise ConnectionError("no credentials")

    monkeypatch.setattr(boto3, "client", client)
    prune.prune(DEPLOYED, 1)
    [told] = said.warnings
    assert "no credentials" in told
    assert "mini-workflow deploy prune" in told
    assert len(world.published["worker"]) == 4


HANDLERS = {"worker": "app.index.execute", "orchestrator": "app.index.orchestrate"}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, None),
        ({"versions": True}, 5),
        ({"canary": True}, 5),
        ({"versions": True, "keep_versions": 1}, 1),
        ({"versions": True, "keep_versions": False}, None),
    ],
)
def test_how_many_stay(options: dict[str, Any], kept: int | None) -> None:
    assert EngineOptions.from_args({**HANDLERS, **options}).keep_versions == kept


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"keep_versions": 3}, "it is about versions of the functions: give versions=True too"),
        ({"versions": True, "keep_versions": 0}, "keep_versions: 0 is not between 1 and"),
        ({"versions": True, "keep_versions": True}, "keep_versions: True is not a number"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption, match=told):
        EngineOptions.from_args({**HANDLERS, **options})


def test_nothing_of_a_template_deletes_versions(root: Path) -> None:
    with pytest.raises(BadOption, match="keep_versions: nothing of a template deletes versions"):
        written(root, PLAIN + "versions = true\nkeep_versions = 3\n")
