"""Connect to the server, translate its errors, and connect again after a lost connection."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, Final, cast

import psycopg
from psycopg.adapt import Transformer
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import error_from_result
from psycopg.generators import fetch_many, send
from psycopg.pq import ExecStatus, PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from mini_workflow.errors import StoreError, StoreUnavailable, UsageError
from mini_workflow.stores.postgres.server_errors import AGAIN, ENDED, READERS, translated

Raw = psycopg.Connection[tuple[Any, ...]]

_CONNECT_TIMEOUT: Final = 10
"""Seconds to wait for a connection, unless the address says otherwise."""

_HALF_OPEN: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""The settings by which a connection ends when its server has vanished without a word, unless the address
says otherwise: by default that takes the system a quarter of an hour, or hours where nothing is sent."""


class ConnectionLost(StoreUnavailable):
    """The connection ended during a call, which may have been done or not."""


class Address:
    """The address of a database, and the schema of the tables.

    Raises UsageError for a wrong address, or a wrong name of a schema.
    """

    def __init__(self, url: str, schema: str, *, read_only: bool = False) -> None:
        self._read_only = read_only
        if not re.fullmatch(r"(?!pg_)[a-z_][a-z0-9_]{0,62}", schema):
            raise UsageError(
                f"schema={schema!r}: give a name of up to 63 lower-case letters, digits and _, which "
                "does not begin with a digit or pg_"
            )
        try:
            self._parameters = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise UsageError(
                f"the address of the Postgres database is wrong ({error}): give one such as "
                "postgresql://user@host:5432/database"
            ) from None
        self.schema: Final = schema
        host, port = self._parameters.get("host", "local"), self._parameters.get("port", 5432)
        base = self._parameters.get("dbname", "")
        self.place: Final = f"postgresql://{host}:{port}/{base} (schema {schema})"
        """The address without its secrets, for people."""
        self.process: Final = os.getpid()
        self.is_pooled = False
        """Whether a pooler such as PgBouncer stands between, known after the first connection. If so,
        each transaction may run in another session of the server, and sessions keep no settings."""

    def connect(self) -> Raw:
        """Open a connection. Raises StoreUnavailable."""
        if os.getpid() != self.process:
            raise StoreUnavailable(
                f"{self.place}: this connection belongs to the process that forked this one; open the "
                "store anew in this process"
            )
        parameters: dict[str, Any] = {
            "connect_timeout": _CONNECT_TIMEOUT,
            **_HALF_OPEN,
            "application_name": "mini-workflow",
            **self._parameters,
        }
        try:
            raw = psycopg.connect(autocommit=True, **parameters)
        except psycopg.Error as error:
            raise self.translated(error) from error
        except UnicodeError as error:
            raise StoreUnavailable(f"{self.place}: {error}") from error
        try:
            self._prepare(raw)
        except psycopg.Error as error:
            raw.close()
            raise self.translated(error) from error
        return raw

    def _prepare(self, raw: Raw) -> None:
        # A pooler gives its own process ids, by which it recognizes requests to cancel.
        asked = raw.execute(_SESSION).fetchone()
        assert asked is not None
        self.is_pooled = asked[0] != raw.info.backend_pid
        if self.is_pooled:
            raw.prepare_threshold = None
            raw.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        elif asked[1] != "read committed":
            # A statement that has waited for others has to see what they have done.
            raw.execute("SET default_transaction_isolation TO 'read committed'")
        if raw.info.encoding != "utf-8":
            raw.execute("SET client_encoding TO 'UTF8'")
        if not self._read_only:
            return
        if self.is_pooled:
            raw.read_only = True  # of each transaction: see `Connection.run`
        else:
            raw.execute("SET default_transaction_read_only TO on")

    def qualified(self, sql: str) -> bytes:
        """Return a statement in which each @ before a name has become the schema."""
        return re.sub(r"@(?=[a-z])", f'"{self.schema}".', sql).encode()

    def translated(self, error: psycopg.Error) -> StoreError:
        """Return the library's error for an error of the server or of the driver."""
        return translated(error, self.place)


