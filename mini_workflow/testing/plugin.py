"""The pytest plugin, found by pytest wherever the library is installed: the fixture `workflow_env`.

It also has pytest explain the assertions of the contract suites.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mini_workflow.testing.environment import WorkflowEnvironment

SUITES = ("agenda", "heartbeat", "leases", "mailbox", "runner", "runs", "store")

_MODULES = [f"mini_workflow.testing.{name}_contract" for name in SUITES]
# What has been imported before can be explained no more, and pytest would warn of it.
pytest.register_assert_rewrite(*(name for name in _MODULES if name not in sys.modules))


@pytest.fixture
def workflow_env() -> Iterator[WorkflowEnvironment]:
    """Workflows in memory, on a clock that jumps when everybody waits; closed after the test."""
    from mini_workflow.testing.environment import WorkflowEnvironment

    with WorkflowEnvironment() as env:
        yield env
