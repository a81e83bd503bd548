"""What a decision has to say to other executions: messages for their mailboxes."""

from __future__ import annotations

from collections.abc import Iterable

from mini_workflow.core import events, wire
from mini_workflow.core.children import end_children, tell_parent
from mini_workflow.core.commands import Command, SendMessage, StartChild
from mini_workflow.core.events import ChildFailed
from mini_workflow.core.failure import Failure
from mini_workflow.core.run import Run
from mini_workflow.core.state import ExecutionState
from mini_workflow.engine.runs import first_event
from mini_workflow.errors import WireError
from mini_workflow.ports import QueuedMessage, Stored


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
    about = {"id": parent, "seq": command.seq}
    started = first_event(command.workflow, command.arguments, now, entropy, about, command.tags)
    return QueuedMessage(
        command.execution_id, wire.encode(started), f"{parent}/{command.seq}/child"
    )


def not_started(parent: str, seq: int, at: int, failure: Failure) -> QueuedMessage:
    """Tells a parent that its child could not be started."""
    return QueuedMessage(
        parent, wire.encode(ChildFailed(at, seq, failure)), f"{parent}/{seq}/start"
    )


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
    return outbox([*end_children(name, state), *tell_parent(name, started, state, closing)])


def family_messages(run: Run, end: events.ExecutionTerminated) -> tuple[SendMessage, ...]:
    """Return what children and parent are told of an execution that is terminated
    without its code.
    """
    return (
        *end_children(run.execution_id, run.state),
        *tell_parent(run.execution_id, run.started, run.state, end),
    )
