"""Functions by version: new code under executions in flight, and back again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mini_workflow import Execution
from mini_workflow.core.events import TaskRetryScheduled
from tests.aws.emulator.server import Server
from tests.e2e.deployment import deployed
from tests.e2e.flows import PROGRAM, Flows
from tests.waiting import WAIT


class Versioned(Flows):
    """The program of the tests, with the option `versions`."""

    program: Path

    def deploy(self, before: str, after: str) -> None:
        """Change the code, and deploy that."""
        workflows = self.program / "flows" / "workflows.py"
        text = workflows.read_text()
        assert before in text
        workflows.write_text(text.replace(before, after))
        self.stack.up(self.program)

    def live(self, what: str) -> str:
        """The version that a function's alias is of."""
        name = self.id_of(f"Flows-{what}-function")
        found = self.server.client("lambda").get_alias(FunctionName=name, Name="live")
        return found["FunctionVersion"]

    def tell(self, execution: Execution, what: str) -> None:
        """Tell the tasks of an execution something."""
        key = f"told/{execution.id}/{what}"
        bucket = self.stack.outputs["ledger"]
        self.server.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")

    def tries(self, execution: Execution) -> int:
        """How many attempts have failed so far."""
        return sum(isinstance(event, TaskRetryScheduled) for event in execution.history())


@pytest.fixture
def versioned(strict_aws: Server, tmp_path: Path) -> Iterator[Versioned]:
    program = tmp_path / "program"
    shutil.copytree(PROGRAM, program, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    main = program / "__main__.py"
    text = main.read_text()
    assert '"memory": "256 MB",' in text
    main.write_text(text.replace('"memory": "256 MB",', '"memory": "256 MB", "versions": True,'))
    with deployed(strict_aws, program, Versioned) as deployment:
        deployment.program = program
        yield deployment


def test_tasks_stay_with_their_version_over_a_deployment_and_it_is_taken_back(
    versioned: Versioned,
) -> None:
    flows = versioned
    first = {what: flows.live(what) for what in ("worker", "orchestrator")}
    old = flows.start("versioned")
    flows.eventually(lambda: flows.tries(old))

    flows.deploy('CODE = "old"', 'CODE = "new"')
    assert all(flows.live(what) != version for what, version in first.items())
    before = flows.tries(old)
    flows.eventually(lambda: flows.tries(old) > before)
    new = flows.start("versioned")
    for execution in (old, new):
        flows.tell(execution, "go")
    # The attempts of a task are of the code that asked for it; new tasks are of the new code.
    assert old.result(timeout=WAIT) == ["old by old", "new by new"]
    assert new.result(timeout=WAIT) == ["new by new", "new by new"]

    # What dies is told of, whichever version it was.
    assert flows.start("fragile", "vanish").result(timeout=WAIT) == 2

    # Taken back by moving the alias of the orchestrator alone.
    flows.server.client("lambda").update_alias(
        FunctionName=flows.id_of("Flows-orchestrator-function"),
        Name="live",
        FunctionVersion=first["orchestrator"],
    )
    again = flows.start("versioned")
    flows.tell(again, "go")
    assert again.result(timeout=WAIT) == ["old by old", "old by old"]
    assert flows.start("fragile", "vanish").result(timeout=WAIT) == 2


def test_a_version_that_was_deleted_takes_no_attempt_with_it(versioned: Versioned) -> None:
    flows = versioned
    version = flows.live("worker")
    old = flows.start("versioned")
    flows.eventually(lambda: flows.tries(old))
    flows.deploy('CODE = "old"', 'CODE = "new"')
    flows.server.client("lambda").delete_function(
        FunctionName=flows.id_of("Flows-worker-function"), Qualifier=version
    )
    flows.tell(old, "go")
    # Captured anew by the newer code, unless the last attempt of the older one had begun before.
    assert old.result(timeout=WAIT)[1] == "new by new"
