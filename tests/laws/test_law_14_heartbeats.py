"""Law 14 for the heartbeats of attempts: wherever the process dies, whoever looks from outside sees the last
one of the attempt that runs, or the one before, and none of an attempt that is over.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.engine.activity import Wait
from mini_workflow.engine.looks import Looks
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.crash import SimulatedCrash
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.stepping import OpenBackend, Stepper
from tests.unit.engine.harness import ID, Files, MakeState, check, finish, in_memory, stepping

SHAPE = SHAPES["heartbeats"]


def beating(open_backend: OpenBackend, stepper: Stepper) -> list[Wait]:
    """What another process sees of tasks that have given heartbeats."""
    with closing(open_backend("looker", stepper.clock)) as backend:
        found: Any = backend
        head = found.store.head(ID)
        if head is None:
            return []
        seen = Looks(found.store, found.streams.heartbeats).activity(head, stepper.codec)
        return [wait for wait in seen.waits if wait.heartbeat is not None]


def crash_at(make: MakeState, n: int, *, after: bool, cache_size: int) -> int | None:
    """How many heartbeats were seen after the crash; None if it has not come."""
    opened = make()
    with (
        Ledger() as ledger,
        stepping(lambda: opened, SHAPE, cache_size=cache_size) as stepper,
    ):
        stepper.crashes.crash_at(n, after=after)
        seen: list[Wait] | None = None
        try:
            stepper.open()
            stepper.start(SHAPE.name, execution_id=ID)
            finish(stepper, SHAPE)
        except SimulatedCrash:
            sink = stepper.runner.sink
            assert sink is not None
            stepper.crash()
            seen = beating(opened, stepper)
            for wait in seen:
                given = [
                    json.loads(beat.details or "null")
                    for beat in sink.beats
                    if beat.attempt == wait.attempt + wait.discounted
                ]
                assert wait.details in given[-2:]
            stepper.open()
            stepper.start(SHAPE.name, execution_id=ID)
            finish(stepper, SHAPE)
        check(stepper, SHAPE, ledger, lost=0 if seen is None else 10)
        assert beating(opened, stepper) == []
        found: Any = stepper.backend
        assert found.streams.heartbeats.last(ID, [1]) == []
        return None if seen is None else len(seen)


def sweep(make: MakeState, first: int, stride: int, cache_size: int = 100) -> int:
    found, n, after = 0, first, False
    while (seen := crash_at(make, n, after=after, cache_size=cache_size)) is not None:
        found, n, after = found + seen, n + stride, not after
    return found


@pytest.mark.parametrize(("first", "cache_size"), [(1, 0), (2, 100), (3, 100)])
def test_law_14_heartbeats_are_seen_from_outside_after_a_crash(first: int, cache_size: int) -> None:
    assert sweep(in_memory, first, 3, cache_size) > 2


def test_law_14_heartbeats_in_a_file(tmp_path: Path) -> None:
    assert sweep(Files(tmp_path), 2, 7) > 0
