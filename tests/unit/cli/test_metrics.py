"""metrics: how many executions there are, for Prometheus and as JSON."""

import json

from tests.unit.cli.world import World


def test_metrics_counts_executions_by_status(served: World) -> None:
    served("start", "cli_flows:speaking", "--id", "counted")
    served("result", "counted")
    counts = json.loads(served("metrics", "--json").out)["executions"]
    assert counts["completed"] >= 1
    assert set(counts) == {
        *("running", "blocked", "completed", "failed", "cancelled", "terminated"),
    }
    lines = served("metrics").out.splitlines()
    assert lines[0] == "# TYPE mini_workflow_executions gauge"
    assert f'mini_workflow_executions{{status="completed"}} {counts["completed"]}' in lines
