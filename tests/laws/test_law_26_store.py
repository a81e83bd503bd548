"""Law 26: fork, a second opening, a file deleted or replaced underneath: loud, and nothing that was
acknowledged is lost.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import LocalClient, LocalRuntime, StoreCorrupt, StoreUnavailable
from mini_workflow.cli.app import cli
from mini_workflow.errors import LeaseLost
from mini_workflow.stores.sqlite.leases import SQLiteLeases
from tests.unit.local import flows
from tests.unit.local.child import Child
from tests.waiting import WAIT


def ids(path: Path) -> set[str]:
    with LocalRuntime(path) as runtime:
        return {execution.id for execution in runtime.list_executions()}


# Fork

FORKED = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the point here

def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            say(f"failed: {type(error).__name__}: {error}")
            os._exit(1)
    return child

def well(child):
    assert os.waitpid(child, 0)[1] == 0
"""


def forked(code: str) -> str:
    return FORKED + textwrap.dedent(code)


def test_a_child_that_opens_the_file_anew_loses_nothing(path: Path) -> None:
    """Law 26: what the child acknowledges is in the file, though its parent closes it meanwhile."""
    code = """
    runtime = LocalRuntime(path)
    runtime.start_execution(flows.steps, 1, id="parent").result(60)
    heard, told = os.pipe()

    def work():
        with LocalRuntime(path) as mine:
            mine.start_execution(flows.steps, 1, id="first").result(60)
            assert os.read(heard, 1) == b"x"  # the parent has closed the file
            for number in range(20):
                mine.start_execution(flows.steps, 1, id=f"child-{number}").result(60)
            os._exit(0)  # killed, redeployed, crashed: any end

    child = in_child(work)
    runtime.start_execution(flows.steps, 1, id="parent-after").result(60)
    runtime.close()
    os.write(told, b"x")
    well(child)
    say("done")
    """
    with Child(forked(code), path) as process:
        process.expect("done")
        process.end()
    assert ids(path) == {"parent", "parent-after", "first", *(f"child-{n}" for n in range(20))}


def test_children_of_a_busy_process_and_their_parent_lose_nothing(path: Path) -> None:
    """Law 26: forks in the middle of commits, one after the other, harm neither side."""
    code = """
    runtime = LocalRuntime(path)
    stopping = threading.Event()
    acknowledged = []

    def start():
        while not stopping.is_set():
            name = f"parent-{len(acknowledged)}"
            runtime.start_execution(flows.steps, 1, id=name)
            acknowledged.append(name)

    busy = threading.Thread(target=start)
    busy.start()
    for number in range(5):
        def work():
            with LocalRuntime(path) as mine:
                mine.start_execution(flows.steps, 1, id=f"child-{number}").result(60)
        well(in_child(work))
    stopping.set()
    busy.join()
    say(str(len(acknowledged)))
    os._exit(0)
    """
    with Child(forked(code), path) as process:
        acknowledged = int(process.hear())
        process.end()
    expected = {f"parent-{n}" for n in range(acknowledged)} | {f"child-{n}" for n in range(5)}
    assert expected <= ids(path)


@pytest.mark.parametrize(
    "call",
    [
        "runtime.start_execution(flows.steps, 1)",
        "runtime.list_executions()",
        "execution.describe()",
        "execution.result(1)",
        "execution.signal('go')",
        "execution.update('go', timeout=1)",
        "execution.query('go')",
        "client.start_execution(flows.steps, 1)",
        "client.list_executions()",
        "client.get_execution('one').signal('go')",
    ],
)
def test_what_a_child_has_inherited_is_refused(path: Path, call: str) -> None:
    """Law 26: loud at the first call in the child; the parent goes on, and closes as ever."""
    code = f"""
    with LocalRuntime(path) as runtime, LocalClient(path) as client:
        execution = runtime.start_execution(flows.steps, 1, id="one")

        def work():
            try:
                {call}
            except RuntimeClosed as error:
                assert "forked" in str(error) and "open one in this process" in str(error), error
            else:
                raise AssertionError("not refused")
            runtime.close()
            client.close()

        well(in_child(work))
        execution.result(60)
        client.start_execution(flows.steps, 1, id="two").result(60)
    say("done")
    """
    with Child(forked(code), path) as process:
        process.expect("done")
        process.end()
    assert ids(path) == {"one", "two"}


