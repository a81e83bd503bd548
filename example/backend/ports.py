"""The four ports of a backend over a file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from example.backend.file import File, number
from mini_workflow.errors import ExecutionNotFound, LeaseLost, UsageError
from mini_workflow.ports import (
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


class FileBackend:
    """The ports `store`, `agenda`, `mailbox` and `leases`, as one owner has them open.

    A change is written as a whole under a lock that all processes take in turns. So a crash between
    any two calls leaves what the last call has written, and one inside of a call nothing of it.
    """

    def __init__(
        self, path: str | Path, *, owner: str, address: str = "", clock: Clock, lease: int = 15_000
    ) -> None:
        self.owner = owner
        self._file = File(Path(path).absolute())
        held = Held()
        self.store = FileStore(self._file, held)
        self.agenda = FileAgenda(self._file, held)
        self.mailbox = FileMailbox(self._file, held)
        self.leases = FileLeases(self._file, held, address, clock, lease)

    def close(self) -> None:
        """Close, without releasing anything."""
        self._file.closed = True


class Held:
    """The lease of this owner: its number, or None."""

    def __init__(self) -> None:
        self.lease: int | None = None
        self.read = 0  # the number of the message that was read last

    def verify(self, state: dict[str, Any]) -> int:
        """The lease, if it still stands. What is checked and what follows share one lock."""
        if self.lease is None:
            raise LeaseLost("this owner holds no lease: acquire one to go on")
        if str(self.lease) not in state["owners"]:
            self.lease = None
            raise LeaseLost("another owner has taken over; nothing was written")
        return self.lease

    def holds(self, state: dict[str, Any], execution: dict[str, Any]) -> bool:
        """Whether this owner holds the execution."""
        owner = state["partitions"][str(execution["partition"])]
        return self.lease is not None and owner == self.lease


class FileStore:
    """Implements `Store`."""

    def __init__(self, file: File, held: Held) -> None:
        self._file = file
        self._held = held

    def load(self, execution_id: str) -> Stored | None:
        with self._file.reading() as state:
            found = state["executions"].get(execution_id)
            if found is None:
                return None
            held = self._held.holds(state, found)
            return Stored(
                Head(**found["head"]), current(found), found["parked"], held, found["tries"]
            )

    def extent(self, execution_id: str) -> Extent | None:
        with self._file.reading() as state:
            found = state["executions"].get(execution_id)
            if found is None:
                return None
            return Extent(len(found["events"]), self._held.holds(state, found))

    def head(self, execution_id: str) -> Head | None:
        with self._file.reading() as state:
            found = state["executions"].get(execution_id)
            return None if found is None else Head(**found["head"])

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        with self._file.reading() as state:
            found = state["executions"].get(execution_id)
            return [] if found is None else current(found, since)

    def ends(self, execution_id: str, last: int) -> list[str]:
        lines = self.history(execution_id)
        return [*lines[:1], *lines[max(1, len(lines) - last) :]]

    def list(self, query: Query) -> Page:
        with self._file.reading() as state:
            found = [(one["key"], Head(**one["head"])) for one in state["executions"].values()]
        return page_of(found, query)

    def count(self, query: Query) -> int:
        with self._file.reading() as state:
            executions = state["executions"].values()
            return count_of((Head(**one["head"]) for one in executions), query)

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        with self._file.changing() as state:
            self._held.verify(state)
            for item in commits:
                check(item)
            answers = [self._write(state, item) for item in commits]
            # Messages come last: what is created is there, and what is taken has made room.
            for item, written in zip(commits, answers, strict=True):
                for out in item.outbox if written else ():
                    post(state, out.execution_id, out.body, out.key)
                    if out.otherwise and out.execution_id not in state["executions"]:
                        post(state, item.execution_id, out.otherwise, out.key)
            return answers

    def lookup(self, execution_ids: Collection[str]) -> dict[str, Found]:
        return {name: Found(self.head(name), self._deleted(name)) for name in execution_ids}

    def _deleted(self, execution_id: str) -> int:
        with self._file.reading() as state:
            found: int = state["deleted"].get(execution_id, 0)
            return found

    def sweep(self, now: int, limit: int) -> bool:
        return False  # a deletion leaves nothing

    def _write(self, state: dict[str, Any], item: Commit) -> bool:
        """The fence: an item is written if the writer has seen all that is stored."""
        found = state["executions"].get(item.execution_id)
        if item.expected == 0:
            if found is not None or item.head is None:
                return False
            home = next(p for p, owner in state["partitions"].items() if owner == self._held.lease)
            found = {
                "key": number(state),
                "partition": int(home),
                "events": [],
                "parked": [],
                "tries": 0,
            }
            state["executions"][item.execution_id] = found
        elif (
            found is None
            or item.expected != len(found["events"])
            or not self._held.holds(state, found)
        ):
            return False
        if item.deleted_at is not None:
            name, letters = item.execution_id, state["letters"]
            if any(entry[1] == name and entry[0] > self._held.read for entry in letters):
                return False  # it was sent just now
            before = state["deleted"].get(name, 0)
            state["deleted"][name] = before + len(found["events"])
            del state["executions"][name]
            state["letters"] = [entry for entry in letters if entry[1] != name]
            return True
        found["events"] += item.events
        if item.head is not None:
            found["head"] = asdict(item.head)
        if item.tries is not None:
            found["tries"] = item.tries
        found["parked"] = [*([] if item.unpark else found["parked"]), *item.park]
        state["letters"] = [
            entry
            for entry in state["letters"]
            if entry[0] not in item.taken or entry[1] != item.execution_id
        ]
        return True


class FileAgenda:
    """Implements `Agenda`."""

    def __init__(self, file: File, held: Held) -> None:
        self._file = file
        self._held = held

    def due(self, now: int, limit: int) -> list[str]:
        plan_wakeup = sorted((at, head.execution_id) for at, head in self._waking() if at <= now)
        return [name for _, name in plan_wakeup[:limit]]

    def next_wake(self) -> int | None:
        return min((at for at, _ in self._waking()), default=None)

    def busy(self, after: str, limit: int) -> list[str]:
        return self._ids(lambda head: head.busy, after, limit)

    def blocked(self, kind: str, after: str, limit: int) -> list[str]:
        return self._ids(lambda h: h.status == "blocked" and h.blocked_kind == kind, after, limit)

    def _waking(self) -> Iterator[tuple[int, Head]]:
        return ((head.wake_at, head) for head in self._heads() if head.wake_at is not None)

    def _ids(self, wanted: Callable[[Head], bool], after: str, limit: int) -> list[str]:
        found = sorted(head.execution_id for head in self._heads() if wanted(head))
        return [name for name in found if name > after][:limit]

    def _heads(self) -> list[Head]:
        with self._file.reading() as state:
            held = (e for e in state["executions"].values() if self._held.holds(state, e))
            return [Head(**execution["head"]) for execution in held]


class FileMailbox:
    """Implements `Mailbox`."""

    def __init__(self, file: File, held: Held) -> None:
        self._file = file
        self._held = held

    def post(self, execution_id: str, body: str, key: str) -> None:
        with self._file.changing() as state:
            if execution_id not in state["executions"]:
                raise ExecutionNotFound(
                    f"there is no execution {execution_id!r}", execution_id=execution_id
                )
            post(state, execution_id, body, key)

    def entries(
        self, after: int, limit: int, execution_id: str | None = None
    ) -> list[MailboxEntry]:
        with self._file.reading() as state:
            found = [
                MailboxEntry(n, name, body)
                for n, name, body, _ in state["letters"]
                if n > after
                and execution_id in (None, name)
                and self._held.holds(state, state["executions"][name])
            ][:limit]
        if execution_id is None:
            self._held.read = found[-1].number if found else after
        return found


class FileLeases:
    """Implements `Leases`."""

    def __init__(self, file: File, held: Held, address: str, clock: Clock, duration: int) -> None:
        self._file = file
        self._held = held
        self._address = address
        self._clock = clock
        self._duration = duration

    def acquire(self, now: int) -> bool:
        held = self._held
        with self._file.changing() as state:
            lease = held.verify(state) if held.lease is not None else number(state)
            owners, partitions = state["owners"], state["partitions"]
            owners.setdefault(str(lease), {"address": self._address, "until": now + self._duration})
            for name, owner in list(owners.items()):
                if int(name) != lease and owner["until"] < now:
                    del owners[name]
                    note = self._note(int(name))
                    lost = state["executions"].get(note.read_text() if note.exists() else "")
                    if lost is not None:
                        lost["tries"] += 2  # it may still hang: nobody can tell
                    note.unlink(missing_ok=True)
            taken = {p for p, owner in partitions.items() if str(owner) not in owners}
            partitions.update(dict.fromkeys(taken, lease))
            if lease not in partitions.values():
                partitions[str(number(state))] = lease
            found = any(str(e["partition"]) in taken for e in state["executions"].values())
        held.lease = lease  # now that it is written
        return found

    def renew(self, now: int) -> int:
        with self._file.changing() as state:
            state["owners"][str(self._held.verify(state))]["until"] = now + self._duration
        return now + self._duration // 3

    def extend(self, now: int) -> None:
        with self._file.changing() as state:
            if (owner := state["owners"].get(str(self._held.lease))) is not None:
                owner["until"] = now + self._duration

    def note_turn(self, execution_id: str | None) -> None:
        if self._held.lease is not None:
            # Not synced: it has to outlive the process, not the machine.
            self._note(self._held.lease).write_text(execution_id or "")

    def _note(self, lease: int) -> Path:
        return self._file.path.with_name(f"{self._file.path.name}-turn-{lease}")

    def release(self) -> None:
        if self._held.lease is not None:
            self._note(self._held.lease).unlink(missing_ok=True)
            with self._file.changing() as state:
                state["owners"].pop(str(self._held.lease), None)
            self._held.lease = None

    def peers(self) -> list[str]:
        now = self._clock.now()
        with self._file.reading() as state:
            return [
                owner["address"]
                for name, owner in state["owners"].items()
                if owner["address"] and int(name) != self._held.lease and owner["until"] >= now
            ]


def current(execution: dict[str, Any], since: int = 0) -> list[str]:
    """The events of the current run, from number `since` on."""
    return execution["events"][max(execution["head"]["base"], since) :]


def post(state: dict[str, Any], execution_id: str, body: str, key: str) -> None:
    """Keep a message, unless one of its key is there, or the execution is not."""
    known = any(name == execution_id and k == key for _, name, _, k in state["letters"])
    if execution_id in state["executions"] and not known:
        state["letters"].append([number(state), execution_id, body, key])


def check(item: Commit) -> None:
    """Refuse a commit that no execution can have."""
    if item.deleted_at is not None and (item.expected < 1 or item.events or item.head):
        raise UsageError(f"deleting {item.execution_id} takes what is expected, and nothing else")
    if item.expected == 0 and (item.head is None or not item.events):
        raise UsageError(f"creating {item.execution_id} takes a head and an event at least")
    for out in item.outbox:
        for text in (out.execution_id, out.body, out.key):
            text.encode()  # what is no text is refused, also where it would be dropped
    length = item.expected + len(item.events)
    if item.head is not None and not 0 <= item.head.base < length:
        raise UsageError(f"a run of {item.execution_id} has no event among {length}")
