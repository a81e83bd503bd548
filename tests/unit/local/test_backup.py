"""Backups of a file that is in use, and what is refused about them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from mini_workflow import LocalClient, LocalRuntime, StoreUnavailable, UsageError
from mini_workflow.cli.app import cli
from mini_workflow.errors import StoreCorrupt, StoreFull
from mini_workflow.stores.sqlite import connection
from mini_workflow.stores.sqlite.backup import back_up
from tests.unit.local import flows
from tests.waiting import WAIT


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "copy.db"


def ids(path: Path) -> set[str]:
    with LocalClient(path, read_only=True) as client:
        return {execution.id for execution in client.list_executions(limit=10_000)}


def fill(path: Path, count: int = 20) -> None:
    with LocalClient(path) as client:
        client.start_executions(
            flows.steps, [(1,)] * count, ids=[f"one-{number}" for number in range(count)]
        )


def test_what_was_acknowledged_before_is_in_the_backup(path: Path, target: Path) -> None:
    """Though it is still in the log alone, and others write during the copy."""
    stopping = threading.Event()
    with LocalRuntime(path) as runtime:
        started: list[str] = []

        def start() -> None:
            while not stopping.is_set():
                name = f"busy-{len(started)}"
                runtime.start_execution(flows.steps, 1, id=name)
                started.append(name)

        busy = threading.Thread(target=start)
        busy.start()
        try:
            for number in range(4):
                runtime.start_execution(flows.steps, 1, id=f"first-{number}").result(WAIT)
                before = {f"first-{n}" for n in range(number + 1)} | set(started)
                back_up(path, target, force=True)
                assert before <= ids(target)
                # One file, with nothing beside it, until somebody opens it to write.
                for beside in target.parent.glob("copy.db-*"):
                    beside.unlink()
        finally:
            stopping.set()
            busy.join()
    assert [found.name for found in target.parent.iterdir()] == ["copy.db"]


def test_a_restored_backup_goes_on(path: Path, target: Path) -> None:
    fill(path, 3)
    assert back_up(path, target) == target.stat().st_size
    with LocalRuntime(target) as runtime:
        for number in range(3):
            runtime.get_execution(f"one-{number}").result(WAIT)


def test_the_copy_tells_its_progress_and_is_private(path: Path, target: Path) -> None:
    fill(path)
    seen: list[tuple[int, int]] = []
    back_up(path, target, progress=lambda done, total: seen.append((done, total)))
    assert seen
    assert seen[-1][0] == seen[-1][1]
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_is_replaced_by_force_alone(path: Path, target: Path) -> None:
    fill(path)
    target.write_text("precious")
    target.chmod(0o640)
    with pytest.raises(UsageError, match=r"exists.*--force"):
        back_up(path, target)
    assert target.read_text() == "precious"
    back_up(path, target, force=True)
    assert target.stat().st_mode & 0o777 == 0o640
    assert len(ids(target)) == 20


@pytest.mark.parametrize("suffix", ["-wal", "-journal", "-shm"])
@pytest.mark.parametrize("force", [False, True])
def test_a_log_of_another_file_is_not_applied_to_it(
    path: Path, target: Path, suffix: str, force: bool
) -> None:
    fill(path)
    Path(f"{target}{suffix}").touch()
    with pytest.raises(UsageError, match="another file"):
        back_up(path, target, force=force)
    assert not target.exists()


def test_a_store_that_is_open_is_not_replaced(path: Path, target: Path) -> None:
    fill(path)
    with LocalRuntime(target) as runtime:
        with pytest.raises(UsageError, match="in use"):
            back_up(path, target, force=True)
        runtime.start_execution(flows.steps, 1, id="well").result(WAIT)
    assert ids(target) == {"well"}


def test_the_store_itself_is_not_replaced(path: Path) -> None:
    fill(path)
    link = path.with_name("link.db")
    link.symlink_to(path)
    for same in (path, link):
        with pytest.raises(UsageError, match="the store itself"):
            back_up(path, same, force=True)
    assert len(ids(path)) == 20


def test_what_is_no_store_has_no_backup(path: Path, target: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no store"):
        back_up(path, target)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    with pytest.raises(StoreCorrupt, match="another program"):
        back_up(path, target)
    assert list(target.parent.iterdir()) == []


def test_a_damaged_store_gives_no_backup(path: Path, target: Path) -> None:
    """And leaves the backup that was there."""
    fill(path, 200)
    back_up(path, target)
    good = target.read_bytes()
    with path.open("r+b") as file:  # nobody has it open
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 8))
    with pytest.raises(StoreCorrupt):
        back_up(path, target, force=True)
    assert target.read_bytes() == good
    assert [found.name for found in target.parent.iterdir()] == ["copy.db"]


def test_an_interrupted_copy_leaves_nothing(path: Path, target: Path) -> None:
    fill(path)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(path, target, progress=interrupt)
    assert list(target.parent.iterdir()) == []
    with LocalRuntime(path) as runtime:
        runtime.start_execution(flows.steps, 1).result(WAIT)


def test_the_command(path: Path, target: Path) -> None:
    fill(path)
    words = ["--backend", f"sqlite:{path}", "backup", str(target)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "copied and checked" in done.output
    assert len(ids(target)) == 20
    done = CliRunner().invoke(cli, words)
    assert done.exit_code != 0
    assert "--force" in done.output
    done = CliRunner().invoke(cli, [*words, "--force", "--json"])
    assert done.exit_code == 0, done.output
    assert '"checked": true' in done.output


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_CANTOPEN])
@pytest.mark.parametrize("free", [0, 10_000_000])
def test_a_full_disk_is_called_full_when_sqlite_says_otherwise(
    path: Path, code: int, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(sqlite3.Connection):
        def execute(self, *_: object) -> sqlite3.Cursor:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            raise error

    real = sqlite3.connect
    monkeypatch.setattr(
        connection.sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Failing)
    )
    usage = shutil.disk_usage(path.parent)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    expected = StoreUnavailable if free else StoreFull
    with pytest.raises(expected, match="disk I/O error" if free else "no space left"):
        LocalRuntime(path)
