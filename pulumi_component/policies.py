"""Write the policies of all roles and resources, as plain data.

Every statement names the resources it is about. A `*` stands only for the objects, log streams or
schedules inside of one named resource, which AWS gives no other way to name before they exist.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

VERSION = "2012-10-17"

Grant = dict[str, Any]
"""Something that is allowed: `sid`, `actions`, `resources` and perhaps `conditions`."""


def grant(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: Mapping[str, Mapping[str, Any]] | None = None,
) -> Grant:
    """Return these actions on these resources, under these conditions."""
    allowed: Grant = {"sid": sid, "actions": list(actions), "resources": list(resources)}
    return allowed | ({"conditions": conditions} if conditions else {})


def allowing(grants: Sequence[Mapping[str, Any]]) -> str:
    """Return the policy that allows all of this. A name that is taken gets a number: names are
    unique.
    """
    statements: dict[str, dict[str, Any]] = {}
    for granted in grants:
        wanted = granted.get("sid") or "Permission"
        numbered = (f"{wanted}{number}" for number in itertools.count(2))
        sid = (
            wanted if wanted not in statements else next(n for n in numbered if n not in statements)
        )
        statements[sid] = {
            "Sid": sid,
            "Effect": "Allow",
            "Action": list(granted["actions"]),
            "Resource": list(granted["resources"]),
        }
        if granted.get("conditions"):
            statements[sid]["Condition"] = granted["conditions"]
    return _document(list(statements.values()))


def joined(policy: str, grants: Sequence[Mapping[str, Any]]) -> str:
    """Return a policy that allows this, too."""
    more = json.loads(allowing(grants))["Statement"]
    return _document([*json.loads(policy)["Statement"], *more])


def _document(statements: Sequence[Mapping[str, Any]]) -> str:
    # JSON text, because Pulumi's mocks do not take anything else.
    return json.dumps({"Version": VERSION, "Statement": list(statements)})


# Trust: who may take on a role


def trust(service: str, account: str = "", source: str = "") -> str:
    """Let a service assume a role; with an account and an ARN, on behalf of that resource only."""
    allowed: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    if source:
        allowed["Condition"] = {
            "StringEquals": {"aws:SourceAccount": account, "aws:SourceArn": source}
        }
    return _document([allowed])


# Functions


def logging(log_group: str) -> list[Grant]:
    """Allow any function to write to its own logs."""
    # The streams of one group; Lambda makes up their names.
    return [grant("Logs", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{log_group}:*"])]


def encrypted(key: str | None) -> list[Grant]:
    """Allow the use of whatever is encrypted with a key of the customer's, if there is one."""
    actions = ["kms:Decrypt", "kms:GenerateDataKey"]
    return [] if key is None else [grant("UseKey", actions, [key])]


def signing_key(arn: str) -> list[Grant]:
    """Allow a signer to read the key where it is kept, in a parameter or a secret."""
    in_parameter = arn.split(":")[2:3] == ["ssm"]
    action = "ssm:GetParameter" if in_parameter else "secretsmanager:GetSecretValue"
    return [grant("ReadSigningKey", [action], [arn])]


def network() -> list[Grant]:
    """Return the permissions of a function in a network of yours, where Lambda makes interfaces."""
    # Neither what lists takes resources, nor do interfaces have names beforehand.
    actions = [
        *("CreateNetworkInterface", "DeleteNetworkInterface", "DescribeNetworkInterfaces"),
        *("DescribeSubnets", "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses"),
    ]
    return [grant("UseNetwork", [f"ec2:{action}" for action in actions], ["*"])]


def file_system(access_point: str) -> list[Grant]:
    """Return the permissions of a function with a file system: use it, through this access point."""
    systems = access_point.partition(":access-point/")[0] + ":file-system/*"
    actions = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
    through = {"StringEquals": {"elasticfilesystem:AccessPointArn": access_point}}
    return [grant("UseFileSystem", actions, [systems], through)]


