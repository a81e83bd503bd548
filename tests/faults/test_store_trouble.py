"""A file that cannot be used, and a disk that fills up: said clearly, and nothing is harmed."""

import contextlib
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    LocalRuntime,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreTooNew,
    StoreUnavailable,
    UsageError,
)
from mini_workflow.testing import WorkflowEnvironment
from tests.unit.local import flows
from tests.unit.local.child import Child
from tests.waiting import WAIT


def refused(path: Path, kind: type[StoreError], message: str) -> None:
    """Opening fails so, leaves nothing running, and leaves the file as it was."""
    threads = threading.active_count()
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(kind, match=message) as e:
        LocalRuntime(path)
    assert str(path) in str(e.value)
    assert threading.active_count() <= threads
    if before is not None:
        assert path.read_bytes() == before


class TestOpening:
    def test_garbage(self, path: Path) -> None:
        path.write_bytes(os.urandom(10_000))
        refused(path, StoreCorrupt, "not|database")

    def test_text(self, path: Path) -> None:
        path.write_text("these are my notes\n" * 100)
        refused(path, StoreCorrupt, "not|database")

    def test_the_database_of_another_program(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE notes (text)")
        connection.close()
        refused(path, StoreCorrupt, "another program.*another file")

    def test_a_newer_version(self, path: Path) -> None:
        LocalRuntime(path).close()
        connection = sqlite3.connect(path)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version + 1}")
        connection.close()
        refused(path, StoreTooNew, "newer|upgrade")

    def test_a_damaged_file(self, path: Path) -> None:
        with LocalRuntime(path) as runtime:
            for _ in range(50):
                runtime.start_execution(flows.steps, 3).result(WAIT)
        data = bytearray(path.read_bytes())
        data[100:4096] = os.urandom(3996)
        path.write_bytes(data)
        refused(path, StoreCorrupt, "backup|damaged|malformed|corrupt")

    def test_no_directory(self, path: Path) -> None:
        missing = path.parent / "missing" / "state.db"
        refused(missing, StoreUnavailable, "director")
        assert not missing.parent.exists()

    def test_a_directory(self, tmp_path: Path) -> None:
        refused(tmp_path, StoreUnavailable, "directory")

    @pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
    @pytest.mark.parametrize("what", ["directory", "file", "unreadable"])
    def test_no_permission(self, tmp_path: Path, what: str) -> None:
        directory = tmp_path / "closed"
        directory.mkdir()
        path = directory / "state.db"
        if what != "directory":
            LocalRuntime(path).close()
            path.chmod(0o444 if what == "file" else 0o000)
        directory.chmod(0o555)
        code = """
            # The way to the directory may be closed to others, so be there before.
            os.chdir(os.path.dirname(path))
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            try:
                LocalRuntime(os.path.basename(path))
            except StoreUnavailable as error:
                say(str(error))
        """
        with Child(code, path) as child:
            said = child.hear()
        directory.chmod(0o755)
        assert "state.db" in said
        assert "not writable" in said
        assert "permissions" in said
        if what == "directory":
            assert list(directory.iterdir()) == []

    def test_an_argument_out_of_range(self, path: Path) -> None:
        wrong: list[dict[str, Any]] = [
            {"workers": -1},
            {"threads": 0},
            {"synchronous": "OFF"},
            {"cache_size": -1},
            {"lease": 0},
            {"lease": float("nan")},
            {"turn_timeout": 0},
            {"grace": -1},
        ]
        for arguments in wrong:
            with pytest.raises(UsageError, match=next(iter(arguments))):
                LocalRuntime(path, **arguments)
        assert not path.exists()


def start_for_ever(runtime: LocalRuntime) -> None:
    while True:
        runtime.start_execution(flows.sleeper, 1000)


