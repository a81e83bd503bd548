"""Recording: an execution as it is stored, to be kept in a file and replayed elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from mini_workflow.core import events, wire
from mini_workflow.core.events import Message
from mini_workflow.core.history import History
from mini_workflow.errors import WireError
from mini_workflow.ports import Stored


@dataclass(frozen=True, slots=True)
class Recording:
    """The history of an execution's current run, and what has arrived behind it.

    `parked` are the messages that an execution which is blocked could not take, in order: the
    cause is found by replaying them too. `status` and `blocked_reason` are those of the moment.
    """

    execution_id: str
    workflow: str
    history: History
    parked: tuple[Message, ...] = ()
    status: str = "running"
    blocked_reason: str | None = None

    @classmethod
    def from_stored(cls, stored: Stored) -> Recording:
        """Return the recording of what a store has loaded. Raises WireError."""
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


def decode_message(line: str) -> Message:
    """Return a message that was parked, or left in the mailbox. Raises WireError."""
    event = wire.decode(line)
    if type(event) in events.RECORDED:
        raise WireError(f"not a message: {line[:200]!r}")
    return event  # type: ignore[return-value]


def _storable(message: Message) -> Any:
    # The time is never parked: it comes again by itself.
    assert not isinstance(message, events.Tick)
    return message
