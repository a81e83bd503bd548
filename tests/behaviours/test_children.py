"""36 to 38: children, and executions that continue as new."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest

from mini_workflow import (
    ChildFailed,
    Context,
    ExecutionAlreadyExists,
    ExecutionBlocked,
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionTerminated,
    InvalidIdentifier,
    PromiseNotOpen,
    UnknownWorkflow,
    UsageError,
    workflow,
)
from tests.behaviours.stage import DAY, LEDGER, Background, Stage, gate, go_through, note
from tests.waiting import WAIT


def kinds(execution: Any) -> list[str]:
    return [type(event).__name__ for event in execution.history()]


class Broken(Exception):
    def __init__(self, part: str) -> None:
        super().__init__(f"{part} is broken")
        self.part = part


@workflow("behaviours.nested")
async def nested(ctx: Context, depth: int, fail: bool) -> list[str]:
    if depth == 0:
        if fail:
            try:
                await ctx.task(break_part, "axle")
            except Broken as error:
                raise ValueError("no car") from error
        return [await ctx.task(lambda: "bottom")]
    below = await ctx.child(nested, depth - 1, fail=fail, id=f"{ctx.info.execution_id}.{depth}")
    return [*below, f"level {depth}"]


def break_part(part: str) -> None:
    raise Broken(part)


def test_36_results_come_up_through_three_levels(runtime: Stage) -> None:
    """A child may have children; a result passes through all levels as it is."""
    execution = runtime.start(nested, 3, False, id="top")
    assert execution.result(WAIT) == ["bottom", "level 1", "level 2", "level 3"]
    for name in ("top.3", "top.3.2", "top.3.2.1"):
        assert runtime.get_execution(name).describe().status == "completed"


def test_36_a_failure_comes_up_with_its_causes(runtime: Stage) -> None:
    """The cause of ChildFailed is the child's exception, with its own causes, level by level."""
    execution = runtime.start(nested, 3, True, id="top")
    with pytest.raises(ChildFailed) as caught:
        execution.result(WAIT)
    chain: list[BaseException] = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(error)
        error = error.__cause__
    assert [type(each) for each in chain[:5]] == [
        ChildFailed,
        ChildFailed,
        ChildFailed,
        ValueError,
        Broken,
    ]
    assert [each.execution_id for each in chain[:3] if isinstance(each, ChildFailed)] == [
        "top.3",
        "top.3.2",
        "top.3.2.1",
    ]
    assert isinstance(chain[4], Broken)
    assert chain[4].part == "axle"


@workflow("behaviours.waiting_child")
async def waiting_child(ctx: Context, name: str = "") -> Any:
    try:
        return await ctx.wait_for_signal("done")
    except asyncio.CancelledError as error:
        await ctx.task(note, [ctx.info.execution_id, *error.args])
        raise


@workflow("behaviours.parent_of_many")
async def parent_of_many(ctx: Context, n: int) -> list[Any]:
    children = [ctx.child(waiting_child, id=f"many-{i}") for i in range(n)]
    for i, child in enumerate(children):
        child.signal("done", i)
    return await asyncio.gather(*children)


def test_36_many_children_and_signals_to_them(runtime: Stage) -> None:
    """Children run side by side; a signal reaches the child that it was sent to."""
    assert runtime.run(parent_of_many, 30) == list(range(30))
    handle = runtime.get_execution("many-7")
    assert handle.describe().workflow == "behaviours.waiting_child"


@workflow("behaviours.knows_its_parent")
async def knows_its_parent(ctx: Context) -> Any:
    return ctx.info.parent_id


@workflow("behaviours.plain_parent")
async def plain_parent(ctx: Context) -> list[Any]:
    child = ctx.child(knows_its_parent)
    by_name = ctx.child("behaviours.knows_its_parent")
    return [await child, await by_name, child.id != by_name.id, ctx.info.parent_id]


def test_36_a_child_knows_its_parent(runtime: Stage) -> None:
    """Ids are made up where none is given; a child may be named by its workflow's name."""
    execution = runtime.start(plain_parent, id="the-parent")
    assert execution.result(WAIT) == ["the-parent", "the-parent", True, None]


