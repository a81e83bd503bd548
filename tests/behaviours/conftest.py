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
from tests.behaviours.table import FIRST


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


def _postgres(cache_size: int, request: pytest.FixtureRequest, *, pooled: bool = False) -> Stage:
    from mini_workflow import PostgresRuntime

    server = request.getfixturevalue("postgres")
    url = request.getfixturevalue("pooler").url if pooled else server.url
    schemas: dict[str, str] = {}

    def open_runtime(name: str, **options: Any) -> PostgresRuntime:
        if name not in schemas:
            schemas[name] = server.lend()
            request.addfinalizer(partial(server.give_back, schemas[name]))
        return PostgresRuntime(url, schema=schemas[name], cache_size=cache_size, **options)

    return Stage(open_runtime, virtual=False)


def _aws(create: Callable[[pytest.FixtureRequest], Any], request: pytest.FixtureRequest) -> Stage:
    from tests.aws.cloud import Deployed

    clouds: dict[str, Any] = {}
    # What a task learns when it looks is tested, not how seldom it does.
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setattr("mini_workflow.runtimes.aws.worker._HeartbeatThread.every", 0.1)

    def open_runtime(name: str, *, grace: float | None = None, **options: Any) -> Deployed:
        if name not in clouds:
            clouds[name] = create(request)
            request.addfinalizer(clouds[name].close)
        # Without time to end, what runs is killed.
        # With nothing in memory it is tested at every call of AWS, in tests/aws.
        return Deployed(clouds[name], abrupt=grace == 0, cache_size=256, **options)

    return Stage(open_runtime, virtual=False, posts=True)


def _in_process(_: pytest.FixtureRequest) -> Any:
    from tests.aws.in_process import InProcessCloud

    return InProcessCloud()


def _emulated(request: pytest.FixtureRequest) -> Any:
    from tests.aws.cloud import EmulatedCloud

    return EmulatedCloud(request.getfixturevalue("aws"))


RUNTIMES: dict[str, Callable[[pytest.FixtureRequest], Stage]] = {
    "environment": partial(_environment, 4096),
    "environment-replaying": partial(_environment, 0),
    "local": partial(_local, 4096),
    "local-evicting": partial(_local, 1),
    "postgres": partial(_postgres, 4096),
    "aws": partial(_aws, _in_process),
}
EMULATED = "aws-emulated"
"""AWSRuntime with its services over HTTP: for one test of each behaviour."""

POOLED = "postgres-pooled"
"""PostgresRuntime behind PgBouncer in transaction mode: for the same tests."""

OTHERS = {
    EMULATED: partial(_aws, _emulated),
    POOLED: partial(_postgres, 4096, pooled=True),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on every runtime."""
    if "runtime" in metafunc.fixturenames:
        is_first = metafunc.definition.originalname in FIRST
        chosen = [*RUNTIMES, *OTHERS] if is_first else [*RUNTIMES]
        metafunc.parametrize(
            "runtime", [pytest.param(name, marks=_mark(name)) for name in chosen], indirect=True
        )


def _mark(name: str) -> Any:
    kind = name.partition("-")[0]
    return getattr(pytest.mark, kind) if kind in ("aws", "local", "postgres") else ()


def stage_of(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The runtime that the request names, opened for one test."""
    stage = (RUNTIMES | OTHERS)[request.param](request)
    try:
        yield stage
    finally:
        for gate in list(GATES.values()):
            gate.open()
        stage.close()


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A runtime, opened for one test."""
    GATES.clear()
    LEDGER.clear()
    yield from stage_of(request)
