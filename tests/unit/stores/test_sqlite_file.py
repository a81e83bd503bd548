"""The SQLite file itself: what may be opened, how it grows up, and what goes wrong with it."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreTooNew,
    StoreUnavailable,
    UsageError,
)
from mini_workflow.ports import Commit, Head, Query, QueuedMessage, StreamWrite
from mini_workflow.stores.sqlite import SQLiteBackend, file_checks, leases, schema
from mini_workflow.stores.sqlite.connection import Connection, WriteLock
from mini_workflow.testing import ManualClock
from mini_workflow.testing.contracts.backend import change, create, creation, head

Open = Callable[..., SQLiteBackend]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def open_store(path: Path) -> Iterator[Open]:
    opened: list[SQLiteBackend] = []

    def open_store(**arguments: object) -> SQLiteBackend:
        plain: dict[str, Any] = {"path": path, "owner": "one", "clock": ManualClock()}
        backend = SQLiteBackend(**{**plain, **arguments})
        opened.append(backend)
        backend.leases.acquire(0)
        return backend

    yield open_store
    for backend in opened:
        backend.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(sql).fetchall()
        connection.commit()
    return rows


# How it comes to be


def test_a_new_file_gets_its_name_when_it_is_whole_and_on_the_disk(
    path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    """Whoever dies before leaves no part of a file under the name, and it is synced once, as a whole."""
    steps: list[object] = []
    link, fsync = os.link, os.fsync

    def linked(name: Path, target: Path) -> None:
        steps.append("linked")
        marks = query(name, "PRAGMA user_version") + query(name, "PRAGMA journal_mode")
        assert marks == [(len(schema.MIGRATIONS),), ("wal",)]
        if len(steps) == 2:
            raise KeyboardInterrupt
        link(name, target)

    def synced(file: int) -> None:
        steps.append("synced")
        fsync(file)

    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(os, "fsync", synced)
    with pytest.raises(KeyboardInterrupt):
        open_store()
    assert contents(path.parent) == {}
    create(open_store(), "a")
    assert steps == ["synced", "linked"] * 2
    open_store(owner="two")
    assert steps == ["synced", "linked"] * 2


def test_a_new_file_that_cannot_be_made_whole_has_no_tables(
    path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        with_another_version(patch, "INSERT INTO nowhere VALUES (7)")
        with pytest.raises(StoreError, match="nowhere"):
            open_store()
    assert list(contents(path.parent)) == [path.name]
    assert query(path, "SELECT name FROM sqlite_master") == []
    create(open_store(), "a")
    assert query(path, "PRAGMA auto_vacuum") == [(2,)]


# What is left behind


def test_nothing_but_the_file_is_left_when_the_last_one_closes(path: Path, open_store: Open):
    one, two = open_store(), open_store(owner="two")
    create(one, "a")
    create(two, "b")
    one.close()
    assert [entry.name for entry in path.parent.iterdir() if entry != path] != []
    two.close()
    assert list(contents(path.parent)) == ["state.db"]


def test_the_file_is_found_after_a_change_of_directory(
    path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(path.parent)
    one = open_store(path="relative.db")
    create(one, "a")
    monkeypatch.chdir("/")
    one.close()
    assert list(contents(path.parent)) == ["relative.db"]


def test_any_name_of_a_file_will_do(path: Path, open_store: Open):
    name = "a b?mode=ro#c%20é;.db"
    one = open_store(path=str(path.with_name(name)))
    create(one, "a")
    one.close()
    assert list(contents(path.parent)) == [name]


# What is refused


def test_a_store_in_memory_is_another_backend(open_store: Open):
    with pytest.raises(UsageError, match="MemoryBackend"):
        open_store(path=":memory:")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (b"state.db", "b'state.db' is no path of a file: give a str"),
        (5, "5 is no path of a file"),
        (None, "None is no path of a file"),
        ("a\0b", "has a null character"),
        ("file:state.db?mode=ro", "'file:' begins an address.*by its path"),
        ("sqlite:state.db", "'sqlite:' begins an address"),
        ("sqlite:///state.db", "'sqlite://' begins an address"),
        ("postgresql://host/shop", "takes PostgresRuntime"),
    ],
)
def test_what_is_no_path(
    path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch, given: Any, told: str
):
    monkeypatch.chdir(path.parent)
    with pytest.raises(UsageError, match=told):
        open_store(path=given)
    assert contents(path.parent) == {}


def test_a_device(open_store: Open):
    with pytest.raises(StoreUnavailable, match="/dev/null: it is no regular file; name another"):
        open_store(path="/dev/null")


def test_a_file_with_two_names(path: Path, open_store: Open):
    """Each name would have a log of its own, of which all but one are lost."""
    create(one := open_store(), "a")
    one.close()
    copy = path.with_name("copy.db")
    copy.hardlink_to(path)
    for name in (path, copy):
        for looks in (True, False):
            with pytest.raises(StoreUnavailable, match=f"{name}: the file has 2 names"):
                open_store(path=name, read_only=looks)
    assert sorted(contents(path.parent)) == ["copy.db", "state.db"]
    copy.unlink()
    assert open_store().store.head("a") is not None


def test_whoever_made_the_file_died_before_its_first_name_was_removed(path: Path, open_store: Open):
    open_store().close()
    left, other = path.with_name(".state.db-0123456789ab"), path.with_name(".state.db-ab0123456789")
    left.hardlink_to(path)
    other.touch()  # of which nothing is known
    file_checks.inspect(path, read_only=True)
    assert left.exists()
    open_store()
    assert (left.exists(), other.exists()) == (False, True)


def test_a_symbolic_link_is_the_file_that_it_leads_to(path: Path, open_store: Open):
    link = path.with_name("link.db")
    open_store().close()
    link.symlink_to(path)
    one, two = open_store(), open_store(path=link, owner="two")
    create(two, "a")
    assert one.store.head("a") is not None


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], None]:
    """Add a mount to those that the library is told of."""
    mounts = tmp_path.with_name(f"{tmp_path.name}-mountinfo")
    mounts.write_text("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n")
    monkeypatch.setattr(file_checks, "_MOUNTS", mounts)

    def mount(place: Path, kind: str) -> None:
        name = str(place).replace(" ", r"\040")
        with mounts.open("a") as file:
            file.write(f"36 27 254:0 /elsewhere {name} rw shared:1 - {kind} /dev/vda rw\n")

    return mount


Mount = Callable[[Path, str], None]


def test_a_file_that_is_mounted_by_itself(path: Path, open_store: Open, mount: Mount):
    """The log beside it would stay in the container."""
    path = path.with_name("the state.db")
    mount(path.with_name("the state.db-wal"), "ext4")
    open_store(path=path).close()
    mount(path, "ext4")
    with pytest.raises(StoreUnavailable, match=r"the file itself is mounted.*Mount its directory"):
        open_store(path=path)


def test_a_file_on_a_network(
    path: Path, open_store: Open, mount: Mount, caplog: pytest.LogCaptureFixture
):
    """One machine at a time may have it: the log is shared by memory."""
    mount(path.parent.with_name("elsewhere"), "nfs4")
    one = open_store()
    assert caplog.messages == []
    mount(path.parent.parent, "nfs4")
    two = open_store(owner="two")
    assert "is on a network file system (nfs4)" in caplog.messages[0]
    two.close()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE owners SET host = 'db-7 other-boot pid:[1]', pid = 17")
    with pytest.raises(StoreUnavailable, match=r"process 17 on db-7 has the file open.*in 15 s"):
        open_store(owner="two")
    mount(path.parent, "ext4")  # a local file system in the one of the network
    open_store(owner="two").close()
    mount(path.parent, "nfs4")
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE owners SET until = -1 WHERE pid = 17")  # it has died
    open_store(owner="two").close()
    one.close()


def test_a_missing_directory(path: Path, open_store: Open):
    missing = path.parent / "missing"
    with pytest.raises(StoreUnavailable, match=rf"{missing}; create it"):
        open_store(path=missing / "state.db")
    assert contents(path.parent) == {}


def test_a_directory(path: Path, open_store: Open):
    with pytest.raises(StoreUnavailable, match=f"{path.parent}: it is a directory"):
        open_store(path=path.parent)


@pytest.mark.parametrize(
    "garbage", [b"x", b"SQLite format 3\0", b"not a database " * 1_000, bytes(8_192)]
)
def test_a_file_of_something_else(path: Path, open_store: Open, garbage: bytes):
    path.write_bytes(garbage)
    with pytest.raises(StoreCorrupt, match=f"{path} is not an SQLite file"):
        open_store()
    assert contents(path.parent) == {"state.db": garbage}


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_an_sqlite_file_of_another_program(path: Path, open_store: Open, mode: str):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("CREATE TABLE events (execution INTEGER)")
        before = contents(path.parent)
        with pytest.raises(StoreCorrupt, match=f"{path} is an SQLite file of another program"):
            open_store()
        after = contents(path.parent)
        # Who reads by SQLite leaves a mark in the memory that all who have it open share.
        before.pop("state.db-shm", None)
        after.pop("state.db-shm", None)
        assert after == before


def test_an_empty_file_becomes_a_store(path: Path, open_store: Open):
    path.touch()
    create(open_store(), "a")


@pytest.mark.parametrize("damage", ["truncated", "first page", "second half"])
def test_a_damaged_file(path: Path, open_store: Open, damage: str):
    one = open_store()
    create(one, *(f"e{number}" for number in range(1_000)))
    one.close()
    whole = path.read_bytes()
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "first page": whole[:100] + bytes(3_996) + whole[4_096:],
            "second half": whole[: len(whole) // 2] + b"\xff" * (len(whole) // 2),
        }[damage]
    )

    def read_everything() -> None:
        backend = open_store()
        for number in range(1_000):
            backend.store.history(f"e{number}")

    with pytest.raises(StoreCorrupt, match=str(path)):
        read_everything()


# Versions


def with_another_version(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, statements))


def test_an_older_file_is_brought_up_to_date(
    path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    one = open_store()
    create(one, "a")
    one.leases.release()
    one.close()
    with_another_version(monkeypatch, "CREATE TABLE more (x)", "INSERT INTO more VALUES (7)")
    for _ in range(2):
        again = open_store()
        assert again.store.history("a") == ["started"]
        again.leases.release()
        again.close()
        assert query(path, "SELECT x FROM more") == [(7,)]
        assert query(path, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]


def test_a_file_from_before_heads_said_what_is_awaited_opens(path: Path, open_store: Open):
    """What its executions await is not known until their next turns."""
    with closing(sqlite3.connect(path)) as raw, raw:
        for statement in [text for version in schema.MIGRATIONS[:3] for text in version]:
            raw.execute(statement)
        raw.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        raw.execute("PRAGMA user_version = 3")
        raw.execute(
            "INSERT INTO executions (id, workflow, status, partition, started_at, busy, run, base) "
            "VALUES ('old', 'order', 'running', 1, 1, 0, 1, 0)"
        )
        raw.execute("INSERT INTO events VALUES (1, 0, 'started')")
    one = open_store()
    found = one.store.head("old")
    assert found is not None
    assert (found.waits, found.progress) == ("", "")


def test_a_file_from_before_there_were_tags_opens(path: Path, open_store: Open):
    """Its executions are found by their parents and their ends, and may have tags from now on."""
    tables = [text for version in schema.MIGRATIONS[:2] for text in version]
    started = (
        '{"event":"ExecutionStarted","at":1,"workflow":"order"%s,"seed":1,"arguments":[[],{}]}'
    )
    with closing(sqlite3.connect(path)) as raw, raw:
        for statement in (*tables, f"PRAGMA application_id = {schema.APPLICATION_ID}"):
            raw.execute(statement)
        raw.execute("PRAGMA user_version = 2")
        for key, name in enumerate(("parent", "child", "odd"), 1):
            raw.execute(
                "INSERT INTO executions VALUES "
                "(?, ?, 'order', 'completed', 1, ?, 9, 0, NULL, NULL, NULL, 2, 1, 0)",
                (key, name, key),
            )
            parent = ',"parent":{"id":"parent","seq":1}' if name == "child" else ""
            body = '"parent":{ no JSON' if name == "odd" else started % parent
            raw.execute("INSERT INTO events VALUES (?, 0, 'an earlier run')", (key,))
            raw.execute("INSERT INTO events VALUES (?, 1, ?)", (key, body))
    one = open_store()
    assert [head.execution_id for head in one.store.list(Query(parent="parent")).heads] == ["child"]
    assert one.store.count(Query(order="closed", closed_before=10)) == 3
    one.leases.acquire(0)
    found = one.store.head("odd")
    assert found == Head("odd", "order", "completed", 3, 9, run=2, base=1)
    assert one.store.commit([Commit("odd", 2, head=replace(found, tags='{"a": "b"}'))]) == [True]
    assert one.store.count(Query(tags=(("a", "b"),))) == 1


def test_a_file_from_before_there_were_streams_opens(path: Path, open_store: Open):
    """Its executions may have streams from now on."""
    before = next(n for n, v in enumerate(schema.MIGRATIONS) if "TABLE streams" in v[0])
    tables = [text for version in schema.MIGRATIONS[:before] for text in version]
    with closing(sqlite3.connect(path)) as raw, raw:
        for statement in (*tables, f"PRAGMA application_id = {schema.APPLICATION_ID}"):
            raw.execute(statement)
        raw.execute(f"PRAGMA user_version = {before}")
        raw.execute(
            "INSERT INTO executions (key, id, workflow, status, partition, started_at, busy, run, base)"
            " VALUES (1, 'old', 'order', 'running', 1, 1, 0, 1, 0)"
        )
        raw.execute("INSERT INTO events VALUES (1, 0, 'started')")
    one = open_store()
    assert one.streams.read("old", "words", 0, 10).chunks == []
    assert one.streams.append([StreamWrite("old", "words", 1, 1, 1, '"hello"')]) == ["kept"]
    assert [chunk.body for chunk in one.streams.read("old", "words", 0, 10).chunks] == ['"hello"']
    assert one.store.history("old") == ["started"]


def test_an_upgrade_that_fails_changes_nothing(
    path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
):
    one = open_store()
    create(one, "a")
    one.close()
    before = contents(path.parent)
    with monkeypatch.context() as patch:
        with_another_version(patch, "CREATE TABLE more (x)", "INSERT INTO nowhere VALUES (7)")
        with pytest.raises(StoreError, match="nowhere"):
            open_store()
    assert contents(path.parent) == before
    assert open_store().store.history("a") == ["started"]


def test_a_newer_file_is_left_alone(path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        with_another_version(patch, "CREATE TABLE more (x)")
        open_store().close()
    before = contents(path.parent)
    with pytest.raises(
        StoreTooNew,
        match=rf"version {len(schema.MIGRATIONS) + 1} .* up to {len(schema.MIGRATIONS)};.*[Ii]nstall",
    ):
        open_store()
    assert contents(path.parent) == before


def test_a_file_that_another_process_has_just_upgraded(path: Path, open_store: Open):
    one = open_store()
    create(one, "a")
    # Only the log knows of it yet, and not the header of the file.
    query(path, "PRAGMA user_version = 99")
    with pytest.raises(StoreTooNew, match=rf"version 99 .* up to {len(schema.MIGRATIONS)};"):
        open_store(owner="two")
    assert one.store.history("a") == ["started"]


# Space and locks


def test_a_full_disk_undoes_the_commit_and_is_survived(open_store: Open):
    one = open_store()
    create(one, "a")
    raw = one._writer.raw
    (pages,) = raw.execute("PRAGMA page_count").fetchone()
    raw.execute(f"PRAGMA max_page_count = {pages + 2}")
    for _ in range(2):
        with pytest.raises(StoreFull, match="no space left"):
            one.store.commit([creation("b"), Commit("a", 1, ("x" * 100_000,))])
        entry = QueuedMessage("a", "x" * 100_000, "key")
        with pytest.raises(StoreFull, match="no space left"):
            one.store.commit([creation("b"), Commit("a", 1, ("more",), outbox=(entry,))])
        assert one.store.history("a") == ["started"]
        assert one.mailbox.entries(0, 10) == []
        assert one.store.head("b") is None
    one.leases.renew(0)
    raw.execute(f"PRAGMA max_page_count = {pages + 1_000}")
    assert one.store.commit([creation("b"), Commit("a", 1, ("x" * 100_000,))]) == [True, True]


def test_a_lock_that_is_never_released(path: Path, open_store: Open):
    one = open_store(patience=0.05)
    create(one, "a")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"locked for more than 0.05 s by"):
            one.store.commit([Commit("a", 1, ("more",))])
        with pytest.raises(StoreUnavailable, match="locked"):
            one.mailbox.post("a", "message", "key")
        # Reading needs no lock.
        assert one.store.history("a") == ["started"]
        assert one.agenda.next_wake() is None
        other.execute("COMMIT")
    assert one.store.commit([Commit("a", 1, ("more",))]) == [True]


def test_a_lock_that_is_held_for_a_moment(path: Path, open_store: Open):
    one = open_store()
    create(one, "a")
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")

        timer = threading.Timer(0.05, lambda: other.execute("COMMIT"))
        timer.start()
        one.mailbox.post("a", "message", "key")
        timer.join()
    assert len(one.mailbox.entries(0, 10)) == 1


def test_a_reader_in_the_way_while_the_file_is_made(path: Path):
    # Before the file is in WAL mode, nobody may read while a commit is written.
    query(path, "CREATE TABLE events (execution INTEGER)")
    writer = Connection(path, synchronous="FULL", patience=10, writers=WriteLock())
    with (
        closing(writer),
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN")
        other.execute("SELECT * FROM events").fetchall()
        timer = threading.Timer(0.05, lambda: other.execute("COMMIT"))
        timer.start()
        with writer as raw:
            raw.execute("INSERT INTO events VALUES (1)")
        timer.join()
    assert query(path, "SELECT * FROM events") == [(1,)]


# Cost


def test_no_statement_reads_more_than_it_has_to(open_store: Open):
    """The plan of every statement of everyday work, as SQLite explains it."""
    one = open_store()
    connections = (one._writer.raw, one._reader.raw)
    statements: list[str] = []
    for connection in connections:
        connection.set_trace_callback(statements.append)
    create(one, "a", "b", busy=True, wake_at=5)
    one.store.commit([Commit("a", 1, ("x",), park=("p",)), Commit("b", 1, unpark=True)])
    one.store.commit([Commit("a", 2, outbox=(QueuedMessage("b", "message", "key"),))])
    one.mailbox.post("a", "message", "key")
    entries = one.mailbox.entries(0, 10)
    one.store.commit([Commit("a", 2, taken=tuple(entry.number for entry in entries))])
    change(one, "b", status="blocked", blocked_kind="code")
    one.store.load("a")
    one.store.head("a")
    one.store.history("a")
    one.agenda.due(10, 10)
    one.agenda.next_wake()
    one.agenda.busy("", 10)
    one.agenda.blocked("code", "", 10)
    for filtered in (Query(), Query("order"), Query(None, "running"), Query("order", "running")):
        page = one.store.list(replace(filtered, limit=1))
        one.store.list(replace(filtered, after=page.next))
        one.store.count(filtered)
    change(one, "a", tags='{"x": "1", "y": "2"}', parent="b", closed_at=7, status="completed")
    change(one, "a", tags='{"x": "2"}')
    for found in (
        Query(tags=(("x", "1"), ("y", "2")), status="running", workflow="order"),
        Query(parent="b", started_after=1),
        Query(parent="b", status="running", order="started"),
        Query(started_after=1, started_before=9, order="started"),
        Query(order="closed", closed_before=9, workflow="order"),
        Query(order="-closed", status="completed", closed_after=1),
    ):
        one.store.list(found)
        one.store.list(replace(found, after="5-5"))
        one.store.count(found)
    one.leases.renew(0)
    one.leases.peers()
    one.leases.release()
    one.leases.acquire(0)
    for connection in connections:
        connection.set_trace_callback(None)
    kinds = {"SELECT", "UPDATE", "DELETE", "INSERT"}
    plain = [text for text in statements if text.split()[0] in kinds]
    assert len(plain) > 50
    for text in plain:
        for *_, step in one._reader.raw.execute(f"EXPLAIN QUERY PLAN {text}").fetchall():
            # There are as many owners and partitions as there are processes; json_each is what is asked for.
            harmless = ("owners", "partitions", "(subquery", "CONSTANT ROW", "json_each")
            scan = step.startswith("SCAN") and not any(word in step for word in harmless)
            assert not scan, (text, step)
            assert "TEMP B-TREE" not in step, (text, step)


def steps(raw: sqlite3.Connection, act: Callable[[], object]) -> int:
    """How many instructions SQLite takes for what is done, and none of it is luck or weather."""
    act()  # What is prepared and cached once is not counted.
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += 1

    raw.set_progress_handler(count, 1)
    act()
    raw.set_progress_handler(None, 1)
    return taken


def test_earlier_runs_cost_nothing(open_store: Open):
    one = open_store()
    store, length = one.store, 1_000
    create(one, "others")
    assert store.commit([creation("a", *map(str, range(length)))]) == [True]

    def costs() -> list[int]:
        return [
            steps(one._writer.raw, lambda: store.load("a")),
            steps(one._reader.raw, lambda: store.history("a")),
        ]

    first = costs()
    for run in range(2, 101):
        events = tuple(f"{run} {number}" for number in range(1_000))
        anew = replace(head("a"), run=run, base=length)
        assert store.commit([Commit("a", length, events, anew)]) == [True]
        length += 1_000
    assert store.history("a")[::999] == ["100 0", "100 999"]
    assert costs() == pytest.approx(first, abs=100)


def test_an_empty_mailbox_and_an_empty_outbox_cost_next_to_nothing(open_store: Open):
    one = open_store()
    create(one, "a", *(f"e{number}" for number in range(1_000)))
    one.mailbox.post("a", "message", "key")
    assert steps(one._writer.raw, lambda: one.mailbox.entries(0, 10)) > 20
    (entry,) = one.mailbox.entries(0, 10)
    # Behind what was read, and when it has been taken, however many partitions are held.
    one.mailbox._holding.partitions += range(1_000, 2_000)
    for _ in range(2):
        assert steps(one._writer.raw, lambda: one.mailbox.entries(entry.number, 10)) < 20
        assert one.store.commit([Commit("a", 1, taken=(entry.number,))]) == [True]
    assert steps(one._writer.raw, lambda: one.mailbox.entries(0, 10)) < 20
    statements: list[str] = []
    one._writer.raw.set_trace_callback(statements.append)
    assert one.store.commit([Commit("a", 1, ("x",))]) == [True]
    one._writer.raw.set_trace_callback(None)
    assert not [text for text in statements if "mailbox" in text]


def test_taking_over_costs_the_same_for_any_number_of_executions(open_store: Open):
    one, two = open_store(), open_store(owner="two")
    for backend in (one, two):
        create(backend, *(f"{id(backend)} {n}" for n in range(leases.FOLD_LIMIT + 1)), wake_at=5)
        backend.leases.release()
    three = open_store(owner="three", path=one.path)
    three.leases.release()
    before = three._writer.raw.total_changes
    assert three.leases.acquire(0)
    assert three._writer.raw.total_changes - before < 10
    assert len(three.agenda.due(10, 10_000)) == 2 * (leases.FOLD_LIMIT + 1)


def test_owners_that_come_and_go_leave_no_partitions_behind(path: Path, open_store: Open):
    staying = open_store()
    for number in range(20):
        passing = open_store(owner="passing")
        if number % 2:
            create(passing, f"e{number}")
        passing.leases.release()
        passing.close()
        staying.leases.acquire(0)
    assert query(path, "SELECT count(*) FROM partitions") == [(1,)]
    assert query(path, "SELECT count(*) FROM owners") == [(1,)]
    assert len(staying.store.list(Query()).heads) == 10
