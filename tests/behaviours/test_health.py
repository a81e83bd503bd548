"""41 to 52: what keeps an engine in good health, as far as a user sees it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionBlocked,
    ExecutionNotFound,
    NotAllowedInWorkflow,
    RetryPolicy,
    RuntimeClosed,
    ValueTooLarge,
    WorkerLost,
    current_task,
    workflow,
)
from mini_workflow.core.state import ExecutionState
from mini_workflow.loop.loop import WorkflowLoop
from tests.behaviours.stage import (
    DAY,
    LEDGER,
    Background,
    Stage,
    gate,
    go_through,
    note,
    settle,
    watched,
)
from tests.waiting import WAIT


@workflow("behaviours.spins")
async def spins(ctx: Context, forever: bool) -> str:
    await ctx.task(lambda: None)
    while forever and not MENDED:
        pass
    return "done"


MENDED: list[bool] = []


def test_41_a_workflow_that_blocks_the_loop(runtime: Stage) -> None:
    """A turn that does not end is interrupted, and its line reported; others go on; when the code
    is fixed, so does it."""
    MENDED.clear()
    runtime.reopen(turn_timeout=1)
    stuck = runtime.start(spins, True)
    others = [runtime.start(spins, False) for _ in range(5)]
    assert [execution.result(WAIT) for execution in others] == ["done"] * 5
    with pytest.raises(ExecutionBlocked, match=r"TurnTimeout.*test_health\.py:\d+"):
        stuck.result(WAIT)
    MENDED.append(True)
    stuck.resume()
    assert stuck.result(WAIT) == "done"


@workflow("behaviours.impolite")
async def impolite(ctx: Context, what: str) -> None:
    await ctx.task(lambda: None)
    if what == "sleep":
        time.sleep(0.01)
    elif what == "thread":
        threading.Thread(target=print).start()
    elif what == "to_thread":
        await asyncio.to_thread(print)
    elif what == "context in a task":
        await ctx.task(lambda: ctx.now())  # noqa: PLW0108
    else:
        await asyncio.Event().wait()


@pytest.mark.parametrize("what", ["sleep", "thread", "to_thread", "nothing", "context in a task"])
def test_41_what_a_replay_cannot_repeat_is_refused(runtime: Stage, what: str) -> None:
    """Blocking calls, threads, and waiting for what can never come are found and named."""
    execution = runtime.start(impolite, what)
    with pytest.raises(Exception, match=r"ctx|waits for ever|do it in a task"):
        execution.result(WAIT)
    assert execution.describe().status in ("blocked", "failed")


STATE: dict[str, int] = {}


@workflow("behaviours.alone")
async def alone(ctx: Context, name: str, n: int) -> list[Any]:
    mine: list[Any] = []
    for i in range(n):
        mine.append((name, await ctx.task(lambda: i)))  # noqa: B023
        mine.append(str(ctx.uuid4()))
        mine.append(await ctx.wait_for_signal("go on"))
    return mine


def test_42_ten_side_by_side(runtime: Stage) -> None:
    """Executions of one workflow have nothing in common, also when they are evicted in between."""
    executions = [runtime.start(alone, f"e{k}", 3, id=f"e{k}") for k in range(10)]
    for i in range(3):
        for k, execution in enumerate(executions):
            execution.signal("go on", (k, i))
        runtime.reopen()
        executions = [runtime.again(execution) for execution in executions]
    seen = set()
    for k, execution in enumerate(executions):
        result = execution.result(WAIT)
        assert result[0::3] == [(f"e{k}", i) for i in range(3)]
        assert result[2::3] == [(k, i) for i in range(3)]
        seen.update(result[1::3])
    assert len(seen) == 30


@workflow("behaviours.logs")
async def logs(ctx: Context) -> None:
    for i in range(3):
        ctx.logger.info("line %d", i)
        await ctx.task(lambda: None)
    ctx.logger.warning("waiting")
    await ctx.wait_for_signal("end")
    ctx.logger.info("the end")


def test_43_each_line_is_logged_once(runtime: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """ctx.logger is silent while replaying, and names the execution in each line and record."""
    with caplog.at_level(logging.INFO, logger="mini_workflow.workflow"):
        execution = runtime.start(logs, id="logged")
        runtime.reopen()
        execution = runtime.again(execution)
        execution.signal("end")
        execution.result(WAIT)
        runtime.reopen()
    lines = [r for r in caplog.records if r.name == "mini_workflow.workflow"]
    expected = ["line 0", "line 1", "line 2", "waiting", "the end"]
    assert [r.getMessage() for r in lines] == [f"[logged] {line}" for line in expected]
    assert {getattr(r, "execution_id", None) for r in lines} == {"logged"}


@workflow("behaviours.carries")
async def carries(ctx: Context, data: str, how: str) -> str:
    if how == "captured":
        return await ctx.task(lambda: data)
    got = await ctx.wait_for_signal("data")
    return await ctx.task(lambda: got + data[:0])


@pytest.mark.parametrize("how", ["captured", "signal"])
@pytest.mark.parametrize("size", [1, 255 * 1024, 1024**2, 5 * 1024**2])
def test_44_payloads_of_any_size(runtime: Stage, size: int, how: str) -> None:
    """The size of arguments, captured variables, signals and results changes nothing."""
    data = "x" * (size - 1) + "ü"
    execution = runtime.start(carries, data if how == "captured" else "", how)
    if how == "signal":
        execution.signal("data", data)
    assert execution.result(WAIT) == data


def test_44_fifty_megabytes(runtime: Stage) -> None:
    """The same, where nobody would expect it: refused, until the limit is raised."""
    data = "x" * 50 * 1024**2
    refused = runtime.start(carries, "", "signal")
    with pytest.raises(ValueTooLarge, match="value_limit"):
        refused.signal("data", data)
    refused.terminate()
    runtime.reopen(value_limit=64 * 1024**2)
    execution = runtime.start(carries, "", "signal")
    execution.signal("data", data)
    assert len(execution.result(WAIT)) == len(data)


@workflow("behaviours.fans_out")
async def fans_out(ctx: Context, n: int) -> int:
    ctx.on_query("n", lambda: n)
    return sum(await ctx.map(lambda i: i, range(n), concurrency=100))


def test_45_ten_thousand_items_are_linear(runtime: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map over ten thousand items, and the replay of its history, cost ten times as much as over
    a thousand; where every event replays, that is not for large histories, and where each step is
    several calls over HTTP, smaller ones say the same."""
    small, large = (30, 300) if runtime.replays or runtime.posts else (1_000, 10_000)
    ran: Counter[str] = Counter()
    for kind, name in ((WorkflowLoop, "call_soon"), (ExecutionState, "apply")):
        monkeypatch.setattr(kind, name, counted(ran, getattr(kind, name)))
    took: dict[int, tuple[Counter[str], Counter[str]]] = {}
    for n in (small, large):
        ran.clear()
        execution = runtime.start(fans_out, n, id=f"n{n}")
        assert execution.result(WAIT) == n * (n - 1) // 2
        live = ran.copy()
        assert len(execution.history()) == 2 * n + 2
        ran.clear()
        assert execution.query("n") == n
        took[n] = (live, ran.copy())
    for before, after in zip(took[small], took[large], strict=True):
        if before is not took[small][0] or not runtime.replays:
            # Quadratic would be a hundred times as much. Turns need not be the same in both.
            assert all(after[name] < 20 * before[name] for name in after), (before, after)