def tracing() -> list[Grant]:
    """Return the permissions of a function that is traced. X-Ray takes no resources."""
    return [grant("Trace", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"])]


def orchestrator(
    *,
    bucket: str,
    history: str,
    events: str,
    unreadable: str,
    timers: str,
    worker: str,
    schedules: str,
    scheduler_role: str,
    schedules_key: str | None = None,
    table: str | None = None,
    **workers: str,
) -> list[Grant]:
    """Return the permissions of the function that runs workflows.

    All arguments are ARNs; `history` is that of the bucket with the prefix of the engine's objects,
    such as "arn:aws:s3:::b/flows/". `unreadable` is that of the queue for messages that nobody can
    read, `schedules` is that of the schedule group's schedules, `.../group/*`, `schedules_key` that of the
    key that encrypts them, and `table` that of the table with the histories. `workers` are those of the
    functions of the other workers; those of queues begin with "queue".
    """
    queues = [arn for name, arn in workers.items() if name.startswith("queue ")]
    functions = [arn for name, arn in workers.items() if not name.startswith("queue ")]
    return [
        grant(
            "ReceiveEvents",
            [
                "sqs:ReceiveMessage",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ChangeMessageVisibility",
            ],
            [events],
        ),
        grant("SendEventsAndTimers", ["sqs:SendMessage"], [events, timers, *queues]),
        grant("SetAside", ["sqs:SendMessage"], [unreadable]),
        *_histories(bucket, history, table),
        # An execution leaves the index of its status when it enters another, and is deleted with all
        # that was written for it; what marks its place is tagged, to expire.
        grant(
            "DeleteExecutions",
            ["s3:DeleteObject", "s3:PutObjectTagging"],
            [f"{history}executions/*", f"{history}payloads/*"],
        ),
        *(() if table is None else [grant("DeleteTurns", ["dynamodb:BatchWriteItem"], [table])]),
        grant("InvokeWorker", ["lambda:InvokeFunction"], [worker, *functions]),
        # The schedules of one group; the engine makes up their names.
        grant(
            "ScheduleTimers", ["scheduler:CreateSchedule", "scheduler:DeleteSchedule"], [schedules]
        ),
        # EventBridge Scheduler looks at the key in the name of whoever makes a schedule.
        *(() if schedules_key is None else _key_of_schedules(schedules_key)),
        grant(
            "LetSchedulerSend",
            ["iam:PassRole"],
            [scheduler_role],
            {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}},
        ),
    ]


def versions_of(function: str) -> list[Grant]:
    """Return the permissions of an orchestrator with versions: read its alias, and call its other versions.

    `function` is its own ARN.
    """
    return [
        grant("SeeAlias", ["lambda:GetAlias"], [function, f"{function}:live"]),
        grant("HandOver", ["lambda:InvokeFunction"], [f"{function}:*"]),
    ]


def _key_of_schedules(key: str) -> list[Grant]:
    return [grant("EncryptSchedules", ["kms:DescribeKey"], [key])]


def worker(
    *, bucket: str, history: str, events: str, failures: str, table: str | None = None
) -> list[Grant]:
    """Return the permissions of the function that runs tasks, which may start and signal executions."""
    return [
        grant("SendEvents", ["sqs:SendMessage"], [events]),
        # Lambda itself sends, with the function's role, when an attempt has died.
        grant("ReportFailures", ["sqs:SendMessage"], [failures]),
        *_histories(bucket, history, table),
    ]


def queue_worker(
    *, queue: str, bucket: str, history: str, events: str, table: str | None = None
) -> list[Grant]:
    """Return the permissions of a machine that takes the tasks of a worker from its queue."""
    actions = ["ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility"]
    return [
        grant("TakeTasks", [f"sqs:{action}" for action in actions], [queue]),
        grant("SendEvents", ["sqs:SendMessage"], [events]),
        *_histories(bucket, history, table),
    ]


def reader_of_history(*, bucket: str, history: str, table: str | None = None) -> list[Grant]:
    """Return the permissions of a link to the histories: read them, and write those of new executions."""
    return _histories(bucket, history, table)


def sender_of_events(*, events: str) -> list[Grant]:
    """Return the permissions of a link to the queue of events."""
    return [grant("SendEvents", ["sqs:SendMessage"], [events])]


def asker(*, orchestrator: str) -> list[Grant]:
    """Return the permissions of a link to the orchestrator: queries and updates."""
    return [grant("AskOrchestrator", ["lambda:InvokeFunction"], [orchestrator])]


def _histories(bucket: str, history: str, table: str | None) -> list[Grant]:
    actions = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"]
    return [
        *(() if table is None else [grant("ReadAndWriteExecutions", actions, [table])]),
        grant(
            "ReadAndWriteExecutionsAndPayloads",
            ["s3:GetObject", "s3:PutObject"],
            [f"{history}executions/*", f"{history}payloads/*"],
        ),
        _tell_missing_from_forbidden(bucket),
    ]


def _tell_missing_from_forbidden(bucket: str) -> Grant:
    # Without it S3 answers 403 to a read of what is not there. On a prefix it would be of no use:
    # a read has no prefix for the condition to be compared with, so that it would never hold.
    return grant("TellMissingFromForbidden", ["s3:ListBucket"], [bucket])


# Pipes and schedules


def pipe(*, source: str, target: str) -> list[Grant]:
    """Return the permissions of a pipe: take from one queue, and send to another."""
    return [
        grant(
            "Take", ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], [source]
        ),
        grant("Put", ["sqs:SendMessage"], [target]),
    ]


def scheduler(*, events: str, undelivered: str) -> list[Grant]:
    """Return the permissions of the schedules of long timers: send an event, or report that it failed."""
    return [grant("Send", ["sqs:SendMessage"], [events, undelivered])]


# The bucket


def bucket(arn: str, principals: Sequence[str] = ()) -> str:
    """Return the policy of the bucket: nobody reads or writes without TLS, and these principals of other
    accounts as functions that are linked to the histories.
    """
    policy = _encrypted_transport_only(arn)
    if not principals:
        return policy
    more = json.loads(shared(principals, reader_of_history(bucket=arn, history=f"{arn}/")))
    return _document([*json.loads(policy)["Statement"], *more["Statement"]])


def shared(principals: Sequence[str], grants: Sequence[Mapping[str, Any]]) -> str:
    """Return the policy of a resource that allows this to principals of other accounts."""
    statements = json.loads(allowing(grants))["Statement"]
    # One of them is a text of its own, as AWS answers it.
    named = principals[0] if len(principals) == 1 else list(principals)
    return _document([{**one, "Principal": {"AWS": named}} for one in statements])


def _encrypted_transport_only(bucket: str) -> str:
    refused: dict[str, Any] = {
        "Sid": "EncryptedTransportOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        # A refusal, which has to cover the bucket and all that is in it.
        "Resource": [bucket, f"{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return _document([refused])