@workflow("behaviours.cancels_its_child")
async def cancels_its_child(ctx: Context, when: str) -> str:
    child = ctx.child(waiting_child, id=f"child-{when}")
    if when == "later":
        await ctx.task(lambda: None)
    child.cancel("no longer wanted")
    try:
        await child
    except asyncio.CancelledError:
        return "gave it up"
    return "?"


@pytest.mark.parametrize("when", ["at once", "later"])
def test_36_cancel_before_and_after_the_child_has_started(runtime: Stage, when: str) -> None:
    """A child that is cancelled in the same breath as it is started hears of it as any other."""
    when = when.replace(" ", "-")
    assert runtime.run(cancels_its_child, when) == "gave it up"
    with pytest.raises(ExecutionCancelled, match="no longer wanted"):
        runtime.get_execution(f"child-{when}").result(WAIT)
    assert [[f"child-{when}", "no longer wanted"]] == LEDGER


@workflow("behaviours.unlucky_parent")
async def unlucky_parent(ctx: Context) -> list[str]:
    got = []
    for make in (
        lambda: ctx.child(waiting_child, id="taken"),
        lambda: ctx.child("behaviours.unheard_of"),
    ):
        try:
            await make()
        except ChildFailed as error:
            got.append(type(error.__cause__).__name__)
    for wrong in (
        lambda: ctx.child(waiting_child, id="not/an id"),
        lambda: ctx.child(waiting_child, 1, 2, 3),
        lambda: ctx.child(waiting_child, on_parent_close="whatever"),  # type: ignore[arg-type]
        lambda: ctx.child(waiting_child, asyncio.Lock()),
    ):
        try:
            wrong()
        except (UsageError, TypeError) as error:
            got.append(type(error).__name__)
    return got


def test_36_children_that_cannot_be_started(runtime: Stage) -> None:
    """An id that is taken, or an unknown workflow, fails the child and not the parent; a wrong
    call is refused at once."""
    runtime.start(waiting_child, id="taken")
    assert runtime.run(unlucky_parent) == [
        ExecutionAlreadyExists.__name__,
        UnknownWorkflow.__name__,
        InvalidIdentifier.__name__,
        "InvalidArguments",
        UsageError.__name__,
        "ValueNotSerializable",
    ]
    assert runtime.get_execution("taken").describe().status == "running"


@workflow("behaviours.own_child")
async def own_child(ctx: Context) -> str:
    try:
        await ctx.child(own_child, id=ctx.info.execution_id)
    except ChildFailed as error:
        return type(error.__cause__).__name__
    return "?"


def test_36_an_execution_is_not_its_own_child(runtime: Stage) -> None:
    """The parent's own id is as taken as any other."""
    assert runtime.start(own_child, id="self").result(WAIT) == "ExecutionAlreadyExists"


@workflow("behaviours.leaves_children")
async def leaves_children(ctx: Context, how: str) -> str:
    for policy in ("terminate", "cancel", "abandon"):
        ctx.child(waiting_child, id=f"{how}-{policy}", on_parent_close=policy)
    await ctx.wait_for_signal("close")
    if how == "failed":
        raise Broken("parent")
    return how


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "terminated"])
def test_36_the_parent_closes_first(runtime: Stage, how: str) -> None:
    """However the parent ends: an open child is terminated, cancelled or left alone, as was said
    when it was started."""
    execution = runtime.start(leaves_children, how)
    if how == "cancelled":
        execution.cancel()
    elif how == "terminated":
        execution.terminate()
    else:
        execution.signal("close")
    with pytest.raises(ExecutionTerminated, match="parent"):
        runtime.get_execution(f"{how}-terminate").result(WAIT)
    with pytest.raises(ExecutionCancelled, match="parent"):
        runtime.get_execution(f"{how}-cancel").result(WAIT)
    assert execution.describe().status == how
    abandoned = runtime.get_execution(f"{how}-abandon")
    assert abandoned.describe().status == "running"
    abandoned.signal("done", "by itself")
    assert abandoned.result(WAIT) == "by itself"
    assert len(LEDGER) == 1


