"""The limit: a bare loop that commits the rows which the library would, and does nothing else.

The same settings of the file (WAL, synchronous=FULL) or the server, tables of the same shape, rows of the
same size. A sequential task costs one commit, since its result must be durable before the next one begins;
what runs side by side shares commits.
"""

from __future__ import annotations

import asyncio
import platform
import sqlite3
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.systems.script import (
    Figures,
    Job,
    expect,
    latencies,
    repeated,
    seconds,
    serve,
    synced,
)

_TABLES: Final = """
    CREATE TABLE executions (
        key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, workflow TEXT NOT NULL,
        status TEXT NOT NULL, started_at INTEGER NOT NULL, closed_at INTEGER
    );
    CREATE TABLE events (
        execution INTEGER NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (execution, number)
    ) WITHOUT ROWID;
"""
_POSTGRES_TABLES: Final = (
    """CREATE TABLE executions (
        key bigint PRIMARY KEY, id text NOT NULL UNIQUE, workflow text NOT NULL,
        status text NOT NULL, started_at bigint NOT NULL, closed_at bigint
    ) WITH (fillfactor = 80)""",
    """CREATE TABLE events (
        execution bigint, number int, body text NOT NULL, PRIMARY KEY (execution, number)
    )""",
)
_EVENTS: Final = "INSERT INTO events SELECT * FROM unnest(%s::bigint[], %s::int[], %s::text[])"
_HEADS: Final = f"""
    WITH created AS (
        INSERT INTO executions
        SELECT key, 'execution-' || key, 'sequential', 'running', 1767225600000, NULL
        FROM unnest(%s::bigint[]) AS key
    ), closed AS (
        UPDATE executions SET status = 'completed', closed_at = 1767225600000
        WHERE key = ANY (%s::bigint[])
    )
    {_EVENTS}
"""
_STARTED: Final = (
    '{"event":"ExecutionStarted","at":1767225600000,"workflow":"sequential",'
    '"seed":1234567890123456789,"python":"3.11","arguments":[[1000],{}]}'
)
_SCHEDULED: Final = '{"event":"TaskScheduled","seq":1000,"name":"<lambda>"}'
_COMPLETED: Final = (
    '{"event":"TaskCompleted","at":1767225600000,"seq":1000,"attempt":1,"result":1000}'
)
_CLOSED: Final = '{"event":"ExecutionCompleted","result":499500}'

_TOGETHER: Final = 100
"""How many executions share a commit where many run at a time."""


class File:
    """A file with executions and events, written as fast as can be."""

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        self._raw = sqlite3.connect(path, isolation_level=None)
        self._raw.execute("PRAGMA journal_mode = WAL")
        self._raw.execute(f"PRAGMA synchronous = {synchronous}")
        self._raw.executescript(_TABLES)
        self._keys = count(1)

    def commit(
        self,
        events: Iterable[tuple[int, int, str]],
        created: Iterable[int] = (),
        closed: Iterable[int] = (),
    ) -> None:
        """One transaction with these rows."""
        self._raw.execute("BEGIN IMMEDIATE")
        if created:
            self._raw.executemany(
                "INSERT INTO executions VALUES (?, ?, 'sequential', 'running', 1767225600000, NULL)",
                [(key, f"execution-{key}") for key in created],
            )
        self._raw.executemany("INSERT INTO events VALUES (?, ?, ?)", events)
        if closed:
            self._raw.executemany(
                "UPDATE executions SET status = 'completed', closed_at = 1767225600000 "
                "WHERE key = ?",
                [(key,) for key in closed],
            )
        self._raw.execute("COMMIT")

    def sequential(self, tasks: int) -> None:
        """One execution of so many tasks, one after the other."""
        key = next(self._keys)
        if not tasks:
            self.commit([(key, 0, _STARTED), (key, 1, _CLOSED)], [key], [key])
            return
        self.commit([(key, 0, _STARTED), (key, 1, _SCHEDULED)], [key])
        for number in range(2, 2 * tasks, 2):
            self.commit([(key, number, _COMPLETED), (key, number + 1, _SCHEDULED)])
        self.commit([(key, 2 * tasks, _COMPLETED), (key, 2 * tasks + 1, _CLOSED)], (), [key])

    def side_by_side(self, executions: int, tasks: int) -> None:
        """So many executions at a time, each of so many tasks, one after the other."""
        for first in range(0, executions, _TOGETHER):
            keys = [next(self._keys) for _ in range(first, min(first + _TOGETHER, executions))]
            self.commit(_pairs(keys, 0, _STARTED, _SCHEDULED), keys)
            for number in range(2, 2 * tasks, 2):
                self.commit(_pairs(keys, number, _COMPLETED, _SCHEDULED))
            self.commit(_pairs(keys, 2 * tasks, _COMPLETED, _CLOSED), (), keys)

    def gather(self, tasks: int) -> None:
        """One execution of so many tasks at a time."""
        key = next(self._keys)
        scheduled = [(key, number, _SCHEDULED) for number in range(1, tasks + 1)]
        self.commit([(key, 0, _STARTED), *scheduled], [key])
        completed = [(key, number, _COMPLETED) for number in range(tasks + 1, 2 * tasks + 1)]
        self.commit([*completed, (key, 2 * tasks + 1, _CLOSED)], (), [key])

    def bodies(self, key: int) -> list[str]:
        """What the events of an execution say, in order."""
        rows = self._raw.execute(
            "SELECT body FROM events WHERE execution = ? ORDER BY number", (key,)
        ).fetchall()
        return [body for (body,) in rows]

    def expect(self, executions: int, events: int) -> None:
        """Check that the file holds as many closed executions and events, and no others."""
        (closed,) = self._raw.execute("SELECT sum(status = 'completed') FROM executions").fetchone()
        (written,) = self._raw.execute("SELECT count(*) FROM events").fetchone()
        expect((closed, written), (executions, events), "closed executions and events")


