"""The services in this process answer as the emulator does."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import BUCKET
from tests.aws.emulator.server import Server
from tests.aws.world import World, registry_of


def answers(s3: Any, bucket: str, prefix: str) -> list[Any]:
    """What S3 says to everything that the engine may ask."""
    said: list[Any] = []
    etags: dict[str, str] = {}

    def ask(name: str, key: str, *wanted: str, **options: Any) -> None:
        if options.get("IfMatch") == "known" or options.get("IfNoneMatch") == "known":
            options = {k: etags[key] if v == "known" else v for k, v in options.items()}
        try:
            answer = getattr(s3, name)(Bucket=bucket, Key=prefix + key, **options)
        except ClientError as error:
            said.append(error.response["Error"]["Code"])
            return
        if "ETag" in answer and name == "put_object":
            etags[key] = answer["ETag"]
        body = answer["Body"].read() if "Body" in answer else None
        same = answer.get("ETag") == etags.get(key)
        said.append((body, same, *[answer[each] for each in wanted]))

    ask("get_object", "a")
    ask("put_object", "a", Body=b"1", IfMatch='"none"')
    ask("put_object", "a", Body=b"1", IfNoneMatch="*")
    ask("put_object", "a", Body=b"1", IfNoneMatch="*")
    ask("get_object", "a")
    ask("get_object", "a", IfNoneMatch="known")
    ask("put_object", "a", Body=b"0123456789", IfMatch="known")
    ask("put_object", "a", Body=b"2", IfMatch='"other"')
    ask("get_object", "a", Range="bytes=0-3")
    ask("get_object", "a", Range="bytes=0-99")
    ask("put_object", "b", Body=b"")
    ask("get_object", "b", IfNoneMatch=etags["a"])
    ask("delete_object", "b")
    ask("delete_object", "b")
    ask("get_object", "b")
    for key in ("l/b~x", "l/a~%20", "l/c", "l/B", "m"):
        ask("put_object", key, Body=b"")
    start = prefix + "l/"
    while start:
        page = s3.list_objects_v2(Bucket=bucket, Prefix=prefix + "l/", StartAfter=start, MaxKeys=3)
        keys = [item["Key"] for item in page.get("Contents", ())]
        said.append([key.removeprefix(prefix) for key in keys])
        start = keys[-1] if page["IsTruncated"] else ""
    return said


def test_objects_are_kept_as_on_the_emulator(aws: Server) -> None:
    s3 = aws.client("s3")
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=BUCKET)
    theirs = answers(s3, BUCKET, f"{uuid4().hex}/")
    with World(registry_of()) as world:
        ours = answers(world.aws("s3"), "histories", "p/")
    assert ours == theirs
    assert "PreconditionFailed" in ours
    assert "304" in ours


def test_schedules_are_kept_as_on_the_emulator(aws: Server) -> None:
    group = f"g{uuid4().hex}"
    aws.client("scheduler").create_schedule_group(Name=group)
    with World(registry_of()) as world:
        said = [
            scheduled(client, group) for client in (aws.client("scheduler"), world.aws("scheduler"))
        ]
    assert said[0] == said[1]
    assert "ConflictException" in said[0]


def scheduled(scheduler: Any, group: str) -> list[str]:
    said: list[str] = []

    def ask(call: str, **options: Any) -> None:
        try:
            getattr(scheduler, call)(Name="n", GroupName=group, **options)
            said.append("")
        except ClientError as error:
            said.append(error.response["Error"]["Code"])

    target = {
        "Arn": "arn:aws:scheduler:::aws-sdk:sqs:sendMessage",
        "RoleArn": "arn:aws:iam::000000000000:role/scheduler",
        "Input": '{"QueueUrl": "q", "MessageBody": "b"}',
    }
    create = {
        "ScheduleExpression": "at(2099-01-02T03:04:05)",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": target,
    }
    ask("delete_schedule")
    ask("create_schedule", **create)
    ask("create_schedule", **create)
    ask("delete_schedule")
    ask("delete_schedule")
    return said


@pytest.mark.parametrize("same", [True, False])
def test_a_queue_knows_an_id_for_five_minutes(same: bool) -> None:
    with World(registry_of()) as world:
        world.services.put("a", "1", "id")
        world.clock.advance(5 * 60 * 1000 - int(same))
        world.services.put("a", "2", "id")
        world.services.put("b", "3", "id")
        assert [m.body for m in world.services.queue] == (["1", "3"] if same else ["1", "2", "3"])
