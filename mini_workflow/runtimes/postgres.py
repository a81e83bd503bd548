"""PostgresRuntime: runs workflows in this process, and shares them with others by a Postgres database."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Unpack

from mini_workflow.codecs.payload_codecs import Codecs
from mini_workflow.codecs.standard import DEFAULT_VALUE_LIMIT, StandardCodec, with_codecs
from mini_workflow.engine.client import Client
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.runtime import Runtime
from mini_workflow.engine.watchdog import DEFAULT_LIMIT, Watchdog
from mini_workflow.errors import StoreError, UsageError
from mini_workflow.interceptors import Interceptor, Interceptors
from mini_workflow.ports.owner import Owner
from mini_workflow.ports.shared_tasks import unserved_workers
from mini_workflow.runtimes.file_transport import FileTransport
from mini_workflow.runtimes.local import EmbeddedOptions, EmbeddedRuntime, owner_name
from mini_workflow.stores.postgres.backend import SCHEMA, PostgresBackend
from mini_workflow.threads import has_begun, join_thread, start_thread
from mini_workflow.workflow import REGISTRY

if TYPE_CHECKING:
    import psycopg

FIRST_LOOK: Final = 0.02
LONGEST_LOOK: Final = 0.5
"""Seconds between two looks at executions that another process runs and a caller here waits for: the pauses
grow by half each time. One query is for all of them. Our own bounds."""


class PostgresRuntime(EmbeddedRuntime):
    """Runs workflows in this process and keeps them in a Postgres database; a context manager.

    Any number of processes, on any number of machines, may open the same schema: each runs the
    executions that it has started, and they share the executions that one of them leaves or loses. Other
    processes start executions and send signals by a `PostgresClient`.

    Args:
        url: the database: ``postgresql://user:password@host:port/database``, or the key=value form of
            libpq. Missing parts are taken from libpq's environment variables and password file.
        schema: the schema that the tables are in: executions in different schemas know nothing of each
            other.
        migrate: whether opening creates the tables, or brings them to the current version. With False
            `mini-workflow migrate` has to do that.
        direct_url: the address of the server itself, where `url` is that of a pooler which lends
            sessions for one transaction (PgBouncer in transaction mode): through such a pooler no process
            can be woken, so that each looks four times a second instead.
        **options: as for `LocalRuntime`, but for `synchronous`, which is a setting of the server here
            (``synchronous_commit``). The `lease` goes by the server's clock.

    Raises:
        StoreUnavailable: the server cannot be reached, or lacks something; the message says what.
        StoreTooNew: a later version of this library has upgraded the tables.
        UsageError: an argument is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = SCHEMA,
        migrate: bool = True,
        direct_url: str | None = None,
        **options: Unpack[EmbeddedOptions],
    ) -> None:
        super().__init__(
            partial(_open, url, schema=schema, migrate=migrate, direct_url=direct_url), **options
        )


def _open(url: str, lease: int, keep_runs: bool, **options: Any) -> _OpenedDatabase:
    return _OpenedDatabase(
        PostgresBackend(url, owner=owner_name(), lease=lease, keep_runs=keep_runs, **options)
    )


