"""Lease partitions of executions to owners."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

from mini_workflow.ports import Clock
from mini_workflow.ports.owner import MOST_HELD, Owner
from mini_workflow.stores import turn_note
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.postgres.arrays import numbers
from mini_workflow.stores.postgres.clock import DatabaseClock
from mini_workflow.stores.postgres.connection import Address, Connection, Pool
from mini_workflow.stores.postgres.fence import Fence
from mini_workflow.stores.postgres.functions import NOW
from mini_workflow.stores.process import Process, dead_owners, owners_of

HOMES: Final = 8
"""Partitions that an owner begins with, so that its executions can be shared among so many others."""

FOLD_LIMIT: Final = 1_000
"""Executions up to which a partition that is taken over is emptied into the owner's own ones, so that the
partitions of short-lived owners do not pile up."""


LONGEST_PAUSE = 5_000
"""Milliseconds that may pass between two statements of a takeover, or a third of the lease if that is less.
Other owners wait for the takeover, and must not wait for a process that stands still."""

_LEAST_PAUSE: Final = 1_000

_FIRST: Final = 1 << 62
"""The bound of the random number of an owner's first commit. On another server, to which this owner was not
replicated, the next owner may get the same id, but not the same number."""


class PostgresLeases:
    """Implements `Leases`. An owner takes a fair share of the free partitions, and at least one of them.

    The other owners take theirs when they renew their leases.
    """

    def __init__(
        self,
        writer: Connection,
        readers: Pool,
        holding: Ownership,
        *,
        owner: str,
        address: str,
        clock: Clock,
        lease: int,
        database: Address,
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._holding = holding
        self._owner = owner
        self._address = address
        self._clock = clock
        self._lease = lease
        self._database = database
        self._fence: Final = Fence(writer, holding)
        self._unsure = False
        """Whether a call that failed may have taken partitions."""
        self._path = _notes(database)
        self._note = turn_note.TurnNote(self._path, holding)
        self.note_turn: Final = self._note.write if _is_private(self._path) else _note_nothing
        """See `Leases.note_turn`. The note is a file of this machine, for its other owners."""

    def acquire(self, now: int) -> bool:
        """See `Leases.acquire`."""
        holding = self._holding
        if holding.lease is not None and not self._is_anything_free(now):
            return False
        self._writer.row("SELECT 1")  # connect again before the transaction, if need be
        self._unsure = True
        with self._writer.transaction() as connection:
            run = connection.run
            run(_LOCK_ALL, (str(self._longest_pause()), self._database.schema))
            if holding.former is not None:
                run("DELETE FROM @owners WHERE id = %s", (holding.former,))
            owners = run(_OWNERS)
            if holding.lease is not None and holding.lease not in {owner for owner, *_ in owners}:
                holding.lost()
            dead = self._end(connection, owners, now)
            first = SystemRandom().randrange(_FIRST)
            lease = holding.lease or self._enter(connection, now, first)
            living = len(owners) - len(dead) + (holding.lease is None)
            homes = list(holding.homes)
            if not homes:
                homes = [row[0] for row in run(_NEW_PARTITIONS, (lease, HOMES))]
            # From the server, since a call that failed may have taken some.
            partitions = [row[0] for row in run(_HELD, (lease,))]
            # Against clients that put executions into them. A partition into which an open transaction of a
            # caller has put one is left for a later call, since that transaction may stay open for long.
            unused = [row[0] for row in run(_LOCK)]
            free = run(_FREE, (FOLD_LIMIT + 1, numbers(unused)))
            used = [(partition, count) for partition, count in free if count]
            empty = [partition for partition, count in free if not count]
            if empty:
                run("DELETE FROM @partitions WHERE id = ANY (%s::bigint[])", (numbers(empty),))
            taken = used[: -(-len(used) // living)]
            for partition, count in taken:
                if count <= FOLD_LIMIT:
                    run(_FOLD, (numbers(homes), len(homes), partition))
                    run("DELETE FROM @partitions WHERE id = %s", (partition,))
                else:
                    run("UPDATE @partitions SET owner = %s WHERE id = %s", (lease, partition))
                    partitions.append(partition)
        self._unsure = False
        if holding.lease is None:
            holding.commits, holding.unconfirmed, holding.former = first, False, None
        holding.lease, holding.partitions, holding.homes = lease, partitions, homes
        return bool(taken)

    def _longest_pause(self) -> int:
        return min(LONGEST_PAUSE, max(_LEAST_PAUSE, self._lease // 3))

    def _end(self, connection: Connection, owners: Sequence[Any], now: int) -> list[int]:
        """End the owners that are gone or have not renewed their leases. Return their ids."""
        dead = dead_owners(owners, self._holding.lease, now)
        ended: list[int] = []
        for owner, weight in dead.items():
            late = "" if weight == 1 else "AND until < %s"
            values = (owner,) if weight == 1 else (owner, now)
            # An owner that has renewed meanwhile stays.
            if not connection.run(f"DELETE FROM @owners WHERE id = %s {late} RETURNING id", values):
                continue
            ended.append(owner)
            if (name := turn_note.read(self._path, owner)) is not None:
                connection.run(
                    "UPDATE @executions SET tries = tries + %s WHERE id = %s", (weight, name)
                )
                turn_note.forget(self._path, owner)
        return ended

    def renew(self, now: int) -> int:
        """See `Leases.renew`."""
        self._fence.settle()
        asked = self._steady()
        rows = self._writer.rows(_EXTEND, (now + self._lease, self._holding.require()))
        if not rows:
            self._holding.lost()
        self._set_clock(rows[0][0], asked)
        return now + self._lease // 3

    def extend(self, now: int) -> None:
        """See `Leases.extend`."""
        # A lost lease matches no row; the engine notices at its next commit.
        self._readers.rows(_EXTEND, (now + self._lease, self._holding.lease))

    def release(self) -> None:
        """See `Leases.release`."""
        self._note.remove()
        holding = self._holding
        lease = holding.lease
        if lease is None:
            return
        self._writer.rows(_RELEASE, (lease, lease))
        holding.forget()

    def peers(self) -> list[str]:
        """See `Leases.peers`."""
        owners = self._readers.rows(_OWNERS)
        dead = dead_owners(owners, self._holding.lease, self._clock.now())
        return [
            address
            for owner, address, *_ in owners
            if address and owner != self._holding.lease and owner not in dead
        ]

    def owners(self) -> list[Owner]:
        """Return the processes that run the executions of the database."""
        return owners_of(self._readers.rows(_WITH_HELD), self._clock.now())

    def _is_anything_free(self, now: int) -> bool:
        """Return whether there may be anything to take; a read is cheaper than a lock."""
        if self._unsure:
            return True
        rows = self._writer.rows(_LOOK)
        owners = [row for row in rows if row[0] is not None]
        if len(owners) < len(rows):
            return True
        standing = {owner for owner, *_ in owners}
        return self._holding.lease not in standing or bool(
            dead_owners(owners, self._holding.lease, now)
        )

    def _enter(self, connection: Connection, now: int, first: int) -> int:
        self._holding.homes = []
        _notes(self._database)  # make the folder again if temporary files were cleaned up
        process = Process.current()
        values = (self._owner, self._address, now + self._lease)
        where = (process.host, process.pid, process.born)
        row = connection.run(_ENTER, (*values, *where, first, self._holding.serves))[0]
        lease: int = row[0]
        return lease

    def _steady(self) -> int:
        return self._clock.steady() if isinstance(self._clock, DatabaseClock) else 0

    def _set_clock(self, there: int, asked: int) -> None:
        if isinstance(self._clock, DatabaseClock):
            self._clock.set(there, asked, self._clock.steady())


class NoLeases:
    """Implements `Leases` for a client, which holds nothing."""

    def __init__(self, readers: Pool, clock: Clock) -> None:
        self._readers = readers
        self._clock = clock

    def acquire(self, now: int) -> bool:
        """See `Leases.acquire`. Takes nothing."""
        return False

    def renew(self, now: int) -> int:
        """See `Leases.renew`."""
        return now

    def extend(self, now: int) -> None:
        """See `Leases.extend`."""

    def note_turn(self, execution_id: str | None) -> None:
        """See `Leases.note_turn`."""

    def release(self) -> None:
        """See `Leases.release`."""

    def peers(self) -> list[str]:
        """See `Leases.peers`. Returns all owners whose leases have not ended."""
        now = self._clock.now()
        return [row[1] for row in self._readers.rows(_OWNERS) if row[1] and row[2] >= now]

    def owners(self) -> list[Owner]:
        """Return the processes that run the executions of the database."""
        return owners_of(self._readers.rows(_WITH_HELD), self._clock.now())


def set_clock(clock: DatabaseClock, connection: Connection) -> None:
    """Set a clock to the time of the server."""
    connection.row("SELECT 1")  # connect first, which takes longer than the query
    asked = clock.steady()
    there: int = connection.row(f"SELECT {NOW}")[0]
    clock.set(there, asked, clock.steady())


def _note_nothing(execution_id: str | None) -> None:
    """Keep no note, where no file can be made for it."""


def _is_private(path: Path) -> bool:
    """Return whether notes can be made beside the path, in a folder of this user."""
    try:
        folder = path.parent.stat()
    except OSError:
        return False
    mine = not hasattr(os, "getuid") or folder.st_uid == os.getuid()
    return mine and path.exists() and os.access(path.parent, os.W_OK | os.X_OK)


def _notes(database: Address) -> Path:
    """Return the path beside which this machine keeps notes of a database and this user; make it."""
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    name = blake2b(database.place.encode(), digest_size=8).hexdigest()
    folder = Path(tempfile.gettempdir(), f"mini-workflow-{user}")
    with suppress(OSError):  # `_is_private` finds out, and notes are left out
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / name).touch(mode=0o600, exist_ok=True)
    return folder / name


_LOCK_ALL: Final = """
    WITH bounded AS MATERIALIZED (
        SELECT set_config('idle_in_transaction_session_timeout', %s, true) AS longest,
            set_config('lock_timeout', '0', true) AS patient
    )
    SELECT pg_advisory_xact_lock(hashtext(%s)) FROM bounded
    WHERE longest IS NOT NULL AND patient IS NOT NULL
