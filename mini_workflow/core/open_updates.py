"""Open updates: what becomes of the state of a run when an update is accepted, answered, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mini_workflow.core import events
from mini_workflow.core.continuation import remember

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState


def update_accepted(state: ExecutionState, event: events.UpdateAccepted) -> None:
    """Have an update that is not answered, for which another execution may wait."""
    state.updates[event.id] = False
    if event.asker:
        state.askers[event.id] = "update"


def update_ended(
    state: ExecutionState, event: events.UpdateCompleted | events.UpdateFailed
) -> None:
    """Know what it was answered with."""
    if event.id not in state.updates:
        raise KeyError(event.id)
    state.updates[event.id] = True
    remember(state.answers, state.now, event)


def update_refused(state: ExecutionState, event: events.UpdateRefused) -> None:
    """Know that it was refused."""
    remember(state.answers, event.at, event)
