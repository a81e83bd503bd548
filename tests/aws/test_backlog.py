"""An execution that gets messages faster than it takes them does not keep the others waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mini_workflow import Context, ExecutionNotFound, MailboxFull
from mini_workflow.core import events
from mini_workflow.engine import effects
from mini_workflow.settings import EXECUTION_RETENTION
from mini_workflow.stores.aws.limits import BACKLOG_AGE, BACKLOG_LASTS
from mini_workflow.stores.sqs import backlog
from tests.aws.services import Message
from tests.aws.world import STEPS, Fault, World, registry_of

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


# What workflows send


async def report(ctx: Context, turns: int, each: int) -> list[str]:
    """Send so many signals in each of so many turns, with a task in between."""
    done = []
    for turn in range(turns):
        for number in range(each):
            ctx.execution("flooded").signal("n", turn * each + number)
        done.append(await ctx.task(str, turn))
    return done


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The same, with a workflow that sends."""
    monkeypatch.setattr(backlog, "BACKLOG_OVER", OVER)
    with World(registry_of(collect, report)) as world:
        world.client.start_execution("collect", 1_000, id="flooded")
        world.settle()
        yield world


def send(world: World, turns: int, each: int, name: str = "sender") -> None:
    """Have an execution send to the one that is behind, whose own messages are not taken meanwhile."""
    world.client.start_execution("report", turns, each, id=name)
    proceed(world)


def proceed(world: World) -> None:
    """Let everybody go on but the one that is behind."""

    def others() -> list[Message]:
        return [m for m in world.services.queue if m.group != "flooded"][: world.batch]

    for _ in range(STEPS):
        if not (world.deliver(messages=others()) if others() else world.attempt()):
            return
    raise AssertionError("it never rests")


def waiting(world: World) -> int:
    return sum(message.group == "flooded" for message in world.services.queue)


def received(world: World) -> list[int]:
    found = [e for e in world.history("flooded") if isinstance(e, events.SignalReceived)]
    return [event.value.tree for event in found if event.value.tree is not None]


def test_signals_that_a_workflow_sends_to_it_wait_and_nothing_else_does(sending: World) -> None:
    flood(sending)
    before = waiting(sending)
    send(sending, 4, 5)
    # A process that sends for the first time does not look.
    assert waiting(sending) == before + 1
    # Its tasks have run, and it has closed.
    assert sending.client.get_execution("sender").result() == ["0", "1", "2", "3"]
    sending.run()
    assert received(sending) == list(range(20))


@pytest.mark.parametrize("after", [False, True])
def test_what_waits_arrives_once_and_in_order_whenever_a_process_dies(after: bool) -> None:
    """Before or after any of its calls, from the first turn of the sender on."""
    for n in range(1, STEPS):
        with World(registry_of(collect, report)) as world:
            world.client.start_execution("collect", 1_000, id="flooded")
            world.settle()
            say_behind(world)
            world.after(Fault(n, "dies", after=after))
            send(world, 2, 2)
            world.run()
            assert received(world) == [0, 1, 2, 3]
            assert world.client.get_execution("sender").result() == ["0", "1"]
            if not world.deaths:
                break
    assert n > 10


def say_behind(world: World, seconds: int = BACKLOG_LASTS) -> None:
    """Have an execution count as behind, which the orchestrator has heard of."""
    until = world.clock.now() + seconds * 1000
    world.orchestrator._parts.bucket.put(backlog._key("flooded"), str(until).encode())
    assert not world.orchestrator._parts.backlog.is_behind("flooded")


def test_executions_that_are_behind_and_send_to_each_other_go_on() -> None:
    """Also one that sends to itself."""

    async def mutual(ctx: Context, other: str, wanted: int) -> int:
        for _ in range(wanted):
            ctx.execution(other).signal("n")
        return len([await ctx.wait_for_signal("n") for _ in range(wanted)])

    with World(registry_of(mutual)) as world:
        until = str(world.clock.now() + BACKLOG_LASTS * 5_000).encode()
        for name, other in (("a", "b"), ("b", "a"), ("self", "self")):
            world.orchestrator._parts.bucket.put(backlog._key(name), until)
            world.client.start_execution("mutual", other, 5, id=name)
        world.run()
        for name in ("a", "b", "self"):
            assert world.client.get_execution(name).result() == 5
        # They were not asked all the time whether it is over.
        assert world.clock.now() >= int(until)
        assert world.cost()["s3.PutObject"] < 80


def test_an_execution_that_holds_too_many_is_blocked_and_they_are_kept(
    sending: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "HELD_MOST", 3)
    say_behind(sending)
    send(sending, 2, 5)
    execution = sending.client.get_execution("sender")
    assert execution.describe().status == "blocked"
    reason = execution.describe().blocked_reason
    assert reason is not None
    assert "5 messages for executions that are behind ('flooded')" in reason
    assert received(sending) == []
    sending.clock.advance(BACKLOG_LASTS * 1000)
    execution.resume()
    sending.run()
    assert execution.result() == ["0", "1"]
    assert received(sending) == list(range(10))


def test_what_a_closed_execution_has_to_send_is_sent_before_it_is_removed(sending: World) -> None:
    sending.environment[EXECUTION_RETENTION] = "60"
    sending.orchestrator = sending.process()
    say_behind(sending, 60 * BACKLOG_LASTS)
    send(sending, 1, 3)
    assert received(sending) == []
    began = sending.clock.now()
    sending.until(lambda: len(received(sending)) == 3)
    assert received(sending) == [0, 1, 2]
    assert sending.clock.now() - began < 10 * BACKLOG_LASTS * 1000
    with pytest.raises(ExecutionNotFound):
        sending.client.get_execution("sender").describe()


def test_a_turn_that_is_made_again_forgets_nothing_that_waits(sending: World) -> None:
    """Since its tasks could not be begun at once."""
    say_behind(sending)
    sending.after(Fault(1, "throttled", call="lambda.Invoke", times=3))
    send(sending, 2, 3)
    assert waiting(sending) == 0
    sending.run()
    assert sending.client.get_execution("sender").result() == ["0", "1"]
    assert received(sending) == list(range(6))
