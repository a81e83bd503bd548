"""Test workflows on virtual time, replay histories, and hold backends to their contracts.

pytest finds the fixture `workflow_env` by itself where the library is installed. The contract suites
need pytest; import them from the modules of `mini_workflow.testing.contracts`, such as
`mini_workflow.testing.contracts.store`.
"""

from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.environment import EnvironmentState, WorkflowEnvironment
from mini_workflow.testing.history_assertions import assert_history
from mini_workflow.testing.replay_check import check_replay
from mini_workflow.testing.replaying import Mismatch, Replayed, Step, replay

__all__ = [
    "EnvironmentState",
    "ManualClock",
    "Mismatch",
    "Replayed",
    "Step",
    "WorkflowEnvironment",
    "assert_history",
    "check_replay",
    "replay",
]
