"""Law 6: what a replay cannot repeat fails loudly, and names what to use instead and the line."""

# ruff: noqa: PLW0108, SIM105 - names are looked up when they are called; as users write it

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import http.client
import logging
import multiprocessing
import os
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.errors import (
    DeterminismError,
    ExecutionBlocked,
    InvalidArguments,
    MiniWorkflowError,
    NotAllowedInWorkflow,
    WorkflowDeadlock,
)
from mini_workflow.testing import WorkflowEnvironment
from mini_workflow.workflow import workflow
from tests.laws.corpus import double, fail
from tests.laws.driver import Driver, check_replays, define, replayed, run


def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def nothing() -> None: ...


IN_A_TASK = "do it in a task"
FORBIDDEN: dict[str, tuple[Callable[[], Any], str]] = {
    "time.sleep": (lambda: time.sleep(0), "use await ctx.sleep"),
    "socket": (socket.socket, IN_A_TASK),
    "create_connection": (lambda: socket.create_connection(("127.0.0.1", 9)), IN_A_TASK),
    "getaddrinfo": (lambda: socket.getaddrinfo("localhost", 80), IN_A_TASK),
    "thread": (lambda: threading.Thread(target=nothing).start(), IN_A_TASK),
    "executor": (lambda: concurrent.futures.ThreadPoolExecutor(1).submit(nothing), IN_A_TASK),
    "subprocess": (lambda: subprocess.run(["true"], check=True), IN_A_TASK),
    "os.system": (lambda: os.system("true"), IN_A_TASK),
    "fork": (os.fork, IN_A_TASK),
    "multiprocessing": (
        lambda: multiprocessing.get_context("fork").Process(target=nothing).start(),
        IN_A_TASK,
    ),
    "spawn": (
        lambda: multiprocessing.get_context("spawn").Process(target=nothing).start(),
        IN_A_TASK,
    ),
    "sqlite": (lambda: sqlite3.connect(":memory:"), IN_A_TASK),
    "input": (input, "wait for a signal"),
    "to_thread": (lambda: asyncio.to_thread(nothing), IN_A_TASK),
    "run_in_executor": (lambda: loop().run_in_executor(None, nothing), IN_A_TASK),
    "subprocess_exec": (lambda: asyncio.create_subprocess_exec("true"), IN_A_TASK),
    "open_connection": (lambda: asyncio.open_connection("127.0.0.1", 9), IN_A_TASK),
    "start_server": (lambda: asyncio.start_server(print, "127.0.0.1", 0), IN_A_TASK),
    "loop.getaddrinfo": (lambda: loop().getaddrinfo("localhost", 80), IN_A_TASK),
    "sock_recv": (lambda: loop().sock_recv(None, 1), IN_A_TASK),  # type: ignore[arg-type]
    "add_reader": (lambda: loop().add_reader(0, nothing), IN_A_TASK),
    "signal handler": (lambda: loop().add_signal_handler(10, nothing), IN_A_TASK),
    "run_forever": (lambda: loop().run_forever(), "the engine does that"),
    "stop": (lambda: loop().stop(), "the engine does that"),
    "close": (lambda: loop().close(), "the engine does that"),
    "new_event_loop": (lambda: asyncio.new_event_loop(), "await the coroutine"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_law_06_forbidden_calls_name_the_way_out_and_the_line(name: str) -> None:
    """Law 6: the execution cannot go on; the error says what was done, where, and what to do."""
    call, advice = FORBIDDEN[name]

    async def workflow(ctx: Context) -> None:
        await ctx.task(double, 1)
        answer = call()
        if asyncio.iscoroutine(answer) or asyncio.isfuture(answer):
            await answer
        await ctx.task(double, 2)

    driver = Driver(workflow)
    message = driver.perform(driver.dispatched[0])
    decision = driver.deliver(message, check=False)
    assert isinstance(decision.fault, NotAllowedInWorkflow)
    assert "is not allowed in a workflow" in str(decision.fault)
    assert advice in str(decision.fault)
    assert f"{__file__}:" in str(decision.fault)
    assert decision.left == (message,)
    assert decision.events == ()


@contextlib.contextmanager
def warm_executor() -> Iterator[Callable[[], Any]]:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        executor.submit(nothing).result()
        yield lambda: executor.submit(nothing).result()


@contextlib.contextmanager
def loop_of_another_thread() -> Iterator[Callable[[], Any]]:
    async def coroutine() -> None: ...

    elsewhere = asyncio.new_event_loop()
    thread = threading.Thread(target=elsewhere.run_forever)
    thread.start()
    given = coroutine()
    yield lambda: asyncio.run_coroutine_threadsafe(given, elsewhere).result()
    given.close()
    elsewhere.call_soon_threadsafe(elsewhere.stop)
    thread.join()
    elsewhere.close()


@contextlib.contextmanager
def open_connection() -> Iterator[Callable[[], Any]]:
    """An HTTP connection as a pool keeps it: nothing is left to do but to send."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock, other_end = socket.socketpair()
    with connection.sock, other_end:
        yield lambda: connection.request("GET", "/")


@contextlib.contextmanager
def open_socket() -> Iterator[Callable[[], Any]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        yield lambda: made.sendto(b"", ("127.0.0.1", 9))


@pytest.mark.parametrize(
    "kept", [warm_executor, loop_of_another_thread, open_connection, open_socket]
)
def test_law_06_what_was_made_before_is_refused_too(
    kept: Callable[[], contextlib.AbstractContextManager[Callable[[], Any]]],
) -> None:
    """Law 6: a pool of a module, which starts no thread and opens no connection any more."""
    with kept() as use:

        async def workflow(ctx: Context) -> None:
            await ctx.task(double, 1)
            use()

        driver = Driver(workflow)
        decision = driver.deliver(driver.perform(driver.dispatched[0]), check=False)
    assert isinstance(decision.fault, NotAllowedInWorkflow)
    assert f"is not allowed in a workflow, because a replay cannot repeat it; {IN_A_TASK}" in str(
        decision.fault
    )
    assert f"{__file__}:" in str(decision.fault)


WAKING: dict[str, Callable[[Any], Any]] = {
    "Event": lambda shared: shared.event.set(),
    "Queue": lambda shared: shared.queue.put_nowait("item"),
    "Semaphore": lambda shared: shared.semaphore.release(),
    "Future": lambda shared: shared.future.set_result(None),
    "Task": lambda shared: shared.task.cancel(),
    "call_soon": lambda shared: shared.loop.call_soon(nothing),
    "call_later": lambda shared: shared.loop.call_later(60, nothing),
}


class Shared:
    """Objects of asyncio, as globals of a module are shared. Code of one workflow waits for all of them."""

    async def wait(self) -> None:
        self.loop, self.task = loop(), asyncio.current_task()
        self.event, self.queue = asyncio.Event(), asyncio.Queue[str]()
        self.semaphore = asyncio.Semaphore(0)
        self.future = self.loop.create_future()
        waits = (self.event.wait(), self.queue.get(), self.semaphore.acquire(), self.future)
        await asyncio.wait([*map(asyncio.ensure_future, waits)])


@pytest.mark.parametrize("name", WAKING)
@pytest.mark.parametrize("by", ["a workflow", "a thread", "a loop"])
def test_law_06_code_of_others_wakes_no_workflow(name: str, by: str) -> None:
    """Law 6: no history says that it was woken. Whoever does it hears of it, and neither goes on."""
    shared, wake = Shared(), WAKING[name]

    @workflow("waits-for-others")
    async def waits(ctx: Context) -> None:
        ctx.on_signal("look", lambda _: None)
        await shared.wait()

    @workflow("wakes-others")
    async def wakes(ctx: Context) -> None:
        wake(shared)

    async def wake_in_a_loop() -> None:
        with pytest.raises(NotAllowedInWorkflow, match="cannot wake a workflow"):
            wake(shared)

    with WorkflowEnvironment() as env:
        waiting = env.start_execution(waits, id="waiting")
        if by == "a workflow":
            with pytest.raises(
                ExecutionBlocked, match="waking another execution by an object"
            ) as e:
                env.start_execution(wakes, id="waking").result()
            assert f"{__file__}:" in str(e.value)
        elif by == "a loop":
            asyncio.run(wake_in_a_loop())
        else:
            with concurrent.futures.ThreadPoolExecutor(1) as executor:
                executor.submit(lambda: asyncio.run(wake_in_a_loop())).result()
        waiting.signal("look")
        with pytest.raises(
            ExecutionBlocked, match=r"make one in each workflow function.*\(at "
        ) as e:
            waiting.result()
        assert f"{__file__}:" in str(e.value)
        waiting.resume()
        assert waiting.describe().status == "running"
        assert [type(event) for event in waiting.history()] == [
            events.ExecutionStarted,
            events.SignalReceived,
        ]


def test_law_06_code_of_others_wakes_no_workflow_that_waits_in_a_generator() -> None:
    """Law 6: a generator that waits is not taken for one that is closed."""
    shared = Shared()

    async def generated() -> AsyncIterator[None]:
        await shared.wait()
        yield

    @workflow("waits-in-a-generator")
    async def waits(ctx: Context) -> None:
        ctx.on_signal("look", lambda _: None)
        async for _ in generated():
            return

    with WorkflowEnvironment() as env:
        waiting = env.start_execution(waits, id="waiting")
        with pytest.raises(NotAllowedInWorkflow, match="cannot wake a workflow"):
            shared.event.set()
        waiting.signal("look")
        with pytest.raises(ExecutionBlocked, match="make one in each workflow function"):
            waiting.result()


def test_law_06_a_lock_of_a_module_blocks_whoever_waits_for_it() -> None:
    """Law 6: who waits depends on the other executions, which no replay repeats."""
    lock = asyncio.Lock()

    @workflow("locks")
    async def locks(ctx: Context) -> None:
        ctx.on_signal("look", lambda _: None)
        async with lock:
            await ctx.wait_for_signal("go on")

    with WorkflowEnvironment() as env:
        _first, second, third = (env.start_execution(locks, id=name) for name in "abc")
        with pytest.raises(ExecutionBlocked, match=r"waiting for a Lock .*make it in the workflow"):
            third.result()
        assert second.describe().status == "running"


@pytest.mark.parametrize("name", ["time.sleep", "socket", "to_thread"])
def test_law_06_swallowing_the_error_does_not_help(name: str) -> None:
    """Law 6: code that catches the error is stopped all the same at its next step."""
    call, _ = FORBIDDEN[name]
    reached: list[str] = []

    async def workflow(ctx: Context) -> None:
        try:
            await call()
        except BaseException:
            pass
        await ctx.sleep(0)
        reached.append("after")

    driver = Driver.__new__(Driver)
    with pytest.raises(NotAllowedInWorkflow):
        driver.__init__(workflow)  # type: ignore[misc]
    assert reached == []


def test_law_06_other_threads_may_do_as_they_like() -> None:
    """Law 6: the guard looks at the thread that runs a workflow only."""
    stop, errors, rounds = threading.Event(), list[BaseException](), list[int]()

    def work() -> None:
        try:
            while not stop.is_set():
                time.sleep(0)
                socket.socket().close()
                rounds.append(1)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(100):
            run(sequential)
        while not rounds:
            pass
    finally:
        stop.set()
        thread.join()
    assert errors == []


async def sequential(ctx: Context) -> None:
    for i in range(5):
        await ctx.task(double, i)


def test_law_06_tasks_and_inline_tasks_are_not_workflow_code() -> None:
    """Law 6: what runs in the turn but is not the workflow's own code is not watched."""

    def body() -> str:
        time.sleep(0)
        socket.socket().close()
        threading.Thread(target=nothing).start()

        async def main() -> str:
            return await asyncio.to_thread(lambda: "from another loop")

        return asyncio.run(main())

    async def workflow(ctx: Context) -> list[str]:
        first = await ctx.task(body, inline=True)
        before = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is before
        return [first, await ctx.task(body)]

    assert run(workflow).result() == ["from another loop"] * 2


def test_law_06_threads_cannot_reach_the_loop() -> None:
    """Law 6: call_soon_threadsafe works from within the turn only."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def workflow(ctx: Context) -> None:
        loops.append(loop())
        loop().call_soon_threadsafe(nothing)
        await ctx.task(double, 1)

    driver = Driver(workflow)
    with pytest.raises(NotAllowedInWorkflow, match="threads cannot reach a workflow"):
        loops[0].call_soon_threadsafe(nothing)
    assert driver.finish().closed


def test_law_06_the_context_is_of_no_use_elsewhere() -> None:
    """Law 6: outside of its own turn nothing can be started or cancelled."""
    leaked: list[Any] = []

    async def workflow(ctx: Context) -> None:
        leaked.append(ctx)
        leaked.append(ctx.task(double, 1))
        await leaked[1]

    async def thief(ctx: Context) -> str:
        try:
            leaked[0].task(double, 2)
        except NotAllowedInWorkflow as error:
            return str(error)
        return "not reached"

    driver = Driver(workflow)
    ctx, future = leaked
    for use in (
        lambda: ctx.task(double, 2),
        lambda: ctx.task(double, 2, inline=True),
        lambda: ctx.sleep(1),
        lambda: ctx.map(double, [1]),
        future.cancel,
    ):
        with pytest.raises(NotAllowedInWorkflow, match="outside its workflow function"):
            use()
    assert "outside its workflow function" in run(thief).result()
    assert len(driver.finish().recorded(events.TaskScheduled)) == 1


@pytest.mark.parametrize("use", ["task", "inline", "sleep", "call_later", "cancel", "map"])
def test_law_06_predicates_start_nothing(use: str) -> None:
    """Law 6: a predicate is tried at moments that are nobody's business; it only looks."""

    async def workflow(ctx: Context) -> None:
        future = ctx.task(double, 1)
        uses: dict[str, Callable[[], Any]] = {
            "task": lambda: ctx.task(double, 2),
            "inline": lambda: ctx.task(double, 2, inline=True),
            "sleep": lambda: ctx.sleep(1),
            "call_later": lambda: loop().call_later(1, nothing),
            "cancel": future.cancel,
            "map": lambda: ctx.map(double, [1]),
        }
        tries: list[int] = []

        def predicate() -> bool:
            tries.append(1)
            if len(tries) > 1:
                uses[use]()
            return False

        await ctx.wait_for(predicate)

    with pytest.raises(NotAllowedInWorkflow, match="only read the workflow's variables"):
        Driver(workflow)


def test_law_06_an_asynchronous_predicate_is_an_error() -> None:
    """Law 6: its coroutine would count as true."""

    async def workflow(ctx: Context) -> None:
        async def predicate() -> bool:
            return False

        await ctx.wait_for(predicate)  # type: ignore[arg-type]

    assert "predicate is asynchronous" in run(workflow).failure().message


def test_law_06_debug_mode_is_refused() -> None:
    """Law 6: asyncio's debug mode depends on the wall clock."""

    async def workflow(ctx: Context) -> None:
        loop().set_debug(False)
        loop().set_debug(True)

    assert "debug mode" in run(workflow).failure().message


# Deadlocks


def test_law_06_waiting_for_nothing_is_reported_with_the_line() -> None:
    """Law 6: a workflow that nothing durable can wake would wait for ever, unseen."""

    async def workflow(ctx: Context) -> None:
        await ctx.task(double, 1)
        queue: asyncio.Queue[int] = asyncio.Queue()
        await queue.get()

    driver = Driver(workflow)
    message = driver.perform(driver.dispatched[0])
    decision = driver.deliver(message, check=False)
    assert isinstance(decision.fault, WorkflowDeadlock)
    assert f"{__file__}:{workflow.__code__.co_firstlineno + 3} in workflow" in str(decision.fault)
    assert decision.left == (message,)
    decision, revived = replayed(driver)
    revived.close()
    assert decision.fault is None


def test_law_06_a_deadlock_names_the_failure_behind_it() -> None:
    """Law 6: usually something failed that should have gone on."""

    async def workflow(ctx: Context) -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def produce() -> None:
            raise LookupError("nothing to produce")

        producer = asyncio.create_task(produce(), name="producer")
        await queue.get()
        await producer

    with pytest.raises(WorkflowDeadlock, match=r"producer failed .*LookupError"):
        Driver(workflow)


def test_law_06_an_open_task_is_no_deadlock_until_it_ends() -> None:
    """Law 6: while anything is open the workflow may still be woken."""

    async def workflow(ctx: Context) -> None:
        ctx.task(double, 1)
        await loop().create_future()

    driver = Driver(workflow)
    decision = driver.deliver(driver.perform(driver.dispatched[0]), check=False)
    assert isinstance(decision.fault, WorkflowDeadlock)


# Code that does not let itself be stopped


@pytest.mark.parametrize("use", ["task", "sleep", "inline", "map", "asyncio.sleep", "wait_for"])
def test_law_06_code_that_catches_everything_cannot_spin(use: str, caplog: Any) -> None:
    """Laws 6 and 8: after a fault, and while it is evicted, it comes to rest."""

    async def workflow(ctx: Context) -> None:
        uses: dict[str, Callable[[], Any]] = {
            "task": lambda: ctx.task(double, 1),
            "sleep": lambda: ctx.sleep(1),
            "inline": lambda: ctx.task(double, 1, inline=True),
            "map": lambda: ctx.map(double, [1]),
            "asyncio.sleep": lambda: asyncio.sleep(1),
            "wait_for": lambda: ctx.wait_for(lambda: False, timeout=1),
        }
        await ctx.task(double, 1)
        if len(mode) > 1:
            try:
                time.sleep(1)
            except BaseException:
                pass
        while True:
            try:
                await uses[use]()
                await ctx.sleep(1)
            except BaseException:
                pass

    mode: list[str] = ["evict"]
    driver = Driver(workflow)
    driver.deliver(driver.perform(driver.dispatched[0]))
    driver.evict()
    mode.append("fault")
    driver = Driver(workflow)
    message = driver.perform(driver.dispatched[0])
    decision = driver.deliver(message, check=False)
    assert isinstance(decision.fault, NotAllowedInWorkflow)
    driver.evict()
    assert "let GeneratorExit pass" in caplog.text
    assert caplog.text.count(f"{__file__}:") >= 1


# Exceptions that are special to Python


def ending(error: Callable[[], BaseException]) -> Any:
    async def workflow(ctx: Context) -> None:
        await ctx.task(double, 1)
        raise error()

    return workflow


@pytest.mark.parametrize(
    ("error", "type_name"),
    [
        (lambda: SystemExit(3), "builtins:SystemExit"),
        (lambda: StopIteration(1), "builtins:RuntimeError"),
        (lambda: StopAsyncIteration(), "builtins:StopAsyncIteration"),
        (lambda: GeneratorExit(), "builtins:GeneratorExit"),
        (lambda: ExceptionGroup("two", [ValueError(1), KeyError(2)]), "builtins:ExceptionGroup"),
        (lambda: BaseExceptionGroup("one", [SystemExit(1)]), "builtins:BaseExceptionGroup"),
        (lambda: MemoryError(), "builtins:MemoryError"),
    ],
)
def test_any_exception_that_escapes_fails_the_execution(
    error: Callable[[], BaseException], type_name: str
) -> None:
    driver = run(ending(error))
    failure = driver.failure()
    assert failure.type == type_name
    assert "_conduct" not in failure.traceback
    assert "in workflow" in failure.traceback or type_name == "builtins:RuntimeError"
    check_replays(driver)


def test_a_keyboard_interrupt_goes_to_whoever_drives_the_run() -> None:
    """It is the operator's, not the workflow's; the run is of no use afterwards."""
    driver = Driver(ending(KeyboardInterrupt))
    message = driver.perform(driver.dispatched[0])
    with pytest.raises(KeyboardInterrupt):
        driver.deliver(message)
    assert driver.run is not None
    assert isinstance(driver.run.fault, DeterminismError)
    assert driver.deliver(message, check=False).left == (message,)
    assert len(driver.events) == 2


@pytest.mark.parametrize("error", [SystemExit, ValueError, ExceptionGroup])
def test_an_exception_in_a_branch_reaches_who_awaits_it(error: type[BaseException]) -> None:
    async def workflow(ctx: Context) -> str:
        async def branch() -> None:
            await ctx.sleep(1)
            raise error("two", [ValueError()]) if error is ExceptionGroup else error("one")

        try:
            await asyncio.create_task(branch())
        except BaseException as caught:
            return type(caught).__name__
        return "not reached"

    driver = run(workflow)
    assert driver.result() == error.__name__
    check_replays(driver)


def test_a_result_that_cannot_be_encoded_fails_the_execution() -> None:
    async def workflow(ctx: Context) -> Any:
        return {"lock": [threading.Lock()]}

    failure = run(workflow).failure()
    assert failure.type == "mini_workflow.errors:ValueNotSerializable"
    assert "result" in failure.message
    assert "lock" in failure.message


def test_arguments_that_do_not_fit_are_a_fault() -> None:
    """No failure: the code may have been changed, and may be fixed."""

    async def workflow(ctx: Context, a: int) -> None: ...

    with pytest.raises(InvalidArguments, match="'a'"):
        run(workflow)


def test_the_arguments_of_the_next_run_must_fit() -> None:
    async def workflow(ctx: Context, a: int) -> None:
        ctx.continue_as_new(b=a)

    assert run(workflow, 1).failure().type == "mini_workflow.errors:InvalidArguments"


@pytest.mark.parametrize("kind", ["StopIteration", "KeyboardInterrupt", "SystemExit"])
def test_a_task_that_ended_in_a_special_exception_is_an_ordinary_failure(kind: str) -> None:
    """Whatever the codec makes of it: raised in the workflow it must not end the engine."""
    import builtins

    class Codec:
        def for_execution(self, _execution_id: str) -> Any:
            return self

        def __getattr__(self, name: str) -> Any:
            from tests.laws.driver import CODEC

            return getattr(CODEC, name)

        def decode_failure(self, failure: Any, *, ordered: bool = False) -> BaseException:
            error: BaseException = getattr(builtins, kind)("special")
            return error

    async def workflow(ctx: Context) -> str:
        try:
            await ctx.task(fail, "x")
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "not reached"

    assert run(workflow, codec=Codec()).result() == f"TaskError: {kind}: special"


def test_a_callback_that_fails_is_reported_once(caplog: Any) -> None:
    async def workflow(ctx: Context) -> None:
        loop().call_soon(fail, "in a callback")

        def leave() -> None:
            raise SystemExit(1)

        loop().call_soon(leave)
        await ctx.task(double, 1)

    driver = run(workflow)
    assert caplog.text.count("a callback of the workflow failed: ValueError") == 1
    assert caplog.text.count("a callback of the workflow failed: SystemExit") == 1
    check_replays(driver)
    assert caplog.text.count("a callback of the workflow failed") == 2
    assert "[execution-1]" in caplog.text


def test_failures_that_nobody_sees_are_reported_once(caplog: Any) -> None:
    async def workflow(ctx: Context) -> None:
        async def branch() -> None:
            await ctx.sleep(1)
            raise LookupError("in the background")

        asyncio.create_task(branch(), name="background")  # noqa: RUF006
        ctx.task(fail, "forgotten", name="forgotten")
        seen = asyncio.create_task(branch(), name="seen")
        await ctx.sleep(2)
        assert isinstance(seen.exception(), LookupError)

    driver = run(workflow)
    assert caplog.text.count("background failed and nobody awaited it") == 1
    assert caplog.text.count("task 'forgotten' failed and nobody awaited it") == 1
    assert "seen failed" not in caplog.text
    caplog.clear()
    check_replays(driver)
    assert caplog.text == ""


def test_a_task_that_fails_after_the_end_is_reported_once(caplog: Any) -> None:
    async def workflow(ctx: Context) -> str:
        ctx.task(fail, "too late", name="late")
        return "done"

    driver = run(workflow)
    assert driver.result() == "done"
    assert isinstance(driver.events[-1], events.TaskFailed)
    assert caplog.text.count("task 'late' failed after the end of the workflow") == 1
    caplog.clear()
    check_replays(driver)
    assert caplog.text == ""


def test_nothing_runs_after_the_end() -> None:
    """Callbacks that are still ready when the last event is written start nothing any more."""

    async def workflow(ctx: Context) -> str:
        def chain() -> None:
            loop().call_soon(chain)

        def start() -> None:
            ctx.task(double, 1)

        loop().call_soon(chain)
        asyncio.current_task().add_done_callback(lambda _: start())  # type: ignore[union-attr]
        return "done"

    driver = run(workflow)
    assert [type(event) for event in driver.events] == [
        events.ExecutionStarted,
        events.ExecutionCompleted,
    ]


def test_a_value_that_is_no_awaitable_is_an_error_at_once() -> None:
    async def workflow(ctx: Context) -> str:
        try:
            loop().create_task(5)  # type: ignore[arg-type]
        except TypeError as error:
            return str(error)
        return "not reached"

    assert run(workflow).result() == "a coroutine was expected, got 5"


def test_any_awaitable_can_become_a_task() -> None:
    class Awaitable:
        def __await__(self) -> Any:
            return (yield from asyncio.sleep(1, "awaited").__await__())

    async def workflow(ctx: Context) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(ctx.task(double, 4)),  # type: ignore[arg-type]
                group.create_task(Awaitable()),  # type: ignore[arg-type]
                group.create_task(asyncio.gather(ctx.sleep(1), ctx.task(double, 5))),  # type: ignore[arg-type]
            ]
        return [task.result() for task in tasks]

    assert run(workflow).result() == [8, "awaited", [None, 10]]


def test_fault_in_the_first_turn_keeps_the_first_event() -> None:
    """An execution is never without it, so the start is not lost when the code is fixed."""

    async def workflow(ctx: Context) -> None:
        time.sleep(1)

    driver = Driver(define(sequential))
    driver.events.clear()
    driver.evict()
    driver.definition = define(workflow)
    decision = driver.deliver(driver.messages[0], check=False)
    assert decision.condition == "running"
    assert [type(event) for event in decision.events] == [events.ExecutionStarted]
    assert decision.left == ()
    driver.events = list(decision.events)
    driver.evict()
    driver.definition = define(sequential)
    driver.deliver()
    assert isinstance(driver.finish().closing, events.ExecutionCompleted)


def test_advance_never_raises() -> None:
    """Also when the arguments are not what a client would write, or the history is not one."""
    from mini_workflow.core.decide import advance
    from mini_workflow.core.payload import Payload
    from mini_workflow.core.replay import replay
    from tests.laws.driver import CODEC

    definition = define(sequential)
    for text in ("5", "[[]]", "null", '{"$":"nonsense","v":1}'):
        message = events.ExecutionStarted(1, "x", Payload(text=text), 1)
        from mini_workflow.core.history import History

        decision = advance(definition, History(), [message], CODEC)
        assert isinstance(decision.fault, MiniWorkflowError), text
    broken = [events.TimerFired(1, 1)]
    run = replay(definition, "x", broken, CODEC)
    assert isinstance(run.fault, MiniWorkflowError)
    run.close()


class ConnectsAtFirst(logging.Handler):
    """As handlers do that send their lines to a server."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM):
            thread = threading.Thread(target=self.lines.append, args=(record.getMessage(),))
            thread.start()
            thread.join()


def test_what_handlers_of_a_log_do_is_not_the_workflows() -> None:
    log, handler = logging.getLogger("tests.connects"), ConnectsAtFirst()
    log.addHandler(handler)

    async def flow(ctx: Context) -> int:
        log.warning("before")
        done = await ctx.task(double, 4)
        logging.LoggerAdapter(log).warning("behind")
        return done

    async def refused_all_the_same(ctx: Context) -> None:
        log.warning("then")
        socket.socket()

    try:
        assert run(flow).result() == 8
        assert handler.lines[:2] == ["before", "behind"]
        with pytest.raises(NotAllowedInWorkflow):
            run(refused_all_the_same)
    finally:
        log.removeHandler(handler)
