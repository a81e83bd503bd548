"""What deletes itself, what a file gives back, and what is dropped of runs that are over."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionNotClosed,
    ExecutionNotFound,
    LocalClient,
    LocalRuntime,
    UsageError,
    workflow,
)
from mini_workflow.core import events, wire
from mini_workflow.core.payload import Payload
from mini_workflow.ports import Commit
from mini_workflow.stores.sqlite import SQLiteBackend, schema
from mini_workflow.testing import EnvironmentState, ManualClock, WorkflowEnvironment
from tests.waiting import WAIT, eventually

DAY = 24 * 3600.0

COUNT = 40
"""Executions with large arguments."""


@workflow("retention.says")
async def says(ctx: Context, text: str) -> int:
    return await ctx.task(len, text)


@workflow("retention.waits")
async def waits(ctx: Context) -> Any:
    return await ctx.wait_for_signal("go")


@workflow("retention.naps")
async def naps(ctx: Context, days: float) -> None:
    await ctx.sleep(days * DAY)


@workflow("retention.rounds")
async def rounds(ctx: Context, left: int) -> str:
    await ctx.task(len, "x" * 2_000)
    if left:
        ctx.continue_as_new(left - 1)
    return "done"


def query(path: Path, sql: str) -> Any:
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute(sql).fetchone()[0]


def names(runtime: Any) -> set[str]:
    return {one.id for one in runtime.list_executions()}


def test_what_has_closed_is_deleted_when_its_time_has_come() -> None:
    """Not earlier, whatever happens in between; what runs stays."""
    state = EnvironmentState()
    with WorkflowEnvironment(state, retention=timedelta(days=30)) as env:
        env.start_execution(waits, id="runs")
        env.start_execution(says, "a", id="first").result(WAIT)
        env.start_execution(naps, 10, id="second").result(WAIT)
        env.advance(20 * DAY - 1)
        assert names(env) == {"runs", "first", "second"}
        env.advance(2)
        assert names(env) == {"runs", "second"}
        env.start_execution(naps, 60, id="third").result(WAIT)
        assert names(env) == {"runs", "third"}
    with WorkflowEnvironment(state) as env:
        env.advance(100 * DAY)
        assert names(env) == {"runs", "third"}
    with WorkflowEnvironment(state, retention=30 * DAY) as env:
        eventually(lambda: names(env) == {"runs"})
        env.start_execution(says, "a", id="third").result(WAIT)


def test_many_are_deleted_a_few_at_a_time() -> None:
    state = EnvironmentState()
    with WorkflowEnvironment(state) as env:
        env.start_executions(says, [("a",)] * 170, ids=[f"e{n}" for n in range(170)])
        for n in range(170):
            env.get_execution(f"e{n}").result(WAIT)
        env.advance(DAY)
    with WorkflowEnvironment(state, retention=DAY / 2) as env:
        eventually(lambda: not names(env))
        assert env.start_execution(says, "abc", id="e7").result(WAIT) == 3


@pytest.mark.parametrize("retention", [0, -1, "30 days", True, float("nan")])
def test_a_retention_that_cannot_be_meant_is_refused(retention: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        LocalRuntime(tmp_path / "state.db", retention=retention)
    with LocalRuntime(tmp_path / "state.db") as runtime:
        assert runtime.start_execution(says, "a").result(WAIT) == 1


def test_a_file_is_rid_of_what_is_old_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with LocalRuntime(path) as runtime:
        for number in range(120):
            runtime.start_execution(says, "a", id=f"e{number}").result(WAIT)
        runtime.start_execution(waits, id="runs")
    with LocalRuntime(path, retention=0.001) as runtime:
        eventually(lambda: names(runtime) == {"runs"})
        eventually(lambda: query(path, "SELECT count(DISTINCT execution) FROM events") == 1)
        runtime.start_execution(says, "a", id="e1")
        eventually(lambda: names(runtime) == {"runs"})


def fill(path: Path, **options: Any) -> None:
    with LocalRuntime(path, synchronous="NORMAL", **options) as runtime:
        text = "x" * 100_000
        runtime.start_executions(says, [(text,)] * COUNT, ids=[f"e{n}" for n in range(COUNT)])
        for number in range(COUNT):
            runtime.get_execution(f"e{number}").result(WAIT)


def test_a_file_gives_its_space_back(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    fill(path)
    before = path.stat().st_size
    with LocalRuntime(path) as runtime:
        assert runtime.purge(workflow=says) == COUNT
        eventually(lambda: query(path, "SELECT count(*) FROM events") == 0)
        eventually(lambda: query(path, "PRAGMA freelist_count") <= 256)
        assert runtime.start_execution(says, "abc", id="e7").result(WAIT) == 3
    assert path.stat().st_size < before / 2


def test_a_file_from_before_has_to_be_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its size and uses the space for what comes next, until it is written anew."""
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as raw, raw:
        for statement in (text for version in schema.MIGRATIONS[:3] for text in version):
            raw.execute(statement)
        raw.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        raw.execute("PRAGMA user_version = 3")
    fill(path)
    before = path.stat().st_size
    with LocalClient(path) as client:
        assert client.purge(workflow=says) == COUNT
        assert path.stat().st_size >= before
        was, now = client.vacuum()
        assert now < was / 2
    assert query(path, "PRAGMA auto_vacuum") == 2
    fill(path)
    with LocalClient(path) as client:
        client.purge(older_than=0)
    assert query(path, "PRAGMA freelist_count") <= 256


