"""What the suites rely on in the emulator: a new version of it has to keep all of this."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from tests.aws.emulator import functions
from tests.aws.emulator.server import HEALTH, Server, emulator
from tests.paths import ROOT
from tests.waiting import eventually


def named(kind: str) -> str:
    return f"{kind}-{uuid4().hex[:8]}"


def queue(server: Server, **attributes: str) -> tuple[str, str]:
    """(URL, ARN) of a new queue; a FIFO queue if the attributes say so."""
    sqs = server.client("sqs")
    name = named("q") + (".fifo" if "FifoQueue" in attributes else "")
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    asked = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, asked["Attributes"]["QueueArn"]


FIFO = {
    "FifoQueue": "true",
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
}


def received(server: Server, url: str, count: int) -> list[dict[str, Any]]:
    """The next messages of a queue, taken out of it."""
    sqs = server.client("sqs")
    messages: list[dict[str, Any]] = []

    def take() -> bool:
        answer = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, AttributeNames=["All"]
        )
        for message in answer.get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            messages.append(message)
        return len(messages) >= count

    eventually(take)
    return messages


def deploy(
    server: Server, source: str, variables: dict[str, str] | None = None, **more: Any
) -> str:
    """The name of a new function with this source, `handle` in it."""
    name = named("f")
    package = functions.archive({"app.py": source})
    functions.create(server, name, "app.handle", package, variables=variables, **more)
    return name


def call(server: Server, name: str, event: Any, kind: str = "RequestResponse") -> Any:
    answer = server.client("lambda").invoke(
        FunctionName=name, InvocationType=kind, Payload=json.dumps(event)
    )
    return json.loads(answer["Payload"].read() or "null")


def eventually_raises(action: Callable[[], Any], error: type[Exception], text: str) -> None:
    def raises() -> bool:
        try:
            action()
        except error as raised:
            return text in str(raised)
        return False

    eventually(raises, every=0.05)


# The process


def test_it_listens_on_loopback_alone_and_tells_what_it_did(aws: Server) -> None:
    assert aws.endpoint.startswith("http://127.0.0.1:")
    assert aws.client("sts").get_caller_identity()["Account"] == aws.account
    assert "Running on" in aws.log.read_text()


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    source = (
        "import time; from pathlib import Path; from tests.aws.emulator.server import emulator\n"
        f"with emulator(folder=Path({str(tmp_path)!r})) as server:\n"
        "    print(server.process.pid, server.endpoint, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        _, endpoint = parent.stdout.readline().split()
        urllib.request.urlopen(endpoint + HEALTH).close()
        parent.send_signal(signal.SIGKILL)
    eventually_raises(
        lambda: urllib.request.urlopen(endpoint + HEALTH, timeout=5).close(), OSError, "refused"
    )


def test_state_outlives_the_process_where_asked(tmp_path: Path) -> None:
    with emulator(state_dir=tmp_path / "state") as server:
        url, _ = queue(server, **FIFO)
        server.client("s3").create_bucket(Bucket="kept")
        server.client("s3").put_object(Bucket="kept", Key="k", Body=b"v")
        server.client("sqs").send_message(
            QueueUrl=url, MessageBody="still here", MessageGroupId="g", MessageDeduplicationId="1"
        )
    with emulator(state_dir=tmp_path / "state") as server:
        assert server.client("s3").get_object(Bucket="kept", Key="k")["Body"].read() == b"v"
        assert [message["Body"] for message in received(server, url, 1)] == ["still here"]


def test_what_goes_wrong_is_told_with_the_log() -> None:
    with pytest.raises(ValueError, match="mine") as raised, emulator():
        raise ValueError("mine")
    assert "Running on" in raised.value.__notes__[0]


# S3


def test_conditional_writes(aws: Server) -> None:
    s3, bucket = aws.client("s3"), named("b")
    s3.create_bucket(Bucket=bucket)
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=first["ETag"])
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": first["ETag"]}):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            s3.put_object(Bucket=bucket, Key="k", Body=b"3", **condition)
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.put_object(Bucket=bucket, Key="missing", Body=b"3", IfMatch=first["ETag"])


# Functions


def test_functions_run_in_an_interpreter_with_nothing_but_what_lambda_has(aws: Server) -> None:
    name = deploy(
        aws,
        "import importlib.util, os, sys\n"
        "def handle(event, context):\n"
        "    found = [n for n in event if importlib.util.find_spec(n)]\n"
        "    return [found, sys.version_info[:2], os.environ['AWS_ENDPOINT_URL']]\n",
    )
    asked = ["boto3", "awslambdaric", "dill", "mini_workflow", "pytest", "ministack", "yaml"]
    version = list(sys.version_info[:2])
    assert call(aws, name, asked) == [["boto3", "awslambdaric"], version, aws.endpoint]


def test_functions_fail_as_at_aws(aws: Server) -> None:
    name = deploy(aws, "def handle(event, context):\n    raise KeyError(event)\n")
    answer = call(aws, name, "which")
    assert (answer["errorType"], answer["errorMessage"]) == ("KeyError", "'which'")


def test_an_attempt_that_dies_reaches_the_destination_for_failures(aws: Server) -> None:
    url, arn = queue(aws)
    name = deploy(aws, "import os\ndef handle(event, context):\n    os._exit(9)\n")
    aws.client("lambda").put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": arn}},
    )
    call(aws, name, {"seq": 7}, kind="Event")
    (message,) = received(aws, url, 1)
    told = json.loads(message["Body"])
    assert told["requestPayload"] == {"seq": 7}
    assert told["requestContext"]["condition"] == "RetriesExhausted"
    assert told["responsePayload"]["errorType"]


def test_throttled_events_are_not_lost(aws: Server) -> None:
    url, _ = queue(aws)
    name = deploy(
        aws,
        "import boto3, os\nsqs = boto3.client('sqs')\n"
        "def handle(event, context):\n"
        "    sqs.send_message(QueueUrl=os.environ['Q'], MessageBody=str(event))\n",
        {"Q": url},
    )
    aws.client("lambda").put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    aws.client("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    for number in range(8):
        call(aws, name, number, kind="Event")
    assert sorted(int(message["Body"]) for message in received(aws, url, 8)) == list(range(8))


# Queues


def fed(server: Server, source: str, arn: str, out: str, batch: int = 10) -> None:
    name = deploy(server, source, {"OUT": out})
    server.client("lambda").create_event_source_mapping(
        EventSourceArn=arn,
        FunctionName=name,
        BatchSize=batch,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": 4},
    )


def test_groups_run_side_by_side_and_each_in_order(aws: Server) -> None:
    url, arn = queue(aws, VisibilityTimeout="60", **FIFO)
    out, _ = queue(aws)
    fed(
        aws,
        "import boto3, json, os, time\nsqs = boto3.client('sqs')\n"
        "def handle(event, context):\n"
        "    for record in event['Records']:\n"
        "        began = time.time()\n"
        "        time.sleep(0.2)\n"
        "        told = json.dumps([record['attributes']['MessageGroupId'], record['body'],\n"
        "                           began, time.time()])\n"
        "        sqs.send_message(QueueUrl=os.environ['OUT'], MessageBody=told)\n",
        arn,
        out,
        batch=1,  # larger ones may hold all groups at once
    )
    sqs = aws.client("sqs")

    def send(group: str) -> None:
        for number in range(4):
            sqs.send_message(
                QueueUrl=url,
                MessageBody=str(number),
                MessageGroupId=group,
                MessageDeduplicationId=str(number),
            )

    senders = [threading.Thread(target=send, args=(group,)) for group in "abc"]
    for sender in senders:
        sender.start()
    spans = [json.loads(message["Body"]) for message in received(aws, out, 12)]
    for group in "abc":
        ordered = sorted((began, body) for name, body, began, _ in spans if name == group)
        assert [body for _, body in ordered] == ["0", "1", "2", "3"]
    overlapping = [
        (one[0], other[0])
        for one in spans
        for other in spans
        if one[0] < other[0] and one[2] < other[3] and other[2] < one[3]
    ]
    assert overlapping


def test_what_a_batch_reports_as_failed_comes_again(aws: Server) -> None:
    url, arn = queue(aws, VisibilityTimeout="30", **FIFO)
    out, _ = queue(aws)
    fed(
        aws,
        "import boto3, os\nsqs = boto3.client('sqs')\n"
        "def handle(event, context):\n"
        "    failed = []\n"
        "    for record in event['Records']:\n"
        "        count = int(record['attributes']['ApproximateReceiveCount'])\n"
        "        told = f\"{record['body']} {count}\"\n"
        "        sqs.send_message(QueueUrl=os.environ['OUT'], MessageBody=told)\n"
        "        if record['body'] == 'bad' and count == 1:\n"
        "            failed.append({'itemIdentifier': record['messageId']})\n"
        "            url = sqs.get_queue_url(\n"
        "                QueueName=record['eventSourceARN'].split(':')[-1])['QueueUrl']\n"
        "            sqs.change_message_visibility(QueueUrl=url, VisibilityTimeout=0,\n"
        "                                          ReceiptHandle=record['receiptHandle'])\n"
        "    return {'batchItemFailures': failed}\n",
        arn,
        out,
    )
    for body in ("good", "bad"):
        aws.client("sqs").send_message(
            QueueUrl=url, MessageBody=body, MessageGroupId=body, MessageDeduplicationId=body
        )
    told = sorted(message["Body"] for message in received(aws, out, 3))
    assert told == ["bad 1", "bad 2", "good 1"]


# Pipes


def piped(server: Server, template: str, group: str, deduplication: str) -> tuple[str, str]:
    """(URL of the source, URL of the target) of a new pipe to a FIFO queue."""
    source, source_arn = queue(server)
    target, target_arn = queue(server, **FIFO)
    server.client("pipes").create_pipe(
        Name=named("p"),
        Source=source_arn,
        Target=target_arn,
        RoleArn=f"arn:aws:iam::{server.account}:role/pipe",
        SourceParameters={"SqsQueueParameters": {"BatchSize": 10}},
        TargetParameters={
            "InputTemplate": template,
            "SqsQueueParameters": {
                "MessageGroupId": group,
                "MessageDeduplicationId": deduplication,
            },
        },
    )
    return source, target


def test_a_pipe_moves_a_message_after_its_delay(aws: Server) -> None:
    source, target = piped(
        aws,
        '{"event": <$.body>}',
        "$.messageAttributes.executionId.stringValue",
        "$.messageId",
    )
    sent = time.monotonic()
    message_id = aws.client("sqs").send_message(
        QueueUrl=source,
        MessageBody=json.dumps({"seq": 3, "text": 'a "quote"\n'}),
        DelaySeconds=1,
        MessageAttributes={"executionId": {"DataType": "String", "StringValue": "x-1"}},
    )["MessageId"]
    (message,) = received(aws, target, 1)
    assert time.monotonic() - sent >= 1
    assert json.loads(message["Body"]) == {"event": {"seq": 3, "text": 'a "quote"\n'}}
    assert message["Attributes"]["MessageGroupId"] == "x-1"
    assert message["Attributes"]["MessageDeduplicationId"] == message_id


def filled(server: Server, template: str, body: dict[str, Any]) -> str:
    """What a pipe makes of a message."""
    source, target = piped(server, template, "$.body.group", "$.messageId")
    server.client("sqs").send_message(
        QueueUrl=source, MessageBody=json.dumps({**body, "group": "g"})
    )
    (message,) = received(server, target, 1)
    return message["Body"]


def test_a_template_is_filled_in_by_type_and_a_path_to_nothing_is_empty(aws: Server) -> None:
    template = (
        '{"text": <$.body.text>, "n": <$.body.n>, "in": "<$.body.text>", "no": <$.body.no.x>}'
    )
    found = filled(aws, template, {"text": "a b", "n": 2})
    assert json.loads(found) == {"text": "a b", "n": 2, "in": "a b", "no": ""}


def test_a_template_escapes_no_text_but_in_whole_objects(aws: Server) -> None:
    """A field that has quotes in it ends the JSON around it."""
    body = {"error": {"text": 'a "b"\n'}}
    picked = filled(aws, '{"error": <$.body.error.text>, "in": "<$.body.error.text>"}', body)
    assert picked == '{"error": "a "b"\n", "in": "a "b"\n"}'
    whole = filled(aws, '{"error": <$.body.error>}', body)
    assert json.loads(whole) == {"error": {"text": 'a "b"\n'}}


# Schedules


def scheduled(server: Server, moment: datetime, target: dict[str, Any], **more: Any) -> str:
    name = named("s")
    server.client("scheduler").create_schedule(
        Name=name,
        ScheduleExpression=moment.strftime("at(%Y-%m-%dT%H:%M:%S)"),
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"RoleArn": f"arn:aws:iam::{server.account}:role/s", **target},
        ActionAfterCompletion="DELETE",
        **more,
    )
    return name


def sending(url: str) -> dict[str, Any]:
    request = {
        "QueueUrl": url,
        "MessageBody": "due",
        "MessageGroupId": "x-1",
        "MessageDeduplicationId": "d",
    }
    arn = "arn:aws:scheduler:::aws-sdk:sqs:sendMessage"
    return {"Arn": arn, "Input": json.dumps(request)}


def test_a_schedule_sends_to_a_fifo_queue_and_deletes_itself(aws: Server) -> None:
    url, _ = queue(aws, **FIFO)
    in_utc = datetime.now(UTC) + timedelta(seconds=2)
    name = scheduled(aws, in_utc, sending(url))
    (message,) = received(aws, url, 1)
    assert message["Body"] == "due"
    assert datetime.now(UTC) >= in_utc.replace(microsecond=0)
    eventually_raises(
        lambda: aws.client("scheduler").get_schedule(Name=name),
        ClientError,
        "ResourceNotFoundException",
    )


def test_schedules_know_time_zones_tokens_and_bad_expressions(aws: Server) -> None:
    url, _ = queue(aws, **FIFO)
    in_tokyo = datetime.now(timezone(timedelta(hours=9))) + timedelta(seconds=1)
    zone = {"ScheduleExpressionTimezone": "Asia/Tokyo", "ClientToken": "t"}
    scheduled(aws, in_tokyo, sending(url), **zone)
    assert [message["Body"] for message in received(aws, url, 1)] == ["due"]

    scheduler = aws.client("scheduler")
    request: dict[str, Any] = {
        "Name": named("s"),
        "ScheduleExpression": "at(2099-01-01T00:00:00)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"RoleArn": "arn:aws:iam::000000000000:role/s", **sending(url)},
    }
    first = scheduler.create_schedule(**request, ClientToken="a")
    again = scheduler.create_schedule(**request, ClientToken="a")
    assert again["ScheduleArn"] == first["ScheduleArn"]
    with pytest.raises(ClientError, match="ConflictException"):
        scheduler.create_schedule(**request, ClientToken="b")
    request |= {"Name": named("s"), "ScheduleExpression": "at(tomorrow)"}
    with pytest.raises(ClientError, match="ValidationException"):
        scheduler.create_schedule(**request)


# Permissions


def session(server: Server, *statements: dict[str, Any]) -> Any:
    """Credentials of a new role that allows this."""
    role = named("r")
    iam = server.client("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    document = {"Version": "2012-10-17", "Statement": [trust]}
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(document))["Role"][
        "Arn"
    ]
    allowed = {"Version": "2012-10-17", "Statement": list(statements)}
    iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=json.dumps(allowed))
    sts = server.client("sts")
    return sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]


def test_who_may_send_a_message_may_send_a_batch(strict_aws: Server) -> None:
    url, arn = queue(strict_aws)
    allowed = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn}
    sqs = strict_aws.client("sqs", session(strict_aws, allowed))
    entries = [{"Id": "0", "MessageBody": "b"}]
    assert sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]
    with pytest.raises(ClientError, match="AccessDenied"):
        sqs.receive_message(QueueUrl=url)


def test_a_schedule_is_in_its_group(strict_aws: Server) -> None:
    group = named("g")
    strict_aws.client("scheduler").create_schedule_group(Name=group)
    allowed = {
        "Effect": "Allow",
        "Action": ["scheduler:CreateSchedule", "scheduler:DeleteSchedule"],
        "Resource": f"arn:aws:scheduler:*:*:schedule/{group}/*",
    }
    scheduler = strict_aws.client("scheduler", session(strict_aws, allowed))
    request = {
        "Name": named("s"),
        "ScheduleExpression": "at(2099-01-01T00:00:00)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"RoleArn": "arn:aws:iam::000000000000:role/s", **sending("url")},
    }
    scheduler.create_schedule(**request, GroupName=group)
    scheduler.delete_schedule(Name=request["Name"], GroupName=group)
    with pytest.raises(ClientError, match="AccessDenied"):
        scheduler.create_schedule(**request)


def test_a_function_may_do_what_its_role_allows_and_nothing_else(strict_aws: Server) -> None:
    s3, iam = strict_aws.client("s3"), strict_aws.client("iam")
    bucket, role = named("b"), named("r")
    s3.create_bucket(Bucket=bucket)
    for key in ("mine/k", "theirs/k"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    arn = iam.create_role(
        RoleName=role,
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )["Role"]["Arn"]
    allowed = {
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/mine/*",
    }
    iam.put_role_policy(
        RoleName=role,
        PolicyName="p",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    )
    name = deploy(
        strict_aws,
        "import boto3\ns3 = boto3.client('s3')\n"
        "def handle(event, context):\n"
        "    try:\n"
        f"        return s3.get_object(Bucket='{bucket}', Key=event)['Body'].read().decode()\n"
        "    except s3.exceptions.ClientError as error:\n"
        "        return error.response['Error']['Code']\n",
        role=arn,
    )
    assert call(strict_aws, name, "mine/k") == "mine/k"
    assert call(strict_aws, name, "theirs/k") == "AccessDenied"


# Versions and aliases

VERSIONED = "import os\ndef handle(event, context):\n    return [CODE, context.function_version]\n"


def published(server: Server, name: str, code: str) -> str:
    """The number of a new version, with this code."""
    package = functions.archive({"app.py": f"CODE = {code!r}\n{VERSIONED}"})
    client = server.client("lambda")
    client.update_function_code(FunctionName=name, ZipFile=package)
    waiting = {"Delay": 0.1, "MaxAttempts": 300}
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=waiting)
    return client.publish_version(FunctionName=name)["Version"]


def test_a_version_stays_as_it_was_and_an_alias_moves(aws: Server) -> None:
    client, name = aws.client("lambda"), deploy(aws, VERSIONED)
    first = published(aws, name, "old")
    client.create_alias(FunctionName=name, Name="live", FunctionVersion=first)
    assert call(aws, f"{name}:live", {}) == ["old", first]
    second = published(aws, name, "new")
    assert call(aws, f"{name}:live", {}) == ["old", first]
    client.update_alias(FunctionName=name, Name="live", FunctionVersion=second)
    assert call(aws, f"{name}:live", {}) == ["new", second]
    assert call(aws, f"{name}:{first}", {}) == ["old", first]
    assert call(aws, name, {}) == ["new", "$LATEST"]
    client.delete_function(FunctionName=name, Qualifier=first)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        call(aws, f"{name}:{first}", {})
    with pytest.raises(ClientError, match="referenced by an alias"):
        client.delete_function(FunctionName=name, Qualifier=second)


def test_an_alias_with_weights_draws_a_version_for_each_call(aws: Server) -> None:
    client, name = aws.client("lambda"), deploy(aws, VERSIONED)
    first, second = published(aws, name, "old"), published(aws, name, "new")
    for weight, expected in ((1.0, {second}), (0.0, {first}), (0.5, {first, second})):
        routing = {"AdditionalVersionWeights": {second: weight} if weight else {}}
        with contextlib.suppress(client.exceptions.ResourceNotFoundException):
            client.delete_alias(FunctionName=name, Name="live")
        client.create_alias(
            FunctionName=name, Name="live", FunctionVersion=first, RoutingConfig=routing
        )
        # That 60 fair draws are all the same happens once in 10**17 times.
        drawn = {call(aws, f"{name}:live", {})[1] for _ in range(60 if weight == 0.5 else 3)}
        assert drawn == expected


def test_settings_of_asynchronous_calls_are_those_of_the_qualifier_that_is_called(
    aws: Server,
) -> None:
    client = aws.client("lambda")
    name = deploy(aws, "import os\ndef handle(event, context):\n    os._exit(9)\n")
    version = client.publish_version(FunctionName=name)["Version"]
    client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    queues = {}
    for qualifier in (None, "live", version):
        queues[qualifier], arn = queue(aws)
        client.put_function_event_invoke_config(
            FunctionName=name,
            MaximumRetryAttempts=0,
            DestinationConfig={"OnFailure": {"Destination": arn}},
            **({"Qualifier": qualifier} if qualifier else {}),
        )
    for qualifier, url in queues.items():
        called = f"{name}:{qualifier}" if qualifier else name
        call(aws, called, {"by": qualifier}, kind="Event")
        (message,) = received(aws, url, 1)
        assert json.loads(message["Body"])["requestPayload"] == {"by": qualifier}


# What was called


def test_calls_are_told_by_what_they_are_about(aws: Server) -> None:
    name = named("x")
    url, _ = queue(aws, **FIFO)
    bucket = named("b")
    aws.client("s3").create_bucket(Bucket=bucket)
    aws.client("s3").put_object(Bucket=bucket, Key=f"executions/{name}.json", Body=b"1234")
    aws.client("s3").put_object(Bucket=bucket, Key=f"executions/{name}2.json", Body=b"")
    body = json.dumps({"content": json.dumps({"execution_id": name})})
    aws.client("sqs").send_message(
        QueueUrl=url, MessageBody=body, MessageGroupId="g", MessageDeduplicationId="d"
    )
    told = aws.calls(name)
    assert [(call["service"], call["operation"]) for call in told] == [
        ("s3", "PUT"),
        ("sqs", "SendMessage"),
    ]
    assert told[0]["bytes"] == 4
