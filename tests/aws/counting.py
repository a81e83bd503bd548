"""What things cost: the calls of AWS that each of them takes, counted, and priced."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from types import FunctionType
from typing import Any, Final

from mini_workflow import Context
from mini_workflow.settings import TABLE_NAME
from tests.aws.world import World, registry_of

PRICES: Final = {
    "s3.PutObject": 5.00,
    "s3.GetObject": 0.40,
    "s3.DeleteObject": 0.0,
    "written": 0.625,
    "read": 0.125,
    "sqs.SendMessage": 0.50,
    "sqs.SendMessageBatch": 0.50,
    "sqs.ChangeMessageVisibilityBatch": 0.50,
    "lambda.Invoke": 0.20,
    "delivery": 2 * 0.50,
    "orchestrator": 0.20,
    "delayed": 0.40 + 3 * 0.40 + 0.50,
    "scheduler.CreateSchedule": 1.00,
    "scheduler.DeleteSchedule": 0.0,
}
"""USD per million (us-east-1). What is written to and read from DynamoDB is in its units, on demand: an
item of a KiB, and 4 KiB of items that are read as of the last write. A delivery is a receive and a delete
of the queue of events; what is delayed is sent to the queue of timers, received and deleted by the pipe,
passed through it, and sent to the queue of events. Schedules are priced by what they invoke."""

STORES: Final[dict[str, dict[str, str]]] = {"s3": {}, "dynamodb": {TABLE_NAME: "histories"}}
"""The settings by which an engine has its histories there."""

COMPUTE: Final = 0.0000133 * 1e6
"""USD per million GB-seconds (arm64)."""

GIGABYTES: Final = 0.5
SECONDS: Final = {"orchestrator": 0.05, "worker": 0.02}
"""Assumed: 512 MB, 50 ms for a turn, which is mostly a PUT and an invocation, and 20 ms of a worker
beside the task's own time."""

POLLED: Final = {"events": 0.50, "timers": 0.40, "delays": 0.40}
"""The queues that are polled, and USD per million requests to each."""

POLLS: Final = 5 * 3 * 60 * 24 * 30 / 1e6
"""Millions of requests to each in a month in which nothing happens: Lambda and the pipes have some five
connections each, and each asks three times a minute."""

LOGGED: Final = 0.4e-6
"""Gigabytes of lines that Lambda writes to the logs by itself for each call of a function. Assumed."""

LOGS: Final = 0.50
"""USD per gigabyte that CloudWatch takes in."""

OTHERS: Final = {
    "Step Functions, Standard": (25.00, "a state transition"),
    "Lambda durable functions": (8.00, "an operation, and 0.25 per GB written"),
    "Temporal Cloud": (50.00, "an action"),
}
"""USD per million of what a step is there, without the compute of the task."""


async def nothing(ctx: Context) -> None: ...


async def steps(ctx: Context, n: int) -> int:
    for number in range(n):
        await ctx.task(int, number)
    return n


async def wide(ctx: Context, n: int) -> int:
    return len(await asyncio.gather(*[ctx.task(int, number) for number in range(n)]))


async def inline(ctx: Context, n: int) -> int:
    for number in range(n):
        await ctx.task(int, number, inline=True)
    return n


async def naps(ctx: Context, n: int, seconds: float) -> None:
    for _ in range(n):
        await ctx.sleep(seconds)


async def children(ctx: Context, n: int) -> None:
    for _ in range(n):
        await ctx.child("nothing")


async def mailbox(ctx: Context, n: int) -> None:
    for _ in range(n):
        await ctx.wait_for_signal("item")


async def naps_and_steps(ctx: Context, n: int) -> int:
    for number in range(n):
        await ctx.sleep(60)
        await ctx.task(int, number)
    return n


async def timeouts(ctx: Context, n: int) -> int:
    for number in range(n):
        await ctx.task(int, number, timeout=100 + number)
    return n


