"""The components' resources, made for real: AWS's models take every input, and the parts fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest

from mini_workflow import settings
from pulumi_component import Function
from tests.aws.emulator.server import Server
from tests.pulumi.provisioning import Provisioning
from tests.pulumi.recording import Recording, record
from tests.pulumi.test_engine import engine
from tests.waiting import eventually


class Deployed:
    """What a program made, and where."""

    def __init__(self, server: Server, program: Callable[[], Any]) -> None:
        self.server = server
        self.mocks = Provisioning(server)
        self.recording: Recording = record(program, self.mocks)

    def id_of(self, name: str) -> str:
        (found,) = [made for _, logical, made in self.mocks.made if logical == name]
        return found

    def call(self, name: str, event: Any) -> Any:
        answer = self.server.client("lambda").invoke(
            FunctionName=self.id_of(name), Payload=json.dumps(event)
        )
        return json.loads(answer["Payload"].read())


HANDLERS = """
import json, os, boto3

sqs = boto3.client("sqs")


def settings():
    import mini_workflow.settings
    return {name: os.environ.get(name, "") for name in mini_workflow.settings.MEANING}


def execute(event, context):
    if event.get("die"):
        os._exit(1)
    return settings()


def orchestrate(event, context):
    if "Records" not in event:
        return settings()
    for record in event["Records"]:
        told = {"group": record["attributes"]["MessageGroupId"], "body": json.loads(record["body"])}
        boto3.client("s3").put_object(
            Bucket=os.environ["BUCKET_NAME"],
            Key=f"executions/seen/{record['messageId']}",
            Body=json.dumps(told),
        )
    return {"batchItemFailures": []}


def api(event, context):
    return settings()
