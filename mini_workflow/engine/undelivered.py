"""Warn of messages that reached no handler."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from mini_workflow.core import events
from mini_workflow.core.events import Message
from mini_workflow.engine.turn_data import ABOUT_PROMISES, Turn
from mini_workflow.errors import ExecutionNotFound, StoreError
from mini_workflow.ports import Head, Mailbox, Store

log = logging.getLogger("mini_workflow.engine")

_SENT: Final = (events.SignalSent, events.CancelSent, events.CompletionSent)


def warn_of_nobody(turn: Turn, store: Store, mailbox: Mailbox) -> None:
    """Warn of what the turn's code has sent to executions that do not exist, and of requests to
    cancel what has closed. Called after the commit, so that what the same one has created is there. What
    was asked of an execution that was deleted just then is answered.

    Signals do reach what has closed: see `warn_of_late_signals`.
    """
    from mini_workflow.engine.asking import asked_of_nobody

    name = turn.head.execution_id
    try:
        for message in asked_of_nobody(turn, store.head):
            mailbox.post(message.execution_id, message.body, message.key)
    except (StoreError, ExecutionNotFound) as error:
        log.error(
            "[%s] its asks of executions that do not exist could not be answered; call resume() to "
            "have them sent again: %s",
            name,
            error,
        )
    for event in turn.decision.events if turn.decision is not None else ():
        if not isinstance(event, _SENT):
            continue
        try:
            head = store.head(event.target)
        except StoreError:
            return  # only the warning is lost
        cancels = isinstance(event, events.CancelSent)
        if head is not None and (not cancels or head.closed_at is None):
            continue
        what = "cancel request" if cancels else f"value of promise #{event.seq}"
        if isinstance(event, events.SignalSent):
            what = f"signal {event.name!r}"
        log.warning(
            "[%s] its %s for execution %r had no effect: %s",
            name,
            what,
            event.target,
            "there is no such execution" if head is None else f"it has closed ({head.status})",
        )


def warn_of_late_signals(turn: Turn) -> None:
    """Warn of signals that have reached an execution after its end."""
    if turn.decision is None:
        return
    for event in turn.decision.events:
        if not isinstance(event, events.SignalUnhandled):
            continue
        ids = (
            message.id
            for message in turn.delivery.messages
            if isinstance(message, events.SignalReceived) and message.value is event.value
        )
        sender = _from(next(ids, ""))
        log.warning(
            "[%s] signal %r%s came after the end of the execution, and is unhandled",
            turn.head.execution_id,
            event.name,
            sender,
        )


def warn_of_unreceived(execution_id: str, messages: Iterable[Message], head: Head | None) -> None:
    """Warn of messages that have come by a queue to an execution that does not exist, or that has
    closed. Signals do reach what has closed.
    """
    for message in messages:
        if isinstance(message, events.SignalReceived) and head is None:
            what = f"signal {message.name!r}{_from(message.id)}"
        elif isinstance(message, ABOUT_PROMISES) and head is None:
            what = f"message to its promise #{message.seq}"
        elif isinstance(message, (events.CancelRequested, events.ExecutionTerminated)):
            what = "cancel request" if isinstance(message, events.CancelRequested) else "end"
        else:
            continue
        log.warning(
            "[%s] a %s for it had no effect: %s",
            execution_id,
            what,
            "there is no such execution" if head is None else f"it has closed ({head.status})",
        )


def _from(signal_id: str) -> str:
    """Return who has sent a signal, if that was an execution."""
    sender, sent_by_one, _ = signal_id.partition("/")
    return f" from execution {sender!r}" if sent_by_one else ""
