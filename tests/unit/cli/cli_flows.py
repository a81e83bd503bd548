"""Workflows for the command line, copied to the folder in which it is run."""

import asyncio
import dataclasses
import os
from datetime import date, datetime, timedelta

from mini_workflow import Context, Limit, current_task, workflow


def charge(order_id: str, amount: int) -> str:
    return f"receipt for {order_id}: {amount}"


@workflow
async def order(ctx: Context, order_id: str, amount: int = 1) -> dict[str, object]:
    limit = 10
    paid = 0

    def raise_limit(by: int) -> int:
        nonlocal limit
        limit += by
        return limit

    def check(by: int) -> None:
        if by > 100:
            raise ValueError("by 100 at most")

    ctx.on_query("limit", lambda: limit)
    ctx.on_update("raise", raise_limit, validator=check)
    receipt = await ctx.task(charge, order_id, amount, name="charge")
    paid = amount
    approval = await ctx.wait_for_signal("approve")
    return {"receipt": receipt, "paid": paid, "limit": limit, "by": approval}


@workflow
async def greet(ctx: Context, name: str, times: int = 1) -> str:
    words = [await ctx.task(lambda: f"hello {name}", name=f"greet-{n}") for n in range(times)]
    return ", ".join(words)


Limit("narrow", concurrency=1)


@workflow(limit="narrow", limit_key="k")
async def narrow(ctx: Context) -> None:
    await ctx.wait_for_signal("go")


@workflow
async def failing(ctx: Context) -> None:
    await ctx.task(lambda: None, name="nothing")
    raise LookupError("no such thing")


@workflow
async def waiting(ctx: Context) -> str:
    try:
        return str(await ctx.promise("answer"))
    except asyncio.CancelledError:
        await ctx.task(lambda: None, name="clean up")
        raise


@workflow
async def tokens(ctx: Context) -> str:
    promise = ctx.promise("answer")
    ctx.on_query("token", lambda: promise.token)
    return f"the answer is {await promise}"


@workflow
async def stuck(ctx: Context) -> str:
    await ctx.task(lambda: None, name="first")
    limit = (await ctx.wait_for_signal("go")) or 1
    while limit == 1:  # the deadlock that a deployment would fix
        await asyncio.Event().wait()
    return "went on"


@workflow
async def who(ctx: Context) -> int:
    def ask() -> int:
        import os

        assert current_task().attempt == 1
        return os.getpid()

    return await ctx.task(ask, name="who")


@workflow
async def rounds(ctx: Context, left: int) -> str:
    await ctx.task(lambda: None, name=f"round-{left}")
    if left:
        ctx.continue_as_new(left - 1)
    return "through"


class Opaque:
    """JSON cannot say it: on AWS its pickled form is signed."""

    def __init__(self, word: str) -> None:
        self.word = word


@workflow
async def opaque(ctx: Context) -> str:
    return (await ctx.task(lambda: Opaque("kept"), name="make")).word


@dataclasses.dataclass(frozen=True)
class Visit:
    at: datetime
    lasts: timedelta = timedelta(hours=1)


@workflow
async def visits(ctx: Context, first: Visit, until: date | None = None) -> str:
    plan = [first]

    def add(visit: Visit, times: int = 1) -> int:
        plan.extend([visit] * times)
        return len(plan)

    def end_on(day: date) -> None:
        nonlocal until
        until = day

    ctx.on_update("add", add)
    ctx.on_signal("end", end_on)
    ctx.on_query("before", lambda: len(plan))

    def later(than: datetime) -> int:
        return sum(visit.at > than for visit in plan)

    ctx.on_query("later", later)
    await ctx.wait_for(lambda: until is not None)
    total = sum((visit.lasts for visit in plan), timedelta())
    return f"{first.at:%Y}: {len(plan)} visits, {total}, until {until:%d.%m.%Y}"


@workflow
async def trained(ctx: Context) -> str:
    return await ctx.task(lambda: "trained", name="train", worker="gpu")


@workflow
async def place(ctx: Context) -> int:
    return await ctx.task(os.getpid)


@workflow
async def places(ctx: Context) -> list[int]:
    found = [await ctx.task(os.getpid), await ctx.task(os.getpid, worker="other")]
    return [*found, await ctx.child(place)]


@workflow
async def speaking(ctx: Context) -> None:
    def speak() -> None:
        stream = current_task().stream("words")
        stream.write(1)
        stream.write({"two": 2})

    ctx.stream("words").write("begun")
    await ctx.task(speak)
    ctx.stream("words").write("done")


def parse(row: int) -> None:
    raise LookupError(f"row {row} is not a price")


@workflow
async def fails_by_a_task(ctx: Context) -> None:
    await ctx.task(parse, 219)