WORKFLOWS: Final[tuple[FunctionType, ...]] = (
    *(nothing, steps, wide, inline, naps, children, mailbox, naps_and_steps, timeouts),
)
for each in WORKFLOWS:
    # What is stored names the file: its bytes are those of a function on Lambda, wherever this one is.
    each.__code__ = each.__code__.replace(co_filename="/var/task/orders/workflows.py")

REGISTRY: Final = registry_of(*WORKFLOWS)


class Count(Counter[str]):
    """Calls by name; also how often a batch was delivered and a function invoked."""


@contextmanager
def counted(world: World) -> Any:
    """Count what happens in the block, clients included."""
    count = Count()
    tables = world.services.tables
    written, read = tables.written, tables.read
    first, timers = len(world.calls), world.services.timers
    deliver, attempt = world.deliver, world.attempt

    def delivered(*args: Any, **kw: Any) -> int:
        found = deliver(*args, **kw)
        if found:
            count["delivery"] += 1
            count["orchestrator"] += 1
        return found

    def attempted(*args: Any, **kw: Any) -> bool:
        done = attempt(*args, **kw)
        count["worker"] += done
        return done

    world.deliver, world.attempt = delivered, attempted  # type: ignore[method-assign]
    try:
        world.acting = "client"
        yield count
    finally:
        world.acting = ""
        world.deliver, world.attempt = deliver, attempt  # type: ignore[method-assign]
        count.update(world.calls[first:])
        count["written"] = tables.written - written
        count["read"] = tables.read - read
        count["delayed"] = world.services.timers - timers
        # They are no sends to the queue of events.
        count["sqs.SendMessage"] -= count["delayed"]


def total(
    workflow: str, *args: Any, poke: Callable[[World], None] | None = None, store: str = "s3"
) -> Count:
    """Everything that an execution takes, from its start to its end, with warm functions."""
    with World(REGISTRY, settings=STORES[store]) as world:
        with counted(world) as count:
            world.client.start_execution(workflow, *args, id="e")
            if poke is not None:
                world.settle()
                poke(world)
            world.run()
        assert world.client.get_execution("e").describe().status == "completed"
    return count


def apiece(
    workflow: str,
    *args: Any,
    poke: Callable[[World, int], None] | None = None,
    store: str = "s3",
) -> Count:
    """What one more takes, of what the workflow does `n` times."""

    def of(n: int) -> Count:
        poked = poke and (lambda world: poke(world, n))
        return total(workflow, n, *args, poke=poked, store=store)

    more, less = of(6), of(5)
    return Count({name: more[name] - less[name] for name in more if more[name] != less[name]})


def signals(world: World, n: int) -> None:
    for number in range(n):
        world.client.get_execution("e").signal("item", number)
        world.settle()


def dollars(count: Count) -> float:
    """USD for a million of them."""
    calls = sum(PRICES[name] * number for name, number in count.items() if name in PRICES)
    busy = sum(SECONDS.get(name, 0) * number for name, number in count.items())
    return calls + busy * GIGABYTES * COMPUTE


def cold(step: int, store: str) -> Count:
    """What a turn reads in a process that does not know the execution."""
    with World(REGISTRY, settings=STORES[store]) as world:
        world.client.start_execution("steps", step + 1, id="e")
        world.until(lambda: world.services.invocations["e", step, 1] == 1)
        world.orchestrator.evict()
        with counted(world) as count:
            assert world.attempt()
            assert world.deliver() == 1
    return Count({name: count[name] for name in ("s3.GetObject", "read")})


def kinds(store: str = "s3") -> dict[str, Count]:
    """What there is to pay for."""
    return {
        "start and end": total("nothing", store=store),
        "step": apiece("steps", store=store),
        "task of a fan-out": apiece("wide", store=store),
        "inline task": apiece("inline", store=store),
        "timer, up to 15 minutes": apiece("naps", 60, store=store),
        "timer, longer": apiece("naps", 7200, store=store),
        "child execution": apiece("children", store=store),
        "signal": apiece("mailbox", poke=signals, store=store),
    }