@workflow("behaviours.grandparent")
async def grandparent(ctx: Context, depth: int) -> None:
    if depth:
        ctx.child(grandparent, depth - 1, id=f"gen-{depth - 1}")
    await ctx.wait_for_signal("never")


def test_36_an_end_reaches_all_generations(runtime: Stage) -> None:
    """What ends with its parent ends with its grandparent too."""
    runtime.start(grandparent, 3, id="gen-3").terminate("the end")
    for n in range(3):
        with pytest.raises(ExecutionTerminated):
            runtime.get_execution(f"gen-{n}").result(WAIT)


@workflow("behaviours.child_ended_badly")
async def child_ended_badly(ctx: Context) -> str:
    try:
        await ctx.child(waiting_child, id="bad-end")
    except ChildFailed as error:
        return f"{type(error.__cause__).__name__}: {error.__cause__}"
    return "?"


def test_36_a_child_that_is_terminated(runtime: Stage) -> None:
    """The parent of a terminated child gets ChildFailed, and the reason."""
    execution = runtime.start(child_ended_badly)
    runtime.get_execution("bad-end").terminate("by hand")
    assert execution.result(WAIT) == "ExecutionTerminated: by hand"


def test_36_a_child_survives_a_reopening(runtime: Stage) -> None:
    """Parent and child go on in the next runtime, whichever of them moves first."""
    execution = runtime.start(child_ended_badly)
    runtime.reopen()
    runtime.get_execution("bad-end").signal("done")
    runtime.reopen()
    assert runtime.again(execution).result(WAIT) == "?"


@workflow("behaviours.waits_a_while")
async def waits_a_while(ctx: Context, wait: float) -> str:
    child = ctx.child(waiting_child, id="slow-child")
    try:
        async with asyncio.timeout(wait):
            await asyncio.shield(child)
    except TimeoutError:
        child.signal("done", "late")
    return await child


def test_36_a_timeout_around_a_shielded_child(runtime: Stage) -> None:
    """A child that is shielded outlives the timeout, and can still be awaited."""
    assert runtime.run(waits_a_while, runtime.far(DAY)) == "late"


# Continue as new


@workflow("behaviours.counts_down")
async def counts_down(ctx: Context, left: int, total: int) -> list[int]:
    total += await ctx.task(lambda: 1)
    if left:
        ctx.continue_as_new(left - 1, total=total)
    return [total, ctx.info.run, ctx.info.history_length]


def test_37_a_hundred_generations(runtime: Stage) -> None:
    """result() follows through all runs; the history is that of the last one."""
    execution = runtime.start(counts_down, 99, 0)
    assert execution.result(WAIT) == [100, 100, 3]
    assert len(execution.history()) == 4
    assert execution.describe().run == 100


@workflow("behaviours.inbox")
async def inbox(ctx: Context, seen: list[int], runs: int) -> list[Any]:
    """Takes one signal per run, by different means in turn."""
    if ctx.info.run % 3 == 0:
        seen.append(await ctx.wait_for_signal("item"))
    elif ctx.info.run % 3 == 1:
        got: list[int] = []
        ctx.on_signal("item", got.append)
        await ctx.wait_for(lambda: bool(got))
        seen += got
    else:
        seen.append(await ctx.wait_for_signal("item"))
        await ctx.task(lambda: None)
    if len(seen) < runs:
        ctx.continue_as_new(seen, runs)
    return [seen, ctx.info.run]


def test_37_a_hundred_generations_with_signals_in_flight(runtime: Stage) -> None:
    """Signals that arrive at any moment of a chain of runs are each received once, in order."""
    execution = runtime.start(inbox, [], 100)
    for n in range(100):
        execution.signal("item", n)
    seen, run = execution.result(WAIT)
    assert seen == list(range(100))
    assert run > 1


@workflow("behaviours.hasty")
async def hasty(ctx: Context, left: int, seen: list[str]) -> list[str]:
    ctx.on_signal("a", lambda value: seen.append(f"a{value}"))
    ctx.on_signal("b", lambda value: seen.append(f"b{value}"))
    if left:
        if left == 3:
            await ctx.task(go_through, "hasty")
        ctx.continue_as_new(left - 1, seen)
    await ctx.wait_for(lambda: "aend" in seen)
    return seen


