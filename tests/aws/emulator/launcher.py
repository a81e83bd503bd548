"""The process of the emulator: ministack, with what our wiring needs and it lacks.

Runs in an environment of its own (requirements/emulator.txt); server.py starts it. The additions:

- FIFO queues feed a function in parallel across message groups. The queue itself keeps the order
  within a group: while messages of one are in flight it hands out no others.
- Pipes from queue to queue: dynamic values, input templates, bodies in JSON parsed once.
- Schedules: universal targets that send to a queue, time zones, client tokens, checked
  expressions, and a look at the clock every second instead of every ten.
- What a function was handed when it failed or died is in the queue again at once: AWS waits for the
  end of the visibility timeout, which is longer than the function may run.
- A throttled asynchronous invocation is tried again, and is not counted as an attempt.
- Versions and aliases: an alias with weights is of several versions, one for each call; what is set for
  asynchronous invocations, and concurrency, holds for calls by the version or alias that it is set for.
- Log groups are given a key, and lose it, also when they are there already. Snapshots are
  taken of the runtime that functions have here, too.
- A stack reserves calls for a function.
- Permissions: the batch actions of SQS are those of single messages; a schedule is in its group; to
  look at one alias is not to list all.
- Calls are recorded (recorder.py).

They replace functions inside of ministack, so that its version is pinned exactly; test_emulator.py
notices when a new version needs another look.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import os
import random
import re
import signal
import sys
import threading
import time
import types
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app
from ministack.core import iam_actions, responses
from ministack.services import cloudwatch_logs, eventbridge, lambda_svc, pipes, scheduler, sqs
from ministack.services.cloudformation import provisioners
from recorder import Recorder

logger = logging.getLogger("launcher")

# Queues that feed functions


def parallel_batches(esm: dict, function: dict, config: dict, queue: dict | None = None) -> int:
    limit = (esm.get("ScalingConfig") or {}).get("MaximumConcurrency") or 10
    reserved = lambda_svc._reserved_concurrency(function, config)
    return limit if reserved is None else min(limit, reserved)


def run_batch(run, esm: dict, function: dict, event: dict, batch: list[dict], *queue) -> None:
    results = []

    def execute(*arguments) -> dict:
        results.append(lambda_svc._execute_function(*arguments))
        return results[-1]

    with_globals(run, _execute_function=execute)(esm, function, event, batch, *queue)
    if results[-1].get("error") and not results[-1].get("throttle"):
        handed = {message["receipt_handle"] for message in batch}
        with sqs._queues_lock:
            for message in sqs._get_q(queue[0])["messages"]:
                if message["receipt_handle"] in handed:
                    message["visible_at"] = time.time()
        lambda_svc._esm_wake.set()


# Asynchronous invocations

THROTTLE_PAUSE = 0.3

called_by: contextvars.ContextVar[str | None] = contextvars.ContextVar("called_by", default=None)
"""The version or alias by which a function is called, as whoever calls it has said."""


def base(config: dict) -> dict:
    """A function as a whole, from the configuration of one of its versions."""
    return lambda_svc._functions.get(config.get("FunctionName", "")) or {}


def invoke_async(invoke, record: dict, event: dict) -> None:
    """Settings for asynchronous calls are those of the qualifier that was called. Source: Lambda API
    Reference, PutFunctionEventInvokeConfig.
    """
    qualifier = called_by.get()
    settings = base(record["config"]).get("event_invoke_configs") or {}
    own = settings.get(qualifier if qualifier not in (None, "$LATEST") else "")
    invoke({**record, "event_invoke_config": own, "event_invoke_configs": {}}, event)


def patient(execute):
    """A way to run a function that waits while the function is throttled."""

    def run(function: dict, event: dict) -> dict:
        while (result := execute(function, event)).get("throttle"):
            time.sleep(THROTTLE_PAUSE)
        return result

    return run


def with_globals(function, **changed):
    """The same function, with other values for some of its module's names."""
    names = {**function.__globals__, **changed}
    return types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )


# Versions and aliases


