"""Describe a promise that waits to be completed, and take its heartbeats."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from mini_workflow.class_names import name_of
from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.duplicates import admit
from mini_workflow.core.promises import make_token, read_token, reason_of
from mini_workflow.core.records import field, frozen
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.validation import check_reason
from mini_workflow.core.wire import decode_message
from mini_workflow.engine.instants import instant
from mini_workflow.errors import ValueTooLarge
from mini_workflow.ports import Stored

ToPromise = events.PromiseCompleted | events.PromiseFailed | events.PromiseHeartbeat
"""The messages to a promise."""

LONGEST_DETAILS: Final = 4096
"""Bytes of the details of a heartbeat when they are encoded: they are written with each heartbeat, and read
whenever the execution is loaded from the store. Our own bound."""


@frozen
class OpenPromise:
    """A promise that waits to be completed. `number` is the number of its operation; `name` is empty for a
    promise without one. Everybody who has the `token` may complete it. The promise raises PromiseTimeout at
    the time `until`, unless a heartbeat moves that; None for never. `last_heartbeat` is the time of the last
    heartbeat, with its `details`; None if there was none.
    """

    number: int
    name: str
    token: str = field(shown=False)
    until: datetime | None = None
    last_heartbeat: datetime | None = None
    details: Any = None


def open_promises_of(stored: Stored, codec: Codec) -> list[OpenPromise]:
    """Return the open promises of a stored execution, in order. Raises WireError."""
    execution_id = stored.head.execution_id
    history = [wire.decode(line) for line in stored.events]
    state = ExecutionState.of(history)
    if state.closed:
        return []
    for message in map(decode_message, stored.parked):
        if isinstance(message, events.PromiseHeartbeat) and admit(state, message) is not None:
            state.hear(message)
    codec = codec.for_execution(execution_id)
    names = {e.seq: e.name for e in history if isinstance(e, events.PromiseCreated)}
    return [
        OpenPromise(
            seq,
            names[seq],
            make_token(execution_id, seq, state.secret(seq)),
            instant(one.due),
            instant(one.heard),
            None if one.details is None else codec.decode(one.details),
        )
        for seq, one in state.promises.items()
    ]


def completion_of(
    token: str, value: Any, codec: Codec, now: int, by: str = ""
) -> tuple[str, ToPromise]:
    """Return the execution of a promise, and the message that gives it its value.

    Raises PromiseNotOpen, ValueNotSerializable or UsageError.
    """
    check_reason("", by)
    execution_id, seq, secret = read_token(token)
    payload = codec.for_execution(execution_id).encode(value, "value of the promise")
    return execution_id, events.PromiseCompleted(now, seq, payload, secret, by)


def failure_of(
    token: str, why: str | BaseException, codec: Codec, now: int, by: str = ""
) -> tuple[str, ToPromise]:
    """Return the execution of a promise, and the message that has it raise. Raises PromiseNotOpen, and
    UsageError or ValueTooLarge if `why` is no reason.
    """
    check_reason("", by)
    error = reason_of(why)
    execution_id, seq, secret = read_token(token)
    failure = codec.for_execution(execution_id).encode_failure(error)
    # The codec replaces an exception that is too large.
    if failure.type == name_of(ValueTooLarge) and not isinstance(error, ValueTooLarge):
        raise ValueTooLarge(failure.message, path="failure of the promise")
    return execution_id, events.PromiseFailed(now, seq, failure, secret, by)


def heartbeat_of(token: str, details: Any, codec: Codec, now: int) -> tuple[str, ToPromise]:
    """Return the execution of a promise, and the message that says that it is being worked on.

    Raises PromiseNotOpen, ValueNotSerializable or ValueTooLarge.
    """
    execution_id, seq, secret = read_token(token)
    payload = codec.for_execution(execution_id).encode(details, "details of the heartbeat")
    size = len(payload.text.encode())
    if size > LONGEST_DETAILS:
        raise ValueTooLarge(
            f"the details of the heartbeat take {size:,} bytes, and {LONGEST_DETAILS:,} are the most: store "
            "them elsewhere, and give a reference to them",
            path="details of the heartbeat",
        )
    return execution_id, events.PromiseHeartbeat(now, seq, payload, secret)
