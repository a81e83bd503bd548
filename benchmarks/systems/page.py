"""Requests of pages beside the bare query: what a page shows, asked of the same file by plain SQL.

A request goes through the whole application, without a socket. The bare query of the list is its two
questions to the file, each by an index: the newest executions of each status, and how many there are of it.
That of an execution reads the rows of its events, and parses none of them. Its time is that of the process:
nothing else that the machine does counts.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from typing import Any

from benchmarks.systems.script import Figures, Job, expect, seconds
from mini_workflow import Context, LocalClient, LocalRuntime, workflow
from mini_workflow.ports import STATUSES
from mini_workflow.ui import app

TIMES = 7
"""Requests and queries of each kind; they take turns."""

OPEN = 10
"""Tasks that are open at the end of an execution whose tasks run."""

_COPY = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
    INSERT INTO executions ({columns})
    SELECT {values} FROM numbers, executions WHERE id = 'small'
"""
_STATUS = "CASE n % 10 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END"
_NEWEST = "SELECT * FROM executions WHERE status = ? ORDER BY started_at DESC LIMIT 50"
_COUNTS = "SELECT status, count(*) FROM executions GROUP BY status"
_EVENTS = """
    SELECT body FROM events WHERE execution = (SELECT key FROM executions WHERE id = ?) ORDER BY number
"""


@workflow("paged")
async def paged(ctx: Context, n: int) -> int:
    tasks = [ctx.task(lambda: number, name="part") for number in range(n)]  # noqa: B023
    return sum(await asyncio.gather(*tasks))


def measure_list(job: Job) -> Figures:
    """The first page of the list of a file of so many executions."""
    path = job.folder / "list.db"
    with LocalRuntime(path) as runtime:
        runtime.start_execution(paged, 1, id="small").result()
    with sqlite3.connect(path) as file:
        _copy(file, job.size - 1)
        ((number,),) = file.execute("SELECT count(*) FROM executions").fetchall()
        expect(number, job.size, "executions")
        with LocalClient(path) as client:
            pages = Pages(client)
            rows, requests = list[float](), list[float]()
            for _ in range(TIMES):
                rows.append(seconds(lambda: _ask(file)))
                requests.append(seconds(lambda: pages.get("/executions", f"{job.size:,}")))
            pages.close()
    file.close()
    return _figures(requests, rows, "")


@workflow("paged-open")
async def paged_open(ctx: Context, n: int) -> None:
    """Tasks that complete, beside some that no process runs."""
    done = [ctx.task(lambda: number, name="part") for number in range(n - OPEN)]  # noqa: B023
    left = [ctx.task(int, name="part", worker="nobody") for _ in range(OPEN)]
    await asyncio.gather(*done, *left)


def measure_execution(job: Job) -> Figures:
    """The pages of executions of so many events, of one that has closed and of one whose tasks run: looked
    at first, and again.
    """
    path, tasks = job.folder / "execution.db", (job.size - 2) // 2
    with LocalRuntime(path, history_limit=4 * job.size + 100) as runtime:
        runtime.start_execution(paged, 1, id="small").result()
        runtime.start_execution(paged, tasks, id="large").result()
        runs = runtime.start_execution(paged_open, tasks, id="open")
        while len(runs.history()) < _events(tasks, runs.id):
            time.sleep(0.1)
    figures: Figures = {}
    with sqlite3.connect(path) as file, LocalClient(path) as client:
        for name, prefix in (("large", ""), ("open", "open_")):
            events = _events(tasks, name)
            times = _alternated(file, client, name, events)
            for look in ("first", "again"):
                figures |= _figures(times[look], times["rows"], f"{prefix}{look}_")
    file.close()
    return figures


def _events(tasks: int, name: str) -> int:
    return 1 + 2 * tasks + (1 if name == "large" else -OPEN)


def _alternated(
    file: sqlite3.Connection, client: LocalClient, name: str, events: int
) -> dict[str, list[float]]:
    """CPU seconds of the bare query and of both looks at a page, which take turns."""
    times: dict[str, list[float]] = {"rows": [], "first": [], "again": []}
    shown = f"of {events:,}"
    for _ in range(TIMES):
        pages = Pages(client)
        pages.get("/executions/small", "4 of 4")  # the templates are compiled
        for what, call in (
            ("rows", lambda: _rows(file, name, events)),
            ("first", lambda: pages.get(f"/executions/{name}", shown)),  # noqa: B023
            ("again", lambda: pages.get(f"/executions/{name}", shown)),  # noqa: B023
        ):
            began = time.process_time()
            call()
            times[what].append(time.process_time() - began)
        pages.close()
    return times


class Pages:
    """The pages of a client, asked as a server asks them."""

    def __init__(self, client: LocalClient) -> None:
        self._app = app(client, read_only=True)
        self._loop = asyncio.Runner()

    def get(self, path: str, shown: str) -> None:
        """Ask for a page; the text has to stand in it."""
        status, text = self._loop.run(self._asked(path))
        expect((status, shown in text), (200, True), f"{path} shows {shown!r}")

    async def _asked(self, path: str) -> tuple[int, str]:
        parts: list[bytes] = []
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:8000"), (b"accept", b"text/html")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        await self._app(scope, receive, send)
        return status, b"".join(parts).decode()

    def close(self) -> None:
        """End the loop and its threads."""
        self._loop.close()


def _copy(file: sqlite3.Connection, number: int) -> None:
    """Write so many copies of an execution, by one statement."""
    columns: list[str] = [name for _, name, *_ in file.execute("PRAGMA table_info(executions)")]
    values: dict[str, str] = {
        "key": "key + n",
        "id": "'copied-' || n",
        "status": _STATUS,
        "started_at": "started_at + n",
        "closed_at": "closed_at + n",
    }
    statement = _COPY.format(
        columns=", ".join(columns),
        values=", ".join(values.get(name, name) for name in columns),
    )
    file.execute(statement, (number,))
    file.commit()


def _ask(file: sqlite3.Connection) -> None:
    rows = [row for status in STATUSES for row in file.execute(_NEWEST, (status,))]
    expect(len(sorted(rows, key=lambda row: -row[5])[:50]), 50, "newest executions")
    expect(len(file.execute(_COUNTS).fetchall()), 3, "statuses")


def _rows(file: sqlite3.Connection, name: str, events: int) -> list[str]:
    rows = [body for (body,) in file.execute(_EVENTS, (name,)).fetchall()]
    expect(len(rows), events, "events")
    return rows


def _figures(requests: list[float], queries: list[float], prefix: str) -> Figures:
    request, query = statistics.median(requests), statistics.median(queries)
    return {
        f"{prefix}ms": request * 1e3,
        f"{prefix}query_ms": query * 1e3,
        f"{prefix}times": request / query,
    }
