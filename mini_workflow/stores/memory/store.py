"""Keep executions in memory, behind the ports of a store that several owners share.

A `MemoryState` stands for the file of other backends: several owners may open it, and take over the
executions of an owner that stops renewing its lease. It keeps text, numbers and frozen heads only, so
that a caller cannot change the stored data.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Final

from mini_workflow.core.records import field, mutable
from mini_workflow.errors import ExecutionNotFound, LeaseLost, StoreUnavailable, UsageError
from mini_workflow.ports import (
    DELETIONS_KEPT,
    Clock,
    Commit,
    Extent,
    Found,
    Head,
    MailboxEntry,
    Page,
    Query,
    Stored,
)
from mini_workflow.stores.listing import count_of, page_of
from mini_workflow.stores.memory.heartbeats import HeartbeatTable, MemoryHeartbeats
from mini_workflow.stores.memory.shared_tasks import MemorySharedTasks, TaskTable
from mini_workflow.stores.memory.streams import MemoryStreams, StreamTable

HOMES: Final = 4
"""Partitions that an owner begins with, so that its executions can be shared among so many others."""


@mutable
class _Execution:
    key: int
    partition: int
    head: Head
    events: list[str] = field(default_factory=list[str])
    parked: list[str] = field(default_factory=list[str])
    tries: int = 0
    dropped: int = 0
    """The number of events of earlier runs that were dropped."""

    @property
    def length(self) -> int:
        """The number of events, those of earlier runs included."""
        return self.dropped + len(self.events)

    def since(self, number: int) -> list[str]:
        """Return the events from that number on, counted from 0 over all runs."""
        return self.events[max(0, number - self.dropped) :]

    def run(self) -> list[str]:
        """Return the events of the current run."""
        return self.since(self.head.base)

    def drop_runs(self) -> None:
        """Forget the events of earlier runs."""
        self.events, self.dropped = self.run(), self.head.base


@mutable
class _Owner:
    address: str
    until: int
    turn: str | None = None
    serves: frozenset[str] = frozenset()


class MemoryState:
    """The contents of a store in memory. Pass it to each `MemoryBackend` that shares it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.executions: dict[str, _Execution] = {}
        self.entries: dict[int, tuple[MailboxEntry, str]] = {}
        self._posted: set[tuple[str, str]] = set()
        self.owners: dict[int, _Owner] = {}
        self.partitions: dict[int, int | None] = {}
        self.deleted: dict[str, tuple[int, int]] = {}
        """The number of events of deleted executions, and the time of the last deletion, by id."""
        self.last = 0
        """The last number that was given out."""
        self.streams = StreamTable(self.head)
        self.heartbeats: HeartbeatTable = {}
        self.tasks = TaskTable()

    def head(self, execution_id: str) -> Head | None:
        """Return the head of an execution, or None."""
        found = self.executions.get(execution_id)
        return found and found.head

    def number(self) -> int:
        """Return a number that was never given out before."""
        self.last += 1
        return self.last

    def post(self, execution_id: str, body: str, key: str) -> bool:
        """Keep a message, unless there is one with its key. Return whether the execution exists."""
        if execution_id not in self.executions:
            return False
        if (execution_id, key) not in self._posted:
            number = self.number()
            self.entries[number] = (MailboxEntry(number, execution_id, body), key)
            self._posted.add((execution_id, key))
        return True

    def delete(self, execution_id: str, at: int) -> None:
        """Delete an execution, with the messages to it."""
        gone = self.executions.pop(execution_id)
        self.streams.remove(execution_id)
        self.heartbeats.pop(execution_id, None)
        self.tasks.remove(execution_id)
        before, _ = self.deleted.get(execution_id, (0, 0))
        self.deleted[execution_id] = (before + gone.length, at)
        for number, (entry, _) in list(self.entries.items()):
            if entry.execution_id == execution_id:
                self.take(execution_id, number)

    def take(self, execution_id: str, number: int) -> None:
        """Remove the message with a number, if it is for that execution."""
        entry, key = self.entries.get(number, (None, ""))
        if entry is not None and entry.execution_id == execution_id:
            del self.entries[number]
            self._posted.remove((execution_id, key))


