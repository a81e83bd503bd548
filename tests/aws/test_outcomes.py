"""What is done stays done, also when its outcome cannot be sent for as long as the worker may run."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest

from mini_workflow import Context, RetryPolicy, StoreUnavailable
from mini_workflow.core import events
from mini_workflow.runtimes.aws.handlers import LIMITS
from mini_workflow.stores.sqs.dispatch import AWSDispatch
from mini_workflow.stores.sqs.outcomes import KEPT
from tests.aws.flows import BODIES, REGISTRY, SCENARIOS, did
from tests.aws.world import LAMBDA, Fault, World, registry_of


@pytest.fixture
def world() -> Any:
    BODIES.clear()
    with World(REGISTRY) as world:
        world.prone = ("worker",)
        yield world


def begun(world: World) -> dict[str, Any]:
    """An execution whose first attempt is invoked; the event."""
    world.client.start_execution("sequence", id="e")
    world.deliver()
    (event,) = world.services.invoked
    return event


def check(world: World) -> None:
    """The sequence ends as it must, and no task has run twice."""
    world.faults.clear()
    world.run()
    SCENARIOS["sequence"].check(world)
    assert set(BODIES.values()) == {1}
    assert world.recorded("e")["TaskFailed"] == 0


@pytest.mark.parametrize("kind", ["fails", "throttled"])
def test_an_outcome_is_sent_as_soon_as_the_queue_takes_it(world: World, kind: Any) -> None:
    begun(world)
    world.after(Fault(1, kind, times=40))
    began = world.clock.now()
    world.attempt()
    assert world.services.queue
    assert world.cost()["sqs.SendMessage"] == 21  # each failed try was followed by one to keep it
    assert 0 < world.clock.now() - began < LAMBDA * 1000
    check(world)


def test_what_was_never_sent_is_found_in_the_bucket(world: World) -> None:
    """The queue takes nothing for as long as the worker may run; the bucket does."""
    begun(world)
    world.services.rate = 0
    began = world.clock.now()
    world.attempt()
    assert LAMBDA * 900 < world.clock.now() - began < LAMBDA * 1000
    assert len([key for key in world.services.objects if key.startswith(KEPT)]) == 1
    # Lambda tells of the invocation that failed, and knows why.
    (report,) = world.services.queue
    assert "is in the bucket" in json.loads(report.body)["lost"]["response"]["errorMessage"]
    world.services.rate = None
    check(world)


def test_what_was_kept_is_found_when_the_worker_dies_while_it_tries(world: World) -> None:
    begun(world)
    world.services.rate = 0
    world.after(Fault(4, "dies", call="sqs.SendMessage"))
    world.attempt()
    assert world.deaths == 1
    world.services.rate = None
    check(world)


def test_a_queue_that_refuses_is_not_asked_again(world: World) -> None:
    """What is not allowed will not be in a minute. The outcome is in the bucket."""
    begun(world)
    world.services.refuses = True
    before = world.clock.now()
    world.attempt()
    assert world.clock.now() == before
    world.services.refuses = False
    check(world)


def test_an_attempt_is_lost_if_neither_queue_nor_bucket_takes_its_outcome(world: World) -> None:
    begun(world)
    world.after(Fault(1, "fails", times=10_000))
    world.attempt()
    (report,) = world.services.queue
    assert "is lost" in json.loads(report.body)["lost"]["response"]["errorMessage"]
    world.faults.clear()
    world.run()
    SCENARIOS["sequence"].check(world)
    assert BODIES["e", 1, 1] == BODIES["e", 1, 2] == 1


def test_nobody_tries_for_ever_who_is_not_told_how_long_there_is(world: World) -> None:
    event = begun(world)
    world.services.rate = 0
    began = world.clock.now()
    with pytest.raises(StoreUnavailable, match="is in the bucket"):
        world.worker.execute(event)
    assert 0 < world.clock.now() - began < LAMBDA * 1000


def unreported(world: World) -> None:
    """An attempt whose outcome is in the bucket, and of which nobody hears any more."""
    begun(world)
    world.services.rate = 0
    world.attempt()
    world.services.rate = None
    world.services.queue.clear()
    world.prone = ("orchestrator",)


@pytest.mark.parametrize(
    ("process", "by"), [("warm", "wake-up"), ("new", "wake-up"), ("warm", "resume")]
)
def test_what_was_kept_is_found_at_the_deadline_if_the_report_is_lost_too(
    world: World, process: str, by: str
) -> None:
    unreported(world)
    if process == "new":
        world.orchestrator = world.process()
    if by == "resume":
        world.services.schedules.clear()
        world.services.delayed.clear()
        world.clock.advance(LIMITS.within(None) or 0)
        world.client.get_execution("e").resume()
    check(world)
    assert world.recorded("e")["TaskRetryScheduled"] == 0


@pytest.mark.parametrize("kind", ["fails", "dies"])
def test_the_deadline_comes_again_if_the_bucket_cannot_be_asked(world: World, kind: Any) -> None:
    unreported(world)
    assert world.services.notify()
    world.after(Fault(1, kind, call="s3.GetObject"))
    check(world)
    assert world.recorded("e")["TaskRetryScheduled"] == 0


def test_only_what_is_overdue_is_looked_for(world: World) -> None:
    """A timer that fires asks for none of the attempts in flight."""
    world.client.start_execution("timers", id="e")
    world.run()
    SCENARIOS["timers"].check(world)
    reads = world.cost()["s3.GetObject"]
    with World(REGISTRY) as other:
        other.client.start_execution("timers", id="e")
        with patch.object(AWSDispatch, "outcomes", side_effect=AssertionError):
            other.run()
        assert other.cost()["s3.GetObject"] == reads


@pytest.mark.parametrize("what", ["outcome", "signal"])
def test_what_a_message_leads_to_is_not_overdue_because_the_message_was_late(
    world: World, what: str
) -> None:
    """The orchestrator was out of order for half a day."""
    world.client.start_execution("sequence" if what == "outcome" else "signals", id="e")
    world.deliver()
    if what == "outcome":
        world.attempt()
    else:
        for value in (1, "end"):
            world.client.get_execution("e").signal("item", value)
    world.clock.advance(2 * (LIMITS.within(None) or 0))
    world.deliver()
    world.run()
    assert world.client.get_execution("e").describe().status == "completed"
    assert set(world.services.invocations) == set(BODIES)
    assert all(attempt == 1 for _, _, attempt in BODIES)


@pytest.mark.parametrize("late", [False, True], ids=["report", "deadline"])
@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"{}"])
def test_an_outcome_that_cannot_be_read_is_none(world: World, damage: bytes, late: bool) -> None:
    begun(world)
    world.services.rate = 0
    world.attempt()
    if late:
        world.services.queue.clear()
    (key,) = (key for key in world.services.objects if key.startswith(KEPT))
    world.services.objects[key] = damage
    world.services.rate = None
    world.run()
    SCENARIOS["sequence"].check(world)
    assert BODIES["e", 1, 2] == 1


async def once(ctx: Context) -> str:
    try:
        return await ctx.task(failing, retry=RetryPolicy(max_attempts=1))
    except KeyError as error:
        return f"failed: {error}"


def failing() -> str:
    did("x")
    raise KeyError("quite")


def test_a_failure_is_kept_like_a_result() -> None:
    BODIES.clear()
    with World(registry_of(once)) as world:
        world.client.start_execution("once", id="e")
        world.deliver()
        world.services.rate = 0
        world.attempt()
        world.services.rate = None
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == "failed: 'quite'"
        failures = [e for e in world.history("e") if isinstance(e, events.TaskFailed)]
        assert [e.failure.type for e in failures] == ["builtins:KeyError"]
        assert set(BODIES.values()) == {1}


def test_resume_in_a_new_process_takes_what_was_kept_and_runs_nothing_twice(world: World) -> None:
    """The message that led to the attempt is gone, and so is the process that has dispatched it."""
    unreported(world)
    world.services.schedules.clear()
    world.services.delayed.clear()
    world.orchestrator = world.process()
    world.client.get_execution("e").resume()
    check(world)
    assert set(world.services.invocations.values()) == {1}


@pytest.mark.parametrize("kind", ["fails", "dies"])
def test_resume_comes_again_if_the_bucket_cannot_be_asked(world: World, kind: Any) -> None:
    unreported(world)
    world.orchestrator = world.process()
    world.client.get_execution("e").resume()
    world.after(Fault(2, kind, call="s3.GetObject"))
    check(world)
    assert set(world.services.invocations.values()) == {1}


def test_resume_dispatches_again_what_nobody_has_an_outcome_of(world: World) -> None:
    begun(world)
    world.services.invoked.clear()
    world.services.schedules.clear()
    world.services.delayed.clear()
    world.orchestrator = world.process()
    world.client.get_execution("e").resume()
    check(world)
    assert world.services.invocations["e", 1, 1] == 2
    assert BODIES["e", 1, 1] == 1


async def parent(ctx: Context) -> int:
    return await ctx.child("two_tasks", id="child")


async def two_tasks(ctx: Context) -> int:
    first = await ctx.task(lambda: did(1))
    return first + await ctx.task(lambda: did(2))


@pytest.mark.parametrize("by", ["client", "parent"])
def test_a_start_that_waited_for_long_has_its_attempts_waited_for_as_long_as_any(by: str) -> None:
    """The orchestrator was out of order for half a day; then a timer or a signal brings the time."""
    BODIES.clear()
    late = 2 * (LIMITS.within(None) or 0)
    with World(registry_of(parent, two_tasks)) as world:
        name = "child" if by == "parent" else "e"
        if by == "parent":
            world.client.start_execution("parent", id="e")
            world.deliver()
        else:
            world.client.start_execution("two_tasks", id="e")
        world.clock.advance(late)
        world.deliver()
        began = world.clock.now()
        (event,) = world.services.invoked
        deadline = world.client.get_execution(name).describe().next_wake_at
        assert deadline is not None
        assert deadline.timestamp() * 1000 == began + (LIMITS.within(None) or 0)
        # It is so for a process that knows the history alone, and when something arrives meanwhile.
        world.orchestrator = world.process()
        world.client.get_execution(name).signal("noise", 1)
        world.deliver()
        assert world.services.invoked == [event]
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == 3
        assert set(BODIES.values()) == {1}
        assert world.recorded(name)["TaskFailed"] == 0
