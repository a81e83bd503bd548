"""Attempts are run by the version of the worker that has the code of their call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy
from mini_workflow.settings import WORKER_FUNCTION_NAME
from mini_workflow.stores.sqs.call_store import CALLS, version_of
from mini_workflow.workflow import Registry
from tests.aws.world import ENVIRONMENT, World, registry_of

RUNS: list[str] = []
FAILURES: list[Exception] = []
AGAIN = RetryPolicy(max_attempts=5, initial=1.0, jitter="none")


def work(code: str) -> str:
    RUNS.append(code)
    if FAILURES:
        raise FAILURES.pop()
    return code


def code_of_version_1() -> Any:
    async def flow(ctx: Context) -> list[str]:
        first = await ctx.task(lambda: work("old"), retry=AGAIN, name="first")
        return [first, await ctx.task(lambda: work("old"), name="second")]

    return flow


def code_of_version_2() -> Any:
    async def flow(ctx: Context) -> list[str]:
        first = await ctx.task(lambda: work("new"), retry=AGAIN, name="first")
        return [first, await ctx.task(lambda: work("new"), name="second")]

    return flow


OLD, NEW = registry_of(code_of_version_1()), registry_of(code_of_version_2())


class Deployed(World):
    """A world whose functions have versions. Version 1 is deployed at first."""

    def deploy(self, registry: Registry, version: int) -> None:
        self.registry = registry
        self.environment = {**ENVIRONMENT, WORKER_FUNCTION_NAME: f"worker:{version}"}
        self.orchestrator = self.process()

    def start(self) -> None:
        """Begin an execution, whose first attempt is on its way then."""
        self.client.start_execution("flow", id="a")
        self.deliver()
        assert self.services.called == ["worker:1"]

    def result(self) -> Any:
        self.run()
        return self.client.get_execution("a").result()


@pytest.fixture
def world() -> Iterator[Deployed]:
    RUNS.clear()
    FAILURES.clear()
    with Deployed(OLD) as deployed:
        deployed.deploy(OLD, 1)
        yield deployed


def test_another_attempt_is_of_the_code_of_the_one_before_and_new_tasks_are_of_new_code(
    world: Deployed,
) -> None:
    FAILURES.append(ConnectionError("first"))
    world.start()
    world.deploy(NEW, 2)
    assert world.result() == ["old", "new"]
    assert RUNS == ["old", "old", "new"]
    assert world.services.called == ["worker:1", "worker:1", "worker:2"]


def test_it_stays_so_over_several_attempts_and_deployments(world: Deployed) -> None:
    FAILURES.extend([ConnectionError("third"), ConnectionError("second"), ConnectionError("first")])
    world.start()
    world.deploy(NEW, 2)
    world.until(lambda: len(world.services.called) == 3)
    world.deploy(NEW, 3)
    assert world.result() == ["old", "new"]
    assert world.services.called == [*["worker:1"] * 4, "worker:3"]


def test_an_attempt_whose_worker_died_is_run_again_by_the_same_version(world: Deployed) -> None:
    world.start()
    world.deploy(NEW, 2)
    world.lose(world.services.invoked.pop(), RuntimeError("out of memory"))
    assert world.result() == ["old", "new"]
    assert world.services.called == ["worker:1", "worker:1", "worker:2"]


def test_a_version_that_is_gone_takes_no_attempt_with_it(
    world: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    FAILURES.append(ConnectionError("first"))
    world.start()
    world.deploy(NEW, 2)
    world.services.gone.add("worker:1")
    with caplog.at_level(logging.WARNING):
        # What is captured anew is of the newer code, and goes where that is.
        assert world.result() == ["new", "new"]
    assert world.services.called == ["worker:1", "worker:1", "worker:2", "worker:2"]
    assert "worker:1 is gone: newer code runs attempt 2 of task 'first'" in caplog.text


def test_where_the_own_version_is_gone_too_the_newest_runs_it(world: Deployed) -> None:
    world.services.gone.add("worker:1")
    world.client.start_execution("flow", id="a")
    assert world.result() == ["old", "old"]
    assert world.services.called == ["worker:1", "worker:live"] * 2


def test_a_kept_call_that_was_tampered_with_is_not_run(
    world: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    FAILURES.append(ConnectionError("first"))
    world.start()
    world.deploy(NEW, 2)
    world.attempt()
    (key,) = (key for key in world.services.objects if CALLS in key)
    world.services.objects[key] = world.services.objects[key].replace(b'"code":"', b'"code":"x')
    with caplog.at_level(logging.WARNING):
        assert world.result() == ["new", "new"]
    assert world.services.called == ["worker:1", "worker:2", "worker:2"]
    assert "cannot be read, and is captured anew" in caplog.text


def test_only_what_fails_is_kept_and_nothing_without_versions(world: Deployed) -> None:
    world.start()
    world.run()
    assert not [key for key in world.services.objects if CALLS in key]
    RUNS.clear()
    FAILURES.append(ConnectionError("first"))
    with World(OLD) as plain:
        plain.client.start_execution("flow", id="a")
        plain.run()
        assert RUNS == ["old", "old", "old"]
        assert set(plain.services.called) == {"worker"}
        assert not [key for key in plain.services.objects if CALLS in key]


@pytest.mark.parametrize(
    ("function", "version"),
    [
        ("worker:7", "7"),
        ("worker:live", ""),
        ("worker", ""),
        ("123", ""),
        ("arn:aws:lambda:us-east-1:000000000000:function:worker:7", "7"),
        ("arn:aws:lambda:us-east-1:000000000000:function:7", ""),
    ],
)
def test_the_version_in_the_name_of_a_function(function: str, version: str) -> None:
    assert version_of(function) == version
