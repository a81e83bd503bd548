"""Runtimes that are opened in an event loop: async tasks run there, and nothing locks up."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    Context,
    LocalClient,
    LocalRuntime,
    RetryPolicy,
    UsageError,
    WorkerLost,
    current_task,
    workflow,
)
from mini_workflow.testing import EnvironmentState, WorkflowEnvironment
from tests.waiting import WAIT, eventually

Open = Callable[[], Any]


class Application:
    """What a web application makes when it starts: it belongs to its event loop."""

    progress: asyncio.Queue[str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gate: asyncio.Event
    reached: asyncio.Event
    threads: list[str]
    attempts: list[tuple[int, object]]
    handle: Any


async def report() -> None:
    await Application.progress.put("half way")


async def ask() -> str:
    Application.writer.write(b"ping\n")
    return (await Application.reader.readline()).decode()


async def hold() -> str:
    task = current_task()
    Application.attempts.append((task.attempt, task.last_heartbeat))
    Application.threads.append(threading.current_thread().name)
    task.heartbeat("so far")
    Application.reached.set()
    await Application.gate.wait()
    return threading.current_thread().name


async def note_thread() -> str:
    return threading.current_thread().name


@workflow("loop.talks")
async def talks(ctx: Context) -> str:
    await ctx.task(report)
    return await ctx.task(ask)


@workflow("loop.holds")
async def holds(ctx: Context, attempts: int = 3) -> str:
    return await ctx.task(hold, retry=RetryPolicy(max_attempts=attempts, initial=0.001))


@workflow("loop.where")
async def where(ctx: Context) -> str:
    return await ctx.task(note_thread)


@workflow("loop.waits")
async def waits(ctx: Context) -> object:
    async def ask() -> str:
        return await ctx.task(note_thread)

    ctx.on_update("where", ask)
    return await ctx.wait_for_signal("go")


@workflow("loop.sync")
async def sync(ctx: Context) -> str:
    return await ctx.task(lambda: threading.current_thread().name)


@pytest.fixture(params=["local", "local-replaying", "environment", "environment-replaying"])
def open_runtime(request: pytest.FixtureRequest, path: Path) -> Open:
    """Opens a runtime, again and again on the same state."""
    cache_size = 0 if "replaying" in request.param else 4096
    if request.param.startswith("local"):
        return lambda: LocalRuntime(path, cache_size=cache_size, synchronous="NORMAL")
    state = EnvironmentState()
    return lambda: WorkflowEnvironment(state, cache_size=cache_size)


@pytest.fixture(autouse=True)
def application() -> None:
    Application.threads, Application.attempts = [], []


def in_a_loop(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run an application."""

    async def run() -> Any:
        Application.progress = asyncio.Queue()
        Application.gate, Application.reached = asyncio.Event(), asyncio.Event()
        return await asyncio.wait_for(main(), WAIT)

    return asyncio.run(run())


HERE = threading.main_thread().name


def test_what_belongs_to_the_applications_loop_can_be_used(open_runtime: Open) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await asyncio.sleep(0)
            writer.write(line)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        Application.reader, Application.writer = await asyncio.open_connection(*address)
        with open_runtime() as runtime:
            execution = runtime.start_execution(talks)
            assert await Application.progress.get() == "half way"
            assert await execution == "ping\n"
        Application.writer.close()
        await Application.writer.wait_closed()
        server.close()
        await server.wait_closed()

    in_a_loop(main)


def test_one_that_is_opened_outside_has_a_loop_of_its_own(open_runtime: Open) -> None:
    async def main() -> None:
        runtime = await asyncio.to_thread(open_runtime)
        with runtime:
            assert await runtime.start_execution(where) != HERE
            assert runtime.start_execution(where).result(WAIT) != HERE

    in_a_loop(main)


# Waiting on the loop's own thread


def test_a_blocking_wait_that_holds_up_a_task_is_refused(open_runtime: Open) -> None:
    async def main() -> None:
        with open_runtime() as runtime:
            execution = runtime.start_execution(holds)
            with pytest.raises(UsageError, match=r"async task 'hold' .*await execution"):
                execution.result(WAIT)
            await Application.reached.wait()
            with pytest.raises(UsageError, match="async task 'hold'"):
                execution.result(WAIT)
            with pytest.raises(TimeoutError):
                execution.result(0)  # a look holds up nothing
            # Also one that waits for another, on which the task may depend.
            with pytest.raises(UsageError, match="async task 'hold'"):
                runtime.start_execution(waits).result(WAIT)
            waiting = asyncio.create_task(asyncio.to_thread(execution.result, WAIT))
            Application.gate.set()
            assert await execution == await waiting == HERE
            assert execution.result(WAIT) == HERE
            assert Application.attempts == [(1, None)]

    in_a_loop(main)


def test_an_update_too(open_runtime: Open) -> None:
    async def main() -> None:
        with open_runtime() as runtime:
            execution = runtime.start_execution(waits)
            with pytest.raises(UsageError, match=r"'note_thread' .*runtime.aio"):
                execution.update("where", timeout=WAIT, id="once")
            handle = await runtime.aio.get_execution(execution.id)
            assert await handle.update("where", timeout=WAIT, id="once") == HERE
            execution.signal("go")
            await execution

    in_a_loop(main)


def test_one_that_holds_up_nothing_is_not(open_runtime: Open) -> None:
    async def main() -> None:
        with open_runtime() as runtime:
            assert runtime.start_execution(sync).result(WAIT) != HERE
            assert await runtime.start_execution(where) == HERE
            assert runtime.start_execution(sync).result(WAIT) != HERE

    in_a_loop(main)


