"""Make alarms for problems that need a person, a dashboard, and saved queries of the logs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from pulumi_component import inputs

OLDEST_EVENT = 300
"""Seconds that an event may wait before it is an alarm: the orchestrator cannot keep up, or every
call of it fails."""

LASTING = 5
"""Periods for which something has to go on before it is an alarm, if it may happen now and then."""

METRICS = "mini-workflow"
"""The namespace of what the functions themselves count (docs/aws.md, "What to watch")."""
LAMBDA, SQS = "AWS/Lambda", "AWS/SQS"
PIPES, SCHEDULER = "AWS/EventBridge/Pipes", "AWS/Scheduler"

_PERIOD = 60


def alarms(
    name: str,
    set_aside: Mapping[str, aws.sqs.Queue],
    events: aws.sqs.Queue,
    workers: Mapping[str, aws.lambda_.Function],
    orchestrator: aws.lambda_.Function,
    pipes: Mapping[str, aws.pipes.Pipe],
    schedules: aws.scheduler.ScheduleGroup,
    topics: Sequence[pulumi.Input[str]],
    tags: inputs.Map,
    opts: pulumi.ResourceOptions,
) -> None:
    """Make an alarm for everything that needs a person."""

    def alarm(
        what: str,
        description: str,
        metric: str,
        dimensions: Mapping[str, pulumi.Input[str]],
        more_than: float = 0,
        periods: int = 1,
        statistic: str = "Sum",
    ) -> None:
        namespace, _, metric_name = metric.rpartition(" ")
        aws.cloudwatch.MetricAlarm(
            f"{name}-{what}-alarm",
            alarm_description=f"{name}: {description}",
            namespace=namespace,
            metric_name=metric_name,
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
            f"messages of the queue of {what} could not be processed",
            f"{SQS} ApproximateNumberOfMessagesVisible",
            {"QueueName": queue.name},
            statistic="Maximum",
        )
    alarm(
        "events-age",
        f"events have waited for more than {OLDEST_EVENT} seconds",
        f"{SQS} ApproximateAgeOfOldestMessage",
        {"QueueName": events.name},
        OLDEST_EVENT,
        statistic="Maximum",
    )
    for what, description, metric, periods in (
        ("orchestrator-errors", "calls of the orchestrator fail", f"{LAMBDA} Errors", LASTING),
        (
            "orchestrator-throttles",
            "the orchestrator gets no free call",
            f"{LAMBDA} Throttles",
            LASTING,
        ),
        ("blocked", "executions wait for somebody to look at them", f"{METRICS} Blocked", 1),
        ("malformed", "messages could not be read", f"{METRICS} Malformed", 1),
    ):
        of = "Function" if metric.startswith(METRICS) else "FunctionName"
        alarm(what, description, metric, {of: orchestrator.name}, periods=periods)
    for which, worker in workers.items():
        for what, description, metric, periods in (
            ("throttles", "tasks wait for a free call", "Throttles", LASTING),
            ("deaths", "attempts die or wait for too long", "AsyncEventsDropped", LASTING),
            ("news", "news of dead attempts is lost", "DestinationDeliveryFailures", 1),
        ):
            alarm(
                f"{which}-{what}",
                description,
                f"{LAMBDA} {metric}",
                {"FunctionName": worker.name},
                periods=periods,
            )
    for what, pipe in pipes.items():
        alarm(
            f"{what}-pipe",
            f"the pipe of {what} fails",
            f"{PIPES} ExecutionFailed",
            {"PipeName": pipe.name},
            periods=LASTING,
        )
    alarm(
        "schedules-dropped",
        "long timers could not be sent",
        f"{SCHEDULER} InvocationDroppedCount",
        {"ScheduleGroup": schedules.name},
    )


QUERIES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "failed-attempts": (
        ("orchestrator",),
        """fields @timestamp, execution_id, workflow, message
| filter logger = "mini_workflow.engine.executions" and level = "WARNING"
| sort @timestamp desc | limit 200""",
    ),
    "blocked-executions": (
        ("orchestrator",),
        """fields @timestamp, execution_id, workflow, message
| filter logger = "mini_workflow.engine.executions" and level = "ERROR"
| sort @timestamp desc | limit 200""",
    ),
    "ended-executions": (
        ("orchestrator",),
        """filter logger = "mini_workflow.engine.executions" and level = "INFO"
| parse message /^\\[[^\\]]+\\] (?<status>[a-z]+)/
| stats count(*) as executions by workflow, status
| sort executions desc""",
    ),
    "one-execution": (
        ("orchestrator", "worker"),
        """fields @timestamp, level, logger, message, exception