def test_a_client_deletes_what_nobody_runs(tmp_path: Path) -> None:
    """With what is left of it; and what runs stays."""
    path = tmp_path / "state.db"
    with LocalRuntime(path) as runtime:
        runtime.start_execution(says, "abc", id="done").result(WAIT)
        runtime.start_execution(waits, id="runs")
    with LocalClient(path) as client:
        client.get_execution("done").delete()
        with pytest.raises(ExecutionNotFound):
            client.delete_execution("done")
        with pytest.raises(ExecutionNotClosed):
            client.delete_execution("runs")
        assert names(client) == {"runs"}
        assert query(path, "SELECT count(DISTINCT execution) FROM events") == 1
        client.start_execution(says, "abcd", id="done")
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("done").result(WAIT) == 4


def test_who_asks_what_a_client_deletes_is_answered(tmp_path: Path) -> None:
    """The ask has arrived, and nobody has run since."""
    path = tmp_path / "state.db"
    with LocalRuntime(path) as runtime:
        runtime.start_execution(says, "abc", id="done").result(WAIT)
        runtime.start_execution(waits, id="asker")
    ask = events.Asked(1, "asker/1/1", "result", "", Payload(text="null"))
    with closing(SQLiteBackend(path, owner="sender", clock=ManualClock(1))) as backend:
        backend.mailbox.post("done", wire.encode(ask), "ask")
    with LocalClient(path) as client:
        client.delete_execution("done")
        assert names(client) == {"asker"}
    sql = (
        "SELECT body FROM mailbox JOIN executions ON executions.key = execution WHERE id = 'asker'"
    )
    assert "it was deleted" in query(path, sql)


def test_a_client_deletes_although_messages_arrive_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it has read those that were there, and before it commits."""
    path = tmp_path / "state.db"
    with LocalRuntime(path) as runtime:
        runtime.start_execution(says, "abc", id="done").result(WAIT)
        runtime.start_execution(waits, id="asker")
    arriving = [
        wire.encode(events.Asked(1, f"asker/1/{number}", "result", "", Payload(text="null")))
        for number in range(3)
    ]
    with LocalClient(path) as client:
        store = client._transport._store  # type: ignore[attr-defined]
        commit = store.commit

        def commit_later(commits: Sequence[Commit]) -> list[bool]:
            if arriving:
                body = arriving.pop()
                backend = SQLiteBackend(path, owner="sender", clock=ManualClock(1))
                with closing(backend):
                    backend.mailbox.post("done", body, body)
            answers: list[bool] = commit(commits)
            return answers

        monkeypatch.setattr(store, "commit", commit_later)
        client.delete_execution("done")
        assert names(client) == {"asker"}
    assert not arriving
    sql = "SELECT count(*) FROM mailbox JOIN executions ON executions.key = execution WHERE id = 'asker'"
    assert query(path, sql) == 3


def test_a_client_does_not_delete_what_was_run_again_before(tmp_path: Path) -> None:
    """Nobody has begun the new run yet; it was promised."""
    path = tmp_path / "state.db"
    with LocalRuntime(path) as runtime:
        runtime.start_execution(says, "abc", id="done").result(WAIT)
    with LocalClient(path) as client:
        client.get_execution("done").restart()
        with pytest.raises(ExecutionNotClosed, match="run again before it was deleted"):
            client.delete_execution("done")
        assert client.purge(older_than=0) == 0
    with LocalRuntime(path) as runtime:
        execution = runtime.get_execution("done")
        eventually(lambda: execution.describe().run == 2)
        assert execution.result(WAIT) == 3


def test_a_client_has_others_delete_what_they_run(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with LocalRuntime(path) as runtime, LocalClient(path) as client:
        runtime.start_execution(says, "abc", id="done").result(WAIT)
        client.delete_execution("done")
        with pytest.raises(ExecutionNotFound):
            runtime.get_execution("done")
        assert client.start_execution(says, "abcd", id="done").result(WAIT) == 4


@pytest.fixture(params=["file", "environment"])
def dropping(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "file":
        with LocalRuntime(tmp_path / "state.db", keep_runs=False) as runtime:
            yield runtime
    else:
        with WorkflowEnvironment(keep_runs=False) as env:
            yield env


def test_the_events_of_runs_that_are_over_are_dropped(dropping: Any, tmp_path: Path) -> None:
    execution = dropping.start_execution(rounds, 20, id="rounds")
    assert execution.result(WAIT) == "done"
    assert execution.describe().run == 21
    if isinstance(dropping, LocalRuntime):
        path = tmp_path / "state.db"
        kept = len(execution.history())
        eventually(lambda: query(path, "SELECT count(*) FROM events") == kept)
        dropping.evict()
    execution.restart()
    assert execution.result(WAIT) == "done"
    execution.delete()
    assert not names(dropping)


def test_they_are_kept_by_default(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with LocalRuntime(path) as runtime:
        execution = runtime.start_execution(rounds, 5, id="rounds")
        assert execution.result(WAIT) == "done"
        kept = len(execution.history())
    assert query(path, "SELECT count(*) FROM events") > 4 * kept
