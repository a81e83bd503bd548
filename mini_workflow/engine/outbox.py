"""What a decision has to say to other executions: messages for their mailboxes."""

from __future__ import annotations

from collections.abc import Iterable

from mini_workflow.core import wire
from mini_workflow.core.commands import Command, SendMessage
from mini_workflow.core.events import ChildFailed
from mini_workflow.core.failure import Failure
from mini_workflow.ports import Outgoing


def outbox(commands: Iterable[Command]) -> tuple[Outgoing, ...]:
    """The messages among the commands, to be posted with the commit that decides them."""
    return tuple(
        Outgoing(command.execution_id, wire.encode(command.message), command.key)
        for command in commands
        if isinstance(command, SendMessage)
    )


def not_started(parent: str, seq: int, at: int, failure: Failure) -> Outgoing:
    """Tells a parent that its child could not be started."""
    return Outgoing(parent, wire.encode(ChildFailed(at, seq, failure)), f"{parent}/{seq}/start")
