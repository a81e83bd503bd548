"""Workflows run on the thread of whoever brings the work: which one that is, and what follows it."""

from __future__ import annotations

import asyncio
import errno
import inspect
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionBlocked,
    LocalRuntime,
    NotAllowedInWorkflow,
    workflow,
)
from mini_workflow.testing import WorkflowEnvironment
from tests.unit.local import flows
from tests.unit.local.child import Child
from tests.waiting import WAIT, eventually

HOURS = 3600.0
"""Seconds of a lease that nobody renews during a test."""

TURNS: list[int] = []
TASKS: list[int] = []
SAID: list[str] = []
RUNTIMES: dict[str, LocalRuntime] = {}
TOGETHER = threading.Barrier(4, timeout=WAIT)


@pytest.fixture(autouse=True)
def _empty() -> None:
    TURNS.clear()
    TASKS.clear()
    SAID.clear()
    RUNTIMES.clear()


def note() -> int:
    TASKS.append(get_ident())
    return len(TASKS)


def use_the_runtime() -> str:
    with pytest.raises(NotAllowedInWorkflow, match="inline"):
        RUNTIMES["here"].list_executions()
    return "refused"


def meet() -> None:
    TOGETHER.wait()


def say(name: str) -> None:
    SAID.append(name)


async def note_async() -> int:
    return note()


@workflow
async def sequence(ctx: Context, n: int, gate: str, inline: bool) -> int:
    await ctx.task(int)  # after a batch with the start in it another thread leads
    await ctx.task(flows.go_through, gate)
    for _ in range(n):
        TURNS.append(get_ident())
        await ctx.task(note, inline=inline)
    TURNS.append(get_ident())
    return n


@workflow
async def async_sequence(ctx: Context, n: int, gate: str) -> int:
    await ctx.task(note_async)
    await ctx.task(flows.go_through, gate)
    for _ in range(n):
        TURNS.append(get_ident())
        await ctx.task(note_async)
    TURNS.append(get_ident())
    return n


def asleep(runtime: LocalRuntime) -> None:
    """Wait until nobody leads, and the own thread waits to be woken."""
    role = runtime._role
    code = type(role)._sleep.__code__
    lines, first = inspect.getsourcelines(code)
    (waits,) = (first + n for n, line in enumerate(lines) if "_bell.get" in line)

    def sleeps() -> bool:
        # In this order: what is ahead of the wait may still take the lead, what has rung ends it.
        frame = sys._current_frames()[role._thread.ident or 0]
        waiting = frame.f_code is code and frame.f_lineno == waits
        return waiting and not (role._lead.locked() or role._inbox or role._rung)

    eventually(sleeps)


def on_thread(work: Callable[[], Any]) -> tuple[int, Any]:
    """Which thread did it, and what came out."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append((get_ident(), work())))
    thread.start()
    thread.join(WAIT)
    assert found, "it failed or goes on"
    return found[0]


def wake_ups(runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who wakes the own thread from now on."""
    given: list[int] = []
    wake = runtime._role._wake
    monkeypatch.setattr(runtime._role, "_wake", lambda: (given.append(get_ident()), wake()))
    return given


