"""What every role may do, statement by statement, and that nothing is granted on everything."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pulumi_component import Function
from tests.pulumi.recording import ACCOUNT, REGION, Recording, record
from tests.pulumi.test_engine import engine

pytestmark = pytest.mark.usefixtures("packaged_once")

EVENTS = f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-events.fifo"
SQS = f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow"
HISTORY = "arn:aws:s3:::Flow-history"


@pytest.fixture
def everything(root: Path) -> Recording:
    """An engine, and functions that are and are not linked to it."""

    def program() -> None:
        flow = engine(root, alarms=True, dashboard=True)
        handler: Any = {"handler": "app.index.api", "root": str(root)}
        Function("Api", {**handler, "link": [flow], "url": {"authorization": "none"}})
        Function("Alone", {**handler})

    return record(program)


def allow(sid: str, actions: list[str], resources: list[str], **more: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources, **more}


def logs(function: str) -> dict[str, Any]:
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{function}:*"
    return allow("Logs", ["logs:CreateLogStream", "logs:PutLogEvents"], [group])


LIST = allow("TellMissingFromForbidden", ["s3:ListBucket"], [HISTORY])
EXECUTIONS = allow(
    "ReadAndWriteExecutionsAndPayloads",
    ["s3:GetObject", "s3:PutObject"],
    [f"{HISTORY}/executions/*", f"{HISTORY}/payloads/*"],
)
REMOVE = allow(
    "DeleteExecutions",
    ["s3:DeleteObject", "s3:PutObjectTagging"],
    [f"{HISTORY}/executions/*", f"{HISTORY}/payloads/*"],
)

POLICIES = {
    "Flow-orchestrator-policy": [
        logs("Flow-orchestrator-logs"),
        allow(
            "ReceiveEvents",
            [
                "sqs:ReceiveMessage",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ChangeMessageVisibility",
            ],
            [EVENTS],
        ),
        allow("SendEventsAndTimers", ["sqs:SendMessage"], [EVENTS, f"{SQS}-timers"]),
        allow("SetAside", ["sqs:SendMessage"], [f"{SQS}-events-dlq.fifo"]),
        EXECUTIONS,
        LIST,
        REMOVE,
        allow(
            "InvokeWorker",
            ["lambda:InvokeFunction"],
            [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:Flow-worker-function"],
        ),
        allow(
            "ScheduleTimers",
            ["scheduler:CreateSchedule", "scheduler:DeleteSchedule"],
            [f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/Flow-schedules/*"],
        ),
        allow(
            "LetSchedulerSend",
            ["iam:PassRole"],
            [f"arn:aws:iam::{ACCOUNT}:role/Flow-scheduler-role"],
            Condition={"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}},
        ),
    ],
    "Flow-worker-policy": [
        logs("Flow-worker-logs"),
        allow("SendEvents", ["sqs:SendMessage"], [EVENTS]),
        allow("ReportFailures", ["sqs:SendMessage"], [f"{SQS}-failures"]),
        EXECUTIONS,
        LIST,
    ],
    "Api-policy": [
        logs("Api-logs"),
        EXECUTIONS,
        LIST,
        allow("SendEvents", ["sqs:SendMessage"], [EVENTS]),
        allow(
            "AskOrchestrator",
            ["lambda:InvokeFunction"],
            [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:Flow-orchestrator-function"],
        ),
    ],
    "Alone-policy": [logs("Alone-logs")],
    "Flow-scheduler-policy": [allow("Send", ["sqs:SendMessage"], [EVENTS, f"{SQS}-schedules-dlq"])],
    **{
        f"Flow-{what}-pipe-policy": [
            allow(
                "Take",
                ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
                [f"{SQS}-{what}"],
            ),
            allow("Put", ["sqs:SendMessage"], [EVENTS]),
            logs(f"/aws/vendedlogs/pipes/mini-workflow-{what}-5eed"),
        ]
        for what in ("timers", "failures")
    },
}


def trusting(service: str, source: str = "") -> list[dict[str, Any]]:
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    if source:
        only = {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": source}
        statement["Condition"] = {"StringEquals": only}
    return [statement]


PIPE = f"arn:aws:pipes:{REGION}:{ACCOUNT}:pipe/mini-workflow"
TRUST = {
    **{f"{name}-role": trusting("lambda") for name in ("Flow-orchestrator", "Flow-worker")},
    **{f"{name}-role": trusting("lambda") for name in ("Api", "Alone")},
    "Flow-timers-pipe-role": trusting("pipes", f"{PIPE}-timers-5eed"),
    "Flow-failures-pipe-role": trusting("pipes", f"{PIPE}-failures-5eed"),
    "Flow-scheduler-role": trusting(
        "scheduler", f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/Flow-schedules"
    ),
}


def statements(document: str) -> list[dict[str, Any]]:
    policy = json.loads(document)
    assert policy.pop("Version") == "2012-10-17"
    found = policy.pop("Statement")
    assert not policy
    return found


def test_each_role_may_do_this_and_nothing_else(everything: Recording) -> None:
    found = {one.name: statements(one.inputs["policy"]) for one in everything.of("RolePolicy")}
    assert found == POLICIES
    roles = {
        one.name.removesuffix("-policy"): one.inputs["role"] for one in everything.of("RolePolicy")
    }
    assert roles == {name: f"{name}-role" for name in roles}


def test_each_role_is_trusted_to_one_service_and_where_possible_to_one_resource(
    everything: Recording,
) -> None:
    found = {one.name: statements(one.inputs["assumeRolePolicy"]) for one in everything.of("Role")}
    assert found == TRUST


def test_nobody_reaches_the_bucket_without_tls(everything: Recording) -> None:
    policy = everything.get("Flow-history-policy").inputs["policy"]
    assert statements(policy) == [
        {
            "Sid": "EncryptedTransportOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [HISTORY, f"{HISTORY}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]


def test_no_policy_is_attached_where_others_could_lose_theirs(everything: Recording) -> None:
    kinds = {one.type.rpartition(":")[2] for one in everything}
    assert not kinds & {
        "PolicyAttachment",
        "RolePolicyAttachment",
        "RolePolicyAttachmentsExclusive",
    }


# Inside of one bucket, log group, schedule group or function: their parts, and versions, have no names
# beforehand.
INSIDE = re.compile(
    rf"arn:aws:s3:::[\w.-]+/[\w/]+/\*|arn:aws:logs:{REGION}:{ACCOUNT}:log-group:[\w/.-]+:\*"
    rf"|arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/[\w.-]+/\*"
    rf"|arn:aws:lambda:{REGION}:{ACCOUNT}:function:[\w-]+:\*"
)


def test_nothing_is_granted_on_everything(everything: Recording) -> None:
    for one in everything.of("RolePolicy"):
        for statement in statements(one.inputs["policy"]):
            assert all("*" not in action for action in statement["Action"])
            for resource in statement["Resource"]:
                assert "*" not in resource or INSIDE.fullmatch(resource), (one.name, resource)


def test_names_of_statements_are_unique(root: Path) -> None:
    def program() -> None:
        one, two = engine(root, "One"), engine(root, "Two")
        wanted: Any = {"actions": ["s3:GetObject"], "resources": ["arn:aws:s3:::b/*"]}
        Function(
            "Both",
            {
                "handler": "app.index.api",
                "root": str(root),
                "link": [one, two],
                "permissions": [wanted, {**wanted, "conditions": {"Bool": {"k": "v"}}}],
            },
        )

    found = statements(record(program).get("Both-policy").inputs["policy"])
    names = [statement["Sid"] for statement in found]
    assert len(names) == len(set(names)) == 11
    assert {"SendEvents", "SendEvents2", "Permission", "Permission2"} <= set(names)
    assert found[-1]["Condition"] == {"Bool": {"k": "v"}}
