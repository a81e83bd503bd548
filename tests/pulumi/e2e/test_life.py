"""The life of a stack, with Pulumi's engine: from the first preview to the bucket that is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pulumi.e2e.build import ROOT
from tests.pulumi.e2e.stack import Stack
from tests.pulumi.installed_wheels import only_from
from tests.waiting import eventually

PROGRAM = """\
import pulumi
from pulumi_component import Function, WorkflowEngine

config = pulumi.Config()
engine = WorkflowEngine(
    {name!r},
    {{
        "worker": "app.index.execute",
        "orchestrator": "app.index.orchestrate",
        "signing_key": config.require_secret("key"),
        {options}
    }},
    pulumi.ResourceOptions(aliases=[pulumi.Alias(name=one) for one in {aliases!r}]),
)
api = Function("Api", {{"handler": "app.index.api", "link": [engine]}})
pulumi.export("api", api.name)
pulumi.export("histories", engine.history.bucket)
"""

HANDLERS = """\
from mini_workflow import AWSRuntime, Context, workflow

VERSION = {version!r}
runtime = AWSRuntime.from_env()
orchestrate, execute = runtime.orchestrate, runtime.execute


@workflow("gate")
async def gate(ctx: Context, name: str) -> list:
    before = await ctx.task(lambda: f"{{name}} by {{VERSION}}")
    word = await ctx.wait_for_signal("open")
    after = await ctx.task(lambda: f"{{word}} by {{VERSION}}")
    return [before, after]


def api(event, context):
    if event["do"] == "start":
        return runtime.start_execution(gate, event["id"], id=event["id"]).id
    execution = runtime.get_execution(event["id"])
    if event["do"] == "open":
        execution.signal("open", event["word"])
        return True
    told = execution.describe()
    done = told.status == "completed"
    return [told.status, execution.result(timeout=5) if done else None]
"""

KEY = "a-key-that-only-this-stack-has-" + "k" * 16


class Deployed:
    """The program above, deployed."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        stack.pulumi("config", "set", "--secret", "key", KEY)
        stack.write({"app/__init__.py": ""})

    def write(
        self,
        name: str = "Flow",
        options: str = "",
        version: str = "1",
        aliases: tuple[str, ...] = (),
    ) -> None:
        program = PROGRAM.format(name=name, options=options, aliases=list(aliases))
        self.stack.write({"__main__.py": program, "app/index.py": HANDLERS.format(version=version)})

    def call(self, event: dict[str, Any]) -> Any:
        answer = self.stack.server.client("lambda").invoke(
            FunctionName=self.stack.outputs()["api"], Payload=json.dumps(event)
        )
        told = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, told
        return told

    def status(self, execution: str, wanted: str) -> Any:
        """What an execution has come to, when it has this status."""

        def look() -> Any:
            status, result = self.call({"do": "tell", "id": execution})
            return (result or True) if status == wanted else None

        return eventually(look, every=0.3)


def test_the_program_of_the_example(new_stack: Callable[[str], Stack], tmp_path: Path) -> None:
    with only_from(tmp_path / "wheels", "pydantic-ai-slim"):
        _live_with_the_example(new_stack("example"))