class TestFull:
    def test_recovers_when_there_is_space(self, path: Path, tmp_path: Path) -> None:
        ledger = str(tmp_path / "ledger")
        with LocalRuntime(path) as runtime:
            connection = runtime._opened.backend._writer.raw
            before = runtime.start_execution(flows.large, ledger, "full", 100_000, id="before")
            assert flows.gate("full").reached.wait(WAIT)
            (pages,) = connection.execute("PRAGMA page_count").fetchone()

            def limit(number: int) -> Callable[[], None]:
                return lambda: connection.execute(f"PRAGMA max_page_count = {number}").close()

            runtime._role.call(limit(pages))
            with pytest.raises(StoreFull, match="no space left"):
                start_for_ever(runtime)
            number = len(runtime.list_executions())
            with pytest.raises(StoreFull):
                runtime.start_execution(flows.sleeper, 1000, id="refused")
            assert len(runtime.list_executions()) == number
            flows.gate("full").opened.set()  # its result has to wait
            with pytest.raises(TimeoutError):
                before.result(0.2)
            runtime._role.call(limit(2**30))
            assert before.result(WAIT) == 100_000
            assert runtime.start_execution(flows.steps, 3, id="refused").result(WAIT) == 3
        assert flows.lines(ledger) == ["before:1 1"]

    def test_closes_while_it_is_full(self, path: Path) -> None:
        runtime = LocalRuntime(path, grace=0)
        connection = runtime._opened.backend._writer.raw
        runtime.start_execution(flows.gated, "full", id="one")
        assert flows.gate("full").reached.wait(WAIT)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        runtime._role.call(lambda: connection.execute(f"PRAGMA max_page_count = {pages}").close())
        with pytest.raises(StoreFull):
            start_for_ever(runtime)
        runtime.close()
        flows.gate("full").opened.set()
        with LocalRuntime(path) as again:
            assert again.get_execution("one").result(WAIT) == "full"

    @pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
    def test_a_limit_of_the_operating_system(self, path: Path) -> None:
        code = """
            import resource
            with LocalRuntime(path, turn_timeout=None) as runtime:
                resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
                started = 0
                try:
                    for number in range(100):
                        runtime.start_execution(flows.echo, "x" * 10_000, id=f"n-{number}")
                        started += 1
                except StoreError as error:
                    say(f"{type(error).__name__}: {error}")
                assert len(runtime.list_executions()) == started
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                say(str(started))
                for number in range(100):
                    runtime.start_execution(flows.echo, "x" * 10_000, id=f"n-{number}").result(60)
                say("done")
        """
        with Child(code, path) as child:
            said = child.hear()
            assert said.startswith(("StoreFull", "StoreUnavailable", "StoreError")), said
            assert 0 < int(child.hear()) < 100
            child.expect("done")
            child.end()


class TestTrouble:
    def test_a_writer_that_does_not_let_go(self, path: Path) -> None:
        """Another program holds the write lock for a while."""
        with LocalRuntime(path) as runtime:
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            timer = threading.Timer(0.2, lambda: None)
            timer.start()
            started: list[Any] = []
            starting = threading.Thread(
                target=lambda: started.append(runtime.start_execution(flows.steps, 3))
            )
            starting.start()
            timer.join()
            assert not started
            connection.execute("ROLLBACK")
            connection.close()
            starting.join(WAIT)
            assert started[0].result(WAIT) == 3

    def test_the_file_is_deleted_under_its_feet(self, path: Path) -> None:
        with LocalRuntime(path) as runtime:
            runtime.start_execution(flows.answer).result(WAIT)
            shutil.rmtree(path.parent)
            path.parent.mkdir()
            with contextlib.suppress(StoreError):
                runtime.start_execution(flows.answer).result(WAIT)
        LocalRuntime(path).close()

    def test_what_a_failing_store_does_to_virtual_time(self) -> None:
        """A call on the engine's thread is done, whatever the store says."""
        with WorkflowEnvironment() as environment:
            environment.start_execution(flows.sleeper, 60, id="one")
            failing = environment._backend.agenda.due
            calls: list[int] = []

            def due(now: int, limit: int) -> list[str]:
                calls.append(now)
                if len(calls) == 1:
                    raise StoreUnavailable("for a moment")
                return failing(now, limit)

            environment._backend.agenda.due = due  # type: ignore[method-assign]
            environment.advance(120)
            assert environment.get_execution("one").result(WAIT) >= 60
