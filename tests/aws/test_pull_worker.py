"""A worker that takes its attempts from a queue: whatever dies, each is run once, and none is lost."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import pytest

from mini_workflow import Context, RetryPolicy, UsageError, current_task
from mini_workflow.core import events
from mini_workflow.runtimes.aws.handlers import LIMITS, PULLED
from mini_workflow.runtimes.aws.pull_worker import DEAD_AFTER, HELD, PullWorker
from mini_workflow.runtimes.aws.worker import HandedBack
from mini_workflow.settings import WORKERS
from tests.aws.world import START, Death, Fault, World, registry_of
from tests.waiting import WAIT

BODIES: Counter[tuple[int, int]] = Counter()
ENTERED, OPEN = threading.Event(), threading.Event()


def did(number: int) -> int:
    BODIES[number, current_task().attempt] += 1
    return number


def held() -> str:
    task = current_task()
    before = task.last_heartbeat
    task.heartbeat("half")
    ENTERED.set()
    while before is None and not OPEN.wait(0.005):
        task.heartbeat("half")
    return f"attempt {task.attempt} after {before}"


async def steps(ctx: Context) -> list[int]:
    return [await ctx.task(did, n, worker="big") for n in range(3)]


async def holds(ctx: Context) -> str:
    return await ctx.task(held, worker="big")


async def once(ctx: Context) -> int:
    return await ctx.task(did, 7, worker="big", retry=RetryPolicy(max_attempts=1))


async def given_up(ctx: Context) -> str:
    task = ctx.task(did, 1, worker="big")
    await ctx.wait_for_signal("enough")
    task.cancel()
    return "given up"


REGISTRY = registry_of(steps, holds, once, given_up)
SETTINGS = {
    WORKERS: json.dumps({"big": "http://127.0.0.1/0/big", "gpu": "function"}),
}


class Place:
    """A world whose tasks a worker pulls, in turns with the rest."""

    registry = REGISTRY
    settings = SETTINGS
    worker = "big"

    def __init__(self) -> None:
        BODIES.clear()
        ENTERED.clear()
        OPEN.clear()
        self.world = World(self.registry, settings=self.settings)
        self.world.prone = ("orchestrator", "puller")
        self.processes: list[PullWorker] = []
        self.puller = self.another()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        OPEN.set()
        for puller in self.processes:
            puller._worker.close()
        self.world.__exit__(None, None, None)

    def another(self, wait: Callable[[float], bool] | None = None) -> PullWorker:
        def passes(seconds: float) -> bool:
            self.world.clock.advance(round(seconds * 1000))
            return False

        made = PullWorker(self.world.process()._parts, self.worker, 1, wait or passes)
        self.processes.append(made)
        return made

    def pull(self) -> bool:
        """Have the worker take a message; whether there was one."""
        world = self.world
        if not any(one["visible"] <= world.clock.now() for one in world.services.pulled):
            return False
        acting, world.acting = world.acting, "puller"
        try:
            self.puller.take()
        except Death:
            world.deaths += 1
            self.puller = self.another()
        except Exception:
            pass  # it goes on with the next message
        finally:
            world.acting = acting
        return True

    def run(self) -> None:
        """Go on until nothing moves any more; time passes when nothing else happens."""
        world = self.world
        for _ in range(2_000):
            if world.deliver() or self.pull():
                continue
            waits = [one["visible"] for one in world.services.pulled]
            if waits:
                world.clock.advance(max(0, min(waits) - world.clock.now()))
            elif (
                all(
                    world.client.get_execution(name).describe().status != "running"
                    for name in self.started
                )
                or not world.services.notify()
            ):
                return
        raise AssertionError("still at work")

    started: tuple[str, ...] = ("e",)

    def start(self, name: str) -> Any:
        return self.world.client.start_execution(name, id="e")


def test_attempts_are_taken_from_the_queue(capsys: pytest.CaptureFixture[str]) -> None:
    with Place() as place:
        execution = place.start("steps")
        place.run()
        assert execution.result(0) == [0, 1, 2]
        assert place.world.services.pulled == []
        assert not place.world.services.invocations
        assert set(BODIES.values()) == {1}
    # The metrics are lines for the log of a function, of which CloudWatch makes metrics: here is none.
    assert capsys.readouterr().out == ""


def test_a_message_that_arrives_twice_runs_its_attempt_once() -> None:
    with Place() as place:
        place.world.services.doubled = True
        execution = place.start("steps")
        place.run()
        assert execution.result(0) == [0, 1, 2]
        assert set(BODIES.values()) == {1}
        assert place.world.recorded("e")["TaskRetryScheduled"] == 0


def _calls() -> int:
    with Place() as place:
        place.start("steps")
        place.run()
        return len(place.world.calls)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["dies", "fails", "throttled"])
def test_whatever_goes_wrong_at_any_call_each_attempt_runs_once(kind: Any, after: bool) -> None:
    for n in range(1, _calls() + 1):
        with Place() as place:
            execution = place.start("steps")
            place.world.after(Fault(n, kind, after))
            place.run()
            assert execution.result(0) == [0, 1, 2], n
            assert set(BODIES.values()) == {1}, n
            assert place.world.services.pulled == [], n


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whatever_dies_while_messages_arrive_twice(after: bool) -> None:
    for n in range(1, _calls() + 1, 2):
        with Place() as place:
            place.world.services.doubled = True
            execution = place.start("steps")
            place.world.after(Fault(n, "dies", after))
            place.run()
            assert execution.result(0) == [0, 1, 2], n
            assert set(BODIES.values()) == {1}, n


def test_a_worker_that_dies_costs_an_attempt_and_no_deadline() -> None:
    with Place() as place:
        execution = place.start("once")
        place.world.deliver()
        # It begins, and is gone.
        assert _claimed(place)
        began = place.world.clock.now()
        place.run()
        (failed,) = [e for e in place.world.history("e") if isinstance(e, events.TaskFailed)]
        assert failed.failure.type.endswith("WorkerLost")
        assert "has died" in failed.failure.message
        assert BODIES == {}
        assert failed.at - began <= (HELD + DEAD_AFTER + 1) * 1000
        assert execution.describe().status == "failed"


def _claimed(place: Place) -> bool:
    """Have a worker begin an attempt, and die right after it has said so."""
    before = len(place.world.calls)
    place.world.after(Fault(2, "dies", True))
    place.pull()
    place.world.faults.clear()
    return place.world.calls[before:] == ["sqs.ReceiveMessage", "s3.PutObject"]


def test_one_that_lives_keeps_its_attempt() -> None:
    """Its message comes to another one, which sees that the mark changes."""
    with Place() as place:
        execution = place.start("holds")
        place.world.deliver()
        first = place.puller
        thread = threading.Thread(target=first.take)
        thread.start()
        assert ENTERED.wait(WAIT)
        place.world.clock.advance((HELD + 1) * 1000)

        def renews(seconds: float) -> bool:
            first.renew()
            return False

        place.puller = place.another(renews)
        assert place.pull()
        assert place.world.services.queue == []
        OPEN.set()
        thread.join(WAIT)
        place.run()
        assert execution.result(0) == "attempt 1 after None"


def test_an_orderly_end_hands_the_attempt_back_with_its_details() -> None:
    with Place() as place:
        execution = place.start("holds")
        place.world.deliver()
        thread = threading.Thread(target=place.puller.take)
        thread.start()
        assert ENTERED.wait(WAIT)
        place.puller.close(0)
        thread.join(WAIT)
        assert not thread.is_alive()
        (message,) = place.world.services.pulled
        assert message["visible"] <= place.world.clock.now()
        place.puller = place.another()
        place.run()
        assert execution.result(0) == "attempt 1 after half"
        assert place.world.recorded("e")["TaskRetryScheduled"] == 0


def test_one_that_ends_takes_nothing_any_more() -> None:
    with Place() as place:
        execution = place.start("steps")
        place.world.deliver()
        place.puller.close(0)
        assert place.pull()
        assert BODIES == {}
        place.puller = place.another()
        place.run()
        assert execution.result(0) == [0, 1, 2]


def test_a_task_that_was_given_up_before_it_began_is_not_run() -> None:
    with Place() as place:
        execution = place.start("given_up")
        place.world.deliver()
        execution.signal("enough")
        place.world.deliver()
        place.run()
        assert execution.result(0) == "given up"
        assert BODIES == {}


def test_what_is_not_signed_is_left_in_the_queue() -> None:
    with Place() as place:
        for body in ("nonsense", "{}", json.dumps({"execution_id": "e", "seq": 1, "attempt": 1})):
            place.world.services.pulled.append(
                {"id": body[:3], "body": body, "visible": 0, "received": 0}
            )
        for _ in range(3):
            assert place.pull()
        assert len(place.world.services.pulled) == 3
        assert not any(key.startswith("payloads/begun") for key in place.world.services.objects)


def test_their_deadline_is_that_of_their_queue() -> None:
    with Place() as place:
        execution = place.start("steps")
        place.world.deliver()
        wakes = execution.describe().next_wake_at
        assert wakes is not None
        assert round(wakes.timestamp() * 1000) - START == PULLED.within(None)
        assert PULLED.within(None) != LIMITS.within(None)


@pytest.mark.parametrize(
    ("name", "concurrency"), [("gpu", 1), ("tpu", 1), ("big", 0), ("big", 1.5)]
)
def test_a_worker_that_cannot_pull(name: str, concurrency: Any) -> None:
    with Place() as place, pytest.raises(UsageError, match=r"1,000|queue"):
        PullWorker(place.world.process()._parts, name, concurrency)


def test_handed_back_says_why() -> None:
    assert "another one goes on" in str(HandedBack(None))
