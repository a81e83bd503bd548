"""Share attempts between owners of a store in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from mini_workflow.core.records import field, mutable, replace
from mini_workflow.ports import Clock
from mini_workflow.ports.shared_tasks import Key, SharedTask

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mini_workflow.stores.memory.store import MemoryState


@mutable
class TaskTable:
    """The attempts of all executions, in the order of their offers, and the messages of settled ones.

    `messages` has the numbers of the messages. Callers hold a lock.
    """

    tasks: dict[Key, SharedTask] = field(default_factory=dict[Key, SharedTask])
    messages: dict[Key, int] = field(default_factory=dict[Key, int])

    def remove(self, execution_id: str) -> None:
        """Forget the attempts of an execution that is deleted."""
        for key in [key for key in self.tasks if key[0] == execution_id]:
            del self.tasks[key]
            self.messages.pop(key, None)


class Session(Protocol):
    """The session of one owner: its lease, and the workers that it serves."""

    lease: int | None
    serves: frozenset[str]

    def open(self) -> AbstractContextManager[MemoryState]:
        """Return the state, with its lock held."""
        ...


class MemorySharedTasks:
    """Implements `SharedTasks`."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._opened = session.open
        self._clock = clock

    def serve(self, workers: Collection[str]) -> None:
        """See `SharedTasks.serve`."""
        self._session.serves = frozenset(workers)

    def served(self) -> set[str]:
        """See `SharedTasks.served`."""
        now = self._clock.now()
        with self._opened() as state:
            living = [owner for owner in state.owners.values() if owner.until >= now]
        return {name for owner in living for name in owner.serves}

    def offer(self, tasks: Sequence[SharedTask]) -> None:
        """See `SharedTasks.offer`."""
        with self._opened() as state:
            _clean(state)
            for task in tasks:
                if self._holds(state, task.execution_id):
                    state.tasks.tasks.setdefault(task.key, task)

    def take(self, worker: str, limit: int) -> int:
        """See `SharedTasks.take`."""
        with self._opened() as state:
            if (lease := self._session.lease) not in state.owners:
                return 0
            free = [
                task
                for task in state.tasks.tasks.values()
                if task.worker == worker and task.taker is None and not _over(state, task)
            ][:limit]
            for task in free:
                state.tasks.tasks[task.key] = replace(task, taker=lease)
        return len(free)

    def taken(self) -> list[SharedTask]:
        """See `SharedTasks.taken`."""
        lease = self._session.lease
        return self._open(lambda state, task: task.taker is not None and task.taker == lease)

    def hand_back(self, tasks: Sequence[SharedTask]) -> None:
        """See `SharedTasks.hand_back`."""
        self._change(tasks, lambda old, new: replace(old, heartbeat=new.heartbeat, taker=None))

    def beat(self, tasks: Sequence[SharedTask]) -> None:
        """See `SharedTasks.beat`."""
        self._change(tasks, lambda old, new: replace(old, heartbeat=new.heartbeat))

    def _change(
        self,
        tasks: Sequence[SharedTask],
        change: Callable[[SharedTask, SharedTask], SharedTask],
    ) -> None:
        with self._opened() as state:
            for task in tasks:
                if (old := _find(state, task)) is not None:
                    state.tasks.tasks[task.key] = change(old, task)

    def settle(self, outcomes: Sequence[tuple[SharedTask, str]]) -> None:
        """See `SharedTasks.settle`."""
        for _, body in outcomes:
            body.encode()
        with self._opened() as state:
            for task, body in outcomes:
                if _find(state, task) is not None:
                    state.post(task.execution_id, body, f"task {task.seq} {task.attempt}")
                    state.tasks.messages[task.key] = state.last

    def lost(self) -> list[SharedTask]:
        """See `SharedTasks.lost`."""
        return self._open(
            lambda state, task: task.taker is not None and task.taker not in state.owners
        )

    def cancel(self, execution_id: str, seq: int, reason: str) -> list[Key]:
        """See `SharedTasks.cancel`."""
        with self._opened() as state:
            dropped: list[Key] = []
            if self._holds(state, execution_id):
                for key, task in list(state.tasks.tasks.items()):
                    if key[:2] != (execution_id, seq) or key in state.tasks.messages:
                        continue
                    if task.taker is None:
                        del state.tasks.tasks[key]
                        dropped.append(key)
                    elif task.cancelled is None:
                        state.tasks.tasks[key] = replace(task, cancelled=reason)
        return dropped

    def kept(self, key: Key | None = None) -> list[Key]:
        """See `SharedTasks.kept`."""
        with self._opened() as state:
            messages = state.tasks.messages
            return [
                one
                for one in state.tasks.tasks
                if key in (None, one)
                and self._holds(state, one[0])
                and (one not in messages or messages[one] in state.entries)
            ]

    def waiting(self, execution_id: str | None = None) -> list[tuple[str, str]]:
        """See `SharedTasks.waiting`."""
        found = self._open(
            lambda state, task: (
                task.taker is None
                and execution_id in (None, task.execution_id)
                and not _over(state, task)
            )
        )
        return sorted({(task.execution_id, task.worker) for task in found})[:1000]

    def _open(self, wanted: Callable[[MemoryState, SharedTask], bool]) -> list[SharedTask]:
        with self._opened() as state:
            messages = state.tasks.messages
            tasks = state.tasks.tasks.items()
            return [task for key, task in tasks if key not in messages and wanted(state, task)]

    def _holds(self, state: MemoryState, execution_id: str) -> bool:
        found = state.executions.get(execution_id)
        lease = self._session.lease
        return (
            found is not None
            and found.head.closed_at is None
            and lease is not None
            and state.partitions[found.partition] == lease
        )


def _find(state: MemoryState, task: SharedTask) -> SharedTask | None:
    """Return the stored attempt, if it is still with that taker and not settled."""
    found = state.tasks.tasks.get(task.key)
    if found is None or found.taker != task.taker or task.key in state.tasks.messages:
        return None
    return found


def _over(state: MemoryState, task: SharedTask) -> bool:
    return (
        task.key in state.tasks.messages
        or state.executions[task.execution_id].head.closed_at is not None
    )


def _clean(state: MemoryState) -> None:
    """Remove settled attempts whose message was taken, and waiting ones of closed executions."""
    table = state.tasks
    for key, task in list(table.tasks.items()):
        message = table.messages.get(key)
        if message is not None and message not in state.entries:
            del table.tasks[key], table.messages[key]
        elif message is None and task.taker is None and _over(state, task):
            del table.tasks[key]
