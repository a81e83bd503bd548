"""Every test drops the runs that it leaves in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.laws.driver import DRIVERS
from tests.runtime_fixtures import gates, in_thread, path, runtime

__all__ = ["gates", "in_thread", "path", "runtime"]


@pytest.fixture(autouse=True)
def drop_runs() -> Iterator[None]:
    yield
    while DRIVERS:
        DRIVERS.pop().evict()