def weighted(function: dict | None, qualifier: str | None) -> str | None:
    """The version that a call by an alias goes to, where the alias has weights; else the qualifier."""
    alias = ((function or {}).get("aliases") or {}).get(qualifier)
    weights = ((alias or {}).get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    drawn = random.random()
    for version, weight in weights.items():
        drawn -= weight
        if drawn < 0:
            return version
    return alias["FunctionVersion"] if weights else qualifier


async def invoke(original, name: str, event, headers, qualifier=None, query=None):
    """A call, by the version that its alias draws."""
    asked = qualifier or ((query or {}).get("Qualifier") or [None])[0]
    asked = asked[0] if isinstance(asked, list) else asked
    token = called_by.set(asked)
    try:
        drawn = weighted(lambda_svc._functions.get(name), asked)
        return await original(name, event, headers, drawn, {} if drawn else query)
    finally:
        called_by.reset(token)


def record_of(find, name: str, qualifier: str | None):
    """The version for a batch of a queue, which an alias draws too."""
    return find(name, weighted(lambda_svc._functions.get(name), qualifier))


def reserved(find, function: dict, config: dict) -> int | None:
    """What is reserved for a function is for all of its versions."""
    return find(base(config) or function, config)


def create_of_stack(create, logical: str, properties: dict, stack: str):
    """A function as a stack has it, with the calls that are reserved for it."""
    name, made = create(logical, properties, stack)
    calls = properties.get("ReservedConcurrentExecutions")
    if calls is not None:
        lambda_svc._functions[name]["concurrency"] = int(calls)
    return name, made


# Log groups


async def handle_logs(handle, method, path, headers: dict, body, query):
    """The keys of groups that are there already, too."""
    action = headers.get("x-amz-target", "").rpartition(".")[2]
    if action not in ("AssociateKmsKey", "DisassociateKmsKey"):
        return await handle(method, path, headers, body, query)
    asked = json.loads(body)
    group = cloudwatch_logs._log_groups.get(asked["logGroupName"])
    if group is None:
        return responses.error_response_json(
            "ResourceNotFoundException", "The specified log group does not exist.", 400
        )
    group["kmsKeyId"] = asked.get("kmsKeyId")
    return responses.json_response({})


# Schedules

EXPRESSION = re.compile(r"at\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\)|(rate|cron)\(.+\)")
UNIVERSAL_SEND = "arn:aws:scheduler:::aws-sdk:sqs:sendmessage"

client_tokens: dict[tuple[str, str, str, str], str] = {}


def create_schedule(create, name: str, body: dict):
    group = body.get("GroupName", "default")
    expression = body.get("ScheduleExpression", "")
    if not EXPRESSION.fullmatch(expression):
        message = f"Invalid Schedule Expression {expression}."
        return scheduler._error(400, "ValidationException", message)
    key = (responses.get_account_id(), responses.get_region(), group, name)
    token = body.get("ClientToken")
    if token and client_tokens.get(key) == token:
        return scheduler._json_resp(200, {"ScheduleArn": scheduler._schedule_arn(group, name)})
    answer = create(name, body)
    if answer[0] == 200:
        if token:
            client_tokens[key] = token
        zone = body.get("ScheduleExpressionTimezone", "UTC")
        if expression.startswith("at(") and zone != "UTC":
            local = datetime.fromisoformat(expression[3:-1]).replace(tzinfo=ZoneInfo(zone))
            moment = local.astimezone(UTC).strftime("at(%Y-%m-%dT%H:%M:%S)")
            scheduler._schedules[f"{group}/{name}"]["ScheduleExpression"] = moment
    return answer


def invoke_target(invoke, target: dict, *rest):
    if target.get("Arn", "").lower() != UNIVERSAL_SEND:
        return invoke(target, *rest)
    request = json.loads(target.get("Input") or "{}")
    with sqs._queues_lock:
        return sqs._act_send_message(request, request["QueueUrl"])


# Pipes

PIPE_PAUSE = 0.05
KEPT = ("SourceParameters", "TargetParameters")


def create_pipe(create, name: str, body: dict):
    answer = create(name, body)
    if answer[0] == 200:
        pipes._pipes[name].update({key: body[key] for key in KEPT if key in body})
    return answer


def describe_pipe(describe, pipe: dict) -> dict:
    return describe(pipe) | {key: pipe[key] for key in KEPT if key in pipe}


def lookup(record: dict, path: str):
    """What a JSON path such as $.body.id leads to; an empty string if it leads nowhere."""
    value = record
    for step in path.removeprefix("$").strip(".").split("."):
        if not isinstance(value, dict) or step not in value:
            return ""
        value = value[step]
    return value


def dynamic(record: dict, value: str | None):
    is_path = isinstance(value, str) and value.startswith("$.")
    return lookup(record, value) if is_path else value


def rendered(template: str, record: dict) -> str:
    """A template with its <$.paths> filled in.

    A string is put there as it is, with quotes around it unless it stands between quotes: what is in
    it is not escaped, so that a quote or a line break ends the JSON. Objects, lists, numbers and null
    are written as JSON.
    """

    def fill(match: re.Match[str]) -> str:
        value = lookup(record, match["path"])
        if not isinstance(value, str):
            return f"{match['before']}{json.dumps(value)}{match['after']}"
        before, after = (match["before"] or '"'), (match["after"] or '"')
        return f"{before}{value}{after}"

    return re.sub(r'(?P<before>"?)<(?P<path>\$[^>]*)>(?P<after>"?)', fill, template)


def as_record(message: dict, source: str) -> dict:
    """A message in the form in which a pipe sees it."""
    body = message["body"]
    with contextlib.suppress(ValueError):
        body = json.loads(body)
    attributes = message.get("message_attributes") or {}
    return {
        "messageId": message["id"],
        "receiptHandle": message["receipt_handle"],
        "body": body,
        "attributes": {"ApproximateReceiveCount": str(message["receive_count"])},
        "messageAttributes": lambda_svc._sqs_message_attributes_to_camel_case(attributes),
        "eventSource": "aws:sqs",
        "eventSourceARN": source,
        "awsRegion": responses.get_region(),
    }


def pump(pipe: dict) -> bool:
    """Move one batch; whether there was anything to move."""
    if pipe["CurrentState"] != "RUNNING":
        return False
    source, target = sqs._queue_by_arn(pipe["Source"]), sqs._queue_by_arn(pipe["Target"])
    if source is None or target is None:
        return False
    into = pipe.get("TargetParameters") or {}
    queue = into.get("SqsQueueParameters") or {}
    origin = (pipe.get("SourceParameters") or {}).get("SqsQueueParameters") or {}
    batch = sqs._receive_messages_for_esm(source["url"], origin.get("BatchSize", 10))
    moved = set()
    for message in batch:
        record = as_record(message, pipe["Source"])
        template = into.get("InputTemplate")
        request = {
            "QueueUrl": target["url"],
            "MessageBody": rendered(template, record) if template else json.dumps(record),
            "MessageGroupId": dynamic(record, queue.get("MessageGroupId")),
            "MessageDeduplicationId": dynamic(record, queue.get("MessageDeduplicationId")),
        }
        try:
            with sqs._queues_lock:
                sqs._act_send_message({k: v for k, v in request.items() if v}, target["url"])
        except Exception:  # it stays in the queue, as it would at AWS
            logger.exception("pipe %s: a message cannot be sent", pipe["Name"])
        else:
            moved.add(message["receipt_handle"])
    sqs._delete_messages_for_esm(source["url"], moved)
    if moved:
        lambda_svc._esm_wake.set()
    return bool(batch)


def pump_all() -> None:
    while True:
        busy = False
        for account, region, pipe in pipes._iter_all_pipes():
            in_account = responses._request_account_id.set(account)
            in_region = responses._request_region.set(region)
            try:
                busy |= pump(pipe)
            except Exception:
                logger.exception("pipe %s", pipe["Name"])
            finally:
                responses._request_region.reset(in_region)
                responses._request_account_id.reset(in_account)
        if not busy:
            time.sleep(PIPE_PAUSE)


# Permissions


def extract_action(extract, service: str, *request):
    """The action to be allowed. Source: SQS Developer Guide, "Amazon SQS batch actions"."""
    action = extract(service, *request)
    if action == "lambda:ListAliases" and "/aliases/" in request[1]:
        return "lambda:GetAlias"  # the path names one
    return action.removesuffix("Batch") if service == "sqs" and action else action


def extract_resource(
    extract, service: str, method: str, path: str, headers, body: bytes, query, *at
):
    resource = extract(service, method, path, headers, body, query, *at)
    if service != "scheduler" or ":schedule/default/" not in resource:
        return resource
    with contextlib.suppress(ValueError):
        query = {**query, **json.loads(body or b"{}")}
    named = query.get("groupName") or query.get("GroupName") or "default"
    group = named[0] if isinstance(named, list) else named
    return resource.replace(":schedule/default/", f":schedule/{group}/")


# The process


def extend() -> None:
    lambda_svc._sqs_esm_concurrency = parallel_batches
    lambda_svc.invoke_async_with_retry = with_globals(
        lambda_svc.invoke_async_with_retry, _execute_function=patient(lambda_svc._execute_function)
    )
    # What an account has as a rule is told, although fewer run at a time here.
    lambda_svc._get_account_settings = with_globals(
        lambda_svc._get_account_settings, _ACCOUNT_CONCURRENCY_CAP=1_000
    )
    scheduler._SCHEDULE_TICK_INTERVAL = 1
    lambda_svc._snapstart_runtime_supported = lambda runtime: True
    of_stack = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    of_stack["create"] = around(of_stack["create"], create_of_stack)
    for module, name, extended in (
        (lambda_svc, "_run_sqs_batch", run_batch),
        (lambda_svc, "_get_func_record_for_qualifier", record_of),
        (lambda_svc, "_reserved_concurrency", reserved),
        (lambda_svc, "invoke_async_with_retry", invoke_async),
        (lambda_svc, "_invoke", invoke),
        (scheduler, "_create_schedule", create_schedule),
        (eventbridge, "_invoke_target", invoke_target),
        (pipes, "_create_pipe", create_pipe),
        (pipes, "_describe_response", describe_pipe),
        (cloudwatch_logs, "handle_request", handle_logs),
        (iam_actions, "extract_iam_action", extract_action),
        (iam_actions, "extract_resource_arn", extract_resource),
    ):
        setattr(module, name, around(getattr(module, name), extended))
    threading.Thread(target=pump_all, daemon=True, name="pipes").start()


def around(original, extended):
    return lambda *arguments: extended(original, *arguments)


def end_with_parent() -> None:
    """Stop when the process that started this one has ended, however it ended."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main(listening: int) -> None:
    threading.Thread(target=end_with_parent, daemon=True, name="parent").start()
    extend()
    config = Config()
    config.bind = [f"fd://{listening}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    asyncio.run(serve(Recorder(app), config))


if __name__ == "__main__":
    main(int(sys.argv[1]))
