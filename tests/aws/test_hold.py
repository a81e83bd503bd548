"""What a process that dies costs those whose messages it had in hand, at the queue's real timeout."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from mini_workflow import Context
from mini_workflow.engine.orchestrator import SUSPICIOUS, TRIES
from mini_workflow.engine.turn import Delivery, Turn, Turns
from mini_workflow.errors import SettingMissing
from mini_workflow.runtimes.aws import hold
from mini_workflow.runtimes.aws.hold import Hold
from mini_workflow.stores.aws.clients import Clients
from tests.aws.flows import BODIES, REGISTRY, WORKFLOWS, did
from tests.aws.services import Message
from tests.aws.world import HOLDING, Death, World, registry_of
from tests.waiting import WAIT

# A process that dies closes nothing: what it was running is found by the garbage collector here.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

VISIBILITY = 360
"""Seconds of the queue of events: four times what the component sets by default, and as much as it sets for a
function that may take five and a half minutes."""

BEARABLE = 30_000
"""Milliseconds that others may lose by a process that dies."""


class Queue(World):
    """A world whose queue hides what it has handed out, as SQS does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.hidden: dict[str, int] = {}

    def answer(self, request: Any, event_name: str) -> Any:
        answer = super().answer(request, event_name)
        for receipt, seconds in self.services.visibility.items():
            self.hidden[receipt] = self.clock.now() + seconds * 1000
        self.services.visibility.clear()
        return answer

    def deliver(self, runtime: Any = None, messages: list[Message] | None = None) -> int:
        now, held, batch = self.clock.now(), set[str](), list[Message]()
        for message in self.services.queue:
            if self.hidden.get(_receipt(message), 0) > now:
                held.add(message.group)
            elif message.group not in held:
                batch.append(message)
        batch = batch[: self.batch]
        for message in batch:
            self.hidden[_receipt(message)] = now + VISIBILITY * 1000
        return super().deliver(runtime, batch) if batch else 0

    def play(self) -> None:
        """Go on until nothing moves any more; time passes when nothing else happens."""
        while True:
            if self.deliver() or self.attempt():
                continue
            waiting = (self.hidden.get(_receipt(m), 0) for m in self.services.queue)
            times = [time for time in waiting if time > self.clock.now()]
            due = self.services.next()
            if not times and due is None:
                return
            times += [] if due is None else [due]
            self.clock.set(max(self.clock.now(), min(times)))
            self.services.pass_on()


def _receipt(message: Message) -> str:
    handle: str = message.record()["receiptHandle"]
    return handle


async def poison(ctx: Context) -> None:
    await ctx.task(did, 1)


def deadly(monkeypatch: pytest.MonkeyPatch, world: World, milliseconds: int) -> None:
    """The turns of ``poison`` end the process after some time."""
    proper = Turns.next

    def take(turns: Turns, delivery: Delivery, now: int) -> Turn | None:
        if delivery.execution_id.startswith("poison"):
            world.clock.advance(milliseconds)
            raise Death
        return proper(turns, delivery, now)

    monkeypatch.setattr(Turns, "next", take)