class MemoryBackend:
    """The ports `store`, `agenda`, `mailbox`, `leases`, `streams` and `shared_tasks` over one
    `MemoryState`.

    Args:
        state: the contents to share; new and empty ones if left out.
        owner: the name of this owner.
        address: the address at which other owners wake this one; empty if they cannot.
        clock: the time by which leases of others end.
        lease: milliseconds without a renewal after which others may take over the executions of an
            owner.
        keep_runs: whether the events of earlier runs are kept.
    """

    def __init__(
        self,
        state: MemoryState | None = None,
        *,
        owner: str,
        address: str = "",
        clock: Clock,
        lease: int = 15_000,
        keep_runs: bool = True,
    ) -> None:
        self.owner = owner
        self._session = _Session(MemoryState() if state is None else state)
        self.store = MemoryStore(self._session, keep_runs=keep_runs)
        self.agenda = MemoryAgenda(self._session)
        self.mailbox = MemoryMailbox(self._session)
        beats = MemoryHeartbeats(self._session.heartbeats, self._session.head)
        self.streams = MemoryStreams(self._session.streams, beats)
        self.leases = MemoryLeases(self._session, address=address, clock=clock, lease=lease)
        self.shared_tasks = MemorySharedTasks(self._session, clock)

    def close(self) -> None:
        """Close. Leases are kept until they end, unless they were released before."""
        self._session.closed = True


