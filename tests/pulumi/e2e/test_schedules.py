"""Schedules of a stack, with Pulumi's engine: the orchestrator makes, changes and ends them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mini_workflow import AWSRuntime
from tests.pulumi.e2e.stack import Stack
from tests.waiting import eventually

PROGRAM = """\
import pulumi
from pulumi_component import Function, WorkflowEngine

config = pulumi.Config()
options = {{
    "worker": "app.index.execute",
    "orchestrator": "app.index.orchestrate",
    "signing_key": config.require_secret("key"),
}}
engine = WorkflowEngine("Flow", {{**options, **{more!r}}})
api = Function("Api", {{"handler": "app.index.api", "link": [engine]}})
pulumi.export("api", api.name)
pulumi.export("histories", engine.history.bucket)
"""

HANDLERS = """\
from mini_workflow import AWSRuntime, Context, workflow

runtime = AWSRuntime.from_env()
orchestrate, execute = runtime.orchestrate, runtime.execute


@workflow
async def report(ctx: Context, kind: str) -> str:
    return kind


def api(event, context):
    if event["do"] == "create":
        runtime.schedules.create("by-hand", report, ["x"], every=86_400)
    elif event["do"] == "pause":
        runtime.schedules.get("daily").pause("holidays")
    found = {one.id: one.describe() for one in runtime.schedules.list()}
    return {
        name: [*told.args, told.every.total_seconds(), told.overlap, told.paused]
        for name, told in found.items()
    }
"""

KEY = "a-key-that-only-this-stack-has-" + "k" * 16
DAILY = {"workflow": "report", "args": ["daily"], "every": "1 day"}


def test_a_stack_has_its_schedules(new_stack: Callable[[str], Stack]) -> None:
    stack = new_stack("schedules")
    stack.pulumi("config", "set", "--secret", "key", KEY)
    stack.write({"app/__init__.py": "", "app/index.py": HANDLERS})

    def deploy(*arguments: str, check: bool = True, **more: Any) -> Any:
        stack.write({"__main__.py": PROGRAM.format(more=more)})
        return stack.pulumi(*(arguments or ("up",)), check=check)

    def schedules(do: str = "tell") -> Any:
        answer = stack.server.client("lambda").invoke(
            FunctionName=stack.outputs()["api"], Payload=json.dumps({"do": do})
        )
        told = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, told
        return told

    both = {"daily": DAILY, "weekly": {**DAILY, "args": ["weekly"], "every": "1 week"}}
    planned = deploy("preview", schedules=both)
    made = deploy(schedules=both)
    assert planned.by_operation() == made.by_operation()
    assert "Flow-deployed-schedules" in made.by_operation()["create"]
    # They are listed from their first turns on, a moment after their starts.
    begun = {
        "daily": ["daily", 86_400, "skip", False],
        "weekly": ["weekly", 604_800, "skip", False],
    }
    assert eventually(lambda: schedules() == begun, every=0.3)
    assert not deploy("up", "--expect-no-changes", schedules=both).by_operation()
    schedules("create")
    assert schedules("pause")["daily"] == ["daily", 86_400, "skip", True]

    # One is changed, one is gone, one is not the stack's.
    changed = deploy(schedules={"daily": {**DAILY, "overlap": "allow"}})
    assert changed.by_operation() == {"update": ["Flow-deployed-schedules"]}
    now = {"daily": ["daily", 86_400, "allow", True], "by-hand": ["x", 86_400, "skip", False]}
    assert eventually(lambda: (told := schedules()) == now and told, every=0.3)

    # What is wrong fails, and the next deployment has another go.
    failed = deploy(check=False, schedules={"daily": {**DAILY, "workflow": "nobody"}})
    assert failed.code != 0
    assert "workflow 'nobody' is not registered" in " ".join(failed.printed.split())
    assert schedules() == now
    deploy(schedules={"daily": DAILY})
    now["daily"] = ["daily", 86_400, "skip", True]
    assert eventually(lambda: schedules() == now, every=0.3)

    # The histories stay, and the schedules of the stack have ended.
    left = stack.outputs()["histories"]
    stack.pulumi("destroy")
    known = {"BUCKET_NAME": left, "MINI_WORKFLOW_SIGNING_KEY": KEY}
    with AWSRuntime.from_env(known, clients=stack.server.client) as runtime:
        found = runtime.list_executions(workflow="mini_workflow.schedule")
        assert {one.id: one.status for one in found} == {
            "schedule:daily": "terminated",
            "schedule:weekly": "terminated",
            "schedule:by-hand": "running",
        }
