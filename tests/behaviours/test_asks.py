"""115: what a workflow asks of other executions, and how it hears that a signal has found somebody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionNotFound,
    ExecutionTerminated,
    Interceptor,
    SentCall,
    UnknownHandler,
    UsageError,
    WorkflowCall,
    workflow,
)
from tests.behaviours.stage import LEDGER, Stage, note
from tests.waiting import WAIT, eventually


@workflow("asks.account")
async def account(ctx: Context, runs: int = 0) -> Any:
    """Take amounts until it is told to close; a second one begins when that says "again"."""
    amounts: list[int] = []

    async def add(amount: int, *, times: int = 1) -> int:
        amounts.extend([await ctx.task(note, amount) for _ in range(times)])
        if amount == 13:
            raise LookupError("unlucky")
        return sum(amounts)

    def check(amount: int, *, times: int = 1) -> None:
        if amount < 0:
            raise ValueError("below nothing")

    ctx.on_update("add", add, validator=check)
    ctx.on_update("never", lambda: ctx.wait_for(lambda: False))
    ctx.on_query("amounts", lambda: tuple(amounts))
    ctx.on_query("nth", lambda n: amounts[n])
    ctx.on_query("start", lambda: ctx.sleep(1))
    how = await ctx.wait_for_signal("close")
    if how == "again" and runs < 2:
        ctx.continue_as_new(runs + 1)
    if how == "fail":
        raise KeyError("broken")
    await ctx.wait_for(ctx.all_handlers_finished)
    return (runs, sum(amounts))


async def seen_of(waiting: Any) -> Any:
    """What it comes to, or the exception by its class and text."""
    try:
        return await waiting
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@workflow("behaviours.asks_all")
async def asks_all(ctx: Context, target: str) -> list[Any]:
    other = ctx.execution(target)
    seen = [
        await other.update("add", 2),
        await other.update("add", 3, times=2),
        await other.query("amounts"),
        await other.query("nth", 0),
        await seen_of(other.update("add", -1)),
        await seen_of(other.update("add", 13)),
        await seen_of(other.update("missing")),
        await seen_of(other.query("nth", 99)),
        await seen_of(other.query("missing")),
    ]
    result = other.result()
    seen.append(await other.signal("close", "now", confirm=True))
    return [*seen, await result]


def test_115_a_workflow_asks_another_execution(runtime: Stage) -> None:
    """Values arrive as they are, exceptions as themselves; each request is handled once."""
    asked = runtime.start(account, id="asked")
    *seen, missing_update, index, missing_query, closed, result = runtime.run(asks_all, "asked")
    assert seen == [
        2,
        8,
        (2, 3, 3),
        2,
        "ValueError: below nothing",
        "LookupError: unlucky",
    ]
    assert "no handler for update 'missing'" in missing_update or "missing" in missing_update
    assert missing_update.startswith("UnknownHandler")
    assert missing_query.startswith("UnknownHandler")
    assert index.startswith("IndexError")
    assert (closed, result) == (None, (0, 21))
    assert LEDGER == [2, 3, 3, 13]
    history = [type(event).__name__ for event in asked.history()]
    assert history.count("UpdateAccepted") == 3
    assert history.count("ResultAsked") == 1
    assert runtime.again(asked).result(WAIT) == (0, 21)


@workflow("behaviours.asks_result")
async def asks_result(ctx: Context, target: str) -> Any:
    return await seen_of(ctx.execution(target).result())


def closes(how: str) -> Callable[[Any], None]:
    return lambda execution: execution.signal("close", how)


ENDS: dict[str, tuple[Callable[[Any], None], Any]] = {
    "completed": (closes("now"), (0, 0)),
    "failed": (closes("fail"), "KeyError: 'broken'"),
    "cancelled": (
        lambda execution: execution.cancel("enough"),
        "ExecutionCancelled: execution 'asked' was cancelled: enough",
    ),
    "terminated": (
        lambda execution: execution.terminate("out"),
        "ExecutionTerminated: execution 'asked' was terminated: out",
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_115_the_result_is_told_before_and_after_the_end(runtime: Stage, how: str) -> None:
    """It raises what the client's `result` does."""
    ends, told = ENDS[how]
    asked = runtime.start(account, id="asked")
    early = runtime.start(asks_result, "asked", id="early")
    eventually(lambda: "ResultAsked" in kinds(asked))
    runtime.reopen()
    ends(runtime.again(asked))
    assert runtime.again(early).result(WAIT) == told
    assert runtime.run(asks_result, "asked") == told


