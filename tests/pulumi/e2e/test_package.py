"""The components as a package for other languages, with Pulumi's engine: a program in YAML."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.project.docs.test_snippets import fences
from tests.pulumi.e2e.build import ROOT
from tests.pulumi.e2e.stack import Stack

SCHEMA = ROOT / "tests" / "pulumi" / "schema.json"

HANDLERS = """\
import os

def execute(event, context): pass
def orchestrate(event, context): return event
def api(event, context): return sorted(name for name in os.environ if name.endswith("QUEUE_URL"))
"""


def package(folder: Path) -> Path:
    """The package in a folder of its own, with the environment that Pulumi would make for it."""
    copied = folder / "package" / "pulumi_component"
    shutil.copytree(
        ROOT / "pulumi_component", copied, ignore=shutil.ignore_patterns("venv", "__pycache__")
    )
    (copied / "venv").symlink_to(Path(sys.prefix))
    return copied


def comparable(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without versions, and as the engine writes it: what lists and maps hold has no
    description of its own.
    """

    def cleaned(value: Any, part_of: str = "") -> Any:
        if isinstance(value, dict):
            dropped = "description" if part_of in ("items", "additionalProperties") else ""
            return {
                key: cleaned(part, key)
                for key, part in value.items()
                if key != dropped and part not in ({}, [], None)
            }
        if isinstance(value, list):
            return [cleaned(part) for part in value]
        return re.sub(r"\s+", " ", value).strip() if isinstance(value, str) else value

    kept = {key: schema[key] for key in ("name", "resources", "types")}
    text = re.sub(r"/aws/v[\d.]+/", "/aws/vN/", json.dumps(cleaned(kept)))
    return json.loads(text)


def test_a_program_in_yaml(new_stack: Callable[[str], Stack]) -> None:
    (text,) = [
        fence.code
        for fence in fences((ROOT / "docs" / "deploy.md").read_text())
        if fence.info == "yaml"
    ]
    stack = new_stack("orders")
    copied = package(stack.folder.parent)

    schema = json.loads(stack.read("package", "get-schema", str(copied)))
    assert comparable(schema) == comparable(json.loads(SCHEMA.read_text()))

    program = yaml.safe_load(text)
    program["packages"] = {"mini-workflow": os.path.relpath(copied, stack.folder)}
    program["outputs"]["name"] = "${api.name}"
    stack.write(
        {"Pulumi.yaml": yaml.safe_dump(program), "app/__init__.py": "", "app/index.py": HANDLERS}
    )
    planned = stack.pulumi("preview")
    made = stack.pulumi("up")
    assert planned.by_operation() == made.by_operation()
    assert {"engine-history", "engine-worker-function", "api-url"} <= {
        step.name for step in made.steps
    }
    assert not stack.pulumi("up", "--expect-no-changes").by_operation()
    # The orchestrator has been called with the schedules.
    (called,) = [
        one
        for one in stack.state()["deployment"]["resources"]
        if one["urn"].endswith("::engine-deployed-schedules")
    ]
    told = json.loads(called["outputs"]["result"])
    assert told["schedules"] == program["resources"]["engine"]["properties"]["schedules"]
    assert told["tf"] == {"action": "create", "prev_input": None}
    answer = stack.server.client("lambda").invoke(FunctionName=stack.outputs()["name"])
    assert json.loads(answer["Payload"].read()) == ["ENGINE__QUEUE_URL", "QUEUE_URL"]
    stack.pulumi("destroy")
