"""A LocalRuntime in asynchronous programs: `await execution`."""

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionTerminated,
    LocalRuntime,
    NotAllowedInWorkflow,
    RuntimeClosed,
    workflow,
)
from mini_workflow.engine.execution import Execution
from tests.unit.local import flows
from tests.waiting import WAIT


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the test on an event loop."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


async def waiting(runtime: LocalRuntime) -> None:
    """Until somebody waits for an execution."""
    while not runtime._role.waiters:
        await asyncio.sleep(0)


async def result_of(execution: Execution) -> Any:
    return await execution


@asynchronous
async def test_await(runtime: LocalRuntime) -> None:
    execution = runtime.start_execution(flows.echo, [1, (2,)])
    assert await execution == [1, (2,)]
    assert await execution == [1, (2,)]  # and again


@asynchronous
async def test_requests_at_once(runtime: LocalRuntime) -> None:
    """As in a web application: each request starts an execution and awaits it."""

    async def request(number: int) -> Any:
        return await runtime.start_execution(flows.echo, number, by="task")

    results = await asyncio.gather(*(request(number) for number in range(100)))
    assert results == list(range(100))


@asynchronous
async def test_several_wait_for_one(runtime: LocalRuntime) -> None:
    execution = runtime.start_execution(flows.gated, "async crowd")
    tasks = [asyncio.ensure_future(result_of(execution)) for _ in range(5)]
    await waiting(runtime)
    flows.gate("async crowd").opened.set()
    assert await asyncio.gather(*tasks) == ["async crowd"] * 5


@asynchronous
async def test_a_cancelled_waiter_leaves_the_execution_alone(runtime: LocalRuntime) -> None:
    execution = runtime.start_execution(flows.gated, "patience")
    task = asyncio.ensure_future(result_of(execution))
    await waiting(runtime)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not runtime._role.waiters
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await execution
    assert execution.describe().status == "running"
    flows.gate("patience").opened.set()
    assert await execution == "patience"


@asynchronous
async def test_errors(runtime: LocalRuntime) -> None:
    with pytest.raises(ZeroDivisionError):
        await runtime.start_execution(flows.fails, "task")
    execution = runtime.start_execution(flows.sleeper, 1000)
    task = asyncio.ensure_future(result_of(execution))
    await waiting(runtime)
    execution.terminate("enough")
    with pytest.raises(ExecutionTerminated, match="enough"):
        await task


@asynchronous
async def test_who_waits_while_it_closes_is_told(path: Path) -> None:
    runtime = LocalRuntime(path)
    execution = runtime.start_execution(flows.sleeper, 1000)
    task = asyncio.ensure_future(result_of(execution))
    await waiting(runtime)
    await asyncio.to_thread(runtime.close)
    with pytest.raises(RuntimeClosed):
        await task
    with pytest.raises(RuntimeClosed):
        await execution


def test_a_loop_that_is_gone_harms_nobody(runtime: LocalRuntime) -> None:
    execution = runtime.start_execution(flows.gated, "gone")
    loop = asyncio.new_event_loop()
    task = loop.create_task(result_of(execution))
    loop.run_until_complete(waiting(runtime))
    loop.close()  # in the middle of the wait, which nobody cancels
    flows.gate("gone").opened.set()
    assert execution.result(WAIT) == "gone"
    assert runtime.start_execution(flows.answer).result(WAIT) == 42
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine: Any = task.get_coro()
    coroutine.close()


def test_several_loops_on_several_threads(runtime: LocalRuntime, in_thread: Any) -> None:
    execution = runtime.start_execution(flows.gated, "loops")
    outcomes = [in_thread(lambda: asyncio.run(result_of(execution))) for _ in range(4)]
    flows.gate("loops").opened.set()
    assert [outcome.get() for outcome in outcomes] == ["loops"] * 4


@asynchronous
async def test_a_task_may_await_an_execution(runtime: LocalRuntime) -> None:
    HANDLES["runtime"] = runtime
    assert await runtime.start_execution(asks_in_a_task) == 42


@asynchronous
async def test_a_workflow_must_not_use_a_runtime(runtime: LocalRuntime) -> None:
    HANDLES["runtime"] = runtime
    HANDLES["execution"] = runtime.start_execution(flows.sleeper, 1000, id="other")
    for what in (
        "start",
        "get",
        "list",
        "close",
        "evict",
        "result",
        "await",
        "describe",
        "terminate",
        "history",
        "resume",
    ):
        execution = runtime.start_execution(misuses, what)
        with pytest.raises(Exception, match=r"using a runtime.*do it in a task") as e:
            await execution
        assert "test_async.py" in str(e.value)
        assert execution.describe().status in ("blocked", "failed")
    with pytest.raises(NotAllowedInWorkflow, match="inline"):
        await runtime.start_execution(misuses, "inline")
    assert runtime.get_execution("other").describe().status == "running"
    assert await runtime.start_execution(flows.answer) == 42


@asynchronous
async def test_the_callers_context_does_not_reach_the_workflow(runtime: LocalRuntime) -> None:
    VARIABLE.set("set by the caller")
    assert await runtime.start_execution(looks_at_variable) == ("unset", "unset")


HANDLES: dict[str, Any] = {}
VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


async def ask() -> int:
    return await HANDLES["runtime"].start_execution(flows.answer)


@workflow("local.asks_in_a_task")
async def asks_in_a_task(ctx: Context) -> int:
    return await ctx.task(ask)


def misuse(what: str) -> object:
    runtime: LocalRuntime = HANDLES["runtime"]
    execution: Execution = HANDLES["execution"]
    calls: dict[str, Any] = {
        "start": lambda: runtime.start_execution(flows.answer),
        "get": lambda: runtime.get_execution("other"),
        "list": runtime.list_executions,
        "close": runtime.close,
        "evict": runtime.evict,
        "result": execution.result,
        "describe": execution.describe,
        "terminate": execution.terminate,
        "history": execution.history,
        "resume": execution.resume,
    }
    return calls[what]()


@workflow("local.misuses")
async def misuses(ctx: Context, what: str) -> object:
    if what == "await":
        return await HANDLES["execution"]
    if what == "inline":
        return await ctx.task(misuse, "start", inline=True)
    try:
        return misuse(what)
    except Exception:
        return "caught, as a careless workflow would"


def look() -> str:
    return VARIABLE.get()


@workflow("local.looks_at_variable")
async def looks_at_variable(ctx: Context) -> tuple[str, str]:
    return VARIABLE.get(), await ctx.task(look)
