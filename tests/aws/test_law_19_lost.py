"""Law 19 on AWS: whatever is lost on its way between functions and queues, nothing hangs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mini_workflow import Context, ExecutionNotFound
from mini_workflow.core import events
from mini_workflow.ports import Query
from mini_workflow.runtimes.aws.handlers import LIMITS
from tests.aws.flows import BODIES, REGISTRY, SCENARIOS, Scenario, did
from tests.aws.world import START, World, registry_of

Drop = Callable[[int], bool]

OTHERS = {"teller", "timers"}
"""Those with another result then: a signal that was lost comes behind the later ones, and a task that
waits for its deadline is cut off by the workflow's own timeout."""

ASKED_BEFORE: Final = "ExecutionStarted"
"""What is lost where an execution is asked that has not been started: who asks is told that there is none."""

NAMES = sorted(SCENARIOS.keys() - OTHERS)


class Losses:
    """Loses messages of the queue of events, wake-ups among them, and invocations of the worker, those
    that `drop` says, counted from 0. What a client sends once it is lost it would send again: that is
    spared, except the start of the execution.
    """

    def __init__(self, world: World, drop: Drop) -> None:
        self.count = 0
        self.dropped: list[str] = []
        self.spared = False
        self._drop = drop
        world.services.loses = self.loses

    def loses(self, what: str) -> bool:
        if self.spared:
            return False
        self.count += 1
        if self._drop(self.count - 1):
            self.dropped.append(what)
            return True
        return False


def played(scenario: Scenario, drop: Drop) -> Losses:
    """Play it with losses, resume what is open when it rests, and check what has come of it: of
    `OTHERS`, that it has ended.
    """
    BODIES.clear()
    with World(REGISTRY) as world:
        losses = Losses(world, drop)
        world.client.start_execution(scenario.workflow, *scenario.args, id="e")
        for poke in scenario.pokes:
            world.settle()
            losses.spared = True
            started_again(world, scenario)
            world.settle()
            poke(world)
            losses.spared = False
        losses.spared = True
        started_again(world, scenario)
        losses.spared = False
        rest(world, losses)
        try:
            if scenario.workflow == "asking" and any(ASKED_BEFORE in one for one in losses.dropped):
                told_that_there_is_none(world)
            elif scenario.workflow in OTHERS:
                status = world.client.get_execution("e").describe().status
                assert status in ("completed", "failed")
            else:
                scenario.check(world)
            assert world.services.queue == world.services.invoked == []
            assert world.services.schedules == {}
            done = [e.seq for e in world.history("e") if isinstance(e, events.TaskCompleted)]
            assert len(set(done)) == len(done)
        except AssertionError as error:
            error.add_note(f"lost: {losses.dropped}")
            raise
    return losses


def told_that_there_is_none(world: World) -> None:
    """The asker has failed with that, or was asked to go on in time."""
    execution = world.client.get_execution("e")
    with suppress(ExecutionNotFound):
        assert execution.result(timeout=0) == SCENARIOS["asking"].result


def started_again(world: World, scenario: Scenario) -> None:
    """What a client does whose start leads to nothing: the message of its first turn was lost, so
    that no listing has it.
    """
    if not (world.services.queue or world.client._parts.store.list(Query()).heads):
        assert len(world.history("e")) == 1
        world.client.start_execution(scenario.workflow, *scenario.args, id="e")


def rest(world: World, losses: Losses) -> None:
    """Run until nothing moves, resuming what is open: an operator's calls get through at last."""
    for _ in range(12):
        world.run()
        heads = world.client._parts.store.list(Query()).heads
        still_open = [head for head in heads if head.closed_at is None]
        if not still_open:
            return
        for head in still_open:
            world.client.get_execution(head.execution_id).resume()
        # What would have been deduplicated, is not any more.
        world.clock.advance(600_000)
    raise AssertionError(f"{[head.execution_id for head in still_open]} hang: {losses.dropped}")


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_law_19_the_nth_message_is_lost(name: str) -> None:
    scenario = SCENARIOS[name]
    whole = played(scenario, lambda n: False)
    assert whole.dropped == []
    for lost in range(whole.count):
        losses = played(scenario, lambda n, lost=lost: n == lost)
        assert len(losses.dropped) == 1


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(NAMES), lost=st.sets(st.integers(0, 25), max_size=5))
def test_law_19_several_messages_are_lost(name: str, lost: set[int]) -> None:
    played(SCENARIOS[name], lambda n: n in lost)


async def quick(ctx: Context, timeout: float | None) -> int:
    return await ctx.task(did, 1, timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 2, 5_000])
@pytest.mark.parametrize("what", ["invocation", "outcome"])
def test_law_19_a_lost_report_ends_at_its_deadline_by_itself(
    what: str, timeout: float | None
) -> None:
    BODIES.clear()
    with World(registry_of(quick)) as world:
        world.client.start_execution("quick", timeout, id="e")
        world.deliver()
        within = LIMITS.within(None if timeout is None else round(timeout * 1_000))
        head = world.client._parts.store.head("e")
        assert head is not None
        assert within is not None
        assert head.wake_at == START + within
        (schedule,) = world.services.schedules
        if what == "outcome":
            world.attempt()
            del world.services.queue[:]
        else:
            world.services.invoked.clear()
        # Resumed before its time it waits still: it may stand in Lambda's own queue.
        world.client.get_execution("e").resume()
        world.settle()
        assert world.services.invocations == {("e", 1, 1): 1}
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == 1
        assert world.services.invocations["e", 1, 2] == 1
        (lost,) = [e for e in world.history("e") if isinstance(e, events.TaskRetryScheduled)]
        assert lost.failure.type == "mini_workflow.errors:WorkerLost"
        # By the wake-up that was set for it, and never early.
        assert START + within <= lost.at <= START + within + 2_000
        assert schedule not in world.services.schedules


def test_law_19_the_late_report_of_an_attempt_that_counts_as_lost_changes_nothing() -> None:
    BODIES.clear()
    with World(registry_of(quick)) as world:
        world.client.start_execution("quick", None, id="e")
        world.deliver()
        late = world.services.invoked.pop()
        world.until(lambda: world.services.invocations["e", 1, 2] == 1)
        world.services.invoked.insert(0, late)
        world.run()
        kinds = world.recorded("e")
        assert (kinds["TaskCompleted"], kinds["TaskRetryScheduled"]) == (1, 1)
        assert BODIES == {("e", 1, 1): 1, ("e", 1, 2): 1}


def test_law_19_resume_takes_up_what_is_overdue_when_the_wakeup_was_lost() -> None:
    BODIES.clear()
    with World(registry_of(quick)) as world:
        world.client.start_execution("quick", None, id="e")
        world.deliver()
        world.services.invoked.clear()
        world.services.schedules.clear()
        world.run()
        world.clock.advance(LIMITS.within(None) or 0)
        assert world.client.get_execution("e").describe().status == "running"
        world.client.get_execution("e").resume()
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == 1
