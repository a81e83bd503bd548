"""Schedules that workflows declare: what is refused, and what hinders nobody."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import Context, LocalRuntime, UsageError, workflow
from mini_workflow.errors import InvalidArguments, InvalidIdentifier
from mini_workflow.testing import WorkflowEnvironment
from mini_workflow.workflow import REGISTRY
from tests.aws.world import Fault, World


async def totals(ctx: Context, kind: str = "daily") -> str:
    return kind


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_workflows", {})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        "0 3 * * *",
        {"timezone": "UTC"},
        {"cron": "0 3 * * *", "every": 60},
        {"every": 60, "tag": {}},
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(
        UsageError, match=r"workflow 'totals': schedule=.*: give a mapping with either"
    ):
        workflow("totals", totals, schedule=wrong)
    assert REGISTRY.names() == []


@pytest.mark.parametrize(
    ("name", "wrong", "kind", "told"),
    [
        ("totals", {"cron": "x"}, UsageError, "workflow 'totals' declares a schedule: cron='x'"),
        (
            "totals",
            {"every": 60, "args": [1, 2]},
            InvalidArguments,
            "too many positional arguments",
        ),
        ("t" * 71, {"every": 60}, InvalidIdentifier, "cannot be the id of a schedule"),
    ],
)
def test_a_plan_that_cannot_be_keeps_a_runtime_from_opening(
    tmp_path: Path, name: str, wrong: Any, kind: type[Exception], told: str
) -> None:
    workflow(name, totals, schedule=wrong)
    with pytest.raises(kind, match=told):
        LocalRuntime(tmp_path / "state.db")
    REGISTRY._workflows.clear()
    with LocalRuntime(tmp_path / "state.db") as runtime:  # it was closed properly
        assert runtime.schedules.list() == []


def test_a_test_environment_makes_none_by_itself() -> None:
    workflow("totals", totals, schedule={"every": 3600})
    with WorkflowEnvironment() as env:
        env.advance(86_400)
        assert env.list_executions() == []
        assert [one.id for one in env.schedules.declare()] == ["totals"]
        env.advance(7_200)
        assert len(env.list_executions(workflow="totals")) == 2


# On AWS


def aws(**schedule: Any) -> World:
    workflow("totals", totals, schedule=schedule)  # type: ignore[call-overload]
    return World(REGISTRY)


def schedules(world: World) -> list[str]:
    return [one.id for one in world.client.schedules.list()]


def something(world: World) -> None:
    world.client.start_execution("totals")
    world.settle()


def test_a_process_of_the_orchestrator_says_it_once() -> None:
    with aws(every=365 * 86_400) as world:
        something(world)
        assert schedules(world) == ["totals"]
        made = len(world.history("schedule:totals"))
        something(world)
        world.orchestrator = world.process()  # another one, with the same code
        something(world)
        assert len(world.history("schedule:totals")) == made


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["dies", "fails"])
def test_whatever_goes_wrong_it_is_made_once(kind: Any, after: bool) -> None:
    with aws(every=365 * 86_400) as world:
        something(world)
        most = len(world.calls)
    for n in range(1, most + 1):
        with aws(every=365 * 86_400) as world:
            world.after(Fault(n, kind, after))
            something(world)
            something(world)
            assert schedules(world) == ["totals"], f"{kind} {after} at call {n}"
            assert world.recorded("schedule:totals")["ExecutionStarted"] == 1


def test_what_cannot_be_planned_hinders_no_execution(caplog: pytest.LogCaptureFixture) -> None:
    with aws(cron="x") as world, caplog.at_level(logging.ERROR):
        execution = world.client.start_execution("totals", "weekly")
        world.settle()
        assert execution.result(timeout=0) == "weekly"
        assert schedules(world) == []
    assert "a schedule that a workflow declares cannot be created" in caplog.text
