"""The pytest plugin, found by pytest wherever the library is installed: the fixture `workflow_env`.

It also makes pytest explain failed assertions of the contract suites.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mini_workflow.testing.environment import WorkflowEnvironment

_SUITES = "mini_workflow.testing.contracts"
if _SUITES not in sys.modules:  # else it is too late, and pytest would warn
    pytest.register_assert_rewrite(_SUITES)


@pytest.fixture
def workflow_env() -> Iterator[WorkflowEnvironment]:
    """Open a `WorkflowEnvironment`, and close it after the test."""
    from mini_workflow.testing.environment import WorkflowEnvironment

    with WorkflowEnvironment() as env:
        yield env
