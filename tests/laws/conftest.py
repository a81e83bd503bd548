"""Every test drops the runs that it leaves in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.laws.driver import DRIVERS


@pytest.fixture(autouse=True)
def drop_runs() -> Iterator[None]:
    yield
    while DRIVERS:
        DRIVERS.pop().evict()