@pytest.mark.parametrize("place", [0, 3, 9])
@pytest.mark.parametrize("milliseconds", [0, 2_000])
def test_an_orchestrator_that_dies_costs_its_neighbours_little(
    place: int, milliseconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    BODIES.clear()
    with Queue(registry_of(poison, *WORKFLOWS)) as world:
        deadly(monkeypatch, world, milliseconds)
        names = [f"e{n}" for n in range(9)]
        names.insert(place, "poison")
        for name in names:
            workflow = "poison" if name == "poison" else "inline"
            world.client.start_execution(workflow, id=name)
        began = world.clock.now()
        world.play()
        describe = {name: world.client.get_execution(name).describe() for name in names}
        assert describe.pop("poison").status == "blocked"
        assert {head.status for head in describe.values()} == {"completed"}
        closed = [world.client._parts.store.head(name).closed_at for name in describe]  # type: ignore[union-attr]
        assert max(closed) - began < BEARABLE  # type: ignore[type-var, operator]
        # And what was at fault is found out soon.
        assert world.deaths == SUSPICIOUS - 1 + TRIES
        assert world.clock.now() - began < VISIBILITY * 1000


def test_two_that_end_the_process_do_not_keep_their_neighbours_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Queue(registry_of(poison, *WORKFLOWS)) as world:
        deadly(monkeypatch, world, 100)
        for name in ("poison-1", "poison-2", "e"):
            workflow = "poison" if name != "e" else "inline"
            world.client.start_execution(workflow, id=name)
        began = world.clock.now()
        world.play()
        head = world.client._parts.store.head("e")
        assert head is not None
        assert head.closed_at is not None
        assert head.closed_at - began < BEARABLE
        for name in ("poison-1", "poison-2"):
            assert world.client.get_execution(name).describe().status == "blocked"


def test_a_step_of_a_live_execution_is_not_held() -> None:
    with World(REGISTRY) as world:
        world.client.start_execution("sequence", id="e")
        world.deliver()
        # Nobody knows yet what its code does to the process.
        assert world.calls.count(HOLDING) == 1
        world.run()
        assert world.client.get_execution("e").result(timeout=0) is not None
        assert world.calls.count(HOLDING) == 1


def test_a_process_that_dies_in_a_step_alone_costs_that_execution_what_its_queue_hides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    BODIES.clear()
    with Queue(registry_of(poison, *WORKFLOWS)) as world:
        world.client.start_execution("poison", id="e")
        world.deliver()
        assert world.calls.count(HOLDING) == 1
        assert world.attempt()
        proper, deaths, lost = Turns.next, iter([True]), list[int]()

        def take(turns: Turns, delivery: Delivery, now: int) -> Turn | None:
            if next(deaths, False):
                raise Death
            lost.append(now - began)
            return proper(turns, delivery, now)

        began = world.clock.now()
        monkeypatch.setattr(Turns, "next", take)
        world.play()
        assert world.deaths == 1
        assert lost == [VISIBILITY * 1000]
        assert world.client.get_execution("e").describe().status == "completed"
        # What was delivered before is held again.
        assert world.calls.count(HOLDING) == 2


def test_a_batch_holds_its_messages_with_one_call() -> None:
    with World(REGISTRY) as world:
        for number in range(10):
            world.client.start_execution("inline", id=f"e{number}")
        world.deliver()
        assert world.calls.count(HOLDING) == 1
        assert world.calls[0] == HOLDING


def test_messages_are_held_for_as_long_as_the_batch_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "PAUSE", 0.001)
    monkeypatch.setattr(hold, "HELD", 0.004)
    monkeypatch.setattr(hold, "WAITING", 0.002)
    queue = Recording()
    groups = {"a": [{"receiptHandle": "1"}, {"receiptHandle": "2"}], "b": [{"receiptHandle": "3"}]}
    holding = Hold(Clients(lambda service: queue), lambda: "url", groups)
    holding.wait()
    assert queue.calls[0] == {"1": 0.004, "2": 0.004, "3": 0.004}
    queue.wait(5)
    holding.single_out("b")
    queue.wait(12)
    holding.end()
    assert queue.calls[-1] == {"1": 0.002, "2": 0.002, "3": 0.004}
    assert len(queue.calls) == queue.wait(0)


def test_a_batch_that_takes_longer_than_a_moment_is_held_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue, groups = Recording(), {"a": [{"receiptHandle": "1"}]}
    holding = Hold(Clients(lambda service: queue), lambda: "url", groups, at_once=False)
    holding.wait()  # for nothing: it is not to be held yet
    holding.end()
    assert queue.calls == []
    monkeypatch.setattr(hold, "PAUSE", 0.001)
    holding = Hold(Clients(lambda service: queue), lambda: "url", groups, at_once=False)
    queue.wait(1)
    holding.end()
    assert queue.calls[0] == {"1": hold.HELD}


def test_whoever_cannot_hold_messages_handles_them_all_the_same() -> None:
    queue = Recording()
    queue.fails = True
    holding = Hold(Clients(lambda service: queue), lambda: "url", {"a": [{"receiptHandle": "1"}]})
    holding.wait()
    holding.end()


class Recording:
    """A client of SQS that notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, float]] = []
        self.fails = False
        self._changed = threading.Condition()

    def change_message_visibility_batch(self, QueueUrl: str, Entries: list[Any]) -> None:  # noqa: N803
        if self.fails:
            from botocore.exceptions import EndpointConnectionError

            raise EndpointConnectionError(endpoint_url=QueueUrl)
        json.dumps(Entries)
        with self._changed:
            self.calls.append({e["ReceiptHandle"]: e["VisibilityTimeout"] for e in Entries})
            self._changed.notify_all()

    def wait(self, number: int) -> int:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= number, WAIT)
            return len(self.calls)


def test_a_setting_that_is_missing_keeps_no_batch_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def queue_url() -> str:
        raise SettingMissing("QUEUE_URL is needed")

    holding = Hold(Clients(None), queue_url, {"a": [{"receiptHandle": "r"}]})
    waiting = threading.Thread(target=holding.wait, daemon=True)
    waiting.start()
    waiting.join(WAIT)
    assert not waiting.is_alive()
    holding.end()
    assert "QUEUE_URL is needed" in caplog.text
