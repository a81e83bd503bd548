"""85: updates that are answered later, or sent with the start of an execution."""

from __future__ import annotations

import asyncio
from time import monotonic, sleep
from typing import Any

import pytest

from mini_workflow import (
    AsyncUpdateHandle,
    Context,
    ExecutionAlreadyExists,
    ExecutionBlocked,
    ExecutionClosed,
    InvalidArguments,
    UnknownHandler,
    UpdateNotFound,
    UsageError,
    workflow,
)
from tests.behaviours.stage import LEDGER, Stage, gate, go_through, note
from tests.waiting import WAIT


@workflow("behaviours.basket")
async def basket(ctx: Context, owner: str = "ann") -> list[str]:
    items: list[str] = []

    def check(item: str, held: str = "") -> None:
        if not item:
            raise ValueError("an item has a name")

    async def add(item: str, held: str = "") -> int:
        if held:
            await ctx.task(go_through, held)
        await ctx.task(note, item)
        if item == "bad":
            raise LookupError(item)
        items.append(item)
        return len(items)

    ctx.on_update("add", add, validator=check)
    await ctx.wait_for_signal("pay")
    return [owner, *items]


def test_85_it_is_accepted_now_and_answered_later(runtime: Stage) -> None:
    """By any process, with its id."""
    execution = runtime.start(basket, id="b-1")
    handle = execution.start_update("add", "book", held="slow", id="u-1", timeout=WAIT)
    gate("slow").wait_until_reached()
    assert handle.id == "u-1"
    with pytest.raises(TimeoutError):
        execution.get_update("u-1").result(timeout=0)
    gate("slow").open()
    with runtime.beside() as other:
        assert other.get_execution("b-1").get_update("u-1").result(WAIT) == 1
    assert handle.result(WAIT) == 1
    assert execution.start_update("add", "book", held="slow", id="u-1").result(WAIT) == 1
    assert LEDGER == ["book"]
    execution.signal("pay")
    assert execution.result(WAIT) == ["ann", "book"]
    assert execution.get_update("u-1").result(WAIT) == 1


def test_85_what_was_accepted_survives_the_process(runtime: Stage) -> None:
    """Nobody has to ask for it again."""
    execution = runtime.start(basket, id="b-1")
    execution.start_update("add", "book", held="slow", id="u-1", timeout=WAIT)
    gate("slow").wait_until_reached()
    gate("slow").open()
    runtime.reopen()
    assert runtime.get_execution("b-1").get_update("u-1").result(WAIT) == 1


def test_85_what_is_refused_is_refused_at_once(runtime: Stage) -> None:
    """And what fails, fails when the answer is asked for."""
    execution = runtime.start(basket)
    with pytest.raises(ValueError, match="has a name"):
        execution.start_update("add", "", id="none", timeout=WAIT)
    with pytest.raises(UnknownHandler):
        execution.start_update("remove", "book", timeout=WAIT)
    handle = execution.start_update("add", "bad", timeout=WAIT)
    with pytest.raises(LookupError, match="bad"):
        handle.result(WAIT)
    with pytest.raises(UpdateNotFound, match="'other'"):
        execution.get_update("other")
    with pytest.raises(UsageError):
        execution.get_update("")
    execution.signal("pay")
    assert execution.result(WAIT) == ["ann"]
    with pytest.raises(ExecutionClosed):
        execution.start_update("add", "book", timeout=WAIT)


def test_85_a_blocked_execution_accepts_it_when_it_goes_on(runtime: Stage) -> None:
    """It is kept, and the caller is told so."""
    execution = runtime.start(basket, id="b-1")
    execution.pause("moving")
    with pytest.raises(ExecutionBlocked):
        execution.result(WAIT)
    with pytest.raises(ExecutionBlocked):
        runtime.update_with_start(
            basket, id="b-1", update="add", update_args=["book"], update_id="u"
        )
    execution.resume()
    ends = monotonic() + WAIT
    while execution.describe().status == "blocked":
        assert monotonic() < ends, "it does not go on"
        sleep(0.01)
    handle = runtime.update_with_start(
        basket, id="b-1", update="add", update_args=["book"], update_id="u", update_timeout=WAIT
    )
    assert handle.result(WAIT) == 1
    assert LEDGER == ["book"]


