"""The command `deploy`: a canary that is watched and taken back, promotion, and versions nobody needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mini_workflow import Context, RetryPolicy
from mini_workflow.cli.app import cli
from mini_workflow.cli.backends import AWSTarget
from mini_workflow.cli.commands import deploy
from mini_workflow.settings import ORCHESTRATOR_FUNCTION_NAME
from tests.aws.deployed import DAY, Deployed
from tests.aws.world import ENVIRONMENT, registry_of

FAILURES: list[Exception] = []
LATER = RetryPolicy(max_attempts=3, initial=3 * 86_400, maximum=3 * 86_400, jitter="none")


def work() -> str:
    if FAILURES:
        raise FAILURES.pop()
    return "done"


async def flow(ctx: Context) -> str:
    await ctx.wait_for_signal("go")
    return await ctx.task(work, retry=LATER)


async def another(ctx: Context) -> None: ...


class Time:
    """The time of the command: sleeping passes it, and something may happen meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.meanwhile: list[Any] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for happens in self.meanwhile:
            happens()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    FAILURES.clear()
    monkeypatch.setitem(ENVIRONMENT, ORCHESTRATOR_FUNCTION_NAME, "orchestrator:live")
    with Deployed(registry_of(flow), registry_of(flow)) as deployed:
        deployed.deploy("8", registry_of(flow))
        monkeypatch.setattr(AWSTarget, "client", lambda self: nullcontext(deployed.client))
        monkeypatch.setattr(AWSTarget, "reader", lambda self: nullcontext(deployed.client))
        yield deployed


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Time:
    passing = Time()
    monkeypatch.setattr(deploy, "time", passing)
    return passing


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--backend", "aws", "deploy", *arguments])


