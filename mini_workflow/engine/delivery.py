"""Define the deliveries of a queue for one execution, and handle several at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from mini_workflow.core import events
from mini_workflow.core.commands import Command
from mini_workflow.core.events import Message
from mini_workflow.core.records import field, mutable, replace
from mini_workflow.engine.effects import Undone, WakeupPlan, put_off, too_many
from mini_workflow.engine.turn import Turn
from mini_workflow.engine.turn_data import ABOUT_ATTEMPTS
from mini_workflow.errors import MailboxFull, StoreError
from mini_workflow.ports import QueuedMessage, StreamWrite
from mini_workflow.ports.queue import NO_EFFECTS, NO_WAKEUPS, ExecutionMeta, PendingEffects

T = TypeVar("T")
Item = TypeVar("Item")

NOTHING_SET: Final = WakeupPlan(NO_WAKEUPS)
MISFITS: Final = ("NonDeterminismError", "UnknownWorkflow")
"""The kinds of blocks in which the code does not fit the history."""


class ConcurrentMap(Protocol):
    """Calls a function for many items, some at the same time; errors stand in their place."""

    def __call__(self, call: Callable[[Item], T], items: list[Item]) -> list[T | StoreError]:
        """Return the results, in order."""
        ...


def one_by_one(call: Callable[[Item], T], items: list[Item]) -> list[T | StoreError]:
    """Return a `ConcurrentMap` without any concurrency."""
    results: list[T | StoreError] = []
    for item in items:
        try:
            results.append(call(item))
        except StoreError as error:
            results.append(error)
    return results


@mutable
class QueueDelivery:
    """The messages that a queue has delivered for one execution. `ids` are the ids of the queue's messages,
    which are the same when these come again. `delivery` counts how often the queue has tried, from 1.
    `woken` are the times of wake-ups that have come, and `resume` says that the execution is to be resumed.
    """

    execution_id: str
    messages: list[Message] = field(default_factory=list[Message])
    woken: list[int] = field(default_factory=list[int])
    resume: bool = False
    ids: tuple[str, ...] = ()
    delivery: int = 1


class OfAnotherVersion(Exception):
    """Messages to an execution are to be taken by another `version` of the code."""

    def __init__(self, version: str) -> None:
        super().__init__(f"version {version} of the orchestrator has this execution")
        self.version = version


@mutable
class QueueTurn:
    """A delivery and its turn on the way to the commit. The second turn of an execution that continues as new
    has no messages.
    """

    arrival: QueueDelivery
    messages: list[Message]
    resume: bool
    races: int = 0
    runs: int = 1
    """The number of this run in the same delivery, from 1."""
    again: bool = False
    turn: Turn | None = None
    meta: ExecutionMeta | None = None
    version: int = 0
    """The version of the execution after the last read or write of this delivery."""
    started: events.ExecutionStarted | None = None
    """The first event, if the first turn creates the execution."""
    owed: PendingEffects = NO_EFFECTS
    """The effects of earlier commits that cannot be done now."""
    pending: PendingEffects = NO_EFFECTS
    """The effects of the commit: those that are owed, and the new ones."""
    held: tuple[QueuedMessage, ...] = ()
    """The held messages, for executions that are behind. If there are any, nothing else is owed."""
    kept: list[Message] = field(default_factory=list[Message])
    """The kept outcomes of attempts that would have been dispatched once more."""
    plan_wakeup: WakeupPlan = NOTHING_SET
    remark: str = ""
    """The text that is added to the reason if the turn blocks the execution."""
    unfinished: bool = False
    """Whether effects are left for a message of its own, because the time is up."""

    @property
    def name(self) -> str:
        """The id of the execution."""
        return self.arrival.execution_id

    @property
    def new_effects(self) -> PendingEffects:
        """The effects of the turn itself."""
        pending, owed = self.pending, self.owed
        tasks, outbox = pending.tasks[len(owed.tasks) :], pending.outbox[len(owed.outbox) :]
        return replace(pending, tasks=tasks, outbox=outbox)

    @property
    def deletes(self) -> bool:
        """Whether the turn deletes the execution."""
        return self.turn is not None and self.turn.deletes

    @property
    def commands(self) -> tuple[Command, ...]:
        """The commands that the turn has decided."""
        turn = self.turn
        return turn.decision.commands if turn is not None and turn.decision is not None else ()

    @property
    def chunks(self) -> tuple[StreamWrite, ...]:
        """The chunks that the turn has written to streams."""
        return () if self.turn is None else self.turn.commit.chunks

    def note_undone(self, undone: Undone, *, closed: bool) -> MailboxFull | None:
        """Note the rest of earlier effects. Returns the error by which the execution has to be blocked, or
        None; one that has `closed` is not blocked.
        """
        if undone.left:
            self.owed, self.unfinished = put_off(undone.left), True
            return None
        self.owed = put_off(PendingEffects(outbox=undone.held))
        error = None if closed else too_many(self.name, undone.held)
        if error is None:
            self.held = undone.held
        return error

    def take_outcomes(self, kept: list[Message], pending: PendingEffects) -> PendingEffects:
        """Have the turn take outcomes that were kept. Returns the effects without their attempts."""
        self.kept = kept
        done = {(m.seq, m.attempt) for m in kept if isinstance(m, ABOUT_ATTEMPTS)}
        return replace(pending, tasks=tuple(key for key in pending.tasks if key not in done))

    def add_remark(self) -> None:
        """Add the remark to the reason for which the turn blocks the execution."""
        turn = self.turn
        if not self.remark or turn is None or turn.commit.head is None:
            return
        head = turn.commit.head
        if head.status == "blocked" and head.blocked_kind in MISFITS:
            head = replace(head, blocked_reason=f"{head.blocked_reason}. {self.remark}")
            turn.head, turn.commit = head, replace(turn.commit, head=head)

    def pending_effects(self, meta: ExecutionMeta) -> PendingEffects:
        """Return the effects of the last commit if they may not have been done."""
        pending, ids = meta.pending, self.arrival.ids
        again = pending.unconfirmed or self.resume or not set(pending.caused_by).isdisjoint(ids)
        return pending if again and not meta.done else NO_EFFECTS
