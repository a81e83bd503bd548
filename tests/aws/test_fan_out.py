"""A wide fan-out ends, whatever the limits of the queue and of one invocation are."""

from __future__ import annotations

import asyncio
import os

import pytest

from mini_workflow import Context
from tests.aws.fleet import Fleet
from tests.aws.flows import BODIES, did
from tests.aws.world import World, registry_of

TASKS = int(os.environ.get("MINI_WORKFLOW_FAN_OUT", "700"))
"""How many tasks a wide fan-out has here. Two seconds' worth of what one message group takes, and
more, so that most outcomes are refused at first; any number may be given."""


@pytest.fixture(autouse=True)
def _bodies() -> None:
    BODIES.clear()


async def wide(ctx: Context, tasks: int) -> int:
    found = await asyncio.gather(*(ctx.task(did, n) for n in range(tasks)))
    return sum(found)


@pytest.mark.timeout(300 + TASKS // 20)
def test_no_outcome_is_lost_when_a_message_group_takes_300_messages_a_second() -> None:
    with World(registry_of(wide)) as world:
        world.services.rate = 300
        execution = world.client.start_execution("wide", TASKS, id="e")
        fleet = Fleet(world, concurrency=1_000, seconds=0.2)
        fleet.run()
        assert execution.result(timeout=0) == sum(range(TASKS))
        assert len(BODIES) == TASKS
        assert set(BODIES.values()) == {1}
        assert world.recorded("e") == {
            "ExecutionStarted": 1,
            "TaskScheduled": TASKS,
            "TaskCompleted": TASKS,
            "ExecutionCompleted": 1,
        }
        # It was as crowded as that.
        assert fleet.most == min(TASKS, 1_000)
        assert world.services.throttled > TASKS - 2 * 300
