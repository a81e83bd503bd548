"""A lock that outlives its holders: one execution leases it to others, in the order they ask."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from mini_workflow import Context, workflow
from mini_workflow.testing import WorkflowEnvironment

HISTORY_LIMIT = 1_000
"""After so many events the mutex goes on in a new run, with its queue."""

JOURNAL: list[str] = []

Request = tuple[str, str]
"""The number of a request, and the execution that makes it."""


@workflow
async def mutex(ctx: Context, lease: timedelta, waiting: Sequence[Request] = ()) -> None:
    """Grants the lock to the first in the queue, until it is released or the lease has ended."""
    queue: list[Request] = list(waiting)

    def release(number: str) -> None:
        queue[:] = [request for request in queue if request[0] != number]

    ctx.on_signal("acquire", queue.append)
    ctx.on_signal("release", release)
    ctx.on_query("queue", lambda: [execution for _, execution in queue])

    async def lease_to(number: str, execution: str) -> None:
        ctx.execution(execution).signal(f"granted {number}", ctx.now() + lease)
        try:
            await ctx.wait_for(lambda: (number, execution) not in queue, timeout=lease)
        except TimeoutError:
            release(number)  # its holder is dead, or as good as that

    while ctx.info.history_length < HISTORY_LIMIT:
        await ctx.wait_for(lambda: bool(queue))
        await lease_to(*queue[0])
    ctx.continue_as_new(lease, queue)


@contextlib.asynccontextmanager
async def locked(ctx: Context, lock: str) -> AsyncIterator[None]:
    """Hold the lock of the execution `lock`, in any workflow. TimeoutError: the lease has ended."""
    number = str(ctx.uuid4())
    ctx.execution(lock).signal("acquire", (number, ctx.info.execution_id))
    try:
        until = await ctx.wait_for_signal(f"granted {number}")
        async with asyncio.timeout((until - ctx.now()).total_seconds()):
            yield
    finally:  # also of a request that is cancelled while it waits
        ctx.execution(lock).signal("release", number)


@workflow
async def deploy(ctx: Context, lock: str, takes: timedelta) -> None:
    async with locked(ctx, lock):
        name = ctx.info.execution_id
        await ctx.task(lambda: JOURNAL.append(f"{name} begins"), name="begin")
        await ctx.sleep(takes)
        await ctx.task(lambda: JOURNAL.append(f"{name} ends"), name="end")


def main() -> None:
    with WorkflowEnvironment() as env:
        lock = env.start_execution(mutex, timedelta(hours=1), id="production")
        for name in ("ann", "bob", "eve"):
            env.start_execution(deploy, lock.id, timedelta(minutes=10), id=name)
        env.advance(60)
        print("in the queue:", *lock.query("queue"))
        env.get_execution("ann").terminate("the laptop was closed")  # and releases nothing
        env.advance(timedelta(minutes=59))
        print("an hour later:", *lock.query("queue"))
        env.get_execution("eve").result()
        print(*JOURNAL, sep=", ")
        lock.terminate("no longer needed")


if __name__ == "__main__":
    main()