def told(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_canary_takes_a_share_and_is_promoted(world: Deployed) -> None:
    assert told("status") == {"version": "7", "canary": None, "weight": None, "executions": {}}
    began = {"version": "7", "canary": "8", "weight": 25.0, "problems": []}
    assert told("canary", "--weight", "25", "--watch", "0") == began
    assert (world.alias, world.weight) == (("7", "8"), 0.25)
    world.at("8")
    world.client.start_execution("flow", id="a")
    world.settle()
    assert told("status")["executions"] == {"8": 1}
    assert told("promote") == {"version": "8", "canary": None, "weight": None}
    assert world.alias == ("8",)
    assert "version 8 takes all executions" in run("status").output


def test_a_canary_that_does_well_is_promoted_by_itself(world: Deployed, passing: Time) -> None:
    done = run("canary", "--watch", "60", "--promote")
    assert done.exit_code == 0, done.output
    assert world.alias == ("8",)
    assert passing.now == 60
    assert world.cloudwatch.looks == 5
    assert "version 8 does no harm" in done.output


def rings(world: Deployed) -> None:
    world.cloudwatch.alarms["late"] = "ALARM"


def fails(world: Deployed) -> None:
    world.cloudwatch.errors["8"] = 2


@pytest.mark.parametrize(
    ("harm", "why"), [(rings, "alarms ring: late"), (fails, "calls of it have failed: 2")]
)
def test_a_canary_that_does_harm_is_taken_back_at_once(
    world: Deployed, passing: Time, harm: Any, why: str
) -> None:
    world.cloudwatch.alarms["late"] = "OK"
    passing.meanwhile.append(lambda: passing.now > 20 and harm(world))
    done = run("canary", "--watch", "600", "--promote", "--alarm", "late")
    assert done.exit_code == 1
    assert why in done.output
    assert world.alias == ("7",)
    assert passing.now == 30


def test_a_canary_is_taken_back_for_an_execution_that_it_has_blocked(
    world: Deployed, passing: Time
) -> None:
    world.versions["8"].close()
    world.deploy("8", registry_of(another))

    def blocks(version: str, name: str) -> None:
        world.at(version)
        world.client.start_execution("flow", id=name)
        world.settle()
        assert world.client.get_execution(name).describe().status == "blocked"

    # One that the version before has blocked says nothing about it.
    world.deploy("7", registry_of(another))
    blocks("7", "a")
    passing.meanwhile.append(lambda: passing.now == 15 and blocks("8", "b"))
    done = run("canary", "--watch", "600", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "version": "7",
        "canary": None,
        "weight": None,
        "problems": ["it has blocked executions: b"],
    }
    assert world.alias == ("7",)


def test_ctrl_c_leaves_the_canary_as_it_is(world: Deployed, passing: Time) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    passing.meanwhile.append(interrupted)
    assert run("canary", "--watch", "60").exit_code == 130
    assert world.alias == ("7", "8")


def test_somebody_else_who_moves_the_alias_is_not_undone(
    world: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    told("canary", "--watch", "0")
    deployment = world.client.deployment()
    read = deployment.traffic

    def traffic() -> Any:
        found = read()
        world.revision += 1
        return found

    monkeypatch.setattr(deployment, "traffic", traffic)
    monkeypatch.setattr(world.client, "deployment", lambda: deployment)
    done = run("promote")
    assert done.exit_code == 6
    assert "moving the alias 'live' of function 'orchestrator'" in done.output
    assert world.alias == ("7", "8")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["promote"], "there is no canary"),
        (["rollback"], "there is no canary to take back; name a version"),
        (["rollback", "--to", "5"], "has no version 5; it has 7, 8"),
        (["canary", "--version", "5"], "has no version 5; it has 7, 8"),
        (["canary", "--version", "7"], "version 7 takes all executions already"),
        (["canary", "--promote", "--watch", "0"], "--promote needs a canary that is watched"),
        (["canary", "--weight", "100"], "100"),
    ],
)
def test_what_cannot_be_changes_nothing(world: Deployed, arguments: list[str], why: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert why in done.output
    assert (world.alias, world.revision) == (("7",), 0)


def test_a_deployment_is_taken_back(world: Deployed) -> None:
    world.alias = ("8",)
    assert told("rollback", "--to", "7") == {"version": "7", "canary": None, "weight": None}
    assert world.alias == ("7",)
    told("canary", "--watch", "0")
    assert told("rollback")["version"] == "7"
    assert world.alias == ("7",)


def test_versions_are_about_aws() -> None:
    done = CliRunner().invoke(cli, ["deploy", "status"])
    assert done.exit_code == 2
    assert "deploy is for an engine on AWS" in done.output


# Versions that nobody needs


def deployed(world: Deployed, *versions: str) -> None:
    """One a day."""
    for version in versions:
        world.clock.advance(DAY)
        world.deploy(version, registry_of(flow))
        world.alias = (version,)


def test_what_nothing_needs_is_deleted(world: Deployed) -> None:
    deployed(world, "9", "10", "11", "12")
    world.clock.advance(DAY)
    gone = [
        {"function": name, "version": version}
        for name in ("orchestrator", "worker")
        for version in ("7", "8", "9", "10")
    ]
    assert told("prune", "--keep", "2", "--dry-run") == {"not_needed": gone}
    assert len(world.published["worker"]) == 6
    assert told("prune", "--keep", "2") == {"deleted": gone}
    assert list(world.published["worker"]) == list(world.published["orchestrator"]) == ["11", "12"]
    assert told("prune", "--keep", "2") == {"deleted": []}


def test_what_an_open_execution_is_with_stays_with_its_worker(world: Deployed) -> None:
    world.at("8")
    world.client.start_execution("flow", id="open")
    world.client.start_execution("flow", id="closed")
    world.settle()
    deployed(world, "9", "10")
    world.at("9")
    world.alias = ("9",)
    world.client.get_execution("closed").signal("go")
    world.settle()
    world.alias = ("10",)
    world.clock.advance(DAY)
    told("prune", "--keep", "1")
    assert list(world.published["orchestrator"]) == list(world.published["worker"]) == ["8", "10"]


def test_the_worker_stays_that_a_failed_attempt_is_tried_again_on(world: Deployed) -> None:
    world.at("7")
    world.client.start_execution("flow", id="a")
    FAILURES.append(ConnectionError("once"))
    world.client.get_execution("a").signal("go")
    world.settle()  # the next attempt is due in three days
    deployed(world, "9", "10")
    world.at("10")
    world.client.get_execution("a").signal("go")
    world.settle()
    assert world.writer("a") == "10"
    told("prune", "--keep", "1")
    assert list(world.published["worker"]) == ["7", "9", "10"]  # 9 was the newest until just now
    world.clock.advance(DAY)
    told("prune", "--keep", "1")
    assert list(world.published["worker"]) == ["7", "10"]
    assert list(world.published["orchestrator"]) == ["10"]
    world.run()
    assert world.result("a") == "done"
    told("prune", "--keep", "1")
    assert list(world.published["worker"]) == ["10"]


def test_what_a_canary_takes_stays(world: Deployed) -> None:
    world.clock.advance(DAY)
    deployed(world, "9", "10")
    world.alias = ("8", "9")
    world.clock.advance(DAY)
    told("prune", "--keep", "1")
    assert (
        list(world.published["orchestrator"]) == list(world.published["worker"]) == ["8", "9", "10"]
    )


def test_what_any_alias_leads_to_stays(world: Deployed) -> None:
    deployed(world, "9", "10", "11")
    world.aliases = {("orchestrator", "stable"): "8", ("worker", "live"): "7", ("worker", "a"): "9"}
    world.clock.advance(DAY)
    told("prune", "--keep", "1")
    assert list(world.published["orchestrator"]) == ["8", "11"]
    assert list(world.published["worker"]) == ["7", "8", "9", "11"]


def test_what_an_alias_is_moved_to_meanwhile_stays(
    world: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(world, "9", "10")
    world.clock.advance(DAY)
    deployment = world.client.deployment()
    unneeded = deployment.unneeded

    def moved(keep: int) -> Any:
        found = unneeded(keep)
        world.alias = ("10", "8")
        return found

    monkeypatch.setattr(deployment, "unneeded", moved)
    monkeypatch.setattr(world.client, "deployment", lambda: deployment)
    gone = told("prune", "--keep", "1")["deleted"]
    assert [one["version"] for one in gone if one["function"] == "orchestrator"] == ["7", "9"]
    assert list(world.published["orchestrator"]) == ["8", "10"]


# Another Python


def local_values(world: Deployed) -> None:
    class Local:
        pass

    async def holds(ctx: Context) -> None:
        await ctx.task(Local)
        await ctx.wait_for_signal("go")

    world.registry = registry_of(holds, flow)
    world.client = world.process()
    world.deploy("7", world.registry)
    world.at("7")
    for name in ("holds", "flow"):
        world.client.start_execution(name, id=name)
    world.worker = world.process()
    world.settle()


def test_another_python_is_refused_while_executions_need_the_one_that_is_there(
    world: Deployed,
) -> None:
    local_values(world)
    done = run("check", "--python", "3.99", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "deployed": "3.13",
        "wanted": "3.99",
        "executions": ["holds"],
    }
    accepted = run("check", "--python", "3.99", "--accept")
    assert accepted.exit_code == 0
    assert "holds (holds) has values" in accepted.output
    assert run("check", "--python", "3.13").exit_code == 0
    world.at("7")
    world.client.get_execution("holds").signal("go")
    world.settle()
    assert run("check", "--python", "3.99").exit_code == 0