def kinds(execution: Any) -> list[str]:
    return [type(event).__name__ for event in execution.history()]


def test_115_the_result_follows_the_runs(runtime: Stage) -> None:
    """As the client's does."""
    asked = runtime.start(account, id="asked")
    early = runtime.start(asks_result, "asked", id="early")
    eventually(lambda: "ResultAsked" in kinds(asked))
    asked.signal("close", "again")
    asked.signal("close", "again")
    asked.signal("close", "now")
    assert early.result(WAIT) == (2, 0)


@workflow("behaviours.asks_nobody")
async def asks_nobody(ctx: Context) -> list[Any]:
    nobody = ctx.execution("nobody")
    asks = [
        nobody.result(),
        nobody.update("add", 1),
        nobody.query("amounts"),
        nobody.signal("close", confirm=True),
    ]
    nobody.signal("close")
    return await asyncio.gather(*asks, return_exceptions=True)


def test_115_nobody_is_told_of_by_name(runtime: Stage) -> None:
    """A signal that is not confirmed is sent into the blue, as ever."""
    for error in runtime.run(asks_nobody):
        assert isinstance(error, ExecutionNotFound)
        assert "there is no execution 'nobody' to ask" in str(error)
        assert error.execution_id == "nobody"


@workflow("behaviours.asks_the_closed")
async def asks_the_closed(ctx: Context, target: str) -> list[Any]:
    other = ctx.execution(target)
    asks = [other.update("add", 1), other.signal("close", confirm=True)]
    refused = await asyncio.gather(*asks, return_exceptions=True)
    return [*refused, await other.query("amounts")]


def test_115_what_has_closed_answers_queries_alone(runtime: Stage) -> None:
    """And its result."""
    asked = runtime.start(account, id="asked")
    asked.update("add", 5, timeout=WAIT)
    asked.signal("close", "now")
    assert asked.result(WAIT) == (0, 5)
    before = kinds(asked)
    *refused, amounts = runtime.run(asks_the_closed, "asked")
    assert amounts == (5,)
    for error in refused:
        assert isinstance(error, ExecutionClosed)
        assert "execution 'asked' has closed before (completed)" in str(error)
    assert kinds(asked) == before


@workflow("behaviours.asks_for_a_while")
async def asks_for_a_while(ctx: Context, target: str) -> list[Any]:
    other = ctx.execution(target)
    seen: list[Any] = []
    for ask in (other.result(), other.update("never")):
        try:
            async with asyncio.timeout(0.01):
                await ask
        except TimeoutError:
            seen.append((ask.cancelled(), "in time"))
    given_up = other.update("add", 7)
    given_up.cancel()
    try:
        await given_up
    except asyncio.CancelledError:
        seen.append("given up")
    await other.update("add", 1)
    return seen


def test_115_an_await_is_given_up_like_any_other(runtime: Stage) -> None:
    """What was asked for takes place all the same."""
    asked = runtime.start(account, id="asked")
    seen = runtime.run(asks_for_a_while, "asked")
    assert seen == [(True, "in time"), (True, "in time"), "given up"]
    assert eventually(lambda: sorted(asked.query("amounts")) == [1, 7])


@workflow("behaviours.asks_itself")
async def asks_itself(ctx: Context) -> list[Any]:
    ctx.on_update("double", lambda n: 2 * n)
    ctx.on_query("told", lambda: "by itself")
    me = ctx.execution(ctx.info.execution_id)
    try:
        await me.result()
    except UsageError as error:
        refused = str(error)
    return [refused, await me.update("double", 4), await me.query("told")]


def test_115_nobody_waits_for_its_own_result(runtime: Stage) -> None:
    """Its own updates and queries it may ask for."""
    refused, doubled, told = runtime.run(asks_itself, id="me")
    assert refused.startswith("ctx.execution('me').result(): the execution would wait for itself")
    assert (doubled, told) == (8, "by itself")


@workflow("behaviours.asks_the_paused")
async def asks_the_paused(ctx: Context, target: str) -> list[Any]:
    other = ctx.execution(target)
    asks = [
        other.update("add", 1),
        other.query("amounts"),
        other.signal("close", "now", confirm=True),
        other.result(),
    ]
    return await asyncio.gather(*asks)


