"""The system refuses to start another thread: what needs one waits, and nothing counts as lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    Context,
    LocalClient,
    LocalRuntime,
    PostgresRuntime,
    RetryPolicy,
    TaskTimeout,
    current_task,
    workflow,
)
from mini_workflow.core import events
from mini_workflow.engine import dispatch
from mini_workflow.runners import threads
from mini_workflow.runtimes.local import EmbeddedRuntime
from mini_workflow.threads import NoThread
from tests.postgres.server import PostgresServer
from tests.unit.local import flows
from tests.waiting import WAIT, eventually

ONCE = RetryPolicy(max_attempts=1)


class Limit:
    """Refuses to start a thread of the library, while it is `reached`, as the system would."""

    def __init__(self) -> None:
        self.reached = False
        self.refused: list[str] = []

    def start(self, start: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
        if self.reached and thread.name.startswith("mini-workflow"):
            self.refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Limit]:
    limit, start = Limit(), threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: limit.start(start, thread))
    monkeypatch.setattr(dispatch, "TRY_AGAIN", 0.01)
    monkeypatch.setattr(threads, "TRY_AGAIN", 0.01)
    yield limit
    limit.reached = False


def heard(n: int) -> int:
    current_task().heartbeat(n)
    return n


async def slept(n: int) -> int:
    await asyncio.sleep(0)
    return n


@workflow("no_thread.many")
async def many(ctx: Context, n: int, how: str) -> list[int]:
    does = {"plain": int, "async": slept, "timeout": int, "heartbeat": heard}[how]
    timeout = timedelta(seconds=WAIT) if how == "timeout" else None
    calls = [ctx.task(does, number, retry=ONCE, timeout=timeout) for number in range(n)]
    return await asyncio.gather(*calls)


KINDS = ["plain", "async", "timeout"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", KINDS)
def test_tasks_wait_until_there_is_a_thread(
    path: Path, limit: Limit, how: str, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    """No attempt counts, and the operator is told once."""
    with LocalRuntime(path, workers=workers) as runtime:
        limit.reached = True
        execution = runtime.start_execution(many, 5, how)
        eventually(lambda: len(limit.refused) > 10)
        assert execution.describe().status == "running"
        limit.reached = False
        assert execution.result(WAIT) == [0, 1, 2, 3, 4]
        kinds = [type(event) for event in execution.history()]
    assert kinds.count(events.TaskCompleted) == 5
    assert events.TaskRetryStarted not in kinds
    told = [text for text in caplog.messages if "until a thread can be started" in text]
    assert len(told) == 1
    assert "ulimit -u" in told[0]


@contextmanager
def opened_at_the_limit(
    path: Path, limit: Limit, how: str, **options: Any
) -> Generator[LocalRuntime]:
    """A runtime that has run one task, and gets no other thread from now on."""
    with LocalRuntime(path, **options) as runtime:
        assert runtime.start_execution(many, 1, how).result(WAIT) == [0]
        limit.reached = True
        yield runtime


def test_what_few_threads_there_are_run_all_tasks(path: Path, limit: Limit) -> None:
    with opened_at_the_limit(path, limit, "plain", threads=4) as runtime:
        assert runtime.start_execution(many, 20, "plain").result(WAIT) == [*range(20)]
        assert runtime.start_execution(many, 20, "timeout").result(WAIT) == [*range(20)]
    assert "mini-workflow-task-timeouts" in limit.refused


def test_a_worker_gets_async_tasks_without_a_thread_that_writes_them(
    path: Path, limit: Limit
) -> None:
    with opened_at_the_limit(path, limit, "plain", workers=1) as runtime:
        assert runtime.start_execution(many, 20, "async").result(WAIT) == [*range(20)]
    assert any(name.startswith("mini-workflow-to-") for name in limit.refused)


ENDLESS = threading.Event()


def hang() -> None:
    ENDLESS.wait()


@workflow("no_thread.hangs")
async def hangs(ctx: Context) -> int:
    hanging = ctx.task(hang, retry=ONCE, timeout=0.1)
    behind = ctx.task(int, 7)
    with pytest.raises(TaskTimeout):
        await hanging
    return await behind


def test_the_thread_of_a_task_that_hangs_is_replaced_once_there_is_one(
    path: Path, limit: Limit
) -> None:
    with opened_at_the_limit(path, limit, "timeout", threads=1) as runtime:
        execution = runtime.start_execution(hangs)
        eventually(lambda: len(limit.refused) > 3)
        limit.reached = False
        assert execution.result(WAIT) == 7
    ENDLESS.set()


def test_a_task_that_waits_is_cancelled(path: Path, limit: Limit) -> None:
    with LocalRuntime(path) as runtime:
        limit.reached = True
        execution = runtime.start_execution(many, 3, "plain")
        eventually(lambda: bool(limit.refused))
        execution.cancel("enough")
        with pytest.raises(Exception, match="enough"):
            execution.result(WAIT)


def test_a_runtime_without_threads_closes_and_hands_its_tasks_back(
    path: Path, limit: Limit
) -> None:
    with LocalRuntime(path) as runtime:
        limit.reached = True
        for how in KINDS:
            runtime.start_execution(many, 300, how, id=how)
        eventually(lambda: len(limit.refused) > 10)
    limit.reached = False
    with LocalRuntime(path) as runtime:
        for how in KINDS:
            execution = runtime.get_execution(how)
            assert execution.result(WAIT) == [*range(300)]
            assert events.TaskFailed not in map(type, execution.history())


class FirstThreads:
    """Lets so many threads start, and no other one."""

    def __init__(self, limit: Limit, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.begun: list[str] = []
        start = threading.Thread.start

        def start_some(thread: threading.Thread) -> None:
            limit.reached = len(self.begun) >= most
            self.begun.append(thread.name)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_some)


NEEDED = 3
"""Threads of an opening: one that leads, one that renews the lease, one that hears others."""


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
@pytest.mark.parametrize("most", range(NEEDED + 1))
def test_an_opening_without_threads_says_so_and_leaves_nothing(
    request: pytest.FixtureRequest,
    path: Path,
    limit: Limit,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    store: str,
) -> None:
    """At each thread that an opening needs."""
    opened: Callable[[], EmbeddedRuntime] = partial(LocalRuntime, path)
    if store == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        opened = partial(PostgresRuntime, server.url, schema=server.schema())
    with opened() as runtime:
        runtime.start_execution(flows.asks, id="open")
    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        FirstThreads(limit, patch, most)
        if most < NEEDED:
            with pytest.raises(NoThread, match="could not be started"):
                opened()
        else:
            opened().close()
    limit.reached = False
    assert set(threading.enumerate()) == before
    with opened() as runtime:
        assert len(runtime.owners()) == 1
        runtime.get_execution("open").signal("permission", True)
        assert runtime.get_execution("open").result(WAIT) is True


def test_a_client_that_gets_no_thread_says_so_and_waits_later(path: Path, limit: Limit) -> None:
    with LocalRuntime(path) as runtime, LocalClient(path) as client:
        runtime.start_execution(flows.asks, id="asks")
        limit.reached = True
        with pytest.raises(NoThread, match="mini-workflow-file-watcher"):
            client.get_execution("asks").result(WAIT)
        limit.reached = False
        client.get_execution("asks").signal("permission", 1)
        assert client.get_execution("asks").result(WAIT) == 1