def test_86_an_update_with_a_start(runtime: Stage) -> None:
    """There is one execution, which gets all updates; one of an id that is known is the same."""
    send = runtime.update_with_start
    first = send(basket, "bob", id="b-1", update="add", update_args=["book"], tags={"of": "bob"})
    assert first.result(WAIT) == 1
    assert first.execution.describe().tags == {"of": "bob"}
    second = send(basket.bind("eve"), id="b-1", update="add", update_args=["pen"], update_id="u-2")
    assert second.result(WAIT) == 2
    assert send("behaviours.basket", id="b-1", update="add", update_args=["pen"], update_id="u-2")
    first.execution.signal("pay")
    assert first.execution.result(WAIT) == ["bob", "book", "pen"]
    assert LEDGER == ["book", "pen"]


def test_86_to_one_that_has_closed(runtime: Stage) -> None:
    """Only what it has answered is answered again, unless it is to begin anew."""
    send = runtime.update_with_start
    options: dict[str, Any] = {"id": "b-1", "update": "add", "update_args": ["book"]}
    first = send(basket, **options, update_id="u-1")
    assert first.result(WAIT) == 1
    execution = first.execution
    execution.signal("pay")
    execution.result(WAIT)
    assert send(basket, **options, update_id="u-1").result(WAIT) == 1
    with pytest.raises(ExecutionClosed):
        send(basket, **options, update_id="u-2")
    with pytest.raises(ExecutionAlreadyExists):
        send(basket, **options, if_closed="reject")
    again = send(basket, "eve", **options, if_closed="restart", update_timeout=WAIT)
    assert again.result(WAIT) == 1
    again.execution.signal("pay")
    assert again.execution.result(WAIT) == ["eve", "book"]


@workflow("behaviours.ends_with_the_first")
async def ends_with_the_first(ctx: Context) -> int:
    seen: list[int] = []

    def end(number: int) -> int:
        seen.append(number)
        return number

    ctx.on_update("end", end)
    await ctx.wait_for(lambda: bool(seen))
    return seen[0]


def test_86_it_may_end_the_execution_at_once(runtime: Stage) -> None:
    """In the turn in which it begins, and again in each run."""
    for number in range(3):
        handle = runtime.update_with_start(
            ends_with_the_first, id="e", update="end", update_args=[number], if_closed="restart"
        )
        assert handle.result(WAIT) == number
        assert handle.execution.result(WAIT) == number


@workflow("behaviours.waits_in_the_end")
async def waits_in_the_end(ctx: Context, hasty: int) -> int:
    ctx.on_update("left", lambda: hasty)
    if hasty:
        ctx.continue_as_new(hasty - 1)
    await ctx.wait_for_signal("end")
    return ctx.info.run


@pytest.mark.parametrize("hasty", [5, 30])
def test_86_runs_that_do_not_wait_hand_it_on_and_then_refuse_it(runtime: Stage, hasty: int) -> None:
    """The first run that waits takes it; nobody waits for ever where no run does."""
    send = runtime.update_with_start
    if hasty == 5:
        handle = send(waits_in_the_end, hasty, id="e", update="left", update_timeout=WAIT)
        assert handle.result(WAIT) == 0
    else:
        with pytest.raises(UsageError, match=r"'left' has met 20 runs.*'e'.*let the workflow wait"):
            send(waits_in_the_end, hasty, id="e", update="left", update_timeout=WAIT)
    execution = runtime.get_execution("e")
    execution.signal("end")
    assert execution.result(WAIT) == hasty + 1


def test_86_what_is_refused_has_started_it(runtime: Stage) -> None:
    """Wrong calls start nothing."""
    send = runtime.update_with_start
    with pytest.raises(ValueError, match="has a name"):
        send(basket, id="b-1", update="add", update_args=[""])
    assert runtime.get_execution("b-1").describe().status == "running"
    with pytest.raises(InvalidArguments):
        send(basket, 1, 2, id="b-2", update="add")
    with pytest.raises(UsageError):
        send(basket, id="b-2", update="")
    with pytest.raises(UsageError):
        send(basket, id="b-2", update="add", update_id="")
    with pytest.raises(ExecutionAlreadyExists):
        send(other_basket, id="b-1", update="add")
    with pytest.raises(LookupError):
        runtime.runtime.get_execution("b-2")


@workflow("behaviours.other_basket")
async def other_basket(ctx: Context) -> None:
    pass


def test_86_for_coroutines(runtime: Stage) -> None:
    """The same calls, awaited."""

    async def main() -> list[Any]:
        client = runtime.aio
        first = await client.update_with_start(basket, id="b-1", update="add", update_args=["book"])
        assert isinstance(first, AsyncUpdateHandle)
        book = await first
        second = await first.execution.start_update("add", "pen", id="u-2")
        third = await first.execution.get_update("u-2")
        return [book, await second.result(WAIT), await third]

    assert asyncio.run(main()) == [1, 2, 2]
