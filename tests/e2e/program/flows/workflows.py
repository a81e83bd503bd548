"""Workflows that do what workflows do, and tasks that leave a trace of it in the ledger."""

# ruff: noqa: B023 - tasks take variables as they are at the call

import asyncio
import os
import signal
import threading
import time

from flows.ledger import is_told, note
from mini_workflow import Context, RetryPolicy, current_task, workflow

AT_ONCE = RetryPolicy(max_attempts=3, initial=0.01, jitter="none")


@workflow
async def steps(ctx: Context, n: int) -> int:
    for number in range(n):
        await ctx.task(lambda: note(number))
    return n


@workflow
async def fan_out(ctx: Context, n: int) -> int:
    def square(number: int) -> int:
        note(number)
        return number * number

    return sum(await asyncio.gather(*[ctx.task(square, number) for number in range(n)]))


@workflow
async def approval(ctx: Context, amount: int) -> dict:
    seen = []
    ctx.on_query("seen", lambda: list(seen))
    ctx.on_signal("remark", seen.append)
    ctx.on_update("raise", lambda by: amount + by)
    decision = await ctx.wait_for_signal("decide")
    await ctx.task(lambda: note("decided"))
    return {"amount": amount, "seen": seen, **decision}


@workflow
async def launches(ctx: Context, name: str) -> None:
    """Its task starts an execution of the same engine, and sends it a signal."""

    def launch() -> None:
        from flows.index import runtime  # which imports this module

        runtime.start_execution(approval, 7, id=name).signal("decide", {"by": "a task"})

    await ctx.task(launch)


@workflow
async def nap(ctx: Context, seconds: float) -> float:
    """How long the nap was, in seconds."""
    began = ctx.now()
    await ctx.sleep(seconds)
    return (ctx.now() - began).total_seconds()


@workflow
async def double(ctx: Context, number: int) -> int:
    await ctx.task(lambda: note("doubled"))
    return 2 * number


@workflow
async def family(ctx: Context, n: int) -> int:
    return sum(await asyncio.gather(*[ctx.child(double, number) for number in range(n)]))


@workflow
async def endless(ctx: Context) -> None:
    try:
        await ctx.sleep(24 * 3600)
    finally:
        await ctx.task(lambda: note("cleaned up"))


@workflow
async def again(ctx: Context, left: int, done: int = 0) -> int:
    await ctx.task(lambda: note(done))
    if left > 1:
        ctx.continue_as_new(left - 1, done + 1)
    return done + 1


@workflow
async def promised(ctx: Context) -> object:
    promise = ctx.promise("answer")
    ctx.on_query("token", lambda: promise.token)
    return await promise


@workflow
async def bulky(ctx: Context, size: int) -> int:
    """A value that is too large for a message, through a task and back."""
    text = "x" * size

    def reverse() -> str:
        note("reversed")
        return text[::-1]

    return len(await ctx.task(reverse))


# Tasks in trouble


def hang() -> None:
    """Wait to be killed, after telling which process is to be."""
    note("hanging")
    threading.Event().wait()


def freeze() -> None:
    """Stop the whole process: nothing in it can tell that the time is over."""
    note("freezing")
    os.kill(os.getpid(), signal.SIGSTOP)
    # The system stops the main thread first: this one must not go on until its turn has come.
    threading.Event().wait()


def vanish() -> None:
    """Be killed as by the kernel when there is no memory left."""
    note("vanishing")
    os.kill(os.getpid(), signal.SIGKILL)


def overrun() -> None:
    """Take longer than the function has time."""
    note("overrunning")
    time.sleep(3600)


TROUBLE = {"hang": hang, "freeze": freeze, "vanish": vanish, "overrun": overrun}


@workflow
async def fragile(ctx: Context, trouble: str) -> int:
    """Steps of which the second gets into trouble at its first attempt."""

    def risky() -> int:
        attempt = current_task().attempt
        if attempt == 1:
            TROUBLE[trouble]()
        note("risky")
        return attempt

    await ctx.task(lambda: note("first"))
    attempt = await ctx.task(risky, retry=AT_ONCE)
    await ctx.task(lambda: note("last"))
    return attempt


@workflow
async def deadly(ctx: Context) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# What a new version of the code changes

CODE = "old"
PATIENT = RetryPolicy(max_attempts=10_000, initial=0.2, factor=1.0, jitter="none")


def run_by(captured: str) -> str:
    """Which code has captured an attempt, and which code runs it."""
    return f"{captured} by {CODE}"


@workflow
async def versioned(ctx: Context) -> list[str]:
    """The first task fails until it is told not to."""
    captured = CODE
    ctx.on_query("code", lambda: captured)

    def patient() -> str:
        note("tried")
        if not is_told("go"):
            raise ConnectionError("not yet")
        return run_by(captured)

    first = await ctx.task(patient, retry=PATIENT)
    return [first, await ctx.task(lambda: run_by(captured))]


@workflow
async def evolving(ctx: Context) -> list:
    done = [await ctx.task(lambda: "old first")]
    await ctx.wait_for_signal("go")
    done.append(await ctx.task(lambda: "old second"))
    return done
