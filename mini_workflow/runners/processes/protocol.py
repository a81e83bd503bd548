"""Encode and decode the messages between the engine and a worker process.

A frame is a head (kind, attempt, execution id) and a sealed body. The body begins with the kind
again, so that the seal covers it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from mini_workflow.core.codec import bytes_of_call
from mini_workflow.errors import MiniWorkflowError, TaskError
from mini_workflow.ports import StreamWrite, TaskOutcome, TaskRequest
from mini_workflow.runners.processes.worker_config import Seal, Unseal
from mini_workflow.stream_buffer import Result

Key = tuple[str, int, int]

_HEAD: Final = Struct(">BQIH")  # kind, sequence number, attempt, bytes of the execution id
# Kind, timeout or -1, heartbeat timeout or -1, when it was scheduled, bytes of the name, of the details and
# of the headers.
_REQUEST: Final = Struct(">BqqqIII")
_CODING: Final = ("utf-8", "surrogatepass")


class Kind(IntEnum):
    """The kind of a frame."""

    READY = 1  # worker: send me work
    UNFIT = 2  # worker: I cannot start; the rest is why, as text
    RUN = 3  # engine: run this attempt
    RUN_ASYNC = 4
    CANCEL = 5  # engine: nobody waits for this attempt
    BYE = 6  # engine: end
    RESULT = 7  # worker: the attempt has ended
    FAILURE = 8
    HEARTBEAT = 9  # worker: the attempt is alive
    AWAITS = 10  # worker: the sync attempt is a coroutine, and ends by itself at its timeout
    WARNING = 11  # worker: a text for the log
    CHUNKS = 12  # worker: the attempt writes to streams
    STORED = 13  # engine: the results of these writes


class Frame(NamedTuple):
    """A frame with its head read and its body still sealed."""

    kind: int
    key: Key
    sealed: bytes


def plain(kind: Kind, text: str = "") -> bytes:
    """Return a frame about no attempt, which needs no seal."""
    return _HEAD.pack(kind, 0, 0, 0) + text.encode("utf-8", "backslashreplace")


def cancellation(key: Key, reason: str, seal: Seal) -> bytes:
    """Return a CANCEL frame."""
    return _frame(Kind.CANCEL, key, _text(Kind.CANCEL, reason), seal)


def heartbeat(key: Key, details: str | None, seal: Seal) -> bytes:
    """Return a HEARTBEAT frame."""
    return _frame(Kind.HEARTBEAT, key, _text(Kind.HEARTBEAT, details or ""), seal)


def chunks(number: int, writes: Sequence[StreamWrite], seal: Seal) -> bytes:
    """Return a CHUNKS frame about writes of one attempt; the `number` comes back with their results."""
    first = writes[0]
    text = json.dumps([number, [(one.stream, one.number, one.body) for one in writes]])
    key = (first.execution_id, first.source, first.attempt)
    return _frame(Kind.CHUNKS, key, _text(Kind.CHUNKS, text), seal)


def stored(key: Key, number: int, results: Sequence[Result], seal: Seal) -> bytes:
    """Return a STORED frame."""
    text = json.dumps([number, results])
    return _frame(Kind.STORED, key, _text(Kind.STORED, text), seal)


def awaits(key: Key, seal: Seal) -> bytes:
    """Return an AWAITS frame."""
    return _frame(Kind.AWAITS, key, _text(Kind.AWAITS, ""), seal)


def from_request(request: TaskRequest, seal: Seal) -> bytes:
    """Return a RUN or RUN_ASYNC frame."""
    kind = Kind.RUN_ASYNC if request.is_async else Kind.RUN
    name = request.name.encode(*_CODING)
    details = b"" if request.heartbeat is None else request.heartbeat.encode(*_CODING)
    headers = b"" if request.headers is None else json.dumps(request.headers).encode()
    sizes = map(len, (name, details, headers))
    limits = _number(request.timeout), _number(request.heartbeat_timeout)
    head = _REQUEST.pack(kind, *limits, request.scheduled_at, *sizes)
    body = head + name + details + headers + bytes_of_call(request.payload)
    return _frame(kind, request.key, body, seal)


def from_outcome(outcome: TaskOutcome, seal: Seal) -> bytes:
    """Return a RESULT or FAILURE frame."""
    if outcome.failure is None:
        kind, text = Kind.RESULT, outcome.result or "null"
    else:
        kind, text = Kind.FAILURE, json.dumps([outcome.failure, outcome.heartbeat])
    return _frame(kind, outcome.key, _text(kind, text), seal)


def read(data: bytes) -> Frame:
    """Return the frame. Raises ValueError if the bytes are not a frame."""
    try:
        kind, seq, attempt, size = _HEAD.unpack_from(data)
        start = _HEAD.size + size
        return Frame(kind, (data[_HEAD.size : start].decode(), seq, attempt), data[start:])
    except Exception as error:
        raise ValueError(f"not a frame: {error}") from error


def to_request(frame: Frame, unseal: Unseal) -> TaskRequest:
    """Return the attempt to run. Raises what `unseal` raises, and ValueError."""
    body = _unsealed(frame, unseal)
    kind, timeout, heartbeat_timeout, scheduled_at, *sizes = _REQUEST.unpack_from(body)
    name_ends = _REQUEST.size + sizes[0]
    details_end = name_ends + sizes[1]
    headers_end = details_end + sizes[2]
    details = body[name_ends:details_end]
    return TaskRequest(
        *frame.key,
        name=body[_REQUEST.size : name_ends].decode(*_CODING),
        payload=body[headers_end:],
        timeout=None if timeout < 0 else timeout,
        is_async=kind == Kind.RUN_ASYNC,
        heartbeat_timeout=None if heartbeat_timeout < 0 else heartbeat_timeout,
        heartbeat=details.decode(*_CODING) if details else None,
        headers=json.loads(body[details_end:headers_end]) if sizes[2] else None,
        scheduled_at=scheduled_at,
    )


def to_outcome(frame: Frame, unseal: Unseal) -> TaskOutcome:
    """Return the outcome of the attempt. Raises what `unseal` raises, and ValueError."""
    text = to_text(frame, unseal)
    if frame.kind == Kind.RESULT:
        return TaskOutcome(*frame.key, result=text)
    failure, details = json.loads(text)
    return TaskOutcome(*frame.key, failure=failure, heartbeat=details)


def to_text(frame: Frame, unseal: Unseal) -> str:
    """Return the text of a frame: the reason of a CANCEL frame, the details of a HEARTBEAT frame, none of an
    AWAITS frame. Raises as `to_outcome` does.
    """
    return _unsealed(frame, unseal)[1:].decode(*_CODING)


def to_writes(frame: Frame, unseal: Unseal) -> tuple[int, list[StreamWrite]]:
    """Return the number of a CHUNKS frame, and its writes. Raises as `to_outcome` does."""
    number, found = json.loads(to_text(frame, unseal))
    name, source, attempt = frame.key
    return number, [
        StreamWrite(name, stream, source, attempt, position, body)
        for stream, position, body in found
    ]


def to_results(frame: Frame, unseal: Unseal) -> tuple[int, list[Result]]:
    """Return the number of a STORED frame, and the results. Raises as `to_outcome` does."""
    number, results = json.loads(to_text(frame, unseal))
    return number, results


def unreadable(error: Exception) -> Exception:
    """Return the error to report for a message that was refused: an error of the library as it is, another
    one within a TaskError.
    """
    if isinstance(error, MiniWorkflowError):
        return error
    return TaskError(f"a message between the engine and a worker cannot be read: {error}")


def _number(value: int | None) -> int:
    return -1 if value is None else value


def _text(kind: Kind, text: str) -> bytes:
    return bytes((kind,)) + text.encode(*_CODING)


def _frame(kind: Kind, key: Key, body: bytes, seal: Seal) -> bytes:
    execution_id, seq, attempt = key
    name = execution_id.encode()
    return _HEAD.pack(kind, seq, attempt, len(name)) + name + seal(body, execution_id, seq, attempt)


def _unsealed(frame: Frame, unseal: Unseal) -> bytes:
    body = unseal(frame.sealed, *frame.key)
    if not body or body[0] != frame.kind:
        raise ValueError("the head of a message does not belong to its body")
    return body
