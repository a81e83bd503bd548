"""Pulumi's engine has versions deleted that nothing needs, after it has deployed another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.pulumi.e2e.stack import Stack

PROGRAM = """\
from datetime import timedelta

import pulumi
from mini_workflow.runtimes.aws import deployment
from pulumi_component import WorkflowEngine

deployment.IN_FLIGHT = timedelta(0)  # no call of an older version is on its way
engine = WorkflowEngine("Flow", {options})
pulumi.export("worker", engine.worker.name)
pulumi.export("orchestrator", engine.orchestrator.name)
"""

HANDLERS = """\
def execute(event, context): return {number}
def orchestrate(event, context): return {number}
"""


def versions(stack: Stack, what: str) -> list[str]:
    client = stack.server.client("lambda")
    found = client.list_versions_by_function(FunctionName=stack.outputs()[what])["Versions"]
    return [one["Version"] for one in found if one["Version"] != "$LATEST"]


def deploy(stack: Stack, number: int, **more: Any) -> str:
    options = {"worker": "app.execute", "orchestrator": "app.orchestrate", "versions": True, **more}
    program = PROGRAM.format(options=options)
    stack.write({"app.py": HANDLERS.format(number=number), "__main__.py": program})
    return stack.pulumi("up").printed


def test_prune(new_stack: Callable[[str], Stack]) -> None:
    stack = new_stack("prune")
    for number in range(3):
        deploy(stack, number, keep_versions=False)
    before = versions(stack, "worker")
    assert len(before) == 3
    printed = deploy(stack, 3, keep_versions=2)
    # The alias of the orchestrator moves after it: where it has led until now is the newest but one.
    for what in ("worker", "orchestrator"):
        assert versions(stack, what) == ["3", "4"]
    assert "deleted versions that nothing needs" in " ".join(printed.split())
    stack.pulumi("up", "--expect-no-changes")
    stack.pulumi("destroy")
