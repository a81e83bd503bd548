"""Several processes on one SQLite file, and processes that die."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

import mini_workflow
from mini_workflow.errors import StoreUnavailable
from mini_workflow.ports import Query
from mini_workflow.stores.process import Process, elsewhere
from mini_workflow.stores.sqlite import SQLiteBackend, lock_holder
from mini_workflow.testing import ManualClock
from mini_workflow.testing.contracts.backend import create
from tests.waiting import WAIT

PRELUDE = """
import sys
from mini_workflow.stores.sqlite import SQLiteBackend, lock_holder
from mini_workflow.ports import Commit, QueuedMessage, Query
from mini_workflow.testing import ManualClock
from mini_workflow.testing.contracts.backend import create, creation

def say(*words):
    print(*words, flush=True)

path, name = sys.argv[1:]
clock = ManualClock()
"""


class Script:
    """A Python process that runs a script with the prelude, until the test ends."""

    def __init__(self, script: str, path: Path, name: str) -> None:
        package = Path(mini_workflow.__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + script, path, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(package)},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def rest(self, stdin: str = "") -> list[str]:
        """What it still has to say, once it has ended one way or another."""
        # Not by `communicate`, which reads the pipe itself: lines that `line` has read ahead would be lost.
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(stdin)
            self.process.stdin.close()
        out = self.process.stdout.read()
        assert self.process.stderr.read() == ""
        self.process.wait(WAIT)
        return out.splitlines()

    def close(self) -> None:
        with self.process as process:
            process.kill()


class Scripts:
    def __init__(self) -> None:
        self._scripts: list[Script] = []

    def __call__(self, script: str, path: Path, name: str = "other") -> Script:
        self._scripts.append(Script(script, path, name))
        return self._scripts[-1]

    def close(self) -> None:
        for script in self._scripts:
            script.close()


@pytest.fixture
def run() -> Iterator[Scripts]:
    scripts = Scripts()
    yield scripts
    scripts.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


ENDLESS = """
backend = SQLiteBackend(path, owner=name, clock=clock)
backend.leases.acquire(clock.now())
names = [f"e{number}" for number in range(5)]
create(backend, *names)
length = 1
while True:
    message = QueuedMessage("e4", str(length), str(length))
    commits = [Commit(name, length, (str(length), str(length + 1))) for name in names[1:]]
    commits.insert(0, Commit("e0", length, (str(length), str(length + 1)), outbox=(message,)))
    assert all(backend.store.commit(commits))
    length += 2
    say(length)
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_process_killed_in_the_middle_of_committing(path: Path, run: Scripts, seed: int):
    script = run(ENDLESS, path)
    acknowledged = int(script.line())
    time.sleep(random.Random(seed).uniform(0, 0.1))
    script.process.send_signal(signal.SIGKILL)
    acknowledged = int([acknowledged, *script.rest()][-1])
    # No time passes here: on the same machine nobody waits for the lease of the dead.
    backend = SQLiteBackend(path, owner="two", clock=ManualClock())
    try:
        assert backend.leases.acquire(0)
        histories = [backend.store.history(f"e{number}") for number in range(5)]
        length = len(histories[0])
        # The last commit may have been written and not yet acknowledged.
        assert length in {acknowledged, acknowledged + 2}
        assert histories == [["started", *map(str, range(1, length))]] * 5
        entries = backend.mailbox.entries(0, length)
        assert [entry.body for entry in entries] == [str(n) for n in range(1, length, 2)]
    finally:
        backend.leases.release()
        backend.close()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.db"]


WAITING = """
backend = SQLiteBackend(path, owner=name, clock=clock)
backend.leases.acquire(clock.now())
create(backend, "a")
say("ready")
sys.stdin.read()
backend.close()
"""


def test_the_dead_are_known_before_their_parent_has_looked(path: Path, run: Scripts):
    script = run(WAITING, path)
    assert script.line() == "ready"
    backend = SQLiteBackend(path, owner="two", clock=ManualClock())
    try:
        assert not backend.leases.acquire(0)
        assert backend.store.load("a") is not None
        script.process.send_signal(signal.SIGKILL)
        # Wait without burying: what is left is a zombie, whose number is still taken.
        os.waitid(os.P_PID, script.process.pid, os.WEXITED | os.WNOWAIT)
        assert backend.leases.acquire(0)
    finally:
        backend.close()


