"""Law 8: eviction runs no user code that can reach the store."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
import sys
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mini_workflow.context import Context
from mini_workflow.loop.ordered import WorkflowFuture
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import work
from mini_workflow.workflow import Registry, Workflow, current_workflow
from tests.laws import corpus
from tests.laws.corpus import double
from tests.laws.driver import Driver, chosen, run
from tests.unit.engine.harness import ID, check, finish, in_memory, stepping


@pytest.fixture(autouse=True)
def quiet_collector(caplog: Any) -> Any:
    """No test of this module may leave something behind for the garbage collector to report. What others
    have imported and left in memory is not gone through each time.
    """
    gc.freeze()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def evicted(workflow: Any) -> Driver:
    """A run that was dropped where it first waits; whatever it tried left no trace."""
    driver = Driver(workflow)
    recorded, live = list(driver.events), driver.run
    assert live is not None
    driver.evict()
    assert live.recorder.take() == []
    assert live.state.length == len(recorded)
    gc.collect()
    return driver


def test_law_08_finally_blocks_cannot_start_anything() -> None:
    """Law 8: every call that would record something ends the block at once."""
    reached: list[str] = []

    def attempts(ctx: Context) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        return {
            "task": lambda: ctx.task(double, 1),
            "inline": lambda: ctx.task(double, 1, inline=True),
            "map": lambda: ctx.map(double, [1, 2]),
            "sleep": lambda: ctx.sleep(1),
            "asyncio.sleep": lambda: asyncio.sleep(1),
            "wait_for": lambda: ctx.wait_for(lambda: False),
            "call_later": lambda: loop.call_later(1, print),
        }

    for name in ("task", "inline", "map", "sleep", "asyncio.sleep", "wait_for", "call_later"):

        async def workflow(ctx: Context, name: str = name) -> None:
            try:
                await ctx.task(double, 0)
            finally:
                reached.append(f"{name} before")
                answer = attempts(ctx)[name]()
                if asyncio.isfuture(answer) or asyncio.iscoroutine(answer):
                    await answer
                reached.append(f"{name} after")

        evicted(workflow)
        assert reached == [f"{name} before"]
        reached.clear()


@pytest.mark.parametrize("where", ["in a workflow", "outside"])
@pytest.mark.parametrize("waits_in", ["coroutine", "generator", "task"])
def test_law_08_a_run_that_nobody_has_closed_ends_wherever_it_is_collected(
    waits_in: str, where: str
) -> None:
    """Law 8: what its code does to its own objects then is not taken for the work of others."""
    ended: list[str] = []

    async def wait(queue: asyncio.Queue[None]) -> None:
        try:
            await queue.get()
        finally:
            ended.append(waits_in)

    async def generated(queue: asyncio.Queue[None]) -> AsyncIterator[None]:
        await wait(queue)
        yield

    async def workflow(ctx: Context) -> None:
        queue: asyncio.Queue[None] = asyncio.Queue()
        ctx.on_signal("other", lambda _: None)
        if waits_in == "generator":
            async for _ in generated(queue):
                pass
        elif waits_in == "task":
            await asyncio.create_task(wait(queue))
        else:
            await wait(queue)

    async def collects(ctx: Context) -> str:
        gc.collect()
        return "done"

    driver = Driver(workflow)
    assert (driver.run is not None, ended) == (True, [])
    driver.run = None
    if where == "outside":
        gc.collect()
    assert run(collects).result() == "done"
    assert ended == [waits_in]


def test_law_08_the_guard_holds_while_code_is_dropped() -> None:
    """Law 8: a finally block cannot sleep or open a connection either."""
    errors: list[str] = []

    async def workflow(ctx: Context) -> None:
        try:
            await ctx.task(double, 0)
        finally:
            for forbidden in (lambda: time.sleep(1), socket.socket):
                try:
                    forbidden()
                except Exception as error:
                    errors.append(str(error))

    evicted(workflow)
    assert [error.split(" is not allowed")[0] for error in errors] == [
        "time.sleep()",
        "opening a socket",
    ]


def test_law_08_code_that_is_dropped_is_still_the_workflow_s() -> None:
    """Law 8: a library that does something else outside of workflows must not do it in a finally block."""
    found: list[Context] = []

    async def workflow(ctx: Context) -> None:
        try:
            await ctx.task(double, 0)
        finally:
            assert current_workflow() is ctx
            found.append(ctx)

    driver = evicted(workflow)
    assert len(found) == 1
    driver.finish()


def test_law_08_nothing_is_logged_while_code_is_dropped(caplog: Any) -> None:
    """Law 8: the lines would come again when the run is revived."""
    caplog.set_level(logging.INFO)

    async def workflow(ctx: Context) -> None:
        ctx.logger.info("started")
        try:
            await ctx.task(double, 0)
        finally:
            ctx.logger.info("cleaned up")

    driver = evicted(workflow)
    assert [record.message for record in caplog.records] == ["[execution-1] started"]
    driver.finish()
    assert caplog.text.count("cleaned up") == 1
    assert caplog.text.count("started") == 1


def test_law_08_awaiting_in_nested_finally_blocks() -> None:
    """Law 8: blocks that wait for what never comes are all left, from the inside out."""
    order: list[str] = []

    async def inner(ctx: Context, depth: int) -> None:
        try:
            try:
                await (inner(ctx, depth - 1) if depth else ctx.task(double, 0))
            finally:
                order.append(f"{depth} first")
                await asyncio.sleep(0)
                order.append("not reached")
        finally:
            order.append(f"{depth} second")
            await asyncio.get_running_loop().create_future()
            order.append("not reached")

    async def workflow(ctx: Context) -> None:
        await inner(ctx, 2)

    evicted(workflow)
    assert order == [f"{depth} {which}" for depth in range(3) for which in ("first", "second")]


def test_law_08_a_deep_chain_of_coroutines() -> None:
    """Law 8: the depth of the awaits is no limit."""

    async def nested(ctx: Context, depth: int) -> None:
        try:
            if depth:
                await nested(ctx, depth - 1)
            else:
                await ctx.task(double, 0)
        finally:
            left.append(depth)

    async def workflow(ctx: Context) -> None:
        await nested(ctx, 300)

    left: list[int] = []
    evicted(workflow)
    assert left == list(range(301))


def test_law_08_context_managers_of_asyncio_are_left_in_silence() -> None:
    """Law 8: groups, timeouts, locks and queues in all stages."""

    async def workflow(ctx: Context) -> None:
        lock = asyncio.Lock()

        async def branch(i: int) -> None:
            async with asyncio.timeout(10 + i), lock:
                try:
                    await ctx.task(double, i)
                finally:
                    async with asyncio.timeout(5), asyncio.TaskGroup() as cleanup:
                        cleanup.create_task(ctx.sleep(1))  # type: ignore[arg-type]

        @asynccontextmanager
        async def resource() -> AsyncIterator[None]:
            try:
                yield
            finally:
                await ctx.task(double, 99)

        async with resource(), asyncio.TaskGroup() as group, asyncio.timeout(100):
            for i in range(3):
                group.create_task(branch(i))
            await asyncio.gather(branch(8), asyncio.shield(branch(9)), ctx.sleep(50))

    driver = evicted(workflow)
    assert driver.deliver(*driver.messages).events == ()


def test_law_08_what_a_finally_block_starts_never_runs() -> None:
    """Law 8: not even the first step of a new asyncio.Task."""
    reached: list[str] = []

    async def workflow(ctx: Context) -> None:
        async def branch() -> None:
            reached.append("branch")

        try:
            await ctx.task(double, 0)
        finally:
            for _ in range(100):
                asyncio.create_task(branch())  # noqa: RUF006
            asyncio.get_running_loop().call_soon(reached.append, "callback")
            await asyncio.gather(branch(), branch())

    evicted(workflow)
    assert reached == []


def test_law_08_generators_are_left_where_they_are() -> None:
    """Law 8: neither the eviction nor the garbage collector runs on in them."""
    reached: list[str] = []

    async def workflow(ctx: Context) -> None:
        async def numbers() -> AsyncIterator[int]:
            try:
                while True:
                    yield 1
            finally:
                reached.append("finally of an abandoned generator")

        async for _ in numbers():
            break
        kept = numbers()
        await anext(kept)
        await ctx.task(double, 0)

    evicted(workflow)
    assert reached == []


def test_law_08_tasks_that_never_began_are_dropped_in_silence() -> None:
    """Law 8: their coroutines were never awaited, which is nobody's mistake."""

    async def workflow(ctx: Context) -> None:
        async def branch() -> None:
            await ctx.sleep(1)

        raise_later = [asyncio.create_task(branch()) for _ in range(3)]
        ctx.wait_for  # noqa: B018
        time_bomb()
        await asyncio.wait(raise_later)

    def time_bomb() -> None:
        time.sleep(1)

    driver = Driver.__new__(Driver)
    with pytest.raises(Exception, match=r"time\.sleep"):
        driver.__init__(workflow)  # type: ignore[misc]
    driver.evict()


