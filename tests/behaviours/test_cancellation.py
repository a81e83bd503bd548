"""24 to 29: cancelling and terminating."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import Any

import pytest

from mini_workflow import (
    ChildFailed,
    Context,
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionTerminated,
    TaskCancelled,
    current_task,
    workflow,
)
from mini_workflow.core import events
from tests.behaviours.stage import DAY, LEDGER, Background, Stage, gate, go_through, note
from tests.waiting import WAIT


def kinds(execution: Any) -> list[str]:
    return [type(event).__name__ for event in execution.history()]


@workflow("behaviours.waits")
async def waits(ctx: Context, how: str, name: str = "") -> Any:
    """Waits in some way; tells how the cancellation reached it, and lets it escape."""
    try:
        if how == "sleep":
            await ctx.sleep(30 * DAY)
        elif how == "task":
            await ctx.task(go_through, name)
        elif how == "child":
            await ctx.child(waits, "sleep", id=f"{ctx.info.execution_id}-child")
        elif how == "signal":
            await ctx.wait_for_signal("never")
        elif how == "promise":
            await ctx.promise()
        elif how == "predicate":
            await ctx.wait_for(lambda: False, timeout=30 * DAY)
        elif how == "map":
            await ctx.map(go_through, [name])
        elif how == "queue":
            ctx.on_signal("any", print)
            await asyncio.Queue[int]().get()
    except asyncio.CancelledError as error:
        await ctx.task(note, [how, *error.args])
        raise


@pytest.mark.parametrize(
    "how", ["sleep", "task", "child", "signal", "promise", "predicate", "map", "queue"]
)
def test_24_cancelled_wherever_it_waits(runtime: Stage, how: str) -> None:
    """A cancellation is raised as asyncio.CancelledError at the await where the workflow stands."""
    execution = runtime.start(waits, how, f"gate-{how}")
    execution.cancel("enough")
    with pytest.raises(ExecutionCancelled, match="enough"):
        execution.result(WAIT)
    assert [how, "enough"] in LEDGER
    assert execution.describe().status == "cancelled"


def test_24_cancelled_right_after_the_start(runtime: Stage) -> None:
    """Many executions, each cancelled at once: each has its code told, and ends cancelled."""
    executions = [runtime.start(waits, "sleep", id=f"e{n}") for n in range(20)]
    for execution in executions:
        execution.cancel()
    for execution in executions:
        with pytest.raises(ExecutionCancelled):
            execution.result(WAIT)
    assert LEDGER == [["sleep", ""]] * 20


@workflow("behaviours.catches")
async def catches(ctx: Context) -> str:
    caught = ""
    try:
        await ctx.sleep(30 * DAY)
    except asyncio.CancelledError:
        caught = "caught"
    await ctx.sleep(0.001)
    return caught + await ctx.task(lambda: ", and went on")


def test_24_a_cancel_that_is_caught_is_not_raised_again(runtime: Stage) -> None:
    """A workflow that catches the cancellation goes on, and can complete."""
    execution = runtime.start(catches)
    execution.cancel()
    assert execution.result(WAIT) == "caught, and went on"
    assert execution.describe().status == "completed"


@workflow("behaviours.finally")
async def in_finally(ctx: Context) -> None:
    try:
        await ctx.task(lambda: 1)
    finally:
        try:
            await ctx.task(go_through, "finally")
        except asyncio.CancelledError:
            await ctx.task(note, "cleaned up")
            raise


def test_24_cancelled_in_a_finally(runtime: Stage) -> None:
    """A cancellation that arrives while a finally block awaits is raised there, once."""
    execution = runtime.start(in_finally)
    gate("finally").wait_until_reached()
    execution.cancel("now")
    with pytest.raises(ExecutionCancelled, match="now"):
        execution.result(WAIT)
    assert LEDGER == ["cleaned up"]


@workflow("behaviours.cleans")
async def cleans(ctx: Context, name: str) -> None:
    try:
        await ctx.sleep(30 * DAY)
    finally:
        await ctx.task(note, "first")
        await ctx.task(go_through, name)
        await ctx.sleep(0.001)
        await ctx.task(note, "last")


def test_24_a_second_cancel_does_not_disturb_the_cleanup(runtime: Stage) -> None:
    """A second request changes nothing: cleanup that is under way is not cancelled."""
    execution = runtime.start(cleans, "cleanup")
    execution.cancel("one")
    gate("cleanup").wait_until_reached()
    execution.cancel("two")
    gate("cleanup").open()
    with pytest.raises(ExecutionCancelled, match="one"):
        execution.result(WAIT)
    assert LEDGER == ["first", "last"]
    assert kinds(execution).count("CancelRequested") == 1


@workflow("behaviours.handler_at_work")
async def handler_at_work(ctx: Context) -> None:
    async def work() -> str:
        try:
            return await ctx.task(go_through, "handler")
        except asyncio.CancelledError:
            await ctx.task(note, "the handler cleaned up")
            raise

    ctx.on_update("work", work)
    await ctx.sleep(30 * DAY)


def test_24_cancelled_while_a_handler_works(runtime: Stage) -> None:
    """When the workflow ends, its handlers are cancelled, may clean up, and who waits is told."""
    execution = runtime.start(handler_at_work)
    waiting = Background(lambda: execution.update("work"))
    gate("handler").wait_until_reached()
    execution.cancel("stop")
    with pytest.raises(ExecutionCancelled, match="stop"):
        execution.result(WAIT)
    with pytest.raises(ExecutionClosed):
        waiting.get()
    assert LEDGER == ["the handler cleaned up"]


@workflow("behaviours.cancels_itself")
async def cancels_from_handler(ctx: Context) -> None:
    ctx.on_signal("stop", lambda why: ctx.execution(ctx.info.execution_id).cancel(why))
    await ctx.sleep(30 * DAY)


def test_24_a_handler_may_cancel_its_own_execution(runtime: Stage) -> None:
    """An execution can cancel itself by its id, also from a handler."""
    execution = runtime.start(cancels_from_handler)
    execution.signal("stop", "on demand")
    with pytest.raises(ExecutionCancelled, match="on demand"):
        execution.result(WAIT)


@workflow("behaviours.gathers")
async def gathers(ctx: Context) -> list[str]:
    shielded = ctx.task(go_through, "shielded")
    child = ctx.child(waits, "sleep", id="gathered-child")
    log = []
    try:
        await asyncio.gather(
            ctx.sleep(30 * DAY), ctx.task(go_through, "plain"), child, asyncio.shield(shielded)
        )
    except asyncio.CancelledError:
        log.append("cancelled")
    log.append(await shielded)
    return log


def test_25_a_gather_passes_its_cancellation_on(runtime: Stage) -> None:
    """Cancelling a gather gives up its timer, its task and its child, and not what is shielded."""
    execution = runtime.start(gathers, id="gatherer")
    gate("shielded").wait_until_reached()
    gate("plain").wait_until_reached()
    execution.cancel("all of it")
    with pytest.raises(ExecutionCancelled):
        runtime.get_execution("gathered-child").result(WAIT)
    gate("shielded").open()
    assert execution.result(WAIT) == ["cancelled", "shielded"]
    found = kinds(execution)
    assert found.count("TimerCancelled") == 1
    assert found.count("ChildCancelled") == 1
    assert found.count("TaskCancelled") == 1


@workflow("behaviours.shields")
async def shields(ctx: Context) -> str:
    inner = ctx.task(go_through, "inner")
    try:
        await asyncio.shield(inner)
    except asyncio.CancelledError:
        return await inner
    return "never cancelled"


def test_25_cancelled_twice_while_shielded(runtime: Stage) -> None:
    """What is shielded goes on to its end, however often the waiting is cancelled."""
    execution = runtime.start(shields)
    gate("inner").wait_until_reached()
    execution.cancel()
    execution.cancel()
    gate("inner").open()
    assert execution.result(WAIT) == "inner"
    assert "TaskCancelled" not in kinds(execution)


@workflow("behaviours.cleanup_fails")
async def cleanup_fails(ctx: Context) -> None:
    try:
        await ctx.sleep(30 * DAY)
    finally:
        await ctx.task(divide, 1, 0)


def divide(a: int, b: int) -> float:
    return a / b


def test_26_cleanup_after_a_cancel_runs_tasks(runtime: Stage) -> None:
    """Tasks and timers of the cleanup run; when the cancellation escapes it is `cancelled`."""
    execution = runtime.start(cleans, "open")
    gate("open").open()
    execution.cancel()
    with pytest.raises(ExecutionCancelled):
        execution.result(WAIT)
    assert LEDGER == ["first", "last"]
    assert execution.describe().status == "cancelled"


def test_26_cleanup_that_fails_fails_the_execution(runtime: Stage) -> None:
    """An exception of the cleanup takes the place of the cancellation."""
    execution = runtime.start(cleanup_fails)
    execution.cancel()
    with pytest.raises(ZeroDivisionError):
        execution.result(WAIT)
    assert execution.describe().status == "failed"


def test_26_cleanup_survives_a_reopening(runtime: Stage) -> None:
    """Cleanup that the closing of the runtime interrupts goes on in the next one, where it was."""
    execution = runtime.start(cleans, "reopened")
    execution.cancel("over")
    gate("reopened").wait_until_reached()
    closing = Background(runtime.reopen)
    gate("reopened").open()
    closing.get()
    with pytest.raises(ExecutionCancelled, match="over"):
        runtime.again(execution).result(WAIT)
    assert LEDGER == ["first", "last"]


@workflow("behaviours.races")
async def races(ctx: Context) -> str:
    try:
        return str(await ctx.wait_for_signal("go"))
    except asyncio.CancelledError:
        return "cancelled"


def test_27_a_cancel_that_races_the_result(runtime: Stage) -> None:
    """Of a cancellation and the awaited message the one that the history has first decides, and
    every look at the execution afterwards says the same."""
    for n in range(20):
        execution = runtime.start(races, id=f"race-{n}")
        other = Background(partial(unless_closed, execution.cancel))
        unless_closed(partial(execution.signal, "go", "went"))
        other.get()
        result = execution.result(WAIT)
        found = kinds(execution)
        order = [kind for kind in found if kind in ("SignalReceived", "CancelRequested")]
        assert result == ("cancelled" if order[0] == "CancelRequested" else "went")
    runtime.reopen()
    for n in range(20):
        assert runtime.get_execution(f"race-{n}").result(WAIT) in ("went", "cancelled")


def unless_closed(call: Any) -> None:
    with contextlib.suppress(ExecutionClosed):
        call()


@workflow("behaviours.reason_of_child")
async def reason_of_child(ctx: Context, policy: Any) -> None:
    try:
        await ctx.child(waits, "sleep", id="reasoned", on_parent_close=policy)
    except asyncio.CancelledError as error:
        await ctx.task(note, ["parent", *error.args])
        raise


def test_28_reasons_reach_workflow_and_child(runtime: Stage) -> None:
    """The reason of a cancellation is the argument of the CancelledError, in the children too."""
    execution = runtime.start(reason_of_child, "abandon", id="reasoner")
    execution.cancel("over budget")
    with pytest.raises(ExecutionCancelled, match="over budget"):
        execution.result(WAIT)
    with pytest.raises(ExecutionCancelled, match="over budget"):
        runtime.get_execution("reasoned").result(WAIT)
    assert ["parent", "over budget"] in LEDGER
    assert ["sleep", "over budget"] in LEDGER


def uploads() -> None:
    """Goes on until its heartbeat says that nobody waits for it any more."""
    go_through("uploading")
    task = current_task()
    try:
        while True:
            task.heartbeat()
    except TaskCancelled as error:
        note([task.cancelled, str(error)])
        raise
    finally:
        gate("uploaded").reached.set()


@workflow("behaviours.upload")
async def upload(ctx: Context) -> None:
    await ctx.task(uploads)


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_28_the_reason_reaches_the_running_task(runtime: Stage, how: str) -> None:
    """A task that is at work is told by its next heartbeat that it is not wanted any more, and why."""
    execution = runtime.start(upload)
    gate("uploading").wait_until_reached()
    getattr(execution, how)("out of stock")
    with pytest.raises((ExecutionCancelled, ExecutionTerminated), match="out of stock"):
        execution.result(WAIT)
    gate("uploading").open()
    gate("uploaded").wait_until_reached()
    [[cancelled, text]] = LEDGER
    assert cancelled
    assert "out of stock" in text


@workflow("behaviours.told_of_child")
async def told_of_child(ctx: Context) -> str:
    child = ctx.child(waits, "sleep", id="cancelled-elsewhere")
    try:
        await child
    except ChildFailed as error:
        cause = error.__cause__
        assert isinstance(cause, ExecutionCancelled)
        return str(cause)
    return "?"


def test_28_a_parent_learns_why_its_child_was_cancelled(runtime: Stage) -> None:
    """The cause of ChildFailed is ExecutionCancelled with the reason."""
    execution = runtime.start(told_of_child)
    runtime.get_execution("cancelled-elsewhere").cancel("by hand")
    assert "by hand" in execution.result(WAIT)


@workflow("behaviours.stubborn")
async def stubborn(ctx: Context) -> None:
    ctx.on_query("ping", lambda: "pong")
    try:
        await ctx.sleep(30 * DAY)
    except BaseException:
        note("user code ran")
        raise
    finally:
        note("user code ran")


def test_29_terminate_runs_no_user_code(runtime: Stage) -> None:
    """A termination ends the execution at once: no except, no finally, no task of it runs."""
    execution = runtime.start(stubborn)
    execution.terminate("that is it")
    with pytest.raises(ExecutionTerminated, match="that is it"):
        execution.result(WAIT)
    assert isinstance(execution.history()[-1], events.ExecutionTerminated)
    assert kinds(execution) == ["ExecutionStarted", "TimerStarted", "ExecutionTerminated"]
    for late in (execution.terminate, execution.cancel, lambda: execution.signal("late")):
        with pytest.raises(ExecutionClosed):
            late()


def test_29_terminate_while_it_cleans_up(runtime: Stage) -> None:
    """A cleanup that does not end can be terminated."""
    execution = runtime.start(cleans, "endless")
    execution.cancel()
    gate("endless").wait_until_reached()
    execution.terminate()
    with pytest.raises(ExecutionTerminated):
        execution.result(WAIT)
    gate("endless").open()
    assert LEDGER == ["first"]


@workflow("behaviours.swallows_all")
async def swallows_all(ctx: Context) -> str:
    for _ in range(3):
        try:
            await ctx.sleep(30 * DAY)
        except asyncio.CancelledError:
            return "swallowed"
    return "?"


def test_26_one_that_swallows_the_cancel_completes(
    runtime: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A workflow that returns in spite of a cancellation is `completed`, without any complaint."""
    with caplog.at_level(logging.WARNING):
        execution = runtime.start(swallows_all)
        execution.cancel()
        assert execution.result(WAIT) == "swallowed"
    assert execution.describe().status == "completed"
    assert caplog.records == []
