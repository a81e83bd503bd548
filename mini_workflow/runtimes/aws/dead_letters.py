"""Dead letters: the messages that an engine on AWS could not handle, their executions, and the reasons.

An engine has four queues of them. Their addresses are found in the configuration of the deployed functions:

| kind | messages in it | they are sent again to |
| --- | --- | --- |
| events | messages that the orchestrator could not read, or has failed with for hours | the queue of events |
| timers | timers that the pipe could not pass on | the queue of timers |
| failures | reports of dead attempts that the pipe could not pass on | the queue of failures |
| schedules | timers that EventBridge Scheduler could not send | the queue of events |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

from mini_workflow import settings
from mini_workflow.core.records import frozen, replace
from mini_workflow.errors import (
    SettingMissing,
    SignatureInvalid,
    StoreError,
    StoreUnavailable,
    WireError,
)
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.stores.aws.clients import translate_errors
from mini_workflow.stores.aws.limits import BATCH_ENTRIES
from mini_workflow.stores.sqs.messages import Lost, deduplication_id

Kind = Literal["events", "timers", "failures", "schedules"]

KINDS: Final[tuple[Kind, ...]] = ("events", "timers", "failures", "schedules")

HIDDEN: Final = 60
"""Seconds for which messages are hidden from others while this process looks at them. It shows them again
afterwards, unless it dies. Our own bound."""

WAIT: Final = 1
"""Seconds to wait for messages: with 0, SQS asks only some of its servers, and may find none (SQS
Developer Guide, "Short and long polling")."""


@frozen
class DeadLetterQueue:
    """A queue of dead letters: its `url`, the URL of the `source` queue to which its messages are sent again,
    and how many messages are `waiting` in it. `problem` says why the queue cannot be found or read; empty if
    it can.
    """

    kind: Kind
    url: str = ""
    source: str = ""
    waiting: int = 0
    problem: str = ""


@frozen
class DeadLetter:
    """A message that could not be handled. `id` is its id in SQS, and `receives` counts how often it was
    received from this queue. `about` describes its content, and `reason` says why it could not be handled.
    `execution_id` is empty if the message names none.
    """

    id: str
    queue: DeadLetterQueue
    execution_id: str
    about: str
    reason: str
    sent_at: datetime | None
    receives: int
    body: str
    receipt: str
    group: str
    attributes: Mapping[str, Any]


class DeadLetters:
    """Finds, reads, sends again and deletes dead letters. Raises StoreUnavailable if AWS refuses."""

    def __init__(self, container: Container) -> None:
        self._parts = container
        self._known: dict[str, str] | None = None

    # Which queues there are

    def queues(self) -> list[DeadLetterQueue]:
        """Return all queues of dead letters that the engine has, in the order of `KINDS`."""
        find: dict[Kind, Callable[[], tuple[str, str] | None]] = {
            "events": self._of_events,
            "timers": self._of_timers,
            "failures": self._of_failures,
            "schedules": self._of_schedules,
        }
        found = (self._queue(kind, find[kind]) for kind in KINDS)
        return [queue for queue in found if queue is not None]

    def _queue(
        self, kind: Kind, find: Callable[[], tuple[str, str] | None]
    ) -> DeadLetterQueue | None:
        try:
            place = find()
            if place is None:
                return None
            return DeadLetterQueue(kind, *place, self._waiting(place[0]))
        except (StoreError, SettingMissing) as error:
            return DeadLetterQueue(kind, problem=str(error))

    def _of_events(self) -> tuple[str, str]:
        source = self._setting(settings.QUEUE_URL)
        try:
            return self._setting(settings.DLQ_URL), source
        except (StoreError, SettingMissing):
            return self._redriven(source), source

    def _of_timers(self) -> tuple[str, str]:
        source = self._setting(settings.TIMER_QUEUE_URL)
        return self._redriven(source), source

    def _of_failures(self) -> tuple[str, str]:
        worker = self._setting(settings.WORKER_FUNCTION_NAME)
        with translate_errors(f"asking where the failures of function {worker!r} go"):
            found = self._client("lambda").get_function_event_invoke_config(FunctionName=worker)
        arn = found.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", "")
        if not arn:
            raise StoreUnavailable(
                f"function {worker!r} has no destination for failures: deploy the engine again"
            )
        source = self._url(arn)
        return self._redriven(source), source

    def _of_schedules(self) -> tuple[str, str] | None:
        arn = self._setting(settings.SCHEDULE_DLQ_ARN)
        return (self._url(arn), self._setting(settings.QUEUE_URL)) if arn else None

    def _setting(self, name: str) -> str:
        """Return a setting of this process, or else of the orchestrator, which has all of them."""
        try:
            if value := self._parts.settings.get(name):
                return value
        except SettingMissing:
            if name == settings.ORCHESTRATOR_FUNCTION_NAME:
                raise
        if self._known is None:
            function = self._setting(settings.ORCHESTRATOR_FUNCTION_NAME)
            with translate_errors(f"reading the configuration of function {function!r}"):
                found = self._client("lambda").get_function_configuration(FunctionName=function)
            self._known = cast("dict[str, str]", found.get("Environment", {}).get("Variables", {}))
        return settings.Settings(self._known).get(name)

    def _redriven(self, source: str) -> str:
        """Return the queue to which SQS moves messages that were received from the source too often."""
        with translate_errors(f"reading the attributes of queue {source!r}"):
            found = self._client("sqs").get_queue_attributes(
                QueueUrl=source, AttributeNames=["RedrivePolicy"]
            )
        policy = found.get("Attributes", {}).get("RedrivePolicy")
        if not policy:
            raise StoreUnavailable(
                f"queue {source!r} has no queue of dead letters: deploy the engine again"
            )
        return self._url(json.loads(policy)["deadLetterTargetArn"])

    def _url(self, arn: str) -> str:
        name, account = arn.rpartition(":")[2], arn.split(":")[-2]
        with translate_errors(f"looking for queue {arn}"):
            found = self._client("sqs").get_queue_url(
                QueueName=name, QueueOwnerAWSAccountId=account
            )
        return found["QueueUrl"]

    def _waiting(self, url: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with translate_errors(f"reading the attributes of queue {url!r}"):
            found = self._client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(found["Attributes"][name]) for name in names)

    def _client(self, service: str) -> Any:
        return self._parts.clients.get(service)

    # Looking

    def read(self, queue: DeadLetterQueue, limit: int) -> list[DeadLetter]:
        """Return at most `limit` letters, which stay in the queue. Of one execution SQS hands out ten events
        at a time.
        """
        with self._taken(queue, limit) as letters:
            return list(letters)

    @contextmanager
    def _taken(self, queue: DeadLetterQueue, limit: int) -> Generator[Iterable[DeadLetter]]:
        """Receive letters, one batch after the other. Those that are still there at the end are shown to
        others again.
        """
        received: dict[str, DeadLetter] = {}
        try:
            yield self._receive(queue, limit, received)
        finally:
            self._show_again(queue, list(received.values()))

    def _receive(
        self, queue: DeadLetterQueue, limit: int, received: dict[str, DeadLetter]
    ) -> Generator[DeadLetter]:
        while len(received) < limit:
            with translate_errors(f"receiving from queue {queue.url!r}"):
                answer = self._client("sqs").receive_message(
                    QueueUrl=queue.url,
                    MaxNumberOfMessages=min(BATCH_ENTRIES, limit - len(received)),
                    VisibilityTimeout=HIDDEN,
                    WaitTimeSeconds=WAIT,
                    AttributeNames=["All"],
                    MessageAttributeNames=["All"],
                )
            found = [self._letter(queue, message) for message in answer.get("Messages", ())]
            new = [letter for letter in found if letter.id not in received]
            received |= {letter.id: letter for letter in found}
            yield from new
            if not new:
                return

    def _show_again(self, queue: DeadLetterQueue, letters: list[DeadLetter]) -> None:
        for start in range(0, len(letters), BATCH_ENTRIES):
            entries = [
                {"Id": str(number), "ReceiptHandle": letter.receipt, "VisibilityTimeout": 0}
                for number, letter in enumerate(letters[start : start + BATCH_ENTRIES])
            ]
            with translate_errors(f"changing the visibility of messages in queue {queue.url!r}"):
                # Deleted letters are answered as failed, which does not matter.
                self._client("sqs").change_message_visibility_batch(
                    QueueUrl=queue.url, Entries=entries
                )

    def _letter(self, queue: DeadLetterQueue, message: Mapping[str, Any]) -> DeadLetter:
        attributes: dict[str, Any] = message.get("MessageAttributes", {})
        system: dict[str, str] = message.get("Attributes", {})
        letter = DeadLetter(
            id=message["MessageId"],
            queue=queue,
            execution_id=system.get("MessageGroupId", ""),
            about="",
            reason="",
            sent_at=_moment(system.get("SentTimestamp")),
            receives=int(system.get("ApproximateReceiveCount", "0")),
            body=message["Body"],
            receipt=message["ReceiptHandle"],
            group=system.get("MessageGroupId", ""),
            attributes=attributes,
        )
        return self._decoded(letter)

    def _decoded(self, letter: DeadLetter) -> DeadLetter:
        """Return the letter with its execution, its content in words, and the reason why it is here."""
        reasons = _REASONS[letter.queue.kind]
        texts = [_attribute(letter, name) for name in ("reason", "ERROR_CODE", "ERROR_MESSAGE")]
        reason = ": ".join(text for text in texts if text) or reasons
        named = letter.execution_id or _attribute(letter, "executionId")
        body = letter.body
        if letter.queue.kind == "schedules":
            request = _plain(body)
            body, named = (
                str(request.get("MessageBody", "")),
                str(request.get("MessageGroupId", "")),
            )
        elif letter.queue.kind == "failures":
            report = _plain(body)
            body = json.dumps(
                {
                    "lost": {
                        "request": report.get("requestPayload"),
                        "context": report.get("requestContext"),
                        "response": report.get("responsePayload"),
                    }
                }
            )
        try:
            message = self._parts.post.read(body)
        except (WireError, SignatureInvalid, SettingMissing, StoreError) as error:
            about = f"a message that cannot be read here: {type(error).__name__}: {error}"
            named = named or _named_in(body)
        else:
            named = message.execution_id
            if isinstance(message, Lost):
                why = f": {message.why}" if message.why else ""
                about = f"attempt {message.attempt} of task #{message.seq} is lost{why}"
            elif message.kind == "messages":
                about = ", ".join(_event_in(line) for line in message.content.split("\n") if line)
            elif message.kind == "wake":
                about = f"a timer that is due at {_moment(message.content):%Y-%m-%d %H:%M:%S}Z"
            else:
                about = message.kind
        return replace(letter, execution_id=named, about=about, reason=reason)

    # Sending again and deleting

    def redrive(
        self, queue: DeadLetterQueue, wanted: Callable[[DeadLetter], bool], limit: int
    ) -> Generator[DeadLetter]:
        """Send the `wanted` letters again to the queue that they came from, and delete each afterwards.
        Yields each when that is done. If the process dies in between, some are sent twice.

        At most `limit` letters are looked at: one that comes back here at once is not sent for ever.
        """
        with self._taken(queue, limit) as letters:
            for letter in letters:
                if wanted(letter):
                    self._send_again(letter)
                    self._delete(letter)
                    yield letter

    def drop(
        self, queue: DeadLetterQueue, wanted: Callable[[DeadLetter], bool], limit: int
    ) -> Generator[DeadLetter]:
        """Delete the `wanted` letters, of at most `limit` that are looked at. Yields each when that
        is done.
        """
        with self._taken(queue, limit) as letters:
            for letter in letters:
                if wanted(letter):
                    self._delete(letter)
                    yield letter

    def _send_again(self, letter: DeadLetter) -> None:
        kind, source = letter.queue.kind, letter.queue.source
        request: dict[str, Any] = {"MessageBody": letter.body}
        if kind == "schedules":
            request = {
                name: value
                for name, value in _plain(letter.body).items()
                if name in ("MessageBody", "MessageGroupId", "MessageDeduplicationId")
            }
            if len(request) != 3:
                raise StoreUnavailable(
                    f"message {letter.id} is not from a schedule of this engine: drop it, or send it yourself"
                )
        elif kind == "events":
            # SQS drops a second one within five minutes, of a process that died before it had deleted it.
            request["MessageGroupId"] = letter.group
            request["MessageDeduplicationId"] = deduplication_id(f"redrive {letter.id}")
        elif letter.attributes:
            request["MessageAttributes"] = {
                name: {field: one[field] for field in ("DataType", "StringValue") if field in one}
                for name, one in letter.attributes.items()
            }
        with translate_errors(f"sending to queue {source!r}"):
            self._client("sqs").send_message(QueueUrl=source, **request)

    def _delete(self, letter: DeadLetter) -> None:
        with translate_errors(f"deleting from queue {letter.queue.url!r}"):
            self._client("sqs").delete_message(
                QueueUrl=letter.queue.url, ReceiptHandle=letter.receipt
            )


_REASONS: Final[Mapping[Kind, str]] = {
    "events": "the orchestrator has failed with it again and again: its log says why",
    "timers": "the pipe of timers has failed with it again and again: its log says why",
    "failures": "the pipe of failures has failed with it again and again: its log says why",
    "schedules": "EventBridge Scheduler could not send it",
}
"""The reasons of letters that do not tell a reason themselves."""


def _attribute(letter: DeadLetter, name: str) -> str:
    return str(letter.attributes.get(name, {}).get("StringValue", ""))


def _plain(text: str) -> dict[str, Any]:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", plain) if isinstance(plain, dict) else {}


def _named_in(body: str) -> str:
    """Return the id of the execution that an untrusted or unreadable message names."""
    plain = _plain(body)
    inner = plain.get("event", plain)
    lost = plain.get("lost")
    if isinstance(lost, dict):
        inner = cast("dict[str, Any]", lost).get("request")
    name = cast("dict[str, Any]", inner).get("execution_id") if isinstance(inner, dict) else ""
    return name if isinstance(name, str) else ""


def _event_in(line: str) -> str:
    plain = _plain(line)
    name = f" {plain['name']!r}" if isinstance(plain.get("name"), str) else ""
    seq = f" #{plain['seq']}" if isinstance(plain.get("seq"), int) else ""
    return f"{plain.get('event', 'an unreadable line')}{seq}{name}"


def _moment(milliseconds: str | None) -> datetime | None:
    return None if not milliseconds else datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
