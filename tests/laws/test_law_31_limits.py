"""Law 31: a slot of a limit is held by one at a time, nothing waits for ever, and nothing leaks: whatever
crashes at whatever call, and whichever message is lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.context import Context
from mini_workflow.core import events, wire
from mini_workflow.core.granting import Granting
from mini_workflow.core.limit import Limit, limit_id
from mini_workflow.core.timing import UNTIMED, Timing
from mini_workflow.engine.requests import Post
from mini_workflow.testing.simulation import corpus
from mini_workflow.testing.simulation.crash import SimulatedCrash
from mini_workflow.testing.simulation.shapes import step
from mini_workflow.testing.simulation.stepping import Stepper
from mini_workflow.workflow import Workflow
from tests.laws.test_law_19_lost import Loss
from tests.sweeps import EVERY, FIRST
from tests.unit.engine.harness import Files, MakeState, in_memory, stepping

CROWDED = Limit("laws.crowded", concurrency=2)
IDS = ("a-1", "a-2", "q-1", "q-2")
LAST = "a-4"
"""Those that begin with q need a slot themselves, and hand it on to a second run."""


async def crowd(ctx: Context) -> list[int]:
    steps = (step(ctx, "step", n, limit=CROWDED, limit_key=ctx.info.execution_id) for n in range(3))
    return list(await asyncio.gather(*steps))


async def handed_on(ctx: Context, more: int = 1) -> int:
    done = await step(ctx, "step", more)
    if more:
        ctx.continue_as_new(more - 1)
    return int(done)


def registry() -> Any:
    made = corpus.registry()
    made.add(Workflow("crowd", crowd))
    made.add(Workflow("handed_on", handed_on))
    return made


def held_at_most(history: Iterable[events.Event]) -> int:
    """How many slots were held at a time, as far as the limit could know: what was told of last, and
    what was granted since.
    """
    told: dict[tuple[Any, ...], tuple[int, int]] = {}
    granted: dict[tuple[Any, ...], int] = {}
    most = 0
    for event in history:
        if isinstance(event, events.SlotsSent):
            for key, priority, total in event.granted:
                granted[event.sender, key, priority] = total
        elif isinstance(event, events.SignalReceived):
            value = event.value.tree
            if "lines" not in value:
                told = {place: is_so for place, is_so in told.items() if place[0] != value["as"]}
                granted = {place: n for place, n in granted.items() if place[0] != value["as"]}
                continue
            for key, priority, _, knows, holds in value["lines"]:
                told[value["as"], key, priority] = (knows, holds)
        held = 0
        for place in {*told, *granted}:
            knows, holds = told.get(place, (0, 0))
            held += holds + max(0, granted.get(place, 0) - knows)
        most = max(most, held)
    return most


def check(stepper: Stepper, ids: Iterable[str] = IDS) -> None:
    """All have ended, no more slots were held than there are, and all are back."""
    for name in ids:
        head = stepper.head(name)
        assert head is not None, name
        assert head.status == "completed", head
        assert stepper.faults(name) == []
    history = [wire.decode(line) for line in stepper.lines(limit_id(CROWDED.name))]
    assert stepper.faults(limit_id(CROWDED.name)) == []
    assert 1 <= held_at_most(history) <= 2
    granting = Granting()
    for event in history:
        if isinstance(event, events.SignalReceived):
            granting.take_report(event.value.tree)
        elif isinstance(event, events.SlotsSent):
            granting.grant(0)
    assert granting.totals() == (0, 0)
    assert len(granting) == 0


def begin(stepper: Stepper, ids: Iterable[str]) -> None:
    for name in ids:
        own = name.startswith("q")
        request = stepper.start("handed_on" if own else "crowd", execution_id=name)
        request.timing = Timing(limit={"name": CROWDED.name}) if own else UNTIMED


def crash_at(make: MakeState, crashes: list[tuple[int, bool]], cache_size: int = 100) -> int:
    """Run it through crashes; answers how many have come."""
    met, plan = 0, iter(crashes)
    with stepping(make, registry=registry(), cache_size=cache_size) as stepper:
        while True:
            n, after = next(plan, (None, False))
            stepper.crashes.crash_at(n, after=after)
            try:
                stepper.open()
                begin(stepper, [name for name in IDS if stepper.head(name) is None])
                stepper.run()
                break
            except SimulatedCrash:
                met += 1
                stepper.crash()
        check(stepper)
        return met


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_law_31_crash_at_every_call(after: bool) -> None:
    n = FIRST + 1
    while crash_at(in_memory, [(n, after)], cache_size=n % 2):
        n += EVERY
    assert n > 20


def test_law_31_crash_at_many_calls_in_a_file(tmp_path: Path) -> None:
    files, n = Files(tmp_path), 1
    while crash_at(files, [(n, n % 2 == 0), (n + 3, n % 3 == 0)]):
        n += 11
    assert n > 20


@pytest.mark.parametrize("seed", range(8))
def test_law_31_crashes_again_and_again(seed: int) -> None:
    draw = random.Random(seed)
    plan = [(draw.randrange(3, 40), draw.random() < 0.5) for _ in range(6)]
    assert crash_at(in_memory, plan) > 0


def lose(drop: Callable[[int], bool]) -> Loss:
    """Run it with losses; what still waits then is resumed, the limit first."""
    with stepping(in_memory, registry=registry()) as stepper:
        stepper.open()
        loss = Loss(stepper, drop)
        for ids in (IDS, (LAST,)):
            begin(stepper, ids)
            stepper.run()
            resume_until_ended(stepper, ids)
        check(stepper, (*IDS, LAST))
        return loss


def resume_until_ended(stepper: Stepper, ids: Iterable[str]) -> None:
    for _ in range(20):
        heads = [stepper.head(name) for name in ids]
        waiting = [one.execution_id for one in heads if one and one.closed_at is None]
        for name in (limit_id(CROWDED.name), *waiting):
            stepper.resume(name)
        stepper.run()
        if not waiting:
            return


def test_law_31_the_nth_message_is_lost() -> None:
    whole = lose(lambda n: False)
    assert whole.count > 10
    for lost in range(whole.count):
        assert len(lose(lambda n, lost=lost: n == lost).dropped) == 1


@pytest.mark.parametrize("steps", range(0, 40, 3))
@pytest.mark.parametrize("ended", [IDS[0], IDS[-1]])
def test_law_31_who_is_terminated_gives_back(steps: int, ended: str) -> None:
    """At whatever step; the others come to their end."""
    with stepping(in_memory, registry=registry()) as stepper:
        stepper.open()
        begin(stepper, IDS)
        for _ in range(steps):
            stepper.step()
        end = events.ExecutionTerminated(stepper.clock.now(), "law")
        stepper.inbox.append(Post(ended, end))
        stepper.run()
        check(stepper, [name for name in IDS if name != ended])