class Database(File):
    """The same in a schema of a Postgres server: one statement with arrays, and so one round trip, for
    each commit.
    """

    def __init__(self, server: str, schema: str) -> None:
        import psycopg

        self._server = psycopg.connect(server, autocommit=True)
        self._server.execute(f"CREATE SCHEMA {schema}".encode())
        self._server.execute(f"SET search_path TO {schema}".encode())
        for statement in _POSTGRES_TABLES:
            self._server.execute(statement.encode())
        self._keys = count(1)

    def commit(
        self,
        events: Iterable[tuple[int, int, str]],
        created: Iterable[int] = (),
        closed: Iterable[int] = (),
    ) -> None:
        """One transaction with these rows."""
        keys, numbers, bodies = zip(*events, strict=True)
        rows = (_array(keys), _array(numbers), _array(map(_quoted, bodies)))
        if created or closed:
            self._server.execute(_HEADS, (_array(created), _array(closed), *rows))
        else:
            self._server.execute(_EVENTS, rows)

    def expect(self, executions: int, events: int) -> None:
        """See `File.expect`."""
        found = self._server.execute(
            "SELECT (SELECT count(*) FROM executions WHERE status = 'completed'), "
            "(SELECT count(*) FROM events)"
        ).fetchone()
        expect(found, (executions, events), "closed executions and events")


def opened(job: Job, synchronous: str = "FULL") -> File:
    """An empty file, or an empty schema of the server."""
    if job.server:
        return Database(job.server, job.name)
    return File(job.folder / "limit.db", synchronous)


def _array(values: Iterable[object]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pairs(keys: list[int], number: int, one: str, two: str) -> list[tuple[int, int, str]]:
    return [row for key in keys for row in ((key, number, one), (key, number + 1, two))]


def sequential(job: Job, synchronous: str = "FULL") -> Figures:
    file = opened(job, synchronous)
    file.sequential(10)
    done: list[int] = []

    def once() -> None:
        file.sequential(job.size)
        done.append(1)

    taken = repeated(once)
    counted = synced(once, job.size)
    file.expect(1 + len(done), 22 + len(done) * (2 * job.size + 2))
    return {"us_per_task": taken / job.size * 1e6, **counted}


def executions(job: Job, tasks: int) -> Figures:
    few = max(1, job.size // 4)
    file = opened(job)
    taken = seconds(lambda: file.side_by_side(job.size, tasks))
    file.expect(job.size, job.size * (2 * tasks + 2))

    def one_by_one() -> None:
        for _ in range(few):
            file.sequential(tasks)

    alone = seconds(one_by_one)
    counted = synced(one_by_one, few)
    number = job.size + 2 * few
    file.expect(number, number * (2 * tasks + 2))
    return {"per_second": job.size / taken, "one_by_one_per_second": few / alone, **counted}


def gather(job: Job) -> Figures:
    file = opened(job)
    file.gather(10)
    taken = seconds(lambda: file.gather(job.size))
    file.expect(2, 22 + 2 * job.size + 2)
    trips = {"trips": 2.0} if job.server else {}  # one for each commit
    return {"total_ms": taken * 1e3, **trips}


def latency(job: Job, synchronous: str = "FULL") -> Figures:
    file = File(job.folder / "limit.db", synchronous)
    figures = latencies(lambda: file.sequential(0), job.size)
    figures |= synced(lambda: file.sequential(0), 1)
    file.expect(job.size + 1, 2 * (job.size + 1))
    return figures


def replay(job: Job) -> Figures:
    path = job.folder / "limit.db"
    file = File(path)
    file.gather((job.size - 2) // 2)
    bodies: list[str] = []
    taken = seconds(lambda: bodies.extend(file.bodies(1)))
    expect(len(bodies), job.size, "events read")
    return {"us_per_event": taken / job.size * 1e6}


def agent_rounds(job: Job) -> Figures:
    """The agent as it is, and the rows that it costs to keep what it has asked for."""
    from benchmarks.systems import agent

    made = agent.made()
    file = File(job.folder / "limit.db")
    said: list[str] = []

    def once() -> None:
        said.append(asyncio.run(agent.run(made, job.size)))
        file.sequential(agent.tasks(job.size))

    asyncio.run(agent.run(made, 10))
    taken = seconds(once)
    expect(said, [str(job.size)], "rounds")
    file.expect(1, 2 * agent.tasks(job.size) + 2)
    return {"ms_per_round": taken / job.size * 1e3}


def _about() -> dict[str, str]:
    return {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}


if __name__ == "__main__":
    serve(
        {
            "sequential": sequential,
            "sequential-normal": lambda job: sequential(job, "NORMAL"),
            "executions-1": lambda job: executions(job, 1),
            "executions-5": lambda job: executions(job, 5),
            "gather": gather,
            "latency": latency,
            "latency-normal": lambda job: latency(job, "NORMAL"),
            "replay": replay,
            "agent": agent_rounds,
        },
        _about,
    )
