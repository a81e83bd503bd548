"""SharedTasks: attempts that one owner offers and another one runs.

An owner offers an attempt whose task names a worker that it does not serve itself. Another owner takes the
attempt, runs it and settles it: the outcome then is a message in the mailbox of the execution, for the owner
that holds the execution by then. So neither the offer nor the outcome depends on who holds the execution,
and a takeover costs no attempt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from mini_workflow.core.records import record

Key = tuple[str, int, int]
"""The key of an attempt: (execution id, sequence number of the task, attempt number)."""


@record
class SharedTask:
    """An attempt that was offered. `worker` names the worker that is to run it, and only that worker reads
    `body`. `heartbeat` is the last JSON text that this attempt, or one before it, gave with a heartbeat.

    `taker` is the lease under which the attempt was taken, None while nobody has it. `cancelled` is the
    reason why nobody waits for it any more, None while somebody does.
    """

    execution_id: str
    seq: int
    attempt: int
    worker: str
    body: str
    heartbeat: str | None = None
    taker: int | None = None
    cancelled: str | None = None

    @property
    def key(self) -> Key:
        """The key of the attempt."""
        return (self.execution_id, self.seq, self.attempt)


class SharedTasks(Protocol):
    """The attempts that owners of a store offer to each other. Any thread may call any method. Each call is
    one durable step: it survives a crash as a whole or has not happened, and may be repeated where that is
    not known. Every method may raise StoreError.

    An attempt that is settled stays known until a commit has taken its message: one that is offered twice
    is there once, and runs once.
    """

    def serve(self, workers: Collection[str]) -> None:
        """Let the other owners know which workers this one serves, for as long as it has a lease, the
        present one or a later one. To be called before `Leases.acquire`.
        """
        ...

    def served(self) -> set[str]:
        """Return the names of the workers that living owners serve."""
        ...

    def offer(self, tasks: Sequence[SharedTask]) -> None:
        """Keep attempts for the owners that serve their workers. An attempt that is there already is left as
        it is. An attempt of an execution that this owner does not hold, or that has closed, is dropped.
        """
        ...

    def take(self, worker: str, limit: int) -> int:
        """Take up to `limit` attempts of a worker, in the order in which they were offered. Answers how many
        were taken. Cancelled attempts are not taken, and an owner whose lease does not stand takes none.
        Each attempt is taken by one owner alone.
        """
        ...

    def taken(self) -> list[SharedTask]:
        """Return the attempts that this owner has taken under its present lease, and has not settled."""
        ...

    def hand_back(self, tasks: Sequence[SharedTask]) -> None:
        """Let others take these attempts, which were taken under the present lease, and keep their
        heartbeats.
        """
        ...

    def beat(self, tasks: Sequence[SharedTask]) -> None:
        """Keep the heartbeats of these attempts, which were taken under the present lease."""
        ...

    def settle(self, outcomes: Sequence[tuple[SharedTask, str]]) -> None:
        """Put the outcomes, given as (attempt, text of the message), into the mailboxes of the executions. An
        attempt that was settled before, or that another owner has taken since, is left as it is.
        """
        ...

    def lost(self) -> list[SharedTask]:
        """Return the attempts that were taken by owners which are gone, and are not settled. The caller
        settles them, whichever owner it is.
        """
        ...

    def cancel(self, execution_id: str, seq: int, reason: str) -> list[Key]:
        """Cancel a task for which nobody waits; the owner of its execution calls this. Attempts that nobody
        has taken are dropped, and their keys are returned. The owner that has taken one finds the reason.
        """
        ...

    def kept(self, key: Key | None = None) -> list[Key]:
        """Return the keys of the attempts that are offered, taken, or settled by a message that no commit has
        taken, of the open executions that this owner holds; all of them, or only `key`.
        """
        ...

    def waiting(self, execution_id: str | None = None) -> list[tuple[str, str]]:
        """Return the pairs (execution id, worker) of attempts that nobody has taken, in order and without
        doubles: up to 1,000 of all executions, or those of one execution.
        """
        ...


def unserved_workers(
    tasks: SharedTasks, execution_ids: Collection[str], offered: Iterable[tuple[str, str]] = ()
) -> dict[str, tuple[str, ...]]:
    """Return, for each of these executions whose tasks wait for workers that no living owner serves, the
    names of these workers in order.

    `offered` are pairs (execution id, worker) of attempts on the way to the store. Reads the store twice at
    most, and not at all without executions. Raises StoreError.
    """
    if not execution_ids:
        return {}
    waiting = tasks.waiting(*execution_ids) if len(execution_ids) == 1 else tasks.waiting()
    found = {pair for pair in (*waiting, *offered) if pair[0] in execution_ids}
    served = tasks.served() if found else set[str]()
    missing: dict[str, tuple[str, ...]] = {}
    for name, worker in sorted(found):
        if worker not in served:
            missing[name] = (*missing.get(name, ()), worker)
    return missing