"""


@pytest.fixture(scope="module")
def deployed(strict_aws: Server, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """An engine with all options, and a function of each kind."""
    root = tmp_path_factory.mktemp("program")
    (root / "app").mkdir()
    (root / "app" / "index.py").write_text(HANDLERS)
    topic = f"arn:aws:sns:{strict_aws.region}:{strict_aws.account}:people"

    def program() -> None:
        flow = engine(
            root,
            alarms={"topics": [topic]},
            dashboard=True,
            concurrency=5,
            log_retention="3 days",
            tags={"team": "blue"},
            environment={"PLACE": "here"},
            memory="512 MB",
            permissions=[{"actions": ["s3:GetObject"], "resources": ["arn:aws:s3:::b/*"]}],
            workers={"gpu": {"handler": "app.index.execute", "memory": "1 GB"}},
        )
        handler: Any = {"handler": "app.index.api", "root": str(root), "concurrency": 3}
        Function("Api", {**handler, "link": [flow], "url": True})
        open_to_all = {"authorization": "none", "cors": True}
        Function("Open", {**handler, "url": open_to_all, "log_retention": "forever"})

    return Deployed(strict_aws, program)


def test_every_resource_has_been_made(deployed: Deployed) -> None:
    made = sorted((kind, name) for kind, name, _ in deployed.mocks.made)
    asked = [(one.type, one.name) for one in deployed.recording]
    assert made == sorted(one for one in asked if not one[0].startswith("mini-workflow"))
    # An engine, its other worker, alarms, dashboard and queries, and two functions with a URL, one for
    # all.
    assert len(made) == 37 + 6 + 18 + 1 + 8 + 6 + 7
    assert list(deployed.mocks.bucket_policies) == [deployed.id_of("Flow-history")]


@pytest.mark.parametrize(
    ("function", "lacks"),
    [
        (
            "Flow-orchestrator-function",
            {
                settings.OBJECT_PREFIX,
                settings.ORCHESTRATOR_FUNCTION_NAME,
                settings.SIGNING_KEY_ARN,
                settings.SCHEDULE_KEY_ARN,
                settings.EXECUTION_RETENTION,
                settings.DEV_WORKER,
                settings.TABLE_NAME,
            },
        ),
        (
            "Flow-worker-function",
            set(settings.MEANING)
            - {settings.BUCKET_NAME, settings.QUEUE_URL, settings.SIGNING_KEY},
        ),
        (
            "Api-function",
            set(settings.MEANING)
            - {
                settings.BUCKET_NAME,
                settings.QUEUE_URL,
                settings.QUEUE_ARN,
                settings.ORCHESTRATOR_FUNCTION_NAME,
                settings.SIGNING_KEY,
            },
        ),
        ("Open-function", set(settings.MEANING)),
    ],
)
def test_archives_import_and_answer(deployed: Deployed, function: str, lacks: set[str]) -> None:
    answer = deployed.call(function, {})
    assert {name for name, value in answer.items() if not value} == lacks


def test_the_other_worker_is_the_one_that_the_orchestrator_calls(deployed: Deployed) -> None:
    known = deployed.call("Flow-orchestrator-function", {})[settings.WORKERS]
    assert json.loads(known) == {"gpu": deployed.id_of("Flow-worker-gpu-function")}
    lambda_ = deployed.server.client("lambda")
    default, gpu = (
        lambda_.get_function_configuration(FunctionName=deployed.id_of(name))
        for name in ("Flow-worker-function", "Flow-worker-gpu-function")
    )
    assert (default["MemorySize"], gpu["MemorySize"]) == (512, 1_024)
    assert deployed.call("Flow-worker-gpu-function", {}) == deployed.call(
        "Flow-worker-function", {}
    )


def seen(deployed: Deployed, count: int) -> list[dict[str, Any]]:
    """What the orchestrator was given."""
    s3, bucket = deployed.server.client("s3"), deployed.id_of("Flow-history")

    def enough() -> list[Any] | None:
        listed = s3.list_objects_v2(Bucket=bucket, Prefix="executions/seen/").get("Contents", [])
        return listed if len(listed) >= count else None

    listed = eventually(enough, every=0.1)
    keys = [one["Key"] for one in listed]
    found = [json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys]
    for key in keys:
        s3.delete_object(Bucket=bucket, Key=key)
    return found


def test_events_timers_and_deaths_of_tasks_reach_the_orchestrator(deployed: Deployed) -> None:
    sqs = deployed.server.client("sqs")
    sqs.send_message(
        QueueUrl=deployed.id_of("Flow-events"),
        MessageBody='{"sent": 1}',
        MessageGroupId="x-1",
        MessageDeduplicationId="1",
    )
    sqs.send_message(
        QueueUrl=deployed.id_of("Flow-timers"),
        MessageBody='{"fired": 2}',
        DelaySeconds=1,
        MessageAttributes={"executionId": {"DataType": "String", "StringValue": "x-2"}},
    )
    request = {"execution_id": "x-3", "seq": 3, "attempt": 1, "lost": "signature", "die": True}
    deployed.server.client("lambda").invoke(
        FunctionName=deployed.id_of("Flow-worker-function"),
        InvocationType="Event",
        Payload=json.dumps(request),
    )
    by_group = {one["group"]: one["body"] for one in seen(deployed, 3)}
    assert by_group["x-1"] == {"sent": 1}
    assert by_group["x-2"] == {"event": {"fired": 2}}
    lost = by_group["x-3"]["lost"]
    # As whole objects: text that is put into a template is not escaped.
    assert lost["request"] == request
    assert lost["context"]["condition"] == "RetriesExhausted"
    assert lost["response"]["errorMessage"]
    assert lost["response"]["errorType"].startswith("Runtime.")


def test_a_second_deployment_has_the_same_code(strict_aws: Server, root: Path) -> None:
    def code() -> pulumi.FileArchive:
        recording = record(
            lambda: _only(Function("F", {"handler": "app.index.api", "root": str(root)}))
        )
        return recording.get("F-function").inputs["code"]

    first = code().path
    content = Path(first).read_bytes()
    # Also where nothing is left of the first one.
    shutil.rmtree(root / ".mini-workflow")
    assert code().path == first
    assert Path(first).read_bytes() == content


TOOL = """\
import subprocess
from pathlib import Path

def run(event, context):
    return subprocess.check_output([Path(__file__).with_name("tool"), "there"], text=True)
"""


def test_what_is_executable_can_be_executed_in_a_function(strict_aws: Server, root: Path) -> None:
    (root / "app" / "tooled.py").write_text(TOOL)
    tool = root / "app" / "tool"
    tool.write_text("#!/bin/sh\necho executed $1\n")
    tool.chmod(0o755)

    def program() -> None:
        Function("Tooled", {"handler": "app.tooled.run", "root": str(root)})

    deployed = Deployed(strict_aws, program)
    assert deployed.call("Tooled-function", {}) == "executed there\n"


def _only(_: Any) -> None:
    """The end of a program."""
