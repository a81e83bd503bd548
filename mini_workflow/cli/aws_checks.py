"""Check an engine on AWS for `doctor`: settings, queues, functions, and permissions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from mini_workflow import settings
from mini_workflow.cli.backends import AWSTarget
from mini_workflow.cli.failures import in_one_line
from mini_workflow.doctor.findings import Finding
from mini_workflow.errors import SettingMissing
from mini_workflow.stores.aws.clients import import_boto3

if TYPE_CHECKING:
    from mini_workflow.runtimes.aws.dead_letters import DeadLetterQueue

BACKLOG: Final = "ApproximateNumberOfMessages"

NEEDED: Final = (
    settings.BUCKET_NAME,
    settings.QUEUE_URL,
    settings.ORCHESTRATOR_FUNCTION_NAME,
    settings.SIGNING_KEY,
)
"""The settings that every client of an engine needs. The others are examined where they are set."""

DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "AccessDeniedFault"})


def examine_aws(target: AWSTarget) -> Iterator[Finding]:
    """Check settings, queues, functions and dead letters. Change nothing, and run no function."""
    if find_spec("boto3") is None:
        return  # opening the store reports that
    environment = {**os.environ, **target.environment()}
    found = settings.Settings(environment)
    missing = [name for name in settings.MEANING if not _is_set(found, name)]
    if environment.get(settings.SIGNING_KEY_ARN) and settings.SIGNING_KEY in missing:
        missing.remove(settings.SIGNING_KEY)
    for name in NEEDED:
        if name not in missing:
            continue
        yield Finding(
            "problem",
            f"{name} is not set: {settings.MEANING[name]}",
            "name the Pulumi stack with --stack, or set the variable",
        )
    for what, needed, service, permission, call in _CALLS:
        if not set(needed) & set(missing):
            yield _check(what, service, permission, lambda c, call=call: call(c, environment))
    with target.client() as client:
        yield from _dead_letters(client.dead_letters().queues())


def _is_set(found: settings.Settings, name: str) -> bool:
    try:
        found.get(name)
    except SettingMissing:
        return False
    return True


def _check(what: str, service: str, permission: str, call: Callable[[Any], object]) -> Finding:
    try:
        call(_client(service))
    except Exception as error:
        return Finding("problem", f"{what}: {in_one_line(error)}", _remedy(error, permission))
    return Finding("ok", f"{what} answers")


def _remedy(error: Exception, permission: str) -> str:
    response: Any = getattr(error, "response", {})
    if response.get("Error", {}).get("Code") in DENIED:
        return f"allow {permission} to the role or user of this process"
    return "check the names, the region (AWS_REGION) and the credentials; `pulumi up` makes what is missing"


def _dead_letters(queues: list[DeadLetterQueue]) -> Iterator[Finding]:
    problems: dict[str, list[str]] = {}
    for queue in queues:
        if queue.problem:
            problems.setdefault(queue.problem, []).append(queue.kind)
        elif queue.waiting:
            yield Finding(
                "problem",
                f"dead letters of {queue.kind}: {queue.waiting}",
                f"mini-workflow dlq ls --queue {queue.kind} shows them; fix the cause, then "
                f"mini-workflow dlq redrive --queue {queue.kind} sends them again",
            )
    for problem, kinds in problems.items():
        yield Finding(
            "problem",
            f"the dead letters of {', '.join(kinds)} cannot be found: {problem}",
            "allow lambda:GetFunctionConfiguration, lambda:GetFunctionEventInvokeConfig, "
            "sqs:GetQueueUrl and sqs:GetQueueAttributes to the role or user of this process",
        )
    if not problems and not any(queue.waiting for queue in queues):
        yield Finding("ok", "there are no dead letters")


def _client(service: str) -> Any:
    boto3 = import_boto3()
    from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

    config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
    return boto3.client(service, config=config)


def _queue(name: str) -> Callable[[Any, Mapping[str, str]], object]:
    return lambda client, found: client.get_queue_attributes(
        QueueUrl=found[name], AttributeNames=[BACKLOG]
    )


def _may_invoke(name: str) -> Callable[[Any, Mapping[str, str]], object]:
    # A dry run asks whether the call would be allowed, and runs nothing.
    return lambda client, found: client.invoke(
        FunctionName=found[name], InvocationType="DryRun", Payload=b"{}"
    )


_CALLS: Final = (
    (
        "the queue of events",
        [settings.QUEUE_URL],
        "sqs",
        "sqs:GetQueueAttributes",
        _queue(settings.QUEUE_URL),
    ),
    (
        "the queue of timers",
        [settings.TIMER_QUEUE_URL],
        "sqs",
        "sqs:GetQueueAttributes",
        _queue(settings.TIMER_QUEUE_URL),
    ),
    (
        "the orchestrator function",
        [settings.ORCHESTRATOR_FUNCTION_NAME],
        "lambda",
        "lambda:InvokeFunction",
        _may_invoke(settings.ORCHESTRATOR_FUNCTION_NAME),
    ),
)
"""(what is checked, the settings that it needs, the service, the permission, the call)"""
