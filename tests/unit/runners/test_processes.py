"""What worker processes are for: what dies in them, and what becomes of them."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.errors import SignatureInvalid, TaskError, TaskTimeout, UsageError, WorkerLost
from mini_workflow.ports import TaskOutcome, TaskRequest
from mini_workflow.runners.processes import ProcessRunner, WorkerConfig
from mini_workflow.runners.processes.slot import KILL_GRACE, SentAttempt, Slot
from mini_workflow.testing.contracts import runner_tasks as tasks
from mini_workflow.testing.contracts.runner_tasks import Gate
from tests.contracts import worker_code
from tests.contracts.worker_code import CODEC
from tests.paths import ROOT
from tests.waiting import WAIT, eventually

KEY = b"a key for tests only, nothing else"


class Workers:
    """A runner and its reports, read as values and exceptions."""

    def __init__(self, factory: Callable[[], WorkerConfig], workers: int) -> None:
        self.outcomes: SimpleQueue[TaskOutcome] = SimpleQueue()
        self.runner = ProcessRunner(factory, self.outcomes.put, workers=workers)
        self.submitted = 0

    def submit(
        self, function: Callable[..., Any], *args: object, timeout: int | None = None
    ) -> int:
        self.submitted += 1
        is_async = function.__name__.endswith("_async")
        payload = CODEC.capture(function, args, {})
        self.runner.submit(TaskRequest("e", self.submitted, 1, "work", payload, timeout, is_async))
        return self.submitted

    def next(self) -> Any:
        return self.read(self.outcomes.get(timeout=WAIT))

    def all(self) -> dict[int, Any]:
        outcomes = [self.outcomes.get(timeout=WAIT) for _ in range(self.submitted)]
        assert len({outcome.seq for outcome in outcomes}) == self.submitted
        return {outcome.seq: self.read(outcome) for outcome in outcomes}

    def read(self, outcome: TaskOutcome) -> Any:
        if outcome.failure is not None:
            return CODEC.decode_failure(Failure.from_plain(outcome.failure))
        return CODEC.decode(Payload(text=outcome.result))


Make = Callable[..., Workers]


@pytest.fixture(name="make")
def _make() -> Iterator[Make]:
    made: list[Workers] = []

    def make(workers: int = 1, factory: Callable[[], WorkerConfig] | None = None) -> Workers:
        made.append(Workers(factory or partial(worker_code.make, KEY), workers))
        return made[-1]

    yield make
    for one in made:
        one.runner.close(0.0)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def die_when_open(gate: Gate) -> None:
    tasks.hold(gate)
    os._exit(3)


class TestWorkersThatDie:
    def test_a_task_that_exits_is_lost_and_the_worker_replaced(self, make: Make) -> None:
        workers = make()
        workers.submit(os.getpid)
        first = workers.next()
        workers.submit(os._exit, 3)
        error = workers.next()
        assert isinstance(error, WorkerLost)
        assert "'work'" in str(error)
        assert str(first) in str(error)
        assert "code 3" in str(error)
        workers.submit(os.getpid)
        assert workers.next() != first

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
    def test_a_signal_is_named(self, make: Make, number: signal.Signals) -> None:
        workers = make()
        workers.submit(kill_self, int(number))
        error = workers.next()
        assert isinstance(error, WorkerLost)
        assert number.name in str(error)

    def test_only_what_had_begun_there_is_lost(self, make: Make, tmp_path: Path) -> None:
        workers, gate = make(), Gate(tmp_path)
        dying = workers.submit(die_when_open, gate)
        Gate.wait(gate.begun)
        for number in range(20):
            workers.submit(tasks.echo, number)
        gate.open()
        results = workers.all()
        assert isinstance(results.pop(dying), WorkerLost)
        assert sorted(results.values()) == list(range(20))

    def test_async_attempts_are_lost_with_their_worker(self, make: Make, tmp_path: Path) -> None:
        workers, gate, held = make(), Gate(tmp_path), Gate(tmp_path, "held")
        workers.submit(tasks.hold_async, held)
        Gate.wait(held.begun)
        workers.submit(die_when_open, gate)
        gate.open()
        assert all(isinstance(error, WorkerLost) for error in workers.all().values())

    def test_an_idle_worker_that_is_killed_is_replaced(self, make: Make) -> None:
        workers = make()
        workers.submit(os.getpid)
        os.kill(workers.next(), signal.SIGKILL)
        # The first may still have reached the one that was dying.
        workers.submit(os.getpid)
        assert isinstance(workers.next(), (int, WorkerLost))
        workers.submit(os.getpid)
        assert isinstance(workers.next(), int)

    def test_a_process_forked_by_a_task_does_not_hide_the_death(
        self, make: Make, tmp_path: Path
    ) -> None:
        workers, gate = make(), Gate(tmp_path)
        workers.submit(fork_and_die, gate)
        assert isinstance(workers.next(), WorkerLost)
        gate.open()

    def test_a_timeout_takes_the_worker(self, make: Make, tmp_path: Path) -> None:
        workers, gate = make(), Gate(tmp_path)
        workers.submit(os.getpid)
        first = workers.next()
        workers.submit(tasks.hold_on, gate, timeout=50)
        assert isinstance(workers.next(), TaskTimeout)
        workers.submit(os.getpid)
        assert workers.next() != first

    def test_what_is_async_behind_a_lambda_does_not_take_it(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It has as long for its cleanup as an async function has, however slow the worker is."""
        monkeypatch.setattr("mini_workflow.runners.processes.slot.CLEANUP_GRACE", WAIT)
        workers, gate, other = make(), Gate(tmp_path), Gate(tmp_path, "other")
        workers.submit(lambda: [os.getpid()])  # the worker imports this module
        [first] = workers.next()
        workers.submit(lambda: tasks.hold_cleanup_async(gate), timeout=1_000)
        workers.submit(tasks.hold_async, other)
        Gate.wait(gate.begun)
        time.sleep(3 * KILL_GRACE)  # a worker that is not killed cannot be waited for
        gate.open()
        assert isinstance(workers.next(), TaskTimeout)
        other.open()
        assert workers.next() == "held"
        workers.submit(os.getpid)
        assert workers.next() == first


