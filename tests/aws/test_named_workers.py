"""Tasks that name a worker: each goes to a function of its own, and fails where there is none."""

import json
from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy, SettingMissing, UsageError
from mini_workflow.settings import WORKERS, Settings
from tests.aws.world import Fault, World, registry_of

WORKERS_HERE = {WORKERS: json.dumps({"gpu": "gpu-function", "cpu": "cpu-function:live"})}


async def trained(ctx: Context, worker: str) -> list[int]:
    first = await ctx.task(lambda: 1)
    second = await ctx.task(lambda: 2, worker=worker)
    return [first, second, await ctx.task(lambda: 3, worker="cpu")]


async def caught(ctx: Context) -> str:
    patient = RetryPolicy(max_attempts=9, initial=60)
    try:
        await ctx.task(lambda: 2, worker="tpu", retry=patient, name="train")
    except UsageError as error:
        return str(error)
    return ""


def world_of(**settings: str) -> World:
    return World(registry_of(trained, caught), settings={**WORKERS_HERE, **settings})


def check_caught(world: World) -> None:
    said = world.client.get_execution("a").result(0)
    assert "'train'" in said
    assert "'tpu'" in said
    assert "it has 'cpu', 'gpu'" in said
    assert world.recorded("a")["TaskFailed"] == 1
    assert world.recorded("a")["TaskRetryScheduled"] == 0
    assert not world.services.invocations


def test_a_task_goes_to_the_function_of_its_worker() -> None:
    with world_of() as world:
        world.client.start_execution("trained", "gpu", id="a")
        world.run()
        assert world.client.get_execution("a").result(0) == [1, 2, 3]
        assert world.services.functions == ["worker", "gpu-function", "cpu-function%3Alive"]


def test_the_default_worker_may_be_named() -> None:
    with world_of() as world:
        world.client.start_execution("trained", "default", id="a")
        world.run()
        assert world.services.functions[:2] == ["worker", "worker"]


def test_a_task_for_a_worker_that_is_not_there_fails_at_once() -> None:
    with world_of() as world:
        world.client.start_execution("caught", id="a")
        world.settle()  # no time passes
        check_caught(world)


def test_without_any_the_error_says_so() -> None:
    with World(registry_of(caught)) as world:
        world.client.start_execution("caught", id="a")
        world.settle()
        assert "no other than the default one" in world.client.get_execution("a").result(0)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["dies", "fails", "throttled"])
def test_it_fails_once_whatever_goes_wrong_meanwhile(kind: Any, after: bool) -> None:
    with world_of() as world:
        world.client.start_execution("caught", id="a")
        world.run()
        calls = len(world.calls)
    assert calls > 3
    for n in range(1, calls + 1):
        with world_of() as world:
            world.client.start_execution("caught", id="a")
            world.after(Fault(n, kind, after))
            world.run()
            check_caught(world)


@pytest.mark.parametrize("value", ["gpu", "[]", '{"gpu": ""}', '{"gpu": 3}'])
def test_a_setting_that_is_none(value: str) -> None:
    with pytest.raises(SettingMissing, match=WORKERS):
        Settings({WORKERS: value}).workers()


def test_a_setting_that_is_absent() -> None:
    assert Settings({}).workers() == {}
    assert Settings({WORKERS: ""}).workers() == {}
