"""The runtimes of the behaviours, for what is built upon them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.behaviours.conftest import RUNTIMES, _mark, stage_of
from tests.behaviours.stage import Stage


@pytest.fixture(params=[pytest.param(name, marks=_mark(name)) for name in RUNTIMES])
def runtime(request: pytest.FixtureRequest) -> Iterator[Stage]:
    yield from stage_of(request)