def fork_and_die(gate: Gate) -> None:
    if os.fork() == 0:
        tasks.hold_on(gate)
    os._exit(1)


async def cancel_all_async() -> None:
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.Event().wait()


async def block_async(gate: Gate) -> str:
    gate.begun.touch()
    while not gate.opened.exists():
        time.sleep(0.001)
    return "held"


class TestTheLoopOfAWorker:
    def test_what_a_task_cancels_is_lost(self, make: Make, tmp_path: Path) -> None:
        """An attempt that nobody of the engine has cancelled, and the worker lives on."""
        workers, gate = make(), Gate(tmp_path)
        workers.submit(tasks.hold_async, gate)
        Gate.wait(gate.begun)
        workers.submit(cancel_all_async)
        assert [type(error) for error in workers.all().values()] == [WorkerLost, WorkerLost]
        workers.submit(tasks.call_async, int)
        assert workers.next() == 0

    def test_a_task_that_blocks_it_is_named_in_the_log_of_the_engine(
        self, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        workers, gate = make(), Gate(tmp_path)
        workers.submit(block_async, gate)
        # On a machine that is busy, the imports of this module block it too.
        eventually(lambda: [text for text in caplog.messages if "in block_async" in text])
        gate.open()
        assert workers.next() == "held"
        said = caplog.messages[-1]
        assert "worker process" in said
        assert "async task 'work' of execution 'e' blocks it" in said


class TestTrust:
    def test_a_worker_refuses_what_the_engine_did_not_seal(self, make: Make) -> None:
        workers = make(factory=partial(worker_code.make_with_two_keys, os.getpid()))
        workers.submit(tasks.echo, 1)
        # The worker's answer is not trusted either.
        assert isinstance(workers.next(), SignatureInvalid)

    @pytest.mark.parametrize("task", [tasks.echo, tasks.call_async])
    def test_an_engine_refuses_what_a_worker_did_not_seal(
        self, make: Make, task: Callable[..., Any]
    ) -> None:
        workers = make(factory=partial(worker_code.make_with_deaf_engine, os.getpid()))
        workers.submit(task, int)
        assert isinstance(workers.next(), SignatureInvalid)

    def test_an_engine_refuses_a_heartbeat_that_the_worker_did_not_seal(
        self, make: Make, tmp_path: Path
    ) -> None:
        workers = make(factory=partial(worker_code.make_with_deaf_engine, os.getpid()))
        workers.submit(tasks.beat_and_hold, "details", Gate(tmp_path))
        error = workers.next()
        assert isinstance(error, WorkerLost)
        assert "cannot be read" in str(error)

    def test_equipment_that_raises_is_a_failure_of_the_attempt(self, make: Make) -> None:
        workers = make(factory=worker_code.make_with_broken_execute)
        workers.submit(tasks.echo, 1)
        workers.submit(tasks.call_async, int)
        for error in workers.all().values():
            assert isinstance(error, TaskError)
            assert "execute is broken" in str(error)


class TestStart:
    def test_nothing_runs_before_the_first_attempt(self, make: Make) -> None:
        workers = make()
        assert multiprocessing.active_children() == []
        assert workers.runner.close(0.0) == []

    def test_all_workers_can_be_started_before(self, make: Make, tmp_path: Path) -> None:
        workers = make(workers=2)
        workers.runner.start()
        gates = [Gate(tmp_path, name) for name in "ab"]
        for gate in gates:
            workers.submit(tasks.hold, gate)
        for gate in gates:
            Gate.wait(gate.begun)
        for gate in gates:
            gate.open()
        assert set(workers.all().values()) == {"held"}

    def test_workers_that_cannot_start_are_a_clear_failure(
        self, make: Make, capfd: pytest.CaptureFixture[str]
    ) -> None:
        workers = make(workers=2, factory=partial(worker_code.make_only_in, os.getpid()))
        workers.submit(tasks.echo, 1)
        workers.submit(tasks.echo, 2)
        for error in workers.all().values():
            assert isinstance(error, WorkerLost)
            assert "the workers lack something" in str(error)
        assert "the workers lack something" in capfd.readouterr().err

    def test_equipment_that_cannot_be_pickled_is_a_clear_failure(self, make: Make) -> None:
        workers = make(factory=lambda: worker_code.make(KEY))
        workers.submit(tasks.echo, 1)
        error = workers.next()
        assert isinstance(error, WorkerLost)
        assert "pickle" in str(error)

    @pytest.mark.parametrize("bound", [{"workers": 0}, {"async_per_worker": 0}])
    def test_bounds_are_checked(self, bound: dict[str, int]) -> None:
        with pytest.raises(UsageError, match=next(iter(bound))):
            ProcessRunner(partial(worker_code.make, KEY), print, **bound)

    def test_closing_while_workers_start(self, make: Make) -> None:
        workers = make(workers=2)
        workers.submit(tasks.echo, 1)
        returned: list[TaskRequest] = []
        closing = threading.Thread(target=lambda: returned.extend(workers.runner.close(10 * WAIT)))
        closing.start()
        closing.join(WAIT)
        assert [request.seq for request in returned] == [1]


PRELUDE = """
import os, sys, time
from functools import partial
from queue import SimpleQueue
from mini_workflow.runners.processes import ProcessRunner
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.ports import TaskRequest
from tests.contracts.worker_code import CODEC, make

FACTOR = 3

class Point:
    def __init__(self, x):
        self.x = x

def helper(point):
    return Point(point.x * FACTOR)

def run(function, *args):
    outcomes = SimpleQueue()
    runner = ProcessRunner(partial(make, b"k" * 32), outcomes.put, workers=1)
    payload = CODEC.capture(function, args, {})
    runner.submit(TaskRequest("e", 1, 1, "t", payload))
    outcome = outcomes.get(timeout=60)
    if "close" in sys.argv:
        runner.close(1.0)
    if outcome.failure is not None:
        return CODEC.decode_failure(Failure.from_plain(outcome.failure))
    return CODEC.decode(Payload(text=outcome.result))
"""


WORKFLOW_IN_MAIN = """
from mini_workflow import workflow

@workflow
async def shop(ctx):
    pass
"""


def python(
    *args: str, stdin: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.run(
        [sys.executable, "-W", "error", *args],
        input=stdin,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )


class TestMainScripts:
    GUARDED = (
        PRELUDE + "\nif __name__ == '__main__':\n    print(type(x := run(helper, Point(4))), x.x)"
    )

    @pytest.mark.parametrize("close", [["close"], []])
    def test_what_a_script_defines_works_in_its_workers(
        self, tmp_path: Path, close: list[str]
    ) -> None:
        script = tmp_path / "script.py"
        script.write_text(self.GUARDED)
        done = python(str(script), *close)
        assert (done.stdout, done.stderr) == ("<class '__main__.Point'> 12\n", "")
        assert done.returncode == 0

    def test_a_script_without_a_guard_fails_and_says_so(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(PRELUDE + "\nprint('ran')\nprint(repr(run(len, 'abc')))")
        done = python(str(script), "close")
        assert done.stdout.count("WorkerLost") == 1
        assert "__name__ == '__main__'" in done.stdout
        assert "worker processes cannot be started while one is starting" in done.stderr
        # The script itself, and each worker that was tried.
        assert done.stdout.count("ran\n") <= 4

    def test_a_program_without_a_file(self) -> None:
        done = python("-c", PRELUDE + "\nprint(run(lambda: 6))")
        assert (done.stdout, done.stderr) == ("6\n", "")

    @pytest.mark.parametrize("how", ["-c", "-m"])
    def test_workflows_that_a_worker_cannot_import_are_refused_at_once(
        self, how: str, tmp_path: Path
    ) -> None:
        program = PRELUDE + WORKFLOW_IN_MAIN + "\nprint(run(lambda: 6))"
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "__main__.py").write_text(program)
        command = ["-c", program] if how == "-c" else ["-m", "shop"]
        done = python(*command, cwd=tmp_path)
        assert done.returncode == 1
        assert "UsageError" in done.stderr
        assert f"runs as python {' '.join(command[:1] if how == '-c' else command)}" in done.stderr
        assert "workers=0" in done.stderr

    def test_a_program_from_standard_input_is_refused_at_once(self) -> None:
        done = python("-", stdin=PRELUDE + "\nprint(run(lambda: 6))")
        assert done.returncode == 1
        assert "UsageError" in done.stderr
        assert "Save the program in a file" in done.stderr

    def test_workers_end_when_their_engine_is_killed(self, tmp_path: Path) -> None:
        script, gate = tmp_path / "script.py", Gate(tmp_path)
        script.write_text(
            PRELUDE
            + f"""
from pathlib import Path
from mini_workflow.testing.contracts.runner_tasks import Gate, hold_on

def begin(path):
    Path(path).write_text(str(os.getpid()))
    hold_on(Gate(Path({str(tmp_path)!r})))

if __name__ == "__main__":
    run(begin, {str(tmp_path / "pid")!r})
"""
        )
        path = os.pathsep.join([str(ROOT), *sys.path])
        with subprocess.Popen(
            [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": path}
        ) as engine:
            try:
                Gate.wait(gate.begun)
                worker = int((tmp_path / "pid").read_text())
            finally:
                engine.kill()
        ends_at = time.monotonic() + WAIT
        while is_alive(worker):
            assert time.monotonic() < ends_at, "the worker has outlived its engine"
            time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # A process that has ended and that nobody has waited for is not alive.
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


class Gone:
    """A worker process that has died, and that nothing reaches any more."""

    pid = 1

    def send_aside(self, _data: bytes) -> None:
        pass

    def end(self) -> str:
        return "worker process 1 exited with code 1"


def test_an_attempt_that_did_not_reach_its_worker_is_handed_back_at_the_end() -> None:
    reported: list[TaskOutcome] = []
    runner = ProcessRunner(partial(worker_code.make, KEY), reported.append, workers=1)
    slot = Slot(Gone())  # type: ignore[arg-type]
    attempts = [SentAttempt(TaskRequest("e", seq, 1, "work", b"", None, True)) for seq in (1, 2)]
    with runner._lock:
        for attempt in attempts:
            runner._attempts.take(attempt)
            runner._assign(slot, attempt)
    attempts[0].sent = True
    runner.prepare_close()
    runner._bury(slot)
    assert [outcome.seq for outcome in reported] == [1]
    assert runner.close(0.0) == [attempts[1].request]
