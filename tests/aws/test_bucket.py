"""Conditional writes, and the messages, invocations and wakeups that leave for AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from mini_workflow.errors import SignatureInvalid, StoreUnavailable, WireError
from mini_workflow.ports import QueuedMessage, TaskRequest
from mini_workflow.ports.queue import Wakeup
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.settings import ROLE_ARN, Settings
from mini_workflow.stores.aws.clients import Clients
from mini_workflow.stores.aws.limits import BATCH_ENTRIES, MAXIMUM_DELAY, SCHEDULE_EARLY
from mini_workflow.stores.s3.bucket import CONFLICTS, Bucket
from mini_workflow.stores.sqs.dispatch import purpose_of
from mini_workflow.stores.sqs.messages import Lost, SqsMessage
from tests.aws.cloud import BUCKET
from tests.aws.emulator.server import Server
from tests.aws.world import ENVIRONMENT, START, Fault, World, registry_of


@pytest.fixture
def world() -> Iterator[World]:
    with World(registry_of()) as made:
        made.acting = "test"
        made.prone = ("test",)
        yield made


@pytest.fixture
def bucket(world: World) -> Bucket:
    return world.client._parts.bucket


# Conditional writes


def test_twenty_writers_have_one_winner(aws: Server) -> None:
    """On the emulator: who creates, and who replaces."""
    s3 = aws.client("s3")
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=BUCKET)
    clients = Clients(aws.client)
    bucket = Bucket(clients, lambda: BUCKET, f"{uuid4().hex}/")
    with ThreadPoolExecutor(20) as pool:
        created = list(pool.map(lambda n: bucket.create("key", f"{n}".encode()), range(20)))
        (etag,) = [each for each in created if each is not None]
        winner = created.index(etag)
        found = bucket.get("key")
        assert found is not None
        assert (found.body, found.etag) == (f"{winner}".encode(), etag)
        replaced = list(
            pool.map(lambda n: bucket.replace("key", f"again {n}".encode(), etag), range(20))
        )
    assert len([each for each in replaced if each is not None]) == 1
    assert bucket.replace("no such key", b"", etag) is None
    assert bucket.changed("key", etag)
    assert not bucket.changed("key", next(each for each in replaced if each is not None))
    clients.close()


@pytest.mark.parametrize("conditional", ["create", "replace"])
def test_a_write_whose_answer_is_lost_is_known_as_ones_own(
    conditional: str, world: World, bucket: Bucket
) -> None:
    """It was stored, and boto3 tries it again: S3 says that somebody was faster."""
    etag = bucket.create("key", b"old") if conditional == "replace" else None
    world.services.after_answer.append("again")
    if etag is None:
        written = bucket.create("key", b"mine")
    else:
        written = bucket.replace("key", b"mine", etag)
    found = bucket.get("key")
    assert found is not None
    assert written == found.etag
    # And it is not another's.
    assert bucket.create("key", b"other") is None
    assert bucket.replace("key", b"other", '"an etag"') is None


def test_a_conflict_is_tried_again(world: World) -> None:
    pauses: list[float] = []
    bucket = Bucket(world.client._parts.clients, lambda: "histories", sleep=pauses.append)
    world.services.after_answer += ["conflict"] * 3
    assert bucket.create("key", b"mine") is not None
    assert len(pauses) == 3
    world.services.after_answer += ["conflict"] * CONFLICTS
    with pytest.raises(StoreUnavailable, match=r"writing 'other' in bucket 'histories'"):
        bucket.create("other", b"mine")
    assert all(pause > 0 for pause in pauses)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [("AccessDenied", "allow this to the role"), ("NoSuchBucket", "check the settings")],
)
def test_errors_name_the_object_and_the_remedy(code: str, remedy: str) -> None:
    def refuse(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject")

    def make(service: str) -> Any:
        return SimpleNamespace(get_object=refuse)

    bucket = Bucket(Clients(make), lambda: "b", "p/")
    with pytest.raises(StoreUnavailable, match=f"reading 'p/key' in bucket 'b'.*{remedy}"):
        bucket.get("key")


# Mail


def sent(world: World) -> list[Any]:
    return [world.client._parts.post.read(m.body) for m in world.services.queue]


def test_messages_leave_in_batches_and_in_order(world: World) -> None:
    post = world.client._parts.post
    post.send(SqsMessage(f"e{n % 2}", "messages", f"content {n}", f"{n}") for n in range(25))
    assert [mail.content for mail in sent(world)] == [f"content {n}" for n in range(25)]
    assert world.cost() == {"sqs.SendMessageBatch": 3}
    assert BATCH_ENTRIES == 10
    # The same key again is the same message.
    post.send([SqsMessage("e0", "messages", "content 0", "0")])
    assert len(world.services.queue) == 25


def test_a_batch_is_not_larger_than_sqs_takes(world: World) -> None:
    large = "x" * 200_000
    world.client._parts.post.send(SqsMessage("e", "messages", large, f"{n}") for n in range(9))
    assert [mail.content for mail in sent(world)] == [large] * 9
    assert (
        world.cost() == {"sqs.SendMessageBatch": 2, "sqs.SendMessage": 1}
        or max(world.sizes) < 1_048_576
    )
    assert max(world.sizes) < 1_048_576


def test_a_message_that_was_not_taken_is_an_error(world: World) -> None:
    world.services.after_answer.append("partly")
    with pytest.raises(StoreUnavailable, match="1 of 3 messages failed, the first one with Busy"):
        world.client._parts.post.send(SqsMessage("e", "messages", "c", f"{n}") for n in range(3))


@pytest.mark.parametrize("size", [0, 240 * 1024, 240 * 1024 + 1, 3_000_000])
def test_what_is_too_large_goes_by_way_of_the_bucket(size: int, world: World) -> None:
    content = "é" * (size // 2) + "x" * (size % 2)
    post = world.client._parts.post
    post.send([SqsMessage("e", "messages", content, "key")])
    claimed = size > 240 * 1024
    assert len(world.services.objects) == int(claimed)
    assert all(key.startswith("payloads/") for key in world.services.objects)
    assert len(world.services.queue[0].body.encode()) < 300_000
    assert sent(world)[0].content == content
    for key in world.services.objects:
        world.services.objects[key] += b"!"
        with pytest.raises(SignatureInvalid, match="another hash"):
            sent(world)
    for key in list(world.services.objects):
        del world.services.objects[key]
        with pytest.raises(WireError, match="not in the bucket any more"):
            sent(world)


def test_a_pipe_may_pass_a_message_on_as_text_or_parsed(world: World) -> None:
    post = world.client._parts.post
    text = post.write(SqsMessage("e", "wake", "123", "key"))
    for passed in (text, json.dumps({"event": text}), json.dumps({"event": json.loads(text)})):
        assert post.read(passed) == SqsMessage("e", "wake", "123", "")
    with pytest.raises(SignatureInvalid):
        post.read(text.replace('"wake"', '"resume"'))
    with pytest.raises(WireError, match="not the time of a wakeup"):
        post.read(post.write(SqsMessage("e", "wake", "-1", "key")))


def reported(world: World, **fields: Any) -> dict[str, Any]:
    """The request of an invocation that has failed, as Lambda repeats it."""
    code = world.client._parts.post.certificate("e", 3, 2)
    request = {"execution_id": "e", "seq": 3, "attempt": 2, "lost": code}
    return {**request, "content": '{"payload":"\\"seq\\": 9"}', "code": "0" * 64, **fields}


def test_news_of_a_lost_attempt_are_believed_about_that_attempt_alone(world: World) -> None:
    post = world.client._parts.post
    context = {"condition": "RetriesExhausted", "requestId": "r"}
    response = {"errorType": "Runtime.OutOfMemory", "errorMessage": 'a "quote"\n and more'}
    lost = {"request": reported(world), "context": context, "response": response}
    assert post.read(json.dumps({"lost": lost})) == Lost(
        "e", 3, 2, 'Runtime.OutOfMemory: a "quote"\n and more', lost["request"]
    )
    # What a pipe cannot find is an empty text; Lambda says null of what never ran.
    for nothing in ("", None):
        quiet = {**lost, "context": {"condition": "EventAgeExceeded"}, "response": nothing}
        assert post.read(json.dumps({"lost": quiet})) == Lost(
            "e", 3, 2, "EventAgeExceeded", quiet["request"]
        )
    bare = {"request": reported(world), "context": "", "response": ""}
    assert post.read(json.dumps({"lost": bare})) == Lost("e", 3, 2, "", bare["request"])
    for wrong in ({"seq": 4}, {"attempt": 1}, {"execution_id": "f"}, {"lost": None}):
        with pytest.raises(SignatureInvalid):
            post.read(json.dumps({"lost": {**lost, "request": reported(world, **wrong)}}))


def test_a_report_that_a_pipe_has_spoilt_is_known_by_its_attempt(world: World) -> None:
    """It puts text in without escaping it; so do pipes that pick the fields themselves."""
    post = world.client._parts.post
    request = reported(world)
    error = 'no "such"\nfile'
    whole = (
        f'{{"lost": {{"request": {json.dumps(request)}, "context": "", "response": "{error}"}}}}'
    )
    gap = f'{{"lost": {{"request": {json.dumps(request)}, "context": , "response": }}}}'
    picked = (
        f'{{"lost": {{"execution_id": "e", "seq": 3, "attempt": 2, "signature": '
        f'"{request["lost"]}", "condition": "RetriesExhausted", "error": "{error}", "type": "E"}}}}'
    )
    for text in (whole, gap, picked):
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
        assert post.read(text) == Lost("e", 3, 2, "")
        for forged in (text.replace('"seq": 3', '"seq": 4'), text.replace(request["lost"], "")):
            with pytest.raises(SignatureInvalid):
                post.read(forged)
        with pytest.raises(WireError):
            post.read(text.replace('"attempt"', '"other"'))


def test_pipes_of_before_may_have_picked_the_fields(world: World) -> None:
    post = world.client._parts.post
    news = {"execution_id": "e", "seq": 3, "attempt": 2, "signature": post.certificate("e", 3, 2)}
    said = {"type": "Runtime.OutOfMemory", "error": "killed", "condition": "RetriesExhausted"}
    assert post.read(json.dumps({"lost": {**news, **said}})) == Lost(
        "e", 3, 2, "Runtime.OutOfMemory: killed"
    )
    quiet = {"type": "", "error": "", "condition": "EventAgeExceeded"}
    assert post.read(json.dumps({"lost": {**news, "seq": "3", **quiet}})) == Lost(
        "e", 3, 2, "EventAgeExceeded"
    )


# Invocations


def test_an_attempt_is_invoked_with_all_that_it_needs(world: World) -> None:
    parts = world.client._parts
    request = TaskRequest("e", 3, 2, "charge", b"\0payload", 1_500, heartbeat='"half"')
    assert parts.dispatch.run([request]) == [None]
    (envelope,) = world.services.invoked
    assert {k: envelope[k] for k in ("execution_id", "seq", "attempt")} == {
        "execution_id": "e",
        "seq": 3,
        "attempt": 2,
    }
    assert envelope["lost"] == parts.post.certificate("e", 3, 2)
    assert world.worker._the_functions()._worker.request_of(envelope) == (request, "")
    for wrong in ({"seq": 4}, {"attempt": 1}, {"execution_id": "f"}, {"code": "0" * 64}):
        with pytest.raises(SignatureInvalid):
            world.worker.execute({**envelope, **wrong})
    with pytest.raises(WireError, match="not an attempt of a task"):
        world.worker.execute({"Records": []})
    assert parts.envelopes.open(envelope, purpose_of("e", 3, 2))


def test_attempts_that_cannot_be_invoked_are_told_apart(world: World) -> None:
    dispatch = world.client._parts.dispatch
    requests = [TaskRequest("e", seq, 1, "t", b"") for seq in range(1, 4)]
    world.after(Fault(2, "throttled"))
    first, second, third = dispatch.run(requests)
    assert (first, third) == (None, None)
    assert isinstance(second, StoreUnavailable)
    assert "invoking function 'worker'" in str(second)


def test_a_cancelled_task_is_told_through_the_bucket(world: World) -> None:
    dispatch = world.client._parts.dispatch
    dispatch.cancel("e", 3, "nobody waits")
    assert world.services.objects == {"payloads/cancelled/e/3": b"nobody waits"}
    world.after(Fault(1, "fails"))
    dispatch.cancel("e", 4, "cannot be told, and runs on")


# Alarms


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [
        (-5, 0),
        (0, 0),
        (1, 1),
        (999, 1),
        (1000, 1),
        (1001, 2),
        (MAXIMUM_DELAY * 1000, MAXIMUM_DELAY),
    ],
)
def test_a_delay_is_rounded_up(milliseconds: int, seconds: int, world: World) -> None:
    dispatch = world.client._parts.dispatch
    at = START + milliseconds
    wakeup = dispatch.wakeup("e", at, START)
    assert wakeup == Wakeup(at)
    dispatch.set("e", wakeup, START)
    ((due, group, body),) = world.services.delayed
    assert (due, group) == (START + seconds * 1000, "e")
    assert world.client._parts.post.read(body) == SqsMessage("e", "wake", str(at), "")


@pytest.mark.parametrize("extra", [1, 1_000, 10**11])
def test_a_longer_one_is_a_schedule_that_is_early(extra: int, world: World) -> None:
    dispatch = world.client._parts.dispatch
    at = START + MAXIMUM_DELAY * 1000 + extra
    wakeup = dispatch.wakeup("e", at, START)
    assert len(wakeup.schedule) <= 64
    assert wakeup == dispatch.wakeup("e", at, START)
    assert wakeup.schedule != dispatch.wakeup("e", at + 1, START).schedule
    assert wakeup.schedule != dispatch.wakeup("f", at, START).schedule
    dispatch.set("e", wakeup, START)
    dispatch.set("e", wakeup, START)
    assert list(world.services.schedules) == [wakeup.schedule]
    fires, target = world.services.schedules[wakeup.schedule]
    # Whole seconds, and up to a minute late: even so it comes before its time.
    assert SCHEDULE_EARLY * 1000 <= at - fires < (SCHEDULE_EARLY + 1) * 1000
    assert SCHEDULE_EARLY > 60 + 1
    assert fires > START
    assert target["MessageGroupId"] == "e"
    assert world.client._parts.post.read(target["MessageBody"]) == SqsMessage(
        "e", "wake", str(at), ""
    )
    # What is left when it has gone off is waited for in the queue.
    dispatch.set("e", wakeup, fires + 30_000)
    assert len(world.services.delayed) == 1
    dispatch.unset(wakeup)
    dispatch.unset(wakeup)
    assert world.services.schedules == {}


def test_the_expression_of_a_schedule_is_in_utc(world: World) -> None:
    at = round(datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp() * 1000)
    dispatch = world.client._parts.dispatch
    dispatch.set("e", dispatch.wakeup("e", at, START), START)
    assert world.services.expressions == ["at(2031-02-03T04:03:36)"]


def test_messages_to_executions_are_posted_by_their_keys(world: World) -> None:
    world.client._parts.dispatch.post(
        [QueuedMessage("a", "{}", "k"), QueuedMessage("a", "{}", "k")]
    )
    assert sent(world) == [SqsMessage("a", "messages", "{}", "")]


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_a_schedule_sends_in_the_partition_of_its_role(partition: str) -> None:
    asked: list[dict[str, Any]] = []
    scheduler = SimpleNamespace(create_schedule=lambda **given: asked.append(given))
    settings = Settings(ENVIRONMENT | {ROLE_ARN: f"arn:{partition}:iam::0:role/scheduler"})
    dispatch = Container(settings, Clients(lambda service: scheduler)).dispatch
    at = START + 10 * MAXIMUM_DELAY * 1000
    dispatch.set("e", dispatch.wakeup("e", at, START), START)
    (given,) = asked
    assert given["Target"]["Arn"] == f"arn:{partition}:scheduler:::aws-sdk:sqs:sendMessage"
