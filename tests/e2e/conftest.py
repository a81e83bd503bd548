"""What the end-to-end tests have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aws.emulator.server import Server
from tests.e2e.deployment import deployed
from tests.e2e.flows import PROGRAM, Flows


@pytest.fixture(scope="session")
def flows(strict_aws: Server) -> Iterator[Flows]:
    """The engine of the tests' own program, under enforced permissions."""
    with deployed(strict_aws, PROGRAM, Flows) as deployment:
        yield deployment
