"""Open a file: its connections, and the ports over them."""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from typing import Final

from mini_workflow.errors import StoreUnavailable
from mini_workflow.ports import Clock
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.sqlite.agenda import SQLiteAgenda
from mini_workflow.stores.sqlite.connection import Connection, Synchronous, WriteLock
from mini_workflow.stores.sqlite.file_checks import inspect, path_of
from mini_workflow.stores.sqlite.heartbeats import SQLiteHeartbeats
from mini_workflow.stores.sqlite.leases import SQLiteLeases
from mini_workflow.stores.sqlite.mailbox import SQLiteMailbox
from mini_workflow.stores.sqlite.schema import check_version, make_private, upgrade
from mini_workflow.stores.sqlite.shared_tasks import SQLiteSharedTasks
from mini_workflow.stores.sqlite.store import SQLiteStore
from mini_workflow.stores.sqlite.streams import SQLiteStreams
from mini_workflow.stores.sqlite.sweeping import INCREMENTAL

_PATIENCE_SECONDS: Final = 10.0

log = logging.getLogger("mini_workflow.engine")


class SQLiteBackend:
    """The ports `store`, `agenda`, `mailbox`, `leases`, `streams` and `shared_tasks` over one SQLite file.

    Calls that a port allows from any thread use a connection of their own, so that a reader never
    waits for the engine. All other calls are for the thread that leads the engine.

    Args:
        path: the file; it is created where there is none.
        owner: the name of this owner, for people who read the file.
        address: the address at which other owners wake this one; empty if they cannot.
        clock: the time by which leases of others end.
        lease: milliseconds without a renewal after which others may take over the executions of an
            owner. (A dead process on the same machine loses its executions at once.)
        synchronous: "FULL" survives a power cut; "NORMAL" is faster, and a power cut may undo the
            last commits (a crash of the process alone does not).
        patience: seconds to wait for another process that holds the write lock.
        read_only: open an existing file, and change nothing in it.
        keep_runs: whether the events of earlier runs are kept.

    Raises:
        UsageError: the path is none: an address of a database, or not text.
        StoreUnavailable: the file or its directory cannot be read and written, or is locked.
        StoreCorrupt: the file is not a store of this library, or is damaged.
        StoreTooNew: a newer version of this library wrote it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        owner: str,
        address: str = "",
        clock: Clock,
        lease: int = 15_000,
        synchronous: Synchronous = "FULL",
        patience: float = _PATIENCE_SECONDS,
        read_only: bool = False,
        keep_runs: bool = True,
    ) -> None:
        found = path_of(path)
        network = inspect(found, read_only=read_only)
        # A later change of the working directory must not change which file is meant.
        self.path = found.absolute()
        if network and not read_only:
            log.warning(
                "%s is on a network file system (%s), and SQLite's log works among processes of one machine "
                "only: let no other machine open the file, or use Postgres",
                *(self.path, network),
            )
        writers = WriteLock()
        connect = partial(
            Connection,
            self.path,
            synchronous=synchronous,
            patience=patience,
            writers=writers,
            read_only=read_only,
        )
        if not read_only:
            make_private(self.path)
        self._writer = connect()
        try:
            if read_only:
                check_version(self._writer, self.path)
            else:
                self._prepare()
            self._reader = connect()
        except BaseException:
            self._writer.close()
            raise
        # A signal handler may read while its thread does.
        self._reading = threading.RLock()
        holding = Ownership()
        self.store = SQLiteStore(
            self._writer, self._reader, self._reading, holding, keep_runs=keep_runs
        )
        self.agenda = SQLiteAgenda(self._writer, holding)
        self.mailbox = SQLiteMailbox(self._writer, self._reader, self._reading, holding)
        beats = SQLiteHeartbeats(self._reader, self._reading)
        self.streams = SQLiteStreams(self._reader, self._reading, beats)
        self.shared_tasks = SQLiteSharedTasks(self._reader, self._reading, holding, clock)
        self.leases = SQLiteLeases(
            self._writer,
            self._reader,
            self._reading,
            holding,
            owner=owner,
            address=address,
            clock=clock,
            lease=lease,
            path=self.path,
            network=network,
        )

    def _prepare(self) -> None:
        upgrade(self._writer, self.path)
        # After the upgrade, so that the header of the file itself always has the application's id.
        if self._writer.row("PRAGMA journal_mode = WAL") != ("wal",):
            raise StoreUnavailable(
                f"{self.path}: its file system has no shared memory, which SQLite's write-ahead log "
                "needs: keep the store on a local disk"
            )

    def vacuum(self) -> tuple[int, int]:
        """Write the file anew without its free pages, and let it give pages back from then on.

        Return its size in bytes before and after.
        """
        before = self.path.stat().st_size
        self._writer.run(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        self._writer.run("VACUUM")
        self._writer.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, self.path.stat().st_size

    def close(self) -> None:
        """Close the file. Leases are kept until they end, unless they were released before."""
        with self._reading:
            self._reader.close()
        self._writer.close()