def test_37_runs_that_do_not_wait_lose_nothing(runtime: Stage) -> None:
    """A run that continues before its handlers had a turn hands the signals on, all in order."""
    execution = runtime.start(hasty, 5, [])
    gate("hasty").wait_until_reached()
    expected = []
    for n in range(10):
        name = "ab"[n % 3 == 0]
        execution.signal(name, n)
        expected.append(f"{name}{n}")
    gate("hasty").open()
    execution.signal("a", "end")
    assert execution.result(WAIT) == [*expected, "aend"]


@workflow("behaviours.slow_to_end")
async def slow_to_end(ctx: Context, seen: list[int]) -> list[int]:
    async def work() -> None:
        try:
            await ctx.wait_for_signal("never")
        finally:
            await ctx.task(go_through, "winding down")

    ctx.on_signal("item", seen.append)
    if ctx.info.run == 1:
        asyncio.create_task(work())  # noqa: RUF006
        await ctx.wait_for(lambda: bool(seen))
        ctx.continue_as_new(seen)
    await ctx.wait_for(lambda: len(seen) == 4)
    return seen


def test_37_signals_while_a_run_winds_down(runtime: Stage) -> None:
    """What arrives while the cleanup of a run is still at work is for the next run."""
    execution = runtime.start(slow_to_end, [])
    execution.signal("item", 0)
    gate("winding down").wait_until_reached()
    for n in (1, 2):
        execution.signal("item", n)
    gate("winding down").open()
    execution.signal("item", 3)
    assert execution.result(WAIT) == [0, 1, 2, 3]


@workflow("behaviours.in_a_group")
async def in_a_group(ctx: Context, n: int) -> int:
    async with asyncio.timeout(DAY), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(DAY))
        await ctx.task(lambda: 1)
        if n < 3:
            ctx.continue_as_new(n + 1)
        raise Broken("group")
    return n


def test_37_out_of_a_task_group_and_a_timeout(runtime: Stage) -> None:
    """continue_as_new ends whatever it is called in, as a return would."""
    execution = runtime.start(in_a_group, 1)
    with pytest.raises(ExceptionGroup):
        execution.result(WAIT)
    assert execution.describe().run == 3


@workflow("behaviours.from_a_handler")
async def from_a_handler(ctx: Context) -> list[str]:
    errors: list[str] = []

    def handle(_value: Any) -> None:
        try:
            ctx.continue_as_new()
        except UsageError as error:
            errors.append(str(error))

    ctx.on_signal("new", handle)
    ctx.on_update("new", lambda: ctx.continue_as_new())  # noqa: PLW0108
    await ctx.wait_for(lambda: bool(errors))

    async def inner() -> None:
        ctx.continue_as_new()

    try:
        await asyncio.create_task(inner())
    except UsageError as error:
        errors.append(str(error))
    return errors


def test_37_refused_in_a_handler(runtime: Stage) -> None:
    """continue_as_new belongs to the workflow function; elsewhere it is refused, and says so."""
    execution = runtime.start(from_a_handler)
    with pytest.raises(UsageError, match="workflow function itself"):
        execution.update("new")
    execution.signal("new", None)
    errors = execution.result(WAIT)
    assert len(errors) == 2
    assert all("workflow function itself" in error for error in errors)


@workflow("behaviours.cancelled_runs")
async def cancelled_runs(ctx: Context, n: int) -> str:
    try:
        await ctx.task(go_through, f"run-{n}")
    finally:
        if n == 1:
            # In spite of the cancellation: the next run has not been asked to cancel itself.
            ctx.continue_as_new(2)
    return f"run {ctx.info.run}"


