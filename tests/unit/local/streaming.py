"""Workflows that write to streams, for tests with processes."""

import os
import signal
from pathlib import Path

from mini_workflow import Context, RetryPolicy, StreamFull, UsageError, current_task, workflow


def say(*words: object) -> None:
    stream = current_task().stream("words")
    for word in words:
        stream.write(word)


def say_and_flush(*words: object) -> None:
    say(*words)
    current_task().stream("words").flush()


async def say_async(*words: object) -> None:
    say(*words)
    await current_task().stream("words").drain()
    try:
        current_task().stream("words").flush()
    except UsageError:
        say("refused")


def die_at_first() -> None:
    """Dies when what it has written is stored."""
    say_and_flush("a", "b")
    if current_task().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    say("c")


def fill(count: int) -> str:
    stream = current_task().stream("words")
    try:
        for number in range(count):
            stream.write(number)
            stream.flush()
    except StreamFull as error:
        return str(error)
    return "all"


@workflow("streaming.several")
async def several(ctx: Context) -> None:
    await ctx.task(say, 1, 2)
    await ctx.task(say_and_flush, 3)
    await ctx.task(say_async, 4, 5)
    ctx.stream("words").write(6)


@workflow("streaming.dying")
async def dying(ctx: Context) -> None:
    await ctx.task(die_at_first, retry=RetryPolicy(max_attempts=3, initial=0.01))


@workflow("streaming.filling")
async def filling(ctx: Context, count: int) -> str:
    return await ctx.task(fill, count)


def count_up(ledger: str) -> None:
    """Writes numbers, and notes which of them are stored, until it is killed."""
    stream = current_task().stream("numbers")
    number = 0
    while True:
        for _ in range(7):
            number += 1
            stream.write([current_task().attempt, number])
        stream.flush()
        with Path(ledger).open("a") as file:
            file.write(f"{current_task().attempt} {number}\n")


@workflow("streaming.counting")
async def counting(ctx: Context, ledger: str) -> None:
    await ctx.task(count_up, ledger, retry=RetryPolicy(max_attempts=99, initial=0.01))
