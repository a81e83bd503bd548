"""A cloud of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aws.cloud import Cloud, EmulatedCloud
from tests.aws.emulator.server import Server


@pytest.fixture
def cloud(aws: Server) -> Iterator[Cloud]:
    """An engine's resources on the emulator."""
    made = EmulatedCloud(aws)
    try:
        yield made
    finally:
        made.close()
