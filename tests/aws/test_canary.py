"""While an alias leads to two versions of the orchestrator, an execution stays with one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mini_workflow import Context
from mini_workflow.runtimes.aws.versions import KNOWN_FOR
from mini_workflow.settings import FUNCTION_NAME, FUNCTION_VERSION
from tests.aws.deployed import Deployed
from tests.aws.world import ENVIRONMENT, World, registry_of

RUNS: list[str] = []


def work(code: str) -> str:
    RUNS.append(code)
    return code


def flow_of(code: str, second: str = "second") -> Any:
    async def flow(ctx: Context) -> list[str]:
        ctx.on_query("code", lambda: code)
        first = await ctx.task(lambda: work(code), name="first")
        await ctx.wait_for_signal("go")
        return [first, await ctx.task(lambda: work(code), name=second)]

    return flow


async def added(ctx: Context) -> str:
    await ctx.wait_for_signal("go")
    return "added"


@pytest.fixture
def world() -> Iterator[Deployed]:
    RUNS.clear()
    with Deployed(registry_of(flow_of("old")), registry_of(flow_of("old"), added)) as deployed:
        yield deployed


def canary(world: Deployed, second: str = "other") -> None:
    """Version 8, whose code does not fit what version 7 has begun, gets some of the batches."""
    new = registry_of(flow_of("new", second), added)
    world.deploy("8", new)
    world.alias = ("7", "8")


def test_an_execution_stays_with_its_version_wherever_its_messages_arrive(world: Deployed) -> None:
    world.start("a", "7")
    canary(world)
    world.start("b", "8")
    assert (world.writer("a"), world.writer("b")) == ("7", "8")
    world.go_on("a", "8")
    world.go_on("b", "7")
    assert world.result("a") == ["old", "old"]
    assert world.result("b") == ["new", "new"]
    assert set(world.handed_over) == {"7", "8"}
    assert (world.writer("a"), world.writer("b")) == ("7", "8")


def test_a_batch_of_both_is_divided(world: Deployed) -> None:
    world.start("a", "7")
    canary(world)
    world.start("b", "8")
    for name in ("a", "b", "a"):
        world.client.get_execution(name).signal("go")
    world.at("8")
    assert world.deliver() == 3
    assert world.services.queue == []
    assert world.handed_over == ["7"]
    assert world.answers[-1] == {"batchItemFailures": []}
    world.settle()
    assert world.result("a") == ["old", "old"]
    assert world.result("b") == ["new", "new"]


def test_nothing_is_asked_for_what_a_version_has_written_itself(world: Deployed) -> None:
    world.start("a", "7")
    world.go_on("a", "7")
    assert world.asked == 0
    assert world.handed_over == []


def test_where_the_alias_leads_is_asked_once_a_minute(world: Deployed) -> None:
    canary(world)
    for number in range(5):
        world.start(f"a{number}", "7")
        world.go_on(f"a{number}", "8")
    assert world.asked == 1
    world.clock.advance(KNOWN_FOR)
    world.start("b", "7")
    world.go_on("b", "8")
    assert world.asked == 2


def test_a_canary_that_begins_is_seen_by_processes_that_know_of_none(world: Deployed) -> None:
    world.deploy("6", world.registry)
    world.alias = ("6",)
    world.start("old", "6")
    world.alias = ("7",)
    world.go_on("old", "7")  # that one knows now that there is no other
    canary(world)
    world.clock.advance(1_000)
    world.start("b", "8")
    world.go_on("b", "7")
    assert world.result("b") == ["new", "new"]


def test_promotion_has_the_new_version_take_everything(world: Deployed) -> None:
    world.start("a", "7")
    canary(world, "second")
    world.start("b", "8")
    world.alias = ("8",)
    world.go_on("a", "8")
    world.go_on("b", "8")
    assert world.result("a") == ["old", "new"]
    assert world.result("b") == ["new", "new"]
    assert world.writer("a") == "8"


def test_a_batch_that_comes_late_to_the_old_version_is_handed_over(world: Deployed) -> None:
    world.start("a", "7")
    canary(world, "second")
    world.alias = ("8",)
    world.start("b", "8")
    world.go_on("b", "7")
    assert world.result("b") == ["new", "new"]
    assert world.writer("b") == "8"


def test_after_a_roll_back_the_old_version_goes_on_with_what_fits(world: Deployed) -> None:
    canary(world, "second")
    world.start("b", "8")
    world.alias = ("7",)
    world.clock.advance(KNOWN_FOR)
    world.go_on("b", "7")
    assert world.result("b") == ["new", "old"]


@pytest.mark.parametrize("workflow", ["flow", "added"])
def test_after_a_roll_back_what_does_not_fit_is_blocked_and_says_what_to_do(
    world: Deployed, workflow: str
) -> None:
    canary(world)
    world.at("8")
    world.client.start_execution(workflow, id="b")
    world.settle()
    if workflow == "flow":
        world.client.get_execution("b").signal("go")
        world.deliver()  # the second task is on its way, under another name
    world.alias = ("7",)
    world.clock.advance(KNOWN_FOR)
    if workflow == "flow":
        world.at("7")
        world.settle()
    else:
        world.go_on("b", "7")
    found = world.client.get_execution("b").describe()
    assert found.status == "blocked"
    assert "version 8 of the orchestrator has advanced it, which was taken back" in str(
        found.blocked_reason
    )
    assert "mini-workflow deploy rollback --to 8" in str(found.blocked_reason)
    # What it says helps.
    world.alias = ("8",)
    world.at("8")
    world.client.get_execution("b").resume()
    world.settle()
    assert world.result("b") == (["new", "new"] if workflow == "flow" else "added")


def test_what_cannot_be_handed_over_comes_again(world: Deployed) -> None:
    world.start("a", "7")
    canary(world)
    old = world.versions.pop("7")
    world.at("8")
    world.client.get_execution("a").signal("go")
    assert world.deliver() == 1
    assert len(world.services.queue) == 1
    assert len(world.answers[-1]["batchItemFailures"]) == 1
    world.versions["7"] = old
    world.settle()
    assert world.result("a") == ["old", "old"]


def test_what_the_other_version_fails_with_comes_again(world: Deployed) -> None:
    world.start("a", "7")
    canary(world)
    world.at("8")
    world.client.get_execution("a").signal("go")
    world.services.refuses = True
    world.deliver()
    assert len(world.answers[-1]["batchItemFailures"]) == 1
    world.services.refuses = False
    world.settle()
    assert world.result("a") == ["old", "old"]


def test_a_process_that_cannot_ask_goes_by_what_it_knows_or_tries_again(world: Deployed) -> None:
    world.start("a", "7")
    world.start("c", "7")
    canary(world)
    world.throttled = True
    world.at("8")
    world.client.get_execution("a").signal("go")
    world.deliver()
    assert len(world.answers[-1]["batchItemFailures"]) == 1
    assert RUNS == ["old", "old"]
    world.throttled = False
    world.settle()
    assert world.result("a") == ["old", "old"]
    world.throttled = True
    world.clock.advance(KNOWN_FOR)
    world.go_on("c", "8")
    assert world.result("c") == ["old", "old"]


def test_a_query_is_answered_by_the_version_of_the_execution(world: Deployed) -> None:
    world.start("a", "7")
    canary(world)
    world.start("b", "8")
    for version in ("7", "8"):
        world.at(version)
        assert world.client.get_execution("a").query("code") == "old"
        assert world.client.get_execution("b").query("code") == "new"


def test_whoever_has_no_version_leaves_an_execution_where_it_is(world: Deployed) -> None:
    world.start("a", "7")
    document = world.client._parts.histories.read("a")
    assert document is not None
    from mini_workflow.ports import Commit
    from mini_workflow.ports.queue import NO_EFFECTS

    world.client._parts.histories.write(
        document, Commit("a", document.length), NO_EFFECTS, document.wakeup, 0
    )
    assert world.writer("a") == "7"


def test_without_versions_nothing_is_written_or_asked() -> None:
    RUNS.clear()
    with World(registry_of(flow_of("old"))) as world:
        world.environment = {**ENVIRONMENT, FUNCTION_NAME: "f", FUNCTION_VERSION: "3"}
        world.orchestrator = world.process()
        world.client.start_execution("flow", id="a")
        world.settle()
        document = world.client._parts.histories.read("a")
        assert document is not None
        assert document.written_by == ""
