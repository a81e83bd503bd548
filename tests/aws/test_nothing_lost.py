"""Nothing is lost and nothing done twice, whatever goes wrong at whichever call of AWS."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from mini_workflow.core import events
from mini_workflow.core.state import ExecutionState
from mini_workflow.ports import Query
from tests.aws.flows import BODIES, REGISTRY, SCENARIOS, Scenario
from tests.aws.world import Fault, World

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
when = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


def played(scenario: Scenario, fault: Fault | None = None, fresh: bool = True, **kw: Any) -> World:
    """The world once the scenario has been played, with at most one fault, and been checked."""
    BODIES.clear()
    world = World(REGISTRY, **kw)
    world.fresh = fresh
    with world:
        if fault is not None:
            world.after(fault)
        scenario.start(world)
        world.run()
        try:
            scenario.check(world)
            sound(world, scenario, fault)
        except AssertionError as error:
            error.add_note(f"{fault}: {world.calls}")
            raise
    return world


def sound(world: World, scenario: Scenario, fault: Fault | None) -> None:
    """What holds of every world that has come to rest."""
    services = world.services
    assert services.queue == services.invoked == services.letters == []
    for head in world.client._parts.store.list(Query()).heads:
        history = world.history(head.execution_id)
        done = [e for e in history if isinstance(e, (events.TaskCompleted, events.TaskFailed))]
        assert len({e.seq for e in done}) == len(done)
        assert len([e for e in history if isinstance(e, events.CancelRequested)]) <= 1
        for run in runs(history):
            ExecutionState.of(run)
            ids = [e.id for e in run if isinstance(e, events.SignalReceived)]
            assert len(set(ids)) == len(ids)
    # The code of an attempt runs each time that it is dispatched, and not else.
    assert services.invocations == BODIES
    for key, number in services.invocations.items():
        assert number == 1 or fault is not None, key
    if scenario.tasks:
        first = {key for key in BODIES if key[0] == "e" and key[2] == 1}
        assert len(first) == scenario.tasks


def runs(history: list[Any]) -> list[list[Any]]:
    """The events of each run."""
    found: list[list[Any]] = []
    for event in history:
        if isinstance(event, events.ExecutionStarted):
            found.append([])
        found[-1].append(event)
    return found


@every_scenario
def test_without_faults_everything_happens_once(scenario: Scenario) -> None:
    world = played(scenario)
    assert set(BODIES.values()) <= {1}
    assert all(answer == {"batchItemFailures": []} for answer in world.answers)


@when
@every_scenario
def test_a_process_may_die_at_any_call(scenario: Scenario, after: bool) -> None:
    for n in range(1, len(played(scenario).calls) + 1):
        world = played(scenario, Fault(n, "dies", after))
        assert world.deaths == 1


@when
@pytest.mark.parametrize("kind", ["fails", "throttled"])
@every_scenario
def test_any_call_may_fail(
    scenario: Scenario, kind: Literal["fails", "throttled"], after: bool
) -> None:
    for n in range(1, len(played(scenario).calls) + 1):
        played(scenario, Fault(n, kind, after))
