"""What is tested in an environment of its own: the embedded runtimes, since it has no drivers of others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.behaviours.conftest import RUNTIMES
from tests.behaviours.stage import Stage


@pytest.fixture(params=["environment-replaying", "local"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = RUNTIMES[request.param](request)
    try:
        yield stage
    finally:
        stage.close()
