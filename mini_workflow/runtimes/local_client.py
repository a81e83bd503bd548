"""LocalClient: reads and controls the executions in an SQLite file without running any of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from mini_workflow.codecs.payload_codecs import Codecs
from mini_workflow.codecs.standard import DEFAULT_VALUE_LIMIT, StandardCodec, with_codecs
from mini_workflow.engine.client import Client
from mini_workflow.engine.watchdog import DEFAULT_LIMIT, Watchdog
from mini_workflow.interceptors import Interceptor, Interceptors
from mini_workflow.ports.owner import Owner
from mini_workflow.ports.shared_tasks import unserved_workers
from mini_workflow.runtimes.file_transport import FileTransport
from mini_workflow.stores.sqlite import SQLiteBackend
from mini_workflow.stores.sqlite.damage import Damage
from mini_workflow.stores.system_clock import SystemClock
from mini_workflow.workflow import REGISTRY

LEASE: Final = 15.0
"""Seconds for which a client may hold a lease to put an execution into the file, which takes milliseconds. If
the client dies meanwhile, others notice at once."""


class LocalClient(Client):
    """Reads and controls executions in the file of a `LocalRuntime`; a context manager.

    A client runs no workflow and no task. Starts and messages are durable when the call
    returns; a runtime that has the file open takes them, now or later. A query replays the
    execution here, so that its workflow has to be registered in this process.

    Args:
        path: the file; it is created where there is none, unless the client only reads.
        read_only: change nothing in the file; SQLite itself refuses changes. Such a client also runs no
            code from the file: values of classes whose modules are not imported, and pickled ones,
            are refused with PayloadNotReadable.
        trust: load all values also in a client that only reads. Do that where you trust everybody
            who can write to the file.
        turn_timeout: seconds that a query may compute; None for no limit.
        codec: a PayloadCodec, or a list of them, by which all values, failures and calls are encoded
            before they are stored or sent, and in which the first one encodes first.
        interceptors: objects that go around calls, workflows and tasks: see `Interceptor`.
        value_limit: bytes that one value may take, encoded: an argument, a result, the value of a
            signal. More is refused with ValueTooLarge.

    Raises:
        StoreUnavailable, StoreCorrupt, StoreTooNew: the file cannot be used; it is left as it is.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        turn_timeout: float | None = DEFAULT_LIMIT,
        value_limit: int = DEFAULT_VALUE_LIMIT,
        trust: bool = False,
        codec: Codecs | None = None,
        interceptors: Iterable[Interceptor] = (),
    ) -> None:
        carrying = with_codecs(
            StandardCodec(value_limit=value_limit, trust=trust or not read_only), codec
        )
        around = Interceptors.of(interceptors)
        clock = SystemClock()
        self._backend = SQLiteBackend(
            path,
            owner=f"{socket.gethostname()}:{os.getpid()}:client",
            clock=clock,
            lease=round(LEASE * 1000),
            read_only=read_only,
        )
        self._file = FileTransport(
            self._backend,
            clock,
            carrying,
            REGISTRY,
            Watchdog(turn_timeout),
            read_only=read_only,
            definitions=around.definitions(REGISTRY.get),
        )
        super().__init__(self._file, self._file.store, carrying, REGISTRY, around)

    @property
    def path(self) -> Path:
        """The file."""
        return self._backend.path

    def is_served(self) -> bool:
        """Return whether a living process has the file open to run its executions."""
        self._file.check()
        return bool(self._backend.leases.peers())

    def owners(self) -> list[Owner]:
        """Return the processes that run executions of the file."""
        self._file.check()
        return self._backend.leases.owners()

    def _unserved(self, execution_ids: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        return unserved_workers(self._backend.shared_tasks, execution_ids)

    def damaged(self, limit: int = 100) -> list[Damage]:
        """Return the damage in at most `limit` rows of executions: id, column and value of each.

        A damaged row concerns its own execution only, which counts as blocked. Restore a backup, or
        call `resume()`, which writes the row anew from the history. Reads every row of the file.
        """
        self._file.check()
        return self._backend.store.damaged(limit)

    def vacuum(self) -> tuple[int, int]:
        """Write the file anew without the space that deletions have left in it; from then on it gives space
        back by itself. Returns its bytes before and after.

        Needs as much free space as the file takes, and nobody can write to the file meanwhile. Raises
        StoreUnavailable if other processes use the file for 10 s, and StoreFull.
        """
        self._file.check()
        return self._backend.vacuum()

    def close(self) -> None:
        """Close the file. Harmless if it was closed before."""
        super().close()
        self._file.close()
