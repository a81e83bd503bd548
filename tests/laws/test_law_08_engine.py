"""Law 8: eviction runs no user `finally` that can reach the store; and nobody can tell it."""

from __future__ import annotations

import asyncio
import random

import pytest

from mini_workflow.context import Context
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import work
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, check, finish, in_memory, stepping


def history(name: str, *, cache_size: int, evict: random.Random | None = None) -> list[str]:
    shape = SHAPES[name]
    with Ledger() as ledger, stepping(in_memory, shape, cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        if evict is None:
            finish(stepper, shape)
        else:
            while stepper.step():
                if evict.random() < 0.5:
                    stepper.engine.evict()
        check(stepper, shape, ledger)
        return stepper.lines(ID)


@pytest.mark.parametrize("name", SHAPES)
def test_law_08_history_is_the_same_with_nothing_cached(name: str) -> None:
    assert history(name, cache_size=0) == history(name, cache_size=100)


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"wide"}))
def test_law_08_history_is_the_same_with_random_evictions(name: str) -> None:
    expected = history(name, cache_size=100)
    for seed in range(3):
        assert history(name, cache_size=100, evict=random.Random(seed)) == expected


def test_law_08_batch_larger_than_the_cache() -> None:
    """Executions of one batch evict each other, before and after their turns."""
    names = [f"x-{i}" for i in range(20)]
    with stepping(in_memory, cache_size=3) as stepper:
        stepper.open()
        for name in names:
            stepper.start("fan_out", execution_id=name)
        stepper.settle()
        chance = random.Random(1)
        while ready := stepper.runner.ready():
            for request in chance.sample(ready, min(25, len(ready))):
                stepper.runner.run(request)
            stepper.settle()
        for name in names:
            assert stepper.outcome(name) == [0, 1, 4, 9, 16]
            assert stepper.faults(name) == []


def test_law_08_eviction_runs_no_finally_that_reaches_the_store() -> None:
    seen: list[str] = []

    async def stubborn(ctx: Context) -> int:
        try:
            return await ctx.task(work, 1, name="slow")
        finally:
            seen.append("finally")
            try:
                await ctx.task(work, 2, name="cleanup")
            finally:
                ctx.task(work, 3, name="more")
                await asyncio.sleep(1)

    registry = Registry()
    registry.add(Workflow("stubborn", stubborn))
    with Ledger() as ledger, stepping(in_memory, registry=registry) as stepper:
        stepper.open()
        stepper.start("stubborn", execution_id=ID)
        stepper.settle()
        before, calls = stepper.lines(ID), len(stepper.crashes.calls)
        stepper.engine.evict()
        assert seen == ["finally"]
        assert stepper.crashes.calls[calls:] == []
        assert stepper.lines(ID) == before
        assert [request.name for request in stepper.runner.held] == ["slow"]
        stepper.run()
        assert stepper.outcome(ID) == 1
        assert ledger.names(ID) == {"slow": 1, "cleanup": 1, "more": 1}


def test_law_08_attempts_in_flight_survive_eviction() -> None:
    """What this engine runs is not taken for lost when its execution is loaded again."""
    with Ledger() as ledger, stepping(in_memory, cache_size=0) as stepper:
        stepper.open()
        stepper.start("fan_out", execution_id=ID)
        stepper.run()
        assert sum(ledger.names(ID).values()) == 5
        assert {effect.attempt for effect in ledger.of(ID)} == {1}
