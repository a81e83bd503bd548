"""Workflows that the pages show, and how their forms are filled in."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.testclient import TestClient

from mini_workflow import Context, Limit, RetryPolicy, current_task, workflow

HOSTILE = "<script>alert(1)</script>"


@workflow("shown-order")
async def order(ctx: Context, order_id: str) -> dict[str, Any]:
    state = {"raised": 0}
    ctx.on_query("state", lambda: state)

    def raise_by(amount: int) -> int:
        if amount < 0:
            raise ValueError("only upwards")
        state["raised"] += amount
        return state["raised"]

    ctx.on_update("raise", raise_by)
    await ctx.task(lambda: {"price": 42.5}, name="price")
    approval = await ctx.wait_for_signal("approve")
    return {"order": order_id, "approval": approval}


@workflow("shown-failure")
async def failing(ctx: Context) -> None:
    def parse() -> None:
        raise ValueError("row 219 is not a price")

    once = RetryPolicy(max_attempts=2, initial=0.001, jitter="none")
    await ctx.task(parse, name="parse", retry=once)


@workflow("shown-fan-out")
async def fan_out(ctx: Context, n: int) -> int:
    return sum(await ctx.map(lambda number: number, range(n), name="load", concurrency=n))


@workflow("shown-hostile")
async def hostile(ctx: Context, text: str) -> str:
    await ctx.task(lambda: text, name=text)
    ctx.set_tags({"text": text})
    raise ValueError(text)


def token_in(page: str) -> str:
    """The token of the forms of a page."""
    found = re.search(r'name="form-token" value="([0-9a-f]+)"', page)
    assert found is not None
    return found[1]


def act(browser: TestClient, execution: str, action: str, **fields: str) -> Any:
    """Fill in the form of an action, and send it."""
    page = browser.get(f"/executions/{execution}/{action}")
    assert page.status_code == 200, page.text
    return browser.post(
        f"/executions/{execution}/{action}", data={"form-token": token_in(page.text), **fields}
    )


@workflow("shown-promise")
async def paying(ctx: Context) -> dict[str, Any]:
    paid = ctx.promise("payment")
    return {"paid": await paid}


@workflow("shown-stream")
async def telling(ctx: Context) -> str:
    words = ctx.stream("words")
    words.write("once ")
    words.write(HOSTILE)
    more = await ctx.wait_for_signal("more")
    words.write(str(more))
    return "told"


@workflow("shown-scheduled")
async def scheduled(ctx: Context) -> str:
    return "done"


@workflow("shown-long")
async def long_task(ctx: Context) -> None:
    async def hold() -> None:
        await asyncio.Event().wait()

    await ctx.task(hold, name="hold")


@workflow("shown-waves")
async def waves(ctx: Context, n: int) -> int:
    """A few tasks of one name at a time, one after the other."""
    done = 0
    for _wave in range(3):
        await asyncio.gather(*(ctx.task(lambda: 1, name="load") for _ in range(n)))
        done += n
        await ctx.wait_for_signal("next")
        await ctx.sleep(0.05)
    return done


@workflow("shown-grandchild")
async def grandchild(ctx: Context) -> int:
    return await ctx.task(lambda: 1, name="count")


@workflow("shown-child")
async def daughter(ctx: Context) -> int:
    return await ctx.child(grandchild) + await ctx.task(lambda: 1, name="reckon")


@workflow("shown-mother")
async def mother(ctx: Context) -> int:
    return await ctx.child(daughter)


@workflow("shown-beating")
async def beating(ctx: Context, n: int) -> None:
    """Tasks that have given heartbeats, and run on: one by itself, and those of a map."""

    async def upload(page: int) -> None:
        current_task().heartbeat(f"page {page} of 7")
        await asyncio.Event().wait()

    if n == 1:
        await ctx.task(upload, 3, name="upload")
    else:
        await ctx.map(upload, range(n), name="upload", concurrency=n)


@workflow("shown-mixed")
async def mixed(ctx: Context, n: int, bad: int) -> None:
    """A map of which the last items fail."""

    def load(number: int) -> int:
        if number >= n - bad:
            raise ValueError(f"row {number}")
        return number

    once = RetryPolicy(max_attempts=1)
    await ctx.map(load, range(n), name="load", concurrency=n, retry=once, return_exceptions=True)
    await ctx.wait_for_signal("seen")


@workflow("shown-mixed-mother")
async def mother_of_mixed(ctx: Context, n: int, bad: int) -> None:
    await ctx.child(mixed, n, bad)


@workflow("ui.rounds")
async def rounds(ctx: Context, left: int) -> None:
    """Begin another run until none is left; then wait."""
    await ctx.task(int, left)
    if left:
        ctx.continue_as_new(left - 1)
    await ctx.wait_for_signal("go")


SLOTS = Limit("ui.slots", concurrency=1)


@workflow("ui.slotted")
async def slotted(ctx: Context) -> None:
    """Tasks for a worker that nobody runs: one has the slot, and the others wait for it."""
    await asyncio.gather(
        *(ctx.task(str, n, name=f"render {n}", limit=SLOTS, worker="nobody") for n in range(3))
    )


@workflow("ui.in_a_queue", limit=SLOTS)
async def in_a_queue(ctx: Context) -> None:
    await ctx.wait_for_signal("go")
