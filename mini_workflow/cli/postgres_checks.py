"""Check a Postgres database for `doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.doctor.findings import Finding

if TYPE_CHECKING:
    from mini_workflow.cli.backends import PostgresTarget
    from mini_workflow.stores.postgres.connection import Connection

FEW_CONNECTIONS: Final = 0.8
"""The part of max_connections above which too many are in use. Our own bound, like the next ones."""

LONG_TRANSACTION: Final = 600
"""Seconds that a transaction may be open. Until it ends, no dead row that it may see is removed."""

DEAD_ROWS: Final = 100_000
"""Dead rows of a table that are reported, if they are more than the living ones."""

CLOCK: Final = 5_000
"""Milliseconds by which the clocks may differ. Leases and timers use the server's clock in any case."""

NOTIFY_QUEUE: Final = 0.5
"""The part of the queue of notifications that may be in use. A full queue makes commits fail."""


DURABLE: Final = ("fsync", "full_page_writes", "synchronous_commit")
"""The settings without which a crash of the server loses what it has acknowledged."""


def examine_postgres(target: PostgresTarget) -> Iterator[Finding]:
    """Find what is wrong with the server and the tables. Raises StoreError."""
    from mini_workflow.stores.postgres.clock import DatabaseClock
    from mini_workflow.stores.postgres.connection import Address, Connection
    from mini_workflow.stores.postgres.leases import set_clock
    from mini_workflow.stores.postgres.schema import MIGRATIONS, version

    address = Address(target.url, target.schema, read_only=True)
    connection = Connection(address)
    try:
        server = connection.row("SHOW server_version")[0]
        found = version(connection, address)[0]
        if found < len(MIGRATIONS):
            yield Finding(
                "problem",
                f"Postgres {server}: the tables have version {found}, and this release has "
                f"{len(MIGRATIONS)}",
                f"mini-workflow --backend {target.name} migrate",
            )
            return
        yield Finding("ok", f"Postgres {server}, tables of version {found}")
        clock = DatabaseClock()
        set_clock(clock, connection)
        yield _compared(
            abs(clock.error) > CLOCK,
            f"the clock of this machine is {abs(clock.error) / 1000:.1f} s "
            f"{'ahead of' if clock.error > 0 else 'behind'} the server's",
            "set the clock by NTP: the library does not depend on it, but other programs may",
        )
        yield from _examine_settings(connection)
        yield from _examine_server(connection)
        yield from _examine_tables(connection, target.schema)
    finally:
        connection.close()


def _compared(wrong: bool, what: str, remedy: str) -> Finding:
    return Finding("problem", what, remedy) if wrong else Finding("ok", what)


def _examine_settings(connection: Connection) -> Iterator[Finding]:
    rows = connection.rows(_OFF, (list(DURABLE),))
    for name, source in rows:
        yield Finding(
            "problem",
            f"{name} is off ({source}): a crash of the server loses what it has acknowledged",
            f"set {name} to on: tasks that were done would run again, and messages would be missing",
        )
    if not rows:
        yield Finding("ok", "a crash of the server loses nothing that it has acknowledged")


def _examine_server(connection: Connection) -> Iterator[Finding]:
    used, limit, queue, hidden, user = connection.row(_SERVER)
    yield _compared(
        used > FEW_CONNECTIONS * limit,
        f"connections of the server in use: {used} of {limit}",
        "raise max_connections, run fewer processes, or put PgBouncer in front of other programs",
    )
    yield _compared(
        queue > NOTIFY_QUEUE,
        f"the queue of notifications is {queue:.0%} full",
        "a session has called LISTEN, and does not read: end the oldest transaction of such a session",
    )
    rows: list[Any] = connection.rows(_OLDEST, (LONG_TRANSACTION,))
    for pid, name, state, seconds in rows:
        yield Finding(
            "problem",
            f"a transaction of process {pid} ({name or 'without a name'}, {state}) is open for "
            f"{seconds:.0f} s, so that no dead row is removed",
            f"find out what it does and end it, or run SELECT pg_terminate_backend({pid})",
        )
    if hidden:
        yield Finding(
            "problem",
            f"{hidden} sessions belong to other users, and this one may not see since when their "
            "transactions are open",
            f"have an administrator run GRANT pg_read_all_stats TO {user}",
        )
    elif not rows:
        yield Finding("ok", f"no transaction is open for more than {LONG_TRANSACTION} s")


def _examine_tables(connection: Connection, schema: str) -> Iterator[Finding]:
    for name, size, living, dead in connection.rows(_TABLES, (schema,)):
        yield _compared(
            dead > max(DEAD_ROWS, living),
            f"{name}: {size}, rows: about {living}, dead ones: {dead}",
            f"run VACUUM {schema}.{name}; autovacuum is off, too slow, or held up by a long transaction",
        )


_OFF: Final = """
    SELECT name, source FROM pg_settings WHERE name = ANY(%s) AND setting = 'off' ORDER BY name
"""
_SERVER: Final = """
    SELECT count(*) FILTER (WHERE backend_type = 'client backend' OR backend_type IS NULL),
        current_setting('max_connections')::int, pg_notification_queue_usage(),
        count(*) FILTER (WHERE backend_type IS NULL), quote_ident(current_user)
    FROM pg_stat_activity WHERE datid IS NOT NULL
"""
"""The type of a session is NULL if this user may not see it. Processes of the server have no database."""

_OLDEST: Final = """
    SELECT pid, application_name, state, extract(epoch FROM clock_timestamp() - xact_start)
    FROM pg_stat_activity
    WHERE xact_start < clock_timestamp() - make_interval(secs => %s) AND pid <> pg_backend_pid()
        AND backend_type = 'client backend'
    ORDER BY xact_start LIMIT 5
"""
_TABLES: Final = """
    SELECT relname, pg_size_pretty(pg_total_relation_size(relid)), n_live_tup, n_dead_tup
    FROM pg_stat_user_tables WHERE schemaname = %s AND relname IN ('executions', 'events', 'mailbox')
    ORDER BY relname
"""
