"""What must not be given, and what a workflow must not do: named, with a remedy, without harm."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    ClosureNotSerializable,
    Context,
    DuplicateWorkflow,
    ExecutionBlocked,
    ExecutionNotFound,
    InvalidIdentifier,
    LocalRuntime,
    MiniWorkflowError,
    NotAllowedInWorkflow,
    UsageError,
    ValueNotSerializable,
    current_task,
    workflow,
)
from tests.unit.local import flows
from tests.waiting import WAIT

HELD: dict[str, Any] = {}


@pytest.fixture
def others(runtime: LocalRuntime) -> Iterator[None]:
    """Two executions which must not notice anything."""
    asleep = runtime.start_execution(flows.sleeper, 1000, id="asleep")
    working = runtime.start_execution(flows.gated, "work", id="working")
    assert flows.gate("work").reached.wait(WAIT)
    before = [(one.describe(), one.history()) for one in (asleep, working)]
    yield
    assert [(one.describe(), one.history()) for one in (asleep, working)] == before
    flows.gate("work").opened.set()
    assert working.result(WAIT) == "work"
    assert runtime.start_execution(flows.answer).result(WAIT) == 42


pytestmark = pytest.mark.usefixtures("others")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a/b",
        "../a",
        "..",
        ".hidden",
        "-option",
        "a\n",
        "a\nb",
        "a\x00b",
        "ünïcödé",
        "a\u202eb",
        "x" * 101,
        "a\\b",
        "a%2fb",
        5,
        b"bytes",
        None,
    ],
)
class TestIds:
    def test_of_an_execution(self, runtime: LocalRuntime, name: Any) -> None:
        if name is not None:
            with pytest.raises(InvalidIdentifier, match="1 to 100 letters"):
                runtime.start_execution(flows.answer, id=name)
        anything: Any = name
        with pytest.raises(InvalidIdentifier, match="1 to 100 letters") as e:
            runtime.get_execution(anything)
        assert repr(name) in str(e.value)
        assert isinstance(e.value, ValueError)

    def test_of_a_workflow(self, name: Any) -> None:
        if name is not None:
            with pytest.raises(InvalidIdentifier, match="1 to 100 letters"):
                workflow(name, flows.answer.handler)


class TestWorkflows:
    def test_the_name_by_its_keyword(self) -> None:
        @workflow(name="local.by-keyword")
        async def named(ctx: Context) -> None:
            pass

        assert named.name == "local.by-keyword"

    def test_two_of_one_name(self) -> None:
        with pytest.raises(DuplicateWorkflow, match=r"'local\.answer'.*flows\.py.*test_bad"):

            @workflow("local.answer")
            async def other(ctx: Context) -> None:
                pass

    def test_not_async(self) -> None:
        with pytest.raises(UsageError, match=r"'local\.sync' must be an async def"):
            workflow("local.sync", lambda ctx: None)  # type: ignore[arg-type,return-value]

    def test_an_async_generator(self) -> None:
        async def generator(ctx: Context) -> Any:
            yield 1

        with pytest.raises(UsageError, match="must be an async def"):
            workflow(generator)  # type: ignore[arg-type]

    def test_without_a_context(self) -> None:
        async def lonely() -> None:
            pass

        with pytest.raises(UsageError, match=r"'lonely' takes no context.*lonely\(ctx"):
            workflow(lonely)  # type: ignore[arg-type]


class TestValues:
    @pytest.mark.parametrize(
        ("value", "culprit"),
        [
            (threading.Lock(), "argument 1 "),
            ({"a": [1, threading.Lock()]}, r'argument 1\["a"\]\[1\]'),
            ((x for x in ()), "argument 1 .*generator"),
            (sys.stderr, "argument 1 .*file"),
        ],
    )
    def test_arguments(self, runtime: LocalRuntime, value: Any, culprit: str) -> None:
        with pytest.raises(ValueNotSerializable, match=culprit):
            runtime.start_execution(flows.echo, value, id="refused")
        assert all(found.id != "refused" for found in runtime.list_executions())

    def test_a_keyword_argument(self, runtime: LocalRuntime) -> None:
        with pytest.raises(ValueNotSerializable, match="argument 1 is a lock"):
            runtime.start_execution(flows.echo, value=threading.Lock())

    def test_an_argument_that_contains_itself(self, runtime: LocalRuntime) -> None:
        endless: list[Any] = []
        endless.append(endless)
        with pytest.raises(ValueNotSerializable, match="contains itself"):
            runtime.start_execution(flows.echo, endless)

    def test_an_argument_that_is_too_deep(self, runtime: LocalRuntime) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        with pytest.raises(MiniWorkflowError):
            runtime.start_execution(flows.echo, deep)

    @pytest.mark.parametrize("what", ["lock", "file", "context", "loop", "future"])
    def test_closures(self, runtime: LocalRuntime, what: str) -> None:
        execution = runtime.start_execution(captures, what)
        with pytest.raises(ClosureNotSerializable, match=r"captures 'culprit' \(.*\), which is"):
            execution.result(WAIT)
        assert len(execution.history()) == 2  # started and failed: no half-made task

    def test_a_refused_closure_can_be_survived(self, runtime: LocalRuntime) -> None:
        assert runtime.start_execution(captures, "lock, and goes on").result(WAIT) == "went on"

    @pytest.mark.parametrize("where", ["workflow", "task"])
    def test_results(self, runtime: LocalRuntime, where: str) -> None:
        with pytest.raises(ValueNotSerializable, match=r'\["lock"\] is a lock'):
            runtime.start_execution(returns_a_lock, where).result(WAIT)


CALLS: list[Callable[[Context], Any]] = []


@workflow("bad_input.calls_it")
async def calls_it(ctx: Context) -> Any:
    return await CALLS[-1](ctx)


class TestTasks:
    @pytest.mark.parametrize("thing", ["number", "coroutine", "result"])
    def test_not_callable(self, runtime: LocalRuntime, thing: str) -> None:
        with pytest.raises(UsageError, match="give a function, not its result"):
            runtime.start_execution(starts, thing).result(WAIT)

    @pytest.mark.parametrize(
        ("call", "told"),
        [
            (lambda ctx: ctx.map(None, [1]), r"ctx\.map\(None, \.\.\.\): give a function"),
            (
                lambda ctx: ctx.map(str, 5),
                r"ctx\.map\(\.\.\., 5\): 'int' object is not iterable; give the",
            ),
            (lambda ctx: ctx.wait_for(True), r"ctx\.wait_for\(True\): give a function"),
            (
                lambda ctx: ctx.child(flows.echo.handler),
                "<function echo.* is not a workflow: give a",
            ),
            (lambda ctx: ctx.child(None), "None is not a workflow: give a function decorated"),
            (lambda ctx: ctx.patched(5), r"ctx\.patched\(5\): give the name of the change"),
        ],
    )
    def test_what_is_no_function_or_no_items(
        self, runtime: LocalRuntime, call: Any, told: str
    ) -> None:
        CALLS.append(call)
        with pytest.raises(UsageError, match=told):
            runtime.start_execution(calls_it).result(WAIT)

    @pytest.mark.parametrize("call", ["ab", b"ab", {"a": 1}, 5, None])
    def test_what_is_no_arguments_of_many_starts(self, runtime: LocalRuntime, call: Any) -> None:
        with pytest.raises(UsageError, match=r"is not the arguments of a call; give a tuple"):
            runtime.start_executions(flows.echo, [(1,), call], ids=["one-of-two", "other-of-two"])
        with pytest.raises(ExecutionNotFound):
            runtime.get_execution("one-of-two").describe()

    def test_the_context_in_a_task(self, runtime: LocalRuntime) -> None:
        # It cannot be captured; by way of a global it is on a foreign thread.
        with pytest.raises(Exception, match=r"outside|workflow|thread") as e:
            runtime.start_execution(leaks_its_context, "task").result(WAIT)
        assert not isinstance(e.value, TimeoutError)

    @pytest.mark.parametrize("call", ["task", "sleep", "wait_for"])
    def test_the_context_after_the_end(self, runtime: LocalRuntime, call: str) -> None:
        execution = runtime.start_execution(leaks_its_context, "afterwards")
        assert execution.result(WAIT) is None
        before = execution.history()
        ctx: Context = HELD["ctx"]
        calls: dict[str, Callable[[], object]] = {
            "task": lambda: ctx.task(print, 1),
            "sleep": lambda: ctx.sleep(1),
            "wait_for": lambda: asyncio.run(ctx.wait_for(lambda: False)),
        }
        with pytest.raises(NotAllowedInWorkflow, match="outside its workflow"):
            calls[call]()
        assert execution.history() == before

    def test_the_context_on_another_thread(self, runtime: LocalRuntime) -> None:
        execution = runtime.start_execution(leaks_its_context, "asleep")
        with pytest.raises(MiniWorkflowError):
            HELD["ctx"].task(print, 1)
        execution.terminate()

    def test_current_task_outside(self) -> None:
        with pytest.raises(UsageError, match="outside a task"):
            current_task()


class TestBehaviour:
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (flows.sleeps_for_real, r"time\.sleep\(\).*await ctx\.sleep.*flows\.py:\d+"),
            (flows.opens_a_socket, r"opening a socket.*await ctx\.task.*flows\.py:\d+"),
            (flows.starts_a_thread, r"starting a thread.*await ctx\.task.*flows\.py:\d+"),
            (flows.to_thread, r"to_thread.*await ctx\.task.*flows\.py:\d+"),
            (flows.waits_for_nothing, r"waits for ever.*flows\.py:\d+"),
        ],
    )
    def test_refused(self, runtime: LocalRuntime, bad: Any, message: str) -> None:
        execution = runtime.start_execution(bad)
        with pytest.raises(ExecutionBlocked, match=message):
            execution.result(WAIT)
        found = execution.describe()
        assert found.status == "blocked"
        assert found.blocked_reason
        assert found.closed_at is None
        execution.resume()
        with pytest.raises(ExecutionBlocked, match=message):
            execution.result(WAIT)

    def test_keyboard_interrupt_of_its_own(self, runtime: LocalRuntime) -> None:
        with pytest.raises(ExecutionBlocked, match="KeyboardInterrupt"):
            runtime.start_execution(interrupts).result(WAIT)


def test_loops_for_ever(path: Path) -> None:
    with LocalRuntime(path.with_name("other.db"), turn_timeout=1) as runtime:
        runtime.start_execution(flows.sleeper, 0.3, id="asleep")
        working = runtime.start_execution(flows.steps, 200)
        spinning = runtime.start_execution(flows.spins)
        with pytest.raises(ExecutionBlocked, match=r"1 s without waiting.*flows\.py:\d+"):
            spinning.result(WAIT)
        assert working.result(WAIT) == 19900
        assert runtime.get_execution("asleep").result(WAIT) >= 0.3
        spinning.resume()
        with pytest.raises(ExecutionBlocked):
            spinning.result(WAIT)
        spinning.terminate()
        assert runtime.start_execution(flows.answer).result(WAIT) == 42


def test_blocks_in_c(path: Path) -> None:
    """Nothing can interrupt it; it is told apart, and the others go on afterwards."""
    with LocalRuntime(path.with_name("other.db"), turn_timeout=0.5) as runtime:
        working = runtime.start_execution(flows.steps, 50)
        blocking = runtime.start_execution(flows.blocks, 10_000_000)
        with pytest.raises(ExecutionBlocked, match=r"flows\.py:\d+ in blocks"):
            blocking.result(WAIT)
        assert working.result(WAIT) == 1225


@pytest.mark.parametrize("size", [1, 255 << 10, 1 << 20, 5 << 20, 15 << 20])
def test_payloads(runtime: LocalRuntime, size: int) -> None:
    execution = runtime.start_execution(carries, "x" * size)
    assert len(execution.result(WAIT)) == 2 * size


@workflow("local.carries")
async def carries(ctx: Context, text: str) -> str:
    return await ctx.task(lambda: text + text)


@workflow("local.captures")
async def captures(ctx: Context, what: str) -> object:
    made: dict[str, Callable[[], Any]] = {
        "lock": threading.Lock,
        "context": lambda: ctx,
        "loop": asyncio.get_running_loop,
        "future": lambda: asyncio.get_running_loop().create_future(),
    }
    if what == "file":
        with Path(__file__).open() as culprit:
            return await ctx.task(lambda: culprit.name)
    if what == "lock, and goes on":
        culprit = threading.Lock()
        try:
            await ctx.task(lambda: culprit)
        except ClosureNotSerializable:
            return await ctx.task(lambda: "went on")
    culprit = made[what]()
    return await ctx.task(lambda: culprit)


@workflow("local.returns_a_lock")
async def returns_a_lock(ctx: Context, where: str) -> object:
    def make() -> object:
        return {"lock": threading.Lock()}

    return make() if where == "workflow" else await ctx.task(make)


@workflow("local.starts")
async def starts(ctx: Context, thing: str) -> None:
    async def coroutine() -> None:
        pass

    things: dict[str, Any] = {"number": 5, "result": len("x")}
    started: Any = coroutine() if thing == "coroutine" else things[thing]
    await ctx.task(started)


@workflow("local.leaks_its_context")
async def leaks_its_context(ctx: Context, how: str) -> None:
    HELD["ctx"] = ctx
    if how == "task":
        await ctx.task(use_held)
    if how == "asleep":
        await ctx.sleep(1000)


def use_held() -> None:
    HELD["ctx"].task(print, 1)


@workflow("local.interrupts")
async def interrupts(ctx: Context) -> None:
    raise KeyboardInterrupt
