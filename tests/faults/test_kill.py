"""kill -9 at any moment: nothing that was acknowledged is lost, nothing completed is repeated."""

import os
import random
import re
from collections import defaultdict
from pathlib import Path

import pytest

from mini_workflow import LocalRuntime, WorkerLost
from mini_workflow.core import events
from tests.unit.local import flows
from tests.unit.local.child import Child, wait_until_gone
from tests.waiting import WAIT

STEPS = int(os.environ.get("MINI_WORKFLOW_KILL_STEPS", "600"))
KILLS = int(os.environ.get("MINI_WORKFLOW_KILLS", "10"))

LONG = """
    say("opening")
    ledger, steps, workers = arguments
    with LocalRuntime(path, workers=int(workers)) as runtime:
        execution = runtime.start_execution(flows.spoken, ledger, int(steps), id="long")
        say(f"result {execution.result()}")
"""


@pytest.mark.parametrize(
    ("workers", "steps", "kills"), [(0, STEPS, KILLS), (1, STEPS // 10, KILLS // 2)]
)
def test_a_long_execution_killed_many_times(
    path: Path, tmp_path: Path, workers: int, steps: int, kills: int
) -> None:
    ledger = tmp_path / "ledger"
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    interrupted = 0
    for number in range(kills):
        with Child(LONG, path, ledger, steps, workers) as child:
            child.expect("opening")
            word = "opening"
            # Some while it opens the file, the others after some steps; on average there are
            # steps left for the last process.
            if number % 5:
                for _ in range(chance.randint(1, 2 * (steps * 9 // 10) // kills)):
                    word = child.hear()
                    if word != "step":
                        break
            child.kill()
            interrupted += word == "step"
    assert interrupted >= kills // 3
    with Child(LONG, path, ledger, steps, workers) as child:
        while (word := child.hear()) in ("opening", "step"):
            pass
        assert word == f"result {steps * (steps - 1) // 2}"
        child.end()
    attempts: dict[int, list[int]] = defaultdict(list)
    for line in flows.lines(ledger):
        key, attempt, *_ = line.split()
        attempts[int(key.removeprefix("long:"))].append(int(attempt))
    with LocalRuntime(path) as runtime:
        history = list(runtime.get_execution("long").history())
    completed = [event for event in history if isinstance(event, events.TaskCompleted)]
    assert [event.seq for event in completed] == list(range(1, steps + 1)) == sorted(attempts)
    for event in completed:
        # Each attempt ran once, and none after the one whose result was recorded.
        made = attempts[event.seq]
        assert len(made) == len(set(made))
        assert max(made) == event.attempt
    lost = sum(event.attempt - 1 for event in completed)
    assert lost <= kills
    assert sum(map(len, attempts.values())) <= steps + lost


def test_killed_while_asleep(path: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    code = """
        with LocalRuntime(path) as runtime:
            runtime.start_execution(flows.naps, arguments[0], 3, 0.2, id="one")
            say("asleep")
            hear()
    """
    with Child(code, path, ledger) as child:
        child.expect("asleep")
        child.kill()
    with LocalRuntime(path) as runtime:
        execution = runtime.get_execution("one")
        assert execution.describe().next_wake_at is not None
        assert execution.result(WAIT) == 3
        history = list(execution.history())
    assert [line.split()[-1] for line in flows.lines(ledger)] == ["0", "1", "2"]
    for started, fired in zip(
        [event for event in history if isinstance(event, events.TimerStarted)],
        [event for event in history if isinstance(event, events.TimerFired)],
        strict=True,
    ):
        assert fired.at >= started.fire_at


def test_killed_while_a_task_runs(path: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    code = """
        with LocalRuntime(path) as runtime:
            runtime.start_execution(flows.hangs_once, arguments[0], id="one").result()
    """
    with Child(code, path, ledger) as child:
        child.expect("attempt 1")
        child.kill()
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("one").result(WAIT) == 2
    assert flows.lines(ledger) == ["one:1 1", "one:1 2"]


def test_killed_with_one_attempt_only(path: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    code = """
        with LocalRuntime(path) as runtime:
            runtime.start_execution(flows.hangs_once, arguments[0], 1, id="one").result()
    """
    with Child(code, path, ledger) as child:
        child.expect("attempt 1")
        child.kill()
    with LocalRuntime(path) as runtime, pytest.raises(WorkerLost, match="attempt 1"):
        runtime.get_execution("one").result(WAIT)
    assert flows.lines(ledger) == ["one:1 1"]


@pytest.mark.parametrize("last", ["succeeds", "fails"])
def test_attempts_are_durable(path: Path, tmp_path: Path, last: str) -> None:
    ledger = tmp_path / "ledger"
    code = """
        with LocalRuntime(path) as runtime:
            runtime.start_execution(flows.exhausts, *arguments, id="one").result()
    """
    with Child(code, path, ledger, last) as child:
        child.expect("attempt 1", "attempt 2", "attempt 3", "attempt 4")
        child.kill()
    with LocalRuntime(path) as runtime:
        execution = runtime.get_execution("one")
        if last == "succeeds":
            assert execution.result(WAIT) == 5
        else:
            with pytest.raises(ConnectionError, match="attempt 5") as e:
                execution.result(WAIT)
            assert "5 attempts" in str(e.value.__notes__)
    assert flows.lines(ledger) == [f"one:1 {attempt}" for attempt in range(1, 6)]


def test_killed_between_two_attempts(path: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    code = """
        from mini_workflow.core import events
        runtime = LocalRuntime(path)
        execution = runtime.start_execution(flows.retried, arguments[0], 0.3, id="one")
        hear()
        history = list(execution.history())
        say(str(sum(isinstance(event, events.TaskRetryScheduled) for event in history)))
        hear()
    """
    with Child(code, path, ledger) as child:
        child.expect("attempt 1", "attempt 2")
        child.tell("go on")
        assert int(child.hear()) in (1, 2)
        child.kill()
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("one").result(WAIT) == 5
    attempts = [int(line.split()[1]) for line in flows.lines(ledger)]
    assert attempts == [1, 2, 3, 4, 5]


def test_killed_while_closing(path: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    code = """
        runtime = LocalRuntime(path, threads=1)
        runtime.start_execution(flows.hangs_once, arguments[0], id="begun")
        hear()
        for number in range(10):
            runtime.start_execution(flows.recorded, arguments[0], 1, id=f"waits-{number}")
        closing = threading.Thread(target=runtime.close)
        closing.start()
        say("closing")
        closing.join()
    """
    with Child(code, path, ledger) as child:
        child.expect("attempt 1")
        child.tell("close")
        child.expect("closing")
        child.kill()
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("begun").result(WAIT) == 2
        for number in range(10):
            assert runtime.get_execution(f"waits-{number}").result(WAIT) == 0
    ran = flows.lines(ledger)
    assert len(set(ran)) == len(ran) == 12


class TestWorkers:
    def test_a_dead_worker_costs_an_attempt(self, path: Path, tmp_path: Path) -> None:
        ledger = str(tmp_path / "ledger")
        with LocalRuntime(path, workers=1) as runtime:
            execution = runtime.start_execution(flows.deadly, ledger, 2, 3, id="one")
            assert execution.result(WAIT) == 3
        assert flows.lines(ledger) == ["one:1 1", "one:1 2", "one:1 3"]

    def test_no_attempt_left(self, path: Path, tmp_path: Path) -> None:
        ledger = str(tmp_path / "ledger")
        with LocalRuntime(path, workers=1) as runtime:
            execution = runtime.start_execution(flows.deadly, ledger, 9, 1, id="one")
            with pytest.raises(WorkerLost, match=r"attempt 1 .*SIGKILL"):
                execution.result(WAIT)
            assert runtime.start_execution(flows.steps, 3).result(WAIT) == 3
        assert flows.lines(ledger) == ["one:1 1"]

    def test_they_end_with_their_engine(self, path: Path, tmp_path: Path) -> None:
        code = """
            with LocalRuntime(path, workers=2) as runtime:
                say(str(runtime.start_execution(flows.where).result()))
                runtime.start_execution(flows.hangs_once, arguments[0], id="one").result()
        """
        with Child(code, path, tmp_path / "ledger") as child:
            worker = int(child.hear())
            assert worker != child.pid
            child.kill()
            wait_until_gone(worker)

    def test_everything_else_is_as_with_threads(self, path: Path) -> None:
        with LocalRuntime(path, workers=2) as runtime:
            assert runtime.start_execution(flows.steps, 20).result(WAIT) == 190
            assert runtime.start_execution(flows.where).result(WAIT) != os.getpid()
            assert runtime.start_execution(flows.where, True).result(WAIT) != os.getpid()
            value = {"a": (1, {2}), 3: b"x"}
            assert runtime.start_execution(flows.echo, value, by="task").result(WAIT) == value
            with pytest.raises(ZeroDivisionError) as e:
                runtime.start_execution(flows.fails, "task").result(WAIT)
            assert re.search("in divide", str(e.value.__cause__))
