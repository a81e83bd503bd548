"""What a decision has to say to other executions: messages for their mailboxes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from mini_workflow.core import events, wire
from mini_workflow.core.children import closed_signal, end_children, sender_of, tell_parent
from mini_workflow.core.commands import Command, SendMessage, StartChild
from mini_workflow.core.events import ChildFailed
from mini_workflow.core.failure import Failure
from mini_workflow.core.run import Run
from mini_workflow.core.slots import leave_limits
from mini_workflow.core.state import ExecutionState
from mini_workflow.engine.runs import first_event
from mini_workflow.errors import WireError
from mini_workflow.ports import QueuedMessage, Stored

NOT_STARTED: Final = "not started"
"""What a signal about the end of an execution says of one whose id was taken."""


def outbox(commands: Iterable[Command]) -> tuple[QueuedMessage, ...]:
    """Return the messages among the commands, to be posted with the commit that decides them."""
    messages: list[QueuedMessage] = []
    for command in commands:
        if isinstance(command, SendMessage):
            body = wire.encode(command.message)
            messages.append(QueuedMessage(command.execution_id, body, command.key))
    return tuple(messages)


def child_start(parent: str, command: StartChild, now: int, entropy: int) -> QueuedMessage:
    """Return the message that has a child begin, wherever messages to it are taken."""
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
    """Tells a parent that its child could not be started, or whoever has started a detached execution
    that there is another one of its id; `about` is what the first event would say of it.
    """
    parent, seq = about["id"], about["seq"]
    key = f"{parent}/{seq}/start"
    message: events.Event = ChildFailed(at, seq, failure)
    if "notify" in about:
        message = closed_signal(about, name, NOT_STARTED, at, key)
    return QueuedMessage(parent, wire.encode(message), key)


def closing_messages(
    stored: Stored, closing: events.ExecutionTerminated | None
) -> tuple[QueuedMessage, ...]:
    """Return what an execution that ends without running its code has to say to its family."""
    if closing is None:
        return ()
    try:
        history = [wire.decode(line) for line in stored.events]
        state = ExecutionState.of(history)
    except WireError:
        return ()
    name, first = stored.head.execution_id, history[0]
    started = first if isinstance(first, events.ExecutionStarted) else None
    told = [*end_children(name, state), *tell_parent(name, started, state, closing)]
    return outbox([*told, *leave_limits(sender_of(name, state), name, state)])


def family_messages(run: Run, end: events.ExecutionTerminated) -> tuple[SendMessage, ...]:
    """Return what children and parent are told of an execution that is terminated
    without its code.
    """
    return (
        *end_children(run.execution_id, run.state),
        *tell_parent(run.execution_id, run.started, run.state, end),
        *leave_limits(sender_of(run.execution_id, run.state), run.execution_id, run.state),
    )
