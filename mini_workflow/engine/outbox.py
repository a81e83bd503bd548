"""Turn the messages of a decision into entries for the mailboxes of other executions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from mini_workflow.core import events, wire
from mini_workflow.core.asks import answer_of_closed, answers_at_end, nobody
from mini_workflow.core.children import closed_signal, end_children, tell_parent
from mini_workflow.core.commands import Command, SendMessage, StartChild
from mini_workflow.core.events import ChildFailed, Message
from mini_workflow.core.failure import Failure
from mini_workflow.core.run import Run
from mini_workflow.core.slots import leave_limits
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.wire import decode_message
from mini_workflow.engine.runs import first_event
from mini_workflow.errors import WireError
from mini_workflow.ports import QueuedMessage, Stored

NOT_STARTED: Final = "not started"
"""The status in a signal about an execution that was not started, because its id was taken."""


def outbox(commands: Iterable[Command]) -> tuple[QueuedMessage, ...]:
    """Return the messages among the commands, to be posted with the commit that decides them."""
    messages: list[QueuedMessage] = []
    for command in commands:
        if isinstance(command, SendMessage):
            asked, body, name = command.message, wire.encode(command.message), command.execution_id
            otherwise = ""
            if isinstance(asked, events.Asked):
                otherwise = wire.encode(nobody(asked.id, name, asked.at).message)
            messages.append(QueuedMessage(name, body, command.key, otherwise))
    return tuple(messages)


def outbox_with_starts(
    name: str, commands: Iterable[Command], now: int, entropy: Callable[[], int]
) -> list[QueuedMessage]:
    """Return the messages and the starts of children, in the order of the commands: a message to a child must
    not come before its start.
    """
    messages: list[QueuedMessage] = []
    for command in commands:
        if isinstance(command, StartChild):
            messages.append(child_start(name, command, now, entropy()))
        else:
            messages += outbox((command,))
    return messages


def child_start(parent: str, command: StartChild, now: int, entropy: int) -> QueuedMessage:
    """Return the message by which a child begins, on the process that takes its messages."""
    about = command.parent(parent)
    started = first_event(
        *(command.workflow, command.arguments, now, entropy, about, command.worker),
        timing=command.timing,
        tags=command.tags,
        headers=command.headers,
    )
    return QueuedMessage(
        command.execution_id, wire.encode(started), f"{parent}/{command.seq}/child"
    )


def not_started(about: dict[str, Any], name: str, at: int, failure: Failure) -> QueuedMessage:
    """Return the message to an execution whose child, or detached execution, could not be started. `about` is
    the `parent` that the first event would have.
    """
    parent, seq = about["id"], about["seq"]
    key = f"{parent}/{seq}/start"
    message: events.Event = ChildFailed(at, seq, failure)
    if "notify" in about:
        message = closed_signal(about, name, NOT_STARTED, at, key)
    return QueuedMessage(parent, wire.encode(message), key)


def closing_messages(
    stored: Stored, closing: events.ExecutionTerminated | None, arriving: Iterable[Message]
) -> tuple[QueuedMessage, ...]:
    """Return the last messages of an execution that ends without running its code. `arriving` are messages
    that it does not take.
    """
    if closing is None:
        return ()
    try:
        history = [wire.decode(line) for line in stored.events]
        state = ExecutionState.of(history)
        parked = [decode_message(line) for line in stored.parked]
    except WireError:
        return ()
    first = history[0]
    started = first if isinstance(first, events.ExecutionStarted) else None
    return outbox(_parting(stored.head.execution_id, started, state, closing, (*parked, *arriving)))


def family_messages(
    run: Run, end: events.ExecutionTerminated, left: Iterable[Message]
) -> tuple[SendMessage, ...]:
    """Return the last messages of a run that is terminated without its code. `left` are messages that it does
    not take.
    """
    return tuple(_parting(run.execution_id, run.started, run.state, end, left))


def _parting(
    name: str,
    started: events.ExecutionStarted | None,
    state: ExecutionState,
    end: events.ExecutionTerminated,
    left: Iterable[Message],
) -> Iterable[SendMessage]:
    yield from end_children(name, state)
    yield from tell_parent(name, started, state, end)
    yield from leave_limits(name, state)
    yield from answers_at_end(name, state, end)
    for message in left:
        if isinstance(message, events.Asked):
            yield answer_of_closed(name, state, end, message)
