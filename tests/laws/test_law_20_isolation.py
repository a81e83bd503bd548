"""Law 20, the lease: a turn that takes long, or never ends, stops none of the other executions."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mini_workflow import (
    Context,
    ExecutionBlocked,
    ExecutionTerminated,
    LocalClient,
    LocalRuntime,
    UsageError,
    workflow,
)
from mini_workflow.core import events
from mini_workflow.engine.takeover import LeaseRenewal
from mini_workflow.engine.turn import DEADLY
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import LeaseLost, StoreUnavailable
from mini_workflow.loop.ordered import WorkflowTask
from tests.unit.local import flows
from tests.unit.local.child import Child
from tests.waiting import WAIT, eventually

LEASE = 3
"""Seconds: a renewal each 0.75 s leaves room on a busy machine."""

BUSY = f"""
with LocalRuntime(path, lease={LEASE}, turn_timeout=None) as runtime:
    others = runtime.start_execution(flows.gated, "gate", id="other")
    flows.gate("gate").reached.wait()
    busy = runtime.start_execution(flows.computes_until, arguments[0], id="busy")
    say(busy.result())
    flows.gate("gate").opened.set()
    say(others.result())
    hear()
"""


def looks_of(runtime: LocalRuntime) -> list[bool]:
    """Grows by one each time that the runtime looks for executions to take over."""
    looks: list[bool] = []
    acquire = runtime._ports.leases.acquire

    def counted(now: int) -> bool:
        looks.append(acquire(now))
        return looks[-1]

    runtime._ports.leases.acquire = counted  # type: ignore[method-assign]
    return looks


def test_a_turn_that_computes_longer_than_the_lease_keeps_it(path: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    with Child(BUSY, path, release) as other:
        eventually(lambda: Path(f"{release}.reached").exists())
        with LocalRuntime(path, lease=LEASE) as runtime:
            looks = looks_of(runtime)
            # One each third of the lease: after five it would have ended.
            eventually(lambda: len(looks) >= 5)
            assert not any(looks)
            release.touch()
            other.expect("computed")
            other.expect("gate")
            assert runtime.get_execution("busy").result(WAIT) == "computed"
            history = runtime.get_execution("other").history()
    assert not flows.gate("gate").reached.is_set()  # it never ran here
    assert len(history) == 4


HANGING = """
with LocalRuntime(path, lease=1, turn_timeout=0.2) as runtime:
    runtime.start_execution(flows.gated, "gate", id="other")
    flows.gate("gate").reached.wait()
    runtime.start_execution(flows.hangs_in, os.getpid(), id="hanging")
