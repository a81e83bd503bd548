"""A decision that is too wide for one invocation is carried out over several, and nothing of it twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from mini_workflow import Context
from mini_workflow.core import events
from mini_workflow.engine import effects
from mini_workflow.engine.effects import RESERVE
from mini_workflow.workflow import Workflow
from tests.aws.flows import BODIES, did
from tests.aws.world import LAMBDA, STEPS, Fault, World, registry_of

# A process that dies closes nothing: what it was running is found by the garbage collector here.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WAVE = 10
TASKS = 36


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    BODIES.clear()
    monkeypatch.setattr(effects, "WAVE", WAVE)


async def wide(ctx: Context, tasks: int) -> int:
    return sum(await asyncio.gather(*(ctx.task(did, n) for n in range(tasks))))


async def child(ctx: Context, number: int) -> int:
    return number


CHILD = Workflow("child", child)


async def parents(ctx: Context, children: int) -> int:
    started = [ctx.child(CHILD, n, id=f"child-{n}") for n in range(children)]
    for each in started:
        each.signal("hello")
    return sum(await asyncio.gather(*started))


async def mixed(ctx: Context, number: int) -> int:
    tasks = [ctx.task(did, n) for n in range(number)]
    children = [ctx.child(CHILD, n, id=f"child-{n}") for n in range(number)]
    await ctx.sleep(3600)
    return sum(await asyncio.gather(*tasks, *children))


FLOWS = {"wide": 1, "parents": 1, "mixed": 2}


class Slow(World):
    """A world in which each invocation and each batch of messages takes `milliseconds`."""

    milliseconds = 0

    def answer(self, request: Any, event_name: str) -> Any:
        if self.acting == "orchestrator" and event_name.endswith(("Invoke", "MessageBatch")):
            self.clock.advance(self.milliseconds)
        return super().answer(request, event_name)


def slow(seconds: float) -> Slow:
    world = Slow(registry_of(wide, child, parents, mixed))
    world.milliseconds = round(seconds * 1000)
    return world


def check(world: World, flow: str) -> None:
    assert world.client.get_execution("e").result(timeout=0) == FLOWS[flow] * sum(range(TASKS))
    if flow != "wide":
        assert world.recorded("e")["ChildStarted"] == TASKS
        assert all(world.recorded(f"child-{n}")["ExecutionStarted"] == 1 for n in range(TASKS))
    assert world.services.queue == world.services.invoked == world.services.entries == []


@pytest.mark.parametrize("flow", FLOWS)
def test_what_one_invocation_has_no_time_for_goes_on_in_the_next(flow: str) -> None:
    """Each dispatch takes so long that a fraction of them fits into the function's time."""
    with slow(LAMBDA / 40) as world:
        world.client.start_execution(flow, TASKS, id="e")
        world.run()
        check(world, flow)
        # Nothing was done twice, and no process was at work for longer than it may.
        assert set(BODIES.values()) <= {1}
        assert world.services.invocations == BODIES
        assert all(answer == {"batchItemFailures": []} for answer in world.answers)
        assert world.longest * 1000 < LAMBDA * 1000


@pytest.mark.parametrize("flow", FLOWS)
def test_a_fan_out_in_one_wave_writes_nothing_more(
    flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "WAVE", 2 * TASKS)
    with slow(0) as world:
        world.client.start_execution(flow, TASKS, id="e")
        world.deliver()
        # The history, and the first marker in the index.
        assert world.cost()["s3.PutObject"] == 2
        world.run()
        check(world, flow)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_process_that_dies_again_and_again_gets_on_nevertheless(flow: str, after: bool) -> None:
    """It always ends after some calls. What is dispatched twice is a wave each time at most."""
    with slow(0) as world:
        world.prone = ("orchestrator",)
        world.client.start_execution(flow, TASKS, id="e")
        world.batch = 1
        for _ in range(STEPS):
            world.faults = [Fault(9 if flow == "parents" else 2 * WAVE, "dies", after)]
            if not (world.deliver() or world.attempt() or world.services.notify()):
                break
        check(world, flow)
        assert world.deaths
        assert sum(BODIES.values()) <= len(BODIES) + world.deaths * WAVE
        assert max(BODIES.values(), default=1) <= 3


def test_another_process_goes_on_where_the_time_of_the_first_was_up() -> None:
    with slow(LAMBDA / 40) as world:
        world.client.start_execution("wide", TASKS, id="e")
        for _ in range(40):
            world.orchestrator = world.process()
            world.deliver()
        world.run()
        check(world, "wide")
        assert set(BODIES.values()) == {1}


# Rows of inline tasks


async def row(ctx: Context, tasks: int) -> list[Any]:
    found: list[Any] = []
    side = ctx.task(did, "side")

    async def beside() -> None:
        number = 0
        while number < tasks // 2:
            found.append(await ctx.task(lasting, -number, inline=True))
            number += 1

    task = asyncio.ensure_future(beside())
    for number in range(tasks):
        found.append(await ctx.task(lasting, number, inline=True))
        await asyncio.sleep(0)
    await task
    found.append(await side)
    found.append(await ctx.wait_for_signal("end"))
    return found


RUN: Counter[int] = Counter()
WORLDS: list[World] = []


def lasting(number: int) -> int:
    RUN[number] += 1
    WORLDS[-1].clock.advance(LAMBDA * 1000 // 20)
    return number


@pytest.mark.parametrize("dies", [False, True])
def test_a_row_of_inline_tasks_goes_on_in_the_next_invocation(dies: bool) -> None:
    RUN.clear()
    with World(registry_of(row)) as world:
        WORLDS[:] = [world]
        world.client.start_execution("row", TASKS, id="e")
        world.client.get_execution("e").signal("end", "kept")
        if dies:
            world.after(Fault(6, "dies"))
        world.run()
        found = world.client.get_execution("e").result(timeout=0)
        assert found[-2:] == ["side", "kept"]
        assert sorted(found[:-2]) == sorted([*range(TASKS), *(-n for n in range(TASKS // 2))])
        history = world.history("e")
        assert world.recorded("e")["InlineTaskCompleted"] == TASKS + TASKS // 2
        # The signal came at the beginning, and was taken when the row was done.
        (index,) = (i for i, e in enumerate(history) if isinstance(e, events.SignalReceived))
        assert index > TASKS
        if not dies:
            assert max(RUN[n] for n in range(1, TASKS)) == 1
        assert world.longest * 1000 < LAMBDA * 1000
        # A replay finds the same, in one go.
        world.orchestrator.evict()
        assert world.client.get_execution("e").recording()


def test_an_inline_task_longer_than_what_is_reserved_runs_all_the_same() -> None:
    RUN.clear()

    async def long(ctx: Context) -> int:
        return sum([await ctx.task(lasting, n, inline=True) for n in range(4)])

    with World(registry_of(long)) as world:
        WORLDS[:] = [world]
        world.lambda_seconds = RESERVE / 2000
        world.client.start_execution("long", id="e")
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == 6
        assert set(RUN.values()) == {1}
        assert world.cost()["s3.PutObject"] >= 4  # one turn for each


def test_a_row_of_inline_tasks_can_be_ended() -> None:
    RUN.clear()
    with World(registry_of(row)) as world:
        WORLDS[:] = [world]
        world.client.start_execution("row", TASKS, id="e")
        world.deliver()
        world.client.get_execution("e").terminate("enough")
        world.run()
        assert world.client.get_execution("e").describe().status == "terminated"
        assert len(RUN) < TASKS + TASKS // 2 - 1
