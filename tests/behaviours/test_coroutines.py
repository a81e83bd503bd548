"""54: a runtime for coroutines, and what a runtime shows."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mini_workflow import (
    AsyncExecution,
    Context,
    ExecutionClosed,
    ExecutionNotFound,
    ExecutionTerminated,
    NotAllowedInWorkflow,
    RuntimeClosed,
    UnknownHandler,
    workflow,
)
from tests.behaviours.stage import Stage
from tests.waiting import WAIT, eventually


@workflow("behaviours.talks")
async def talks(ctx: Context, name: str) -> list[Any]:
    said: list[Any] = [name]
    go = asyncio.Event()

    async def change(value: str) -> str:
        await go.wait()
        said.append(value)
        return value.upper()

    def begin(value: Any) -> None:
        said.append(value)
        go.set()

    ctx.on_query("said", lambda: list(said))
    ctx.on_update("change", change)
    ctx.on_signal("go", begin)
    promise = ctx.promise()
    ctx.on_query("token", lambda: promise.token)
    said.append(await promise)
    return said


def in_coroutines(main: Any) -> None:
    """Run it in an event loop; it may take no longer than any wait of a test."""

    async def limited() -> None:
        async with asyncio.timeout(WAIT):
            await main

    asyncio.run(limited())


def test_54_every_call_can_be_awaited(runtime: Stage) -> None:
    """`runtime.aio` does for coroutines what the runtime does, with handles of the same kind."""

    async def main() -> None:
        client = runtime.aio
        assert client is runtime.aio
        one = await client.start_execution(talks, "a", id="one")
        assert isinstance(one, AsyncExecution)
        assert repr(one) == "<execution 'one'>"
        assert (await client.start_execution(talks.bind("a"), id="one")).id == "one"
        two = await client.signal_with_start(talks, "b", id="two", signal="go", value=1)
        three, four = await client.start_executions(talks, [("c",), ("d",)], ids=["three", "four"])
        started = {"one", "two", "three", "four"}
        # On AWS an execution is listed from its first turn on.
        await asyncio.to_thread(
            lambda: eventually(lambda: len(runtime.list_executions(workflow=talks)) == len(started))
        )
        assert {each.id for each in await client.list_executions(workflow=talks)} == started
        again = await client.get_execution("one")
        await again.signal("go", 2)
        assert await again.update("change", "x") == "X"
        assert await again.query("said") == ["a", 2, "x"]
        await client.complete_promise(await again.query("token"), "done")
        assert await one == await again.result() == ["a", 2, "x", "done"]
        assert (await one.describe()).status == "completed"
        kinds = [type(event).__name__ for event in await one.history()]
        assert (kinds[0], kinds[-1]) == ("ExecutionStarted", "ExecutionCompleted")
        assert len(await one.timeline()) == len(kinds)
        assert (await one.recording()).execution_id == "one"
        await client.fail_promise(await two.query("token"), KeyError("none"))
        with pytest.raises(KeyError, match="none"):
            await two
        await three.terminate("enough")
        with pytest.raises(ExecutionTerminated, match="enough"):
            await three
        await four.cancel("no more")
        with pytest.raises(Exception, match="no more"):
            await four.result()

    in_coroutines(main())


def test_54_what_is_wrong_is_raised_where_it_is_awaited(runtime: Stage) -> None:
    """Errors are those of the runtime itself."""

    async def main() -> None:
        client = runtime.aio
        with pytest.raises(ExecutionNotFound):
            await client.get_execution("nobody")
        one = await client.start_execution(talks, "a")
        with pytest.raises(UnknownHandler):
            await one.query("nothing")
        with pytest.raises(TimeoutError, match="still running after 0 s"):
            await one.result(timeout=0)
        with pytest.raises(AttributeError, match="no_such_call"):
            await client.no_such_call()
        await one.terminate()
        with pytest.raises(ExecutionClosed):
            await one.signal("go")

    in_coroutines(main())


def test_54_an_update_that_waits_holds_up_nobody(runtime: Stage) -> None:
    """More updates than there are calls at a time wait, and are answered by a signal after them."""

    async def main() -> None:
        one = await runtime.aio.start_execution(talks, "a")
        asked = [asyncio.create_task(one.update("change", f"u{n}", id=f"u{n}")) for n in range(40)]
        while len(await one.history()) < 1 + 1 + 40:  # started, promise, and the updates
            await asyncio.sleep(0.01)
        await one.signal("go", 1)
        assert await asyncio.gather(*asked) == [f"U{n}" for n in range(40)]
        await one.terminate()

    in_coroutines(main())


def test_54_a_caller_who_is_cancelled_changes_nothing(runtime: Stage) -> None:
    """Who stops waiting takes nothing back: the execution goes on, and so does an update."""

    async def main() -> None:
        one = await runtime.aio.start_execution(talks, "a", id="one")
        waiting = asyncio.create_task(one.result())
        asking = asyncio.create_task(one.update("change", "x", id="u1"))
        while "UpdateAccepted" not in [type(event).__name__ for event in await one.history()]:
            await asyncio.sleep(0.01)
        before = await one.history()
        for task in (waiting, asking):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert list(await one.history()) == list(before)
        await one.signal("go", 1)
        assert await one.update("change", "other", id="u1") == "X"
        await runtime.aio.complete_promise(await one.query("token"), "end")
        assert await one == ["a", 1, "x", "end"]

    in_coroutines(main())


def test_54_closed_by_async_with(runtime: Stage) -> None:
    """`async with` closes a runtime without blocking the loop, and leaves no thread behind."""

    async def main() -> None:
        async with runtime.runtime as opened:
            assert opened is runtime.runtime
            one = await opened.aio.start_execution(talks, "a", id="one")
            await one.terminate()
        with pytest.raises(RuntimeClosed):
            await opened.aio.start_execution(talks, "a")
        with pytest.raises(RuntimeClosed):
            await one.update("change", "x")
        runtime.reopen()
        async with runtime.aio as client:
            assert (await (await client.get_execution("one")).describe()).status == "terminated"
        with pytest.raises(RuntimeClosed):
            await client.list_executions()

    in_coroutines(main())
    for thread in threading.enumerate():
        if thread.name.startswith("mini-workflow-aio"):
            thread.join(WAIT)
            assert not thread.is_alive()


CURRENT: list[Any] = []


@workflow("behaviours.awaits_a_runtime")
async def awaits_a_runtime(ctx: Context) -> str:
    try:
        await CURRENT[0].aio.start_execution(talks, "a")
    except NotAllowedInWorkflow as error:
        CURRENT.append(str(error))
        raise
    return "?"


def test_54_a_workflow_awaits_no_runtime(runtime: Stage) -> None:
    """Workflow code that awaits a call of a runtime is refused, as any other use of it."""
    CURRENT[:] = [runtime]
    execution = runtime.start(awaits_a_runtime)
    with pytest.raises(Exception, match="do it in a task"):
        execution.result(WAIT)
    assert "do it in a task" in CURRENT[1]
    assert len(runtime.list_executions()) == 1


def test_54_a_runtime_shows_what_users_may_call(runtime: Stage) -> None:
    """`dir` lists the calls that the documentation has, and none that only handles make."""
    shown = set(dir(runtime.runtime))
    assert shown >= {
        *("aio", "close", "complete_promise", "fail_promise", "get_execution", "list_executions"),
        *("list_page", "signal_with_start", "start_execution", "start_executions"),
    }
    execution = runtime.start(talks, "a", id="one")
    handles = {name for name in dir(execution) if not name.startswith("_")}
    assert shown & (handles | {"head", "lines", "stored", "wait", "wait_async", "closing"}) == set()
    assert [name for name in shown if name.startswith("_")] == []
    for name in shown:
        assert (getattr(type(runtime.runtime), name, None) or int).__doc__, name
    # For coroutines there is as much.
    shown_there = set(dir(runtime.aio))
    assert shown - {"aio"} == shown_there
    assert set(dir(runtime.aio.get_execution)) >= {"__call__"}

    async def main() -> None:
        assert set(dir(await runtime.aio.get_execution("one"))) == handles

    in_coroutines(main())
    execution.terminate()
