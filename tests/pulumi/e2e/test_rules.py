"""The provider of these tests has the real one's rules: what replaces a resource, and what does not."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pulumi.runtime.proto import provider_pb2

from pulumi_component import policies
from tests.aws.emulator.server import Server
from tests.pulumi.e2e import kinds
from tests.pulumi.e2e.kinds import arn
from tests.pulumi.e2e.provider import Provider
from tests.pulumi.e2e.stack import unfinished
from tests.pulumi.e2e.values import ARCHIVE, SIGNATURE, UNKNOWN, given, struct

FUNCTION = "aws:lambda/function:Function"
ALIAS = "aws:lambda/alias:Alias"
CONFIG = "aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig"
SECRETS = "aws:secretsmanager"
VERSION = f"{SECRETS}/secretVersion:SecretVersion"
QUEUE = "aws:sqs/queue:Queue"
ROLE = "aws:iam/role:Role"


def archive(digest: str) -> dict[str, str]:
    return {SIGNATURE: ARCHIVE, "hash": digest}


@pytest.mark.parametrize(
    ("kind", "before", "after", "replaces"),
    [
        (FUNCTION, {"name": "one"}, {"name": "two"}, ["name"]),
        (FUNCTION, {"name": "one"}, {"name": UNKNOWN}, ["name"]),
        (FUNCTION, {"packageType": "Zip"}, {"packageType": "Image"}, ["packageType"]),
        (FUNCTION, {"code": archive("1")}, {"code": archive("2")}, []),
        (FUNCTION, {"timeout": 1}, {"timeout": 2}, []),
        *(
            (FUNCTION, {}, {name: {"a": "b"}}, [])
            for name in (
                *("tracingConfig", "layers", "vpcConfig", "fileSystemConfig", "ephemeralStorage"),
                *("kmsKeyArn", "snapStart", "role"),
            )
        ),
        (ROLE, {}, {"permissionsBoundary": "a"}, []),
        ("aws:cloudwatch/logGroup:LogGroup", {}, {"kmsKeyId": "a"}, []),
        (QUEUE, {"fifoQueue": True}, {}, ["fifoQueue"]),
        (QUEUE, {"visibilityTimeoutSeconds": 1}, {"visibilityTimeoutSeconds": 2}, []),
        ("aws:s3/bucket:Bucket", {"bucket": "one"}, {"bucket": "two"}, ["bucket"]),
        ("aws:pipes/pipe:Pipe", {"source": "a"}, {"source": "b"}, ["source"]),
        ("aws:pipes/pipe:Pipe", {"target": "a"}, {"target": "b"}, []),
        ("aws:cloudwatch/logGroup:LogGroup", {"name": "a"}, {"name": "b"}, ["name"]),
        (ALIAS, {"functionVersion": "1"}, {"functionVersion": "2"}, []),
        (ALIAS, {"functionName": "a"}, {"functionName": "b"}, ["functionName"]),
        (CONFIG, {"qualifier": "1"}, {"qualifier": "2"}, ["qualifier"]),
        ("aws:ssm/parameter:Parameter", {"value": "a"}, {"value": "b"}, []),
        ("aws:ssm/parameter:Parameter", {"name": "a"}, {"name": "b"}, ["name"]),
        (f"{SECRETS}/secret:Secret", {"kmsKeyId": "a"}, {"kmsKeyId": "b"}, []),
        (VERSION, {"secretString": "a"}, {"secretString": "b"}, ["secretString"]),
        ("aws:lambda/permission:Permission", {"action": "a"}, {"action": "b"}, ["action"]),
        ("random:index/randomPassword:RandomPassword", {"length": 1}, {"length": 2}, ["length"]),
    ],
)
def test_what_replaces(
    kind: str, before: dict[str, Any], after: dict[str, Any], replaces: list[str]
) -> None:
    answer = diff(kind, before, after)
    assert answer.changes == provider_pb2.DiffResponse.DIFF_SOME
    assert list(answer.replaces) == replaces


def diff(kind: str, before: dict[str, Any], after: dict[str, Any]) -> Any:
    request = provider_pb2.DiffRequest(type=kind, old_inputs=struct(before), news=struct(after))
    return Provider("aws").Diff(request, None)


def test_what_is_no_change() -> None:
    policy, reformatted = '{"a":1,"b":2}', '{ "b": 2, "a": 1 }'
    none = provider_pb2.DiffResponse.DIFF_NONE
    one, other = ({"assumeRolePolicy": text} for text in (policy, reformatted))
    assert diff(ROLE, one, other).changes == none
    # Another folder with the same content.
    moved = {**archive("1"), "path": "elsewhere"}
    assert diff(FUNCTION, {"code": archive("1")}, {"code": moved}).changes == none


def test_a_preview_cannot_tell_the_version_that_an_update_publishes() -> None:
    known = {"name": "f", "version": "1", "arn": "a", "publish": True}
    for publish, version in ((True, UNKNOWN), (False, "1")):
        request = provider_pb2.UpdateRequest(
            type=FUNCTION,
            olds=struct(known),
            news=struct({"name": "f", "publish": publish}),
            preview=True,
        )
        assert given(Provider("aws").Update(request, None).properties)["version"] == version


def check(kind: str, name: str, news: dict[str, Any], olds: dict[str, Any]) -> Any:
    request = provider_pb2.CheckRequest(
        type=kind, name=name, news=struct(news), olds=struct(olds), randomSeed=b"seed"
    )
    return Provider("aws").Check(request, None)


def test_names_are_made_up_once() -> None:
    made = given(check(QUEUE, "events", {"fifoQueue": True}, {}).inputs)["name"]
    assert made.startswith("events-")
    assert made.endswith(".fifo")
    # The name stays though the logical one changes, as it does under an alias.
    kept = given(check(QUEUE, "other", {"fifoQueue": True}, {"name": made}).inputs)
    assert kept["name"] == made
    (failure,) = check(ROLE, "r" * 60, {}, {}).failures
    assert failure.property == "name"


class Refused(Exception):
    """What gRPC raises where a call is answered by an error."""


class Answering:
    """As much of a call's context as is needed to answer by an error."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def abort(self, _code: Any, details: str) -> None:
        self.told.append(details)
        raise Refused


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no")])
def test_whatever_a_call_raises_is_answered(error: BaseException) -> None:
    """Without an answer the engine waits for ever."""

    def call() -> None:
        raise error

    context, request = Answering(), provider_pb2.CreateRequest(urn="urn:of-it")
    with pytest.raises(Refused):
        Provider("aws")._tried(context, request, call)
    assert context.told[0].startswith("urn:of-it: ")
    assert f"{type(error).__name__}: no" in context.told[0]


