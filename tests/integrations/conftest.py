"""The runtimes of the behaviours, for what is built upon them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.behaviours.conftest import RUNTIMES, _mark
from tests.behaviours.stage import Stage


@pytest.fixture(params=[pytest.param(name, marks=_mark(name)) for name in RUNTIMES])
def runtime(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = RUNTIMES[request.param](request)
    try:
        yield stage
    finally:
        stage.close()
