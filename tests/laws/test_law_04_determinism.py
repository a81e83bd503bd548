"""Law 4: asyncio's own tools give the same history, whatever memory and hashing look like."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mini_workflow import Context, workflow
from mini_workflow.core import commands, events
from mini_workflow.errors import NotAllowedInWorkflow
from mini_workflow.loop.ordered_set import OrderedSet
from mini_workflow.testing import WorkflowEnvironment
from tests.laws import corpus
from tests.laws.driver import Driver, check_replays, chosen, replayed, run
from tests.paths import ROOT

PRINT_ALL = """
import hashlib
from tests.laws.corpus import SHAPES
from tests.laws.driver import chosen, run
for name in sorted(SHAPES):
    for seed in range(3):
        # Tracebacks name addresses of nothing, but their text is not part of the law.
        lines = [line.split('"traceback"')[0] for line in run(SHAPES[name], choices=chosen(seed)).lines]
        print(name, seed, hashlib.sha256("\\n".join(lines).encode()).hexdigest())
"""


def test_law_04_the_same_in_other_processes_with_other_hash_seeds() -> None:
    """Law 4: histories do not depend on the process or on PYTHONHASHSEED."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PRINT_ALL],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    ]
    assert outputs[0].count("\n") == 3 * len(corpus.SHAPES)
    assert outputs[1] == outputs[0]
    assert outputs[2] == outputs[0]


@pytest.mark.parametrize("name", corpus.SHAPES)
def test_law_04_the_same_with_other_addresses_and_collections(name: str) -> None:
    """Law 4: where objects lie in memory, and when the garbage collector runs, changes nothing."""
    expected = run(corpus.SHAPES[name], choices=chosen(2))
    noise = random.Random(name)
    for _ in range(3):
        kept = [bytearray(noise.randrange(1, 3000)) for _ in range(noise.randrange(500))]
        del kept[:: noise.randrange(1, 5)]
        driver = Driver(corpus.SHAPES[name])
        for message in expected.messages[1:]:
            kept.append(bytearray(noise.randrange(1, 3000)))
            if noise.random() < 0.1:
                gc.collect(0)
            driver.deliver(message)
        assert driver.lines == expected.lines


def test_law_04_siblings_are_cancelled_in_creation_order() -> None:
    """Law 4: TaskGroup and gather cancel in the order in which the tasks were made."""
    driver = run(corpus.SHAPES["task_group_fails"])
    seen = driver.result()
    cancelled = [line.split()[1] for line in seen if line.startswith("cancelled")]
    assert cancelled == ["inner", *"abcdefghij"]


def test_law_04_sets_of_tasks_keep_the_order_of_creation() -> None:
    """Law 4: what asyncio hands out as a set is in order, also after the usual set operations."""

    async def workflow(ctx: Context) -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(i % 3), name=str(i)) for i in range(40)]
        done, pending = await asyncio.wait(tasks, timeout=1.5)
        again, _ = await asyncio.wait(done | pending)
        some = (again - done) | (done & set(tasks[:5]))
        return [" ".join(t.get_name() for t in group) for group in (done, pending, again, some)]

    driver = run(workflow)
    done, pending, again, some = ([int(n) for n in names.split()] for names in driver.result())
    assert done == [i for i in range(40) if i % 3 < 2]
    assert pending == [i for i in range(40) if i % 3 == 2]
    assert again == done + pending
    assert some == [*pending, 0, 1, 3, 4]
    check_replays(driver)


def test_law_04_a_set_of_the_users_own_is_deterministic() -> None:
    """Law 4: a literal set of futures has the order that the numbers of the futures give it."""

    async def workflow(ctx: Context) -> list[str]:
        names = {ctx.task(corpus.double, i, name=f"task-{i}") for i in range(20)}
        return [future.name for future in names]  # type: ignore[attr-defined]

    orders = []
    for _ in range(3):
        gc.collect()
        _padding = [bytearray(i) for i in range(random.randrange(1000))]
        orders.append(run(workflow).result())
    assert orders[0] == orders[1] == orders[2]


