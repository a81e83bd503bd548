"""30 to 35: signals, queries, updates and promises."""

# ruff: noqa: B023 - that tasks capture loop variables at the call is one of the behaviours

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionBlocked,
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionError,
    InvalidArguments,
    NotAllowedInWorkflow,
    PromiseNotOpen,
    UnknownHandler,
    UsageError,
    workflow,
)
from tests.behaviours.stage import DAY, LEDGER, Background, Stage, gate, go_through, note
from tests.waiting import WAIT


def kinds(execution: Any) -> list[str]:
    return [type(event).__name__ for event in execution.history()]


def events_of(execution: Any) -> list[Any]:
    return list(execution.history())


# Signals


@workflow("behaviours.collects")
async def collects(ctx: Context, n: int) -> list[Any]:
    return [await ctx.wait_for_signal("item") for _ in range(n)]


def test_30_signals_before_the_first_turn(runtime: Stage) -> None:
    """A signal that comes together with the start is there when the code first asks."""
    execution = runtime.signal_with_start(collects, 2, id="early", signal="item", value="first")
    again = runtime.signal_with_start(collects, 2, id="early", signal="item", value="second")
    assert execution.result(WAIT) == again.result(WAIT) == ["first", "second"]


@workflow("behaviours.late_listener")
async def late_listener(ctx: Context, n: int) -> list[Any]:
    await ctx.task(go_through, "late")
    got: list[Any] = []
    ctx.on_signal("item", got.append)
    await ctx.wait_for(lambda: len(got) == n)
    return got


def test_30_a_late_handler_gets_what_was_buffered_in_order(runtime: Stage) -> None:
    """Signals wait for a handler, and are handed to it in the order of their arrival."""
    execution = runtime.start(late_listener, 60)
    gate("late").wait_until_reached()
    for n in range(50):
        execution.signal("item", n)
    gate("late").open()
    for n in range(50, 60):
        execution.signal("item", n)
    assert execution.result(WAIT) == list(range(60))


@workflow("behaviours.streams")
async def streams(ctx: Context) -> list[Any]:
    got = []
    async for value in ctx.signals("item"):
        if value is None:
            break
        got.append(await ctx.task(lambda: value * 2))
    return got


def test_30_many_signals_while_a_task_runs_for_each(runtime: Stage) -> None:
    """A loop over the signals sees each of them once, in order, however slow it is."""
    execution = runtime.start(streams)
    for n in range(30):
        execution.signal("item", n)
    execution.signal("item", None)
    assert execution.result(WAIT) == [2 * n for n in range(30)]


@workflow("behaviours.two_names")
async def two_names(ctx: Context) -> list[Any]:
    a = await ctx.wait_for_signal("a")
    b = await ctx.wait_for_signal("b")
    return [a, b, await ctx.wait_for_signal("a")]


def test_30_names_do_not_disturb_each_other(runtime: Stage) -> None:
    """Signals of one name wait for who asks for that name."""
    execution = runtime.start(two_names)
    for name, value in (("b", 1), ("a", 2), ("other", 0), ("a", 3)):
        execution.signal(name, value)
    assert execution.result(WAIT) == [2, 1, 3]


@workflow("behaviours.two_receivers")
async def two_receivers(ctx: Context) -> list[Any]:
    return await asyncio.gather(*(ctx.wait_for_signal("item") for _ in range(5)))


def test_30_each_signal_goes_to_one_receiver(runtime: Stage) -> None:
    """Several that wait for the same name are served in the order in which they began to wait."""
    execution = runtime.start(two_receivers)
    for n in range(5):
        execution.signal("item", n)
    assert execution.result(WAIT) == list(range(5))


@workflow("behaviours.impatient")
async def impatient(ctx: Context, wait: float) -> Any:
    try:
        async with asyncio.timeout(wait):
            return await ctx.wait_for_signal("item")
    except TimeoutError:
        await ctx.task(go_through, "impatient")
    return "late", await ctx.wait_for_signal("item")


def test_30_a_signal_after_the_timeout_is_kept(runtime: Stage) -> None:
    """Who gave up waiting has not received anything: the signal is there for who asks next."""
    execution = runtime.start(impatient, runtime.far(3 * DAY))
    waiting = Background(lambda: execution.result(WAIT))
    gate("impatient").wait_until_reached()
    execution.signal("item", "x")
    gate("impatient").open()
    assert waiting.get() == ("late", "x")


@dataclass
class Said:
    text: str


