"""For tests of workflows and of backends.

pytest finds the fixture `workflow_env` by itself where the library is installed. The contract
suites are imported from their own modules, since they need pytest:
`mini_workflow.testing.contracts.store`, `agenda_contract`, `mailbox_contract`, `leases_contract`,
`runs_contract`, `runner_contract`, `heartbeat_contract`.
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
