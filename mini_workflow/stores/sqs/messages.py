"""Send messages to executions through the queues."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Final, Literal

from mini_workflow.core.records import frozen
from mini_workflow.errors import SignatureInvalid, StoreUnavailable, WireError
from mini_workflow.stores.aws.clients import Clients, translate_errors
from mini_workflow.stores.aws.limits import BATCH_BYTES, BATCH_ENTRIES
from mini_workflow.stores.sqs.envelopes import Envelopes, dump, parse

Kind = Literal["messages", "wake", "resume"]

KINDS: Final = ("messages", "wake", "resume")

_FIELDS: Final = {
    "execution_id": re.compile(r'"execution_id"\s*:\s*"([^"\\]*)"'),
    "seq": re.compile(r'"seq"\s*:\s*(\d+)'),
    "attempt": re.compile(r'"attempt"\s*:\s*(\d+)'),
    "signature": re.compile(r'"(?:lost|signature)"\s*:\s*"([^"\\]*)"'),
}
"""The fields of an attempt in a report that is not JSON."""


@frozen
class SqsMessage:
    """A message to an execution.

    The content of kind ``messages`` is wire lines, that of ``wake`` the time of a wake-up in
    milliseconds, and that of ``resume`` empty. Of two messages with the same `key` within five minutes
    only one arrives.
    """

    execution_id: str
    kind: Kind
    content: str
    key: str


@frozen
class Lost:
    """The report that an invocation of the worker has ended without an outcome."""

    execution_id: str
    seq: int
    attempt: int
    why: str
    request: dict[str, Any] | None = None
    """The envelope with which the worker was invoked."""


class Post:
    """Writes messages, sends them to the queue of events, and reads them from there."""

    def __init__(
        self, clients: Clients, queue_url: Callable[[], str], envelopes: Envelopes
    ) -> None:
        self._clients = clients
        self._queue_url = queue_url
        self._envelopes = envelopes

    def write(self, message: SqsMessage) -> str:
        """Return the text of a message."""
        return dump(
            self._envelopes.seal(
                message.content,
                ("mail", message.execution_id, message.kind),
                execution_id=message.execution_id,
                kind=message.kind,
            )
        )

    def read(self, text: str) -> SqsMessage | Lost:
        """Return the message in a text, as it was sent, or as a pipe has passed it on.

        Raises WireError or SignatureInvalid if this library did not write it, StoreUnavailable if its
        content cannot be read now.
        """
        try:
            plain = parse(text)
        except WireError:
            found = _salvaged(text)
            if found is None:
                raise
            return self._lost(found)
        inner = plain.get("event")
        if isinstance(inner, str):
            plain = parse(inner)
        elif isinstance(inner, dict):
            plain = inner  # pyright: ignore[reportUnknownVariableType]
        lost = plain.get("lost")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(lost, dict):
            return self._lost(lost)  # pyright: ignore[reportUnknownArgumentType]
        name, kind = plain.get("execution_id"), plain.get("kind")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not isinstance(name, str) or kind not in KINDS:
            raise WireError(f"not a message to an execution: {text[:200]!r}")
        content = self._envelopes.open(plain, ("mail", name, kind))  # pyright: ignore[reportUnknownArgumentType]
        if kind == "wake" and not content.isdecimal():
            raise WireError(f"not the time of a wakeup: {content[:100]!r}")
        return SqsMessage(name, kind, content, "")  # pyright: ignore[reportArgumentType]

    def certificate(self, execution_id: str, seq: int, attempt: int) -> str:
        """Return the code that proves the report of a lost attempt."""
        return self._envelopes.certify(_attempt(execution_id, seq, attempt))

    def report_lost(self, execution_id: str, seq: int, attempt: int, why: str) -> None:
        """Send the report that an attempt has ended without an outcome. Raises StoreUnavailable."""
        certificate = self.certificate(execution_id, seq, attempt)
        named = {"execution_id": execution_id, "seq": seq, "attempt": attempt, "error": why}
        key = "/".join(map(str, ("lost", execution_id, seq, attempt)))
        self._send(
            [
                {
                    "MessageBody": dump({"lost": {**named, "signature": certificate}}),
                    "MessageGroupId": execution_id,
                    "MessageDeduplicationId": deduplication_id(key),
                }
            ]
        )

    def _lost(self, plain: dict[str, Any]) -> Lost:
        """Return the report of a lost attempt, from the record that Lambda sends after a failure.

        The record has a request, a context and a response. An older pipe has picked the fields itself.
        """
        request, response = plain.get("request"), plain.get("response")
        if isinstance(request, dict):
            named: dict[str, Any] = {**request, "signature": request.get("lost")}  # pyright: ignore[reportUnknownMemberType]
            words = [_text(response, "errorType"), _text(response, "errorMessage")]
            condition = _text(plain.get("context"), "condition")
        else:
            named = plain
            words = [_text(plain, "type"), _text(plain, "error")]
            condition = _text(plain, "condition")
        try:
            name, seq, attempt = named["execution_id"], int(named["seq"]), int(named["attempt"])
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(f"not the report of a lost attempt: {str(plain)[:200]}") from error
        if not isinstance(name, str):
            raise SignatureInvalid("the report of a lost attempt names no execution")
        self._envelopes.verify(named.get("signature"), _attempt(name, seq, attempt))
        why = ": ".join(word for word in words if word) or condition
        return Lost(name, seq, attempt, why, request if isinstance(request, dict) else None)  # pyright: ignore[reportUnknownArgumentType]

    def send(self, messages: Iterable[SqsMessage]) -> None:
        """Send messages; those for one execution arrive in order.

        Raises StoreUnavailable; some may have been sent then.
        """
        entries = [
            {
                "MessageBody": self.write(message),
                "MessageGroupId": message.execution_id,
                "MessageDeduplicationId": deduplication_id(message.key),
            }
            for message in messages
        ]
        for batch in _batches(entries):
            self._send(batch)

    def _send(self, entries: list[dict[str, str]]) -> None:
        sqs, url = self._clients.get("sqs"), self._queue_url()
        with translate_errors(f"sending to queue {url!r}"):
            if len(entries) == 1:
                sqs.send_message(QueueUrl=url, **entries[0])
                return
            numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
            answer = sqs.send_message_batch(QueueUrl=url, Entries=numbered)
        failed = answer.get("Failed", ())
        if failed:
            first = failed[0]
            raise StoreUnavailable(
                f"sending to queue {url!r}: {len(failed)} of {len(entries)} messages failed, the "
                f"first one with {first.get('Code')}: {first.get('Message')}"
            )


def deduplication_id(key: str) -> str:
    """Return an id that SQS accepts, the same for the same key."""
    return sha256(key.encode()).hexdigest()


def _attempt(execution_id: str, seq: int, attempt: int) -> tuple[str, ...]:
    return ("lost", execution_id, str(seq), str(attempt))


def _salvaged(text: str) -> dict[str, Any] | None:
    """Return the attempt of a report that is not JSON, since a pipe has put other text into it.

    None if the text is no report of a lost attempt.
    """
    if '"lost"' not in text:
        return None
    found = {field: pattern.search(text) for field, pattern in _FIELDS.items()}
    return {field: match[1] for field, match in found.items() if match is not None} or None


def _text(plain: object, field: str) -> str:
    """Return the text of a field; empty if there is none."""
    value: Any = plain.get(field) if isinstance(plain, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return "" if value is None else str(value)  # pyright: ignore[reportUnknownArgumentType]


def _batches(entries: list[dict[str, str]]) -> Iterable[list[dict[str, str]]]:
    batch: list[dict[str, str]] = []
    size = 0
    for entry in entries:
        length = len(entry["MessageBody"].encode())
        if batch and (len(batch) == BATCH_ENTRIES or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += length
    if batch:
        yield batch