def test_a_file_that_cannot_be_opened_after_a_fork_is_opened_later(path: Path) -> None:
    """Law 26: as where all descriptors are in use at that moment. What is asked meanwhile is refused."""
    code = """
    import resource
    from mini_workflow.stores.sqlite.connection import Connection

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    reopen = Connection.reopen

    def without_descriptors(connection):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        reopen(connection)

    with LocalRuntime(path) as runtime, LocalClient(path) as client:
        runtime.start_execution(flows.steps, 1, id="one").result(60)
        runtime.list_executions()  # imports what it needs
        Connection.reopen = without_descriptors
        well(in_child(lambda: None))
        for one in (runtime, client):
            try:
                one.list_executions()
            except StoreUnavailable as error:
                assert "unable to open database file; Too many open files" in str(error), error
                assert "ulimit -n" in str(error), error
            else:
                raise AssertionError("not refused")
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        runtime.start_execution(flows.steps, 1, id="two").result(60)
        client.start_execution(flows.steps, 1, id="three").result(60)
    say("done")
    """
    with Child(forked(code), path) as process:
        process.expect("done")
        process.end()
    assert ids(path) == {"one", "two", "three"}


def test_a_file_that_is_away_during_a_fork_is_used_once_it_is_back(path: Path) -> None:
    code = """
    with LocalRuntime(path) as runtime:
        runtime.start_execution(flows.steps, 1, id="one").result(60)
        os.rename(path, path + "-away")
        well(in_child(lambda: None))
        try:
            runtime.start_execution(flows.steps, 1, id="refused")
        except StoreUnavailable as error:
            assert "was deleted or replaced" in str(error), error
        else:
            raise AssertionError("not refused")
        os.rename(path + "-away", path)
        runtime.start_execution(flows.steps, 1, id="two").result(60)
    say("done")
    """
    with Child(forked(code), path) as process:
        process.expect("done")
        process.end()
    assert ids(path) == {"one", "two"}


# Everything that opens the file


def is_locked(path: Path) -> bool:
    """Whether another process finds the file in use: only an unused one can leave WAL mode."""
    code = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0)
try:
    connection.execute("PRAGMA journal_mode = DELETE")
except sqlite3.OperationalError as error:
    assert "locked" in str(error), error
    print("locked")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    return done.stdout == "locked\n"