| filter execution_id = "ID"
| sort @timestamp asc | limit 1000""",
    ),
    "throttles": (
        ("orchestrator", "worker"),
        """fields @timestamp, execution_id, level, message
| filter message like /(?i)throttl|TooManyRequests|SlowDown/
| sort @timestamp desc | limit 200""",
    ),
    "slowest-tasks": (
        ("worker",),
        """filter ispresent(AttemptDuration)
| stats count(*) as attempts, sum(FailedAttempts) as failed, avg(AttemptDuration) as average,
    pct(AttemptDuration, 95) as p95, max(AttemptDuration) as longest by Task
| sort longest desc""",
    ),
    "slowest-batches": (
        ("orchestrator",),
        """fields @timestamp, BatchDuration, Messages, Turns, Events, Redelivered
| filter ispresent(BatchDuration)
| sort BatchDuration desc | limit 50""",
    ),
    "cold-starts": (
        ("orchestrator", "worker"),
        """filter type = "platform.report"
| stats count(*) as calls, count(record.metrics.initDurationMs) as cold,
    max(record.metrics.initDurationMs) as longest by @log, bin(1h)""",
    ),
}
"""The kinds of functions whose logs a query is about, and the query, by its name."""


def queries(
    name: str,
    events: aws.sqs.Queue,
    logs: Mapping[str, Sequence[aws.cloudwatch.LogGroup]],
    opts: pulumi.ResourceOptions,
) -> None:
    """Save the queries of the logs for CloudWatch Logs Insights, in a folder of the engine's name."""
    for what, (functions, query) in QUERIES.items():
        aws.cloudwatch.QueryDefinition(
            f"{name}-{what}-query",
            name=events.name.apply(
                lambda queue, what=what: f"{queue.removesuffix('.fifo')}/{what}"
            ),
            log_group_names=[group.name for kind in functions for group in logs[kind]],
            query_string=query,
            opts=opts,
        )


def dashboard(
    name: str,
    queues: Mapping[str, aws.sqs.Queue],
    workers: Mapping[str, aws.lambda_.Function],
    orchestrator: aws.lambda_.Function,
    opts: pulumi.ResourceOptions,
) -> None:
    """Return a page that shows what waits, what runs, what fails, and how long it takes."""
    events = queues["events"]
    aws.cloudwatch.Dashboard(
        f"{name}-dashboard",
        dashboard_name=events.name.apply(lambda queue: queue.removesuffix(".fifo")),
        dashboard_body=pulumi.Output.all(
            queues={what: queue.name for what, queue in queues.items()},
            workers={what: function.name for what, function in workers.items()},
            orchestrator=orchestrator.name,
            arn=events.arn,
        ).apply(_body),
        opts=opts,
    )


def _body(known: Mapping[str, Any]) -> str:
    region = known["arn"].split(":")[3]
    queues, workers, orchestrator = known["queues"], known["workers"], known["orchestrator"]
    functions = {**workers, "orchestrator": orchestrator}

    def of(namespace: str, metric: str, dimension: str, names: Mapping[str, str]) -> list[Any]:
        return [
            [namespace, metric, dimension, name, {"label": label}] for label, name in names.items()
        ]

    def counted(function: str, *metrics: str, of: str = "") -> list[Any]:
        return [
            [METRICS, metric, "Function", function, {"label": f"{metric}{of}"}]
            for metric in metrics
        ]

    def counted_of_each(metric: str) -> list[Any]:
        return [
            line
            for which, function in workers.items()
            for line in counted(function, metric, of="" if which == "worker" else f" of {which}")
        ]

    graphs = [
        ("Turns and attempts", "Sum",
         [*counted(orchestrator, "Turns", "Events"), *counted_of_each("Attempts")]),
        ("Needs a person", "Sum", counted(orchestrator, "Blocked", "Malformed", "Redelivered")),
        ("Failed attempts", "Sum", counted_of_each("FailedAttempts")),
        ("Time of a batch and of an attempt, ms", "p90",
         [*counted(orchestrator, "BatchDuration"), *counted_of_each("AttemptDuration")]),
        ("Waiting", "Maximum", of(SQS, "ApproximateNumberOfMessagesVisible", "QueueName", queues)),
        ("Age of the oldest", "Maximum",
         of(SQS, "ApproximateAgeOfOldestMessage", "QueueName", queues)),
        ("Running", "Maximum", of(LAMBDA, "ConcurrentExecutions", "FunctionName", functions)),
        ("Throttled", "Sum", of(LAMBDA, "Throttles", "FunctionName", functions)),
        ("Calls", "Sum", of(LAMBDA, "Invocations", "FunctionName", functions)),
        ("Failures", "Sum", of(LAMBDA, "Errors", "FunctionName", functions)),
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
