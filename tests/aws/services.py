"""S3, DynamoDB, SQS, Scheduler and Lambda as far as the engine uses them, in this process, for one
thread at a time.

They answer what botocore has validated and written, at once and always in the same way, so that a
test can count calls, stop the world between any two of them, and say what is delivered when.
test_services.py compares them with the emulator. Time is that of their clock.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from io import BytesIO
from itertools import count
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from botocore.awsrequest import AWSResponse

from mini_workflow.ports import Clock
from mini_workflow.testing.clock import ManualClock
from tests.aws.cloud import Raw
from tests.aws.tables import Tables

EFFECTS = ("lambda.Invoke", "scheduler.CreateSchedule", "sqs.SendMessageBatch")
TIMERS = b'/timers"'
DEDUPLICATED = 5 * 60 * 1000
"""Milliseconds for which a FIFO queue knows the id of a message again."""


@dataclass(slots=True)
class Message:
    """A message of the queue of events."""

    id: str
    group: str
    body: str
    received: int = 0
    sent: int = 0

    def record(self) -> dict[str, Any]:
        """What the function gets."""
        return {
            "messageId": self.id,
            "receiptHandle": f"receipt-{self.id}",
            "body": self.body,
            "attributes": {
                "MessageGroupId": self.group,
                "ApproximateReceiveCount": str(self.received),
                "SentTimestamp": str(self.sent),
            },
        }


@dataclass(slots=True)
class Services:
    """The state of all of them. `delayed` are (time, group, body); `invoked` what the worker is to
    be given, and `functions` the names of those that were invoked.
    """

    clock: Clock
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    tables: Tables = field(default_factory=Tables)
    queue: list[Message] = field(default_factory=list[Message])
    entries: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    delayed: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    schedules: dict[str, tuple[int, dict[str, Any]]] = field(
        default_factory=dict[str, tuple[int, dict[str, Any]]]
    )
    invoked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    functions: list[str] = field(default_factory=list[str])
    called: list[str] = field(default_factory=list[str])
    """The names of the functions that were invoked asynchronously."""
    gone: set[str] = field(default_factory=set[str])
    """The functions that there are no more."""
    invocations: Counter[tuple[str, int, int]] = field(
        default_factory=Counter[tuple[str, int, int]]
    )
    pulled: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The messages of the queue of a worker that pulls."""
    doubled: bool = False
    """Whether each of them arrives twice."""
    visibility: dict[str, int] = field(default_factory=dict[str, int])
    after_answer: list[Literal["again", "conflict", "partly"]] = field(
        default_factory=list[Literal["again", "conflict", "partly"]]
    )
    """What befalls the next writes: ``again``, a write is done, its answer lost, and it is tried once
    more; ``conflict``, another one is under way; ``partly``, a batch is taken but for one message.
    """
    expressions: list[str] = field(default_factory=list[str])
    targets: list[str] = field(default_factory=list[str])
    keys: list[str | None] = field(default_factory=list[str | None])
    """The keys that schedules were encrypted with."""
    timers: int = 0
    """How many messages were sent to the queue of timers."""
    refuses: bool = False
    """Whether nothing is invoked, sent or scheduled any more."""
    rate: int | None = None
    """How many sends a second each group of the queue of events takes; None for any number. AWS takes
    300 (SQS Developer Guide, "High throughput for FIFO queues": a group is in one partition).
    """
    throttled: int = 0
    """How many sends were refused for that."""
    asked: Callable[[Any], Any] | None = None
    """What a synchronous invocation of the orchestrator calls."""
    loses: Callable[[str], bool] = lambda what: False
    """Asked of each message that is put into the queue of events, and of each asynchronous invocation:
    whether it is accepted and never arrives."""
    _seen: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    _numbers: Any = field(default_factory=count)
    _sends: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])

    def answer(self, call: str, request: Any) -> AWSResponse:
        """Do what a request asks for."""
        if self.refuses and (
            call in EFFECTS or (call == "sqs.SendMessage" and TIMERS in _body(request))
        ):
            status, headers, body = _json({"message": "no"}, 403, {"x-amzn-errortype": "Denied"})
        elif call.startswith("sqs.SendMessage") and self._too_fast(json.loads(_body(request))):
            self.throttled += 1
            status, headers, body = _json({"__type": "RequestThrottled", "message": "no"}, 403)
        elif call.startswith("sqs.SendMessage") and not _has_allowed(json.loads(_body(request))):
            status, headers, body = _json({"__type": "InvalidMessageContents"}, 400)
        elif call.startswith("dynamodb."):
            status, headers, body = self._write_item(call.rpartition(".")[2], _body(request))
        else:
            status, headers, body = getattr(self, "_" + call.replace(".", "_").lower())(request)
        headers.setdefault("content-length", str(len(body)))
        return AWSResponse(request.url, status, headers, Raw(body))

    # Queues

    def _too_fast(self, plain: dict[str, Any]) -> bool:
        """Whether a group has had its sends of this second. A batch counts once for each."""
        if self.rate is None or not plain["QueueUrl"].endswith("events.fifo"):
            return False
        entries = plain.get("Entries", [plain])
        second = self.clock.now() // 1000
        slots = {(entry["MessageGroupId"], second) for entry in entries}
        if any(self._sends[slot] >= self.rate for slot in slots):
            return True
        self._sends.update(slots)
        return False

    def put(self, group: str, body: str, deduplication: str | None = None) -> None:
        """Add a message to the queue of events."""
        if deduplication is not None:
            known = self._seen.get((group, deduplication))
            if known is not None and self.clock.now() - known < DEDUPLICATED:
                return
            self._seen[group, deduplication] = self.clock.now()
        if self.loses(body):
            return
        name = f"{next(self._numbers):08x}-message"
        self.queue.append(Message(name, group, body, sent=self.clock.now()))

    def notify(self) -> bool:
        """Let time pass until the next delayed message or schedule; whether there was one."""
        due = self.next()
        if due is None:
            return False
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(max(0, due - self.clock.now()))
        self.pass_on()
        return True

    def next(self) -> int | None:
        """When the next delayed message or schedule is due."""
        times = [at for at, _, _ in self.delayed] + [at for at, _ in self.schedules.values()]
        return min(times, default=None)

    def pass_on(self) -> None:
        """Put what is due into the queue of events."""
        now = self.clock.now()
        due = [item for item in self.delayed if item[0] <= now]
        self.delayed = [item for item in self.delayed if item[0] > now]
        for _, group, body in due:
            # As the pipe passes it on.
            self.put(group, json.dumps({"event": body}))
        for name, (at, plain) in list(self.schedules.items()):
            if at <= now:
                del self.schedules[name]
                self.put(
                    plain["MessageGroupId"], plain["MessageBody"], plain["MessageDeduplicationId"]
                )

    def _sqs_sendmessage(self, request: Any) -> Any:
        return _json(self._send(json.loads(request.body)))

    def _sqs_sendmessagebatch(self, request: Any) -> Any:
        plain = json.loads(request.body)
        assert len(plain["Entries"]) <= 10
        failed = []
        if self.after_answer:
            assert self.after_answer.pop(0) == "partly"
            entry = plain["Entries"].pop()
            failed = [{"Id": entry["Id"], "Code": "Busy", "Message": "no", "SenderFault": False}]
        done = [
            {"Id": entry["Id"], **self._send({**entry, "QueueUrl": plain["QueueUrl"]})}
            for entry in plain["Entries"]
        ]
        return _json({"Successful": done, "Failed": failed})

    def _send(self, plain: dict[str, Any]) -> dict[str, Any]:
        url, body = plain["QueueUrl"], plain["MessageBody"]
        if url.endswith("timers"):
            group = plain["MessageAttributes"]["executionId"]["StringValue"]
            self.timers += 1
            self.delayed.append((self.clock.now() + plain["DelaySeconds"] * 1000, group, body))
        elif url.endswith("big"):
            copies = 2 if self.doubled else 1
            for _ in range(copies):
                name = f"{next(self._numbers):08x}"
                self.pulled.append({"id": name, "body": body, "visible": 0, "received": 0})
        elif url.endswith("dlq.fifo"):
            self.entries.append(plain)
        else:
            self.put(plain["MessageGroupId"], body, plain["MessageDeduplicationId"])
        return {"MessageId": "sent", "MD5OfMessageBody": md5(body.encode()).hexdigest()}

    def _sqs_receivemessage(self, request: Any) -> Any:
        plain = json.loads(request.body)
        now = self.clock.now()
        ready = [one for one in self.pulled if one["visible"] <= now]
        for one in ready[: plain["MaxNumberOfMessages"]]:
            one["visible"] = now + plain["VisibilityTimeout"] * 1000
            one["received"] += 1
        taken = [
            {
                "MessageId": one["id"],
                "ReceiptHandle": f"{one['id']}/{one['received']}",
                "MD5OfBody": md5(one["body"].encode()).hexdigest(),
                "Body": one["body"],
            }
            for one in ready[: plain["MaxNumberOfMessages"]]
        ]
        return _json({"Messages": taken})

    def _sqs_getqueueattributes(self, request: Any) -> Any:
        assert json.loads(request.body)["AttributeNames"] == ["ApproximateNumberOfMessages"]
        return _json({"Attributes": {"ApproximateNumberOfMessages": str(len(self.queue))}})

    def _pulled(self, request: Any) -> list[dict[str, Any]]:
        name, _, received = json.loads(request.body)["ReceiptHandle"].partition("/")
        return [
            one for one in self.pulled if one["id"] == name and one["received"] == int(received)
        ]

    def _sqs_deletemessage(self, request: Any) -> Any:
        gone = self._pulled(request)
        self.pulled = [one for one in self.pulled if one not in gone]
        return _json({})

    def _sqs_changemessagevisibility(self, request: Any) -> Any:
        for one in self._pulled(request):
            one["visible"] = self.clock.now() + json.loads(request.body)["VisibilityTimeout"] * 1000
        return _json({})

    def _sqs_changemessagevisibilitybatch(self, request: Any) -> Any:
        entries = json.loads(request.body)["Entries"]
        for entry in entries:
            self.visibility[entry["ReceiptHandle"]] = entry["VisibilityTimeout"]
        return _json({"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []})

    # Functions

    def _lambda_invoke(self, request: Any) -> Any:
        plain = json.loads(_body(request))
        if request.headers.get("X-Amz-Invocation-Type") in (b"Event", "Event"):
            self.called.append(unquote(urlsplit(request.url).path).split("/")[3])
            if self.called[-1] in self.gone:
                kind = {"x-amzn-errortype": "ResourceNotFoundException"}
                return _json({"Message": "Function not found"}, 404, kind)
            assert len(_body(request)) <= 1_000_000
            self.invocations[plain["execution_id"], plain["seq"], plain["attempt"]] += 1
            if not self.loses(f"invocation {plain['seq']}"):
                self.invoked.append(plain)
                self.functions.append(request.url.rpartition("/functions/")[2].partition("/")[0])
            return 202, {}, b""
        assert self.asked is not None
        try:
            return _json(self.asked(plain))
        except Exception as error:
            body = {"errorType": type(error).__name__, "errorMessage": str(error)}
            status, headers, text = _json(body)
            return status, {**headers, "X-Amz-Function-Error": "Unhandled"}, text

    # Schedules

    def _scheduler_createschedule(self, request: Any) -> Any:
        plain, name = json.loads(_body(request)), urlsplit(request.url).path.rpartition("/")[2]
        match = re.fullmatch(r"at\((.+)\)", plain["ScheduleExpression"])
        assert match is not None
        self.expressions.append(plain["ScheduleExpression"])
        self.targets.append(plain["Target"]["Arn"])
        self.keys.append(plain.get("KmsKeyArn"))
        if name in self.schedules:
            return _json({"Message": "it exists"}, 409, {"x-amzn-errortype": "ConflictException"})
        at = datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        target = json.loads(plain["Target"]["Input"])
        self.schedules[name] = (round(at.timestamp() * 1000), target)
        return _json({"ScheduleArn": f"arn:aws:scheduler:::{name}"})

    def _scheduler_deleteschedule(self, request: Any) -> Any:
        name = urlsplit(request.url).path.rpartition("/")[2]
        if self.schedules.pop(name, None) is None:
            kind = {"x-amzn-errortype": "ResourceNotFoundException"}
            return _json({"Message": "there is none"}, 404, kind)
        return _json({})

    # Tables and objects

    def _write_item(self, call: str, body: bytes) -> Any:
        again = call == "PutItem" and self.after_answer
        if again and self.after_answer.pop(0) == "again":
            self.tables.answer(call, json.loads(body))
        status, plain = self.tables.answer(call, json.loads(body))
        return _json(plain, status, {"content-type": "application/x-amz-json-1.0"})

    def _s3_putobject(self, request: Any) -> Any:
        key, body = _key(request), _body(request)
        befalls = self.after_answer.pop(0) if self.after_answer else None
        if befalls == "conflict":
            return _error(409, "ConditionalRequestConflict")
        if befalls == "again":
            self._s3_putobject(request)
        found = self.objects.get(key)
        if _header(request, "If-None-Match") == "*" and found is not None:
            return _error(412, "PreconditionFailed")
        expected = _header(request, "If-Match")
        if expected is not None:
            if found is None:
                return _error(404, "NoSuchKey")
            if expected != _etag(found):
                return _error(412, "PreconditionFailed")
        self.objects[key] = body
        return 200, {"ETag": _etag(body)}, b""

    def _s3_getobject(self, request: Any) -> Any:
        found = self.objects.get(_key(request))
        if found is None:
            return _error(404, "NoSuchKey")
        etag = _etag(found)
        if _header(request, "If-None-Match") == etag:
            return 304, {"ETag": etag}, b""
        part = re.fullmatch(r"bytes=0-(\d+)", _header(request, "Range") or "")
        if part is None:
            return 200, {"ETag": etag}, found
        return 206, {"ETag": etag}, found[: int(part[1]) + 1]

    def _s3_deleteobject(self, request: Any) -> Any:
        self.objects.pop(_key(request), None)
        return 204, {}, b""

    def _s3_listobjectsv2(self, request: Any) -> Any:
        query = {k: v[0] for k, v in parse_qs(urlsplit(request.url).query).items()}
        start, limit = query.get("start-after", ""), int(query.get("max-keys", "1000"))
        keys = sorted(
            (key for key in self.objects if key.startswith(query["prefix"]) and key > start),
            key=str.encode,
        )
        folders = set[str]()
        if "delimiter" in query:
            length = len(query["prefix"])
            rest = {key: key[length:].partition("/") for key in keys}
            folders = {key[:length] + head + "/" for key, (head, found, _) in rest.items() if found}
            keys = [key for key in keys if not rest[key][1]]
            assert len(folders) + len(keys) <= limit
        listed = "".join(
            f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            for folder in sorted(folders)
        )
        listed += "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys[:limit])
        more = "true" if len(keys) > limit else "false"
        text = f"<ListBucketResult><IsTruncated>{more}</IsTruncated>{listed}</ListBucketResult>"
        return 200, {"content-type": "application/xml"}, text.encode()


ALLOWED = re.compile("[\\t\\n\\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
"""What a message may be made of (SQS API Reference, SendMessage)."""


def _has_allowed(plain: dict[str, Any]) -> bool:
    """Whether SQS takes the texts of a message, or of several."""
    entries = plain.get("Entries", [plain])
    attributes = (entry.get("MessageAttributes", {}).values() for entry in entries)
    texts = [each["StringValue"] for some in attributes for each in some]
    return all(map(ALLOWED.fullmatch, [*texts, *(entry["MessageBody"] for entry in entries)]))


def _key(request: Any) -> str:
    """What follows the bucket's name."""
    return unquote(urlsplit(request.url).path).split("/", 2)[2]


def _body(request: Any) -> bytes:
    body = request.body
    return body.getvalue() if isinstance(body, BytesIO) else (body or b"")


def _header(request: Any, name: str) -> str | None:
    value = request.headers.get(name)
    return value.decode() if isinstance(value, bytes) else value


def _etag(body: bytes) -> str:
    return f'"{md5(body).hexdigest()}"'


def _json(plain: Any, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    return (
        status,
        {"content-type": "application/json", **(headers or {})},
        json.dumps(plain).encode(),
    )


def _error(status: int, code: str) -> Any:
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return status, {"content-type": "application/xml"}, text.encode()
