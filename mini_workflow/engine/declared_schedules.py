"""The schedule that code or a deployment declares: made, or told of its plan, by whatever runs the workflow.

Nothing is asked of the schedule, so that it need not run: its plan is read from its history.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mini_workflow.core import events
from mini_workflow.errors import ExecutionAlreadyExists, ExecutionNotFound, UsageError
from mini_workflow.schedules.plan import Plan, check_schedule_id, make_plan
from mini_workflow.schedules.workflow import DECLARED, SCHEDULE

if TYPE_CHECKING:
    from mini_workflow.engine.client import Client
    from mini_workflow.workflow import Workflow


def declare(client: Client, plan: Plan, execution_id: str) -> None:
    """Have the execution of that id keep the plan: begin it, or send it the plan if it has another one.
    Several processes may do so at a time. Raises what `client` raises.
    """
    try:
        head = client.head(execution_id)
    except ExecutionNotFound:
        head = None
    if head is None or head.closed_at is not None:
        # Of two with different code one is first; the next one that opens says what it has.
        with contextlib.suppress(ExecutionAlreadyExists):
            client.start_execution(SCHEDULE, plan, id=execution_id, if_closed="restart")
    elif _stands(client, execution_id) != plan:
        client.signal(execution_id, DECLARED, plan)


def plan_of(workflow: Workflow[Any, Any]) -> Plan:
    """Return the plan that a workflow declares. Raises UsageError, InvalidArguments, InvalidIdentifier."""
    about = f"workflow {workflow.name!r} declares a schedule"
    return plan_for(workflow.name, workflow, workflow.schedule or {}, about)


def plan_for(
    schedule_id: str, workflow: Workflow[Any, Any], declared: Mapping[str, Any], about: str
) -> Plan:
    """Return the plan of a schedule that is declared with these options; what is wrong is told with
    `about`. Raises the same.
    """
    check_schedule_id(schedule_id)
    options = dict(declared)
    args = tuple(options.pop("args", ()))
    workflow.check_arguments(args, {})
    try:
        return make_plan(workflow.name, args, **options)
    except (UsageError, TypeError) as error:
        raise UsageError(f"{about}: {error}") from None


def _stands(client: Client, execution_id: str) -> Plan | None:
    """Return the plan of a schedule, as of its last event that says one."""
    codec = client.codec.for_execution(execution_id)
    for event in reversed(client.history(execution_id)):
        if isinstance(event, events.SignalReceived) and event.name == DECLARED:
            return codec.decode(event.value)
        if isinstance(event, events.UpdateAccepted) and event.name == "update":
            return codec.decode(event.arguments)[0][0]
        if isinstance(event, events.ExecutionStarted):
            return codec.decode(event.arguments)[0][0]
    return None
