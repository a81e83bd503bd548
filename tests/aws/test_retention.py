"""What is deleted by itself on AWS: executions that have closed, and segments of runs that are over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from mini_workflow import AWSRuntime, Context, ExecutionNotFound, UsageError
from mini_workflow.errors import SettingMissing
from mini_workflow.runtimes.aws import retention
from mini_workflow.settings import EXECUTION_RETENTION, TABLE_NAME
from mini_workflow.stores.aws import limits
from mini_workflow.stores.s3 import object_store
from tests.aws.counting import STORES
from tests.aws.world import Fault, World, registry_of
from tests.sweeps import OTHERS_EVERY, calls_of

DAY = 86_400_000
KEEP = {EXECUTION_RETENTION: str(30 * 86_400)}
MANY = 25


async def says(ctx: Context, text: str) -> int:
    return await ctx.task(len, text)


async def waits(ctx: Context) -> Any:
    return await ctx.wait_for_signal("go")


async def rounds(ctx: Context, left: int) -> str:
    await ctx.task(len, "x" * 500)
    await ctx.wait_for_signal("go")
    if left:
        ctx.continue_as_new(left - 1)
    return "done"


@pytest.fixture(params=STORES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    settings = {**KEEP, **STORES[request.param]}
    with World(registry_of(says, waits, rounds), settings=settings) as world:
        yield world


def names(world: World) -> set[str]:
    return {one.id for one in world.client.list_executions()}


def anything(world: World, name: str = "") -> None:
    """Something happens, beside which there may be something to delete."""
    world.client.start_execution("waits", id=name or f"at-{world.clock.now()}")
    world.settle()


def keys(world: World, part: str) -> list[str]:
    return [key for key in world.services.objects if part in key]


def rows(world: World, name: str) -> list[dict[str, Any]]:
    """The items of the table that belong to an execution, in its history and in lists."""
    items = world.services.tables.items.items()
    return [item for place, item in items if any(part.endswith(name) for part in place)]


def looks(world: World, since: int) -> int:
    """How often it has been asked for what has closed: each look claims it first and says then how far it
    has come.
    """
    return (
        world.calls[since:].count("s3.PutObject") // 2
        if TABLE_NAME in world.environment
        else ("s3.ListObjectsV2" in world.calls[since:])
    )


def test_what_has_closed_is_deleted_when_its_time_has_come(world: World) -> None:
    world.client.start_execution("waits", id="runs")
    world.client.start_execution("says", "x" * 300_000, id="first")
    world.settle()
    world.clock.advance(20 * DAY)
    world.client.start_execution("waits", id="second")
    world.settle()
    world.client.get_execution("second").signal("go")
    world.settle()
    world.clock.advance(10 * DAY - 1)
    anything(world, "a")
    assert names(world) == {"runs", "first", "second", "a"}
    world.clock.advance(DAY)
    anything(world, "b")
    assert names(world) == {"runs", "second", "a", "b"}
    with pytest.raises(ExecutionNotFound):
        world.client.get_execution("first")
    # All that was written for it is gone; what marks its place expires by a rule of the bucket, or at
    # a time that the table knows.
    if TABLE_NAME in world.environment:
        assert keys(world, "first") == []
        assert rows(world, "first")
        assert all("expires" in row for row in rows(world, "first"))
        assert not any("expires" in row for row in rows(world, "second"))
    else:
        assert keys(world, "first") == ["executions/first.json"]
    world.clock.advance(20 * DAY)
    anything(world, "c")
    assert names(world) == {"runs", "a", "b", "c"}
    # The id can be used again, and what was planned for the one before does not reach the new one.
    world.client.start_execution("waits", id="first")
    world.settle()
    world.clock.advance(DAY)
    anything(world, "d")
    assert names(world) == {"runs", "a", "b", "c", "d", "first"}


def test_many_are_deleted_a_few_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "DELETED_AT_ONCE", 4)
    ids = {f"e{n}" for n in range(MANY)}
    for name in sorted(ids):
        world.client.start_execution("says", "a", id=name)
    world.settle()
    world.clock.advance(31 * DAY)
    world.client.start_execution("waits", id="a")
    world.deliver()
    # One step beside a batch: what it asks for are messages, which are batches of their own.
    asked = {message.group for message in world.services.queue}
    assert len(asked & ids) <= 4
    for _ in range(MANY):
        world.settle()
        world.clock.advance(retention.NEXT_STEP)
        anything(world)
    assert not names(world) & ids


def test_only_one_process_looks_when_it_is_time(world: World) -> None:
    anything(world)
    before = len(world.calls)
    for _ in range(5):
        world.orchestrator = world.process()
        anything(world)
    assert looks(world, before) == 0
    world.clock.advance(retention.LONGEST_PAUSE)
    anything(world)
    assert looks(world, before) == 1


def test_without_a_retention_nothing_is_looked_for() -> None:
    with World(registry_of(says, waits)) as world:
        world.client.start_execution("says", "a", id="a")
        world.settle()
        world.clock.advance(1_000 * DAY)
        anything(world)
        assert "a" in names(world)
        assert keys(world, retention.KEY) == []
        assert "s3.ListObjectsV2" not in world.calls


@pytest.mark.parametrize("store", STORES)
def test_the_argument_goes_before_the_setting(store: str) -> None:
    settings = {**KEEP, **STORES[store]}
    with World(registry_of(says, waits), settings=settings, retention=timedelta(days=2)) as world:
        world.client.start_execution("says", "a", id="a")
        world.settle()
        world.clock.advance(3 * DAY)
        anything(world)
        assert "a" not in names(world)


@pytest.mark.parametrize("given", ["30 days", "-1", "0", "1.5"])
def test_a_setting_that_cannot_be_read_is_an_error(given: str) -> None:
    with (
        World(registry_of(waits), settings={EXECUTION_RETENTION: given}) as world,
        pytest.raises(SettingMissing, match=f"{EXECUTION_RETENTION} has to hold the seconds"),
    ):
        anything(world)


def test_an_argument_that_cannot_be_meant_is_an_error() -> None:
    with pytest.raises(UsageError, match="retention=0: give more than 0 seconds"):
        AWSRuntime.from_env({}, retention=0)


# Whatever happens on the way


def calls_of_a_sweep(store: str) -> int:
    with swept(None, store) as world:
        return len(world.calls)


class swept(World):  # noqa: N801
    """A world in which two executions are over for long, one has just closed and one runs; a batch
    follows, in which something goes wrong.
    """

    def __init__(self, fault: Fault | None, store: str) -> None:
        super().__init__(registry_of(says, waits), settings={**KEEP, **STORES[store]})
        for name in ("first", "second"):
            self.client.start_execution("says", "a", id=name)
        self.client.start_execution("waits", id="third")
        self.settle()
        self.clock.advance(31 * DAY)
        self.client.get_execution("third").signal("go")
        self.orchestrator = self.process()
        self.calls.clear()
        if fault is not None:
            self.after(fault)
        self.settle()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["dies", "fails", "throttled"])
@pytest.mark.parametrize("store", STORES)
def test_whatever_goes_wrong_they_are_deleted_and_nothing_else(
    store: str, kind: Any, after: bool
) -> None:
    for n in calls_of(
        calls_of_a_sweep(store), OTHERS_EVERY if kind == "dies" else 2 * OTHERS_EVERY
    ):
        with swept(Fault(n, kind, after), store) as world:
            for later in ("a", "b", "c"):
                world.clock.advance(retention.LONGEST_PAUSE)
                anything(world, later)
            assert names(world) == {"third", "a", "b", "c"}, f"{kind} {after} at call {n}"
            assert world.client.get_execution("third").describe().status == "completed"


# Runs that are over


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment for each write."""
    monkeypatch.setattr(object_store, "SEAL_OVER", 1)
    assert limits.SEAL_OVER > 1


