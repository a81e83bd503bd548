"""Nothing is lost and nothing done twice, whatever goes wrong at whichever call of AWS."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mini_workflow import AWSRuntime, Context
from mini_workflow.core import events
from mini_workflow.core.state import ExecutionState
from mini_workflow.ports import Query
from mini_workflow.settings import TABLE_NAME
from tests.aws.flows import BODIES, REGISTRY, SCENARIOS, Scenario, did
from tests.aws.services import Message
from tests.aws.world import Death, Fault, World, registry_of
from tests.sweeps import calls_of

# A process that dies closes nothing: what it was running is found by the garbage collector here.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
when = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


STORES: dict[str, dict[str, str]] = {"bucket": {}, "table": {TABLE_NAME: "histories"}}


def in_stores(*of_the_table: str) -> Any:
    """Every scenario in the bucket, and some of them in the table, which differs in the writes alone."""
    rows = [("bucket", name) for name in SCENARIOS] + [("table", name) for name in of_the_table]
    return pytest.mark.parametrize(
        ("store", "scenario"),
        [(store, SCENARIOS[name]) for store, name in rows],
        ids=[f"{store}-{name}" for store, name in rows],
    )


def played(
    scenario: Scenario, fault: Fault | None = None, *, outage: bool = False, store: str = "bucket"
) -> World:
    """The world once the scenario has been played, with at most one fault, and been checked.

    During an outage attempts that have run are not lost: the worker is spared.
    """
    BODIES.clear()
    world = World(REGISTRY, settings=STORES[store])
    if outage:
        world.prone = ("orchestrator",)
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
    assert services.queue == services.invoked == services.entries == []
    heads = world.client._parts.store.list(Query()).heads
    stored = re.findall(r"executions/([^/]+)\.json(?=\n)", "\n".join([*services.objects, ""]))
    keys = {key for key, _ in services.tables.items}
    stored += [name for key in keys if (name := key.removeprefix("execution/")) != key]
    assert sorted(head.execution_id for head in heads) == sorted(stored)
    for head in heads:
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


@in_stores(*SCENARIOS)
def test_without_faults_everything_happens_once(scenario: Scenario, store: str) -> None:
    world = played(scenario, store=store)
    assert set(BODIES.values()) <= {1}
    assert all(answer == {"batchItemFailures": []} for answer in world.answers)


@in_stores("parent", "generations", "updated")
@when
def test_a_process_may_die_at_any_call(scenario: Scenario, after: bool, store: str) -> None:
    for n in calls_of(len(played(scenario, store=store).calls)):
        world = played(scenario, Fault(n, "dies", after), store=store)
        assert world.deaths == 1


FAILURES: list[tuple[Literal["fails", "throttled"], bool]] = [
    *(("fails", False), ("fails", True), ("throttled", False)),
]


@in_stores("sequence")
@pytest.mark.parametrize(("kind", "after"), FAILURES, ids=["timeout", "lost answer", "throttled"])
def test_any_call_may_fail(
    scenario: Scenario, kind: Literal["fails", "throttled"], after: bool, store: str
) -> None:
    for n in calls_of(len(played(scenario, store=store).calls)):
        played(scenario, Fault(n, kind, after), store=store)


@every_scenario
def test_an_outage_is_outlived(scenario: Scenario) -> None:
    for n in range(1, len(played(scenario).calls) + 1, 3):
        played(scenario, Fault(n, "fails", times=5), outage=True)


@in_stores("teller", "hasty")
@when
@pytest.mark.parametrize("far", [False, True], ids=["same batch", "to rest"])
def test_a_process_may_be_overtaken_at_any_call(
    scenario: Scenario, far: bool, after: bool, store: str
) -> None:
    """Its visibility timeout has ended: another one takes the same messages, and both stay warm."""
    for n in calls_of(len(played(scenario, store=store).calls)):
        BODIES.clear()
        with World(REGISTRY, settings=STORES[store]) as world:
            overtaken(world, scenario, n, after, far)


def overtaken(world: World, scenario: Scenario, n: int, after: bool, far: bool) -> None:
    second = world.process()

    def meanwhile() -> None:
        if world.acting == "orchestrator":
            world.deliver(second, list(world.batch_in_hand))
        if far:
            world.orchestrator, first = second, world.orchestrator
            world.settle()
            world.orchestrator = first

    world.stalls = (n, after, meanwhile)
    scenario.start(world)
    for turn in range(200):
        world.orchestrator, second = second, world.orchestrator
        if not (world.deliver() or world.attempt() or world.services.notify()):
            break
        assert turn < 199
    assert (world.stalls is None) == (n > 0)
    scenario.check(world)
    sound(world, scenario, Fault(n, "fails"))


@every_scenario
def test_two_warm_processes_may_take_turns(scenario: Scenario) -> None:
    BODIES.clear()
    with World(REGISTRY, batch=1) as world:
        overtaken(world, scenario, -1, False, False)
        assert set(BODIES.values()) <= {1}


@pytest.mark.parametrize("n", [1, 2, 3])
@when
def test_a_client_may_die_while_it_starts_an_execution(n: int, after: bool) -> None:
    scenario = SCENARIOS["sequence"]
    BODIES.clear()
    with World(REGISTRY) as world:
        world.prone = ("client",)
        world.acting = "client"
        world.after(Fault(n, "dies", after))
        with pytest.raises(Death):
            world.client.start_execution("sequence", id="e")
        world.faults.clear()
        world.acting = ""
        world.settle()
        # Whether or not it has begun, asking again is what a client does.
        execution = world.client.start_execution("sequence", id="e")
        world.run()
        assert execution.result(timeout=0) == scenario.result
        sound(world, scenario, None)


@pytest.mark.parametrize("n", range(1, 5))
@when
def test_a_client_and_the_orchestrator_may_start_at_the_same_time(n: int, after: bool) -> None:
    """The message is there before the object is. No turn is done for nothing."""
    BODIES.clear()

    async def inline(ctx: Context) -> int:
        return await ctx.task(did, 1, inline=True)

    with World(registry_of(inline)) as world:
        world.prone = ("client",)
        world.acting = "client"
        # It sends, and dies before it has written.
        world.after(Fault(1, "dies", call="s3.PutObject"))
        with pytest.raises(Death):
            world.client.start_execution("inline", id="e")
        world.faults.clear()
        world.acting = ""
        before = len(world.calls)
        world.stalls = (
            before + n,
            after,
            lambda: world.client.start_execution("inline", id="e") and None,
        )
        world.run()
        assert world.stalls is None
        assert world.client.get_execution("e").result(timeout=0) == 1
        assert BODIES == {("e", 1, 1): 1}


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_messages_come_late_twice_and_in_any_order(data: st.DataObject) -> None:
    scenario = data.draw(st.sampled_from(list(SCENARIOS.values())), "scenario")
    BODIES.clear()
    with World(REGISTRY) as world:
        scenario.start(world)
        past: list[tuple[str, str]] = []
        processes = [world.orchestrator, world.process()]
        world.prone = ("orchestrator",)
        for _ in range(data.draw(st.integers(0, 30), "steps")):
            step(world, processes, past, data)
        world.faults.clear()
        world.run()
        scenario.check(world)
        sound(world, scenario, Fault(0, "fails"))


def step(
    world: World, processes: list[AWSRuntime], past: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Something happens."""
    services = world.services
    what = data.draw(st.sampled_from(["deliver"] * 4 + ["attempt"] * 3 + ["notify", *RARE]), "what")
    if what == "deliver" and services.queue:
        world.orchestrator = data.draw(st.sampled_from(processes), "process")
        groups = sorted({message.group for message in services.queue})
        chosen = data.draw(st.sets(st.sampled_from(groups), min_size=1), "groups")
        each = data.draw(st.integers(1, 4), "each")
        batch: list[Message] = []
        for group in sorted(chosen):
            batch += [m for m in services.queue if m.group == group][:each]
        past += [(message.group, message.body) for message in batch]
        before = world.orchestrator
        world.deliver(messages=batch[:10])
        processes[processes.index(before)] = world.orchestrator
    elif what == "attempt" and services.invoked:
        world.attempt(data.draw(st.integers(0, len(services.invoked) - 1), "attempt"))
    elif what == "notify":
        services.notify()
    elif what == "again" and past:
        services.put(*data.draw(st.sampled_from(past), "message"))
    elif what == "evict":
        data.draw(st.sampled_from(processes), "process").evict()
    elif what == "fault" and len(world.faults) < 3:
        kind = data.draw(st.sampled_from(["dies", "fails", "throttled"]), "kind")
        world.after(Fault(data.draw(st.integers(1, 8)), kind, data.draw(st.booleans())))


RARE = ("again", "again", "evict", "fault", "fault")
