"""Tasks, and what type checkers say of their arguments and results."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from functools import partial
from typing import assert_type

from mini_workflow import Context, RetryPolicy


def charge(card: str, amount: int = 1, *, currency: str = "EUR") -> int:
    return len(card) * amount + len(currency)


def give_back(amount: int) -> None:
    print(amount)


async def fetch(url: str, retries: int = 0) -> bytes:
    return url.encode() * retries


def send(name: str, text: str) -> None:
    print(name, text)


class Order:
    def __init__(self, number: int) -> None:
        self.number = number

    def total(self, discount: float = 0.0) -> float:
        return self.number * (1 - discount)


async def results_have_types(ctx: Context) -> None:
    policy = RetryPolicy(max_attempts=3)
    assert_type(ctx.task(charge, "4711"), asyncio.Future[int])
    assert_type(ctx.task(charge, "4711", 3), asyncio.Future[int])
    assert_type(ctx.task(charge, "4711", amount=3, currency="USD"), asyncio.Future[int])
    assert_type(ctx.task(fetch, "there"), asyncio.Future[bytes])
    assert_type(ctx.task(fetch, url="there", retries=3), asyncio.Future[bytes])
    assert_type(await ctx.task(fetch, "there", retry=policy, timeout=3), bytes)
    assert_type(await ctx.task(charge, "4711", 3, name="charge it", retry=policy), int)
    assert_type(await ctx.task(charge, "4711", timeout=timedelta(minutes=1)), int)
    assert_type(await ctx.task(lambda: charge("4711"), undo=give_back), int)
    assert_type(await ctx.task(lambda: fetch("there"), heartbeat_timeout=3), bytes)
    assert_type(await ctx.task(partial(charge, "4711", amount=3), retry=policy), int)
    assert_type(await ctx.task(max, 3, 4, inline=True), int)
    assert_type(await ctx.task(Order, 3, worker="gpu"), Order)
    assert_type(await ctx.task(Order(3).total, 0.5, name="total"), float)
    assert_type(await ctx.task(send, "Ann", "hello"), None)


async def options_come_first_where_arguments_have_names(ctx: Context) -> None:
    policy = RetryPolicy(max_attempts=3)
    assert_type(await ctx.task(retry=policy)(charge, "4711", amount=3), int)
    assert_type(await ctx.task(retry=policy)(fetch, "there", retries=3), bytes)
    assert_type(await ctx.task(retry=policy)(send, name="Ann", text="hello"), None)
    ctx.task(retry=policy)(charge, 4711)  # type: ignore  # error
    ctx.task(retry=policy)(charge, "4711", amount="3")  # type: ignore  # error
    ctx.task(retry=3)(charge, "4711")  # type: ignore  # error


async def decorators_keep_the_type(ctx: Context) -> None:
    @ctx.task
    def first() -> int:
        return 1

    @ctx.task
    async def second() -> str:
        return "2"

    @ctx.task(retry=RetryPolicy(max_attempts=3), timeout=3)
    def third() -> int:
        return 3

    @ctx.task(name="fourth")
    async def fourth() -> str:
        return "4"

    assert_type(await first, int)
    assert_type(await second, str)
    assert_type(await third, int)
    assert_type(await fourth, str)


async def wrong_arguments_are_found(ctx: Context) -> None:
    policy = RetryPolicy(max_attempts=3)
    ctx.task(charge)  # type: ignore  # error: missing
    ctx.task(charge, 4711)  # type: ignore  # error: mistyped
    ctx.task(charge, "4711", "3")  # type: ignore  # error: mistyped
    ctx.task(charge, "4711", 3, 4)  # type: ignore  # error: too many
    ctx.task(charge, "4711", amount="3")  # type: ignore  # error: mistyped
    ctx.task(charge, "4711", amout=3)  # type: ignore  # error: no such parameter
    ctx.task(charge, retry=policy)  # type: ignore  # error: missing
    ctx.task(charge, 4711, retry=policy)  # type: ignore  # error: mistyped
    ctx.task(charge, "4711", "3", retry=policy)  # type: ignore  # error: mistyped
    ctx.task(charge, "4711", 3, 4, retry=policy)  # type: ignore  # error: too many
    ctx.task(fetch)  # type: ignore  # error: missing
    ctx.task(fetch, 3)  # type: ignore  # error: mistyped
    ctx.task(fetch, 3, timeout=3)  # type: ignore  # error: mistyped
    ctx.task(Order, "3")  # type: ignore  # error: mistyped
    ctx.task(Order(3).total, "half", name="total")  # type: ignore  # error: mistyped
    ctx.task(lambda: 3, 4)  # type: ignore  # error: too many


async def wrong_options_are_found(ctx: Context) -> None:
    ctx.task(charge, "4711", retry=3)  # type: ignore  # error
    ctx.task(charge, "4711", timeout="3")  # type: ignore  # error
    ctx.task(charge, "4711", timout=3)  # type: ignore  # error
    ctx.task(charge, "4711", name=3)  # type: ignore  # error
    ctx.task(timout=3)  # type: ignore  # error
    ctx.task(charge("4711"))  # type: ignore  # error: a result


async def results_are_used_by_their_types(ctx: Context) -> None:
    text: str = await ctx.task(charge, "4711")  # type: ignore  # error
    waiting: Awaitable[int] = ctx.task(fetch, "there")  # type: ignore  # error
    print(text, waiting)


async def maps_have_types(ctx: Context) -> None:
    assert_type(ctx.map(charge, ["4711", "4712"]), asyncio.Future[list[int]])
    assert_type(await ctx.map(fetch, ["a", "b"], concurrency=2, timeout=3), list[bytes])
    assert_type(await ctx.map(lambda number: number * 2, [1, 2], name="double"), list[int])
    assert_type(await ctx.map(Order, range(3)), list[Order])
    assert_type(await ctx.map(charge, ["4711"], name=lambda card: f"charge {card}"), list[int])
    assert_type(await ctx.map(charge, ["4711"], return_exceptions=True), list[int | Exception])
    assert_type(
        await ctx.map(fetch, ["a"], min_successful=1, concurrency=2), list[bytes | Exception]
    )
    ctx.map(charge, ["4711"], tolerated_failures="1")  # type: ignore  # error
    ctx.map(charge, [4711])  # type: ignore  # error: mistyped
    ctx.map(charge, "4711", concurency=3)  # type: ignore  # error: no such option
    ctx.map(charge, 3)  # type: ignore  # error: not iterable
    ctx.map(send, ["Ann"])  # type: ignore  # error: takes two
