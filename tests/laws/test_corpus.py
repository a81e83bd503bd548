"""The corpus without any crash: every shape ends as it says, on every backend, cached or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from tests.unit.engine.harness import ID, Files, check, finish, in_memory, stepping


@pytest.mark.parametrize("cache_size", [100, 0])
@pytest.mark.parametrize("name", SHAPES)
def test_shape_in_memory(name: str, cache_size: int) -> None:
    shape = SHAPES[name]
    with Ledger() as ledger, stepping(in_memory, shape, cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        finish(stepper, shape)
        check(stepper, shape, ledger)


@pytest.mark.parametrize("name", SHAPES)
def test_shape_in_a_file(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    with Ledger() as ledger, stepping(Files(tmp_path), shape) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        finish(stepper, shape)
        check(stepper, shape, ledger)
