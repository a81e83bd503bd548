"""Alarms for what needs a person, and a dashboard."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from pulumi_component import inputs

OLDEST_EVENT = 300
"""Seconds that an event may wait before it is an alarm: the orchestrator cannot keep up, or every
call of it fails."""

_PERIOD = 60


def alarms(
    name: str,
    set_aside: Mapping[str, aws.sqs.Queue],
    events: aws.sqs.Queue,
    orchestrator: aws.lambda_.Function,
    topics: Sequence[pulumi.Input[str]],
    tags: inputs.Map,
    opts: pulumi.ResourceOptions,
) -> None:
    """An alarm for each queue with messages that could not be processed, and two for delays."""

    def alarm(
        what: str,
        description: str,
        namespace: str,
        metric: str,
        dimensions: Mapping[str, pulumi.Input[str]],
        more_than: float,
        periods: int = 1,
        statistic: str = "Maximum",
    ) -> None:
        aws.cloudwatch.MetricAlarm(
            f"{name}-{what}-alarm",
            alarm_description=description,
            namespace=namespace,
            metric_name=metric,
            dimensions=dimensions,
            statistic=statistic,
            comparison_operator="GreaterThanThreshold",
            threshold=more_than,
            period=_PERIOD,
            evaluation_periods=periods,
            treat_missing_data="notBreaching",
            alarm_actions=list(topics),
            ok_actions=list(topics),
            tags=tags,
            opts=opts,
        )

    for what, queue in set_aside.items():
        alarm(
            f"{what}-dlq",
            f"{name}: messages of the queue of {what} could not be processed",
            "AWS/SQS",
            "ApproximateNumberOfMessagesVisible",
            {"QueueName": queue.name},
            0,
        )
    alarm(
        "events-age",
        f"{name}: events have waited for more than {OLDEST_EVENT} seconds",
        "AWS/SQS",
        "ApproximateAgeOfOldestMessage",
        {"QueueName": events.name},
        OLDEST_EVENT,
    )
    alarm(
        "orchestrator-errors",
        f"{name}: calls of the orchestrator fail",
        "AWS/Lambda",
        "Errors",
        {"FunctionName": orchestrator.name},
        0,
        periods=5,
        statistic="Sum",
    )


def dashboard(
    name: str,
    events: aws.sqs.Queue,
    timers: aws.sqs.Queue,
    worker: aws.lambda_.Function,
    orchestrator: aws.lambda_.Function,
    opts: pulumi.ResourceOptions,
) -> None:
    """One page: what waits, what runs, what fails, and how long it takes."""
    aws.cloudwatch.Dashboard(
        f"{name}-dashboard",
        dashboard_name=events.name.apply(lambda queue: queue.removesuffix(".fifo")),
        dashboard_body=pulumi.Output.all(
            events=events.name,
            timers=timers.name,
            worker=worker.name,
            orchestrator=orchestrator.name,
            arn=events.arn,
        ).apply(_body),
        opts=opts,
    )


def _body(known: Mapping[str, str]) -> str:
    region = known["arn"].split(":")[3]
    queues = [("events", known["events"]), ("timers", known["timers"])]
    functions = [("orchestrator", known["orchestrator"]), ("worker", known["worker"])]

    def rows(namespace: str, metric: str, dimension: str, of: list[tuple[str, str]]) -> list[Any]:
        return [[namespace, metric, dimension, name, {"label": label}] for label, name in of]

    graphs = [
        ("Waiting", "Maximum",
         rows("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queues)),
        ("Age of the oldest", "Maximum",
         rows("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queues)),
        ("Running", "Maximum",
         rows("AWS/Lambda", "ConcurrentExecutions", "FunctionName", functions)),
        ("Calls", "Sum", rows("AWS/Lambda", "Invocations", "FunctionName", functions)),
        ("Failures", "Sum", rows("AWS/Lambda", "Errors", "FunctionName", functions)),
        ("Duration", "p90", rows("AWS/Lambda", "Duration", "FunctionName", functions)),
    ]  # fmt: skip
    widgets = [
        {
            "type": "metric",
            "x": 12 * (number % 2),
            "y": 6 * (number // 2),
            "width": 12,
            "height": 6,
            "properties": {
                "title": title,
                "stat": statistic,
                "metrics": metrics,
                "region": region,
                "period": _PERIOD,
                "view": "timeSeries",
            },
        }
        for number, (title, statistic, metrics) in enumerate(graphs)
    ]
    return json.dumps({"widgets": widgets})