class Connection:
    """One connection, which is opened when it is first used, and again after it was lost.

    One thread uses it at a time. A `borrowed` one is the caller's: statements become part of the
    caller's transaction, so that none is repeated, and the connection is never closed here.
    """

    def __init__(self, address: Address, borrowed: Raw | None = None) -> None:
        self._address = address
        self._raw = borrowed
        self._is_borrowed = borrowed is not None
        self._closed = False
        self._statements: dict[str, bytes] = {}
        self._sent: _Sent | None = None
        """A statement whose rows have not arrived yet."""
        self.trips = 0
        """The number of round trips to the server."""

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a statement that is a transaction by itself, and may run twice."""
        try:
            return self.once(sql, parameters)
        except ConnectionLost:
            return self.once(sql, parameters)

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the first row of a statement as for `rows`, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def once(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a statement that is a transaction by itself, and must not run twice.

        Raises ConnectionLost if the statement may have been done or not.
        """
        try:
            return self._run(sql, parameters)
        except psycopg.Error as error:
            if error.sqlstate in AGAIN and not self._is_borrowed:
                return self._once_more(sql, parameters)
            raise self.translated(error) from error

    def begin(self, sql: str, parameters: Sequence[str | int]) -> Callable[[], list[Any]]:
        """Send a statement as `once` does, and return a function that waits for its rows.

        All errors are raised by that function, but for a UnicodeEncodeError. Statements that are run before
        it is called wait for this one.
        """
        values = [str(value).encode() for value in parameters]
        sent = _Sent()
        try:
            raw = self._connected()
            self.trips += 1
            sent.send(raw, self._numbered(sql), values)
            self._sent = sent
        except (psycopg.Error, StoreError) as error:
            self._failed(sent, error)
        return partial(self._finish, sent, sql, parameters)

    def _finish(self, sent: _Sent, sql: str, parameters: Sequence[Any]) -> list[Any]:
        if sent is self._sent:
            self._receive()
        if sent.error is None:
            return sent.rows
        if getattr(sent.error.__cause__, "sqlstate", None) in AGAIN:
            return self.once(sql, parameters)
        raise sent.error

    def _receive(self) -> None:
        """Wait for the rows of the statement that was sent last, if they have not arrived yet."""
        sent, self._sent = self._sent, None
        if sent is None:
            return
        try:
            sent.receive()
        except psycopg.Error as error:
            self._failed(sent, error)

    def _failed(self, sent: _Sent, error: psycopg.Error | StoreError) -> None:
        if isinstance(error, StoreError):
            sent.error = error
            return
        sent.error = self.translated(error)
        sent.error.__cause__ = error

    def _once_more(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        try:
            return self._run(sql, parameters)
        except psycopg.Error as error:
            raise self.translated(error) from error

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """Return a `with` block whose statements are one durable transaction."""
        raw = self._connected()
        try:
            with raw.transaction():
                self.trips += 2
                yield self
        except psycopg.Error as error:
            raise self.translated(error) from error

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a statement within a transaction."""
        return self._run(sql, parameters)

    def _numbered(self, sql: str) -> bytes:
        """Return a statement with the placeholders of the server itself: $1, $2 and so on."""
        statement = self._statements.get(f"begin {sql}")
        if statement is None:
            numbers = count(1)
            numbered = re.sub("%s", lambda found: f"${next(numbers)}", sql)
            statement = self._statements[f"begin {sql}"] = self._address.qualified(numbered)
        return statement

    def _run(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        raw = self._connected()
        statement = self._statements.get(sql)
        if statement is None:
            statement = self._statements[sql] = self._address.qualified(sql)
        self.trips += 1
        if raw.read_only and not self._is_borrowed:
            with raw.transaction():
                return read_rows(raw, statement, parameters)
        return read_rows(raw, statement, parameters)

    @property
    def raw(self) -> Raw:
        """The connection of the driver."""
        return self._connected()

    def _connected(self) -> Raw:
        self._receive()
        raw = self._raw
        if raw is None or raw.closed:
            if self._closed:
                raise StoreUnavailable(f"{self._address.place}: the store was closed")
            if self._is_borrowed:
                raise StoreUnavailable(f"{self._address.place}: the caller's connection is closed")
            raw = self._raw = self._address.connect()
        elif self._is_borrowed and raw.info.transaction_status == TransactionStatus.INERROR:
            raise UsageError(
                f"{self._address.place}: the transaction of the caller's connection has failed: roll it "
                "back, and make another client for the next one"
            )
        return raw

    def translated(self, error: psycopg.Error) -> StoreError:
        """Return the library's error, and a ConnectionLost if the connection has ended."""
        found = self._address.translated(error)
        if self._raw is None or self._is_borrowed:
            return found
        ended = self._raw.closed or (error.sqlstate or "").startswith(ENDED)
        if ended and isinstance(found, StoreUnavailable):
            self.drop()  # a pooler closes it a moment later
            return ConnectionLost(str(found))
        return found

    def drop(self) -> None:
        """Close the connection; the next use opens another one."""
        raw, self._raw = self._raw, None
        if raw is not None and not self._is_borrowed:
            with suppress(psycopg.Error):
                raw.close()

    def close(self) -> None:
        """Close for good. Harmless if it was closed before."""
        self._closed = True
        self.drop()


class _Sent:
    """A statement that was sent; its rows, or the error, once they have arrived."""

    def __init__(self) -> None:
        self._raw: Raw | None = None
        self.rows: list[Any] = []
        self.error: StoreError | None = None

    def send(self, raw: Raw, statement: bytes, values: Sequence[bytes]) -> None:
        """Send the statement. Raises the errors of the driver."""
        if any(b"\0" in value for value in values):
            raise psycopg.DataError("a text of Postgres cannot contain NUL")
        self._raw = raw
        raw.pgconn.send_query_params(statement, values)
        raw.wait(send(raw.pgconn))

    def receive(self) -> None:
        """Wait for the rows. Raises the errors of the driver."""
        raw = self._raw
        assert raw is not None
        results = raw.wait(fetch_many(raw.pgconn))
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
        found = results[-1]
        reader = Transformer(raw)
        reader.set_pgresult(found)
        self.rows = list(reader.load_rows(0, found.ntuples, tuple))


def read_rows(raw: Raw, statement: bytes, parameters: Sequence[Any]) -> list[Any]:
    """Return the rows of a statement as tuples, whatever cursors and rows the connection makes by default. In
    pipeline mode every statement has to return rows. Raises the errors of the driver.
    """
    cursor = psycopg.Cursor(raw, row_factory=tuple_row).execute(statement, parameters or None)
    waits = raw.pgconn.pipeline_status != PipelineStatus.OFF
    return cursor.fetchall() if waits or cursor.description is not None else []


def checked(connection: Any, name: str) -> Raw:
    """Return a connection that a caller has given for the argument `name`. Raises UsageError if it cannot be
    used.
    """
    if not isinstance(connection, psycopg.Connection):
        raise UsageError(
            f"{name}: an object of {type(connection).__name__} cannot be used, give a psycopg.Connection. "
            "Connections of other libraries have it inside; in SQLAlchemy give "
            "`session.connection().connection.driver_connection`"
        )
    raw = cast("Raw", connection)
    if not raw.closed and raw.info.encoding == "ascii":
        raise UsageError(
            f"{name}: the connection reads texts as bytes, since its client_encoding is SQL_ASCII: connect "
            "with client_encoding=UTF8"
        )
    return raw


class Pool:
    """Connections for any thread: at most READERS, each for one thread at a time, or one `borrowed`."""

    def __init__(self, address: Address, borrowed: Connection | None = None) -> None:
        self._address = address
        self._free: list[Connection] = [] if borrowed is None else [borrowed]
        self._all = list(self._free)
        self._lock = threading.Lock()
        self._room = threading.Semaphore(READERS if borrowed is None else 1)
        self._closed = False

    @contextmanager
    def use(self) -> Generator[Connection]:
        """Lend the connection that was used last."""
        with self._room:
            with self._lock:
                if self._closed:
                    raise StoreUnavailable(f"{self._address.place}: the store was closed")
                if self._free:
                    connection = self._free.pop()
                else:
                    connection = Connection(self._address)
                    self._all.append(connection)
            try:
                yield connection
            finally:
                with self._lock:
                    self._free.append(connection)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """See `Connection.rows`."""
        with self.use() as connection:
            return connection.rows(sql, parameters)

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """See `Connection.row`."""
        with self.use() as connection:
            return connection.row(sql, parameters)

    @property
    def trips(self) -> int:
        """The number of round trips to the server."""
        with self._lock:
            return sum(connection.trips for connection in self._all)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
            for connection in self._all:
                connection.close()


_SESSION: Final = "SELECT pg_backend_pid(), current_setting('default_transaction_isolation')"