def test_37_a_cancel_during_continue_as_new(runtime: Stage) -> None:
    """A cancellation is for the run that it reaches; one that it continues from may be cancelled
    again."""
    execution = runtime.start(cancelled_runs, 1)
    gate("run-1").wait_until_reached()
    execution.cancel("one")
    gate("run-2").wait_until_reached()
    execution.cancel("two")
    with pytest.raises(ExecutionCancelled, match="two"):
        execution.result(WAIT)
    assert execution.describe().run == 2


@workflow("behaviours.promise_of_a_run")
async def promise_of_a_run(ctx: Context, n: int) -> Any:
    promise = ctx.promise()
    ctx.on_query("token", lambda: promise.token)
    if n == 1:
        await ctx.wait_for_signal("next")
        ctx.continue_as_new(2)
    return await promise


def test_37_a_promise_belongs_to_its_run(runtime: Stage) -> None:
    """The token of a run that is over completes nothing, least of all a promise of the next run."""
    execution = runtime.start(promise_of_a_run, 1)
    old = execution.query("token")
    execution.signal("next")
    new = execution.query("token")
    assert new != old
    with pytest.raises(PromiseNotOpen):
        runtime.complete_promise(old, "old")
    runtime.complete_promise(new, "new")
    assert execution.result(WAIT) == "new"


@workflow("behaviours.wrong_next")
async def wrong_next(ctx: Context, n: int) -> int:
    if n == 0:
        ctx.continue_as_new(1, 2, 3)
    return n


def test_37_wrong_arguments_of_the_next_run(runtime: Stage) -> None:
    """A next run that could not be called is refused while the old one is still there to say so."""
    execution = runtime.start(wrong_next, 0)
    with pytest.raises(TypeError):
        execution.result(WAIT)
    assert execution.describe().status == "failed"


@workflow("behaviours.handler_over_runs")
async def handler_over_runs(ctx: Context, n: int) -> str:
    async def work() -> str:
        return await ctx.task(go_through, f"work-{n}")

    ctx.on_update("work", work)
    await ctx.wait_for_signal("next")
    if n == 1:
        ctx.continue_as_new(2)
    return "done"


