"""Two clients start one execution at the same time: both have it, and it runs once."""

from __future__ import annotations

import pytest

from mini_workflow import ExecutionAlreadyExists, ExecutionClosed
from tests.aws.flows import BODIES, REGISTRY, SCENARIOS
from tests.aws.world import World

CALLS = 3


@pytest.mark.parametrize("far", [False, True], ids=["only started", "ended"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("n", range(1, CALLS + 1))
def test_two_starts_of_one_id_both_succeed(n: int, after: bool, far: bool) -> None:
    """At whichever call of the first the second one comes."""
    BODIES.clear()
    with World(REGISTRY) as world:
        second = world.process()

        def meanwhile() -> None:
            acting, world.acting = world.acting, ""
            assert second.start_execution("sequence", id="e").id == "e"
            if far:
                world.run()
            world.acting = acting

        world.acting = "client"
        world.stalls = (n, after, meanwhile)
        execution = world.client.start_execution("sequence", id="e")
        world.acting = ""
        if world.stalls is not None:
            # The start was done in fewer calls: one came after the other.
            world.stalls = None
            meanwhile()
        world.run()
        SCENARIOS["sequence"].check(world)
        assert execution.result(timeout=0) == second.get_execution("e").result(timeout=0)
        assert set(BODIES.values()) == {1}
        assert world.recorded("e")["ExecutionStarted"] == 1
        for client in (world.client, second):
            assert [found.id for found in client.list_executions()] == ["e"]
        with pytest.raises(ExecutionAlreadyExists):
            second.start_execution("fan_out", id="e")


@pytest.mark.parametrize("signalled", [False, True], ids=["rejects", "with a signal"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("n", range(1, CALLS + 1))
def test_an_execution_that_ends_while_it_is_started_is_not_taken_for_another(
    n: int, after: bool, signalled: bool
) -> None:
    """Whatever would be refused of one that has closed before."""
    BODIES.clear()
    with World(REGISTRY) as world:

        def meanwhile() -> None:
            acting, world.acting = world.acting, ""
            world.run()
            world.acting = acting

        world.acting = "client"
        world.stalls = (n, after, meanwhile)
        if signalled:
            execution = world.client.signal_with_start("sequence", id="e", signal="unheard")
        else:
            execution = world.client.start_execution("sequence", id="e", if_closed="reject")
        world.acting = ""
        world.stalls = None
        world.run()
        SCENARIOS["sequence"].check(world)
        assert world.recorded("e")["ExecutionStarted"] == 1
        with pytest.raises(ExecutionAlreadyExists):
            world.client.start_execution("sequence", id="e", if_closed="reject")
        with pytest.raises(ExecutionClosed):
            world.client.signal_with_start("sequence", id="e", signal="unheard")
        assert execution.result(timeout=0) == world.client.get_execution("e").result(timeout=0)
