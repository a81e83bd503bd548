"""Open a database: its connections, and the ports over them."""

from __future__ import annotations

from typing import Final

from mini_workflow.ports import Clock
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.postgres.agenda import PostgresAgenda
from mini_workflow.stores.postgres.clock import DatabaseClock
from mini_workflow.stores.postgres.connection import Address, Connection, Pool, Raw, checked
from mini_workflow.stores.postgres.heartbeats import PostgresHeartbeats
from mini_workflow.stores.postgres.leases import NoLeases, PostgresLeases, set_clock
from mini_workflow.stores.postgres.mailbox import PostgresMailbox, ReceivedMessages
from mini_workflow.stores.postgres.schema import check, upgrade, version
from mini_workflow.stores.postgres.shared_tasks import PostgresSharedTasks
from mini_workflow.stores.postgres.store import LONGEST_WAIT, PostgresStore
from mini_workflow.stores.postgres.streams import PostgresStreams
from mini_workflow.stores.postgres.transactions import PostgresTransactions
from mini_workflow.stores.postgres.wakeups import Wakeups

SCHEMA: Final = "mini_workflow"
"""The schema that the tables are in, unless another one is named."""


class PostgresBackend:
    """The ports `store`, `agenda`, `mailbox`, `leases`, `streams` and `shared_tasks` over one schema of a
    Postgres database.

    Calls that a port allows from any thread use connections of their own, so that a reader never waits
    for the engine. All other calls are for the thread that leads the engine.

    Args:
        url: the database: ``postgresql://user:password@host:port/database``, or the key=value form of
            libpq. Parts that are left out come from libpq's environment variables.
        owner: the name of this owner, for people who read the table.
        schema: the schema of the tables; it is made where there is none.
        address: the address at which other owners wake this one; by default that of its `wakeups`.
        clock: the time by which leases of others end; by default the server's.
        lease: milliseconds without a renewal after which others may take over the executions of an
            owner. (A dead process on the same machine loses its executions at once.)
        migrate: whether the tables are made or upgraded on opening.
        keep_runs: whether the events of earlier runs are kept.
        is_client: hold no lease and run nothing; other owners run the executions that it creates.
        read_only: change nothing; the server refuses changes.
        direct_url: the same database without the pooler, to receive wake-ups, if `url` is a pooler's.
        borrowed: the caller's connection, whose transaction all calls use.

    Raises:
        StoreUnavailable: the server cannot be reached, or the schema has to be upgraded.
        StoreTooNew: a later version of this library has upgraded the tables.
        UsageError: an argument is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        owner: str,
        schema: str = SCHEMA,
        address: str | None = None,
        clock: Clock | None = None,
        lease: int = 15_000,
        migrate: bool = True,
        keep_runs: bool = True,
        is_client: bool = False,
        read_only: bool = False,
        borrowed: Raw | None = None,
        direct_url: str | None = None,
    ) -> None:
        if borrowed is not None:
            borrowed = checked(borrowed, "connection=")
            url = "" if borrowed.closed else borrowed.info.dsn
        database = self.database = Address(url, schema, read_only=read_only)
        direct = None if direct_url is None else Address(direct_url, schema)
        self.path: Final = database.place
        self._writer = Connection(database, borrowed)
        self._readers = Pool(database, None if borrowed is None else self._writer)
        try:
            if migrate and not read_only and borrowed is None:
                upgrade(self._writer, database)
            else:
                check(version(self._writer, database), database)
            if clock is None:
                clock = DatabaseClock()
                set_clock(clock, self._writer)
        except BaseException:
            self._writer.close()
            raise
        self.clock: Final[Clock] = clock
        self.wakeups: Final = Wakeups(
            database, None if borrowed is None else self._writer, direct=direct
        )
        holding, received = Ownership(), ReceivedMessages()
        notify = self.wakeups.notify
        self.store = PostgresStore(
            self._writer,
            self._readers,
            holding,
            received,
            notify,
            is_client=is_client,
            keep_runs=keep_runs,
            longest_wait=min(LONGEST_WAIT, max(1, lease // 5)),
        )
        self.agenda = PostgresAgenda(self._writer, holding)
        self.mailbox = PostgresMailbox(self._writer, self._readers, holding, received, notify)
        self.streams = PostgresStreams(self._readers, PostgresHeartbeats(self._readers))
        self.transactions = PostgresTransactions(database)
        self.shared_tasks = PostgresSharedTasks(self._readers, holding, clock, notify)
        self.leases: PostgresLeases | NoLeases = (
            NoLeases(self._readers, clock)
            if is_client
            else PostgresLeases(
                self._writer,
                self._readers,
                holding,
                owner=owner,
                address=self.wakeups.address if address is None else address,
                clock=clock,
                lease=lease,
                database=database,
            )
        )

    @property
    def trips(self) -> int:
        """The number of round trips to the server, without those for wake-ups."""
        return self._writer.trips + self._readers.trips

    def close(self) -> None:
        """Close the connections. Leases are kept until they end, unless they were released before."""
        self.wakeups.close()
        self._readers.close()
        self._writer.close()