"""
_OWNERS: Final = "SELECT id, address, until, host, pid, born FROM @owners"
_WITH_HELD: Final = f"""
    SELECT o.name, o.address, o.until, o.host, o.pid, o.born, (
        SELECT count(*) FROM (
            SELECT 1 FROM @executions AS e JOIN @partitions AS p ON p.id = e.partition
            WHERE p.owner = o.id AND e.busy LIMIT {MOST_HELD}
        ) AS held
    ) FROM @owners AS o
"""
_LOOK: Final = f"""
    {_OWNERS} UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, NULL WHERE EXISTS (
        SELECT 1 FROM @partitions AS p
        WHERE NOT EXISTS (SELECT 1 FROM @owners AS o WHERE o.id = p.owner)
    )
"""
_ENTER: Final = """
    INSERT INTO @owners (name, address, until, host, pid, born, commits, serves)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING id
"""
_NEW_PARTITIONS: Final = """
    INSERT INTO @partitions (owner) SELECT %s::bigint FROM generate_series(1, %s) RETURNING id
"""
_HELD: Final = "SELECT id FROM @partitions WHERE owner = %s ORDER BY id"
_LOCK: Final = """
    SELECT p.id FROM @partitions AS p
    WHERE NOT EXISTS (SELECT 1 FROM @owners AS o WHERE o.id = p.owner)
    ORDER BY p.id FOR UPDATE OF p SKIP LOCKED
"""
_FREE: Final = """
    SELECT p.id, (
        SELECT count(*) FROM (
            SELECT 1 FROM @executions AS x WHERE x.partition = p.id LIMIT %s
        ) AS found
    )
    FROM @partitions AS p WHERE p.id = ANY (%s::bigint[]) ORDER BY p.id
"""
_FOLD: Final = """
    UPDATE @executions SET partition = (%s::bigint[])[1 + key %% %s] WHERE partition = %s
"""
_EXTEND: Final = f"""
    UPDATE @owners SET until = %s WHERE id = %s RETURNING {NOW}
"""
_RELEASE: Final = """
    WITH given AS (UPDATE @partitions SET owner = NULL WHERE owner = %s)
    DELETE FROM @owners WHERE id = %s
"""
