"""The same program with its histories in a table, under enforced permissions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mini_workflow.settings import TABLE_NAME
from tests.aws.emulator.server import Server
from tests.e2e.deployment import deployed
from tests.e2e.flows import PROGRAM, Flows
from tests.waiting import WAIT


@pytest.fixture(scope="module")
def flows(strict_aws: Server) -> Iterator[Flows]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORE", "dynamodb")
        with deployed(strict_aws, PROGRAM, Flows) as deployment:
            yield deployment


def test_an_execution_runs_and_is_found_and_deleted(flows: Flows) -> None:
    execution = flows.start("steps", 3)
    assert execution.result(timeout=WAIT) == 3
    assert flows.once(execution.id) == {"0", "1", "2"}
    table = flows.variables("Flows-orchestrator-function")[TABLE_NAME]
    dynamodb = flows.server.client("dynamodb")
    items = dynamodb.scan(TableName=table)["Items"]
    assert f"execution/{execution.id}" in {item["id"]["S"] for item in items}
    listed = flows.runtime.list_executions(workflow="steps", status="completed")
    assert [entry.id for entry in listed] == [execution.id]
    execution.delete()
    flows.eventually(lambda: not flows.runtime.list_executions(workflow="steps"))

    def outcomes() -> list[str]:
        left = dynamodb.scan(TableName=table)["Items"]
        bodies = [item.get("body", {}).get("S", "") for item in left]
        return [body for body in bodies if "TaskCompleted" in body]

    # Its turns go in the moment after it is listed no more.
    flows.eventually(lambda: not outcomes())


def test_what_comes_from_outside_reaches_an_execution(flows: Flows) -> None:
    execution = flows.start("approval", 100)
    execution.signal("remark", "hm")
    flows.eventually(lambda: execution.query("seen") == ["hm"])
    assert execution.update("raise", 5) == 105
    execution.signal("decide", {"by": "ann"})
    assert execution.result(timeout=WAIT) == {"amount": 100, "seen": ["hm"], "by": "ann"}


def test_children_and_large_values(flows: Flows) -> None:
    assert flows.start("family", 4).result(timeout=WAIT) == 12
    execution = flows.start("bulky", 700_000)
    assert execution.result(timeout=WAIT) == 700_000
