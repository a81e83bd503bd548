"""A column of a wrong type in the row of an execution stops that execution, and no other: law 20."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from mini_workflow import Context, ExecutionBlocked, LocalClient, LocalRuntime, workflow
from mini_workflow.cli.app import cli
from mini_workflow.stores.process import Process
from tests.waiting import WAIT


@workflow("damaged_rows.waits")
async def waits(ctx: Context) -> str:
    ctx.on_query("state", lambda: "fine")
    while (word := await ctx.wait_for_signal("go")) == "once more":
        await ctx.sleep(0.001)
    return f"went {word}"


NUMBERS = ["started_at", "closed_at", "busy", "wake_at", "run", "base"]
TEXTS = ["workflow", "status"]
CHANGES = [
    *((name, "'soon'") for name in NUMBERS),
    *((name, "x'ff00'") for name in (*NUMBERS, *TEXTS)),
    *((name, "1.5") for name in NUMBERS),
    *((name, str(2**62)) for name in ("started_at", "closed_at", "busy")),
    ("run", "-1"),
    ("base", "-1"),
    ("status", "'happy'"),
    ("blocked_kind", "x'ff'"),
    ("blocked_reason", "x'ff'"),
]


def change(path: Path, execution_id: str, column: str, value: str) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(f"UPDATE executions SET {column} = {value} WHERE id = ?", (execution_id,))


def doctor(path: Path) -> str:
    said = CliRunner().invoke(cli, ["--backend", f"sqlite:{path}", "doctor"])
    assert not isinstance(said.exception, Exception), said.exception
    return said.output


@pytest.mark.parametrize(("column", "value"), CHANGES, ids=lambda one: str(one)[:20])
def test_it_blocks_its_own_execution_only(path: Path, column: str, value: str) -> None:
    with LocalRuntime(path) as runtime:
        for name in ("bad", "good"):
            runtime.start_execution(waits, id=name).query("state")
    change(path, "bad", column, value)
    assert f"the row of execution bad in the file is damaged: {column} is " in doctor(path)
    with LocalClient(path, read_only=True) as client:
        listed = {one.id: one for one in client.list_executions()}
        assert "good" in listed
        bad = client.get_execution("bad")
        for seen in (bad.describe(), *([listed["bad"]] if "bad" in listed else [])):
            assert seen.status == "blocked"
            assert seen.blocked_kind == "StoreCorrupt"
            assert f"{column} is " in (seen.blocked_reason or "")
        with pytest.raises(ExecutionBlocked, match="damaged"):
            bad.result(WAIT)
        assert len(bad.history()) == 1
        if column != "workflow":
            assert bad.query("state") == "fine"
    with LocalRuntime(path) as runtime:
        good, bad = runtime.get_execution("good"), runtime.get_execution("bad")
        bad.signal("go", "once more")
        good.signal("go", "once more")
        good.signal("go", "on")
        assert good.result(WAIT) == "went on"
        assert runtime.start_execution(waits, id="new").describe().status == "running"
        with pytest.raises(ExecutionBlocked, match="damaged"):
            bad.result(WAIT)
        bad.signal("go", "on")
        bad.resume()
        # What is in the history is intact: the row is written anew.
        if column == "workflow":
            with pytest.raises(ExecutionBlocked, match="unknown"):
                bad.result(WAIT)
            bad.terminate()
        else:
            assert bad.result(WAIT) == "went on"
    assert "is damaged" not in doctor(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", "x'ff00'"),
        ("partition", "x'ff00'"),
        ("started_at", "'soon'"),
        ("closed_at", "'soon'"),
        ("run", "x'ff'"),
        ("tries", "'often'"),
    ],
)
def test_of_an_execution_that_has_closed(path: Path, column: str, value: str) -> None:
    with LocalRuntime(path) as runtime:
        for name in ("bad", "good"):
            execution = runtime.start_execution(waits, id=name)
            execution.signal("go", "on")
            execution.result(WAIT)
    change(path, "bad", column, value)
    told = doctor(path)
    assert f"is damaged: {column} is " in told
    with LocalRuntime(path) as runtime:
        assert "good" in {one.id for one in runtime.list_executions()}
        assert runtime.get_execution("good").result(WAIT) == "went on"
        assert runtime.start_execution(waits, id="new").describe().status == "running"
        if column == "run":
            assert runtime.get_execution("bad").result(WAIT) == "went on"


def test_a_time_that_no_calendar_has_can_be_shown(path: Path) -> None:
    with LocalRuntime(path) as runtime:
        runtime.start_execution(waits, id="one")
    change(path, "one", "wake_at", str(2**62))
    with LocalClient(path, read_only=True) as client:
        assert [one.id for one in client.list_executions()] == ["one"]
        assert client.damaged() == []
    assert CliRunner().invoke(cli, ["--backend", f"sqlite:{path}", "get", "one"]).exit_code == 0


def test_a_file_without_damage_has_none(path: Path) -> None:
    with LocalRuntime(path) as runtime:
        for number in range(3):
            runtime.start_execution(waits, id=f"one-{number}")
        runtime.get_execution("one-0").terminate("enough")
    with LocalClient(path, read_only=True) as client:
        assert client.damaged() == []
    for column, value in CHANGES:
        change(path, "one-1", column, value)
        with LocalClient(path, read_only=True) as client:
            assert column in [damage.column for damage in client.damaged()]


@pytest.mark.parametrize("value", ["'soon'", "x'ff00'", "CAST(x'ff00' AS TEXT)", "-1", "1.5"])
@pytest.mark.parametrize("column", ["name", "address", "until", "host", "pid", "born", "serves"])
def test_in_the_row_of_another_process(path: Path, column: str, value: str) -> None:
    """The lease of a process whose row is damaged counts as ended, unless it can still be told to live."""
    with LocalRuntime(path) as runtime:
        runtime.start_execution(waits, id="one")
    process = Process.current()
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(
            "INSERT INTO owners (name, address, until, host, pid, born, serves) "
            "VALUES ('gone', '127.0.0.1:9', 1, ?, ?, ?, 'gpu')",
            (process.host, process.pid, process.born),
        )
        raw.execute(f"UPDATE owners SET {column} = {value}")
        raw.execute("UPDATE partitions SET owner = (SELECT id FROM owners)")
    with LocalClient(path) as client:
        assert len(client.owners()) <= 1
        client.start_execution(waits, id="two")
    with LocalRuntime(path, labels=["gpu"]) as runtime:
        for name in ("one", "two"):
            runtime.get_execution(name).signal("go", "on")
            assert runtime.get_execution(name).result(WAIT) == "went on"
        assert all(isinstance(owner.name, str) for owner in runtime.owners())
