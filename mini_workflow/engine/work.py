"""Work: what has arrived for one execution, on its way through an orchestrator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mini_workflow.core import events
from mini_workflow.core.commands import Command
from mini_workflow.core.events import Message
from mini_workflow.engine.delivery import QueueDelivery
from mini_workflow.engine.effects import WakeupPlan
from mini_workflow.engine.turn import Turn
from mini_workflow.ports.queue import NO_EFFECTS, NO_WAKEUPS, ExecutionMeta, PendingEffects

NOTHING_SET: Final = WakeupPlan(NO_WAKEUPS)


@dataclass(slots=True)
class Work:
    """An arrival on its way. The second turn of a continued execution has nothing to deliver."""

    arrival: QueueDelivery
    messages: list[Message]
    resume: bool
    races: int = 0
    runs: int = 1
    """Which run in a row this is."""
    again: bool = False
    turn: Turn | None = None
    standing: ExecutionMeta | None = None
    started: events.ExecutionStarted | None = None
    """What it begins with, if its first turn creates it."""
    owed: PendingEffects = NO_EFFECTS
    """Those of earlier commits that cannot be done now."""
    pending: PendingEffects = NO_EFFECTS
    kept: list[Message] = field(default_factory=list[Message])
    """The outcomes that were kept of attempts which would have been dispatched once more."""
    plan_wakeup: WakeupPlan = NOTHING_SET
    unfinished: bool = False
    """Whether something is left for a message of its own, because the time is up."""

    @property
    def name(self) -> str:
        """The id of the execution."""
        return self.arrival.execution_id


def pending_of(work: Work, standing: ExecutionMeta) -> PendingEffects:
    """Return the effects of the last commit if they may not have been done."""
    pending, ids = standing.pending, work.arrival.ids
    again = pending.doubtful or work.resume or not set(pending.causes).isdisjoint(ids)
    return pending if again and not standing.done else NO_EFFECTS


def commands_of(turn: Turn | None) -> tuple[Command, ...]:
    """Return what a turn has decided to have done."""
    return turn.decision.commands if turn is not None and turn.decision is not None else ()
