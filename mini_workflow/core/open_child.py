"""Open children: what becomes of the state of a run when a child of it begins, is given up, or ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mini_workflow.core import events
from mini_workflow.core.continuation import OpenChild

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState


def child_started(state: ExecutionState, event: events.ChildStarted) -> None:
    """Have a child that has not ended."""
    state.check_open(event)
    state.children[event.seq] = OpenChild(event.id, event.on_parent_close)


def child_cancelled(state: ExecutionState, event: events.ChildCancelled) -> None:
    """Wait for a child no longer."""
    state.child_ids[event.seq] = state.children.pop(event.seq).id


def child_ended(state: ExecutionState, event: events.ChildCompleted | events.ChildFailed) -> None:
    """Know of the end of a child, also of one that was given up or is of an earlier run."""
    if event.seq in state.child_ids:
        del state.child_ids[event.seq]
    elif event.seq in state.inherited:
        del state.inherited[event.seq]
    else:
        del state.children[event.seq]