def counted(ran: Counter[str], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose calls are counted."""

    def call(*args: Any, **kwargs: Any) -> Any:
        ran[function.__qualname__] += 1
        return function(*args, **kwargs)

    return call


def die(name: str) -> int:
    attempt = current_task().attempt
    note(attempt)
    go_through(f"{name}-{attempt}")
    return attempt


@workflow("behaviours.dies_often")
async def dies_often(ctx: Context) -> int:
    return await ctx.task(die, "often", retry=RetryPolicy(max_attempts=3, initial=0.001))


def test_46_attempts_are_durable(runtime: Stage) -> None:
    """Attempts are counted over crashes: after the second of three there is one left, not three."""
    runtime.reopen(grace=0)
    execution = runtime.start(dies_often)
    waiting = None
    for attempt in (1, 2, 3):
        gate(f"often-{attempt}").wait_until_reached()
        runtime.die()
        if waiting is not None:
            with pytest.raises(RuntimeClosed):
                waiting.get()
        runtime.reopen(grace=0)
        execution = runtime.again(execution)
        # Where time stands still, it goes on while somebody waits.
        waiting = Background(lambda e=execution: e.result(WAIT))
    assert waiting is not None
    with pytest.raises(WorkerLost):
        waiting.get()
    assert LEDGER == [1, 2, 3]


def helper(n: int) -> int:
    return n + 1


@workflow("behaviours.uses_a_helper")
async def uses_a_helper(ctx: Context, n: int) -> int:
    state = watched(ctx)
    n = await ctx.task(helper, helper(n))
    state["waits"] = True
    await ctx.wait_for_signal("go on")
    return await ctx.task(helper, helper(n))


def test_47_editing_a_helper_strands_nothing(
    runtime: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An execution depends on what it asked for, not on the text of its code: what is edited
    counts from where it has come to."""
    execution = runtime.start(uses_a_helper, 1)
    settle(execution)
    runtime.close()

    def edited(n: int) -> int:
        """A new docstring."""
        return n + 10  # and a comment

    edited.__qualname__ = helper.__qualname__
    edited.__name__ = helper.__name__
    monkeypatch.setitem(globals(), "helper", edited)
    runtime.reopen()
    execution = runtime.again(execution)
    execution.signal("go on")
    assert execution.result(WAIT) == 3 + 10 + 10


@workflow("behaviours.handed_over")
async def handed_over(ctx: Context) -> list[Any]:
    got = [await ctx.task(note, "one")]
    got.append(await ctx.wait_for_signal("go on"))
    return [*got, await ctx.task(note, "two")]


def test_48_another_runtime_takes_over(runtime: Stage) -> None:
    """A runtime that is there when another one ends continues what that one ran, at once."""
    execution = runtime.start(handed_over)
    runtime.hand_over()
    execution = runtime.again(execution)
    execution.signal("go on", "!")
    assert execution.result(WAIT) == ["one", "!", "two"]
    assert LEDGER == ["one", "two"]


@workflow("behaviours.dozes")
async def dozes(ctx: Context, n: int) -> int:
    await ctx.sleep(300 * DAY + n)
    return n


def test_49_a_thousand_sleepers(runtime: Stage) -> None:
    """Executions that sleep hold no thread, and survive a reopening as they are. Fewer do where
    each start is several calls over HTTP."""
    count = 50 if runtime.posts else 1000
    runtime.run(handed_over_at_once)
    threads = threading.active_count()
    for n in range(count):
        runtime.start(dozes, n, id=f"sleeper-{n}")
    assert threading.active_count() <= threads
    runtime.reopen()
    assert len(runtime.list_executions(status="running", workflow=dozes)) == count
    some = runtime.get_execution(f"sleeper-{count // 2}")
    some.cancel()
    with pytest.raises(Exception, match="cancelled"):
        some.result(WAIT)
    assert len(runtime.list_executions(status="running")) == count - 1
    if runtime.virtual:
        assert runtime.get_execution(f"sleeper-{count - 1}").result(WAIT) == count - 1


@workflow("behaviours.at_once")
async def handed_over_at_once(ctx: Context) -> None:
    await ctx.task(lambda: None)


def test_50_two_runtimes_are_independent(runtime: Stage) -> None:
    """Two runtimes on two states in one process know nothing of each other, not even by id."""
    other = runtime.apart()
    try:
        here = runtime.start(handed_over, id="same")
        there = other.start_execution(handed_over, id="same")
        runtime.start(handed_over, id="only-here")
        with pytest.raises(ExecutionNotFound):
            other.get_execution("only-here")
        here.signal("go on", "here")
        there.signal("go on", "there")
        assert here.result(WAIT) == ["one", "here", "two"]
        assert there.result(WAIT) == ["one", "there", "two"]
    finally:
        other.close()
    assert runtime.start(handed_over, id="same").result(WAIT) == ["one", "here", "two"]


def test_50_opening_and_closing_leaves_nothing(runtime: Stage) -> None:
    """A closed runtime has no thread, refuses what it is asked, and can be closed again."""
    runtime.run(handed_over_at_once)
    runtime.close()
    threads = threading.active_count()
    for _ in range(5):
        runtime.reopen()
        runtime.run(handed_over_at_once)
        runtime.close()
        runtime.close()
    assert threading.active_count() <= threads
    with pytest.raises(RuntimeClosed):
        runtime.start(handed_over_at_once)


@workflow("behaviours.asked_with")
async def asked_with(ctx: Context) -> list[str]:
    state = watched(ctx)
    got = [await ctx.task(note, f"with {STATE['value']}")]
    state["waits"] = True
    await ctx.wait_for_signal("go on")
    return got


def test_51_a_recorded_result_stays(runtime: Stage) -> None:
    """Arguments are not part of what is compared: a task that is recorded keeps its result when
    its arguments change, and is not run again."""
    STATE["value"] = 1
    execution = runtime.start(asked_with)
    settle(execution)
    runtime.close()
    STATE["value"] = 2
    runtime.reopen()
    execution = runtime.again(execution)
    execution.signal("go on")
    assert execution.result(WAIT) == ["with 1"]
    assert LEDGER == ["with 1"]


def test_52_asynchronous_callers(runtime: Stage) -> None:
    """In a coroutine of the caller's, `await execution` waits without blocking the loop."""

    async def main() -> list[Any]:
        executions = [runtime.start(handed_over, id=f"a{n}") for n in range(5)]
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        waiting = [asyncio.create_task(wait_for(execution)) for execution in executions]
        await asyncio.sleep(0)
        for execution in executions:
            await asyncio.to_thread(execution.signal, "go on", execution.id)
        results = await asyncio.gather(*waiting)
        ticking.cancel()
        assert ticks > 10
        return results

    async def wait_for(execution: Any) -> Any:
        return await execution

    assert asyncio.run(main()) == [["one", f"a{n}", "two"] for n in range(5)]


async def awaits() -> str:
    await asyncio.sleep(0)
    return "awaited"


@workflow("behaviours.has_an_async_task")
async def has_an_async_task(ctx: Context) -> str:
    return await ctx.task(awaits)


def test_52_an_application_that_opens_its_runtime_in_its_loop(runtime: Stage) -> None:
    """Async tasks run also where the runtime was opened in an event loop, and when that has ended."""

    async def main() -> Any:
        runtime.reopen()
        return await runtime.start(has_an_async_task)

    assert asyncio.run(main()) == "awaited"
    assert runtime.run(has_an_async_task) == "awaited"


def test_52_many_threads(runtime: Stage) -> None:
    """One runtime serves any number of threads."""

    def one(n: int) -> Any:
        execution = runtime.start(handed_over, id=f"t{n}")
        execution.signal("go on", n)
        return execution.result(WAIT)

    callers = [Background(lambda n=n: one(n)) for n in range(16)]
    assert [each.get() for each in callers] == [["one", n, "two"] for n in range(16)]


@workflow("behaviours.uses_a_runtime")
async def uses_a_runtime(ctx: Context) -> str:
    try:
        CURRENT[0].start(handed_over)
    except NotAllowedInWorkflow as error:
        return str(error)
    return "?"


CURRENT: list[Stage] = []


def test_52_a_workflow_is_no_caller(runtime: Stage) -> None:
    """Workflow code that uses a runtime is refused, and told to use a task or ctx.child."""
    CURRENT[:] = [runtime]
    with pytest.raises(ExecutionBlocked, match="do it in a task"):
        runtime.run(uses_a_runtime)
    assert len(runtime.list_executions()) == 1
