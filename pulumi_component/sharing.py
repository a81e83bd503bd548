"""Grant functions of other accounts access to an engine that they are linked to.

Their own roles allow it by the link; its bucket, queue and orchestrator have to allow it, too.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import pulumi
import pulumi_aws as aws

from pulumi_component import policies


def share(
    name: str,
    principals: Sequence[str],
    events: aws.sqs.Queue,
    orchestrator: tuple[pulumi.Output[str], Any],
    opts: pulumi.ResourceOptions,
) -> None:
    """Let them send events and call the orchestrator, which is its name and alias. The bucket has a policy
    already.
    """
    if not principals:
        return
    aws.sqs.QueuePolicy(
        f"{name}-events-shared",
        queue_url=events.url,
        policy=events.arn.apply(
            lambda arn: policies.shared(principals, policies.sender_of_events(events=arn))
        ),
        opts=opts,
    )
    function, alias = orchestrator
    for one in principals:
        aws.lambda_.Permission(
            # The same for each of them, whichever others there are.
            f"{name}-orchestrator-shared-{sha256(one.encode()).hexdigest()[:8]}",
            function=function,
            qualifier=alias,
            principal=one,
            action="lambda:InvokeFunction",
            opts=opts,
        )
