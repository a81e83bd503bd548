"""Law 14: a crash before, between or after any two port calls loses no execution and records no
result twice.

Every shape is run once for every n, crashing before the n-th call, and again after it, until a
run gets by without reaching it. Then the next process takes over and has to come to the same end.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import Shape
from tests.unit.engine.harness import (
    EVERY,
    FIRST,
    Files,
    MakeState,
    check,
    in_memory,
    run_through,
    stepping,
)

NAMES = sorted(SHAPES)


def crash_at(
    make: MakeState, shape: Shape, crashes: list[tuple[int, bool]], cache_size: int = 100
) -> int:
    with Ledger() as ledger, stepping(make, shape, cache_size=cache_size) as stepper:
        met = run_through(stepper, shape, crashes)
        check(stepper, shape, ledger, lost=met * (10 if not shape.wide else 100))
        return met


def stride(shape: Shape, usual: int) -> int:
    return 17 if shape.wide else usual


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", NAMES)
def test_law_14_crash_at_every_call_in_memory(name: str, after: bool) -> None:
    shape, n = SHAPES[name], 1 + FIRST
    while crash_at(in_memory, shape, [(n, after)]):
        n += EVERY if n < 40 else stride(shape, EVERY)
    assert n > 5


@pytest.mark.parametrize("name", NAMES)
def test_law_14_crash_at_every_call_with_nothing_cached(name: str) -> None:
    shape, n = SHAPES[name], 1 + FIRST
    while crash_at(in_memory, shape, [(n, n % 2 == 0)], cache_size=0):
        n += stride(shape, EVERY)


@pytest.mark.parametrize("name", NAMES)
def test_law_14_crash_in_a_file(name: str, tmp_path: Path) -> None:
    """Each call before and after for most shapes; every third one where there are many, and for
    those that are spoken to, whose crashes in memory leave nothing out."""
    shape, n = SHAPES[name], 1
    make = Files(tmp_path)
    while crash_at(make, shape, [(n, False)]) and crash_at(make, shape, [(n, True)]):
        n += 1 if n < 12 and not shape.says else stride(shape, 3)


@pytest.mark.parametrize("name", NAMES)
def test_law_14_crash_again_during_the_recovery(name: str) -> None:
    """The second crash comes at every call of the recovery from one of some first crashes."""
    shape = SHAPES[name]
    chance = random.Random(name)
    firsts = sorted(chance.sample(range(3, 26), 3))
    for first in firsts:
        n = 1
        while n < 30 and crash_at(in_memory, shape, [(first, n % 2 == 0), (n, n % 3 == 0)]) == 2:
            n += stride(shape, 1)


@pytest.mark.parametrize("name", NAMES)
def test_law_14_crash_again_in_a_file(name: str, tmp_path: Path) -> None:
    shape, make = SHAPES[name], Files(tmp_path)
    chance = random.Random(name)
    for _ in range(2 if shape.wide else 6):
        plan = [(chance.randrange(1, 25), chance.random() < 0.5) for _ in range(3)]
        crash_at(make, shape, plan)
