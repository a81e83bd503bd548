"""The engine of Pulumi, and stacks to use it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.aws.emulator.server import Server
from tests.left_out import left_out
from tests.pulumi.e2e import build
from tests.pulumi.e2e.stack import Stack

LIMIT = 3_000
"""Seconds for a test: many commands of half a minute on a busy machine, the first of which may have
to wait until the engine is built."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(LIMIT))


@pytest.fixture(scope="session")
def _built() -> None:
    why = build.missing()
    if why:
        left_out("the deployment by Pulumi's engine", why)
    build.engine()


@pytest.fixture
def new_stack(_built: None, aws: Server, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Makes projects with a stack in them, by their names, and with variables of the environment."""
    with ExitStack() as cleanup:

        def new(name: str, variables: Mapping[str, str] | None = None) -> Stack:
            made = Stack(tmp_path / f"of-{name}", aws, name)
            made.environment |= variables or {}
            cleanup.enter_context(made)
            made.pulumi("stack", "init", "dev")
            made.pulumi("config", "set", "aws:region", aws.region)
            return made

        yield new