def _live_with_the_example(stack: Stack) -> None:
    shutil.copytree(ROOT / "example", stack.folder / "example")
    stack.write({"__main__.py": (ROOT / "__main__.py").read_text()})

    planned = stack.pulumi("preview")
    assert set(planned.by_operation()) == {"create"}
    made = stack.pulumi("up")
    # What is decided in a preview is what is done then.
    assert made.by_operation() == planned.by_operation()
    assert not stack.pulumi("up", "--expect-no-changes").by_operation()

    outputs = stack.outputs()
    functions = stack.server.client("lambda")
    variables = functions.get_function_configuration(FunctionName=outputs["api"])
    key = variables["Environment"]["Variables"]["MINI_WORKFLOW_SIGNING_KEY"]
    state = stack.state()
    of_stack = json.dumps(state)
    for text in (planned.printed, made.printed, of_stack, json.dumps(outputs)):
        assert key not in text
    # The key is the only variable that nobody can read there.
    (api,) = [
        one for one in state["deployment"]["resources"] if one["urn"].endswith("::Api-function")
    ]
    known = api["inputs"]["environment"]["variables"]
    hidden = {name for name, value in known.items() if not isinstance(value, str)}
    assert hidden == {name for name in known if name.endswith("SIGNING_KEY")}

    # Each of the two engines has calls of its own for its orchestrator, from those of the account.
    assert "no calls are reserved" not in made.printed, made.printed
    resources = state["deployment"]["resources"]
    reserved = [
        one["inputs"]["reservedConcurrentExecutions"]
        for one in resources
        if one["urn"].endswith("-orchestrator-function")
    ]
    bounded = [
        one["inputs"]["scalingConfig"]["maximumConcurrency"]
        for one in resources
        if one["urn"].endswith("-events-mapping")
    ]
    assert (reserved, bounded) == ([100, 100], [90, 90])
    left = functions.get_account_settings()["AccountLimit"]
    assert left["UnreservedConcurrentExecutions"] == left["ConcurrentExecutions"] - 200

    # The workflow runs, from its start by the function with the URL.
    def call(method: str, path: str, body: str = "") -> Any:
        http = {"method": method, "path": path}
        event = {"rawPath": path, "requestContext": {"http": http}, "body": body}
        answer = functions.invoke(FunctionName=outputs["api"], Payload=json.dumps(event))
        return json.loads(json.loads(answer["Payload"].read())["body"])

    assert call("POST", "/", '{"id": "first", "key": "a", "data": "hello"}') == {"id": "first"}
    told = eventually(lambda: call("GET", "/first").get("result"), every=0.3)
    assert told == "hello"

    # What AWS has is what is in the state, and what is changed by hand is seen.
    assert {one.operation for one in stack.pulumi("refresh").steps} <= {"refresh", "same"}
    functions.update_function_configuration(FunctionName=outputs["api"], Timeout=7)
    drifted = stack.pulumi("up", "--refresh")
    assert [(one.operation, one.name) for one in drifted.steps if one.changed] == [
        ("update", "Api-function")
    ]
    timeout = functions.get_function_configuration(FunctionName=outputs["api"])["Timeout"]
    assert timeout == 20
    stack.pulumi("destroy")


def test_executions_outlive_new_code_new_names_and_the_stack(
    new_stack: Callable[[str], Stack],
) -> None:
    deployed = Deployed(new_stack("flows"))
    stack = deployed.stack
    deployed.write()
    stack.pulumi("up")
    for execution in ("of-code", "of-name", "of-stack"):
        assert deployed.call({"do": "start", "id": execution}) == execution
        deployed.status(execution, "running")

    # Other code, with executions in flight: the functions change in place, and nothing else.
    deployed.write(version="2")
    changed = stack.pulumi("up").by_operation()
    assert changed == {
        "update": ["Api-function", "Flow-orchestrator-function", "Flow-worker-function"]
    }
    deployed.call({"do": "open", "id": "of-code", "word": "go"})
    assert deployed.status("of-code", "completed") == ["of-code by 1", "go by 2"]

    # Another name for the engine: nothing is replaced, nothing made, nothing removed.
    deployed.write(name="Renamed", version="2", aliases=("Flow",))
    renamed = stack.pulumi("up")
    assert set(renamed.by_operation()) <= {"update"}, renamed.by_operation()
    assert stack.outputs()["histories"].startswith("flow-history-")
    deployed.call({"do": "open", "id": "of-name", "word": "on"})
    assert deployed.status("of-name", "completed") == ["of-name by 1", "on by 2"]

    # The stack goes, its histories stay; another engine takes them on.
    left = stack.outputs()["histories"]
    stack.pulumi("destroy")
    assert not stack.state()["deployment"].get("resources")
    bucket = stack.server.client("s3")
    bucket.head_bucket(Bucket=left)
    assert bucket.get_public_access_block(Bucket=left)
    deployed.write(name="Heir", version="3", options=f'"history": {left!r},')
    stack.pulumi("up")
    assert stack.outputs()["histories"] == left
    assert deployed.status("of-code", "completed") == ["of-code by 1", "go by 2"]
    deployed.call({"do": "open", "id": "of-stack", "word": "again"})
    assert deployed.status("of-stack", "completed") == ["of-stack by 1", "again by 3"]
    assert {one.operation for one in stack.pulumi("refresh").steps} <= {"refresh", "same", "read"}

    # And it is never the one that removes them.
    stack.pulumi("destroy")
    bucket.head_bucket(Bucket=left)