"""


def test_the_others_of_an_engine_that_hangs_go_on_elsewhere(path: Path) -> None:
    flows.gate("gate").opened.set()
    with Child(HANGING, path), LocalRuntime(path, lease=1) as runtime:
        eventually(lambda: list(runtime.list_executions()))
        assert runtime.get_execution("other").result(WAIT) == "gate"


def test_what_cannot_be_interrupted_is_named(
    path: Path, in_thread: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    reached, opened = threading.Event(), threading.Event()
    flows.HELD["here"] = (reached, opened)
    with (
        caplog.at_level(logging.CRITICAL, "mini_workflow.engine"),
        LocalRuntime(path, lease=1, turn_timeout=0.1) as runtime,
    ):
        in_thread(lambda: runtime.start_execution(flows.holds, "here", id="held"))
        assert reached.wait(WAIT)
        eventually(lambda: caplog.records)
        assert runtime._engine.hangs() == "held"
        opened.set()
        eventually(lambda: runtime._engine.hangs() is None)
        assert runtime.start_execution(flows.steps, 4, id="mine").result(WAIT) == 6
    first = caplog.records[0]
    assert first.levelno == logging.CRITICAL
    assert "cannot be interrupted" in first.getMessage()
    assert first.execution_id == "held"  # type: ignore[attr-defined]


class Lease:
    def __init__(self) -> None:
        self.extended = 0
        self.error: Exception | None = None

    def acquire(self, now: int) -> bool:
        raise NotImplementedError

    def renew(self, now: int) -> int:
        raise NotImplementedError

    def extend(self, now: int) -> None:
        if self.error is not None:
            raise self.error
        self.extended += 1

    def release(self) -> None:
        raise NotImplementedError

    def peers(self) -> list[str]:
        raise NotImplementedError


class Clock:
    def now(self) -> int:
        return 0


def test_a_lease_is_let_go_only_while_the_engine_hangs(caplog: pytest.LogCaptureFixture) -> None:
    lease, hanging = Lease(), [None, "one", "one", None]
    renewal = LeaseRenewal(lease, Clock(), interval=1, hangs=lambda: hanging.pop(0))
    extended = []
    for _ in range(4):
        renewal.extend()
        extended.append(lease.extended)
    assert extended == [1, 1, 1, 2]
    assert [r.levelno for r in caplog.records] == [logging.CRITICAL]


@pytest.mark.parametrize("error", [StoreUnavailable("busy"), LeaseLost("gone"), ValueError("odd")])
def test_what_one_extension_meets_does_not_end_the_next(error: Exception) -> None:
    lease = Lease()
    lease.error = error
    renewal = LeaseRenewal(lease, Clock(), interval=1e-3, hangs=lambda: None)
    renewal.start()
    lease.error = None
    eventually(lambda: lease.extended > 1)
    renewal.stop()
    renewal.stop()


# Law 20: one execution never stops another: a turn that ends its process, a long replay, a backlog of


SERVE = """
with LocalRuntime(path) as runtime:
    for name in sys.argv[2:]:
        runtime.get_execution(name).result(60)
    say("served")
"""


def serve(path: Path, *names: str) -> str:
    """Open the file in a process, until those executions are done or the process is dead."""
    with Child(SERVE, path, *names) as process:
        return process.hear()


@pytest.mark.parametrize("where", ["first", "after a timer", "inline"])
def test_a_turn_that_ends_its_process_is_blocked(path: Path, where: str) -> None:
    """Law 20: it is counted before it is tried again, and the others go on."""
    with LocalClient(path) as client:
        client.start_execution(flows.ends_its_process, where, id="poison")
        client.start_execution(flows.steps, 2, id="innocent")
    deaths = 0
    while serve(path, "poison", "innocent") != "served" and deaths < 20:
        with LocalClient(path) as client:
            if client.get_execution("poison").describe().status == "blocked":
                break
        deaths += 1
    assert deaths <= DEADLY
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("innocent").result(WAIT) == 1
        with pytest.raises(ExecutionBlocked, match=r"ended or stopped .*call resume\(\)"):
            runtime.get_execution("poison").result(WAIT)


def test_terminate_ends_it_before_it_is_blocked(path: Path) -> None:
    """Law 20: a turn that ends its process is not run again to end the execution."""
    with LocalClient(path) as client:
        client.start_execution(flows.ends_its_process, "first", id="poison")
        assert serve(path, "poison") == ""
        client.get_execution("poison").terminate("enough")
    with LocalRuntime(path) as runtime, pytest.raises(ExecutionTerminated, match="enough"):
        runtime.get_execution("poison").result(WAIT)


def test_after_a_fix_it_goes_on_and_is_counted_anew(path: Path) -> None:
    """Law 20: resume() makes the turn again, and one that ends well forgets the tries."""
    fixed = path.with_name("fixed")
    with LocalClient(path) as client:
        client.start_execution(flows.ends_its_process_unless, str(fixed), id="poison")
    for _ in range(DEADLY):
        assert serve(path, "poison") == ""
    fixed.touch()
    with LocalRuntime(path) as runtime:
        execution = runtime.get_execution("poison")
        with pytest.raises(ExecutionBlocked):
            execution.result(WAIT)
        execution.resume()
        assert execution.result(WAIT) == "fixed"


def test_a_process_that_is_killed_between_turns_counts_for_nobody(path: Path) -> None:
    """Law 20: only a death in the middle of a turn is a try; many kills block nobody."""
    code = """
    runtime = LocalRuntime(path)
    if not runtime.list_executions():
        runtime.start_execution(flows.asks, id="waits")
    say("open")
    hear()
    """
    for _ in range(DEADLY + 2):
        with Child(code, path) as process:
            process.expect("open")
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("waits").describe().status == "running"


def test_a_replay_may_take_longer_than_a_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 20: the limit is on code between two events, and a replay has many."""
    with LocalRuntime(path) as runtime:
        execution = runtime.start_execution(flows.computes_a_little, 60, id="long")
        eventually(lambda: len(execution.history()) == 2 * 60 + 1)
    # The limit passes once at each event of the replay: that it does is what wakes the watchdog.
    watchdogs: list[Watchdog] = []
    begin = Watchdog.begin
    monkeypatch.setattr(Watchdog, "begin", lambda *args: (watchdogs.append(args[0]), begin(*args)))
    looks: list[int] = []

    def limit_passes() -> None:
        wake = watchdogs[-1]._wake
        wake.set()
        eventually(lambda: not wake.is_set())
        looks.append(1)

    monkeypatch.setitem(flows.MEANWHILE, "computes_a_little", limit_passes)
    with LocalRuntime(path, turn_timeout=10 * WAIT) as runtime:
        execution = runtime.get_execution("long")
        execution.signal("go")
        assert execution.result(WAIT) == 60
    assert len(looks) >= 60


