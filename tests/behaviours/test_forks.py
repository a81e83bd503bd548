"""95: a fork begins with events of another execution, and goes on with today's code."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionAlreadyExists,
    NonDeterminismError,
    UsageError,
    workflow,
)
from mini_workflow.core import events
from tests.behaviours.stage import LEDGER, Stage, note
from tests.waiting import WAIT


class Seat:
    """A value of a class of its own."""

    def __init__(self, number: int) -> None:
        self.number = number


@workflow("behaviours.fork_child")
async def child(ctx: Context, number: int) -> int:
    return await ctx.task(lambda: number * 10, name="ten")


@workflow("behaviours.fork_order")
async def order(ctx: Context) -> list[Any]:
    seat = await ctx.task(lambda: note(Seat(4)), name="reserve")
    ctx.set_tags({"seat": str(seat.number)})
    approved = await ctx.wait_for_signal("approve")
    paid = await ctx.task(lambda: note(seat.number + 1), name="charge")
    return [seat.number, approved, paid, await ctx.child(child, paid)]


def numbers() -> list[Any]:
    return [getattr(one, "number", one) for one in LEDGER]


def test_95_what_stands_before_the_cut_is_not_done_again(runtime: Stage) -> None:
    """The fork takes recorded results; what comes behind the cut is done anew, also what has arrived."""
    execution = runtime.start(order)
    execution.signal("approve", "ann")
    assert execution.result(WAIT) == [4, "ann", 5, 50]
    before = list(execution.history())
    again = execution.fork(before="charge")
    assert again.result(WAIT) == [4, "ann", 5, 50]
    assert numbers() == [4, 5, 5]
    other = execution.fork(at=2, id=f"{execution.id}-b")
    other.signal("approve", "bob")
    assert other.result(WAIT) == [4, "bob", 5, 50]
    assert list(execution.history()) == before
    assert other.history().started.forked_from == {"id": execution.id, "event": 2}
    assert again.describe().tags == {"seat": "4"}


def test_95_another_result_of_what_was_done(runtime: Stage) -> None:
    """The code goes on with the result that is given instead, of whatever class."""
    execution = runtime.start(order)
    execution.signal("approve", "ann")
    execution.result(WAIT)
    assert execution.fork(before="charge", patch={"reserve": Seat(7)}).result(WAIT) == [
        7,
        "ann",
        8,
        80,
    ]
    with pytest.raises(UsageError, match="only the outcome of a task or a child"):
        execution.fork(before="charge", patch={"approve": "bob"})
    with pytest.raises(UsageError, match="an exception cannot replace a result"):
        execution.fork(before="charge", patch={"reserve": ValueError()})


def test_95_what_cannot_be_forked_is_refused(runtime: Stage) -> None:
    """The error lists what there is, and no execution is begun."""
    execution = runtime.start(order)
    execution.signal("approve", "ann")
    execution.result(WAIT)
    with pytest.raises(UsageError, match=r"has task 'reserve' \(#1, event 2\)"):
        execution.fork(before="nothing")
    with pytest.raises(UsageError, match="either before="):
        execution.fork()
    with pytest.raises(UsageError, match="ends the execution"):
        execution.fork(at=len(execution.history()))
    with pytest.raises(ExecutionAlreadyExists):
        execution.fork(at=2, id=runtime.start(order).id)


@workflow("behaviours.fork_branch")
async def branch(ctx: Context) -> str:
    if await ctx.task(lambda: True, name="is it open"):
        return await ctx.task(lambda: "went in", name="go in")
    return await ctx.task(lambda: "went home", name="go home")


def test_95_a_result_with_which_the_code_does_something_else(runtime: Stage) -> None:
    """It must not contradict what is recorded before the cut; cut earlier, it may."""
    execution = runtime.start(branch)
    assert execution.result(WAIT) == "went in"
    with pytest.raises(NonDeterminismError, match="with the other results the code"):
        execution.fork(at=4, patch={"is it open": False})
    assert execution.fork(before="go in", patch={"is it open": False}).result(WAIT) == "went home"


@workflow("behaviours.fork_open")
async def waiting(ctx: Context) -> list[Any]:
    promise, timer = ctx.promise("paid"), ctx.sleep(1)
    part = ctx.child(slow_child)
    await ctx.wait_for_signal("go")
    done = await promise
    await timer
    return [done, await part]


@workflow("behaviours.fork_slow_child")
async def slow_child(ctx: Context) -> str:
    await ctx.wait_for_signal("go")
    return "child"


def test_95_what_is_open_is_begun_again(runtime: Stage) -> None:
    """An open execution can be forked: its promise has a new token, its child is another one, and both go
    on by themselves.
    """
    execution = runtime.start(waiting)
    execution.signal("go")
    [promise] = execution.open_promises()
    assert promise.name == "paid"
    cut = next(
        n for n, e in enumerate(execution.history(), 1) if isinstance(e, events.ChildStarted)
    )
    fork = execution.fork(at=cut)
    fork.signal("go")
    [other] = fork.open_promises()
    assert other.token != promise.token
    for one, token, value in ((execution, promise.token, 1), (fork, other.token, 2)):
        runtime.complete_promise(token, value)
        [started] = [e for e in one.history() if isinstance(e, events.ChildStarted)]
        runtime.get_execution(started.id).signal("go")
    assert fork.result(WAIT) == [2, "child"]
    assert execution.result(WAIT) == [1, "child"]