def test_115_what_is_paused_answers_once_it_goes_on(runtime: Stage) -> None:
    """Nothing of it is lost meanwhile."""
    asked = runtime.start(account, id="asked")
    asked.update("add", 4, timeout=WAIT)
    asked.pause("a look at it")
    asking = runtime.start(asks_the_paused, "asked", id="asking")
    eventually(lambda: kinds(asking).count("AskSent") == 4)
    runtime.reopen()
    assert runtime.again(asking).describe().status == "running"
    runtime.again(asked).resume()
    added, amounts, signalled, result = runtime.again(asking).result(WAIT)
    assert added == 5
    assert amounts[0] == 4
    assert (signalled, result) == (None, (0, 5))


def test_115_what_is_paused_and_ended_answers_that(runtime: Stage) -> None:
    """Also what it has not taken up yet."""
    asked = runtime.start(account, id="asked")
    early = runtime.start(asks_result, "asked", id="early")
    eventually(lambda: "ResultAsked" in kinds(asked))
    asked.pause("a look at it")
    late = runtime.start(asks_result, "asked", id="late")
    closed = runtime.start(asks_the_closed, "asked", id="closed")
    eventually(lambda: "AskSent" in kinds(late) and kinds(closed).count("AskSent") == 2)
    asked.terminate("out")
    told = "ExecutionTerminated: execution 'asked' was terminated: out"
    assert (early.result(WAIT), late.result(WAIT)) == (told, told)
    *refused, amounts = closed.result(WAIT)
    assert [type(error) for error in refused] == [ExecutionClosed] * 2
    assert amounts == ()


@workflow("behaviours.spins_when_asked")
async def spins_when_asked(ctx: Context) -> str:
    def spin() -> None:
        while True:
            pass

    ctx.on_query("spin", spin)
    ctx.on_query("told", lambda: "still there")
    return await ctx.wait_for_signal("go")


@workflow("behaviours.asks_what_spins")
async def asks_what_spins(ctx: Context) -> list[Any]:
    other = ctx.execution("spins")
    seen = [await seen_of(other.query("spin")), await other.query("told")]
    other.signal("go", "ended")
    return [*seen, await other.result()]


def test_115_a_query_that_does_not_end_is_cut_off(runtime: Stage) -> None:
    """It fails at who asks, and who is asked goes on."""
    runtime.reopen(turn_timeout=1)
    runtime.start(spins_when_asked, id="spins")
    cut, *others = runtime.run(asks_what_spins)
    assert cut.startswith("TurnTimeout")
    assert others == ["still there", "ended"]


def test_115_another_process_has_the_other_execution(runtime: Stage) -> None:
    """Who asks and who is asked need not run at the same place."""
    runtime.start(account, id="asked")
    with runtime.beside() as other:
        asking = other.start_execution(asks_the_paused, "asked", id="asking")
        assert asking.result(WAIT)[0] == 1
    assert runtime.get_execution("asked").result(WAIT) == (0, 1)


@workflow("behaviours.asks_what_starts_something")
async def asks_what_starts_something(ctx: Context, target: str) -> list[Any]:
    other = ctx.execution(target)
    return [await seen_of(other.query("start")), await other.update("add", 1)]


def test_115_a_query_changes_nothing(runtime: Stage) -> None:
    """One that tries to is refused, and the execution goes on as before."""
    asked = runtime.start(account, id="asked")
    refused, added = runtime.run(asks_what_starts_something, "asked")
    assert refused.startswith("NotAllowedInWorkflow")
    assert added == 1
    assert "TimerStarted" not in kinds(asked)
    asked.signal("close", "now")
    assert asked.result(WAIT) == (0, 1)


@workflow("behaviours.gives_in")
async def gives_in(ctx: Context, target: str) -> Any:
    total = await ctx.execution(target).update("add", 1)
    return [total, await ctx.execution("later").result()]


def test_115_a_retry_asks_anew_for_what_has_failed(runtime: Stage) -> None:
    """What was answered stays answered."""
    asked = runtime.start(account, id="asked")
    asking = runtime.start(gives_in, "asked", id="asking")
    with pytest.raises(ExecutionNotFound, match="there is no execution 'later'"):
        asking.result(WAIT)
    runtime.start(account, id="later")
    runtime.get_execution("later").signal("close", "now")
    runtime.get_execution("later").result(WAIT)
    asking.retry()
    assert runtime.again(asking).result(WAIT) == [1, (0, 0)]
    assert kinds(asked).count("UpdateAccepted") == 1


