"""WorkflowEngine: exactly these resources, each with exactly these inputs."""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from mini_workflow import settings
from pulumi_component import WorkflowEngine
from tests.pulumi.recording import ACCOUNT, REGION, Recording, is_secret, record

pytestmark = pytest.mark.usefixtures("packaged_once")

ENGINE = "mini-workflow:index:WorkflowEngine"
FUNCTION = "mini-workflow:index:Function"
ENCRYPTION = (
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
)
SQS = f"https://sqs.example/{ACCOUNT}"


def engine(root: Path, name: str = "Flow", **options: Any) -> WorkflowEngine:
    given: Any = {
        "worker": "app.index.execute",
        "orchestrator": "app.index.orchestrate",
        "root": str(root),
    }
    return WorkflowEngine(name, {**given, **options})


def made(_: WorkflowEngine) -> None:
    """The end of a program: what it returns would be waited for."""


@pytest.fixture
def plain(root: Path) -> Recording:
    return record(lambda: made(engine(root)))


def resources(name: str = "Flow") -> set[tuple[str, str, str]]:
    """(type, name, parent) of all resources of an engine without options."""
    stack = "project-stack"
    of_functions = {
        (kind, f"{name}-{what}-{part}", f"{name}-{what}")
        for what in ("worker", "orchestrator")
        for kind, part in (
            ("aws:cloudwatch/logGroup:LogGroup", "logs"),
            ("aws:iam/role:Role", "role"),
            ("aws:iam/rolePolicy:RolePolicy", "policy"),
            ("aws:lambda/function:Function", "function"),
        )
    }
    own = {
        ("random:index/randomId:RandomId", "suffix"),
        ("random:index/randomPassword:RandomPassword", "signing-key"),
        ("aws:s3/bucket:Bucket", "history"),
        ("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "history-private"),
        (
            ENCRYPTION,
            "history-encryption",
        ),
        (
            "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
            "history-lifecycle",
        ),
        ("aws:s3/bucketPolicy:BucketPolicy", "history-policy"),
        ("aws:sqs/queue:Queue", "events"),
        ("aws:sqs/queue:Queue", "events-dlq"),
        ("aws:sqs/queue:Queue", "timers"),
        ("aws:sqs/queue:Queue", "timers-dlq"),
        ("aws:sqs/queue:Queue", "failures"),
        ("aws:sqs/queue:Queue", "failures-dlq"),
        ("aws:sqs/queue:Queue", "schedules-dlq"),
        ("aws:scheduler/scheduleGroup:ScheduleGroup", "schedules"),
        ("aws:iam/role:Role", "scheduler-role"),
        ("aws:iam/rolePolicy:RolePolicy", "scheduler-policy"),
        (FUNCTION, "worker"),
        (FUNCTION, "orchestrator"),
        ("aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig", "worker-invocations"),
        ("aws:lambda/functionRecursionConfig:FunctionRecursionConfig", "worker-recursion"),
        ("aws:lambda/functionRecursionConfig:FunctionRecursionConfig", "orchestrator-recursion"),
        ("aws:lambda/eventSourceMapping:EventSourceMapping", "events-mapping"),
        ("aws:iam/role:Role", "timers-pipe-role"),
        ("aws:iam/rolePolicy:RolePolicy", "timers-pipe-policy"),
        ("aws:pipes/pipe:Pipe", "timers-pipe"),
        ("aws:cloudwatch/logGroup:LogGroup", "timers-pipe-logs"),
        ("aws:cloudwatch/logGroup:LogGroup", "failures-pipe-logs"),
        ("aws:iam/role:Role", "failures-pipe-role"),
        ("aws:iam/rolePolicy:RolePolicy", "failures-pipe-policy"),
        ("aws:pipes/pipe:Pipe", "failures-pipe"),
    }
    return (
        {(ENGINE, name, stack)}
        | {(kind, f"{name}-{part}", name) for kind, part in own}
        | of_functions
    )


def registered(recording: Recording) -> list[tuple[str, str, str]]:
    # The SDK keeps the stack of the first program of a process: it is the parent that is not ours.
    ours = {one.name for one in recording}
    return [
        (one.type, one.name, one.parent if one.parent in ours else "project-stack")
        for one in recording
    ]


def test_an_engine_is_these_resources_and_no_others(plain: Recording) -> None:
    assert sorted(registered(plain)) == sorted(resources())
    assert len(plain.registered) == 40


def test_two_engines_share_nothing_but_the_stack(root: Path) -> None:
    def program() -> None:
        engine(root, "One")
        engine(root, "Two")

    recording = record(program)
    assert sorted(registered(recording)) == sorted(resources("One") | resources("Two"))
    one, two = ({r.name for r in recording if r.name.startswith(n)} for n in ("One", "Two"))
    for resource in recording:
        others = two if resource.name in one else one
        assert not resource.dependencies & others
        assert ("Two" if resource.name in one else "One") not in json.dumps(
            resource.inputs, default=str
        )


# The bucket


def test_the_bucket_is_private_encrypted_and_rid_of_old_payloads(plain: Recording) -> None:
    bucket = {"bucket": "Flow-history"}
    assert plain.get("Flow-history").inputs == {"forceDestroy": False, "tags": {}}
    assert plain.get("Flow-history-private").inputs == bucket | {
        "blockPublicAcls": True,
        "blockPublicPolicy": True,
        "ignorePublicAcls": True,
        "restrictPublicBuckets": True,
    }
    algorithm = {"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}
    assert plain.get("Flow-history-encryption").inputs == bucket | {"rules": [algorithm]}
    assert plain.get("Flow-history-lifecycle").inputs == bucket | {
        "rules": [
            {
                "id": "payloads",
                "status": "Enabled",
                "filter": {"prefix": "payloads/"},
                "expiration": {"days": 30},
            },
            {
                "id": "deleted",
                "status": "Enabled",
                "filter": {"tag": {"key": "mini-workflow", "value": "deleted"}},
                "expiration": {"days": 30},
            },
            {
                "id": "uploads",
                "status": "Enabled",
                "filter": {"prefix": ""},
                "abortIncompleteMultipartUpload": {"daysAfterInitiation": 1},
            },
        ]
    }
    assert "Flow-history-private" in plain.get("Flow-history-policy").dependencies


def retained(recording: Recording) -> set[str]:
    return {one.name for one in recording if one.options["retain"]}


def test_histories_are_destroyed_only_where_asked(plain: Recording, root: Path) -> None:
    parts = ("private", "encryption", "lifecycle", "policy")
    assert retained(plain) == {"Flow-history", *(f"Flow-history-{part}" for part in parts)}
    recording = record(lambda: made(engine(root, removal="destroy")))
    assert recording.get("Flow-history").inputs["forceDestroy"] is True
    assert not retained(recording)


# Queues


def queue(**more: Any) -> dict[str, Any]:
    return {
        "maxMessageSize": 1_048_576,
        "messageRetentionSeconds": 1_209_600,
        "sqsManagedSseEnabled": True,
        "tags": {},
        **more,
    }


def redrive(name: str, receives: int) -> dict[str, Any]:
    return {
        "deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}",
        "maxReceiveCount": receives,
    }


def without_redrive(recording: Recording, name: str) -> tuple[dict[str, Any], Any]:
    inputs = dict(recording.get(name).inputs)
    policy = inputs.pop("redrivePolicy", None)
    return inputs, policy and json.loads(policy)


def test_events_are_in_order_by_execution_and_fast_across_them(plain: Recording) -> None:
    fifo = queue(
        fifoQueue=True,
        contentBasedDeduplication=False,
        deduplicationScope="messageGroup",
        fifoThroughputLimit="perMessageGroupId",
        visibilityTimeoutSeconds=90,
    )
    expected = (fifo, redrive("Flow-events-dlq.fifo", 400))
    assert without_redrive(plain, "Flow-events") == expected
    assert without_redrive(plain, "Flow-events-dlq") == (fifo, None)


@pytest.mark.parametrize("name", ["timers", "failures"])
def test_what_a_pipe_takes_from_waits_out_an_outage(plain: Recording, name: str) -> None:
    expected = (queue(), redrive(f"Flow-{name}-dlq", 1000))
    assert without_redrive(plain, f"Flow-{name}") == expected
    assert without_redrive(plain, f"Flow-{name}-dlq") == (queue(), None)
    assert without_redrive(plain, "Flow-schedules-dlq") == (queue(), None)


# Functions

HISTORY = {
    settings.BUCKET_NAME: "Flow-history",
    settings.QUEUE_URL: f"{SQS}/Flow-events.fifo",
    settings.SIGNING_KEY: "k" * 64,
}
ORCHESTRATOR = HISTORY | {
    settings.QUEUE_ARN: f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-events.fifo",
    settings.DLQ_URL: f"{SQS}/Flow-events-dlq.fifo",
    settings.TIMER_QUEUE_URL: f"{SQS}/Flow-timers",
    settings.WORKER_FUNCTION_NAME: "Flow-worker-function",
    settings.ROLE_ARN: f"arn:aws:iam::{ACCOUNT}:role/Flow-scheduler-role",
    settings.SCHEDULE_GROUP: "Flow-schedules",
    settings.SCHEDULE_DLQ_ARN: f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-schedules-dlq",
}


@pytest.mark.parametrize(
    ("what", "handler", "timeout", "variables"),
    [
        ("worker", "app.index.execute", 900, HISTORY),
        ("orchestrator", "app.index.orchestrate", 60, ORCHESTRATOR),
    ],
)
def test_functions(
    plain: Recording, what: str, handler: str, timeout: int, variables: dict[str, str]
) -> None:
    function = plain.get(f"Flow-{what}-function")
    inputs = dict(function.inputs)
    code = inputs.pop("code")
    assert isinstance(code, pulumi.FileArchive)
    with zipfile.ZipFile(code.path) as archive:
        assert "app/index.py" in archive.namelist()
    assert inputs == {
        "role": f"arn:aws:iam::{ACCOUNT}:role/Flow-{what}-role",
        "runtime": current_runtime(),
        "architectures": ["x86_64"],
        "handler": handler,
        "timeout": timeout,
        "memorySize": 1024,
        "environment": {"variables": variables},
        "loggingConfig": {
            "logFormat": "JSON",
            "logGroup": f"Flow-{what}-logs",
            "applicationLogLevel": "INFO",
        },
        "tags": {},
    }
    assert f"Flow-{what}-policy" in function.dependencies
    assert plain.get(f"Flow-{what}-logs").inputs == {
        "retentionInDays": 30,
        "tags": {},
    }


def current_runtime() -> str:
    return f"python{sys.version_info[0]}.{sys.version_info[1]}"


def test_settings_are_those_that_the_library_reads(plain: Recording) -> None:
    read = set(settings.MEANING) - set(settings.OPTIONAL) | {settings.SCHEDULE_DLQ_ARN}
    assert set(ORCHESTRATOR) == read - {settings.ORCHESTRATOR_FUNCTION_NAME}


def test_the_signing_key_is_a_secret_wherever_it_goes(plain: Recording) -> None:
    assert plain.get("Flow-signing-key").inputs == {"length": 64, "special": False}
    for resource in plain:
        raw, inputs = resource.raw, resource.inputs
        for name, value in inputs.items():
            if "k" * 64 in json.dumps(value, default=str):
                variables = raw[name]
                assert is_secret(variables) or is_secret(variables["variables"]), resource.name
    assert is_secret(plain.outputs["Flow"]["link"])


def test_a_task_that_dies_is_not_tried_again_by_lambda_but_told_of(plain: Recording) -> None:
    config = plain.get("Flow-worker-invocations")
    assert config.inputs == {
        "functionName": "Flow-worker-function",
        "maximumRetryAttempts": 0,
        "maximumEventAgeInSeconds": 21_600,
        "destinationConfig": {
            "onFailure": {"destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-failures"}
        },
    }
    assert "Flow-worker-policy" in config.dependencies


def test_events_reach_the_orchestrator_when_loops_are_allowed(plain: Recording) -> None:
    mapping = plain.get("Flow-events-mapping")
    assert mapping.inputs == {
        "eventSourceArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-events.fifo",
        "functionName": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:Flow-orchestrator-function",
        "batchSize": 10,
        "functionResponseTypes": ["ReportBatchItemFailures"],
        "tags": {},
    }
    assert {
        "Flow-worker-recursion",
        "Flow-orchestrator-recursion",
        "Flow-orchestrator-policy",
    } <= mapping.dependencies
    for what in ("worker", "orchestrator"):
        assert plain.get(f"Flow-{what}-recursion").inputs == {
            "functionName": f"Flow-{what}-function",
            "recursiveLoop": "Allow",
        }


# Pipes and schedules

LOGS = (
    f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/vendedlogs/pipes/mini-workflow-{{what}}-5eed"
)
FAILURE = (
    '{"lost": {"request": <$.body.requestPayload>, "context": <$.body.requestContext>, '
    '"response": <$.body.responsePayload>}}'
)


@pytest.mark.parametrize(
    ("what", "group", "template"),
    [
        ("timers", "$.messageAttributes.executionId.stringValue", '{"event": <$.body>}'),
        ("failures", "$.body.requestPayload.execution_id", FAILURE),
    ],
)
def test_pipes(plain: Recording, what: str, group: str, template: str) -> None:
    pipe = plain.get(f"Flow-{what}-pipe")
    assert pipe.inputs == {
        "name": f"mini-workflow-{what}-5eed",
        "roleArn": f"arn:aws:iam::{ACCOUNT}:role/Flow-{what}-pipe-role",
        "source": f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-{what}",
        "target": f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-events.fifo",
        "sourceParameters": {"sqsQueueParameters": {"batchSize": 10}},
        "targetParameters": {
            "inputTemplate": template,
            "sqsQueueParameters": {
                "messageGroupId": group,
                "messageDeduplicationId": "$.messageId",
            },
        },
        "logConfiguration": {
            "level": "ERROR",
            "cloudwatchLogsLogDestination": {"logGroupArn": LOGS.format(what=what)},
        },
        "tags": {},
    }
    assert f"Flow-{what}-pipe-policy" in pipe.dependencies
    assert plain.get(f"Flow-{what}-pipe-logs").inputs == {
        "name": f"/aws/vendedlogs/pipes/mini-workflow-{what}-5eed",
        "retentionInDays": 30,
        "tags": {},
    }
    assert pipe.options["delete first"]


# What the program gets


def test_outputs(root: Path) -> None:
    seen: dict[str, Any] = {}

    def program() -> pulumi.Output[Any]:
        flow = engine(root)
        assert isinstance(flow.history, aws.s3.Bucket)
        for queue in (flow.events, flow.timers):
            assert isinstance(queue, aws.sqs.Queue)
        for function in (flow.worker, flow.orchestrator):
            assert isinstance(function, aws.lambda_.Function)
        names = pulumi.Output.all(
            flow.history.bucket,
            flow.events.name,
            flow.timers.name,
            flow.worker.name,
            flow.orchestrator.name,
        )
        return pulumi.Output.all(names, flow.link).apply(lambda known: seen.update(all=known))

    record(program)
    names, link = seen["all"]
    assert names == [
        "Flow-history",
        "Flow-events.fifo",
        "Flow-timers",
        "Flow-worker-function",
        "Flow-orchestrator-function",
    ]
    assert link["environment"] == HISTORY | {
        settings.QUEUE_ARN: f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-events.fifo",
        settings.ORCHESTRATOR_FUNCTION_NAME: "Flow-orchestrator-function",
    }
    assert link["engine"] == "Flow"
    assert {grant["sid"] for grant in link["permissions"]} == {
        "ReadAndWriteExecutionsAndPayloads",
        "TellMissingFromForbidden",
        "SendEvents",
        "AskOrchestrator",
    }