def test_a_backlog_of_one_execution_does_not_hold_up_the_others(path: Path) -> None:
    """Law 20: a turn takes a bounded number of messages; what is left comes after the others'."""
    with LocalClient(path) as client:
        flooded = client.start_execution(flows.counts_signals, 1_000, id="flooded")
        client.start_execution(flows.asks, id="other")
        for number in range(1_000):
            flooded.signal("tick", number)
        client.get_execution("other").signal("permission", "yes")
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("other").result(WAIT) == "yes"
        received = runtime.get_execution("flooded").result(WAIT)
    assert received == list(range(1_000))


@pytest.mark.parametrize("how", ["cancel", "terminate", "close"])
def test_a_loop_of_runs_that_never_waits_can_be_ended(path: Path, how: str) -> None:
    """Law 20: messages get in between two runs, and a runtime can be closed."""
    with LocalRuntime(path) as runtime:
        execution = runtime.start_execution(flows.loops, 0, id="loop")
        assert runtime.start_execution(flows.steps, 3).result(WAIT) == 3
        if how != "close":
            getattr(execution, how)("enough")
            with pytest.raises(Exception, match="enough"):
                execution.result(WAIT)
    with LocalRuntime(path) as runtime:
        status = runtime.get_execution("loop").describe().status
        assert status == {"cancel": "cancelled", "terminate": "terminated", "close": "running"}[how]


@workflow("law20.asks_the_loop")
async def asks_the_loop(ctx: Context, kind: str) -> str:
    loop = ctx.execution("loop")
    try:
        await (
            loop.signal("greeting", 1, confirm=True)
            if kind == "signal"
            else loop.update("limit", 1)
        )
    except UsageError as error:
        return str(error)
    return "it was taken"


def test_a_loop_of_runs_that_never_waits_refuses_what_asks_for_an_answer(path: Path) -> None:
    """Law 11: no caller waits for ever, in this process, another one, or another execution."""
    told = r"'(limit|greeting)' has met \d+ runs of execution 'loop'.*let the workflow wait"
    with LocalRuntime(path) as runtime:
        execution = runtime.start_execution(flows.loops, 0, id="loop")
        with pytest.raises(UsageError, match=told):
            execution.update("limit", 1, timeout=WAIT)
        with LocalClient(path) as client, pytest.raises(UsageError, match=told):
            client.get_execution("loop").update("limit", 1, timeout=WAIT)
        for kind in ("update", "signal"):
            asked = runtime.start_execution(asks_the_loop, kind).result(WAIT)
            assert re.search(f"{kind} {told}", asked)
        execution.terminate("enough")