def test_37_an_update_at_work_when_the_run_continues(
    runtime: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Its caller is told, and may ask again with the same id: the next run handles it."""
    execution = runtime.start(handler_over_runs, 1)
    waiting = Background(lambda: execution.update("work", id="w"))
    gate("work-1").wait_until_reached()
    with caplog.at_level(logging.WARNING):
        execution.signal("next")
        with pytest.raises(ExecutionClosed, match="continued as new"):
            waiting.get()
    gate("work-2").open()
    assert execution.update("work", id="w") == "work-2"
    execution.signal("next")
    assert execution.result(WAIT) == "done"


def test_37_another_process_has_an_update_at_work_when_the_run_continues(runtime: Stage) -> None:
    """Who asked in another process is told as well, and may ask again with the same id."""
    execution = runtime.start(handler_over_runs, 1, id="over-runs")
    with runtime.beside() as other:
        handle = other.get_execution("over-runs")
        waiting = Background(lambda: handle.update("work", id="w", timeout=WAIT))
        gate("work-1").wait_until_reached()
        execution.signal("next")
        with pytest.raises(ExecutionClosed, match="continued as new"):
            waiting.get()
        gate("work-2").open()
        assert handle.update("work", id="w", timeout=WAIT) == "work-2"
        gate("work-1").open()
    execution.signal("next")
    assert execution.result(WAIT) == "done"


@workflow("behaviours.family_over_runs")
async def family_over_runs(ctx: Context, name: str) -> str:
    number = ctx.info.run
    if number <= 2:
        for policy in ("terminate", "cancel", "abandon"):
            ctx.child(waiting_child, id=f"{name}-{policy}-{number}", on_parent_close=policy)
        await ctx.wait_for_signal("next")
        ctx.continue_as_new(name)
    ctx.on_query("run", lambda: number)
    await ctx.wait_for_signal("next")
    if name == "continued":
        ctx.continue_as_new("completed")
    return "done"


@pytest.mark.parametrize("how", ["completed", "cancelled", "terminated", "continued"])
def test_37_children_belong_to_the_whole_chain(runtime: Stage, how: str) -> None:
    """The children of every run are terminated, cancelled or left alone when the last run closes,
    not before; those that have closed meanwhile are left as they are."""
    execution = runtime.start(family_over_runs, how, id="chain")
    for _ in range(2):
        execution.signal("next")
    assert execution.query("run") == 3
    runtime.get_execution(f"{how}-terminate-1").signal("done", "early")
    assert runtime.get_execution(f"{how}-terminate-1").result(WAIT) == "early"
    open_children = [f"{how}-{policy}-{n}" for policy in ("cancel", "abandon") for n in (1, 2)]
    for name in (*open_children, f"{how}-terminate-2"):
        assert runtime.get_execution(name).describe().status == "running"
    runtime.reopen()
    execution = runtime.again(execution)
    if how == "cancelled":
        execution.cancel()
    elif how == "terminated":
        execution.terminate()
    else:
        for _ in range(2 if how == "continued" else 1):
            execution.signal("next")
    with pytest.raises(ExecutionTerminated, match="parent"):
        runtime.get_execution(f"{how}-terminate-2").result(WAIT)
    for n in (1, 2):
        with pytest.raises(ExecutionCancelled, match="parent"):
            runtime.get_execution(f"{how}-cancel-{n}").result(WAIT)
        assert runtime.get_execution(f"{how}-abandon-{n}").describe().status == "running"
    assert runtime.get_execution(f"{how}-terminate-1").describe().status == "completed"


@workflow("behaviours.listens_to_children_only")
async def listens_to_children_only(ctx: Context) -> str:
    if ctx.info.run == 1:
        ctx.child(waiting_child, id="of-run-1")
        ctx.continue_as_new()
    await ctx.wait_for(lambda: False)
    return "?"


def test_37_a_child_of_an_earlier_run_wakes_nobody(runtime: Stage) -> None:
    """A run that waits for nothing but a child of an earlier one is told that it would wait for
    ever: nobody holds that child's future."""
    execution = runtime.start(listens_to_children_only)
    with pytest.raises(ExecutionBlocked, match="waits for ever"):
        execution.result(WAIT)
    execution.terminate()
    with pytest.raises(ExecutionTerminated, match="parent"):
        runtime.get_execution("of-run-1").result(WAIT)


@workflow("behaviours.child_in_runs")
async def child_in_runs(ctx: Context, left: int) -> str:
    await ctx.task(lambda: None)
    if left:
        ctx.continue_as_new(left - 1)
    return f"run {ctx.info.run} of {ctx.info.parent_id}"


@workflow("behaviours.parent_of_runs")
async def parent_of_runs(ctx: Context) -> str:
    return await ctx.child(child_in_runs, 5)


def test_37_a_child_that_continues_as_new(runtime: Stage) -> None:
    """The parent gets the result of the child's last run."""
    execution = runtime.start(parent_of_runs, id="p")
    assert execution.result(WAIT) == "run 6 of p"


@workflow("behaviours.reporting_child")
async def reporting_child(ctx: Context, n: int) -> None:
    assert ctx.info.parent_id is not None
    parent = ctx.execution(ctx.info.parent_id)
    for i in range(n):
        parent.signal("report", i)
        if i % 4 == 0:
            await ctx.task(lambda: None)


@workflow("behaviours.collecting_parent")
async def collecting_parent(ctx: Context, n: int, seen: list[int]) -> list[Any]:
    if ctx.info.run == 1:
        ctx.child(
            reporting_child, n, id=f"{ctx.info.execution_id}-child", on_parent_close="abandon"
        )
    seen.append(await ctx.wait_for_signal("report"))
    if len(seen) < n:
        ctx.continue_as_new(n, seen)
    return [seen, ctx.info.run]


def test_38_a_child_signals_its_parent_across_runs(runtime: Stage) -> None:
    """Signals of a child reach its parent's id in whichever run that is: all, once, in order."""
    execution = runtime.start(collecting_parent, 40, [])
    assert execution.result(WAIT) == [list(range(40)), 40]


@workflow("behaviours.pings")
async def pings(ctx: Context, other: str, n: int) -> int:
    first = n
    while n:
        ctx.execution(other).signal("ball", n)
        n = await ctx.wait_for_signal("ball")
    ctx.execution(other).signal("ball", 0)
    return first


@workflow("behaviours.pongs")
async def pongs(ctx: Context, other: str) -> int:
    got = 0
    while True:
        n = await ctx.wait_for_signal("ball")
        if n == 0:
            return got
        got += 1
        ctx.execution(other).signal("ball", n - 1)


def test_38_two_executions_talk_to_each_other(runtime: Stage) -> None:
    """Signals between executions are delivered once each, in order."""
    pong = runtime.start(pongs, "ping", id="pong")
    ping = runtime.start(pings, "pong", 30, id="ping")
    assert ping.result(WAIT) == 30
    assert pong.result(WAIT) == 30


@workflow("behaviours.talks_to_nobody")
async def talks_to_nobody(ctx: Context) -> str:
    ctx.execution("nobody").signal("hello")
    ctx.execution("nobody").cancel()
    ctx.execution("gone").signal("hello")
    ctx.execution("gone").cancel()
    return await ctx.task(lambda: "fine")


def test_38_a_message_to_nobody(runtime: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """A message to an execution that does not exist, or has closed, harms nobody; a warning names
    both, once."""
    runtime.start(talks_to_itself, id="gone").result(WAIT)
    with caplog.at_level(logging.WARNING, logger="mini_workflow"):
        assert runtime.start(talks_to_nobody, id="lonely").result(WAIT) == "fine"
        runtime.reopen()
    if runtime.posts:
        # Whoever receives them notices.
        assert sorted(record.getMessage() for record in caplog.records) == [
            "[gone] a cancel request for it had no effect: it has closed (completed)",
            (
                "[gone] signal 'hello' from execution 'lonely' came after the end of the execution, "
                "and is unhandled"
            ),
            "[nobody] a cancel request for it had no effect: there is no such execution",
            (
                "[nobody] a signal 'hello' from execution 'lonely' for it had no effect: there is no "
                "such execution"
            ),
        ]
        return
    late, closed, *missing = sorted(r.getMessage() for r in caplog.records)
    assert re.match(r"\[gone\] signal 'hello' from execution 'lonely' came after the end", late)
    assert re.match(
        r"\[lonely\] its cancel .* execution 'gone' .* has closed \(completed\)", closed
    )
    for line, what in zip(missing, ("cancel request", "signal 'hello'"), strict=True):
        assert line.startswith(f"[lonely] its {what} for execution 'nobody'")
        assert line.endswith("there is no such execution")


@workflow("behaviours.ends_when_told")
async def ends_when_told(ctx: Context) -> None:
    await ctx.task(go_through, "ends")


@workflow("behaviours.sends_late")
async def sends_late(ctx: Context) -> None:
    for _ in range(20):
        ctx.execution("brief").signal("late")


def test_38_a_signal_that_comes_just_too_late(
    runtime: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Of signals that race the end of their receiver, each is received before it, or unhandled,
    with a warning that names sender and receiver."""
    execution = runtime.start(ends_when_told, id="brief")
    gate("ends").wait_until_reached()
    with caplog.at_level(logging.WARNING, logger="mini_workflow"):
        gate("ends").open()
        runtime.start(sends_late, id="sender").result(WAIT)
        execution.result(WAIT)
        runtime.reopen()
    found = [type(event).__name__ for event in runtime.again(execution).history()]
    late = [r for r in caplog.records if "from execution 'sender'" in r.getMessage()]
    assert found.count("SignalReceived") + found.count("SignalUnhandled") == 20
    assert found.count("SignalUnhandled") == len(late)
    assert all(r.getMessage().startswith("[brief]") for r in late)


@workflow("behaviours.talks_to_itself")
async def talks_to_itself(ctx: Context) -> Any:
    ctx.execution(ctx.info.execution_id).signal("note", "to self")
    return await ctx.wait_for_signal("note")


def test_38_an_execution_may_signal_itself(runtime: Stage) -> None:
    """A signal to oneself arrives like any other, after the commit."""
    assert runtime.run(talks_to_itself) == "to self"
