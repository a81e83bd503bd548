"""The runtimes that every behaviour is tested on. This is the one list of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import LocalRuntime
from mini_workflow.testing import EnvironmentState, WorkflowEnvironment
from tests.behaviours.stage import GATES, LEDGER, Stage


def _environment(cache_size: int, _: pytest.FixtureRequest) -> Stage:
    states: dict[str, EnvironmentState] = defaultdict(EnvironmentState)

    def open_runtime(name: str, **options: Any) -> WorkflowEnvironment:
        return WorkflowEnvironment(states[name], cache_size=cache_size, **options)

    return Stage(open_runtime, virtual=True, replays=cache_size == 0)


def _local(cache_size: int, request: pytest.FixtureRequest) -> Stage:
    folder: Path = request.getfixturevalue("tmp_path")

    def open_runtime(name: str, **options: Any) -> LocalRuntime:
        # What a power cut would lose is tested elsewhere; here a test should not wait for the disk.
        return LocalRuntime(
            folder / f"{name}.db", synchronous="NORMAL", cache_size=cache_size, **options
        )

    return Stage(open_runtime, virtual=False)


def _aws(cache_size: int, request: pytest.FixtureRequest) -> Stage:
    from tests.aws.cloud import Cloud, Deployed

    server = request.getfixturevalue("aws")
    clouds: dict[str, Cloud] = {}

    def open_runtime(name: str, *, grace: float | None = None, **options: Any) -> Deployed:
        if name not in clouds:
            clouds[name] = Cloud(server)
            request.addfinalizer(clouds[name].close)
        # Without time to end, what runs is killed.
        abrupt = grace == 0
        return Deployed(clouds[name], abrupt=abrupt, cache_size=cache_size, **options)

    return Stage(open_runtime, virtual=False, posts=True)


RUNTIMES: dict[str, Callable[[pytest.FixtureRequest], Stage]] = {
    "environment": partial(_environment, 4096),
    "environment-replaying": partial(_environment, 0),
    "local": partial(_local, 4096),
    "local-evicting": partial(_local, 1),
    # With nothing in memory it is tested at every call of AWS, in tests/aws.
    "aws": partial(_aws, 256),
}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.aws if name == "aws" else ()) for name in RUNTIMES]
)
def runtime(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A runtime: each test runs on every one of them."""
    GATES.clear()
    LEDGER.clear()
    stage = RUNTIMES[request.param](request)
    try:
        yield stage
    finally:
        for gate in list(GATES.values()):
            gate.open()
        stage.close()