def test_115_a_fork_asks_for_itself_what_is_open(runtime: Stage) -> None:
    """And the other one is answered, too."""
    asked = runtime.start(account, id="asked")
    runtime.start(account, id="later")
    asking = runtime.start(gives_in, "asked", id="asking")
    eventually(lambda: kinds(asking).count("AskSent") == 2)
    fork = asking.fork(at=len(kinds(asking)), id="fork")
    eventually(lambda: kinds(runtime.get_execution("later")).count("ResultAsked") == 2)
    runtime.get_execution("later").signal("close", "now")
    assert fork.result(WAIT) == [1, (0, 0)]
    assert asking.result(WAIT) == [1, (0, 0)]
    assert kinds(asked).count("UpdateAccepted") == 1


def test_115_what_was_deleted_is_not_there(runtime: Stage) -> None:
    """Who has been told its result before keeps it."""
    asked = runtime.start(account, id="asked")
    early = runtime.start(asks_result, "asked", id="early")
    asked.signal("close", "now")
    assert early.result(WAIT) == (0, 0)
    runtime.delete_execution("asked")
    assert runtime.run(asks_result, "asked").startswith("ExecutionNotFound")
    assert runtime.again(early).result(WAIT) == (0, 0)


def test_115_a_lost_process_loses_no_answer(runtime: Stage) -> None:
    """Neither that of the asker, nor that of the one who is asked."""
    runtime.start(account, id="asked")
    asking = runtime.start(asks_the_paused, "asked", id="asking")
    eventually(lambda: "AskSent" in kinds(asking))
    runtime.die()
    runtime.reopen()
    added, amounts, signalled, result = runtime.again(asking).result(WAIT)
    assert (added, amounts in ((), (1,)), signalled, result) == (1, True, None, (0, 1))


def test_115_what_it_waits_for_is_told(runtime: Stage) -> None:
    """In the sentence of its description."""
    runtime.start(account, id="asked")
    early = runtime.start(asks_result, "asked", id="early")
    told = eventually(lambda: early.describe() if early.describe().activity.waits else None)
    wait = told.activity.waits[0]
    assert (wait.kind, wait.name, wait.number) == ("result", "asked", 1)
    assert wait.line.endswith("in seen_of")
    assert told.sentence(wait.since) == "Waits for the result of asked since 0 ms."
    early.cancel("enough")
    with pytest.raises(ExecutionCancelled):
        early.result(WAIT)
    runtime.get_execution("asked").terminate("done")
    with pytest.raises(ExecutionTerminated):
        runtime.get_execution("asked").result(WAIT)


class Via(Interceptor):
    """Says of what is sent by whom it is, and what came with what is handled."""

    @contextmanager
    def around_workflow(self, call: WorkflowCall) -> Generator[None]:
        if call.kind in ("update", "signal"):
            VIA[call.kind] = dict(call.headers)
        yield

    def sending(self, call: SentCall) -> None:
        call.headers["via"] = f"{call.execution_id}, {call.kind} {call.name} to {call.target}"


VIA: dict[str, dict[str, str]] = {}


@workflow("behaviours.asks_with_headers")
async def asks_with_headers(ctx: Context, target: str) -> None:
    other = ctx.execution(target)
    await other.update("double", 1)
    await other.query("told")
    await other.signal("close", "now", confirm=True)


@workflow("behaviours.is_asked_with_headers")
async def is_asked_with_headers(ctx: Context) -> None:
    closed: list[Any] = []
    ctx.on_update("double", lambda n: 2 * n)
    ctx.on_query("told", lambda: "told")
    ctx.on_signal("close", closed.append)
    await ctx.wait_for(lambda: bool(closed))


def test_115_headers_go_with_what_is_asked(runtime: Stage) -> None:
    """As interceptors leave them; those of who asks do not go along by themselves."""
    VIA.clear()
    runtime.reopen(interceptors=[Via()])
    asked = runtime.start(is_asked_with_headers, id="asked", headers={"tenant": "t-7"})
    runtime.start(asks_with_headers, "asked", id="asking", headers={"tenant": "t-8"}).result(WAIT)
    assert asked.result(WAIT) is None
    assert VIA == {
        "update": {"via": "asking, update double to asked"},
        "signal": {"via": "asking, signal close to asked"},
    }


@workflow("behaviours.asks_of_a_query")
async def asks_of_a_query(ctx: Context) -> None:
    ctx.on_query("ask", lambda: ctx.execution("asked").result())
    await ctx.wait_for_signal("go")


def test_115_a_query_asks_nobody(runtime: Stage) -> None:
    """It may only look; nor can the name of what is asked be anything but a name."""
    asking = runtime.start(asks_of_a_query, id="asking")
    with pytest.raises(Exception, match="tried to start something"):
        asking.query("ask")
    with pytest.raises(UnknownHandler):
        asking.query("else")
    asking.signal("go")
    assert asking.result(WAIT) is None
