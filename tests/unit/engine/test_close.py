"""A runtime that closes in good order hands back what it has not begun, and that costs no attempt."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.history import History
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.errors import StoreUnavailable
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.crash import SimulatedCrash
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import Shape, step
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, Files, MakeState, check, in_memory, stepping

NARROW = sorted(name for name, shape in SHAPES.items() if not shape.wide)


def attempts(lines: list[str]) -> set[int]:
    return {event.attempt for event in History.from_lines(lines) if hasattr(event, "attempt")}  # type: ignore[union-attr]


def closing_after(make: MakeState, shape: Shape, steps: int, cache_size: int) -> None:
    """Close after every so many steps, and go on in the next process."""
    with Ledger() as ledger, stepping(make, shape, cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start(shape.name, execution_id=ID)
        busy = True
        for _ in range(40):
            for _ in range(steps):
                busy = busy and stepper.step()
            stepper.close()
            stepper.open()
            stepper.settle()
            assert stepper.faults(ID) == []
        stepper.run()
        # What is given up while it is handed back is never begun; nothing else may be missing.
        check(stepper, shape, ledger, lost=None)
        assert sum(ledger.names(ID).values()) <= shape.attempts
        lost = any('"type":"mini_workflow.errors:WorkerLost"' in line for line in stepper.lines(ID))
        assert lost == bool(shape.dies)


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("name", NARROW)
def test_closing_and_opening_changes_nothing(name: str, cache_size: int) -> None:
    for steps in (1, 3):
        closing_after(in_memory, SHAPES[name], steps, cache_size)


@pytest.mark.parametrize("cache_size", [0, 100])
def test_attempts_that_had_not_begun_do_not_count(cache_size: int) -> None:
    """Not even with a policy of a single attempt."""

    async def once(ctx: Context) -> list[int]:
        policy = RetryPolicy(max_attempts=1)
        return list(await asyncio.gather(*(step(ctx, "one", i, retry=policy) for i in range(4))))

    registry = Registry()
    registry.add(Workflow("once", once))
    with (
        Ledger() as ledger,
        stepping(in_memory, registry=registry, cache_size=cache_size) as stepper,
    ):
        stepper.open()
        stepper.start("once", execution_id=ID)
        stepper.settle()
        for _ in range(3):
            stepper.close()
            stepper.open()
            stepper.settle()
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2, 3]
        assert attempts(stepper.lines(ID)) == {1}
        assert ledger.names(ID) == {"one": 4}
        released = [
            e for e in History.from_lines(stepper.lines(ID)) if type(e) is events.TaskReleased
        ]
        assert len(released) == 12


@pytest.mark.parametrize("cache_size", [0, 100])
def test_what_is_decided_while_draining_is_handed_back_once(cache_size: int) -> None:
    """Outcomes that arrive during the grace bring new tasks; closing comes to an end all the same."""
    names = ("queue", "nested", "semaphore", "conditions")
    with Ledger() as ledger, stepping(in_memory, cache_size=cache_size) as stepper:
        stepper.open()
        for name in names:
            stepper.start(name, execution_id=name)
        stepper.settle()
        stepper.engine.drain()
        for _ in range(4):
            for request in stepper.runner.ready():
                stepper.runner.run(request)
                stepper.settle()
        assert stepper.runner.held == []
        stepper.close()
        stepper.open()
        stepper.run()
        for name in names:
            assert stepper.outcome(name) == SHAPES[name].result
            assert stepper.faults(name) == []
            assert attempts(stepper.lines(name)) == {1}
            assert ledger.names(name) == dict(SHAPES[name].done)


@pytest.mark.parametrize(
    "name", ["fan_out", "sequence", "many_retries", "never_awaited", "cancelled"]
)
def test_law_14_crash_at_every_call_of_closing(name: str, tmp_path: Path) -> None:
    shape, files = SHAPES[name], Files(tmp_path)
    for after in (False, True):
        n, crashed = 1, True
        while crashed:
            for make in (in_memory, files):
                with Ledger() as ledger, stepping(make, shape) as stepper:
                    stepper.open()
                    stepper.start(name, execution_id=ID)
                    stepper.settle()
                    stepper.crashes.crash_at(n, after=after)
                    try:
                        stepper.close()
                        crashed = False
                    except SimulatedCrash:
                        stepper.crash()
                    stepper.crashes.crash_at(None)
                    stepper.open()
                    stepper.run()
                    check(stepper, shape, ledger, lost=10 if crashed else 0)
            n += 1
        assert n > 3


def test_blocked_execution_whose_attempts_are_handed_back() -> None:
    """They are parked as handed back, and are begun again when it goes on: not counted as lost."""

    async def flow(ctx: Context) -> list[int]:
        if ill:
            raise KeyboardInterrupt
        policy = RetryPolicy(max_attempts=1)
        return list(await asyncio.gather(*(step(ctx, "one", i, retry=policy) for i in range(2))))

    ill = False
    registry = Registry()
    registry.add(Workflow("flow", flow))
    with Ledger() as ledger, stepping(in_memory, registry=registry) as stepper:
        stepper.open()
        stepper.start("flow", execution_id=ID)
        stepper.settle()
        ill = True
        stepper.engine.evict()
        first = stepper.runner.held[0]
        stepper.runner.run(first)
        stepper.settle()
        head = stepper.head(ID)
        assert head is not None
        assert head.status == "blocked"
        stepper.close()
        stepper.open()
        ill = False
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == [0, 1]
        assert stepper.faults(ID) == []
        assert ledger.names(ID) == {"one": 2}


def test_unavailable_store_does_not_keep_an_engine_from_closing() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("fan_out", execution_id=ID)
        stepper.settle()
        stepper.crashes.fail("store.commit", StoreUnavailable("away"), times=1000)
        stepper.close()
        stepper.crashes.recover()
        stepper.open()
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 4, 9, 16]