class PostgresClient(Client):
    """Reads and controls the executions in a database without running any; a context manager.

    For web processes and scripts. Starts and messages are durable when the call returns; a
    `PostgresRuntime` takes them, now or later. A query replays the execution here, so that its
    workflow has to be registered in this process.

    With `connection=` everything happens in the transaction of that connection: an execution begins,
    and a signal arrives, if and when the caller commits. Such a client is cheap; make one for each
    transaction. It cannot wait for a result.

    Args:
        url: as for `PostgresRuntime`. With `connection=` it may be left out.
        connection: the caller's own connection of psycopg, used by this thread alone.
        schema: as for `PostgresRuntime`.
        migrate: as for `PostgresRuntime`.
        read_only: change nothing in the database; the server itself refuses changes. Such a client also
            runs no code from the database: values of classes whose modules are not imported, and
            pickled ones, are refused with PayloadNotReadable.
        trust: load all values also in a client that only reads.
        turn_timeout: seconds that a query may compute; None for no limit.
        codec: a PayloadCodec, or a list of them, as the runtime has it.
        interceptors: objects that go around calls: see `Interceptor`.
        value_limit: bytes that one value may take, encoded.

    Raises:
        StoreUnavailable, StoreTooNew, UsageError: as for `PostgresRuntime`.
    """

    def __init__(
        self,
        url: str = "",
        *,
        connection: psycopg.Connection[Any] | None = None,
        schema: str = SCHEMA,
        migrate: bool = True,
        read_only: bool = False,
        trust: bool = False,
        turn_timeout: float | None = DEFAULT_LIMIT,
        value_limit: int = DEFAULT_VALUE_LIMIT,
        codec: Codecs | None = None,
        interceptors: Iterable[Interceptor] = (),
    ) -> None:
        carrying = with_codecs(
            StandardCodec(value_limit=value_limit, trust=trust or not read_only), codec
        )
        around = Interceptors.of(interceptors)
        self._joins = connection is not None
        self._backend = PostgresBackend(
            url,
            schema=schema,
            owner=owner_name(),
            address="",
            migrate=migrate,
            is_client=True,
            read_only=read_only,
            borrowed=connection,
        )
        self._database = FileTransport(
            self._backend,
            self._backend.clock,
            carrying,
            REGISTRY,
            Watchdog(turn_timeout),
            read_only=read_only,
            wakes_holders=True,
            definitions=around.definitions(REGISTRY.get),
        )
        super().__init__(self._database, self._database.store, carrying, REGISTRY, around)

    @property
    def path(self) -> str:
        """The database, without its password."""
        return self._backend.path

    def is_served(self) -> bool:
        """Return whether a living process has the database open to run its executions."""
        self._database.check()
        return bool(self._backend.leases.peers())

    def owners(self) -> list[Owner]:
        """Return the processes that run executions of the database."""
        self._database.check()
        return self._backend.leases.owners()

    def _unserved(self, execution_ids: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        return unserved_workers(self._backend.shared_tasks, execution_ids)

    def wait(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Client.wait`."""
        self._refuse_to_wait()
        return super().wait(execution_id, timeout)

    async def wait_async(self, execution_id: str) -> Settled:
        """See `Client.wait_async`."""
        self._refuse_to_wait()
        return await super().wait_async(execution_id)

    def _refuse_to_wait(self) -> None:
        if self._joins:
            raise UsageError(
                "this client is part of a transaction, and nothing begins before that is committed: "
                "commit it, and wait with another client, PostgresClient(url)"
            )

    def close(self) -> None:
        """Close the connections. Harmless if it was closed before."""
        super().close()
        self._database.close()


class _OpenedDatabase:
    """A schema of a database. LISTEN and NOTIFY wake the process that holds an execution. A process that
    waits for an execution of another process looks at the database itself.
    """

    def __init__(self, backend: PostgresBackend) -> None:
        self.backend = backend
        self.store, self.agenda = backend.store, backend.agenda
        self.mailbox, self.leases = backend.mailbox, backend.leases
        self.streams = backend.streams
        self.transactions = backend.transactions
        self.shared_tasks = backend.shared_tasks
        self.clock = backend.clock
        self._runtime: Runtime | None = None
        self._waits = threading.Event()
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None
        self._lock = threading.Lock()

    def notify_peers(self) -> None:
        """See `OpenedBackend.notify_peers`: the store has woken the holder of the execution already."""

    def owners(self) -> list[Owner]:
        """See `OpenedBackend.owners`."""
        return self.backend.leases.owners()

    def listen(self, runtime: Runtime) -> None:
        """See `OpenedBackend.listen`."""
        self._runtime = runtime
        runtime.on_wait(self._begin_to_look, looks=LONGEST_LOOK)
        self.backend.wakeups.listen(runtime.look_around)

    def close(self) -> None:
        """See `OpenedBackend.close`."""
        with self._lock:
            self._ended.set()
            watcher = self._watcher
        self._waits.set()
        join_thread(watcher)
        self.backend.close()

    def _begin_to_look(self) -> None:
        """Have the thread look at the database, since a caller begins to wait."""
        self._waits.set()
        if not has_begun(self._watcher):
            with self._lock:
                if not has_begun(self._watcher) and not self._ended.is_set():
                    self._watcher = threading.Thread(
                        target=self._look, name="mini-workflow-watcher", daemon=True
                    )
                    start_thread(self._watcher)

    def _look(self) -> None:
        assert self._runtime is not None
        pause = FIRST_LOOK
        while not self._ended.wait(pause):
            names = self._runtime.awaited_elsewhere()
            if names == []:
                self._waits.wait()
            if self._waits.is_set():
                self._waits.clear()
                pause = FIRST_LOOK
            else:
                pause = min(LONGEST_LOOK, pause * 1.5)
            try:
                if names is None or (names and self.store.ended(names)):
                    self._runtime.look_around()
            except StoreError:
                pause = LONGEST_LOOK
