"""SharedTasks: attempts that the owner of their execution does not run, for owners that do.

An owner offers an attempt whose task names a worker that it does not serve itself. Another one takes it,
runs it, and settles it: the outcome then is a message in the mailbox of the execution, for whoever holds
that by then. So neither the offer nor the outcome depends on who holds the execution, and a takeover
costs no attempt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from mini_workflow.core.records import record

Key = tuple[str, int, int]
"""What identifies an attempt: the execution, the number of the task, and that of the attempt."""


@record
class SharedTask:
    """An attempt that was offered. `worker` names who is to run it, and `body` is for them alone.
    `heartbeat` are the details that it gave last, or the attempts before it, as JSON text.

    `taker` is the lease under which it was taken, None while nobody has it; and `cancelled` is why nobody
    waits for it any more, None while somebody does.
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
        """What identifies the attempt."""
        return (self.execution_id, self.seq, self.attempt)


class SharedTasks(Protocol):
    """Any thread may call any method. Each is one durable step: it survives a crash as a whole or has not
    happened, and may be called again where that is not known.

    What is settled stays known until a commit has taken its message: an attempt that is offered twice is
    there once, and runs once.
    """

    def serve(self, workers: Collection[str]) -> None:
        """Have the others know which workers this owner serves, as long as it has a lease, this one or
        another one. To be called before `Leases.acquire`.
        """
        ...

    def served(self) -> set[str]:
        """Return the workers that living owners serve."""
        ...

    def offer(self, tasks: Sequence[SharedTask]) -> None:
        """Keep attempts for whoever serves their workers. What is there already is left as it is, and what
        is of an execution that this owner does not hold, or that has closed, is dropped.
        """
        ...

    def take(self, worker: str, limit: int) -> int:
        """Take up to so many attempts of a worker, those first that were offered first; answers how many.
        None is taken that was cancelled, nor by an owner whose lease does not stand. Each is taken by one
        owner alone.
        """
        ...

    def taken(self) -> list[SharedTask]:
        """Return what this owner has taken under the lease that it has now, and has not settled."""
        ...

    def hand_back(self, tasks: Sequence[SharedTask]) -> None:
        """Let others take what was taken under that lease; with the heartbeats of these."""
        ...

    def beat(self, tasks: Sequence[SharedTask]) -> None:
        """Keep the heartbeats of what was taken under that lease."""
        ...

    def settle(self, outcomes: Sequence[tuple[SharedTask, str]]) -> None:
        """Put the outcomes into the mailboxes of the executions, as these texts. An attempt that was
        settled before, or that another owner has taken since, is left as it is.
        """
        ...

    def lost(self) -> list[SharedTask]:
        """Return what was taken by owners that are gone, and is not settled: by whomever, to be settled by
        who asks.
        """
        ...

    def cancel(self, execution_id: str, seq: int, reason: str) -> list[Key]:
        """Cancel a task, for the owner of its execution: nobody waits for it. Attempts that nobody has taken
        are dropped, and answered; who has taken one finds the reason.
        """
        ...

    def kept(self, key: Key | None = None) -> list[Key]:
        """Return the attempts of open executions that this owner holds which are offered, taken, or settled
        by a message that no commit has taken; all, or that one.
        """
        ...

    def waiting(self, execution_id: str | None = None) -> list[tuple[str, str]]:
        """Return the executions with attempts that nobody has taken, each with the worker they are for, in
        order, without doubles; all, up to 1,000, or of one.
        """
        ...


def unserved_workers(
    tasks: SharedTasks, execution_ids: Collection[str], offered: Iterable[tuple[str, str]] = ()
) -> dict[str, tuple[str, ...]]:
    """Return the workers that tasks of these executions wait for and no living owner serves, in order, for
    each that has some; also those of `offered`, which are on the way to the store. Asks twice at most, and
    not at all about no execution. Raises StoreError.
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
