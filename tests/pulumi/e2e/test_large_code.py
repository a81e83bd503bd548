"""Code that is too large for a request to Lambda, with Pulumi's engine: it goes through a bucket."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from pulumi_component.staging import LARGEST_REQUEST
from tests.pulumi.e2e.stack import Stack

PROGRAM = """\
import pulumi
from pulumi_component import Function

large = Function("Large", {"handler": "app.answer", "include": ["more.bin"]})
pulumi.export("name", large.name)
"""

HANDLER = """\
import os

def answer(event, context):
    return [{version}, os.stat("more.bin").st_size]
"""


def test_large_code(new_stack: Callable[[str], Stack]) -> None:
    stack = new_stack("large")
    size = LARGEST_REQUEST + 1
    (stack.folder / "more.bin").write_bytes(os.urandom(size))

    def answer() -> list[int]:
        name = stack.outputs()["name"]
        told = stack.server.client("lambda").invoke(FunctionName=name)
        return json.loads(told["Payload"].read())

    stack.write({"__main__.py": PROGRAM, "app.py": HANDLER.format(version=1)})
    assert "Large-archive" in stack.pulumi("up").by_operation()["create"]
    assert answer() == [1, size]

    # Other code is another object; the function changes in place, before the old one goes.
    stack.write({"app.py": HANDLER.format(version=2)})
    changed = stack.pulumi("up").by_operation()
    assert changed["update"] == ["Large-function"]
    assert "Large-archive" in changed["replace"]
    assert answer() == [2, size]
    stack.pulumi("destroy")
