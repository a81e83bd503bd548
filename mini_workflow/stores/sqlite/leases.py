"""Lease partitions of executions to owners."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mini_workflow.errors import StoreUnavailable
from mini_workflow.ports import Clock
from mini_workflow.ports.owner import MOST_HELD, Owner
from mini_workflow.stores import turn_note
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.process import Process, dead_owners, elsewhere, owners_of
from mini_workflow.stores.sqlite.connection import Connection
from mini_workflow.stores.sqlite.damage import OF_OWNER

HOMES: Final = 4
"""Partitions that an owner begins with, so that its executions can be shared among so many others."""

FOLD_LIMIT: Final = 1_000
"""Executions up to which a partition that is taken over is emptied into the owner's own ones.

So short-lived owners do not leave more and more partitions, and a takeover does not change the rows of
many executions.
"""


def verify(raw: sqlite3.Connection, holding: Ownership) -> None:
    """Raise LeaseLost unless the lease still holds. Call this within a transaction."""
    lease = holding.require()
    if raw.execute("SELECT 1 FROM owners WHERE id = ?", (lease,)).fetchone() is None:
        holding.lost()


class SQLiteLeases:
    """Implements `Leases`. An owner takes a fair share of the free partitions, and at least one of them.

    The other owners take theirs when they renew their leases.
    """

    def __init__(
        self,
        writer: Connection,
        reader: Connection,
        reading: threading.RLock,
        holding: Ownership,
        *,
        owner: str,
        address: str,
        clock: Clock,
        lease: int,
        path: Path,
        network: str,
    ) -> None:
        """`network` is the type of the network file system that has the file; empty if it is a local one."""
        self._path = path
        self._network = network
        self._note = turn_note.TurnNote(path, holding)
        self.note_turn: Final = self._note.write
        """See `Leases.note_turn`. An attribute instead of a method, for speed: two calls in each turn."""
        self._writer = writer
        self._reader = reader
        self._reading = reading
        self._holding = holding
        self._owner = owner
        self._address = address
        self._clock = clock
        self._lease = lease

    def acquire(self, now: int) -> bool:
        """See `Leases.acquire`."""
        holding = self._holding
        if holding.lease is not None and not self._free(now):
            return False
        with self._writer as raw:
            if holding.lease is not None:
                verify(raw, holding)
            owners = raw.execute(_OWNERS).fetchall()
            dead = dead_owners(owners, self._holding.lease, now)
            standing = {owner: address for owner, address, *_ in owners if owner not in dead}
            living = 1 + sum(
                bool(address) and owner != holding.lease for owner, address in standing.items()
            )
            # A partition may still name an owner that has ended, since others took only their share.
            free: list[int] = [
                partition
                for partition, owner in raw.execute(_PARTITIONS).fetchall()
                if owner not in standing
            ]
            if self._network and holding.lease is None:
                self._refuse_other_machines(owners, now)
            lease = holding.lease or self._enter(raw, now)
            raw.executemany("DELETE FROM owners WHERE id = ?", [(owner,) for owner in dead])
            for owner, weight in dead.items():
                if (name := turn_note.read(self._path, owner)) is not None:
                    raw.execute(_COUNT_TRY, (weight, name))
            held, homes, found = self._take(raw, lease, free, living)
        holding.lease = lease
        holding.partitions, holding.homes = held, homes
        for owner in dead:
            turn_note.forget(self._path, owner)
        return found

    def renew(self, now: int) -> int:
        """See `Leases.renew`."""
        with self._writer as raw:
            verify(raw, self._holding)
            raw.execute(
                "UPDATE owners SET until = ? WHERE id = ?",
                (now + self._lease, self._holding.lease),
            )
        return now + self._lease // 3

    def extend(self, now: int) -> None:
        """See `Leases.extend`."""
        with self._writer as raw:
            # A lost lease matches no row; the engine notices at its next commit.
            raw.execute(
                "UPDATE owners SET until = ? WHERE id = ?",
                (now + self._lease, self._holding.lease),
            )

    def release(self) -> None:
        """See `Leases.release`."""
        self._note.remove()
        holding = self._holding
        if holding.lease is None:
            return
        with self._writer as raw:
            # A lost lease matches no row.
            raw.execute(
                "DELETE FROM partitions WHERE owner = ? AND NOT EXISTS "
                "(SELECT 1 FROM executions WHERE partition = partitions.id)",
                (holding.lease,),
            )
            raw.execute("UPDATE partitions SET owner = NULL WHERE owner = ?", (holding.lease,))
            raw.execute("DELETE FROM owners WHERE id = ?", (holding.lease,))
        holding.forget()

    def peers(self) -> list[str]:
        """See `Leases.peers`."""
        now = self._clock.now()
        with self._reading:
            owners = self._reader.rows(_OWNERS)
        dead = dead_owners(owners, self._holding.lease, now)
        return [
            address
            for owner, address, *_ in owners
            if address and owner != self._holding.lease and owner not in dead
        ]

    def owners(self) -> list[Owner]:
        """Return the processes that run the executions of the file."""
        with self._reading:
            rows = self._reader.rows(_WITH_HELD)
        return owners_of(rows, self._clock.now())

    def _refuse_other_machines(self, owners: Iterable[Any], now: int) -> None:
        """Raise StoreUnavailable if a process of another machine has the file open."""
        for _, _, until, host, pid, _ in owners:
            if until >= now and elsewhere(host):
                raise StoreUnavailable(
                    f"{self._path}: process {pid} on {host.partition(' ')[0]} has the file open, over a "
                    f"network file system ({self._network}), and SQLite's log works among processes of one "
                    f"machine only. Close it there (it counts as dead in {(until - now) / 1000:.0f} s if it "
                    "does not go on), or let all machines use one Postgres"
                )

    def _free(self, now: int) -> bool:
        """Return whether there may be anything to take; a read is cheaper than a lock."""
        owners = self._writer.rows(_OWNERS)
        standing = {owner for owner, *_ in owners}
        if self._holding.lease not in standing or dead_owners(owners, self._holding.lease, now):
            return True
        return any(owner not in standing for _, owner in self._writer.rows(_PARTITIONS))

    def _enter(self, raw: sqlite3.Connection, now: int) -> int:
        process = Process.current()
        lease = raw.execute(
            "INSERT INTO owners (name, address, until, host, pid, born, serves) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                self._owner,
                self._address,
                now + self._lease,
                process.host,
                process.pid,
                process.born,
                self._holding.serves,
            ),
        ).lastrowid
        assert lease is not None
        return lease

    def _take(
        self, raw: sqlite3.Connection, lease: int, free: list[int], living: int
    ) -> tuple[list[int], list[int], bool]:
        """Give a fair share of the free partitions to the lease.

        Return all its partitions, those for new executions, and whether any was taken.
        """
        held, homes = list(self._holding.partitions), list(self._holding.homes)
        if not homes:
            for _ in range(HOMES if self._address else 1):
                number = raw.execute(
                    "INSERT INTO partitions (owner) VALUES (?)", (lease,)
                ).lastrowid
                assert number is not None
                homes.append(number)
            held += homes
        used: list[tuple[int, int]] = []
        for partition in free:
            count: int = raw.execute(_COUNT, (partition, FOLD_LIMIT + 1)).fetchone()[0]
            if count:
                used.append((partition, count))
            else:
                raw.execute("DELETE FROM partitions WHERE id = ?", (partition,))
        # An owner without an address holds partitions for a moment only, and takes all.
        share = used[: -(-len(used) // living)] if self._address else used
        for partition, count in share:
            if count <= FOLD_LIMIT:
                raw.execute(_FOLD, (json.dumps(homes), len(homes), partition))
                raw.execute("DELETE FROM partitions WHERE id = ?", (partition,))
            else:
                raw.execute("UPDATE partitions SET owner = ? WHERE id = ?", (lease, partition))
                held.append(partition)
        return held, homes, bool(share)


_FOLD = """
    UPDATE executions
    SET partition = json_extract(?, '$[' || (key % ?) || ']')
    WHERE partition = ?
"""
_COUNT_TRY = "UPDATE executions SET tries = tries + ? WHERE id = ?"
_OWNERS = f"SELECT id, {OF_OWNER} FROM owners"
_WITH_HELD = f"""
    SELECT CAST(o.name AS TEXT), {OF_OWNER}, (
        SELECT count(*) FROM (
            SELECT 1 FROM executions AS e JOIN partitions AS p ON p.id = e.partition
            WHERE p.owner = o.id AND e.busy = 1 LIMIT {MOST_HELD}
        )
    ) FROM owners AS o
"""
_PARTITIONS = "SELECT id, owner FROM partitions"
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM executions WHERE partition = ? LIMIT ?)"
