"""What cannot go on is blocked with all that belongs to it, and nothing else is held up."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from mini_workflow import Context, ExecutionBlocked
from mini_workflow.engine.orchestrator import GIVE_UP, SUSPICIOUS, TRIES
from mini_workflow.engine.turn import Delivery, Turn, Turns
from tests.aws.flows import BODIES, REGISTRY, SCENARIOS, WORKFLOWS, Scenario, did
from tests.aws.test_nothing_lost import sound
from tests.aws.world import Death, Fault, World, registry_of

# A process that dies closes nothing: what it was running is found by the garbage collector here.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ANYTHING = Scenario("", None)


def statuses(world: World, *names: str) -> list[str]:
    return [world.client.get_execution(name).describe().status for name in names]


def reason(world: World, name: str) -> str:
    return world.client.get_execution(name).describe().blocked_reason or ""


# Messages that nobody can read


def bad_messages(world: World) -> dict[str, str]:
    """A body for each way of not being a message for ``e``."""
    message = next(m.body for m in world.services.queue if m.group == "e")
    plain = json.loads(message)
    event = json.loads(plain["content"].split("\n")[0])
    post = world.client._parts.post
    lost = {"execution_id": "e", "seq": 1, "attempt": 1, "signature": "0" * 64}
    return {
        "not JSON": "{",
        "not an object": "[]",
        "empty": "{}",
        "unsigned": json.dumps({**plain, "code": ""}),
        "tampered": json.dumps({**plain, "content": plain["content"] + " "}),
        "of another": json.dumps({**plain, "execution_id": "other"}),
        "unsigned news": json.dumps({"lost": lost}),
        "no seq": json.dumps({"lost": {"execution_id": "e"}}),
        "no event": json.dumps(post_content(post, "{}")),
        "no message": json.dumps(post_content(post, '{"event":"ExecutionCompleted","result":1}')),
        "no hash": json.dumps(
            {**{k: v for k, v in plain.items() if k != "content"}, "claim": ".."}
        ),
        "claim is gone": json.dumps(
            {**{k: v for k, v in plain.items() if k != "content"}, "claim": "0" * 64}
        ),
        "too new": json.dumps(post_content(post, json.dumps({**event, "v": 99}))),
    }


def post_content(post: Any, content: str) -> Any:
    return post._envelopes.seal(
        content, ("mail", "e", "messages"), execution_id="e", kind="messages"
    )


KINDS = (
    *("not JSON", "not an object", "empty", "unsigned", "tampered", "of another"),
    *("unsigned news", "no seq", "no event", "no message", "no hash", "claim is gone"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_that_nobody_can_read_holds_nothing_up(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It stands in the middle of its group, and of a batch with another group."""
    BODIES.clear()
    with World(REGISTRY) as world:
        world.client.start_execution("signals", id="e")
        world.client.get_execution("e").signal("item", 1)
        world.services.put("e", bad_messages(world)[kind])
        world.client.get_execution("e").signal("item", 2)
        world.client.start_execution("sequence", id="other")
        with caplog.at_level(logging.ERROR):
            assert world.deliver() == 5
        assert world.answers[-1] == {"batchItemFailures": []}
        world.client.get_execution("e").signal("item", "end")
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == [1, 2]
        assert world.client.get_execution("other").result(timeout=0) == [0, "", None, [1]]
        (entry,) = world.services.entries
        why = entry["MessageAttributes"]["reason"]["StringValue"]
        assert why.split(":")[0] in ("WireError", "SignatureInvalid")
        assert f"goes to the dead letters: {why}"[:60] in caplog.text
        world.services.entries.clear()
        sound(world, ANYTHING, None)


def waits(world: World) -> list[int]:
    """Seconds until each message comes again."""
    return [world.services.visibility[m.record()["receiptHandle"]] for m in world.services.queue]


def test_what_a_newer_version_has_written_waits_for_it() -> None:
    with World(REGISTRY) as world:
        world.client.start_execution("signals", id="e")
        world.services.put("e", bad_messages(world)["too new"])
        world.client.get_execution("e").signal("item", "end")
        world.client.start_execution("sequence", id="other")
        world.deliver()
        assert len(world.answers[-1]["batchItemFailures"]) == 2
        assert [m.group for m in world.services.queue] == ["e", "e"]
        assert world.services.entries == []
        assert waits(world) == [0, 0]
        world.deliver()
        # Later tries come with growing pauses.
        assert all(1 <= wait <= 2 for wait in waits(world))


def test_a_batch_waits_when_its_dead_letters_cannot_be_reached() -> None:
    with World(REGISTRY) as world:
        world.client.start_execution("signals", id="e")
        world.services.put("e", "{")
        world.client.get_execution("e").signal("item", "end")
        world.after(Fault(1, "fails", times=100))
        world.deliver()
        assert len(world.answers[-1]["batchItemFailures"]) == 3
        world.faults.clear()
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == []


def test_a_message_for_nobody_is_dropped() -> None:
    with World(REGISTRY) as world:
        world.client.start_execution("signals", id="e")
        world.client.get_execution("e").signal("item", "end")
        world.services.objects.clear()
        world.services.queue = world.services.queue[1:]
        world.deliver()
        assert world.services.queue == world.services.entries == []
        assert world.services.objects == {}


# A turn that ends the process


async def poison(ctx: Context) -> str:
    await ctx.task(did, 1)
    value = await ctx.wait_for_signal("item")
    return await ctx.task(did, value)