@pytest.mark.parametrize("inline", [False, True])
def test_sequential_tasks_stay_on_one_thread(
    path: Path, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalRuntime(path, lease=HOURS) as runtime:
        execution = runtime.start_execution(sequence, 100, "gate", inline, id="one")
        assert flows.gate("gate").reached.wait(WAIT)
        asleep(runtime)
        given = wake_ups(runtime, monkeypatch)
        flows.gate("gate").opened.set()
        assert execution.result(WAIT) == 100
        assert len(TURNS) == 101
        assert len(set(TURNS + TASKS)) == 1
        assert not given
        assert len(runtime._runner._default._sync._threads) == 1  # type: ignore[attr-defined]


def test_async_tasks_stay_on_the_thread_of_the_runners_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalRuntime(path, lease=HOURS) as runtime:
        execution = runtime.start_execution(async_sequence, 100, "gate", id="one")
        assert flows.gate("gate").reached.wait(WAIT)
        asleep(runtime)
        given = wake_ups(runtime, monkeypatch)
        flows.gate("gate").opened.set()
        assert execution.result(WAIT) == 100
        # The first turn is on the thread of the gate.
        assert len(set(TURNS[1:] + TASKS)) == 1
        assert len(TURNS) == 101
        assert not given


@workflow
async def sent_sequence(ctx: Context, n: int, directory: str) -> list[int]:
    turns: list[int] = []
    await ctx.task(int)
    for number in range(n):
        await ctx.task(wait_for_file if number == 0 else int, directory if number == 0 else "1")
        turns.append(get_ident())
    return turns


def wait_for_file(directory: str) -> None:
    (Path(directory) / "reached").touch()
    eventually((Path(directory) / "opened").exists)


def test_who_reads_from_a_worker_sends_it_the_next_task(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalRuntime(path, lease=HOURS, workers=1) as runtime:
        execution = runtime.start_execution(sent_sequence, 50, str(tmp_path))
        eventually((tmp_path / "reached").exists)
        asleep(runtime)
        given = wake_ups(runtime, monkeypatch)
        (tmp_path / "opened").touch()
        turns = execution.result(WAIT)
        assert len(turns) == 50
        assert len(set(turns)) == 1
        assert not given


def test_a_caller_runs_what_it_starts(path: Path) -> None:
    @workflow("where_it_runs")
    async def where_it_runs(ctx: Context) -> int:
        return get_ident()

    with LocalRuntime(path, lease=HOURS) as runtime:
        asleep(runtime)
        thread, found = on_thread(lambda: runtime.start_execution(where_it_runs).result())
        assert found == thread


def test_workflow_code_never_runs_on_the_applications_loop(path: Path) -> None:
    async def main() -> None:
        with LocalRuntime(path) as runtime:
            for _ in range(5):
                execution = runtime.start_execution(sequence, 3, "open", True)
                await execution
                await runtime.start_execution(async_sequence, 3, "open")
        assert get_ident() in TASKS  # the async ones run there
        assert get_ident() not in TURNS

    flows.gate("open").opened.set()
    asyncio.run(main())


def test_what_leads_in_a_thread_of_a_loop_leaves_its_event_loop(path: Path) -> None:
    """Inline tasks that await have a loop of their own, which is nobody's afterwards."""

    @workflow("inline_async")
    async def inline_async(ctx: Context) -> int:
        return await ctx.task(note_async, inline=True)

    with LocalRuntime(path, lease=HOURS) as runtime:
        asleep(runtime)

        def work() -> bool:
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            try:
                assert runtime.start_execution(inline_async).result() == 1
                return asyncio.get_event_loop_policy().get_event_loop() is loop
            finally:
                loop.close()

        thread, kept = on_thread(work)
        assert kept
        assert [thread] == TASKS


def test_an_inline_task_cannot_use_the_runtime_on_whatever_thread(path: Path) -> None:
    @workflow("uses_the_runtime")
    async def uses_the_runtime(ctx: Context) -> str:
        return await ctx.task(use_the_runtime, inline=True)

    with LocalRuntime(path, lease=HOURS) as runtime:
        RUNTIMES["here"] = runtime
        asleep(runtime)
        _, found = on_thread(lambda: runtime.start_execution(uses_the_runtime).result())
        assert found == "refused"
        # A task that has led before is outside again.
        assert runtime.start_execution(flows.steps, 3).result(WAIT) == 3


def test_the_engine_sleeps_by_no_clock_that_may_be_set(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sleep fails while the clock is set under some libraries; the engine's own thread would end."""

    def fail(seconds: float) -> None:
        raise OSError(errno.EINVAL, "the clock is set")

    with LocalRuntime(path, lease=HOURS) as runtime:
        with monkeypatch.context() as patched:
            patched.setattr("time.sleep", fail)
            for _ in range(20):
                execution = runtime.start_execution(flows.sleeper, 0.001)
                execution.result(WAIT)
                assert execution.describe().status == "completed"
        assert runtime._role._thread.is_alive()


def test_the_watchdog_interrupts_who_leads(path: Path) -> None:
    with LocalRuntime(path, lease=HOURS, turn_timeout=0.2) as runtime:
        asleep(runtime)

        def work() -> str:
            with pytest.raises(ExecutionBlocked) as caught:
                runtime.start_execution(flows.spins).result()
            return str(caught.value)

        _, text = on_thread(work)
        assert "flows.py" in text
        assert "spins" in text
        assert runtime.start_execution(flows.steps, 3).result(WAIT) == 3


def test_the_lease_is_renewed_while_somebody_leads(path: Path) -> None:
    @workflow("keeps_the_lead")
    async def keeps_the_lead(ctx: Context) -> str:
        return await ctx.task(flows.go_through, "lead", inline=True)

    with LocalRuntime(path, lease=HOURS) as runtime:
        asleep(runtime)
        leader = threading.Thread(target=runtime.start_execution, args=(keeps_the_lead,))
        leader.start()
        assert flows.gate("lead").reached.wait(WAIT)
        assert runtime._renewal is not None
        on_thread(runtime._renewal.extend)
        flows.gate("lead").opened.set()
        leader.join(WAIT)


def test_a_fan_out_of_a_thread_that_leads_has_threads_for_all(path: Path) -> None:
    """It keeps one of the tasks, and wakes others for the rest: all run at a time."""

    @workflow("fans_out")
    async def fans_out(ctx: Context) -> int:
        await ctx.task(int)
        await ctx.task(flows.go_through, "gate")
        await asyncio.gather(*(ctx.task(meet) for _ in range(4)))
        return 4

    with LocalRuntime(path, lease=HOURS, threads=4) as runtime:
        execution = runtime.start_execution(fans_out)
        assert flows.gate("gate").reached.wait(WAIT)
        asleep(runtime)
        flows.gate("gate").opened.set()
        assert execution.result(WAIT) == 4


def test_a_thread_that_keeps_its_tasks_does_not_starve_others(path: Path) -> None:
    @workflow("many_steps")
    async def many_steps(ctx: Context, name: str, n: int) -> None:
        for _ in range(n):
            await ctx.task(say, name)

    @workflow("gated_steps")
    async def gated_steps(ctx: Context, n: int) -> None:
        await ctx.task(int)
        await ctx.task(flows.go_through, "gate")
        for _ in range(n):
            await ctx.task(say, "first")

    with LocalRuntime(path, lease=HOURS, threads=1) as runtime:
        first = runtime.start_execution(gated_steps, 100)
        assert flows.gate("gate").reached.wait(WAIT)
        second = runtime.start_execution(many_steps, "second", 10)
        flows.gate("gate").opened.set()
        second.result(WAIT)
        first.result(WAIT)
    assert SAID.count("second") == 10
    assert SAID[:40].count("second") == 10


def test_an_attempt_that_is_kept_can_be_cancelled_and_handed_back(path: Path) -> None:
    """Closing hands back what a leading thread has kept and not begun."""

    @workflow("keeps_one")
    async def keeps_one(ctx: Context) -> int:
        await ctx.task(int)
        await ctx.task(flows.go_through, "gate")
        return await ctx.task(note)

    runtime = LocalRuntime(path, lease=HOURS)
    runtime.start_execution(keeps_one, id="one")
    assert flows.gate("gate").reached.wait(WAIT)
    asleep(runtime)
    runner = runtime._runner._default._sync  # type: ignore[attr-defined]
    hand_in, led, closing = runner._hand_in, threading.Event(), threading.Event()

    def hand_in_slowly(outcome: Any) -> None:
        hand_in(outcome)
        assert list(runner._kept.values()) != [None]
        led.set()
        assert closing.wait(WAIT)

    runner._hand_in = hand_in_slowly
    flows.gate("gate").opened.set()
    assert led.wait(WAIT)
    runner.prepare_close()
    closing.set()
    runtime.close()
    assert not TASKS
    with LocalRuntime(path) as again:
        assert again.get_execution("one").result(WAIT) == 1


def test_a_virtual_clock_jumps_when_a_leader_leaves_nothing_in_flight() -> None:
    @workflow("sleeps_between")
    async def sleeps_between(ctx: Context, n: int) -> int:
        for _ in range(n):
            await ctx.task(note)
            await ctx.sleep(30 * 24 * HOURS)
        return n

    with WorkflowEnvironment() as environment:
        before = environment.now()
        execution = environment.start_execution(sleeps_between, 20)
        assert execution.result(WAIT) == 20
        assert (environment.now() - before).days == 600


SWEEP = """
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from mini_workflow.engine.leading import may_lead
    assert may_lead(in_main=True)
    first, step = map(int, arguments)
    with LocalRuntime(path, lease=3600, synchronous="NORMAL") as runtime:
        runtime.start_execution(flows.steps, 1).result()

        def strike_at(instant):
            left = [instant]

            def hook(frame, event, argument):
                # Where Python looks for signals: at the begin of a function, and behind a call.
                left[0] -= event in ("call", "c_return")
                if left[0] == 0:
                    sys.setprofile(None)
                    signal.raise_signal(signal.SIGINT)

            return left, hook

        instant, interrupted, reached = first, 0, True
        while reached:
            left, hook = strike_at(instant)
            name = f"x-{instant}"
            try:
                sys.setprofile(hook)
                runtime.start_execution(flows.answer, id=name)
                sys.setprofile(None)
            except KeyboardInterrupt:
                interrupted += 1
            reached = left[0] <= 0
            # Whatever became of it, it can be asked for again, and all go on.
            assert runtime.start_execution(flows.answer, id=name).result(60) == 42
            instant += step
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert runtime.start_execution(flows.steps, 3).result(60) == 3
        assert interrupted > 0
        say("held")
    say("closed")
"""


@pytest.mark.parametrize("first", range(1, 5))
def test_ctrl_c_at_each_instant_of_a_start_in_the_main_thread(path: Path, first: int) -> None:
    with Child(SWEEP, path, first, 4) as child:
        child.expect("held", "closed")
        child.end()


def test_ctrl_c_twice_ends_a_turn_that_hangs_in_the_main_thread(path: Path) -> None:
    code = """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def interrupt_twice():
            flows.gate("hangs").reached.wait()
            os.kill(os.getpid(), signal.SIGINT)
            while not runtime._role._interrupt._count:
                pass
            os.kill(os.getpid(), signal.SIGINT)

        @workflow
        async def hangs(ctx):
            if threading.current_thread() is not threading.main_thread():
                return  # the engine's own thread was awake: Ctrl-C is nothing to it
            flows.gate("hangs").reached.set()
            say("hangs")
            while True:
                pass

        runtime = LocalRuntime(path, turn_timeout=None)
        threading.Thread(target=interrupt_twice, daemon=True).start()
        runtime.start_execution(flows.sleeper, 1000, id="other")
        try:
            while True:
                runtime.start_execution(hangs).result()
        except KeyboardInterrupt:
            say("interrupted")
        try:
            runtime.start_execution(flows.answer)
        except RuntimeClosed:
            say("over")
        runtime.close()
        with LocalRuntime(path) as runtime:
            say(runtime.get_execution("other").describe().status)
            say(str(len(runtime.list_executions(status="running"))))
    """
    with Child(code, path) as child:
        child.expect("hangs")
        child.expect("interrupted", "over", "running", "1")
        child.end()


def test_a_signal_handler_may_use_the_runtime(path: Path) -> None:
    """The main thread does not lead beside it: it would interrupt itself."""
    code = """
        import signal

        @workflow
        async def terminates(ctx):
            # Led by the main thread, the handler would run here.
            os.kill(os.getpid(), signal.SIGTERM)
            return threading.current_thread() is threading.main_thread()

        def cancel(*_):
            say(str(runtime.start_execution(flows.answer).result()))

        signal.signal(signal.SIGTERM, cancel)
        with LocalRuntime(path) as runtime:
            found = runtime.start_execution(terminates).result()
            say(str(found))
    """
    with Child(code, path) as child:
        child.expect("42", "False")
        child.end()


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="needs fork")
def test_a_fork_while_another_thread_leads(path: Path) -> None:
    code = """
        import warnings
        # From 3.12 on Python warns of a fork beside threads, which is the point here.
        warnings.simplefilter("ignore")

        @workflow
        async def leads(ctx):
            return await ctx.task(flows.go_through, "lead", inline=True)

        with LocalRuntime(path) as runtime:
            leader = threading.Thread(target=runtime.start_execution, args=(leads,))
            leader.start()
            flows.gate("lead").reached.wait()
            child = os.fork()
            if child == 0:
                try:
                    runtime.start_execution(flows.answer)
                except RuntimeClosed as error:
                    assert "fork" in str(error), error
                else:
                    os._exit(1)
                runtime.close()
                os._exit(0)
            say(str(os.waitpid(child, 0)[1]))
            flows.gate("lead").opened.set()
            leader.join()
            say(str(runtime.start_execution(flows.steps, 4).result(30)))
    """
    with Child(code, path) as child:
        child.expect("0", "6")
        child.end()


def test_a_close_while_a_caller_leads(path: Path) -> None:
    @workflow("leads_on")
    async def leads_on(ctx: Context) -> str:
        return await ctx.task(flows.go_through, "lead", inline=True)

    runtime = LocalRuntime(path, lease=HOURS)
    asleep(runtime)
    started: list[Any] = []
    leader = threading.Thread(
        target=lambda: started.append(runtime.start_execution(leads_on, id="one").result())
    )
    leader.start()
    assert flows.gate("lead").reached.wait(WAIT)
    closing = threading.Thread(target=runtime.close)
    closing.start()
    eventually(lambda: runtime._engine_transport.closed)
    flows.gate("lead").opened.set()
    for thread in (leader, closing):
        thread.join(WAIT)
        assert not thread.is_alive()
    assert started == ["lead"]