def test_waits_through_a_client_are_refused_too(path: Path) -> None:
    async def main() -> None:
        with LocalRuntime(path), LocalClient(path) as client:
            execution = client.start_execution(holds)
            with pytest.raises(UsageError, match="async task 'hold'"):
                execution.result(WAIT)
            await Application.reached.wait()
            Application.gate.set()
            assert await execution == HERE
            execution = client.start_execution(waits)
            with pytest.raises(UsageError, match="async task 'note_thread'"):
                execution.update("where", timeout=WAIT, id="once")
            found = await asyncio.to_thread(execution.update, "where", timeout=WAIT, id="once")
            assert found == HERE

    in_a_loop(main)


def test_time_does_not_pass_either_on_the_loops_own_thread() -> None:
    async def main() -> None:
        with WorkflowEnvironment() as environment:
            execution = environment.start_execution(holds)
            await Application.reached.wait()
            with pytest.raises(UsageError, match="async task 'hold'"):
                environment.advance(1)
            Application.gate.set()
            await execution
            environment.advance(1)

    in_a_loop(main)


# Closing


def test_closing_on_the_loops_own_thread_hands_its_tasks_back(open_runtime: Open) -> None:
    """Law: a close in a coroutine does not wait for what only this coroutine keeps from ending."""

    async def main() -> None:
        runtime = open_runtime()
        execution = runtime.start_execution(holds, 1)
        await Application.reached.wait()
        runtime.close()
        Application.gate.set()
        with open_runtime() as runtime:
            assert await runtime.get_execution(execution.id) == HERE
        assert Application.attempts == [(1, None), (1, "so far")]

    in_a_loop(main)


def test_closing_in_a_thread_lets_tasks_end(open_runtime: Open) -> None:
    async def main() -> None:
        runtime = open_runtime()
        execution = runtime.start_execution(holds, 1)
        await Application.reached.wait()
        closing = asyncio.create_task(asyncio.to_thread(runtime.close))
        while not runtime._engine_transport.closed:
            await asyncio.sleep(0)
        Application.gate.set()
        await closing
        with open_runtime() as runtime:
            assert await runtime.get_execution(execution.id) == HERE
        assert Application.attempts == [(1, None)]

    in_a_loop(main)


# The end of the loop


def test_a_runtime_outlives_the_loop_in_which_it_was_opened(open_runtime: Open) -> None:
    async def main() -> Any:
        runtime = open_runtime()
        assert await runtime.start_execution(where) == HERE
        return runtime

    with in_a_loop(main) as runtime:
        assert runtime.start_execution(where).result(WAIT) != HERE
        assert asyncio.run(result_of(runtime.start_execution(where))) != HERE


async def result_of(execution: Any) -> Any:
    return await execution


@pytest.mark.parametrize("then", ["goes on", "is closed"])
def test_the_end_of_the_loop_costs_no_attempt(open_runtime: Open, then: str) -> None:
    """Law: `asyncio.run` cancels all tasks at its end, and those of the engine go on elsewhere."""

    async def main() -> Any:
        runtime = open_runtime()
        execution = runtime.start_execution(holds, 1)
        await Application.reached.wait()
        return runtime, execution

    runtime, execution = in_a_loop(main)
    Application.gate = asyncio.Event()
    Application.gate.set()
    if then == "is closed":
        runtime.close()
        runtime = open_runtime()
        execution = runtime.get_execution(execution.id)
    with runtime:
        assert execution.result(WAIT) != HERE
        assert Application.attempts == [(1, None), (1, "so far")]


def test_an_application_that_cancels_everything_loses_attempts_and_no_execution(
    open_runtime: Open,
) -> None:
    async def main() -> None:
        with open_runtime() as runtime:
            lost = runtime.start_execution(holds, 1)
            await Application.reached.wait()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            # The one that waits for this coroutine is not to be cancelled.
            for task in others:
                if task.get_name().startswith("async task"):
                    task.cancel()
            with pytest.raises(WorkerLost, match="'hold'"):
                await lost
            assert await runtime.start_execution(where) == HERE

    in_a_loop(main)


# A loop that is blocked


async def bad() -> None:
    Blocked.reached.set()
    assert Blocked.goes_on.wait(WAIT)


class Blocked:
    reached = threading.Event()
    goes_on = threading.Event()


@workflow("loop.blocks")
async def blocks(ctx: Context) -> None:
    await ctx.task(bad)


@pytest.mark.parametrize("opened", ["outside", "inside"])
def test_a_task_that_blocks_the_loop_is_named_in_the_log(
    open_runtime: Open, opened: str, caplog: pytest.LogCaptureFixture
) -> None:
    Blocked.reached.clear()
    Blocked.goes_on.clear()

    async def main() -> None:
        with open_runtime() as runtime:
            await runtime.start_execution(blocks, id="culprit")

    def look() -> None:
        with contextlib.suppress(AssertionError):
            eventually(lambda: [each for each in caplog.messages if "'bad'" in each])
        Blocked.goes_on.set()

    looking = threading.Thread(target=look)
    looking.start()
    if opened == "inside":
        in_a_loop(main)
    else:
        with open_runtime() as runtime:
            runtime.start_execution(blocks, id="culprit").result(WAIT)
    looking.join()
    (said,) = [each for each in caplog.messages if "'bad'" in each]
    assert "execution 'culprit'" in said
    assert f"{__file__}:" in said
