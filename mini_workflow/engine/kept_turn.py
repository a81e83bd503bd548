"""Make turns that run no code: messages to an execution that cannot go on are kept."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from mini_workflow.core import events
from mini_workflow.core.events import Message
from mini_workflow.core.records import replace
from mini_workflow.engine.outbox import closing_messages
from mini_workflow.engine.runs import blocked
from mini_workflow.engine.turn_data import Delivery, Turn, ended_lines, lines_to_keep
from mini_workflow.ports import Commit, Head, Stored, reopened

log = logging.getLogger("mini_workflow.engine")


def blocked_turn(delivery: Delivery, stored: Stored, error: BaseException) -> Turn:
    """Return a turn that keeps the messages of a delivery, and marks the execution as blocked by `error`. No
    code of it runs.
    """
    head = stored.head
    if head.closed_at is not None:
        log.error("[%s] closed, but %s", head.execution_id, error)
        after = replace(head, busy=False, wake_at=None)
    else:
        after = blocked(head, error)
    return kept_turn(delivery, stored, after)


def kept_turn(delivery: Delivery, stored: Stored, after: Head, length: int | None = None) -> Turn:
    """Return a turn that keeps the messages of a delivery, with `after` as the head. Only a termination takes
    effect, since it needs no code. `length` is the number of events; by default `stored` has them all.
    """
    length = stored.head.base + len(stored.events) if length is None else length
    closing = termination(delivery.messages) if after.closed_at is None else None
    if closing is not None:
        after = replace(
            reopened(after),
            status="terminated",
            closed_at=closing.at,
            busy=False,
            wake_at=None,
        )
    commit = Commit(
        execution_id=delivery.execution_id,
        expected=length,
        events=() if closing is None else ended_lines(stored, closing, delivery.messages),
        head=after if after != stored.head or delivery.resume else None,
        park=lines_to_keep(delivery.messages, after),
        unpark=closing is not None,
        taken=tuple(delivery.entries),
        outbox=closing_messages(stored, closing, delivery.messages),
    )
    return Turn(delivery, commit, after, None, closing=closing)


def termination(messages: Iterable[Message]) -> events.ExecutionTerminated | None:
    """Return the request to end the execution at once that is among the messages, or None."""
    return next((m for m in messages if isinstance(m, events.ExecutionTerminated)), None)
