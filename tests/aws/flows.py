"""Workflows that go through everything a function does, and what has to come of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mini_workflow import ChildFailed, Context, ExecutionNotFound, RetryPolicy, current_task
from mini_workflow.core.payload import Payload
from mini_workflow.engine.requests import Update
from tests.aws.world import World, registry_of

BODIES: Counter[tuple[str, int, int]] = Counter()
"""How often the code of each attempt has run."""


def did(value: Any) -> Any:
    """The body of a task: count it."""
    BODIES[current_task().request.key] += 1
    return value


def stumble() -> str:
    """Fails the first time."""
    did(None)
    if current_task().attempt == 1:
        raise ConnectionError("the first time it fails")
    return "second"


async def sequence(ctx: Context) -> list[Any]:
    return [await ctx.task(did, value) for value in (0, "", None, [1])]


async def fan_out(ctx: Context) -> list[int]:
    return await asyncio.gather(*[ctx.task(did, number) for number in range(6)])


async def retried(ctx: Context) -> str:
    return await ctx.task(stumble, retry=RetryPolicy(max_attempts=8, initial=5, jitter="none"))


async def timers(ctx: Context) -> list[int]:
    started = ctx.now()
    await ctx.sleep(5)
    first = ctx.now() - started
    async with asyncio.timeout(7200):
        await ctx.task(did, 1)
    await ctx.sleep(3600)
    return [first.seconds >= 5, (ctx.now() - started).seconds >= 3605]


async def signals(ctx: Context) -> list[Any]:
    found: list[Any] = []
    async for value in ctx.signals("item"):
        if value == "end":
            return found
        found.append(await ctx.task(did, value))
    raise AssertionError


async def small(ctx: Context, number: int) -> int:
    return await ctx.task(did, number * number)


async def broken(ctx: Context) -> None:
    raise ValueError("no such luck")


async def parent(ctx: Context) -> list[Any]:
    first = ctx.child("small", 2, id="child-2")
    second = ctx.child("small", 3, id="child-3")
    found: list[Any] = [await first, await second]
    try:
        await ctx.child("broken", id="child-broken")
    except ChildFailed as error:
        found.append(str(error.__cause__))
    return found


async def told(ctx: Context) -> list[Any]:
    return [await ctx.wait_for_signal("hello"), await ctx.wait_for_signal("hello")]


async def teller(ctx: Context) -> list[Any]:
    child = ctx.child("told", id="child-told")
    child.signal("hello", 1)
    await ctx.task(did, 0)
    child.signal("hello", 2)
    return await child


async def answering(ctx: Context) -> list[int]:
    numbers: list[int] = []

    async def add(number: int) -> int:
        numbers.append(await ctx.task(did, number))
        return sum(numbers)

    ctx.on_update("add", add)
    ctx.on_query("all", lambda: numbers)
    await ctx.wait_for_signal("close")
    return numbers


async def asking(ctx: Context) -> list[Any]:
    other = ctx.start("answering", id="answering")
    result = other.result()
    seen = [await other.update("add", 4), await other.query("all")]
    seen.append(await other.signal("close", confirm=True))
    seen += [await result, await other.query("all")]
    try:
        await ctx.execution("nobody").result()
    except ExecutionNotFound:
        seen.append("nobody")
    return seen


async def generations(ctx: Context, seen: list[Any]) -> list[Any]:
    """Takes one signal per run, the others move on."""
    value = await ctx.wait_for_signal("item")
    seen = [*seen, await ctx.task(did, value)]
    if value == "end":
        return seen
    return ctx.continue_as_new(seen)


async def hasty(ctx: Context, seen: list[Any]) -> list[Any]:
    """The same without anything in between."""
    seen = [*seen, await ctx.wait_for_signal("item")]
    if seen[-1] == "end":
        return seen
    return ctx.continue_as_new(seen)


async def cancelled(ctx: Context) -> str:
    try:
        await ctx.sleep(10**7)
    except asyncio.CancelledError:
        await ctx.task(did, "cleaned up")
        raise
    return "not cancelled"


async def stubborn(ctx: Context, run: int) -> str:
    """Catches a cancel, and begins anew."""
    if run == 2:
        await ctx.sleep(60)
        return "slept"
    try:
        await ctx.sleep(10**7)
    except asyncio.CancelledError:
        ctx.continue_as_new(2)
    return "not cancelled"


async def updated(ctx: Context) -> int:
    total = 0

    async def add(number: int) -> int:
        nonlocal total
        value = await ctx.task(did, number)
        total += value
        return total

    ctx.on_update("add", add)
    await ctx.wait_for(lambda: total >= 5)
    return total


async def inline(ctx: Context) -> int:
    total = 0
    for number in range(4):
        total += await ctx.task(lambda n=number: n, inline=True)
    total += await ctx.task(did, 10)
    return total + await ctx.task(lambda: 100, inline=True)


def say(word: str) -> None:
    """An inline task that writes to a stream."""
    current_task().stream("words").write(word)


async def streamed(ctx: Context) -> int:
    """Writes to a stream with each turn, also with the last one."""
    words = ctx.stream("words")
    words.write("begun")
    words.write(await ctx.wait_for_signal("item"))
    await ctx.task(say, "inline", inline=True)
    words.write("between")
    await ctx.task(did, 1)
    words.write("end")
    return 2


SAID = ["begun", 1, "inline", "between", "end"]
"""What `streamed` has written."""


WORKFLOWS = (
    *(
        sequence,
        fan_out,
        retried,
        timers,
        signals,
        small,
        broken,
        parent,
        told,
        teller,
        generations,
    ),
    *(answering, asking),
    *(hasty, cancelled, stubborn, updated, inline, streamed),
)
REGISTRY = registry_of(*WORKFLOWS)


@dataclass(frozen=True, slots=True)
class Scenario:
    """An execution ``e``, what is done to it from outside once it rests, and what it ends with."""

    workflow: str
    result: Any
    args: tuple[Any, ...] = ()
    pokes: tuple[Callable[[World], None], ...] = ()
    status: str = "completed"
    tasks: int = 0

    def start(self, world: World) -> None:
        """Start it, and have everything done to it that has to be done to it."""
        world.client.start_execution(self.workflow, *self.args, id="e")
        for poke in self.pokes:
            world.settle()
            poke(world)

    def check(self, world: World) -> None:
        """That it has ended as it must."""
        head = world.client._parts.store.head("e")
        assert head is not None
        assert head.status == self.status, head.blocked_reason
        if self.status == "completed":
            assert world.client.get_execution("e").result(timeout=0) == self.result
        if self.workflow == "streamed":
            page = world.client._parts.streams.read("e", "words", 0, 100)
            assert page.over
            chunks = world.client.get_execution("e").stream("words").read()
            assert [chunk.value for chunk in chunks] == SAID
            assert [chunk.offset for chunk in chunks] == list(range(1, len(SAID) + 1))


def signal(*values: Any) -> Callable[[World], None]:
    def send(world: World) -> None:
        for value in values:
            world.client.get_execution("e").signal("item", value)

    return send


def cancel(world: World) -> None:
    world.client.get_execution("e").cancel("why not")


def update(number: int, update_id: str) -> Callable[[World], None]:
    def send(world: World) -> None:
        arguments: Payload = world.client._parts.codec.encode_arguments((number,), {})
        request = Update("e", update_id, "add", arguments, world.clock.now())
        answer = world.client._transport.ask(request)
        assert answer.refusal is None

    return send


SCENARIOS = {
    "sequence": Scenario("sequence", [0, "", None, [1]], tasks=4),
    "fan_out": Scenario("fan_out", list(range(6)), tasks=6),
    "retried": Scenario("retried", "second", tasks=1),
    "timers": Scenario("timers", [True, True], tasks=1),
    "signals": Scenario(
        "signals", [1, 2, 3], pokes=(signal(1, 2), signal(3), signal("end")), tasks=3
    ),
    "parent": Scenario("parent", [4, 9, "no such luck"]),
    "teller": Scenario("teller", [1, 2], tasks=1),
    "asking": Scenario("asking", [4, [4], None, [4], [4], "nobody"]),
    "generations": Scenario(
        "generations", [1, 2, 3, "end"], ([],), (signal(1, 2), signal(3, "end")), tasks=4
    ),
    "hasty": Scenario(
        "hasty", [1, 2, 3, 4, "end"], ([],), (signal(1), signal(2, 3), signal(4), signal("end"))
    ),
    "cancelled": Scenario("cancelled", None, pokes=(cancel,), status="cancelled", tasks=1),
    "stubborn": Scenario("stubborn", "slept", (1,), pokes=(cancel,)),
    "updated": Scenario("updated", 5, pokes=(update(2, "u1"), update(3, "u2")), tasks=2),
    "inline": Scenario("inline", 116, tasks=1),
    "streamed": Scenario("streamed", 2, pokes=(signal(1),), tasks=1),
}
