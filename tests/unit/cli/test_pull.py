"""A worker that takes its tasks from a queue of AWS, by the command."""

import json
import signal
from pathlib import Path
from uuid import uuid4

import cli_flows

from mini_workflow.settings import WORKERS
from tests.aws.cloud import EmulatedCloud
from tests.aws.emulator.server import Server
from tests.unit.cli.conftest import new_world
from tests.waiting import WAIT


def test_a_command_runs_the_tasks_of_a_queue(aws: Server, tmp_path: Path) -> None:
    url = aws.client("sqs").create_queue(QueueName=f"big-{uuid4().hex[:8]}")["QueueUrl"]
    cloud = EmulatedCloud(aws)
    try:
        cloud.environment[WORKERS] = json.dumps({"gpu": url, "other": "a-function"})
        world = new_world(tmp_path)
        world.environment |= {
            "MINI_WORKFLOW_BACKEND": "aws",
            **aws.environment(),
            **cloud.environment,
        }
        refused = world("worker", "cli_flows", "--worker", "other", status=2)
        assert "'other' has no queue to take tasks from; those that have: 'gpu'" in refused.err
        with cloud.runtime() as runtime, cloud.serving(runtime):
            execution = runtime.start_execution(cli_flows.trained)
            with world.served("worker", "cli_flows", "--worker", "gpu=2") as worker:
                assert execution.result(WAIT) == "trained"
                worker.send_signal(signal.SIGTERM)
                worker.wait(WAIT)
                assert worker.returncode == 0
    finally:
        cloud.close()