class _Session:
    """The session of one owner: its lease, and access to the state."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self.lease: int | None = None
        self.serves: frozenset[str] = frozenset()
        self.read = 0
        """The number of the message that was read last."""
        self.closed = False

    @contextmanager
    def open(self) -> Generator[MemoryState]:
        """Return the state, with its lock held."""
        if self.closed:
            raise StoreUnavailable("the store was closed")
        with self._state.lock:
            yield self._state

    @contextmanager
    def streams(self) -> Generator[StreamTable]:
        """Return the streams, with the lock of the state held."""
        with self.open() as state:
            yield state.streams

    @contextmanager
    def heartbeats(self) -> Generator[HeartbeatTable]:
        """Return the heartbeats, with the lock of the state held."""
        with self.open() as state:
            yield state.heartbeats

    def head(self, execution_id: str) -> Head | None:
        """Return the head of an execution. With the lock of the state held."""
        return self._state.head(execution_id)

    def verify(self, state: MemoryState) -> int:
        """Return the lease, if it still stands; raises LeaseLost otherwise."""
        if self.lease is None:
            raise LeaseLost("this owner holds no lease: acquire one to go on")
        if self.lease not in state.owners:
            self.lease = None
            raise LeaseLost(
                "another owner has taken over the executions of this one, because the lease was "
                "not renewed in time; nothing was written"
            )
        return self.lease

    def holds(self, state: MemoryState, execution: _Execution) -> bool:
        """Return whether this owner holds the execution."""
        return self.lease is not None and state.partitions[execution.partition] == self.lease


class MemoryStore:
    """Implements `Store`."""

    def __init__(self, session: _Session, *, keep_runs: bool = True) -> None:
        self._session = session
        self._keep_runs = keep_runs

    def load(self, execution_id: str) -> Stored | None:
        """See `Store.load`."""
        with self._session.open() as state:
            found = state.executions.get(execution_id)
            if found is None:
                return None
            held = self._session.holds(state, found)
            return Stored(found.head, found.run(), list(found.parked), held, found.tries)

    def extent(self, execution_id: str) -> Extent | None:
        """See `Store.extent`."""
        with self._session.open() as state:
            found = state.executions.get(execution_id)
            return found and Extent(found.length, self._session.holds(state, found))

    def head(self, execution_id: str) -> Head | None:
        """See `Store.head`."""
        with self._session.open() as state:
            found = state.executions.get(execution_id)
            return found and found.head

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        """See `Store.history`."""
        with self._session.open() as state:
            found = state.executions.get(execution_id)
            return found.since(max(found.head.base, since)) if found else []

    def ends(self, execution_id: str, last: int) -> list[str]:
        """See `Store.ends`."""
        lines = self.history(execution_id)
        return [*lines[:1], *lines[max(1, len(lines) - last) :]]

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """See `Store.commit`."""
        with self._session.open() as state:
            self._session.verify(state)
            for item in commits:
                _check(item)
            answers = [self._write(state, item) for item in commits]
            for item in compress(commits, answers):
                for message in item.outbox:
                    known = state.post(message.execution_id, message.body, message.key)
                    if not known and message.otherwise:
                        state.post(item.execution_id, message.otherwise, message.key)
            return answers

    def _write(self, state: MemoryState, item: Commit) -> bool:
        found = state.executions.get(item.execution_id)
        if found is None:
            if item.expected or item.head is None:
                return False  # `_check` made sure that a creation has a head.
            homes = [n for n, owner in state.partitions.items() if owner == self._session.lease]
            key = state.number()
            found = _Execution(key, homes[key % len(homes)], item.head)
            state.executions[item.execution_id] = found
        elif (
            item.expected == 0
            or item.expected != found.length
            or not self._session.holds(state, found)
        ):
            return False
        if item.deleted_at is not None:
            messages = (entry for entry, _ in state.entries.values())
            read = self._session.read
            if any(e.execution_id == item.execution_id and e.number > read for e in messages):
                return False
            state.delete(item.execution_id, item.deleted_at)
            return True
        found.events += item.events
        found.head = item.head or found.head
        found.tries = found.tries if item.tries is None else item.tries
        if item.unpark:
            found.parked.clear()
        found.parked += item.park
        if found.head.base > found.dropped and not self._keep_runs:
            found.drop_runs()
        for number in item.taken:
            state.take(item.execution_id, number)
        if item.chunks:
            state.streams.append(item.chunks, bounded=False)
        return True

    def lookup(self, execution_ids: Collection[str]) -> dict[str, Found]:
        """See `Store.lookup`."""
        with self._session.open() as state:
            return {
                name: Found(
                    None if (found := state.executions.get(name)) is None else found.head,
                    state.deleted.get(name, (0, 0))[0],
                )
                for name in execution_ids
            }

    def sweep(self, now: int, limit: int) -> bool:
        """See `Store.sweep`. Deleted executions are gone at once."""
        with self._session.open() as state:
            state.deleted = {
                name: (events, at)
                for name, (events, at) in state.deleted.items()
                if name in state.executions or at + DELETIONS_KEPT > now
            }
        return False

    def list(self, query: Query) -> Page:
        """See `Store.list`."""
        with self._session.open() as state:
            found = [(one.key, one.head) for one in state.executions.values()]
        return page_of(found, query)

    def count(self, query: Query) -> int:
        """See `Store.count`."""
        with self._session.open() as state:
            return count_of((one.head for one in state.executions.values()), query)


class MemoryAgenda:
    """Implements `Agenda`."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def due(self, now: int, limit: int) -> list[str]:
        """See `Agenda.due`."""
        due = self._heads(lambda head: head.wake_at is not None and head.wake_at <= now)
        return [head.execution_id for head in sorted(due, key=_wake_at)[:limit]]

    def next_wake(self) -> int | None:
        """See `Agenda.next_wake`."""
        return min(map(_wake_at, self._heads(lambda head: head.wake_at is not None)), default=None)

    def busy(self, after: str, limit: int) -> list[str]:
        """See `Agenda.busy`."""
        return _ids(self._heads(lambda head: head.busy), after, limit)

    def blocked(self, kind: str, after: str, limit: int) -> list[str]:
        """See `Agenda.blocked`."""
        heads = self._heads(lambda head: head.status == "blocked" and head.blocked_kind == kind)
        return _ids(heads, after, limit)

    def _heads(self, wanted: Callable[[Head], bool]) -> list[Head]:
        with self._session.open() as state:
            return [
                execution.head
                for execution in state.executions.values()
                if wanted(execution.head) and self._session.holds(state, execution)
            ]


