"""Make pipes from a queue into the queue of events, with their roles."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_random as random

from pulumi_component import policies
from pulumi_component.options import EngineOptions

BATCH = 10
"""Messages at a time."""

# Pipes puts objects in as JSON, and strings between quotes but otherwise as they are: a quote or a
# line break in one of them ends the JSON there. So whole objects only, of which the library picks
# what it needs. What is missing becomes an empty string. Never the whole body alone, which would
# not be JSON any more.
TIMERS: Mapping[str, str] = {
    "of": "timers",
    "group": "$.messageAttributes.executionId.stringValue",
    "template": '{"event": <$.body>}',
}
"""A timer's message is an event, under its execution's id, that waited in the queue."""

FAILURES: Mapping[str, str] = {
    "of": "failures",
    "group": "$.body.requestPayload.execution_id",
    "template": (
        '{"lost": {"request": <$.body.requestPayload>, "context": <$.body.requestContext>, '
        '"response": <$.body.responsePayload>}}'
    ),
}
"""What Lambda tells of an attempt that died. The request comes first: whatever stands behind it, the
attempt can be found.
"""


def pipe(
    name: str,
    source: aws.sqs.Queue,
    target: aws.sqs.Queue,
    kind: Mapping[str, str],
    suffix: random.RandomId,
    options: EngineOptions,
    opts: pulumi.ResourceOptions,
) -> aws.pipes.Pipe:
    """Return a pipe from `source` to the FIFO queue `target`, of the kind TIMERS or FAILURES.

    The role trusts this one pipe, whose name therefore is decided beforehand. It does not depend on
    the engine's, so that the pipe stays when the engine is renamed.
    """
    own_name = suffix.hex.apply(lambda unique: f"mini-workflow-{kind['of']}-{unique}")
    logs = aws.cloudwatch.LogGroup(
        f"{name}-logs",
        # For groups with this prefix AWS does not have to change an account's policy of limited
        # size. Source: CloudWatch Logs User Guide, "Enable logging from AWS services".
        name=own_name.apply(lambda pipe: f"/aws/vendedlogs/pipes/{pipe}"),
        retention_in_days=options.log_retention,
        kms_key_id=options.kms_key,
        tags=options.tags,
        opts=opts,
    )
    role = aws.iam.Role(
        f"{name}-role",
        assume_role_policy=pulumi.Output.all(source.arn, own_name).apply(_trust),
        permissions_boundary=options.permissions_boundary,
        tags=options.tags,
        opts=opts,
    )
    policy = aws.iam.RolePolicy(
        f"{name}-policy",
        role=role.name,
        policy=pulumi.Output.all(
            source=source.arn, target=target.arn, logs=logs.arn, kms=options.kms_key
        ).apply(
            lambda arns: policies.allowing(
                [
                    *policies.pipe(source=arns["source"], target=arns["target"]),
                    *policies.logging(arns["logs"]),
                    *policies.encrypted(arns["kms"]),
                ]
            )
        ),
        opts=opts,
    )
    # Pipes checks at creation whether the role may receive. The name is fixed, so that what
    # replaces a pipe cannot be made before the old one is gone.
    checked = pulumi.ResourceOptions(depends_on=[policy], delete_before_replace=True)
    return aws.pipes.Pipe(
        name,
        name=own_name,
        role_arn=role.arn,
        source=source.arn,
        target=target.arn,
        source_parameters={"sqs_queue_parameters": {"batch_size": BATCH}},
        target_parameters={
            "input_template": kind["template"],
            "sqs_queue_parameters": {
                "message_group_id": kind["group"],
                "message_deduplication_id": "$.messageId",
            },
        },
        # What could not be moved, and why; never what was in it.
        log_configuration={
            "level": "ERROR",
            "cloudwatch_logs_log_destination": {"log_group_arn": logs.arn},
        },
        tags=options.tags,
        opts=pulumi.ResourceOptions.merge(opts, checked),
    )


def account_of(arn: str) -> str:
    """Return the account that an ARN is in."""
    return arn.split(":")[4]


def _trust(known: list[Any]) -> str:
    queue, name = known
    partition, region, account = (queue.split(":")[place] for place in (1, 3, 4))
    return policies.trust("pipes", account, f"arn:{partition}:pipes:{region}:{account}:pipe/{name}")