def test_law_04_a_set_of_coroutines_is_refused() -> None:
    """Law 4: coroutines in a set have no order that a replay could repeat."""

    async def workflow(ctx: Context) -> None:
        async def branch() -> None:
            await ctx.sleep(1)

        for future in asyncio.as_completed({branch(), branch()}):
            await future

    with pytest.raises(NotAllowedInWorkflow, match=r"set of coroutines.*give a list"):
        Driver(workflow)


def test_law_04_asyncio_is_unchanged_outside_of_workflows() -> None:
    """Law 4: other loops in the process get built-in sets and futures."""

    async def main() -> tuple[type, type]:
        done, _ = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0))])
        gathering = asyncio.gather(asyncio.sleep(0))
        await gathering
        return type(done), type(gathering)

    Driver(corpus.SHAPES["nothing"])
    of_done, of_gathering = asyncio.run(main())
    assert of_done is set
    assert of_gathering.__name__ == "_GatheringFuture"


@pytest.mark.parametrize("use", ["run", "Runner"])
def test_law_04_another_loop_inside_a_workflow_is_refused(use: str) -> None:
    """Law 4: a workflow has one loop."""

    async def coroutine() -> None: ...

    async def by_run(ctx: Context) -> None:
        inner = coroutine()
        try:
            asyncio.run(inner)
        finally:
            inner.close()

    async def by_runner(ctx: Context) -> None:
        with asyncio.Runner() as runner:
            runner.get_loop()

    if use == "run":
        assert "running event loop" in run(by_run).failure().message
    else:
        with pytest.raises(NotAllowedInWorkflow, match="another event loop"):
            Driver(by_runner)


def test_law_04_tasks_are_never_eager() -> None:
    """Law 4: a task starts in its turn, also when somebody asks for an eager start."""

    async def workflow(ctx: Context) -> list[str]:
        seen: list[str] = []

        async def branch(name: str) -> None:
            seen.append(name)

        loop = asyncio.get_running_loop()
        tasks = [
            asyncio.create_task(branch("a")),
            loop.create_task(branch("b"), eager_start=True),  # type: ignore[call-arg]
        ]
        seen.append("main")
        await asyncio.wait(tasks)
        return seen

    assert run(workflow).result() == ["main", "a", "b"]


def test_law_04_an_eager_task_factory_is_refused() -> None:
    """Law 4: a task factory could change the order."""

    async def workflow(ctx: Context) -> None:
        asyncio.get_running_loop().set_task_factory(None)

    with pytest.raises(NotAllowedInWorkflow, match="task factory"):
        Driver(workflow)


def test_law_04_abandoned_generators_are_closed_in_order_at_the_end() -> None:
    """Law 4: their cleanup runs in the loop, in creation order, and what it starts is recorded;
    the garbage collector has no part in it."""

    async def workflow(ctx: Context) -> list[str]:
        seen: list[str] = []

        async def numbers(name: str) -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await ctx.task(corpus.double, 1, name=f"cleanup of {name}")

        for name in "cab":
            async for _ in numbers(name):
                break
            gc.collect()
        await ctx.task(corpus.double, 1, name="last")
        return seen

    driver = run(workflow)
    names = [command.name for command in driver.commands]  # type: ignore[union-attr]
    assert names == ["last", "cleanup of c", "cleanup of a", "cleanup of b"]
    check_replays(driver)


def test_law_04_a_generator_that_cannot_be_closed_does_not_hang(caplog: Any) -> None:
    """Law 4: it is reported, and the workflow ends."""

    async def workflow(ctx: Context) -> str:
        async def stubborn() -> AsyncIterator[int]:
            while True:
                try:
                    yield 1
                except GeneratorExit:
                    yield 2

        async for _ in stubborn():
            break
        return "done"

    assert run(workflow).result() == "done"
    assert "generator failed while it was closed" in caplog.text


def test_law_04_context_variables_start_empty() -> None:
    """Law 4: what the caller of the engine has set is not visible: a replay has another caller."""
    token = corpus.variable.set("the caller's")
    try:
        driver = run(corpus.SHAPES["context_variables"])
    finally:
        corpus.variable.reset(token)
    assert driver.result()[0] == "unset"


