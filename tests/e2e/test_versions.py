"""Functions by version: new code under executions in flight, and back again."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mini_workflow import AWSRuntime, Execution
from mini_workflow.core.events import TaskRetryScheduled
from mini_workflow.runtimes.aws.deployment import Deployment
from mini_workflow.settings import MEANING, Settings
from tests.aws.emulator.server import Server
from tests.e2e.deployment import deployed
from tests.e2e.flows import PROGRAM, Flows
from tests.waiting import WAIT

MANY = 60
"""Executions that begin until each of two versions, which take half of them, has surely begun one."""


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

    @contextmanager
    def operated(self) -> Generator[Deployment]:
        """What `mini-workflow deploy` works with, as an operator who may do everything."""
        told = self.variables("Starter-function")
        settings = Settings({name: value for name, value in told.items() if name in MEANING})
        with AWSRuntime(settings, clients=self.server.client) as runtime:
            yield runtime.deployment()

    def begun(self, code: str, tries: int = MANY) -> Execution:
        """An execution whose first task is of that code, and waits to be told."""
        for _ in range(tries):
            execution = self.start("versioned")
            self.eventually(lambda one=execution: self.tries(one))
            if execution.query("code") == code:
                return execution
            self.tell(execution, "go")
        raise AssertionError(f"of {tries} executions none was begun by {code} code")

    def tell(self, execution: Execution, what: str) -> None:
        """Tell the tasks of an execution something."""
        key = f"told/{execution.id}/{what}"
        bucket = self.stack.outputs["ledger"]
        self.server.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")

    def tries(self, execution: Execution) -> int:
        """How many attempts have failed so far."""
        return sum(isinstance(event, TaskRetryScheduled) for event in execution.history())


@contextmanager
def deployed_with(option: str, server: Server, folder: Path) -> Generator[Versioned]:
    """Deploy a copy of the program with an option of the engine set."""
    program = folder / "program"
    shutil.copytree(PROGRAM, program, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    main = program / "__main__.py"
    text = main.read_text()
    assert '"memory": "256 MB",' in text
    main.write_text(text.replace('"memory": "256 MB",', f'"memory": "256 MB", "{option}": True,'))
    with deployed(server, program, Versioned) as deployment:
        deployment.program = program
        yield deployment


@pytest.fixture
def versioned(strict_aws: Server, tmp_path: Path) -> Iterator[Versioned]:
    with deployed_with("versions", strict_aws, tmp_path) as deployment:
        yield deployment


@pytest.fixture
def trying(strict_aws: Server, tmp_path: Path) -> Iterator[Versioned]:
    with deployed_with("canary", strict_aws, tmp_path) as deployment:
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


def test_a_canary_takes_a_share_until_it_is_taken_back_or_promoted(trying: Versioned) -> None:
    flows = trying
    first = flows.live("orchestrator")
    flows.deploy('CODE = "old"', 'CODE = "new"')
    # The new version waits: nothing goes there.
    assert flows.live("orchestrator") == first

    with flows.operated() as deployment:
        assert deployment.traffic().versions == (first,)
        began = datetime.now(UTC)
        canary = deployment.begin("", 0.5)
        assert canary.versions == (first, canary.canary)
        old, new = flows.begun("old"), flows.begun("new")
        shares = deployment.executions()
        assert shares[first] >= 1
        assert shares[canary.canary] >= 1
        for execution in (old, new):
            flows.tell(execution, "go")
        # Each stays with the version that has begun it, whichever takes its messages.
        assert old.result(timeout=WAIT) == ["old by old", "old by old"]
        assert new.result(timeout=WAIT) == ["new by new", "new by new"]
        assert not deployment.health(canary.canary, began).problems

        # Taken back: nothing more begins there, and what it had begun ends, with the code before as
        # soon as the processes have learnt of it.
        left = flows.begun("new")
        assert deployment.rollback().versions == (first,)
        after = [flows.begun("old", tries=1) for _ in range(5)]
        for execution in (left, *after):
            flows.tell(execution, "go")
        assert left.result(timeout=WAIT) in (["new by new"] * 2, ["new by new", "old by old"])
        assert all(one.result(timeout=WAIT) == ["old by old"] * 2 for one in after)

        deployment.begin("", 0.5)
        kept = flows.begun("old")
        assert deployment.promote().versions == (canary.canary,)
        after = [flows.begun("new", tries=1) for _ in range(5)]
        for execution in (kept, *after):
            flows.tell(execution, "go")
        assert kept.result(timeout=WAIT) in (["old by old"] * 2, ["old by old", "new by new"])
        assert all(one.result(timeout=WAIT) == ["new by new"] * 2 for one in after)