class MemoryMailbox:
    """Implements `Mailbox`."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def post(self, execution_id: str, body: str, key: str) -> None:
        """See `Mailbox.post`."""
        body.encode()
        key.encode()
        with self._session.open() as state:
            if not state.post(execution_id, body, key):
                raise ExecutionNotFound(
                    f"there is no execution {execution_id!r}", execution_id=execution_id
                )

    def entries(
        self, after: int, limit: int, execution_id: str | None = None
    ) -> list[MailboxEntry]:
        """See `Mailbox.entries`."""
        with self._session.open() as state:
            found = [
                entry
                for entry, _ in state.entries.values()
                if entry.number > after
                and execution_id in (None, entry.execution_id)
                and self._session.holds(state, state.executions[entry.execution_id])
            ][:limit]
            if execution_id is None:
                self._session.read = found[-1].number if found else after
            return found


class MemoryLeases:
    """Implements `Leases`."""

    def __init__(self, session: _Session, *, address: str, clock: Clock, lease: int) -> None:
        self._session = session
        self._address = address
        self._clock = clock
        self._duration = lease

    def acquire(self, now: int) -> bool:
        """See `Leases.acquire`."""
        session = self._session
        with session.open() as state:
            if session.lease is not None:
                session.verify(state)
            else:
                session.lease = state.number()
                state.owners[session.lease] = _Owner(
                    self._address, now + self._duration, serves=session.serves
                )
            for number, owner in list(state.owners.items()):
                if number != session.lease and owner.until < now:
                    del state.owners[number]
                    lost = state.executions.get(owner.turn or "")
                    if lost is not None:
                        lost.tries += 2  # the owner may still hang in the turn
            taken = self._share(state)
            state.partitions.update(dict.fromkeys(taken, session.lease))
            if session.lease not in state.partitions.values():
                homes = HOMES if self._address else 1
                state.partitions.update((state.number(), session.lease) for _ in range(homes))
            return bool(taken)

    def _share(self, state: MemoryState) -> list[int]:
        """Return a fair share of the partitions that nobody holds, and drop the empty ones.

        An owner without an address holds partitions for a moment only, and takes all of them.
        """
        free = sorted(n for n, owner in state.partitions.items() if owner not in state.owners)
        filled = {execution.partition for execution in state.executions.values()}
        for partition in filter(lambda each: each not in filled, free):
            del state.partitions[partition]
        used = [partition for partition in free if partition in filled]
        return used[: -(-len(used) // self._living(state))] if self._address else used

    def _living(self, state: MemoryState) -> int:
        others = (owner for number, owner in state.owners.items() if number != self._session.lease)
        return 1 + sum(bool(owner.address) for owner in others)

    def renew(self, now: int) -> int:
        """See `Leases.renew`."""
        with self._session.open() as state:
            lease = self._session.verify(state)
            state.owners[lease].until = now + self._duration
        return now + self._duration // 3

    def extend(self, now: int) -> None:
        """See `Leases.extend`."""
        with self._session.open() as state:
            owner = state.owners.get(self._session.lease or 0)
            if owner is not None:
                owner.until = now + self._duration

    def note_turn(self, execution_id: str | None) -> None:
        """See `Leases.note_turn`."""
        with self._session.open() as state:
            owner = state.owners.get(self._session.lease or 0)
            if owner is not None:
                owner.turn = execution_id

    def release(self) -> None:
        """See `Leases.release`."""
        with self._session.open() as state:
            if self._session.lease is not None:
                state.owners.pop(self._session.lease, None)
                self._session.lease = None

    def peers(self) -> list[str]:
        """See `Leases.peers`."""
        now = self._clock.now()
        with self._session.open() as state:
            return [
                owner.address
                for number, owner in state.owners.items()
                if owner.address and number != self._session.lease and owner.until >= now
            ]


def _check(item: Commit) -> None:
    """Refuse the commits that other stores refuse, before anything is written. Raises UsageError."""
    for text in (*item.events, *item.park, *(chunk.body for chunk in item.chunks)):
        text.encode()
    for message in item.outbox:
        for text in (message.execution_id, message.body, message.key):
            text.encode()
    if item.deleted_at is not None and (item.expected < 1 or item.events or item.head):
        raise UsageError(
            f"the commit that deletes {item.execution_id!r} must give its number of events, and no "
            "events or head"
        )
    if item.expected == 0 and (item.head is None or not item.events):
        raise UsageError(
            f"the commit that creates {item.execution_id!r} must have a head and a first event"
        )
    length = item.expected + len(item.events)
    if item.head is not None and not 0 <= item.head.base < length:
        raise UsageError(
            f"a run of {item.execution_id} that begins at event {item.head.base} has no event "
            f"among {length}"
        )


def _wake_at(head: Head) -> int:
    assert head.wake_at is not None
    return head.wake_at


def _ids(heads: list[Head], after: str, limit: int) -> list[str]:
    return sorted(head.execution_id for head in heads if head.execution_id > after)[:limit]