def test_law_04_predicates_see_the_context_of_their_waiter() -> None:
    """Law 4: also when they are tried in another task's turn."""

    async def workflow(ctx: Context) -> list[str]:
        seen: list[str] = []
        corpus.variable.set("mine")

        def predicate() -> bool:
            seen.append(corpus.variable.get())
            return len(seen) > 2

        await ctx.sleep(1)
        asyncio.create_task(asyncio.sleep(1))  # noqa: RUF006
        asyncio.create_task(asyncio.sleep(2))  # noqa: RUF006
        await ctx.wait_for(predicate)
        return seen

    assert run(workflow).result() == ["mine"] * 3


def test_law_04_ten_executions_side_by_side() -> None:
    """Law 4: interleaved turns of ten executions are those of ten executions on their own."""
    names = sorted(corpus.SHAPES)[:10]
    alone = {name: run(corpus.SHAPES[name], choices=chosen(5)) for name in names}
    together = {name: Driver(corpus.SHAPES[name], execution_id="execution-1") for name in names}
    waiting = {name: alone[name].messages[1:] for name in names}
    noise = random.Random(1)
    while any(waiting.values()):
        name = noise.choice([n for n in names if waiting[n]])
        if noise.random() < 0.2:
            together[noise.choice(names)].evict()
        together[name].deliver(waiting[name].pop(0))
    for name in names:
        assert together[name].lines == alone[name].lines


def test_law_04_turns_inside_a_running_loop() -> None:
    """Law 4: an engine may itself live on an event loop, which is then left as it was."""
    expected = run(corpus.SHAPES["everything_at_once"], choices=chosen(1)).lines

    async def main() -> list[str]:
        closed: list[str] = []

        async def generator() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                closed.append("closed")

        outer, task = asyncio.get_running_loop(), asyncio.current_task()
        driver = run(corpus.SHAPES["everything_at_once"], choices=chosen(1))
        driver.evict()
        assert asyncio.get_running_loop() is outer
        assert asyncio.current_task() is task
        with contextlib.suppress(StopAsyncIteration):
            await anext(generator())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert closed == ["closed"]  # the outer loop's generator hooks are back
        async with asyncio.timeout(10):
            await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(int))
        return driver.lines

    assert asyncio.run(main()) == expected


def test_law_04_ordered_set_behave_as_sets() -> None:
    """Law 4: only the order differs from the built-in."""
    noise = random.Random(3)
    for _ in range(300):
        items = [noise.randrange(12) for _ in range(noise.randrange(8))]
        others = [noise.randrange(12) for _ in range(noise.randrange(8))]
        for name in (
            "__or__", "__and__", "__sub__", "__xor__", "__ror__", "__rand__", "__rsub__",
            "__rxor__", "__ior__", "__iand__", "__isub__", "__ixor__", "union", "difference",
            "intersection", "symmetric_difference", "update", "difference_update",
            "intersection_update", "symmetric_difference_update",
        ):  # fmt: skip
            ours, builtin = OrderedSet(items), set(items)
            results = getattr(ours, name)(set(others)), getattr(builtin, name)(set(others))
            assert results[0] == results[1], name
            assert ours == builtin
            assert sorted(ours) == sorted(builtin)
            if isinstance(results[0], set):
                assert sorted(results[0]) == sorted(results[1])
    assert list(OrderedSet([3, 1, 2]) | {1}) == [3, 1, 2]
    assert list(OrderedSet([3, 1, 2]) - {1}) == [3, 2]
    ordered = OrderedSet([3, 1, 2])
    assert (ordered.pop(), list(ordered)) == (3, [1, 2])
    ordered.discard(9)
    with pytest.raises(KeyError):
        ordered.remove(9)
    with pytest.raises(TypeError):
        ordered |= [1]  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ordered | [1]  # type: ignore[operator]
    ordered.clear()
    assert ordered == set()
    with pytest.raises(KeyError):
        ordered.pop()