@pytest.fixture
def message_class(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    sys.modules[__name__].__dict__["Said"] = Said_


Said_ = Said


@workflow("behaviours.reads_messages")
async def reads_messages(ctx: Context) -> list[Any]:
    await ctx.task(go_through, "messages")
    first = await ctx.wait_for_signal("item")
    got: list[Any] = []
    ctx.on_signal("handled", got.append)
    await ctx.wait_for(lambda: len(got) == 1)
    return [first, *got]


@pytest.mark.usefixtures("message_class")
def test_30_an_undecodable_signal_is_reported_and_stops_nothing(
    runtime: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A signal whose class is gone is dropped with a warning that names it; the next ones arrive."""
    execution = runtime.start(reads_messages)
    gate("messages").wait_until_reached()
    for name in ("item", "handled"):
        execution.signal(name, Said("lost"))
        execution.signal(name, "fine")
    del sys.modules[__name__].__dict__["Said"]
    with caplog.at_level(logging.WARNING, logger="mini_workflow"):
        gate("messages").open()
        assert execution.result(WAIT) == ["fine", "fine"]
    found = [r.getMessage() for r in caplog.records if "cannot be read" in r.getMessage()]
    assert len(found) == 2
    assert "'item'" in found[0]
    assert "'handled'" in found[1]


@workflow("behaviours.bad_handler")
async def bad_handler(ctx: Context, catch: bool) -> str:
    def refuse(value: Any) -> None:
        raise ValueError(f"not {value}")

    ctx.on_signal("item", refuse)
    try:
        await ctx.sleep(30 * DAY)
    except asyncio.CancelledError:
        await ctx.task(note, "cleaned")
        if not catch:
            raise
    return "went on"


@pytest.mark.parametrize("catch", [False, True])
def test_30_a_handler_that_fails_fails_the_execution(
    runtime: Stage, catch: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler's exception is the execution's, after a cleanup; catching it does not help. The
    handler is not said to be unfinished on top of that."""
    execution = runtime.start(bad_handler, catch)
    with caplog.at_level(logging.WARNING, logger="mini_workflow"):
        execution.signal("item", "this")
        with pytest.raises(ValueError, match="not this"):
            execution.result(WAIT)
    assert LEDGER == ["cleaned"]
    assert [r for r in caplog.records if "is not done" in r.getMessage()] == []


@workflow("behaviours.bad_handler_at_once")
async def bad_handler_at_once(ctx: Context) -> None:
    def refuse(value: Any) -> None:
        raise ValueError(f"not {value}")

    ctx.on_signal("item", refuse)
    await ctx.wait_for_signal("never")


def test_30_a_handler_that_failed_is_done(runtime: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that has raised is not warned of as one that is still at work."""
    execution = runtime.start(bad_handler_at_once)
    with caplog.at_level(logging.WARNING, logger="mini_workflow"):
        execution.signal("item", "this")
        with pytest.raises(ValueError, match="not this"):
            execution.result(WAIT)
    assert [r.getMessage() for r in caplog.records] == []


@workflow("behaviours.async_handlers")
async def async_handlers(ctx: Context, n: int) -> list[Any]:
    got: list[Any] = []

    async def handle(value: Any) -> None:
        got.append(await ctx.task(lambda: value))

    ctx.on_signal("item", handle)
    await ctx.wait_for(lambda: len(got) == n)
    return sorted(got)


def test_30_handlers_may_run_tasks(runtime: Stage) -> None:
    """An asynchronous handler runs beside the workflow and beside other handlers."""
    execution = runtime.start(async_handlers, 25)
    for n in range(25):
        execution.signal("item", n)
    assert execution.result(WAIT) == list(range(25))


@workflow("behaviours.wrong_handlers")
async def wrong_handlers(ctx: Context) -> list[str]:
    errors = []
    for call in (
        lambda: ctx.on_signal("x", None),  # type: ignore[arg-type]
        lambda: ctx.on_query("x", "y"),  # type: ignore[arg-type]
        lambda: ctx.on_update("x", print, validator=3),  # type: ignore[arg-type]
        lambda: ctx.on_update("", print),
        lambda: ctx.on_signal(5, print),  # type: ignore[arg-type]
        lambda: ctx.execution("other").signal(5),  # type: ignore[arg-type]
        lambda: ctx.execution("other").signal(""),
        lambda: ctx.execution("other").cancel(5),  # type: ignore[arg-type]
    ):
        try:
            call()
        except UsageError as error:
            errors.append(str(error))
    try:
        await ctx.wait_for_signal(None)  # type: ignore[arg-type]
    except UsageError as error:
        errors.append(str(error))
    return errors


def test_30_a_wrong_handler_or_name_is_refused_at_once(runtime: Stage) -> None:
    """What is no handler or no name is refused where it is given, not when the message comes."""
    assert len(runtime.run(wrong_handlers)) == 9


def test_31_a_signal_that_races_the_end(runtime: Stage) -> None:
    """A signal that its sender was not refused stands in the history: received, or unhandled."""
    for n in range(20):
        execution = runtime.start(collects, 1, id=f"ends-{n}")
        sent = [Background(lambda e=execution, k=k: accepted(e, k)) for k in range(4)]
        delivered = [k for k, each in enumerate(sent) if each.get()]
        (received,) = execution.result(WAIT)
        assert received in delivered
        found = [e for e in events_of(execution) if type(e).__name__.startswith("Signal")]
        assert len(found) == len(delivered)


def accepted(execution: Any, value: Any) -> bool:
    try:
        execution.signal("item", value)
    except ExecutionClosed:
        return False
    return True


@workflow("behaviours.leaves_signals")
async def leaves_signals(ctx: Context) -> None:
    await ctx.task(go_through, "leaves")


def test_31_signals_that_nobody_received_are_reported(
    runtime: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """An execution that ends with signals unreceived says so, in its history and in the log."""
    execution = runtime.start(leaves_signals)
    gate("leaves").wait_until_reached()
    for name in ("a", "b", "a"):
        execution.signal(name)
    with caplog.at_level(logging.WARNING, logger="mini_workflow"):
        gate("leaves").open()
        execution.result(WAIT)
    (event,) = (e for e in events_of(execution) if type(e).__name__ == "MessagesUnhandled")
    assert event.signals == {"a": 2, "b": 1}
    assert any("without receiving these signals" in r.getMessage() for r in caplog.records)


@workflow("behaviours.registers_and_ends")
async def registers_and_ends(ctx: Context) -> list[Any]:
    await ctx.task(go_through, "registers")
    got: list[Any] = []
    ctx.on_signal("item", got.append)
    return got


def test_31_a_handler_that_had_no_chance_has_not_received(
    runtime: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Signals of a handler that is set just before the end count as received by nobody."""
    execution = runtime.start(registers_and_ends)
    gate("registers").wait_until_reached()
    execution.signal("item", 1)
    execution.signal("item", 2)
    gate("registers").open()
    assert execution.result(WAIT) == []
    (event,) = (e for e in events_of(execution) if type(e).__name__ == "MessagesUnhandled")
    assert event.signals == {"item": 2}


# Queries


@workflow("behaviours.asked")
async def asked(ctx: Context, end: str) -> str:
    state: dict[str, Any] = {"stage": "begun", "answers": 0}
    ctx.on_query("stage", lambda: state["stage"])
    ctx.on_query("add", lambda a, b=1: a + b)
    ctx.on_query("fail", lambda: 1 / 0)
    ctx.on_query("lock", asyncio.Lock)
    state["stage"] = await ctx.wait_for_signal("stage")
    if end == "block":
        import socket

        socket.socket()
    if end == "fail":
        raise ValueError("in the end")
    if end == "new":
        ctx.continue_as_new("done")
    return end


def test_32_queries_on_a_running_execution(runtime: Stage) -> None:
    """A query sees the workflow's variables as they are, and gets what its handler returns."""
    execution = runtime.start(asked, "done")
    assert execution.query("stage") == "begun"
    assert execution.query("add", 2) == 3
    assert execution.query("add", 2, b=5) == 7
    with pytest.raises(ZeroDivisionError):
        execution.query("fail")
    with pytest.raises(InvalidArguments, match="query 'add': missing a required argument: 'a'"):
        execution.query("add")
    with pytest.raises(Exception, match="Lock"):
        execution.query("lock")
    assert kinds(execution) == ["ExecutionStarted"]
    assert execution.describe().status == "running"


@pytest.mark.parametrize("end", ["done", "fail", "block", "cancel", "terminate", "new"])
def test_32_queries_after_the_end(runtime: Stage, end: str) -> None:
    """Queries are answered in every condition, also by another runtime after a reopening."""
    execution = runtime.start(asked, end)
    if end == "cancel":
        execution.cancel()
    elif end == "terminate":
        execution.terminate()
    else:
        execution.signal("stage", "last")
    if end == "new":
        expected = "begun"
    else:
        expected = "begun" if end in ("cancel", "terminate") else "last"
        if end == "block":
            # What a blocked execution could not take has not happened for those who ask.
            expected = "begun"
        with contextlib.suppress(ValueError, ExecutionError):
            execution.result(WAIT)
    for _ in range(2):
        assert execution.query("stage") == expected
        with pytest.raises(UnknownHandler, match="add, fail, lock, stage"):
            execution.query("nope")
        runtime.reopen()
        execution = runtime.again(execution)


@workflow("behaviours.no_handlers")
async def no_handlers(ctx: Context) -> None:
    await ctx.wait_for_signal("end")


def test_32_an_unknown_query_lists_the_known_ones(runtime: Stage) -> None:
    """An unknown query says which there are, or that there are none."""
    execution = runtime.start(no_handlers)
    with pytest.raises(UnknownHandler, match="no query 'x'; known are: none"):
        execution.query("x")
    with pytest.raises(UnknownHandler, match="no update 'x'; known are: none"):
        execution.update("x")
    wrong: Any
    for wrong in ("", None, 5, "x" * 201):
        with pytest.raises(UsageError):
            execution.query(wrong)
        with pytest.raises(UsageError):
            execution.signal(wrong)


MISDEEDS: dict[str, Any] = {
    "task": lambda ctx: ctx.task(note, "from a query"),
    "inline": lambda ctx: ctx.task(note, "from a query", inline=True),
    "sleep": lambda ctx: ctx.sleep(1),
    "call_later": lambda ctx: asyncio.get_running_loop().call_later(1, print),
    "create_task": lambda ctx: asyncio.get_running_loop().create_task(never()),
    "call_soon": lambda ctx: asyncio.get_running_loop().call_soon(note, "from a query"),
    "promise": lambda ctx: ctx.promise(),
    "child": lambda ctx: ctx.child(no_handlers),
    "signal": lambda ctx: ctx.execution("other").signal("x"),
    "cancel": lambda ctx: ctx.execution("other").cancel(),
    "new": lambda ctx: ctx.continue_as_new(),
    "patched": lambda ctx: ctx.patched("in a query"),
    "map": lambda ctx: ctx.map(note, [1]),
}


async def never() -> None:
    note("from a query")


@workflow("behaviours.misled")
async def misled(ctx: Context) -> str:
    def mislead(what: str) -> str:
        MISDEEDS[what](ctx)
        return "did it"

    ctx.on_query("mislead", mislead)
    ctx.on_update("mislead", lambda what: "done", validator=mislead)
    await ctx.wait_for_signal("end")
    return await ctx.task(lambda: "fine")


@pytest.mark.parametrize("what", MISDEEDS)
def test_32_a_query_or_validator_can_start_nothing(runtime: Stage, what: str) -> None:
    """A query handler or a validator that tries to start something is refused; no harm is done."""
    execution = runtime.start(misled)
    with pytest.raises(NotAllowedInWorkflow):
        execution.query("mislead", what)
    with pytest.raises(NotAllowedInWorkflow):
        execution.update("mislead", what)
    assert kinds(execution) == ["ExecutionStarted"]
    execution.signal("end")
    assert execution.result(WAIT) == "fine"
    assert LEDGER == []


@workflow("behaviours.leaves")
async def leaves(ctx: Context) -> int:
    def leave(kind: str) -> None:
        raise {"exit": SystemExit, "cancel": asyncio.CancelledError, "stop": StopIteration}[kind]

    def endless() -> None:
        while True:
            pass

    async def asynchronous() -> None: ...

    ctx.on_query("leave", leave)
    ctx.on_query("asynchronous", asynchronous)
    ctx.on_update("leave", leave)
    ctx.on_update("validated", lambda kind: kind, validator=leave)
    ctx.on_update("asynchronous", lambda: 1, validator=asynchronous)
    await ctx.wait_for_signal("end")
    return 42


@pytest.mark.parametrize("kind", ["exit", "cancel", "stop"])
def test_32_a_handler_cannot_take_the_engine_with_it(runtime: Stage, kind: str) -> None:
    """Whatever a handler raises is an answer to its caller; everything else goes on."""
    execution = runtime.start(leaves)
    for ask in (execution.query, execution.update):
        with pytest.raises(Exception):  # noqa: B017, PT011
            ask("leave", kind)
    with pytest.raises(Exception):  # noqa: B017, PT011
        execution.update("validated", kind)
    execution.signal("end")
    assert execution.result(WAIT) == 42


def test_32_an_asynchronous_query_is_refused(runtime: Stage) -> None:
    """A query handler or validator must be a plain function, and is told so."""
    execution = runtime.start(leaves)
    with pytest.raises(UsageError, match="asynchronous"):
        execution.query("asynchronous")
    with pytest.raises(UsageError, match="plain function"):
        execution.update("asynchronous")


@workflow("behaviours.busy")
async def busy(ctx: Context) -> int:
    done = 0

    def progress() -> int:
        return done

    ctx.on_query("progress", progress)
    for _ in range(60):
        await ctx.task(lambda: 1)
        done += 1
    return done


def test_32_queries_while_it_works(runtime: Stage) -> None:
    """Queries under load see a state between two steps, and never an older one than before."""
    executions = [runtime.start(busy) for _ in range(3)]

    def watch(execution: Any) -> list[int]:
        seen = []
        while execution.describe().status == "running":
            seen.append(execution.query("progress"))
        return [*seen, execution.query("progress")]

    watchers = [Background(lambda e=e: watch(e)) for e in executions]
    for execution in executions:
        assert execution.result(WAIT) == 60
    for each in watchers:
        seen = each.get()
        assert seen == sorted(seen)
        assert seen[-1] == 60


# Updates


class Refused(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


@workflow("behaviours.account")
async def account(ctx: Context) -> int:
    balance = 0

    def check(amount: int) -> None:
        if amount < 0:
            raise Refused(amount)

    def deposit(amount: int) -> int:
        nonlocal balance
        balance += amount
        return balance

    async def slowly(amount: int) -> int:
        checked = await ctx.task(lambda: amount)
        return deposit(checked)

    async def fail(code: int) -> None:
        await ctx.task(lambda: None)
        raise Refused(code)

    async def through(name: str) -> str:
        return await ctx.task(go_through, name)

    async def nap(seconds: float) -> str:
        await ctx.sleep(seconds)
        return "rested"

    ctx.on_update("deposit", deposit, validator=check)
    ctx.on_update("slowly", slowly, validator=check)
    ctx.on_update("fail", fail)
    ctx.on_update("through", through)
    ctx.on_update("nap", nap)
    ctx.on_update("merge", {}.update)
    ctx.on_signal("listen", lambda _: ctx.on_update("late", lambda: "heard"))
    ctx.on_query("balance", lambda: balance)
    await ctx.wait_for_signal("close")
    return balance


def test_33_updates_accepted_sync_and_async(runtime: Stage) -> None:
    """An update returns what its handler returns, when that is recorded."""
    execution = runtime.start(account)
    assert execution.update("deposit", 5) == 5
    assert execution.update("slowly", 7) == 12
    assert execution.update("slowly", amount=1) == 13
    assert execution.query("balance") == 13


def test_33_an_update_that_its_validator_refuses(runtime: Stage) -> None:
    """A refusal raises the validator's exception at the caller, and leaves no history."""
    execution = runtime.start(account)
    for _ in range(2):
        with pytest.raises(Refused, match="code -3") as refused:
            execution.update("deposit", -3, id="same")
        assert refused.value.code == -3
    with pytest.raises(UsageError, match="deposit"):
        execution.update("deposit", 1, 2, 3)
    assert kinds(execution) == ["ExecutionStarted"]
    assert execution.update("deposit", 3, id="same") == 3


def test_33_an_update_that_fails(runtime: Stage) -> None:
    """What the handler raises is raised at the caller; the workflow does not notice."""
    execution = runtime.start(account)
    with pytest.raises(Refused) as failed:
        execution.update("fail", 9)
    assert failed.value.code == 9
    assert execution.update("deposit", 1) == 1


def test_33_any_callable_may_handle_an_update(runtime: Stage) -> None:
    """A handler without a signature that Python could tell, such as a dict's update, works."""
    execution = runtime.start(account)
    assert execution.update("merge", {"a": 1}) is None


def test_33_a_hundred_concurrent_updates(runtime: Stage) -> None:
    """Concurrent updates are all handled, each once, and nothing of one is lost in another."""
    execution = runtime.start(account)
    threads = [
        Background(lambda k=k: [execution.update("slowly", 1, id=f"u-{k}-{n}") for n in range(10)])
        for k in range(10)
    ]
    seen = sorted(balance for each in threads for balance in each.get())
    assert seen == list(range(1, 101))
    execution.signal("close")
    assert execution.result(WAIT) == 100


def test_33_the_same_id_is_the_same_update(runtime: Stage) -> None:
    """An update is handled once per id: while it is at work, when it is done, when the execution
    has closed, and by another runtime after a reopening."""
    execution = runtime.start(account)
    first = [Background(lambda: execution.update("through", "dedupe", id="u")) for _ in range(5)]
    gate("dedupe").wait_until_reached()
    with pytest.raises(TimeoutError, match="id='u'"):
        execution.update("through", "dedupe", id="u", timeout=0.01)
    gate("dedupe").open()
    assert [each.get() for each in first] == ["dedupe"] * 5
    assert execution.update("through", "dedupe", id="u") == "dedupe"
    assert execution.update("deposit", 4, id="d") == 4
    runtime.reopen()
    execution = runtime.again(execution)
    assert execution.update("deposit", 4, id="d") == 4
    execution.signal("close")
    assert execution.result(WAIT) == 4
    assert execution.update("deposit", 4, id="d") == 4
    with pytest.raises(ExecutionClosed):
        execution.update("deposit", 4, id="new")
    runtime.reopen()
    execution = runtime.again(execution)
    assert execution.update("deposit", 4, id="d") == 4
    assert kinds(execution).count("UpdateAccepted") == 2


def test_33_the_same_id_over_continue_as_new(runtime: Stage) -> None:
    """Ids of updates, and their answers, are known over the runs that follow, and when the
    execution has closed; one that was refused may be asked for again."""
    execution = runtime.start(generations, 0, id="runs")
    assert execution.update("count", id="once") == 1
    with pytest.raises(Refused, match="code 7") as failed:
        execution.update("fail", 7, id="fails")
    with pytest.raises(ZeroDivisionError):
        execution.update("divide", 0, id="refused")
    for _ in range(2):
        execution.signal("next")
        assert execution.update("count", id="once") == 1
        with pytest.raises(Refused, match="code 7") as failed:
            execution.update("fail", 8, id="fails")
        assert failed.value.code == 7
        runtime.reopen()
        execution = runtime.again(execution)
    assert execution.update("divide", 4, id="refused") == 4
    assert execution.update("count", id="other") == 2
    with runtime.beside() as other:
        assert other.get_execution("runs").update("count", id="once", timeout=WAIT) == 1
    execution.signal("end")
    assert execution.result(WAIT) == 2
    assert execution.describe().run == 3
    assert execution.update("count", id="once") == 1


def test_33_many_and_long_answers_over_continue_as_new(runtime: Stage) -> None:
    """The runs that follow know the hundred updates that were answered last. Of a long answer only
    the id, so that it is not handled again; its caller is told."""
    execution = runtime.start(generations, 0)
    execution.update("echo", "x" * 3_000, id="long")
    for n in range(99):
        execution.update("count", id=f"u{n}")
    assert execution.update("count", id="u5") == 6
    execution.signal("next")
    assert execution.update("count", id="u0") == 1
    with pytest.raises(ExecutionClosed, match="2,000 characters"):
        execution.update("echo", "y", id="long")
    assert execution.update("count", id="one more") == 100
    execution.signal("next")
    assert execution.update("echo", "y", id="long") == "y"
    assert execution.update("count", id="u1") == 2
    execution.signal("end")
    assert execution.result(WAIT) == 100


@workflow("behaviours.generations")
async def generations(ctx: Context, count: int) -> int:
    def add() -> int:
        nonlocal count
        count += 1
        return count

    def fail(code: int) -> None:
        raise Refused(code)

    ctx.on_update("count", add)
    ctx.on_update("fail", fail)
    ctx.on_update("echo", lambda text: text)
    ctx.on_update("divide", lambda n: n, validator=lambda n: 1 / n)
    waits = [asyncio.create_task(ctx.wait_for_signal(name)) for name in ("next", "end")]
    done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if waits[0] in done:
        ctx.continue_as_new(count)
    return count


@workflow("behaviours.first_turn")
async def first_turn(ctx: Context) -> int:
    ctx.on_update("ask", lambda: 1)
    await ctx.task(go_through, "first turn")
    return 2


def test_33_an_update_right_after_the_start(runtime: Stage) -> None:
    """Handlers that are set before the first await are there for whoever knows the execution."""
    for n in range(10):
        assert runtime.start(first_turn, id=f"first-{n}").update("ask") == 1


@workflow("behaviours.same_turn")
async def same_turn(ctx: Context, early: bool) -> str:
    done = asyncio.Event()

    async def finish() -> str:
        if early:
            done.set()
            return "bye"
        await ctx.task(lambda: 1)
        done.set()
        return "bye"

    ctx.on_update("finish", finish)
    await done.wait()
    return "over"


@pytest.mark.parametrize("early", [True, False])
def test_33_answered_when_the_workflow_returns_in_the_same_turn(
    runtime: Stage, early: bool
) -> None:
    """An update that ends the workflow is still answered."""
    execution = runtime.start(same_turn, early)
    assert execution.update("finish", id="f") == "bye"
    assert execution.result(WAIT) == "over"
    assert execution.update("finish", id="f") == "bye"


@workflow("behaviours.outlived")
async def outlived(ctx: Context, how: str) -> str:
    async def work() -> str:
        try:
            await ctx.task(go_through, "outlived")
        except asyncio.CancelledError:
            if how == "answers":
                return await ctx.task(lambda: "in time")
            raise
        return "done"

    ctx.on_update("work", work)
    await ctx.wait_for_signal("end")
    if how == "fails":
        raise ValueError("early")
    return "ended"


@pytest.mark.parametrize("how", ["returns", "fails", "answers"])
def test_33_handlers_that_outlive_the_workflow_are_reported(
    runtime: Stage, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler at work when the workflow ends is cancelled and logged; its caller gets
    ExecutionClosed, or what it still answers."""
    execution = runtime.start(outlived, how)
    waiting = Background(lambda: execution.update("work", id="w"))
    gate("outlived").wait_until_reached()
    with caplog.at_level(logging.WARNING, logger="mini_workflow"):
        execution.signal("end")
        if how == "answers":
            assert waiting.get() == "in time"
        else:
            with pytest.raises(ExecutionClosed):
                waiting.get()
    if how == "fails":
        with pytest.raises(ValueError, match="early"):
            execution.result(WAIT)
    else:
        assert execution.result(WAIT) == "ended"
    assert any("'work' is not done" in r.getMessage() for r in caplog.records)
    if how != "answers":
        with pytest.raises(ExecutionClosed):
            execution.update("work", id="w")


def test_33_an_update_may_sleep(runtime: Stage) -> None:
    """A handler may wait for a timer; where time jumps it jumps for who waits for an update too."""
    execution = runtime.start(account)
    assert execution.update("nap", runtime.far(30 * DAY), timeout=WAIT) == "rested"


@workflow("behaviours.gives_up_inside")
async def gives_up_inside(ctx: Context) -> str:
    inner: list[asyncio.Task[Any]] = []

    async def work() -> Any:
        inner.append(asyncio.create_task(asyncio.sleep(30 * DAY)))
        return await inner[0]

    ctx.on_update("work", work)
    await ctx.wait_for(lambda: bool(inner))
    await ctx.task(lambda: 1)
    inner[0].cancel()
    return str(await ctx.wait_for_signal("end"))


def test_33_a_handler_that_is_cancelled_from_within(runtime: Stage) -> None:
    """A handler whose own awaiting was cancelled fails, while the execution goes on."""
    execution = runtime.start(gives_up_inside)
    with pytest.raises(Exception, match="cancelled") as error:
        execution.update("work", timeout=WAIT)
    assert not isinstance(error.value, ExecutionClosed)
    assert execution.describe().status == "running"
    execution.signal("end", "ok")
    assert execution.result(WAIT) == "ok"


@workflow("behaviours.blocks_when_told")
async def blocks_when_told(ctx: Context) -> str:
    async def work() -> str:
        return await ctx.task(go_through, "blocked")

    ctx.on_update("work", work)
    ctx.on_update("add", lambda n: n, validator=lambda n: 1 / n)
    await ctx.wait_for_signal("block")
    if MENDED:
        return "fixed"
    import socket

    socket.socket()
    return "?"


MENDED: list[bool] = []


def test_33_updates_of_a_blocked_execution(runtime: Stage) -> None:
    """Who waits for the update of an execution that is or becomes blocked is told at once; the
    request is kept, and is handled when the execution goes on."""
    MENDED.clear()
    execution = runtime.start(blocks_when_told)
    waiting = Background(lambda: execution.update("work", id="w"))
    gate("blocked").wait_until_reached()
    execution.signal("block")
    with pytest.raises(ExecutionBlocked):
        execution.result(WAIT)
    with pytest.raises(ExecutionBlocked):
        waiting.get()
    with pytest.raises(ExecutionBlocked):
        execution.update("add", 2, id="later")
    with pytest.raises(ExecutionBlocked):
        execution.update("add", 0, id="refused")
    MENDED.append(True)
    gate("blocked").open()
    execution.resume()
    assert execution.result(WAIT) == "fixed"


def test_33_everything_works_from_another_process(runtime: Stage) -> None:
    """Whoever has the same store open may ask and send, wherever the execution is run."""
    execution = runtime.start(account, id="shared")
    with runtime.beside() as other:
        handle = other.get_execution("shared")
        assert handle.update("deposit", 5, id="one") == 5
        assert handle.update("slowly", 1) == 6
        for _ in range(2):
            with pytest.raises(Refused, match="code -1"):
                handle.update("deposit", -1, id="bad", timeout=WAIT)
        with pytest.raises(UnknownHandler, match="deposit"):
            handle.update("nope", timeout=WAIT)
        with pytest.raises(Refused, match="code 3"):
            handle.update("fail", 3, timeout=WAIT)
        assert handle.query("balance") == 6
        assert execution.update("deposit", 5, id="one") == 5
        assert execution.update("deposit", 2, id="bad") == 8
        assert handle.update("deposit", 2, id="bad") == 8
        handle.signal("close")
        assert handle.result(WAIT) == execution.result(WAIT) == 8
        assert handle.update("deposit", 5, id="one") == 5
        with pytest.raises(ExecutionClosed):
            handle.update("deposit", 5, id="late")


def test_33_another_process_asks_while_runs_follow_each_other(runtime: Stage) -> None:
    """Who asks from another process gets its answer, whatever run gives it; each is handled
    once."""
    execution = runtime.start(generations, 0, id="hurried")
    with runtime.beside() as other:
        handle = other.get_execution("hurried")
        asking = Background(lambda: [handle.update("count", timeout=WAIT) for _ in range(10)])
        for _ in range(20):
            execution.signal("next")
        assert asking.get() == list(range(1, 11))
    execution.signal("end")
    assert execution.result(WAIT) == 10


def test_33_another_process_asks_again_after_a_refusal(runtime: Stage) -> None:
    """A refusal is the answer to one question: asked again with the same id, it is asked anew."""
    execution = runtime.start(account, id="shared")
    with runtime.beside() as other:
        handle = other.get_execution("shared")
        with pytest.raises(UnknownHandler):
            handle.update("late", id="u", timeout=WAIT)
        execution.signal("listen")
        execution.update("deposit", 1)
        assert handle.update("late", id="u", timeout=WAIT) == "heard"


# Starting an id again


def test_34_the_id_of_a_running_execution(runtime: Stage) -> None:
    """Starting an id that is running gives that execution; the arguments must be the same."""
    first = runtime.start(collects, 1, id="order-1")
    again = runtime.start(collects, 1, id="order-1")
    with pytest.raises(Exception, match="other arguments"):
        runtime.start(collects, 2, id="order-1")
    with pytest.raises(Exception, match="another id"):
        runtime.start(no_handlers, id="order-1")
    again.signal("item", "x")
    assert first.result(WAIT) == ["x"]


def test_34_an_argument_by_name_or_by_position(runtime: Stage, monkeypatch: Any) -> None:
    """It is the same start. So is one that an older version has recorded as it was given."""
    first = runtime.start(collects, 1, id="order-1")
    assert runtime.start(collects.bind(n=1), id="order-1").id == first.id
    second = runtime.start(collects.bind(n=1), id="order-2")
    assert runtime.start(collects, 1, id="order-2").id == second.id
    with pytest.raises(Exception, match="other arguments"):
        runtime.start(collects.bind(n=2), id="order-2")
    with monkeypatch.context() as before:
        before.setattr(type(collects), "ordered", lambda _, args, kwargs: (args, kwargs))
        runtime.start(collects.bind(n=1), id="order-3")
    third = runtime.start(collects.bind(n=1), id="order-3")
    for execution in (first, second, third):
        execution.signal("item", "x")
        assert execution.result(WAIT) == ["x"]


def test_34_the_id_of_a_closed_execution(runtime: Stage) -> None:
    """Starting an id that has closed gives the closed execution: an id is done once, so that a
    caller may always repeat a start of which it does not know whether it arrived."""
    first = runtime.start(collects, 1, id="order-1")
    first.signal("item", "x")
    assert first.result(WAIT) == ["x"]
    assert runtime.start(collects, 1, id="order-1").result(WAIT) == ["x"]
    runtime.reopen()
    assert runtime.start(collects, 1, id="order-1").result(WAIT) == ["x"]


def test_34_the_id_of_a_continued_execution(runtime: Stage) -> None:
    """The arguments of the first start identify an execution, whatever run it is in."""
    first = runtime.start(generations, 5, id="order-1")
    first.update("count", id="in-run-1")
    first.signal("next")
    first.update("count", id="in-run-2")
    again = runtime.start(generations, 5, id="order-1")
    with pytest.raises(Exception, match="other arguments"):
        runtime.start(generations, 7, id="order-1")
    again.signal("end")
    assert first.result(WAIT) == 7
    runtime.reopen()
    assert runtime.start(generations, 5, id="order-1").result(WAIT) == 7


# Promises


@workflow("behaviours.promises")
async def promises(ctx: Context) -> list[Any]:
    one, two = ctx.promise("one"), ctx.promise("two")
    ctx.on_query("tokens", lambda: [one.token, two.token])
    await ctx.wait_for_signal("go")
    return [await one, await two]


def test_35_completed_before_it_is_awaited(runtime: Stage) -> None:
    """A promise that is completed while the workflow does something else keeps its value; the
    order in which two are completed does not matter."""
    execution = runtime.start(promises)
    one, two = execution.query("tokens")
    runtime.complete_promise(two, {"second": 2})
    runtime.reopen()
    execution = runtime.again(execution)
    assert execution.query("tokens") == [one, two]
    execution.signal("go")
    runtime.complete_promise(one, (1,))
    assert execution.result(WAIT) == [(1,), {"second": 2}]


def test_35_completed_twice(runtime: Stage) -> None:
    """The second who completes or fails a promise is told that nothing was changed."""
    execution = runtime.start(promises)
    one, two = execution.query("tokens")
    runtime.complete_promise(one, 1)
    with pytest.raises(PromiseNotOpen):
        runtime.complete_promise(one, 1)
    with pytest.raises(PromiseNotOpen):
        runtime.fail_promise(one, "no")
    with runtime.beside() as other:
        with pytest.raises(PromiseNotOpen):
            other.complete_promise(one, 1)
        with pytest.raises(PromiseNotOpen):
            other.complete_promise(two[:-1] + ("1" if two[-1] == "0" else "0"), 1)
    execution.signal("go")
    runtime.complete_promise(two, 2)
    assert execution.result(WAIT) == [1, 2]
    with pytest.raises((PromiseNotOpen, ExecutionClosed)):
        runtime.complete_promise(two, 3)


def test_35_many_complete_one_promise(runtime: Stage) -> None:
    """Of many who complete a promise at the same time exactly one succeeds."""
    execution = runtime.start(promises)
    one, two = execution.query("tokens")

    def complete(value: int) -> int | None:
        try:
            runtime.complete_promise(one, value)
        except PromiseNotOpen:
            return None
        return value

    outcomes = [each.get() for each in [Background(lambda k=k: complete(k)) for k in range(8)]]
    (winner,) = [outcome for outcome in outcomes if outcome is not None]
    execution.signal("go")
    runtime.complete_promise(two)
    assert execution.result(WAIT) == [winner, None]


def test_35_a_wrong_token(runtime: Stage) -> None:
    """A token that is no token, is of another promise, or was changed completes nothing."""
    execution = runtime.start(promises)
    one, two = execution.query("tokens")
    name, seq, secret = one.split("~")
    other = two.split("~")[2]
    for wrong in (
        "",
        "nonsense",
        one[:-1],
        one + "0",
        f"{name}~{seq}~{other}",
        f"{name}~99~{secret}",
        f"{name}~-1~{secret}",
        f"someone-else~{seq}~{secret}",
        f"../..~{seq}~{secret}",
    ):
        with pytest.raises(UsageError):
            runtime.complete_promise(wrong, 1)
        with pytest.raises(UsageError):
            runtime.fail_promise(wrong, "no")
    with pytest.raises(UsageError):
        runtime.complete_promise(None, 1)
    execution.signal("go")
    runtime.complete_promise(one, 1)
    runtime.complete_promise(two, 2)
    assert execution.result(WAIT) == [1, 2]


def test_35_failed_from_outside(runtime: Stage) -> None:
    """A failed promise raises the given exception, of its own type, or a RuntimeError."""
    execution = runtime.start(fails_twice)
    one, two = execution.query("tokens")
    runtime.fail_promise(one, Refused(7))
    runtime.fail_promise(two, "just no")
    assert execution.result(WAIT) == ["Refused 7", "RuntimeError just no"]


@workflow("behaviours.fails_twice")
async def fails_twice(ctx: Context) -> list[str]:
    one, two = ctx.promise(), ctx.promise()
    ctx.on_query("tokens", lambda: [one.token, two.token])
    got = []
    try:
        await one
    except Refused as error:
        got.append(f"Refused {error.code}")
    try:
        await two
    except RuntimeError as error:
        got.append(f"RuntimeError {error}")
    return got


@pytest.mark.parametrize("why", [StopIteration(), SystemExit(1), asyncio.CancelledError("x")])
def test_35_failed_with_what_is_no_exception(runtime: Stage, why: BaseException) -> None:
    """What would end more than the workflow arrives as an ordinary error."""
    execution = runtime.start(fails_badly)
    runtime.fail_promise(execution.query("token"), why)
    assert type(why).__name__ in execution.result(WAIT)


@workflow("behaviours.fails_badly")
async def fails_badly(ctx: Context) -> str:
    promise = ctx.promise()
    ctx.on_query("token", lambda: promise.token)
    try:
        await promise
    except Exception as error:
        return str(error)
    return "?"


def test_35_what_cannot_be_a_failure(runtime: Stage) -> None:
    """fail_promise takes an exception or a text, and refuses anything else at once."""
    execution = runtime.start(fails_badly)
    token = execution.query("token")
    for wrong in (None, 5, ValueError):
        with pytest.raises(UsageError):
            runtime.fail_promise(token, wrong)
    runtime.fail_promise(token, "so")
    assert execution.result(WAIT) == "so"


@workflow("behaviours.reminds")
async def reminds(ctx: Context, wait: float) -> Any:
    promise = ctx.promise()
    ctx.on_query("token", lambda: promise.token)
    for n in range(3):
        try:
            async with asyncio.timeout(wait):
                return await promise
        except TimeoutError:
            await ctx.task(note, f"reminder {n}")
    await ctx.task(go_through, "reminded")
    return await promise


def test_35_awaited_again_after_a_timeout(runtime: Stage) -> None:
    """Giving up waiting for a promise does not give the promise up: it may be awaited again."""
    execution = runtime.start(reminds, runtime.far(DAY))
    waiting = Background(lambda: execution.result(WAIT))
    gate("reminded").wait_until_reached()
    runtime.complete_promise(execution.query("token"), "at last")
    gate("reminded").open()
    assert waiting.get() == "at last"
    assert LEDGER == ["reminder 0", "reminder 1", "reminder 2"]


@workflow("behaviours.gives_promises_up")
async def gives_promises_up(ctx: Context) -> list[Any]:
    """A promise is cancelled as a future in every way that asyncio has; what comes of it is not."""
    promises = [ctx.promise() for _ in range(4)]
    ctx.on_query("tokens", lambda: [promise.token for promise in promises])
    seen: list[Any] = []
    try:
        await asyncio.wait_for(promises[0], 0.01)
    except TimeoutError:
        seen.append("timeout")
    together = asyncio.gather(*promises[:2])
    together.cancel()
    for future in (together, promises[2]):
        future.cancel()
        try:
            async with asyncio.timeout(0.01):
                await future
        except (TimeoutError, asyncio.CancelledError) as error:
            seen.append(type(error).__name__)
    promises[3].cancel("twice")
    promises[3].cancel()
    await ctx.task(go_through, "given up")
    for promise in promises:
        try:
            seen.append(await promise)
        except PermissionError as error:
            seen.append(str(error))
    return seen


def test_35_given_up_and_awaited_again(runtime: Stage) -> None:
    """Whatever asyncio cancels while it waits for a promise, the promise itself is there for whoever
    awaits it later, and is completed or failed once."""
    execution = runtime.start(gives_promises_up)
    waiting = Background(lambda: execution.result(WAIT))
    gate("given up").wait_until_reached()
    tokens = execution.query("tokens")
    for n, token in enumerate(tokens[:3]):
        runtime.complete_promise(token, n)
    runtime.fail_promise(tokens[3], PermissionError("no card"))
    with pytest.raises(PromiseNotOpen):
        runtime.complete_promise(tokens[0], "again")
    gate("given up").open()
    assert waiting.get() == ["timeout", "CancelledError", "TimeoutError", 0, 1, 2, "no card"]


def test_35_completed_after_the_end(runtime: Stage) -> None:
    """The promise of an execution that has closed cannot be completed."""
    execution = runtime.start(promises)
    one, _ = execution.query("tokens")
    execution.cancel()
    with pytest.raises(ExecutionCancelled):
        execution.result(WAIT)
    for _ in range(2):
        with pytest.raises((ExecutionClosed, PromiseNotOpen)):
            runtime.complete_promise(one, 1)
        runtime.reopen()
