"""For tests of workflows and of backends.

The contract suites are imported from their own modules, since they need pytest:
`mini_workflow.testing.store_contract`, `agenda_contract`, `mailbox_contract`, `leases_contract`,
`runner_contract`.
"""

from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.environment import EnvironmentState, WorkflowEnvironment

__all__ = ["EnvironmentState", "ManualClock", "WorkflowEnvironment"]