def test_law_04_replay_of_a_long_wait_is_the_same() -> None:
    """Law 4: handles, current_task and all_tasks are those of the workflow alone."""

    async def workflow(ctx: Context) -> list[Any]:
        def names() -> list[str]:
            return sorted(task.get_name() for task in asyncio.all_tasks())

        seen: list[Any] = [asyncio.current_task().get_name(), names()]  # type: ignore[union-attr]
        tasks = [asyncio.create_task(ctx.task(corpus.double, i), name=f"t{i}") for i in range(3)]  # type: ignore[arg-type]
        seen.append(names())
        await asyncio.wait(tasks)
        return [*seen, names()]

    driver = run(workflow)
    assert driver.result() == [
        "workflow", ["workflow"], ["t0", "t1", "t2", "workflow"], ["workflow"]
    ]  # fmt: skip
    decision, revived = replayed(driver, 4)
    revived.close()
    assert decision.fault is None


def test_law_04_an_abandoned_generator_is_closed_by_its_references() -> None:
    """Law 4: in the next pass of the loop, in order; one that only the garbage collector finds is kept
    until the end, whenever that runs."""

    async def workflow(ctx: Context) -> list[str]:
        async def numbers(name: str) -> AsyncIterator[int]:
            cycle: list[Any] = [name]
            cycle.append(cycle)
            try:
                yield 1
            finally:
                await ctx.task(corpus.double, 1, name=f"cleanup of {name}")

        for name in "cab":
            async for _ in numbers(name):
                break
        circle: list[Any] = [numbers("circle")]
        await anext(circle[0])
        circle.append(circle)
        del circle
        gc.collect()
        await ctx.sleep(1)
        await ctx.task(corpus.double, 1, name="last")
        return []

    driver = run(workflow, behaviour=events.BEHAVIOUR)
    names = [c.name for c in driver.commands if isinstance(c, commands.RunTask)]
    assert names == ["cleanup of c", "cleanup of a", "cleanup of b", "last", "cleanup of circle"]
    check_replays(driver)


# Law 4: a scope that cancels again in every pass of the loop, as those of anyio do, spins no turn


cleaned: list[str] = []


class MoveOnAfter:
    """As anyio has it, in short: until the task has left it is cancelled in every pass."""

    def __init__(self, delay: float) -> None:
        self._delay, self._active = delay, True

    def deliver(self) -> None:
        if self._active:
            waiter = getattr(self._task, "_fut_waiter", None)
            if waiter is not None and not waiter.done():
                self._task.cancel()
            asyncio.get_running_loop().call_soon(self.deliver)

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._delay, self.deliver)

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> bool:
        self._active = False
        self._timer.cancel()
        return kind is not None and issubclass(kind, asyncio.CancelledError)


async def child(ctx: Context) -> None:
    try:
        await ctx.sleep(1000)
    finally:
        for number in range(2):
            await ctx.task(lambda: cleaned.append("cleaned"), name=f"clean up {number}")
            await ctx.sleep(5)


@workflow
async def moves_on(ctx: Context) -> str:
    with MoveOnAfter(1):
        async with asyncio.TaskGroup() as group:
            group.create_task(child(ctx))
    return "moved on"


@pytest.mark.parametrize("restart", [False, True])
def test_law_04_cleanup_under_repeated_cancellation(restart: bool) -> None:
    cleaned.clear()
    with WorkflowEnvironment() as env:
        execution = env.start_execution(moves_on, id="m")
        if not restart:
            assert execution.result(timeout=60) == "moved on"
        else:
            env.advance(2)
    with WorkflowEnvironment(env.state) as env:
        assert env.get_execution("m").result(timeout=60) == "moved on"
    assert len(cleaned) == 2


@workflow
async def many_passes(ctx: Context) -> int:
    passes = 0

    def tick() -> None:
        nonlocal passes
        passes += 1
        if passes < 1000:
            asyncio.get_running_loop().call_soon(tick)

    tick()
    for _ in range(1000):
        await asyncio.sleep(0)
    return passes


def test_law_04_what_does_not_cancel_may_pass_as_often_as_it_likes() -> None:
    with WorkflowEnvironment() as env:
        assert env.start_execution(many_passes).result(timeout=60) == 1000
