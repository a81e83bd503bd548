"""Log for operators: attempts that failed, executions that began, ended or are blocked.

Only committed turns are logged, so a replay logs nothing.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Final

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.engine.turn_data import Turn
from mini_workflow.errors import ExecutionPaused
from mini_workflow.ports import Head

log = logging.getLogger("mini_workflow.engine.executions")
log.addHandler(logging.NullHandler())  # a program without logging keeps its stderr to itself

LONGEST: Final = 500
"""Characters of a failure's message in the log; the history has the rest. Our own bound."""

_FAILED: Final = (events.TaskFailed, events.TaskRetryScheduled)


def tell(turn: Turn) -> None:
    """Log failures, starts, ends and blocks of a committed turn."""
    if turn.failed and log.isEnabledFor(logging.WARNING):
        for event in _events(turn):
            if isinstance(event, _FAILED):
                _tell_failed(turn, event)
    head, blocked = turn.head, turn.head.status == "blocked"
    if head.blocked_kind == ExecutionPaused.__name__:
        if turn.commit.head is not None:
            why = _printable(head.blocked_reason or "")
            log.info(
                "[%s] %s; call resume() to continue", head.execution_id, why, extra=_about(head)
            )
    elif blocked and (turn.commit.head is not None or turn.delivery.resume):
        log.error(
            "[%s] is blocked: %s; fix the cause, then call resume() to continue",
            head.execution_id,
            _printable(head.blocked_reason or ""),
            extra=_about(head),
        )
    if head.waits and turn.commit.head is not None and log.isEnabledFor(logging.DEBUG):
        from mini_workflow.engine.description import Description

        said = Description.from_head(head).sentence(datetime.now(UTC))
        log.debug("[%s] %s", head.execution_id, _printable(said), extra=_about(head))
    if (turn.first or turn.closing is not None) and log.isEnabledFor(logging.INFO):
        _tell_life(turn)


def _tell_failed(turn: Turn, event: events.TaskFailed | events.TaskRetryScheduled) -> None:
    head, seq = turn.head, event.seq
    name = (turn.failed or {}).get(seq)
    again = isinstance(event, events.TaskRetryScheduled)
    log.warning(
        "[%s] attempt %d of task %s failed: %s; %s",
        head.execution_id,
        event.attempt - 1 if again else event.attempt,
        f"#{seq}" if name is None else f"{name!r} (#{seq})",
        _text(event.failure),
        f"attempt {event.attempt} follows in {(event.retry_at - event.at) / 1000:g} s"
        if isinstance(event, events.TaskRetryScheduled)
        else "no other follows",
        extra=_about(head),
    )


def _tell_life(turn: Turn) -> None:
    head, closing = turn.head, turn.closing
    # An execution that is blocked in its first turn has not started: each resume would log it again.
    if turn.first and head.run == 1 and head.status != "blocked":
        log.info("[%s] started: workflow %r", head.execution_id, head.workflow, extra=_about(head))
    if closing is None:
        return
    why = getattr(closing, "reason", "")
    if isinstance(closing, events.ExecutionFailed):
        why = _text(closing.failure)
    log.info(
        "[%s] %s%s",
        head.execution_id,
        head.status,
        f": {_printable(why)}" if why else "",
        extra=_about(head),
    )


def _events(turn: Turn) -> tuple[Event, ...]:
    return () if turn.decision is None else turn.decision.events


def _about(head: Head) -> dict[str, Any]:
    return {"execution_id": head.execution_id, "workflow": head.workflow}


def _text(failure: Failure) -> str:
    return _printable(f"{failure.type.rpartition(':')[2]}: {failure.message}")


def _printable(text: str) -> str:
    """Return the text on one line, without control characters, cut at LONGEST characters."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)