def test_the_living_are_left_alone_by_other_processes(path: Path, run: Scripts):
    clock = ManualClock()
    backend = SQLiteBackend(path, owner="one", address="here", clock=clock)
    try:
        backend.leases.acquire(0)
        create(backend, "a")
        script = """
backend = SQLiteBackend(path, owner=name, clock=clock)
say(backend.leases.acquire(clock.now()), backend.leases.peers())
say(backend.store.commit([Commit("a", 1, ("stolen",)), creation("b")]))
backend.mailbox.post("a", "message", "key")
backend.close()
"""
        assert run(script, path).rest() == ["False ['here']", "[False, True]"]
        assert [entry.body for entry in backend.mailbox.entries(0, 10)] == ["message"]
        assert backend.leases.acquire(0)
        stored = backend.store.load("b")
        assert stored is not None
        assert stored.held
        assert backend.store.history("a") == ["started"]
    finally:
        backend.close()


BUSY = """
backend = SQLiteBackend(path, owner=name, clock=clock)
backend.leases.acquire(clock.now())
create(backend, name)
say("ready")
other = sys.stdin.readline().strip()
for length in range(1, 151):
    assert backend.store.commit([Commit(name, length, (str(length),))]) == [True]
    if length % 10 == 0:
        backend.mailbox.post(other, f"{length:03}", f"{name} {length}")
        backend.leases.renew(clock.now())
say("done")
sys.stdin.read()
messages = backend.mailbox.entries(0, 100)
say(*(message.body for message in messages))
taken = tuple(message.number for message in messages)
assert backend.store.commit([Commit(name, 151, taken=taken)]) == [True]
backend.leases.release()
backend.close()
"""


def test_two_processes_write_to_one_file_at_once(path: Path, run: Scripts):
    scripts = [run(BUSY, path, name) for name in ("one", "two")]
    for script in scripts:
        assert script.line() == "ready"
    for script, other in zip(scripts, ("two", "one"), strict=True):
        assert script.process.stdin is not None
        script.process.stdin.write(f"{other}\n")
        script.process.stdin.flush()
    for script in scripts:
        assert script.line() == "done"
    for script in scripts:
        assert script.rest() == [" ".join(f"{length:03}" for length in range(10, 151, 10))]
    backend = SQLiteBackend(path, owner="three", clock=ManualClock())
    try:
        for name in ("one", "two"):
            assert backend.store.history(name) == ["started", *map(str, range(1, 151))]
    finally:
        backend.close()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.db"]


OPENING = """
say("ready")
sys.stdin.readline()
backend = SQLiteBackend(path, owner=name, clock=clock)
backend.leases.acquire(clock.now())
create(backend, name)
backend.leases.release()
backend.close()
"""


def test_several_processes_create_the_file_at_once(path: Path, run: Scripts):
    scripts = [run(OPENING, path, f"e{number}") for number in range(4)]
    for script in scripts:
        assert script.line() == "ready"
    for script in scripts:
        assert script.process.stdin is not None
        script.process.stdin.write("go\n")
        script.process.stdin.flush()
    for script in scripts:
        assert script.rest() == []
        assert script.process.returncode == 0
    backend = SQLiteBackend(path, owner="last", clock=ManualClock())
    try:
        found = {head.execution_id for head in backend.store.list(Query()).heads}
        assert found == {"e0", "e1", "e2", "e3"}
    finally:
        backend.close()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that other users can enter, unlike those that pytest makes."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


UNPRIVILEGED = """
import os
from mini_workflow.errors import StoreUnavailable

if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    SQLiteBackend(path, owner=name, clock=clock)
except StoreUnavailable as error:
    say(error)
"""


def test_a_directory_without_permission(reachable: Path, run: Scripts):
    reachable.chmod(0o555)
    (message,) = run(UNPRIVILEGED, reachable / "state.db").rest()
    assert message.startswith(f"cannot open {reachable / 'state.db'}: the directory {reachable}")
    assert "permissions" in message


