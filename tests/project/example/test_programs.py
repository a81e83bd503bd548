"""The programs to copy from: what comes of them, in which order, and what their histories hold.

Each on a live execution, on one that is replayed at every event, and on a file.
"""

import importlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from example.programs import (
    agent,
    approval,
    fan_out,
    mutex,
    polling,
    saga,
    sliding_window,
    updatable_timer,
    yaml_flow,
)
from mini_workflow import (
    Execution,
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionTerminated,
    LocalRuntime,
)
from mini_workflow.core.events import TaskScheduled
from mini_workflow.testing import WorkflowEnvironment
from tests import waiting
from tests.paths import ROOT
from tests.waiting import WAIT

PROGRAMS = sorted(path.stem for path in ROOT.glob("example/programs/[a-z]*.py"))

Either = WorkflowEnvironment | LocalRuntime


@pytest.fixture(params=["live", "replayed"])
def env(request: pytest.FixtureRequest) -> Iterator[WorkflowEnvironment]:
    with WorkflowEnvironment(cache_size=4096 if request.param == "live" else 0) as environment:
        yield environment


@pytest.fixture(params=["live", "replayed", "file", "file-replayed"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Either]:
    size = 0 if request.param.endswith("replayed") else 4096
    if request.param.startswith("file"):
        made: Either = LocalRuntime(tmp_path / "state.db", cache_size=size)
    else:
        made = WorkflowEnvironment(cache_size=size)
    with made:
        yield made


@pytest.fixture(autouse=True)
def _fresh_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tasks have done in one test is not seen by the next."""
    lists: list[tuple[ModuleType, str]] = [
        (agent, "USED"),
        (approval, "MAILS"),
        (mutex, "JOURNAL"),
        (saga, "LEDGER"),
        (sliding_window, "PROCESSED"),
        (yaml_flow, "CALLS"),
    ]
    for module, name in lists:
        monkeypatch.setattr(module, name, [])


def eventually(runtime: Either, holds: Callable[[], Any]) -> Any:
    """Let things happen that need no time, until there is an answer that is true."""

    def look() -> Any:
        if isinstance(runtime, WorkflowEnvironment):
            runtime.advance(0)
        return holds()

    return waiting.eventually(look)


def now(runtime: Either) -> datetime:
    return runtime.now() if isinstance(runtime, WorkflowEnvironment) else datetime.now(UTC)


def kinds(execution: Execution) -> list[str]:
    return [type(event).__name__ for event in execution.history()]


def counts(execution: Execution) -> Counter[str]:
    return Counter(kinds(execution))


def names(execution: Execution) -> list[str]:
    """The tasks, in the order in which the workflow started them."""
    return [event.name for event in execution.history() if isinstance(event, TaskScheduled)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_runs_by_itself(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"example.programs.{name}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_is_listed_in_the_documentation(name: str) -> None:
    assert f"(../example/programs/{name}.py)" in (ROOT / "docs/patterns.md").read_text()
    module = importlib.import_module(f"example.programs.{name}")
    assert module.__doc__


# A purchase order


def test_an_order_is_approved(runtime: Either) -> None:
    order = runtime.start_execution(approval.purchase_order, "PO-1", 900)
    eventually(runtime, lambda: order.query("stage") == "waiting for approval")
    [(subject, token)] = approval.MAILS
    assert subject == "PO-1: approve 900 EUR?"
    runtime.complete_promise(token, {"approved": True, "by": "ann"})
    assert order.result(timeout=WAIT) == "PO-1 placed, approved by ann"
    assert order.query("stage") == "ordered"
    assert names(order) == ["send_mail", "place_order"]
    assert counts(order)["PromiseCompleted"] == 1
    # The three days and the reminder's day were given up.
    assert counts(order)["TimerCancelled"] == counts(order)["TimerStarted"] == 2
    with pytest.raises(ExecutionClosed):
        runtime.complete_promise(token, {"approved": False, "by": "bob"})


def test_an_order_is_rejected(runtime: Either) -> None:
    order = runtime.start_execution(approval.purchase_order, "PO-1", 900)
    eventually(runtime, lambda: order.query("stage") == "waiting for approval")
    runtime.complete_promise(approval.MAILS[0][1], {"approved": False, "by": "bob"})
    assert order.result(timeout=WAIT) == "PO-1 rejected by bob"
    assert names(order) == ["send_mail"]


def test_an_order_that_nobody_looks_at_expires(env: WorkflowEnvironment) -> None:
    began = env.now()
    order = env.start_execution(approval.purchase_order, "PO-1", 900)
    assert order.result() == "PO-1 expired"
    assert env.now() - began == timedelta(days=3)
    assert [subject for subject, _ in approval.MAILS] == [
        "PO-1: approve 900 EUR?",
        "PO-1: a reminder",
    ]
    assert kinds(order)[-2:] == ["TimerFired", "ExecutionCompleted"]


# A saga


def test_a_trip_is_booked(runtime: Either) -> None:
    trip = runtime.start_execution(saga.book_trip, "ann", timedelta(0))
    assert trip.result(timeout=WAIT) == ["flight-1", "hotel-1", "car-1"]
    assert saga.LEDGER == ["book flight", "book hotel", "book car"]
    assert names(trip) == ["flight", "hotel", "car"]


def test_a_trip_that_fails_is_taken_back(runtime: Either) -> None:
    trip = runtime.start_execution(saga.book_trip, "unlucky", timedelta(days=1))
    with pytest.raises(saga.SoldOut, match="car"):
        trip.result(timeout=WAIT)
    assert saga.LEDGER == ["book flight", "book hotel", "cancel hotel-1", "cancel flight-1"]
    assert names(trip) == ["flight", "hotel", "car", "undo hotel", "undo flight"]
    assert kinds(trip)[-1] == "ExecutionFailed"


def test_a_trip_that_is_cancelled_is_taken_back(runtime: Either) -> None:
    trip = runtime.start_execution(saga.book_trip, "bob", timedelta(days=1))
    eventually(runtime, lambda: "TimerStarted" in kinds(trip))
    trip.cancel("ill")
    with pytest.raises(ExecutionCancelled, match="ill"):
        trip.result(timeout=WAIT)
    assert saga.LEDGER[3:] == ["cancel car-1", "cancel hotel-1", "cancel flight-1"]
    assert kinds(trip)[-1] == "ExecutionCancelled"


def test_a_trip_is_safe_after_the_day_has_passed(env: WorkflowEnvironment) -> None:
    trip = env.start_execution(saga.book_trip, "ann", timedelta(days=1))
    env.advance(timedelta(days=1, seconds=1))
    with pytest.raises(ExecutionClosed):
        trip.cancel("ill")
    assert trip.result() == ["flight-1", "hotel-1", "car-1"]
    assert len(saga.LEDGER) == 3


# A fan-out


@pytest.mark.parametrize(("count", "limit"), [(100, 10), (20, 1), (3, 50), (0, 5)])
def test_a_limited_fan_out(
    runtime: Either, count: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_fan_out(runtime, count, limit, monkeypatch)


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_thousand(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with WorkflowEnvironment() if where == "memory" else LocalRuntime(tmp_path / "db") as runtime:
        check_fan_out(runtime, 1_000, fan_out.LIMIT, monkeypatch)


def check_fan_out(runtime: Either, count: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "SERVICE", fan_out.Service())
    execution = runtime.start_execution(fan_out.sum_of_squares, count, limit)
    assert execution.result(timeout=WAIT) == sum(n * n for n in range(count))
    assert fan_out.SERVICE.calls == count
    assert fan_out.SERVICE.peak <= limit
    at_work = most = 0
    for kind in kinds(execution):
        at_work += {"TaskScheduled": 1, "TaskCompleted": -1}.get(kind, 0)
        most = max(most, at_work)
    assert most == min(limit, count)
    assert names(execution) == ["square"] * count


# A mutex

HOUR = timedelta(hours=1)


def deployments(runtime: Either, lock: Execution, *names: str) -> list[Execution]:
    takes = timedelta(minutes=10) if isinstance(runtime, WorkflowEnvironment) else timedelta(0)
    return [deployment(runtime, lock, name, takes) for name in names]


def deployment(runtime: Either, lock: Execution, name: str, takes: timedelta) -> Execution:
    """Start one that has asked for the lock, and may have given it back already."""
    execution = runtime.start_execution(mutex.deploy, lock.id, takes, id=name)
    eventually(runtime, lambda: name in lock.query("queue") or counts(execution)["SignalSent"] == 2)
    return execution


def journal(*names: str) -> list[str]:
    return [f"{name} {what}" for name in names for what in ("begins", "ends")]


def test_the_lock_goes_round_in_the_order_in_which_it_was_asked_for(runtime: Either) -> None:
    lock = runtime.start_execution(mutex.mutex, HOUR, id="lock")
    for execution in deployments(runtime, lock, "ann", "bob", "eve"):
        execution.result(timeout=WAIT)
        assert kinds(execution)[:4] == [
            "ExecutionStarted",
            "SignalSent",
            "SignalReceived",
            "TimerStarted",
        ]
        assert counts(execution)["SignalSent"] == 2
    assert [*mutex.JOURNAL] == journal("ann", "bob", "eve")
    eventually(runtime, lambda: lock.query("queue") == [])
    assert counts(lock) == Counter(
        ExecutionStarted=1,
        SignalReceived=6,
        SignalSent=3,
        TimerStarted=3,
        TimerCancelled=3,
    )


def test_the_lease_of_a_dead_holder_ends(env: WorkflowEnvironment) -> None:
    lock = env.start_execution(mutex.mutex, HOUR, id="lock")
    ann, bob, eve = deployments(env, lock, "ann", "bob", "eve")
    assert lock.query("queue") == ["ann", "bob", "eve"]
    env.advance(1)
    began = env.now()
    ann.terminate("gone")
    eve.cancel("not needed any more")
    env.advance(1)
    assert lock.query("queue") == ["ann", "bob"]
    bob.result()
    assert HOUR < env.now() - began + timedelta(seconds=1) <= HOUR + timedelta(minutes=10)
    assert [*mutex.JOURNAL] == ["ann begins", *journal("bob")]
    with pytest.raises(ExecutionTerminated):
        ann.result()
    with pytest.raises(ExecutionCancelled):
        eve.result()


def test_a_holder_that_works_for_longer_than_its_lease_is_told(env: WorkflowEnvironment) -> None:
    lock = env.start_execution(mutex.mutex, timedelta(minutes=5), id="lock")
    slow, next_one = deployments(env, lock, "slow", "next")
    with pytest.raises(TimeoutError):
        slow.result()
    with pytest.raises(TimeoutError):
        next_one.result()
    assert mutex.JOURNAL == ["slow begins", "next begins"]
    env.advance(1)
    assert lock.query("queue") == []


def test_the_queue_survives_a_new_run(runtime: Either, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutex, "HISTORY_LIMIT", 6)
    lock = runtime.start_execution(mutex.mutex, HOUR, id="lock")
    everybody = [f"no-{number}" for number in range(8)]
    for execution in deployments(runtime, lock, *everybody):
        execution.result(timeout=WAIT)
    assert [*mutex.JOURNAL] == journal(*everybody)
    assert lock.describe().run > 3
    assert len(lock.history()) < 12


# A sliding window


def test_every_record_is_processed_once_across_runs(runtime: Either) -> None:
    batch = runtime.start_execution(sliding_window.process_all, 50, id="batch")
    assert batch.result(timeout=WAIT) == {"processed": 50, "failed": [7, 17, 27, 37, 47], "runs": 3}
    assert sorted(sliding_window.PROCESSED) == list(range(50))
    assert len(runtime.list_executions(workflow=sliding_window.process_record)) == 50
    last = counts(batch)
    assert last["ChildStarted"] == 10
    # Of the ten it started itself, and of those that were at work when it began.
    assert 10 <= last["SignalReceived"] <= 10 + sliding_window.WINDOW
    assert batch.describe().run == 3


def test_no_more_than_the_window_is_at_work(
    env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliding_window, "RUN_LENGTH", 7)
    batch = env.start_execution(sliding_window.process_all, 23)
    most = 0
    while batch.describe().status == "running":
        most = max(most, len(batch.query("progress")["at work"]))
        env.advance(0)
    assert batch.result()["runs"] == 4
    assert most <= sliding_window.WINDOW
    assert sorted(sliding_window.PROCESSED) == list(range(23))


# An updatable timer


def test_the_alarm_can_be_moved(env: WorkflowEnvironment) -> None:
    began = env.now()
    alarm = env.start_execution(updatable_timer.alarm, began + HOUR)
    assert alarm.update("move", began + 30 * HOUR) == 30 * HOUR
    env.advance(2 * HOUR)
    assert alarm.describe().status == "running"
    assert alarm.update("move", began + 3 * HOUR) == HOUR
    assert alarm.query("deadline") == began + 3 * HOUR
    assert alarm.result() == began + 3 * HOUR == env.now()
    assert kinds(alarm) == [
        "ExecutionStarted",
        "TimerStarted",
        *["UpdateAccepted", "UpdateCompleted", "TimerCancelled", "TimerStarted"] * 2,
        "TimerFired",
        "ExecutionCompleted",
    ]


def test_the_alarm_rings_at_once_when_it_is_moved_into_the_past(runtime: Either) -> None:
    began = now(runtime)
    alarm = runtime.start_execution(updatable_timer.alarm, began + HOUR)
    assert alarm.update("move", began - HOUR) < 0 * HOUR
    assert began <= alarm.result(timeout=WAIT) < began + HOUR


def test_a_time_without_a_zone_is_refused(runtime: Either) -> None:
    began = now(runtime)
    alarm = runtime.start_execution(updatable_timer.alarm, began + HOUR)
    with pytest.raises(ValueError, match="time zone"):
        alarm.update("move", began.replace(tzinfo=None))
    assert kinds(alarm) == ["ExecutionStarted", "TimerStarted"]
    alarm.terminate()


# Polling


def test_a_service_becomes_ready(runtime: Either, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = polling.Cluster(ready_after=5)
    monkeypatch.setitem(polling.CLUSTERS, "new", cluster)
    monkeypatch.setattr(polling, "FIRST_PAUSE", timedelta(milliseconds=5))
    execution = runtime.start_execution(polling.wait_until_ready, "new")
    assert execution.result(timeout=WAIT) > timedelta(milliseconds=5 + 10 + 20)
    assert cluster.questions == 5
    assert names(execution) == ["status"] * 4
    assert counts(execution)["TaskRetryScheduled"] == 1


def test_it_gives_up_after_an_hour(
    env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = polling.Cluster(ready_after=1_000)
    monkeypatch.setitem(polling.CLUSTERS, "new", cluster)
    began = env.now()
    with pytest.raises(TimeoutError):
        env.start_execution(polling.wait_until_ready, "new").result()
    assert env.now() - began == HOUR
    assert 15 < cluster.questions < 30


# A language


def interpreted(runtime: Either, text: str, **variables: Any) -> Execution:
    return runtime.start_execution(yaml_flow.interpret, yaml_flow.yaml.safe_load(text), variables)


def test_a_program_in_yaml(env: WorkflowEnvironment) -> None:
    began = env.now()
    execution = interpreted(env, yaml_flow.PROGRAM, item="sofa")
    assert execution.result() == {"parcel": "parcel with a sofa", "approved by": "ann"}
    assert env.now() - began >= HOUR
    assert yaml_flow.CALLS[0] == "approve sofa for 900"
    assert Counter(yaml_flow.CALLS[1:]) == Counter(
        {"charge 900": 2, "pack sofa": 1, "ship sofa": 1}
    )
    assert names(execution)[:2] == ["price_of", "approve"]
    assert counts(execution)["TaskRetryScheduled"] == 1


def test_the_other_branch(runtime: Either) -> None:
    execution = interpreted(runtime, yaml_flow.PROGRAM, item="book")
    assert execution.result(timeout=WAIT) == {
        "parcel": "parcel with a book",
        "approved by": "nobody",
    }
    assert names(execution) == ["price_of", "charge", "pack", "ship"]
    assert "TimerStarted" not in kinds(execution)


def test_a_return_ends_all_blocks(runtime: Either) -> None:
    text = "- if: [$n, '=', 1]\n  then: [{return: $n}]\n- return: 2"
    assert interpreted(runtime, text, n=1).result(timeout=WAIT) == 1
    assert interpreted(runtime, text, n=3).result(timeout=WAIT) == 2


def test_a_step_that_is_none_is_refused(runtime: Either) -> None:
    with pytest.raises(ValueError, match="there is no such step"):
        interpreted(runtime, "- dance: tango").result(timeout=WAIT)


# An agent

QUESTION = {"role": "user", "text": "Make room."}


def test_the_agent_asks_before_it_deletes(runtime: Either) -> None:
    execution = runtime.start_execution(agent.agent, [QUESTION])
    asked = eventually(runtime, lambda: execution.query("approvals"))
    assert list(asked) == ["delete(web-1, database)", "delete(web-1, access.log)"]
    assert not any(use.startswith("delete") for use in agent.USED)
    runtime.complete_promise(asked["delete(web-1, access.log)"], True)
    eventually(runtime, lambda: agent.USED[-1] == "delete web-1 access.log")
    runtime.complete_promise(asked["delete(web-1, database)"], False)
    assert execution.result(timeout=WAIT) == agent.SCRIPT[-1]["text"]
    assert sorted(agent.USED[:2]) == ["disk_usage web-1", "disk_usage web-2"]
    assert sorted(agent.USED[2:4]) == ["disk_usage web-9", "list_files web-1"]
    assert agent.USED[4:] == ["delete web-1 access.log"]
    answers = [m["answers"] for m in execution.query("conversation") if m["role"] == "tools"]
    assert answers == [
        ["97 %", "12 %"],
        [["access.log", "database"], "KeyError: 'web-9'"],
        ["a person has refused this", "deleted"],
    ]


def test_a_long_conversation_goes_on_in_a_new_run(
    runtime: Either, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "HISTORY_LIMIT", 1)
    monkeypatch.setattr(agent, "DANGEROUS", set[str]())
    execution = runtime.start_execution(agent.agent, [QUESTION])
    assert execution.result(timeout=WAIT) == agent.SCRIPT[-1]["text"]
    assert execution.describe().run == len(agent.SCRIPT)
    assert kinds(execution) == [
        "ExecutionStarted",
        "TaskScheduled",
        "TaskCompleted",
        "ExecutionCompleted",
    ]
    assert len(agent.USED) == 6
