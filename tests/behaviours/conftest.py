"""The runtimes that every behaviour is tested on. This is the one list of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mini_workflow import LocalRuntime
from mini_workflow.testing import WorkflowEnvironment
from mini_workflow.testing.environment import EnvironmentState
from tests.behaviours.stage import GATES, LEDGER, Stage


def _environment(cache_size: int, _folder: Path) -> Stage:
    state = EnvironmentState()
    return Stage(lambda: WorkflowEnvironment(state, cache_size=cache_size), virtual=True)


def _local(cache_size: int, folder: Path) -> Stage:
    path = folder / "state.db"
    # What a power cut would lose is tested elsewhere; here a test should not wait for the disk.
    return Stage(
        lambda: LocalRuntime(path, synchronous="NORMAL", cache_size=cache_size), virtual=False
    )


RUNTIMES: dict[str, Callable[[Path], Stage]] = {
    "environment": partial(_environment, 4096),
    "environment-replaying": partial(_environment, 0),
    "local": partial(_local, 4096),
    "local-evicting": partial(_local, 1),
}


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A runtime: each test runs on every one of them."""
    GATES.clear()
    LEDGER.clear()
    stage = RUNTIMES[request.param](tmp_path)
    try:
        yield stage
    finally:
        for gate in list(GATES.values()):
            gate.open()
        stage.close()
