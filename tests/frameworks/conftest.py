"""What is tested in an environment of its own: the embedded runtimes, since it has no drivers of others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.behaviours.conftest import stage_of
from tests.behaviours.stage import Stage


@pytest.fixture(params=["environment-replaying", "local"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Stage]:
    yield from stage_of(request)