@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_file_without_permission(reachable: Path, run: Scripts, mode: int):
    path = reachable / "state.db"
    SQLiteBackend(path, owner="one", clock=ManualClock()).close()
    reachable.chmod(0o777)
    path.chmod(mode)
    before = path.stat().st_mtime_ns
    (message,) = run(UNPRIVILEGED, path).rest()
    assert message.startswith(f"cannot open {path}: the file is not readable and writable")
    assert "permissions" in message
    assert path.stat().st_mtime_ns == before
    assert [entry.name for entry in reachable.iterdir()] == ["state.db"]


def test_a_directory_that_cannot_be_entered(reachable: Path, run: Scripts):
    inner = reachable / "inner"
    inner.mkdir()
    inner.chmod(0o000)
    for path in (inner / "state.db", inner / "deeper" / "state.db"):
        (message,) = run(UNPRIVILEGED, path).rest()
        assert message.startswith(f"cannot open {path}: ")
    inner.chmod(0o755)


def test_which_processes_are_certainly_dead():
    current = Process.current()
    assert not current.is_dead()
    assert not Process(current.host, current.pid, "").is_dead()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    assert Process(current.host, ended.pid, "").is_dead()
    # Of another machine, or another boot of this one, nothing is certain.
    assert not Process("elsewhere", ended.pid, "").is_dead()
    assert elsewhere("elsewhere")
    assert not elsewhere(current.host)
    # Containers of one machine have other names and process numbers.
    name, *boot = current.host.split(" ")
    assert elsewhere(f"other {' '.join(boot)}") is (not boot)
    assert elsewhere(f"{name} another-boot pid:[1]")


@pytest.mark.xfail(
    not Process.current().born, reason="this system does not tell when a process began", run=False
)
def test_a_number_that_was_given_to_another_process():
    current = Process.current()
    assert Process(current.host, current.pid, "1").is_dead()


HOLDER = """
import sqlite3

connection = sqlite3.connect(path, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
say("holds")
sys.stdin.read()
connection.close()
"""


def test_the_process_that_keeps_the_write_lock_is_named(run: Scripts, tmp_path: Path):
    path = tmp_path / "state.db"
    with closing(SQLiteBackend(path, owner="one", clock=ManualClock(), patience=0.05)) as one:
        one.leases.acquire(0)
        create(one, "a")
        held = run(HOLDER, path)
        assert held.line() == "holds"
        pid = held.process.pid
        listed = Path("/proc/locks").exists()  # where it is not, nobody tells

        with pytest.raises(StoreUnavailable) as running:
            one.mailbox.post("a", "message", "key")
        assert (f"0.05 s by process {pid}: find out why" in str(running.value)) is listed

        held.process.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        with pytest.raises(StoreUnavailable) as stopped:
            one.mailbox.post("a", "message", "key")
        remedy = f"by process {pid}, which is stopped: continue it (kill -CONT {pid})"
        assert (remedy in str(stopped.value)) is listed
        assert listed or "find the one that keeps a transaction open" in str(stopped.value)

        held.process.send_signal(signal.SIGCONT)
        assert held.rest() == []
        one.mailbox.post("a", "message", "key")


def test_a_transaction_of_this_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, table = tmp_path / "state.db", tmp_path / "locks"
    shared = Path(f"{path}-shm")
    shared.touch()
    device = shared.stat()
    place = f"{os.major(device.st_dev):02x}:{os.minor(device.st_dev):02x}:{device.st_ino}"
    monkeypatch.setattr(lock_holder, "_LOCKS", table)
    assert lock_holder.describe(path).startswith("by another process")
    for pid, kind, first in ((7, "READ ", 120), (8, "WRITE", 123), (0, "WRITE", 120)):
        table.write_text(f"1: POSIX  ADVISORY  {kind} {pid} {place} {first} {first}\n")
        assert lock_holder.find(path) is None
    table.write_text(f"9: POSIX  ADVISORY  WRITE {os.getpid()} {place} 120 120\n")
    assert lock_holder.describe(path).startswith("by this process: find the thread")