def test_a_command_that_is_stuck_tells_what_it_waits_for(tmp_path: Path) -> None:
    def event(kind: str, name: str) -> str:
        return json.dumps({kind: {"metadata": {"urn": f"urn:pulumi:dev::p::a:b:C::{name}"}}})

    log = tmp_path / "events.json"
    told = [
        event("resourcePreEvent", "one"),
        event("resourcePreEvent", "two"),
        event("resourcePreEvent", "three"),
        event("resOutputsEvent", "one"),
        event("resOpFailedEvent", "three"),
        '{"resourcePre',
    ]
    log.write_text("\n".join(told))
    assert unfinished(log) == ["two"]


# On the emulator


def live(provider: Provider, kind: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """What a refresh finds, of what was given."""
    text = struct(inputs)
    request = provider_pb2.ReadRequest(type=kind, id=name, properties=text, inputs=text)
    return given(provider.Read(request, Answering()).inputs)


def change(kind: str, olds: dict[str, Any], news: dict[str, Any]) -> dict[str, Any]:
    """Update a resource; its properties."""
    request = provider_pb2.UpdateRequest(type=kind, olds=struct(olds), news=struct(news))
    return given(Provider("aws").Update(request, Answering()).properties)


def create(kind: str, inputs: dict[str, Any]) -> dict[str, Any]:
    request = provider_pb2.CreateRequest(type=kind, properties=struct(inputs))
    return given(Provider("aws").Create(request, Answering()).properties)


def test_the_key_of_a_log_group_changes_in_place_and_is_read_back(
    aws: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "client", aws.client)
    provider, kind = Provider("aws"), "aws:cloudwatch/logGroup:LogGroup"
    name = f"/logs/{uuid4().hex}"
    plain = {"name": name, "retentionInDays": 7, "skipDestroy": False}
    first, second = ({**plain, "kmsKeyId": arn("kms", f"key/{n}")} for n in (1, 2))
    made = create(kind, first)
    assert live(provider, kind, name, first) == first
    made = change(kind, made, second)
    assert live(provider, kind, name, second) == second
    # What somebody else has changed is seen.
    aws.client("logs").disassociate_kms_key(logGroupName=name)
    assert live(provider, kind, name, second) == {**second, "kmsKeyId": None}
    made = change(kind, made, second)
    made = change(kind, made, plain)
    (group,) = aws.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert "kmsKeyId" not in group
    with pytest.raises(aws.client("logs").exceptions.ResourceNotFoundException):
        aws.client("logs").associate_kms_key(logGroupName="nobody", kmsKeyId=arn("kms", "key/1"))


def test_the_policy_of_a_queue_changes_in_place_and_is_read_back(
    aws: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "client", aws.client)
    provider, kind, sqs = Provider("aws"), "aws:sqs/queuePolicy:QueuePolicy", aws.client("sqs")
    url = sqs.create_queue(QueueName=uuid4().hex)["QueueUrl"]
    first, second = (
        {"queueUrl": url, "policy": policies.shared([who], policies.sender_of_events(events="q"))}
        for who in ("210987654321", "109876543210")
    )
    made = create(kind, first)
    assert live(provider, kind, url, first) == first
    change(kind, made, second)
    assert live(provider, kind, url, second) == second
    kinds.KINDS[kind].delete(second)
    assert live(provider, kind, url, second) == {}
    assert diff(kind, first, second).replaces == []
    assert list(diff(kind, first, {**first, "queueUrl": "other"}).replaces) == ["queueUrl"]


def test_snapshots_and_the_key_of_a_function_change_in_place_and_are_read_back(
    aws: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kinds, "client", aws.client)
    code = tmp_path / "code.zip"
    with zipfile.ZipFile(code, "w") as archived:
        archived.writestr("app.py", "def execute(event, context): return 1\n")
    provider, name = Provider("aws"), f"f-{uuid4().hex}"
    plain = {
        "name": name,
        "packageType": "Zip",
        "runtime": "python3.13",
        "handler": "app.execute",
        "role": arn("iam", "role/r", region=""),
        "timeout": 3,
        "memorySize": 128,
        "code": {**archive("1"), "path": str(code)},
        "architectures": ["x86_64"],
        "loggingConfig": {"logFormat": "JSON"},
        "publish": True,
        "reservedConcurrentExecutions": -1,
    }
    snapped = {
        **plain,
        "snapStart": {"applyOn": "PublishedVersions"},
        "kmsKeyArn": arn("kms", "key/1"),
    }
    made = create(FUNCTION, plain)
    known = aws.client("lambda")

    def snapshot(version: str) -> str:
        found = known.get_function_configuration(FunctionName=name, Qualifier=version)
        return found["SnapStart"]["OptimizationStatus"]

    assert snapshot(made["version"]) == "Off"
    made = change(FUNCTION, made, snapped)
    # The version that the change has published has one, and is ready.
    assert snapshot(made["version"]) == "On"
    found = live(provider, FUNCTION, name, snapped)
    assert (found["snapStart"], found["kmsKeyArn"]) == (snapped["snapStart"], snapped["kmsKeyArn"])
    known.update_function_configuration(FunctionName=name, SnapStart={"ApplyOn": "None"})
    assert live(provider, FUNCTION, name, snapped)["snapStart"] == {"applyOn": "None"}
    made = change(FUNCTION, change(FUNCTION, made, snapped), plain)
    left = known.get_function_configuration(FunctionName=name)
    assert (left["SnapStart"]["ApplyOn"], left.get("KMSKeyArn") or "") == ("None", "")
    assert snapshot(made["version"]) == "Off"
