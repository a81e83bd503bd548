"""The queues of dead letters of an engine on the emulator, found as those of a deployed one are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mini_workflow.settings import (
    DLQ_URL,
    QUEUE_URL,
    SCHEDULE_DLQ_ARN,
    TIMER_QUEUE_URL,
    WORKER_FUNCTION_NAME,
)
from tests.aws.emulator import functions
from tests.aws.emulator.server import Server

NOTHING = {"handler.py": "def handle(event, context):\n    return event\n"}


def deploy_queues(server: Server, name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Give the queues of events and timers their dead letters, and make those of failures and
    schedules, with the worker function that names the former. The settings of all.
    """
    sqs = server.client("sqs")

    def queue(suffix: str, **attributes: str) -> str:
        return sqs.create_queue(QueueName=f"{name}-{suffix}", Attributes=attributes)["QueueUrl"]

    def arn(url: str) -> str:
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return found["Attributes"]["QueueArn"]

    def redrive(source: str, letters: str) -> None:
        policy = json.dumps({"deadLetterTargetArn": arn(letters), "maxReceiveCount": 900})
        sqs.set_queue_attributes(QueueUrl=source, Attributes={"RedrivePolicy": policy})

    failures = queue("failures")
    redrive(environment[QUEUE_URL], environment[DLQ_URL])
    redrive(environment[TIMER_QUEUE_URL], queue("timers-dlq"))
    redrive(failures, queue("failures-dlq"))
    worker = environment[WORKER_FUNCTION_NAME]
    functions.create(server, worker, "handler.handle", functions.archive(NOTHING))
    server.client("lambda").put_function_event_invoke_config(
        FunctionName=worker, DestinationConfig={"OnFailure": {"Destination": arn(failures)}}
    )
    return {**environment, SCHEDULE_DLQ_ARN: arn(queue("schedules-dlq"))}


def url_of(server: Server, name: str) -> str:
    return server.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]


def taken(server: Server, url: str) -> list[dict[str, Any]]:
    """All messages of a queue, taken out."""
    sqs, found = server.client("sqs"), list[dict[str, Any]]()
    while True:
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        if not answer.get("Messages"):
            return found
        for message in answer["Messages"]:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            found.append(message)
