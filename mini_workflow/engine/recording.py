"""Export an execution as it is stored, to a file that is replayed elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final, cast

from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event, Message
from mini_workflow.core.failure import Failure
from mini_workflow.core.history import History
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import frozen, replace
from mini_workflow.core.wire import decode_message
from mini_workflow.errors import WireError
from mini_workflow.ports import Stored


@frozen
class Recording:
    """The history of an execution's current run, and the messages behind it.

    `parked` are the messages that a blocked execution could not take, in order: a replay of them too
    finds the cause. `status` and `blocked_reason` are those at the time of the recording.
    """

    execution_id: str
    workflow: str
    history: History
    parked: tuple[Message, ...] = ()
    status: str = "running"
    blocked_reason: str | None = None

    @classmethod
    def from_stored(cls, stored: Stored) -> Recording:
        """Return the recording of a stored execution. Raises WireError."""
        head = stored.head
        return cls(
            head.execution_id,
            head.workflow,
            History.from_lines(stored.events),
            tuple(map(decode_message, stored.parked)),
            head.status,
            head.blocked_reason,
        )

    @classmethod
    def from_lines(cls, execution_id: str, lines: Iterable[str]) -> Recording:
        """Return the recording of a history alone, one event per line. Raises WireError."""
        history = History.from_lines(line for line in lines if line.strip())
        return cls(execution_id, history.started.workflow, history)

    def decoded(self, codec: Codec) -> Recording:
        """Return the recording with values and failures as they were before payload codecs encoded them,
        so that it can be read without these codecs. `codec` is the execution's. Raises PayloadNotReadable.

        The fingerprints of calls are left out: they are made with a secret that is encoded too.
        """
        others: dict[int, str] = {}
        history = [_decoded(event, codec, others) for event in self.history]
        parked = tuple(_decoded(message, codec, others) for message in self.parked)
        return replace(self, history=History(history), parked=parked)

    def to_plain(self) -> dict[str, Any]:
        """Return the recording as plain JSON."""
        return {
            "id": self.execution_id,
            "workflow": self.workflow,
            "status": self.status,
            "blocked_reason": self.blocked_reason,
            "events": [json.loads(line) for line in self.history.to_lines()],
            "parked": [json.loads(wire.encode(_storable(message))) for message in self.parked],
        }

    @classmethod
    def from_plain(cls, plain: object) -> Recording:
        """Return the recording that `to_plain` described. Raises WireError."""
        if not isinstance(plain, dict) or "events" not in plain:
            raise WireError('not a recorded execution: an object with "id" and "events" is needed')
        fields = cast("dict[str, Any]", plain)
        try:
            history = History.from_lines(map(json.dumps, fields["events"]))
            parked = tuple(decode_message(json.dumps(m)) for m in fields.get("parked", ()))
        except TypeError as error:
            raise WireError(f"not a recorded execution: {error}") from error
        return cls(
            str(fields.get("id", "")),
            history.started.workflow,
            history,
            parked,
            str(fields.get("status", "running")),
            fields.get("blocked_reason"),
        )


_OF_OTHERS: Final = (
    events.ChildStarted,
    events.StartSent,
    events.ChildCompleted,
    events.ChildFailed,
    events.AskSent,
    events.AskAnswered,
    events.AskFailed,
)


def codec_of(event: Message | Event, codec: Codec, others: dict[int, str]) -> Codec:
    """Return the codec for the values of an event: that of the execution, of a child, or of the execution
    that a signal is for. `others` are the ids of children so far, by number; this adds to them.
    """
    if isinstance(event, (events.ChildStarted, events.StartSent)):
        others[event.seq] = event.id
    elif isinstance(event, events.AskSent):
        others[event.seq] = event.target
    elif isinstance(event, events.SignalSent | events.CompletionSent):
        return codec.for_execution(event.target)
    if isinstance(event, _OF_OTHERS):
        return codec.for_execution(others.get(event.seq, ""))
    return codec


def _decoded(event: Any, codec: Codec, others: dict[int, str]) -> Any:
    own = codec_of(event, codec, others)
    changes: dict[str, Any] = {}
    for field in fields(event):
        value = getattr(event, field.name)
        if isinstance(value, Payload):
            changes[field.name] = own.plain_payload(value)
        elif isinstance(value, Failure):
            changes[field.name] = own.plain_failure(value)
    if codec.is_private and getattr(event, "call", ""):
        changes["call"] = ""
    if isinstance(event, events.ExecutionStarted):
        changes["updates"] = [_answer(about, own) for about in event.updates or ()] or None
        changes["origin"] = ""
    return replace(event, **changes)


def _answer(about: dict[str, Any], codec: Codec) -> dict[str, Any]:
    plain = {**about}
    if "result" in plain:
        plain["result"] = codec.plain_payload(Payload(tree=plain["result"])).tree
    for kind in ("failure", "refusal"):
        if kind in plain:
            plain[kind] = codec.plain_failure(Failure.from_plain(plain[kind])).to_plain()
    return plain


def _storable(message: Message) -> Any:
    # A tick is never parked: it comes again by itself.
    assert not isinstance(message, events.Tick)
    return message