def test_a_signal_to_a_run_that_is_terminated_before_it_begins_is_reported(path: Path) -> None:
    """Law 11: nothing is lost silently, also between two runs."""
    with LocalClient(path) as client:
        execution = client.start_execution(flows.loops, 0, id="loop")
        execution.signal("greeting", "hello")
        execution.terminate("enough")
    with LocalRuntime(path) as runtime:
        with pytest.raises(ExecutionTerminated):
            runtime.get_execution("loop").result(WAIT)
        history = runtime.get_execution("loop").history()
    [unhandled] = [event for event in history if isinstance(event, events.SignalUnhandled)]
    assert unhandled.name == "greeting"


LINGERS: list[str] = []
"""What a ``finally`` block that does not end has come to."""


def until_fixed() -> None:
    """By itself: the line that jumps back to the loop's begin may stand outside of a ``try``."""
    while "fixed" not in LINGERS:
        pass


@workflow("law20.lingers")
async def lingers(ctx: Context, stubborn: bool) -> str:
    try:
        await ctx.wait_for_signal("go")
    finally:
        if "fixed" not in LINGERS:
            LINGERS.append("reached")
            while "fixed" not in LINGERS:
                try:
                    until_fixed()
                except BaseException:
                    LINGERS.append("interrupted")
                    if not stubborn:
                        raise
    return "done"


@pytest.mark.parametrize("cache_size", [0, 1])
def test_a_finally_block_that_does_not_end_while_it_is_dropped(
    path: Path, cache_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is interrupted, the others go on, and so does its execution once it is wanted again."""
    LINGERS.clear()
    with (
        caplog.at_level(logging.WARNING, "mini_workflow.engine"),
        LocalRuntime(path, cache_size=cache_size, turn_timeout=0.2) as runtime,
    ):
        execution = runtime.start_execution(lingers, False, id="lingers")
        for n in range(3):
            assert runtime.start_execution(flows.steps, 4, id=f"other-{n}").result(WAIT) == 6
        assert "interrupted" in LINGERS
        LINGERS.append("fixed")
        execution.signal("go")
        assert execution.result(WAIT) == "done"
    assert any("dropped from memory" in r.getMessage() for r in caplog.records)


def test_a_finally_block_that_cannot_be_interrupted_is_named(
    path: Path, in_thread: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    LINGERS.clear()
    with (
        caplog.at_level(logging.CRITICAL, "mini_workflow.engine"),
        LocalRuntime(path, lease=1, cache_size=0, turn_timeout=0.1) as runtime,
    ):
        in_thread(lambda: runtime.start_execution(lingers, True, id="lingers"))
        eventually(lambda: runtime._engine.hangs() == "lingers")
        eventually(lambda: caplog.records)
        LINGERS.append("fixed")
        eventually(lambda: runtime._engine.hangs() is None)
        assert runtime.start_execution(flows.steps, 4, id="mine").result(WAIT) == 6
    assert "cannot be interrupted" in caplog.records[0].getMessage()


def test_what_waits_in_memory_costs_the_loops_of_the_application_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`asyncio.run` goes through the tasks of the process at its end, and so does `asyncio.all_tasks`."""
    asked: list[WorkflowTask] = []

    def get_loop(task: WorkflowTask) -> asyncio.AbstractEventLoop:
        asked.append(task)
        return asyncio.Task.get_loop(task)

    async def application() -> int:
        return len(asyncio.all_tasks())

    BEGUN.clear()
    with LocalRuntime(path) as runtime:
        for _ in range(3):
            runtime.start_execution(waits_at_two_places)
        eventually(lambda: len(BEGUN) == 6)
        monkeypatch.setattr(WorkflowTask, "get_loop", get_loop)
        assert asyncio.run(application()) == 1
        assert asked == []


BEGUN: list[str] = []


@workflow
async def waits_at_two_places(ctx: Context) -> None:
    async def wait() -> None:
        BEGUN.append("wait")
        await ctx.sleep(3_600)

    await asyncio.gather(asyncio.create_task(wait()), asyncio.create_task(wait()))
