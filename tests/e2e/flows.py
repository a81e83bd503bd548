"""The program of the end-to-end tests, deployed: its executions, and the ledger of their tasks."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from mini_workflow import AWSRuntime, Execution
from tests.e2e.deployment import Deployment

PROGRAM = Path(__file__).parent / "program"


def named(kind: str) -> str:
    return f"{kind}-{uuid4().hex[:8]}"


class Flows(Deployment):
    """The deployed program."""

    @cached_property
    def runtime(self) -> AWSRuntime:
        """A runtime that may do what the program's function may that is linked to the engine."""
        return self.linked("Starter")

    def close(self) -> None:
        """Release what this process holds."""
        self.runtime.close()

    def start(self, workflow: str, *arguments: Any, name: str = "") -> Execution[Any]:
        """Have the program's function start an execution."""
        name = name or named(workflow)
        event = {"workflow": workflow, "arguments": arguments, "id": name}
        assert self.call(self.id_of("Starter-function"), event) == name
        return self.runtime.get_execution(name)

    def ledger(self, execution: str) -> dict[str, list[dict[str, Any]]]:
        """What the tasks of an execution have done, by step: who did it, and at which attempt."""
        bucket, found = self.stack.outputs["ledger"], defaultdict[str, list[dict[str, Any]]](list)
        pages = self.server.client("s3").get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=f"{execution}/"):
            for entry in page.get("Contents", ()):
                step = entry["Key"].split("/")[1]
                found[step].append(json.loads(self.read(bucket, entry["Key"])))
        return dict(found)

    def once(self, execution: str) -> set[str]:
        """The steps that an execution has done, none of them twice."""
        done = self.ledger(execution)
        assert [step for step, entries in done.items() if len(entries) != 1] == []
        return set(done)
