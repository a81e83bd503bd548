"""An execution that gets messages faster than it takes them does not keep the others waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mini_workflow import Context, MailboxFull
from mini_workflow.settings import EXECUTION_RETENTION
from mini_workflow.stores.aws_limits import BACKLOG_AGE, BACKLOG_LASTS
from mini_workflow.stores.sqs import backlog
from tests.aws.world import Fault, World, registry_of

OVER = 20
"""Messages that are too many for the queue of these tests."""


async def collect(ctx: Context, wanted: int) -> int:
    for _ in range(wanted):
        await ctx.wait_for_signal("n")
    return wanted


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(backlog, "BACKLOG_OVER", OVER)
    with World(registry_of(collect)) as world:
        for name in ("flooded", "other"):
            world.client.start_execution("collect", 1_000, id=name)
        world.settle()
        yield world


def signal(world: World, name: str, times: int = 1) -> None:
    execution = world.client.get_execution(name)
    for _ in range(times):
        execution.signal("n")


def flood(world: World, messages: int = OVER + 10) -> None:
    """More signals than the queue may have, the first of which was old when it was taken."""
    signal(world, "flooded", messages)
    world.clock.advance(BACKLOG_AGE * 1000)
    world.deliver()


def test_signals_to_an_execution_that_is_behind_are_refused(world: World) -> None:
    flood(world)
    waiting = len(world.services.queue)
    assert waiting == OVER
    with pytest.raises(MailboxFull, match=r"'flooded' is behind.*Nothing was sent") as refused:
        signal(world, "flooded")
    assert refused.value.execution_id == "flooded"
    assert len(world.services.queue) == waiting
    # All others go on.
    signal(world, "other", 3)
    assert len(world.services.queue) == waiting + 3


def test_an_update_and_a_start_with_a_signal_are_refused_too(world: World) -> None:
    flood(world)
    waiting = len(world.services.queue)
    with pytest.raises(MailboxFull):
        world.client.get_execution("flooded").update("change")
    with pytest.raises(MailboxFull):
        world.client.signal_with_start("collect", 1_000, id="flooded", signal="n")
    assert len(world.services.queue) == waiting


def test_whoever_wants_to_end_it_can(world: World) -> None:
    flood(world)
    execution = world.client.get_execution("flooded")
    execution.cancel()
    world.settle()
    assert execution.describe().status == "cancelled"


def test_it_takes_signals_again_when_it_has_caught_up(world: World) -> None:
    flood(world)
    world.settle()
    with pytest.raises(MailboxFull):
        signal(world, "flooded")
    world.clock.advance(BACKLOG_LASTS * 1000)
    signal(world, "flooded", 2)
    world.settle()
    assert world.recorded("flooded")["SignalReceived"] == OVER + 12


def test_an_execution_that_stays_behind_is_refused_signals_for_as_long(world: World) -> None:
    flood(world, 4 * OVER)
    for _ in range(3):
        with pytest.raises(MailboxFull):
            signal(world, "flooded")
        world.clock.advance(BACKLOG_LASTS * 600)
        world.deliver()
        with pytest.raises(MailboxFull):
            signal(world, "flooded")


def test_a_process_that_sends_once_in_a_while_does_not_look(world: World) -> None:
    flood(world)
    signals, world.client = len(world.services.queue), world.process()
    signal(world, "flooded")
    assert len(world.services.queue) == signals + 1
    with pytest.raises(MailboxFull):
        signal(world, "flooded")


@pytest.mark.parametrize("why", ["young", "few", "mixed"])
def test_an_execution_is_not_behind(world: World, why: str) -> None:
    """Because its messages are young, because the queue has few, or because others are among them."""
    signal(world, "flooded", OVER - 1 if why == "few" else OVER + 10)
    if why == "mixed":
        signal(world, "other")
        world.services.queue.insert(0, world.services.queue.pop())
    if why != "young":
        world.clock.advance(BACKLOG_AGE * 1000)
    world.deliver()
    signal(world, "flooded")


@pytest.mark.parametrize("call", ["sqs.GetQueueAttributes", "s3.PutObject"])
def test_a_batch_is_taken_although_nobody_can_be_told(world: World, call: str) -> None:
    signal(world, "flooded", OVER + 10)
    world.clock.advance(BACKLOG_AGE * 1000)
    # The first object that is written is the history.
    world.after(Fault(1 if call.startswith("sqs") else 2, "throttled", call=call))
    world.deliver()
    assert world.answers[-1] == {"batchItemFailures": []}
    signal(world, "flooded")
    # The next one tells.
    world.deliver()
    world.clock.advance(2_000)
    with pytest.raises(MailboxFull):
        signal(world, "flooded")


def test_what_was_said_is_removed_with_the_execution(world: World) -> None:
    world.environment[EXECUTION_RETENTION] = "60"
    world.orchestrator = world.process()
    flood(world)
    assert backlog._key("flooded") in world.services.objects
    world.client.get_execution("flooded").terminate()
    world.settle()
    world.clock.advance(3_600_000)
    signal(world, "other")
    world.run()
    assert [key for key in world.services.objects if "flooded" in key] == [
        "executions/flooded.json"
    ]
