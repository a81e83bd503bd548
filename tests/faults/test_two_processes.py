"""Two processes on one file: each execution is run by one of them, and never twice."""

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    ExecutionAlreadyExists,
    ExecutionBlocked,
    ExecutionPaused,
    ExecutionTerminated,
    LocalClient,
    LocalRuntime,
    PostgresClient,
    PostgresRuntime,
)
from mini_workflow.core import events
from mini_workflow.engine.client import Client
from mini_workflow.engine.runtime import Runtime
from tests.pausing import ask_in_turns
from tests.unit.local import flows
from tests.unit.local.child import Child
from tests.waiting import WAIT, eventually

LEASE = 3
"""Seconds of a lease that is meant to end. A third of it is how often the other process is looked at,
and enough to be in time with, on a machine that is busy too."""
LONG_LEASE = 3600
"""Seconds. With it nobody looks around by itself within a test: a change is noticed by a wake-up."""

GATED = f"""
with LocalRuntime(path, lease={LONG_LEASE}) as runtime:
    execution = runtime.start_execution(flows.gated, "gate", id="one")
    flows.gate("gate").reached.wait()
    say("started")
    hear()
    flows.gate("gate").opened.set()
    say(execution.result())
    hear()
"""


@pytest.fixture(autouse=True)
def no_recheck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the bell wakes who waits, not the look that they take every few seconds."""
    monkeypatch.setattr("mini_workflow.engine.engine_transport.RECHECK", 1e6)


@pytest.fixture
def listening(path: Path) -> Iterator[Callable[[], LocalRuntime]]:
    """Opens the file here, once the other process has it open."""
    opened: list[LocalRuntime] = []

    def open_() -> LocalRuntime:
        opened.append(LocalRuntime(path, lease=LONG_LEASE))
        return opened[-1]

    yield open_
    for runtime in opened:
        runtime.close()


Open = Callable[[], LocalRuntime]


def test_seen_and_awaited(path: Path, listening: Open, in_thread: Callable[..., Any]) -> None:
    with Child(GATED, path) as other:
        other.expect("started")
        runtime = listening()
        assert [found.id for found in runtime.list_executions(status="running")] == ["one"]
        execution = runtime.get_execution("one")
        outcome = in_thread(execution.result)
        eventually(lambda: runtime._role.waiters)
        other.tell("go on")
        other.expect("gate")
        assert outcome.get() == "gate"
        assert len(execution.history()) == 4


def test_started_by_both_is_one(path: Path, listening: Open) -> None:
    with Child(GATED, path) as other:
        other.expect("started")
        runtime = listening()
        execution = runtime.start_execution(flows.gated, "gate", id="one")
        with pytest.raises(ExecutionAlreadyExists):
            runtime.start_execution(flows.gated, "other", id="one")
        assert runtime.start_execution(flows.steps, 4, id="mine").result(WAIT) == 6
        assert not flows.gate("gate").reached.is_set()  # it runs there, not here
        other.tell("go on")
        assert execution.result(WAIT) == "gate"


def test_terminated_by_message(path: Path, listening: Open) -> None:
    code = f"""
        with LocalRuntime(path, lease={LONG_LEASE}) as runtime:
            execution = runtime.start_execution(flows.sleeper, 1000, id="one")
            say("started")
            try:
                execution.result()
            except ExecutionTerminated as error:
                say(str(error))
    """
    with Child(code, path) as other:
        other.expect("started")
        runtime = listening()
        execution = runtime.get_execution("one")
        execution.terminate("from outside")
        with pytest.raises(ExecutionTerminated, match="from outside"):
            execution.result(WAIT)
        other.expect("execution 'one' was terminated: from outside")
        other.end()


def test_resumed_by_message(path: Path, listening: Open) -> None:
    code = f"""
        with LocalRuntime(path, lease={LONG_LEASE}) as runtime:
            execution = runtime.start_execution(flows.wants_permission, id="one")
            try:
                execution.result()
            except ExecutionBlocked:
                say("blocked")
            hear()
            flows.PERMISSION.set()
            say("permitted")
            hear()
    """
    with Child(code, path) as other:
        other.expect("blocked")
        runtime = listening()
        execution = runtime.get_execution("one")
        with pytest.raises(ExecutionBlocked, match=r"time\.sleep.*resume"):
            execution.result(WAIT)
        other.tell("permit")
        other.expect("permitted")
        execution.resume()
        eventually(lambda: execution.describe().status != "blocked")
        assert execution.result(WAIT) == "permitted"


def test_killed(path: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    code = """
        with LocalRuntime(path) as runtime:
            for number in range(20):
                runtime.start_execution(flows.recorded, arguments[0], 50, id=f"many-{number}")
            runtime.start_execution(flows.hangs_once, arguments[0], id="one").result()
    """
    with Child(code, path, ledger) as other:
        other.expect("attempt 1")
        # A third of the lease is how often the other is looked at.
        with LocalRuntime(path, lease=LEASE) as runtime:
            execution = runtime.get_execution("one")
            other.kill()
            eventually(lambda: execution.describe().status != "running")
            assert execution.result(WAIT) == 2
            for number in range(20):
                many = runtime.get_execution(f"many-{number}")
                eventually(lambda many=many: many.describe().status != "running")
                assert many.result(WAIT) == 1225
                completed = [e for e in many.history() if isinstance(e, events.TaskCompleted)]
                assert len(completed) == 50
    ran = flows.lines(ledger)
    assert len(ran) == len(set(ran))


def test_closed(path: Path, listening: Open, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    code = f"""
        with LocalRuntime(path, lease={LONG_LEASE}, grace=0) as runtime:
            runtime.start_execution(flows.hangs_the_first_time, arguments[0], id="one")
            runtime.start_execution(flows.naps, arguments[0], 1, 0.3, id="nap")
            hear()
    """
    with Child(code, path, ledger) as other:
        other.expect("attempt 1")
        runtime = listening()
        other.tell("close")
        other.end()
        assert runtime.get_execution("one").result(WAIT) == 1
        assert runtime.get_execution("nap").result(WAIT) == 1
    # What an orderly close has cut short costs no attempt.
    assert sorted(flows.lines(ledger)) == ["nap:2 1 0", "one:1 1", "one:1 1"]


def test_stopped_for_longer_than_its_lease(path: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    code = f"""
        runtime = LocalRuntime(path, lease={LEASE}, grace=0)
        execution = runtime.start_execution(flows.noted_gate, arguments[0], "gate", id="one")
        flows.gate("gate").reached.wait()
        say("started")
        hear()
        # What was running here is finished now, and must not count.
        flows.gate("gate").opened.set()
        say(str(execution.result()))
        say(str(runtime.start_execution(flows.recorded, arguments[0], 2, id="new").result()))
        runtime.close()
        say("closed")
    """
    with Child(code, path, ledger) as other:
        other.expect("started")
        flows.gate("gate").opened.set()
        with LocalRuntime(path, lease=LEASE) as runtime:
            runtime.start_execution(flows.steps, 3, id="mine").result(WAIT)
            execution = runtime.get_execution("one")
            assert execution.describe().status == "running"
            other.stop()
            eventually(lambda: execution.describe().status != "running")
            assert execution.result(WAIT) == 2
            before = execution.history()
            other.signal(signal.SIGCONT)
            other.tell("go on")
            other.expect("2", "1", "closed")
            other.end()
            assert execution.history() == before
            assert runtime.get_execution("new").result(WAIT) == 1
    assert flows.lines(ledger) == ["one:1 1", "one:1 2", "new:1 1", "new:2 1"]


def test_a_race_to_start(path: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    code = """
        with LocalRuntime(path) as runtime:
            say("open")
            hear()
            started = [
                runtime.start_execution(flows.recorded, arguments[0], 3, id=f"race-{number}")
                for number in range(100)
            ]
            for execution in started:
                assert execution.result(60) == 3
            say("done")
            hear()
    """
    with Child(code, path, ledger) as one, Child(code, path, ledger) as two:
        for child in (one, two):
            child.expect("open")
        for child in (one, two):
            child.tell("go")
        for child in (one, two):
            child.expect("done")
    ran = flows.lines(ledger)
    assert sorted(ran) == sorted(f"race-{n}:{seq} 1" for n in range(100) for seq in (1, 2, 3))


@pytest.mark.parametrize("kind", ["local", "postgres"])
def test_a_client_asks_to_pause_and_to_resume_while_nobody_runs_it(
    kind: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever takes over reads all the requests at once: the last one counts, also of those in one
    millisecond.
    """
    if kind == "local":
        path = tmp_path / "state.db"
        LocalRuntime(path).close()
        client: Client = LocalClient(path)
        opened: Callable[[], Runtime] = partial(LocalRuntime, path)
    else:
        postgres = request.getfixturevalue("postgres")
        schema = postgres.schema()
        client = PostgresClient(postgres.url, schema=schema)
        opened = partial(PostgresRuntime, postgres.url, schema=schema)
    now = client._transport.now()
    monkeypatch.setattr(client._transport, "now", lambda: now)
    with client:
        goes, stays = [client.start_execution(flows.waits_for_go, id=name) for name in ("a", "b")]
        ask_in_turns(goes, stays)
        for execution in (goes, stays):
            execution.signal("go")
        with opened():
            assert goes.result(WAIT) == "went"
            with pytest.raises(ExecutionPaused):
                stays.result(WAIT)