def test_law_08_futures_with_unseen_failures_are_dropped_in_silence() -> None:
    """Law 8: the report comes at the end of the workflow, not at an eviction."""

    async def workflow(ctx: Context) -> None:
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(ValueError("unseen"))

        async def branch() -> None:
            raise ValueError("unseen")

        tasks = [asyncio.create_task(branch())]
        future = ctx.task(corpus.fail, "unseen")
        await ctx.task(double, 1)
        await ctx.task(double, 1)
        await asyncio.wait([failed, *tasks, future])

    driver = Driver(workflow)
    driver.deliver(driver.perform(driver.dispatched[0]))
    driver.deliver(driver.perform(driver.dispatched[0]))
    driver.evict()


def test_law_08_evicting_one_leaves_the_others() -> None:
    """Law 8: and the running loop of whoever evicts."""

    async def main() -> None:
        one, other = Driver(corpus.SHAPES["locking"]), Driver(corpus.SHAPES["locking"])
        outer = asyncio.get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        one.evict()
        assert asyncio.get_running_loop() is outer
        assert sys.get_asyncgen_hooks() == hooks
        assert other.finish().closed

    asyncio.run(main())


def test_law_08_eviction_at_every_moment_of_every_shape() -> None:
    """Law 8: whatever a workflow is doing, dropping it there is silent and changes nothing."""
    for name, definition in corpus.SHAPES.items():
        driver = Driver(definition, choices=chosen(4))
        while not driver.closed or driver.dispatched:
            driver.evict()
            driver.alive()
            driver.evict()
            driver.step()
        assert driver.closed, name


