"""Another Python is refused by Pulumi's engine while executions are open, before anything changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mini_workflow import AWSRuntime
from mini_workflow.ports import Commit, Head
from mini_workflow.settings import BUCKET_NAME
from tests.pulumi.e2e.stack import Stack

NOW = f"{sys.version_info[0]}.{sys.version_info[1]}"
BEFORE = "3.12" if NOW != "3.12" else "3.13"

PROGRAM = """\
import pulumi
from pulumi_component import WorkflowEngine, staging

{patch}
engine = WorkflowEngine("Flow", {options})
pulumi.export("bucket", engine.history.bucket)
"""

HANDLERS = """\
def execute(event, context): pass
def orchestrate(event, context): pass
"""


def program(**more: Any) -> str:
    options = {"worker": "app.execute", "orchestrator": "app.orchestrate", **more}
    # It was another Python that deployed.
    patch = "staging._same_python = lambda target: None" if "runtime" in more else ""
    return PROGRAM.format(options=options, patch=patch)


def test_upgrade(new_stack: Callable[[str], Stack]) -> None:
    stack = new_stack("upgrade")
    stack.write({"app.py": HANDLERS, "__main__.py": program(runtime=f"python{BEFORE}")})
    stack.pulumi("up")
    settings = {BUCKET_NAME: stack.outputs()["bucket"]}
    with AWSRuntime.from_env(settings, clients=stack.server.client) as client:
        store = client._parts.store
        started = (
            '{"event":"ExecutionStarted","at":1,"workflow":"open","seed":1,"arguments":[[],{}]}'
        )
        head = Head("a", "open", "running", 1)
        assert store.commit([Commit("a", 0, (started,), head)]) == [True]

        stack.write({"__main__.py": program()})
        for command in ("preview", "up"):
            refused = stack.pulumi(command, check=False)
            assert refused.code != 0
            told = " ".join(refused.printed.split())
            assert f"from Python {BEFORE} to {NOW}, while executions are open (a" in told
        resources = stack.state()["deployment"]["resources"]
        runtimes = [one["inputs"].get("runtime") for one in resources if "inputs" in one]
        assert [one for one in runtimes if one] == [f"python{BEFORE}"] * 2

        # What was accepted for this version goes on; so it does when none is open.
        stack.write({"__main__.py": program(accept_python=NOW)})
        stack.pulumi("preview")
        done = replace(head, status="completed", closed_at=2)
        assert store.commit([Commit("a", 1, (), done)]) == [True]
    stack.write({"__main__.py": program()})
    stack.pulumi("up")
    stack.pulumi("destroy")