def go_round(world: World, count: int, name: str = "a") -> None:
    for _ in range(count):
        world.client.get_execution(name).signal("go")
        world.settle()


def segments(world: World) -> list[str]:
    return keys(world, f"{object_store.SEGMENTS}a/")


@pytest.mark.usefixtures("small_segments")
def test_segments_of_runs_that_are_over_are_removed() -> None:
    with World(registry_of(rounds), keep_runs=False) as world, World(registry_of(rounds)) as other:
        for one in (world, other):
            one.client.start_execution("rounds", 9, id="a")
            one.settle()
            go_round(one, 10)
            assert one.client.get_execution("a").result(timeout=0) == "done"
        assert len(segments(world)) < 10 < len(segments(other))


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["dies", "fails"])
def test_what_a_process_has_left_of_them_is_removed_by_the_next_one(kind: Any, after: bool) -> None:
    """At every call of the writes that end a run."""

    def left(fault: Fault | None) -> tuple[int, list[str]]:
        with World(registry_of(rounds), keep_runs=False) as world:
            world.client.start_execution("rounds", 5, id="a")
            world.settle()
            go_round(world, 2)
            world.calls.clear()
            if fault is not None:
                world.after(fault)
            go_round(world, 1)
            made = len(world.calls)
            world.orchestrator = world.process()
            go_round(world, 3)
            assert world.client.get_execution("a").result(timeout=0) == "done"
            return made, segments(world)

    made, clean = left(None)
    for n in range(1, made + 1):
        _, found = left(Fault(n, kind, after))
        # Never more than what the last run has; retries may cut segments elsewhere.
        assert len(found) <= len(clean) + 1, f"{kind} {after} at call {n}: {found}"