class Poison:
    """The turns of ``poison`` end the process while `deadly` says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deadly = True
        self.turns = 0
        self._next = Turns.next
        monkeypatch.setattr(Turns, "next", self._taker())

    def _taker(self) -> Any:
        def take(turns: Turns, delivery: Delivery, now: int) -> Turn | None:
            return self._take(turns, delivery, now)

        return take

    def _take(self, turns: Turns, delivery: Delivery, now: int) -> Turn | None:
        if delivery.execution_id == "poison" and self.deadly:
            self.turns += 1
            raise Death
        return self._next(turns, delivery, now)


@pytest.mark.parametrize("names", [("poison", "e"), ("e", "poison")], ids=" ".join)
def test_a_message_that_ends_the_process_blocks_its_execution_alone(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever comes first in the batch."""
    BODIES.clear()
    with World(registry_of(poison, *WORKFLOWS)) as world:
        workflows = {"poison": "poison", "e": "sequence"}
        for name in names:
            world.client.start_execution(workflows[name], id=name)
        world.deliver()
        pill = Poison(monkeypatch)
        world.attempt()
        world.attempt()
        world.client.get_execution("poison").signal("item", "x")
        world.run()
        assert statuses(world, "poison", "e") == ["blocked", "completed"]
        assert "the process has ended 3 times" in reason(world, "poison")
        assert pill.turns == world.deaths == SUSPICIOUS - 1 + TRIES
        with pytest.raises(ExecutionBlocked, match="resume"):
            world.client.get_execution("poison").result(timeout=0)
        pill.deadly = False
        world.client.get_execution("poison").resume()
        with pytest.raises(TimeoutError):  # what it was blocked by does not count any more
            world.client.get_execution("poison").result(timeout=0)
        world.run()
        assert world.client.get_execution("poison").result(timeout=0) == "x"
        # The others may be dispatched once more by each process that has not ended in good order.
        sound(world, ANYTHING, Fault(0, "dies"))


def test_innocent_messages_are_not_counted_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An execution that is delivered again and again, for others' faults, goes on."""
    with World(REGISTRY) as world:
        world.client.start_execution("signals", id="e")
        world.settle()
        for number in range(20):
            world.client.get_execution("e").signal("item", number)
            message = world.services.queue[-1]
            message.received = 50
            world.deliver(messages=[message])
            world.deliver(messages=[message])
            world.settle()
        world.client.get_execution("e").signal("item", "end")
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == list(range(20))


# PendingEffects that cannot be done


@pytest.mark.parametrize("scenario", ["sequence", "parent", "timers", "fan_out"])
def test_an_execution_whose_errands_cannot_be_done_is_blocked(scenario: str) -> None:
    """And `resume` does them."""
    BODIES.clear()
    played = SCENARIOS[scenario]
    with World(REGISTRY) as world:
        world.client.start_execution(played.workflow, *played.args, id="e")
        world.services.refuses = True
        for _ in range(GIVE_UP):
            assert statuses(world, "e") == ["running"]
            world.deliver()
        assert world.services.queue == world.services.entries == []
        assert statuses(world, "e") == ["blocked"]
        # No process has ended, and nobody says so.
        assert "StoreUnavailable" in reason(world, "e")
        assert world.client._parts.histories.read("e").pending.unconfirmed  # type: ignore[union-attr]
        world.client.get_execution("e").signal("item", "is kept, and so are the effects")
        world.deliver()
        assert world.services.queue == []
        # In vain at first.
        world.client.get_execution("e").resume()
        for _ in range(GIVE_UP + 1):
            world.deliver()
        assert statuses(world, "e") == ["blocked"]
        world.services.refuses = False
        world.client.get_execution("e").resume()
        world.run()
        played.check(world)
        sound(world, played, None)


def test_errands_wait_for_the_code_that_they_need() -> None:
    """It is gone by the time at which they turn out not to be done."""
    BODIES.clear()
    with World(REGISTRY) as world:
        world.client.start_execution("sequence", id="e")
        world.after(Fault(1, "dies", call="lambda.Invoke"))
        world.registry = registry_of(poison)
        world.run()
        assert statuses(world, "e") == ["blocked"]
        assert "sequence" in reason(world, "e")
        world.registry = REGISTRY
        world.orchestrator = world.process()
        world.client.get_execution("e").resume()
        world.run()
        SCENARIOS["sequence"].check(world)
        sound(world, SCENARIOS["sequence"], None)


async def two_tasks(ctx: Context) -> int:
    return await ctx.task(did, 1) + await ctx.task(did, 2)


async def other_code(ctx: Context) -> int:
    await ctx.sleep(1)
    return 3


def test_errands_wait_for_code_that_fits() -> None:
    """The code is another by the time at which they turn out not to be done, and does not fit."""
    BODIES.clear()
    right, wrong = registry_of(two_tasks), registry_of(other_code)
    wrong.add(type(wrong.get("other_code"))("two_tasks", other_code))
    with World(right) as world:
        world.client.start_execution("two_tasks", id="e")
        world.after(Fault(2, "dies", call="lambda.Invoke"))
        world.deliver()
        world.attempt()
        world.registry = wrong
        world.run()
        assert world.deaths == 1
        assert statuses(world, "e") == ["blocked"]
        assert "NonDeterminism" in reason(world, "e")
        world.client.get_execution("e").signal("item", "kept")
        world.run()
        world.registry = right
        world.orchestrator = world.process()
        world.client.get_execution("e").resume()
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == 3


def test_resuming_makes_sure_of_errands() -> None:
    """The message that led to them is gone, and none will come again: it was a dead letter."""
    BODIES.clear()
    with World(REGISTRY) as world:
        world.client.start_execution("sequence", id="e")
        world.after(Fault(1, "dies", call="lambda.Invoke"))
        world.deliver()
        world.services.queue.clear()
        assert world.services.invoked == []
        world.client.get_execution("e").resume()
        world.run()
        SCENARIOS["sequence"].check(world)