def run_command(*words: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        with pytest.raises(SystemExit):
            cli.main(["--backend", f"sqlite:{path}", *words])

    return run


def refused(path: Path) -> None:
    """An opening that fails, of a file that cannot be used as it is."""
    with pytest.raises((StoreUnavailable, StoreCorrupt)):
        LocalClient(path.parent / "none" / "state.db")
    with closing(sqlite3.connect(path.parent / "other.db")) as other:
        other.execute("CREATE TABLE notes (text)")
    with pytest.raises(StoreCorrupt):
        LocalRuntime(path.parent / "other.db")


DOORS: dict[str, Callable[[Path], object]] = {
    "runtime": lambda path: LocalRuntime(path).close(),
    "client": lambda path: LocalClient(path).close(),
    "read-only client": lambda path: LocalClient(path, read_only=True).close(),
    "refused": refused,
    "ls": run_command("ls"),
    "get": run_command("get", "one"),
    "result": run_command("result", "one"),
    "doctor": run_command("doctor"),
    "backup": lambda path: run_command("backup", str(path.with_name("copy.db")))(path),
    "start": run_command("-m", "tests.unit.local.flows", "start", "steps", "n=1"),
}


@pytest.mark.parametrize("door", DOORS)
def test_nothing_drops_the_locks_of_the_process(path: Path, door: str) -> None:
    """Law 26: while a runtime has the file open, whatever else opens it in the same process, another
    process never takes it for unused.
    """
    with LocalRuntime(path) as runtime:
        runtime.start_execution(flows.steps, 1, id="one").result(WAIT)
        assert is_locked(path)
        DOORS[door](path)
        assert is_locked(path)
    assert not is_locked(path)


# The file itself


@pytest.mark.parametrize("by", ["its name", "a link"])
@pytest.mark.parametrize("change", ["deleted", "replaced", "log deleted", "index deleted"])
def test_a_file_that_is_not_there_any_more_acknowledges_nothing(
    path: Path, change: str, by: str
) -> None:
    """Law 26: a store that was deleted or replaced refuses, and names what to do."""
    beside = path.with_name("state.db-wal" if change == "log deleted" else "state.db-shm")
    opens = path
    if by == "a link":
        opens = path.with_name("link.db")
        LocalRuntime(path).close()
        opens.symlink_to(path)
    with LocalRuntime(opens) as runtime, LocalClient(opens) as client:
        runtime.start_execution(flows.asks, id="before")
        kept = path.with_name("kept.db")
        if change == "replaced":
            shutil.copy(path, kept)
            kept.rename(path)
        elif change == "deleted":
            path.rename(kept)
        else:
            beside.rename(kept)
        for opened in (runtime, client):
            with pytest.raises(StoreUnavailable, match=r"deleted or replaced .*open it again"):
                opened.start_execution(flows.steps, 1, id="after")
            with pytest.raises(StoreUnavailable, match="deleted or replaced"):
                opened.get_execution("before").signal("late")
        if change == "deleted":
            kept.rename(path)
        elif change != "replaced":
            kept.rename(beside)
        else:
            return
    assert "after" not in ids(path)


def test_processes_with_two_indexes_of_one_log_do_not_write_over_each_other(path: Path) -> None:
    """Law 26: whoever opens the file once its index is deleted makes a new one, and goes on alone."""
    first = """
    with LocalRuntime(path) as runtime:
        runtime.start_execution(flows.steps, 1, id="before").result(60)
        os.unlink(path + "-shm")
        say("deleted")
        hear()
        for open_another in (False, True):
            try:
                if open_another:
                    LocalRuntime(path).start_execution(flows.steps, 1, id="after")
                runtime.start_execution(flows.steps, 1, id="after")
            except StoreUnavailable as error:
                assert "state.db-shm was deleted" in str(error), error
                assert "all processes" in str(error), error
            else:
                raise AssertionError("not refused")
    try:
        LocalRuntime(path)
    except StoreUnavailable:
        say("closed")
    hear()
    """
    second = """
    with LocalRuntime(path) as runtime:
        for number in range(20):
            runtime.start_execution(flows.steps, 1, id=f"other-{number}").result(60)
    say("done")
    """
    with Child(first, path) as old:
        old.expect("deleted")
        with Child(second, path) as new:
            new.expect("done")
            old.tell("go on")
            old.expect("closed")
            new.end()
        old.tell("end")
        old.end()
    assert ids(path) == {"before", *(f"other-{number}" for number in range(20))}


def test_what_was_acknowledged_before_is_there_once_the_file_is_back(path: Path) -> None:
    """Law 26: putting the file and its log back loses nothing."""
    names = ["state.db", "state.db-wal", "state.db-shm"]
    away = path.parent / "away"
    away.mkdir()
    code = """
    runtime = LocalRuntime(path)
    runtime.start_execution(flows.steps, 1, id="before").result(60)
    say("started")
    hear()
    try:
        runtime.start_execution(flows.steps, 1, id="after")
    except StoreUnavailable:
        say("refused")
    hear()
    """
    with Child(code, path) as process:
        process.expect("started")
        for name in names:
            (path.parent / name).rename(away / name)
        process.tell("go on")
        process.expect("refused")
    for name in names:
        (away / name).rename(path.parent / name)
    assert ids(path) == {"before"}


def test_a_new_file_is_for_its_owner_alone(path: Path) -> None:
    with LocalRuntime(path) as runtime:
        runtime.start_execution(flows.steps, 1).result(WAIT)
        modes = {found.name: found.stat().st_mode & 0o777 for found in path.parent.iterdir()}
    assert {"state.db", "state.db-wal", "state.db-shm"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_file_keeps_the_mode_that_it_has(path: Path) -> None:
    LocalRuntime(path).close()
    path.chmod(0o660)
    with LocalRuntime(path) as runtime:
        runtime.start_execution(flows.steps, 1).result(WAIT)
        modes = {found.stat().st_mode & 0o777 for found in path.parent.iterdir()}
    assert modes == {0o660}


# Law 26: a process that is paused for longer than its lease loses nothing, and goes on


def losing(path: Path, times: int) -> Callable[..., bool]:
    """`acquire`, after which another process takes the lease away, as if this one were paused."""
    acquire = SQLiteLeases.acquire
    left = [times]

    def acquire_and_lose(self: SQLiteLeases, *arguments: Any) -> bool:
        found = acquire(self, *arguments)
        if left[0]:
            left[0] -= 1
            with sqlite3.connect(path) as other:
                other.execute("UPDATE partitions SET owner = NULL")
                other.execute("DELETE FROM owners")
            other.close()
        return found

    return acquire_and_lose


@pytest.mark.parametrize("times", [1, 3])
def test_an_opening_that_was_paused_begins_anew(
    path: Path, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalClient(path) as client:
        client.start_execution(flows.steps, 1, id="before")
    monkeypatch.setattr(SQLiteLeases, "acquire", losing(path, times))
    with LocalRuntime(path) as runtime:
        runtime.get_execution("before").result(WAIT)
        runtime.start_execution(flows.steps, 1, id="after").result(WAIT)


def test_an_opening_that_never_keeps_its_lease_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LocalRuntime(path).close()
    monkeypatch.setattr(SQLiteLeases, "acquire", losing(path, 1_000))
    with pytest.raises(LeaseLost):
        LocalRuntime(path)


def test_a_client_that_was_paused_starts_what_it_was_asked_to_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalClient(path) as client:
        monkeypatch.setattr(SQLiteLeases, "acquire", losing(path, 1))
        client.start_execution(flows.steps, 1, id="one")
        assert [execution.id for execution in client.list_executions()] == ["one"]
    monkeypatch.undo()
    with LocalRuntime(path) as runtime:
        runtime.get_execution("one").result(WAIT)
