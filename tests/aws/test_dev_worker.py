"""Executions whose tasks are all for one worker, that of the developer who has started them."""

from __future__ import annotations

import json
from typing import Any

from mini_workflow import Context
from mini_workflow.core import events
from mini_workflow.settings import DEV_WORKER, WORKERS
from tests.aws.test_pull_worker import BODIES, Place, did
from tests.aws.world import Fault, World, registry_of


async def child(ctx: Context) -> int:
    return await ctx.task(did, 3)


async def whole(ctx: Context, again: bool) -> list[int]:
    done = [await ctx.task(did, 1), await ctx.task(did, 2, worker="gpu")]
    done.append(await ctx.child("child", id=f"child-{again}"))
    if again:
        ctx.continue_as_new(False)
    return done


REGISTRY = registry_of(child, whole)
SETTINGS = {
    WORKERS: json.dumps({"dev-ann": "http://127.0.0.1/0/big", "gpu": "function"}),
    DEV_WORKER: "dev-ann",
}


class Laptop(Place):
    """The same, for an execution that a developer has started."""

    registry = REGISTRY
    settings = SETTINGS
    worker = "dev-ann"
    started = ("e", "child-True", "child-False")


def workers(world: World, name: str) -> set[str]:
    found = world.client.get_execution(name).history()
    return {event.worker for event in found if isinstance(event, events.TaskScheduled)}


def finished(place: Laptop) -> Any:
    execution = place.world.client.start_execution("whole", True, id="e")
    place.run()
    return execution.result(0)


def test_children_later_runs_and_tasks_that_name_another_worker_are_the_developers_too() -> None:
    with Laptop() as place:
        assert finished(place) == [1, 2, 3]
        assert not place.world.services.invocations
        for name in Laptop.started:
            assert workers(place.world, name) == {"dev-ann"}
        assert set(BODIES.values()) == {2}  # once in each of two runs


def test_a_laptop_that_goes_away_costs_an_attempt_and_nothing_else() -> None:
    with Laptop() as place:
        place.world.after(Fault(2, "dies", after=False))
        assert finished(place) == [1, 2, 3]
        assert place.world.deaths == 1
