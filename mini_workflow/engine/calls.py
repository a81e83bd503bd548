"""Calls: what stands for a workflow in a call of a client, and the arguments of one of many starts."""

from __future__ import annotations

import inspect
from typing import Any, cast

from mini_workflow.core.starting import BoundWorkflow
from mini_workflow.errors import UsageError
from mini_workflow.workflow import Workflow


def arguments_of(name: str, call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of one of many calls of the workflow of that name."""
    if not isinstance(call, BoundWorkflow):
        return tuple(call), {}
    bound = cast("BoundWorkflow[Any]", call)
    if bound.workflow.name != name:
        raise UsageError(f"start_executions starts workflow {name!r}, but one call is {call!r}")
    return bound.args, bound.kwargs


def name_of(workflow: object) -> str:
    """Return the name of a workflow that is given as itself or by its name. Raises UsageError."""
    if isinstance(workflow, Workflow):
        return workflow.name
    if isinstance(workflow, str):
        return workflow
    if inspect.iscoroutine(workflow):
        workflow.close()  # or Python would warn that nobody awaits it
        raise UsageError(
            f"{workflow!r} is a call of the workflow: give the workflow itself, and its arguments "
            "behind it"
        )
    raise UsageError(
        f"{workflow!r} is not a workflow: give a function decorated with @workflow, or the name of "
        "one"
    )
