"""The database opened: its connections, and the ports over them."""

from __future__ import annotations

from typing import Final

from mini_workflow.ports import Clock
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.postgres.agenda import PostgresAgenda
from mini_workflow.stores.postgres.clock import DatabaseClock
from mini_workflow.stores.postgres.connection import Address, Connection, Pool, Raw
from mini_workflow.stores.postgres.heartbeats import PostgresHeartbeats
from mini_workflow.stores.postgres.leases import NoLeases, PostgresLeases, set_clock
from mini_workflow.stores.postgres.mailbox import PostgresMailbox, ReceivedMessages
from mini_workflow.stores.postgres.schema import check, upgrade, version
from mini_workflow.stores.postgres.shared_tasks import PostgresSharedTasks
from mini_workflow.stores.postgres.store import PostgresStore
from mini_workflow.stores.postgres.streams import PostgresStreams
from mini_workflow.stores.postgres.transactions import PostgresTransactions
from mini_workflow.stores.postgres.wakeups import Wakeups

SCHEMA: Final = "mini_workflow"
"""The schema that the tables are in, unless another one is named."""


class PostgresBackend:
    """The ports `store`, `agenda`, `mailbox`, `leases`, `streams` and `shared_tasks` over one schema of a
    Postgres database.

    What a port allows from any thread goes over connections of its own, so that a reader never waits
    for the engine; everything else belongs to who leads the engine.

    Args:
        url: the database: ``postgresql://user:password@host:port/database``, or the key=value form of
            libpq. What it leaves out is taken from libpq's environment variables.
        owner: a name for this opener, for people who look at the table.
        schema: the schema that the tables are in; it is made where there is none.
        address: where the owner can be woken up; by default the one of its `wakeups`.
        clock: the time, against which leases of others are judged; by default the server's.
        lease: milliseconds after which the executions of an owner that has stopped renewing its
            lease may be taken over. (One that is dead on the same machine is found out at once.)
        migrate: whether the tables are made, or brought to the current version, on opening.
        keep_runs: whether the events of runs that are over are kept.
        is_client: hold nothing, and run nothing: what is created is for whoever runs executions.
        read_only: change nothing; the server itself refuses it.
        direct_url: where rings of other processes are heard, if `url` is a pooler's; the same database.
        borrowed: the caller's connection, of which everything uses the transaction.

    Raises:
        StoreUnavailable: the server cannot be reached, or lacks something; the message says what.
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
        """How many round trips to the server there were, those of rings not counted."""
        return self._writer.trips + self._readers.trips

    def close(self) -> None:
        """Close the connections. Leases are kept until they end, unless they were released before."""
        self.wakeups.close()
        self._readers.close()
        self._writer.close()
