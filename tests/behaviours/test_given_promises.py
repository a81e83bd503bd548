"""100: promises of other executions, which a workflow completes and fails."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import Context, PromiseNotOpen, UsageError, workflow
from tests.behaviours.stage import Stage
from tests.waiting import WAIT


@workflow("behaviours.asks_by_promise")
async def asks_by_promise(ctx: Context) -> list[Any]:
    """Hand the tokens to whoever does the work, and wait for what comes of it."""
    done, failed = ctx.promise("done"), ctx.promise("failed")
    ctx.start(gives, done.token, failed.token, id=f"{ctx.info.execution_id}-giver")
    seen: list[Any] = [await done]
    try:
        await failed
    except LookupError as error:
        seen.append(str(error))
    return seen


@workflow("behaviours.gives")
async def gives(ctx: Context, done: str, failed: str) -> str:
    ctx.complete_promise(done, (await ctx.task(lambda: 20), "pages"))
    ctx.complete_promise(done, "once more, which counts no more")
    await ctx.task(lambda: None)
    ctx.fail_promise(failed, LookupError("no such page"))
    return "given"


def test_100_a_workflow_completes_a_promise_of_another(runtime: Stage) -> None:
    """A tuple arrives as a tuple, an exception as itself; what is given once more changes nothing."""
    asking = runtime.start(asks_by_promise, id="asking")
    assert asking.result(WAIT) == [(20, "pages"), "no such page"]
    runtime.reopen()
    assert runtime.get_execution("asking-giver").result(WAIT) == "given"
    history = [type(event).__name__ for event in runtime.again(asking).history()]
    assert history.count("PromiseCompleted") == 1


@workflow("behaviours.gives_to_nobody")
async def gives_to_nobody(ctx: Context, token: str) -> list[Any]:
    seen: list[Any] = []
    for wrong, why in (("no token", "why"), (token, 5)):
        try:
            ctx.fail_promise(wrong, why)  # type: ignore[arg-type]
        except UsageError as error:
            seen.append(type(error))
    ctx.complete_promise("nobody~1~secret", "for nobody")
    ctx.complete_promise(token[:-1] + ("1" if token[-1] == "0" else "0"), "guessed")
    ctx.complete_promise(token, "right")
    return seen


@workflow("behaviours.is_given")
async def is_given(ctx: Context) -> Any:
    paid = ctx.promise("paid")
    ctx.on_query("token", lambda: paid.token)
    return await paid


def test_100_only_who_has_the_token_can(runtime: Stage) -> None:
    """Another secret changes nothing, nor does one that is for nobody."""
    waiting = runtime.start(is_given)
    giving = runtime.start(gives_to_nobody, waiting.query("token"))
    assert giving.result(WAIT) == [PromiseNotOpen, UsageError]
    assert waiting.result(WAIT) == "right"


def test_100_a_query_gives_nothing(runtime: Stage) -> None:
    """As it may start nothing else."""

    @workflow("behaviours.gives_in_a_query")
    async def gives_in_a_query(ctx: Context) -> None:
        ctx.on_query("give", lambda: ctx.complete_promise("nobody~1~secret"))
        await ctx.wait_for_signal("end")

    execution = runtime.start(gives_in_a_query)
    with pytest.raises(Exception, match="tried to start something"):
        execution.query("give")
    execution.signal("end")
    execution.result(WAIT)
