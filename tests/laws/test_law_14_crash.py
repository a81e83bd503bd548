"""Law 14: a crash before, between or after any two port calls loses no execution and records no
result twice.

Every shape is run once for every n, crashing before the n-th call, and again after it, until a
run gets by without reaching it. Then the next process takes over and has to come to the same end.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.codecs import EncryptionCodec, StandardCodec
from mini_workflow.codecs.standard import with_codecs
from mini_workflow.context import Context
from mini_workflow.engine.engine import RETRY_AFTER
from mini_workflow.errors import ChildFailed, StoreError, StoreUnavailable
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.crash import SimulatedCrash
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import Shape, broken, step
from mini_workflow.testing.simulation.stepping import Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.sweeps import EVERY, FIRST, OTHERS_EVERY, OTHERS_FIRST
from tests.unit.engine.harness import (
    ID,
    Files,
    MakeState,
    check,
    in_memory,
    is_answered,
    run_through,
    stepping,
)

NAMES = sorted(SHAPES)


def crash_at(
    make: MakeState, shape: Shape, crashes: list[tuple[int, bool]], cache_size: int = 100
) -> int:
    with Ledger() as ledger, stepping(make, shape, cache_size=cache_size) as stepper:
        met = run_through(stepper, shape, crashes)
        check(stepper, shape, ledger, lost=met * (10 if not shape.wide else 100))
        return met


def stride(shape: Shape, usual: int) -> int:
    return 17 if shape.wide else usual


@pytest.mark.parametrize(
    "name",
    ["updates_with_tasks", "continued_with_signals", "promises", "heartbeats", "asks_others"],
)
def test_law_14_crash_with_encrypted_payloads(name: str) -> None:
    """Every start encrypts and decrypts anew, and comes to the same end."""
    shape, n, met = SHAPES[name], 1, 1
    codec = with_codecs(StandardCodec(), EncryptionCodec({"k": b"k" * 32}))
    while met:
        with Ledger() as ledger, stepping(in_memory, shape, cache_size=0, codec=codec) as stepper:
            met = run_through(stepper, shape, [(n, n % 2 == 0)])
            check(stepper, shape, ledger, lost=met * 10)
        n += 7


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", NAMES)
def test_law_14_crash_at_every_call_in_memory(name: str, after: bool) -> None:
    shape, n = SHAPES[name], 1 + FIRST
    while crash_at(in_memory, shape, [(n, after)]):
        n += EVERY if n < 40 else stride(shape, EVERY)
    assert n > 5


@pytest.mark.parametrize("name", NAMES)
def test_law_14_crash_at_every_call_with_nothing_cached(name: str) -> None:
    shape, n = SHAPES[name], 1 + OTHERS_FIRST
    while crash_at(in_memory, shape, [(n, n % 2 == 0)], cache_size=0):
        n += stride(shape, OTHERS_EVERY)


@pytest.mark.parametrize("name", NAMES)
def test_law_14_crash_in_a_file(name: str, tmp_path: Path) -> None:
    """Each call before and after for most shapes; every third one where there are many, and for
    those that are spoken to, whose crashes in memory leave nothing out."""
    shape, n = SHAPES[name], 1 + OTHERS_FIRST
    make = Files(tmp_path)
    while crash_at(make, shape, [(n, False)]) and crash_at(make, shape, [(n, True)]):
        n += OTHERS_EVERY if n < 12 and not shape.says else stride(shape, 3)


@pytest.mark.parametrize("name", NAMES)
def test_law_14_crash_again_during_the_recovery(name: str) -> None:
    """The second crash comes at every call of the recovery from one of some first crashes."""
    shape = SHAPES[name]
    chance = random.Random(name)
    firsts = sorted(chance.sample(range(3, 26), 3))
    for first in firsts:
        n = 1 + OTHERS_FIRST
        # Not the rest of a division by three, which is the same for all of a third.
        while n < 30 and crash_at(in_memory, shape, [(first, n % 2 == 0), (n, n % 4 < 2)]) == 2:
            n += stride(shape, OTHERS_EVERY)


@pytest.mark.parametrize("name", NAMES)
def test_law_14_crash_again_in_a_file(name: str, tmp_path: Path) -> None:
    shape, make = SHAPES[name], Files(tmp_path)
    chance = random.Random(name)
    plans = [
        [(chance.randrange(1, 25), chance.random() < 0.5) for _ in range(3)]
        for _ in range(3 if shape.wide else 6)
    ]
    for plan in plans[OTHERS_FIRST::OTHERS_EVERY]:
        crash_at(make, shape, plan)


# Law 14, for executions that speak with each other and that continue as new: a crash before or after


async def leaf(ctx: Context, n: int) -> int:
    return 2 * await step(ctx, "leaf", n)


async def branch(ctx: Context, n: int) -> int:
    return sum(await asyncio.gather(*(ctx.child("leaf", n + i) for i in range(2))))


async def bad_leaf(ctx: Context) -> None:
    await ctx.task(broken, "no")


async def listener(ctx: Context, count: int) -> list[Any]:
    return [await ctx.wait_for_signal("go") for _ in range(count)]


async def talker(ctx: Context, other: str) -> None:
    for i in range(3):
        await step(ctx, "talk", i)
        ctx.execution(other).signal("said", i)


async def cleaner(ctx: Context) -> None:
    try:
        await ctx.sleep(3600)
    finally:
        await step(ctx, "cleaned")


async def counter(ctx: Context, n: int) -> int:
    await step(ctx, "count", n)
    if n < 3:
        ctx.continue_as_new(n + 1)
    return n


# Each is run as the execution `ID`, and returns what `EXPECTED` says.


async def one_child(ctx: Context) -> int:
    return await ctx.child("leaf", 5)


async def tree(ctx: Context) -> list[int]:
    return list(await asyncio.gather(*(ctx.child("branch", 10 * i) for i in range(2))))


async def failing_child(ctx: Context) -> str:
    try:
        await ctx.child("bad_leaf")
    except Exception as error:
        return f"{type(error).__name__}: {error.__cause__}"
    return "no failure"


async def id_taken(ctx: Context) -> list[Any]:
    seen: list[Any] = [await ctx.child("leaf", 1, id="taken")]
    try:
        await ctx.child("leaf", 2, id="taken")
    except ChildFailed as error:
        seen.append(type(error.__cause__).__name__)
    return seen


async def told(ctx: Context) -> list[int]:
    child = ctx.child("listener", 3)
    for i in range(3):
        child.signal("go", i)
        await step(ctx, "between")
    return await child


async def hears(ctx: Context) -> list[int]:
    child = ctx.child("talker", ctx.info.execution_id)
    heard = [await ctx.wait_for_signal("said") for _ in range(3)]
    await child
    return heard


async def leaves_behind(ctx: Context) -> str:
    ctx.child("cleaner", id="left-terminate", on_parent_close="terminate")
    ctx.child("cleaner", id="left-cancel", on_parent_close="cancel")
    ctx.child("cleaner", id="left-abandon", on_parent_close="abandon")
    await step(ctx, "step")
    return "gone"


async def gives_child_up(ctx: Context) -> str:
    child = ctx.child("cleaner", id="given-up")
    await step(ctx, "step")
    child.cancel()
    try:
        await child
    except asyncio.CancelledError:
        return await step(ctx, "after", "given up")
    return "no"


async def continued(ctx: Context, n: int = 0, seen: tuple[int, ...] = ()) -> list[int]:
    seen = (*seen, await step(ctx, "generation", n))
    if n < 3:
        ctx.continue_as_new(n + 1, seen)
    return list(seen)


async def child_continues(ctx: Context) -> int:
    return await ctx.child("counter", 0)


async def carries_signals(ctx: Context, n: int = 0) -> list[int]:
    """Signals that nobody has received move on to the next run."""
    if n == 0:
        ctx.child("talker", ctx.info.execution_id, on_parent_close="abandon")
        await ctx.sleep(60)
        ctx.continue_as_new(1)
    return [await ctx.wait_for_signal("said") for _ in range(3)]


EXPECTED: dict[Any, Any] = {
    one_child: (10, {"leaf": 1}),
    tree: ([2, 42], {"leaf": 4}),
    failing_child: ("ChildFailed: no", {"broken": 1}),
    id_taken: ([2, "ExecutionAlreadyExists"], {"leaf": 1}),
    told: ([0, 1, 2], {"between": 3}),
    hears: ([0, 1, 2], {"talk": 3}),
    leaves_behind: ("gone", {"step": 1, "cleaned": 2}),
    gives_child_up: ("given up", {"step": 1, "cleaned": 1, "after": 1}),
    continued: ([0, 1, 2, 3], {"generation": 4}),
    child_continues: (3, {"count": 4}),
    carries_signals: ([0, 1, 2], {"talk": 3}),
}
HANDLERS = {handler.__name__: handler for handler in EXPECTED}
FAMILY = sorted(HANDLERS)

REGISTRY = Registry()
for _handler in (*EXPECTED, leaf, branch, bad_leaf, listener, talker, cleaner, counter):
    REGISTRY.add(Workflow(_handler.__name__, _handler))


def all_ids(stepper: Stepper) -> list[str]:
    from mini_workflow.ports import Query

    return [head.execution_id for head in stepper.backend.store.list(Query(limit=1000)).heads]


def check_family(stepper: Stepper, name: str, ledger: Ledger, *, lost: bool) -> None:
    result, done = EXPECTED[HANDLERS[name]]
    assert stepper.outcome(ID) == result
    effects: dict[str, set[str]] = {}
    seen: set[tuple[str, int]] = set()
    for effect in ledger.effects:
        effects.setdefault(effect.name, set()).add(effect.key)
        assert (effect.key, effect.attempt) not in seen, "the same attempt twice"
        seen.add((effect.key, effect.attempt))
    # A task that was begun for nothing, or twice, would have a key of its own.
    assert {name: len(keys) for name, keys in effects.items()} == done
    if not lost:
        assert len(seen) == sum(done.values())
    for execution_id in all_ids(stepper):
        assert stepper.faults(execution_id) == []
        head = stepper.head(execution_id)
        assert head is not None
        assert head.closed_at is not None, execution_id
        assert not head.busy
        assert head.wake_at is None
    assert stepper.backend.mailbox.entries(0, 99) == []
    assert stepper.engine.in_flight == 0
    if name == "leaves_behind":
        assert stepper.outcome("left-terminate") == "ExecutionTerminated"
        assert stepper.outcome("left-cancel") == "ExecutionCancelled"
        assert stepper.head("left-abandon").status == "completed"  # type: ignore[union-attr]
    if name == "gives_child_up":
        assert stepper.outcome("given-up") == "ExecutionCancelled"


def go_through(
    make: MakeState, name: str, crashes: list[tuple[int, bool]], cache_size: int = 100
) -> int:
    met, answered = 0, False
    plan = iter(crashes)
    with (
        Ledger() as ledger,
        stepping(make, registry=REGISTRY, cache_size=cache_size) as stepper,
    ):
        while True:
            n, after = next(plan, (None, False))
            stepper.crashes.crash_at(n, after=after)
            start = None
            try:
                stepper.open()
                if not answered:
                    start = stepper.start(name, execution_id=ID)
                stepper.run()
                break
            except SimulatedCrash:
                met += 1
                answered = answered or (start is not None and is_answered(start.reply))
                stepper.crash()
        check_family(stepper, name, ledger, lost=bool(met))
        return met


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("name", FAMILY)
def test_family_in_peace(name: str, cache_size: int) -> None:
    assert go_through(in_memory, name, [], cache_size) == 0


@pytest.mark.parametrize("name", FAMILY)
def test_law_14_crash_at_every_call_of_a_family(name: str) -> None:
    n = 1 + FIRST
    while go_through(in_memory, name, [(n, False)]) and go_through(in_memory, name, [(n, True)]):
        n += EVERY
    assert n > 8


@pytest.mark.parametrize("name", FAMILY)
def test_law_14_crash_at_every_call_of_a_family_with_nothing_cached(name: str) -> None:
    n = 1 + OTHERS_FIRST
    while go_through(in_memory, name, [(n, n % 2 == 0)], cache_size=0):
        n += OTHERS_EVERY


@pytest.mark.parametrize("name", FAMILY)
def test_law_14_crash_of_a_family_twice(name: str) -> None:
    n = 1 + OTHERS_FIRST
    while go_through(in_memory, name, [(8 + n % 7, n % 2 == 0), (n, n % 4 < 2)]) == 2:
        n += OTHERS_EVERY


@pytest.mark.parametrize("name", FAMILY)
def test_law_14_crash_of_a_family_in_a_file(name: str, tmp_path: Path) -> None:
    make, n = Files(tmp_path), 1 + OTHERS_FIRST
    while go_through(make, name, [(n, n % 2 == 0)]):
        n += OTHERS_EVERY


def fail_family_at(name: str, n: int, cache_size: int) -> bool:
    with (
        Ledger() as ledger,
        stepping(in_memory, registry=REGISTRY, cache_size=cache_size) as stepper,
    ):
        stepper.crashes.fail_at(n, StoreUnavailable(f"call {n}"))
        for _ in range(2):
            try:
                stepper.open()
                break
            except StoreError:
                stepper.crash()
        for _ in range(2):
            start = stepper.start(name, execution_id=ID)
            stepper.process()
            try:
                assert is_answered(start.reply)
                break
            except StoreError:
                stepper.clock.advance(RETRY_AFTER)
        stepper.run()
        check_family(stepper, name, ledger, lost=False)
        return stepper.crashes.failed


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("name", FAMILY)
def test_law_14_failure_of_every_call_of_a_family(name: str, cache_size: int) -> None:
    n = 1 + OTHERS_FIRST
    while fail_family_at(name, n, cache_size):
        n += OTHERS_EVERY
