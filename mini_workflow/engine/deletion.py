"""Deletion of executions that have closed: which are meant, the turn that does it, and the refusal."""

from __future__ import annotations

from collections.abc import Iterable

from mini_workflow.core import events
from mini_workflow.core.events import Message
from mini_workflow.core.records import replace
from mini_workflow.engine.requests import Post
from mini_workflow.engine.turn_data import Delivery, Turn
from mini_workflow.errors import ExecutionNotClosed
from mini_workflow.ports import Commit, Head


def deletion_of(head: Head, at: int) -> events.DeletionRequested:
    """Return the request to delete the execution as it is now."""
    return events.DeletionRequested(at, head.run, head.started_at)


def is_meant(request: events.DeletionRequested, head: Head) -> bool:
    """Return whether it is still the execution that the request is about."""
    return (request.run, request.started_at) == (head.run, head.started_at)


def deletion_asked(messages: Iterable[Message], head: Head) -> bool:
    """Return whether an execution is to be deleted. What was asked for before, and begins another run,
    comes first.
    """
    for message in messages:
        if isinstance(message, events.ResetRequested):
            return False
        if isinstance(message, events.DeletionRequested) and is_meant(message, head):
            return head.closed_at is not None
    return False


def deletion_turn(delivery: Delivery, head: Head, length: int, now: int) -> Turn:
    """Return the turn that deletes an execution with so many events. None of its code is touched."""
    commit = Commit(delivery.execution_id, length, deleted_at=now)
    return Turn(delivery, commit, replace(head, busy=False, wake_at=None), None)


def deletion_refusal(request: events.DeletionRequested, head: Head) -> ExecutionNotClosed | None:
    """Return why an execution cannot be deleted as it stands, or None."""
    return not_closed(head, "" if is_meant(request, head) else " again")


def not_closed(head: Head, again: str = "") -> ExecutionNotClosed | None:
    """Return why an execution cannot be deleted that runs, perhaps `again`; None if it has closed."""
    if head.closed_at is not None:
        return None
    name = head.execution_id
    return ExecutionNotClosed(
        f"execution {name!r} is {head.status}{again}, and only what has closed can be deleted: wait for "
        "its end, or terminate() it; nothing was changed",
        execution_id=name,
    )


def run_again_before(name: str) -> ExecutionNotClosed:
    """Return why an execution is not deleted that somebody has run again before."""
    return ExecutionNotClosed(
        f"execution {name!r} was run again before it was deleted; nothing was deleted",
        execution_id=name,
    )


def asks_to_delete(request: object) -> bool:
    """Return whether that is what a client asks for."""
    return isinstance(request, Post) and isinstance(request.message, events.DeletionRequested)