def test_law_08_a_closed_run_can_be_dropped_twice() -> None:
    """Law 8: dropping is harmless at any time."""
    driver = Driver(corpus.SHAPES["sequence"])
    live = driver.run
    assert live is not None
    live.close()
    live.close()
    driver.run = None
    finished = run(corpus.SHAPES["sequence"]).run
    assert finished is not None
    finished.close()


def test_law_08_a_finished_run_holds_nothing() -> None:
    """Law 8: no cycle keeps it until the garbage collector comes by."""
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(o, WorkflowFuture) for o in gc.get_objects())
        for name in ("gathering", "task_group", "queues", "wait_for_expires", "mapping"):
            run(corpus.SHAPES[name]).evict()
        after = sum(isinstance(o, WorkflowFuture) for o in gc.get_objects())
    finally:
        gc.enable()
    assert after - before < 40


# Law 8: eviction runs no user `finally` that can reach the store; and nobody can tell it


def history(name: str, *, cache_size: int, evict: random.Random | None = None) -> list[str]:
    shape = SHAPES[name]
    with Ledger() as ledger, stepping(in_memory, shape, cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        if evict is None:
            finish(stepper, shape)
        else:
            while stepper.step():
                if evict.random() < 0.5:
                    stepper.engine.evict()
        check(stepper, shape, ledger)
        return stepper.lines(ID)


@pytest.mark.parametrize("name", SHAPES)
def test_law_08_history_is_the_same_with_nothing_cached(name: str) -> None:
    assert history(name, cache_size=0) == history(name, cache_size=100)


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"wide"}))
def test_law_08_history_is_the_same_with_random_evictions(name: str) -> None:
    expected = history(name, cache_size=100)
    for seed in range(3):
        assert history(name, cache_size=100, evict=random.Random(seed)) == expected


def test_law_08_batch_larger_than_the_cache() -> None:
    """Executions of one batch evict each other, before and after their turns."""
    names = [f"x-{i}" for i in range(20)]
    with stepping(in_memory, cache_size=3) as stepper:
        stepper.open()
        for name in names:
            stepper.start("fan_out", execution_id=name)
        stepper.settle()
        chance = random.Random(1)
        while ready := stepper.runner.ready():
            for request in chance.sample(ready, min(25, len(ready))):
                stepper.runner.run(request)
            stepper.settle()
        for name in names:
            assert stepper.outcome(name) == [0, 1, 4, 9, 16]
            assert stepper.faults(name) == []


def test_law_08_eviction_runs_no_finally_that_reaches_the_store() -> None:
    seen: list[str] = []

    async def stubborn(ctx: Context) -> int:
        try:
            return await ctx.task(work, 1, name="slow")
        finally:
            seen.append("finally")
            try:
                await ctx.task(work, 2, name="cleanup")
            finally:
                ctx.task(work, 3, name="more")
                await asyncio.sleep(1)

    registry = Registry()
    registry.add(Workflow("stubborn", stubborn))
    with Ledger() as ledger, stepping(in_memory, registry=registry) as stepper:
        stepper.open()
        stepper.start("stubborn", execution_id=ID)
        stepper.settle()
        before, calls = stepper.lines(ID), len(stepper.crashes.calls)
        stepper.engine.evict()
        assert seen == ["finally"]
        assert stepper.crashes.calls[calls:] == []
        assert stepper.lines(ID) == before
        assert [request.name for request in stepper.runner.held] == ["slow"]
        stepper.run()
        assert stepper.outcome(ID) == 1
        assert ledger.names(ID) == {"slow": 1, "cleanup": 1, "more": 1}


def test_law_08_attempts_in_flight_survive_eviction() -> None:
    """What this engine runs is not taken for lost when its execution is loaded again."""
    with Ledger() as ledger, stepping(in_memory, cache_size=0) as stepper:
        stepper.open()
        stepper.start("fan_out", execution_id=ID)
        stepper.run()
        assert sum(ledger.names(ID).values()) == 5
        assert {effect.attempt for effect in ledger.of(ID)} == {1}
