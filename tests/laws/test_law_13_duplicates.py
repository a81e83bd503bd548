"""Law 13: every message may arrive twice, late, or after a newer one of another kind: nothing changes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mini_workflow.core import wire
from mini_workflow.core.events import ExecutionTerminated
from mini_workflow.core.history import History
from mini_workflow.engine.requests import Input, Post, Update, WakeUp
from mini_workflow.errors import StoreFull
from mini_workflow.ports import TaskOutcome
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.outside import again
from mini_workflow.testing.simulation.shapes import Shape
from mini_workflow.testing.simulation.stepping import Stepper
from tests.unit.engine.harness import ID, Files, MakeState, check, finish, in_memory, stepping

NARROW = sorted(name for name, shape in SHAPES.items() if not shape.wide)


def plain(make: MakeState, shape: Shape, cache_size: int) -> list[str]:
    with Ledger(), stepping(make, shape, cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start(shape.name, execution_id=ID)
        finish(stepper, shape)
        return stepper.lines(ID)


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("name", NARROW)
def test_law_13_every_message_again_and_again(name: str, cache_size: int) -> None:
    """Each message once more in the same batch, in the next, and all of them after each step."""
    shape = SHAPES[name]
    expected = plain(in_memory, shape, cache_size)
    with Ledger() as ledger, stepping(in_memory, shape, cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        old: list[Input] = []
        busy = True
        while busy:
            busy = stepper.step()
            messages = [r for r in stepper.inbox if isinstance(r, (TaskOutcome, Post, Update))]
            old.extend(messages)
            stepper.inbox.extend(map(again, messages))
            stepper.settle()
            stepper.inbox.extend(map(again, old))
            stepper.inbox.append(WakeUp())
            stepper.start(name, execution_id=ID)
            stepper.settle()
        check(stepper, shape, ledger)
        assert stepper.lines(ID) == expected
        assert stepper.engine.in_flight == 0


@pytest.mark.parametrize("name", NARROW)
def test_law_13_outcomes_in_any_order(name: str, tmp_path: Path) -> None:
    """Attempts end in any order, their outcomes come in any batches, some of them twice."""
    shape, chance, files = SHAPES[name], random.Random(name), Files(tmp_path)
    for make in (in_memory, in_memory, in_memory, files):
        with Ledger() as ledger, stepping(make, shape, cache_size=chance.choice([0, 9])) as stepper:
            stepper.open()
            stepper.start(name, execution_id=ID)
            shuffle(stepper, chance)
            check(stepper, shape, ledger)


def shuffle(stepper: Stepper, chance: random.Random) -> None:
    waiting: list[TaskOutcome] = []
    for _ in range(500):
        stepper.settle()
        ready = stepper.runner.ready()
        if ready and chance.random() < 0.6:
            stepper.runner.run(chance.choice(ready))
            waiting += [r for r in stepper.inbox if isinstance(r, TaskOutcome)]
            stepper.inbox.clear()
        elif waiting:
            chance.shuffle(waiting)
            count = chance.randint(1, len(waiting))
            stepper.inbox.extend(waiting[:count])
            if chance.random() < 0.5:
                del waiting[:count]
        elif not ready and not stepper.step():
            return
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("name", ["sequence", "fan_out", "sleeping", "retries"])
def test_law_13_time_that_comes_in_jumps(name: str) -> None:
    """The same history, whether the engine is called once for a timer or many times."""
    shape = SHAPES[name]
    expected = plain(in_memory, shape, 100)
    with Ledger() as ledger, stepping(in_memory, shape) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        busy = True
        while busy:
            busy = stepper.step()
            for _ in range(3):
                stepper.process()
        check(stepper, shape, ledger)
        assert stepper.lines(ID) == expected


def test_law_13_messages_twice() -> None:
    """A message that is read again, because its commit was refused, is taken once."""
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("sleeping", execution_id=ID)
        stepper.settle()
        message = wire.encode(ExecutionTerminated(stepper.clock.now(), "from elsewhere"))
        for key in ("a", "b"):
            stepper.backend.mailbox.post(ID, message, key)
        stepper.inbox.append(WakeUp())
        stepper.crashes.fail("store.commit", StoreFull("no space"))
        stepper.settle()
        assert stepper.outcome(ID) is None
        stepper.run()
        assert stepper.outcome(ID) == "ExecutionTerminated"
        assert stepper.faults(ID) == []
        assert stepper.backend.mailbox.entries(0, 10) == []


def test_law_13_late_outcomes_of_earlier_attempts() -> None:
    """The outcome of an attempt that was given up for lost comes when another one is under way."""
    shape = SHAPES["retries"]
    with Ledger() as ledger, stepping(in_memory, shape) as stepper:
        stepper.open()
        stepper.start("retries", execution_id=ID)
        stepper.settle()
        attempt = stepper.runner.held[0]
        stepper.runner.lose(attempt)
        stepper.settle()
        stepper.clock.set(stepper.backend.agenda.next_wake() or 0)
        stepper.settle()
        late = TaskOutcome(*attempt.key, result="99")
        stepper.inbox.append(late)
        stepper.run()
        stepper.inbox.append(late)
        stepper.run()
        check(stepper, shape, ledger, lost=1)
        kinds = [type(event).__name__ for event in History.from_lines(stepper.lines(ID))]
        assert kinds.count("TaskCompleted") == 1
