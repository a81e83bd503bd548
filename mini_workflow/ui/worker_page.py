"""Show the processes that run executions, the executions that they hold, and the tasks in hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol, runtime_checkable

from mini_workflow.core.records import frozen
from mini_workflow.doctor.executions import examine_executions
from mini_workflow.doctor.findings import Finding
from mini_workflow.engine.client import Client
from mini_workflow.engine.description import Description
from mini_workflow.errors import MiniWorkflowError
from mini_workflow.ports.owner import Owner

BUSY: Final = 50
"""So many executions with tasks in flight are looked at for what is in hand: their histories are read."""

LOOKED_AT: Final = 500
"""So many of the newest that run are looked at for those."""

TASKS: Final = 200
"""Tasks in hand on a page."""


@runtime_checkable
class WithOwners(Protocol):
    """A client of a store in which processes hold executions."""

    def owners(self) -> list[Owner]:
        """Return the processes that hold executions."""
        ...


@frozen
class InHand:
    """A task that is at work, or waits for its worker."""

    execution: str
    workflow: str
    name: str
    number: int
    attempt: int
    worker: str
    since: datetime | None


@frozen
class WorkerPage:
    """The processes (None where the store knows none, as on AWS), and the tasks in hand; `more` if some
    executions were not looked at.
    """

    owners: Sequence[Owner] | None
    tasks: list[InHand]
    more: bool

    @classmethod
    def read(cls, client: Client) -> WorkerPage:
        """Read the processes, and the tasks in hand."""
        owners = client.owners() if isinstance(client, WithOwners) else None
        running = client.list_executions(status="running", limit=LOOKED_AT)
        busy = [one for one in running if one.busy]
        tasks = [task for one in busy[:BUSY] for task in _in_hand(client, one)]
        oldest = datetime.max.replace(tzinfo=UTC)
        tasks.sort(key=lambda one: one.since or oldest)
        more = len(running) == LOOKED_AT or len(busy) > BUSY or len(tasks) > TASKS
        return cls(owners, tasks[:TASKS], more)


def examine(client: Client, place: str) -> Iterator[Finding]:
    """Look at the executions of a store; `place` is its name for people."""
    owners = client.owners() if isinstance(client, WithOwners) else None
    served = owners is None or any(one.alive for one in owners)
    return examine_executions(client, place or "this store", served=served)


def _in_hand(client: Client, one: Description) -> list[InHand]:
    try:
        waits = client.get_execution(one.id).describe().waits
    except MiniWorkflowError:
        return []  # it was deleted meanwhile, or cannot be read: its own page says so
    return [
        InHand(one.id, one.workflow, w.name, w.number, w.attempt, w.worker, w.since)
        for w in waits
        if w.kind == "task"
    ]
