"""A value that the store cannot keep stops its own execution, and no other; parent and child stay
together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy
from mini_workflow.core.events import SignalReceived
from mini_workflow.engine.engine import RETRY_AFTER
from mini_workflow.engine.requests import Post
from mini_workflow.engine.runs import blocked
from mini_workflow.errors import DeterminismError, StoreError, StoreRefused, StoreUnavailable
from mini_workflow.ports import Commit, Head, Query
from mini_workflow.stores.sqlite import SQLiteBackend
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.stepping import LEASE, Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.sweeps import calls_of
from tests.unit.engine.harness import ID, Files, MakeState, in_memory, stepping

NARROW = sorted(name for name, shape in SHAPES.items() if not shape.wide)
ANSWERED = {"asks_others"}
"""Those that wait for answers of others, also of ones that have closed."""

POISON = "poison"
"""What the store of these tests cannot keep."""

CURE = POISON[::-1]
"""What becomes it in a task."""


def turned(word: str) -> str:
    return word[::-1]


async def asks(ctx: Context, word: str) -> str:
    return await ctx.task(turned, word, retry=RetryPolicy(max_attempts=3, initial=0.001))


async def listens(ctx: Context) -> Any:
    return await ctx.wait_for_signal("go")


async def parent(ctx: Context, word: str) -> str:
    begun = await ctx.task(turned, word)
    return await ctx.child(CHILD, begun, id="child")


CHILD = Workflow("asks", asks)


def registry() -> Registry:
    made = Registry()
    for definition in (CHILD, Workflow("listens", listens), Workflow("parent", parent)):
        made.add(definition)
    return made


class Picky:
    """A store that refuses certain commits."""

    def __init__(self, store: Any, refuses: Callable[[Commit], Exception | None]) -> None:
        self._store = store
        self._refuses = refuses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        for item in commits:
            if (error := self._refuses(item)) is not None:
                raise error
        return self._store.commit(commits)


@contextmanager
def picky(refuses: Callable[[Commit], Exception | None], **options: Any) -> Iterator[Stepper]:
    inner = in_memory()

    def open_backend(owner: str, clock: ManualClock) -> Any:
        one = inner(owner, clock)
        return SimpleNamespace(
            store=Picky(one.store, refuses),
            agenda=one.agenda,
            mailbox=one.mailbox,
            leases=one.leases,
            close=one.close,
        )

    with stepping(lambda: open_backend, registry=registry(), **options) as stepper:
        stepper.open()
        yield stepper


def in_events(item: Commit) -> Exception | None:
    return StoreRefused("too big") if any(POISON in line for line in item.events) else None


def anywhere(item: Commit) -> Exception | None:
    lines = (*item.events, *item.park)
    return StoreRefused("too big") if any(POISON in line for line in lines) else None


def run_all(stepper: Stepper) -> None:
    """All that is ready, together in one batch."""
    for request in list(stepper.runner.held):
        stepper.runner.run(request)
    stepper.settle()


def head_of(stepper: Stepper, name: str) -> Head:
    head = stepper.head(name)
    assert head is not None
    return head


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("kind", [StoreRefused, OverflowError])
def test_a_refused_result_blocks_its_execution_alone(
    kind: type[Exception], cache_size: int
) -> None:
    cured: list[bool] = []

    def refuses(item: Commit) -> Exception | None:
        return kind("too big") if not cured and in_events(item) is not None else None

    names = {f"x-{n}": "abc" for n in range(5)} | {ID: CURE}
    with picky(refuses, cache_size=cache_size) as stepper:
        for name, word in names.items():
            stepper.start("asks", word, execution_id=name)
        stepper.settle()
        run_all(stepper)
        for name in names.keys() - {ID}:
            assert stepper.outcome(name) == "cba"
        head = head_of(stepper, ID)
        assert head.status == "blocked"
        assert head.blocked_kind == "StoreRefused"
        assert "too big" in (head.blocked_reason or "")
        assert stepper.engine.in_flight == 0
        cured.append(True)
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == POISON
        assert len(stepper.runner.submitted) == len(names)  # the result was kept
        assert stepper.faults(ID) == []


@pytest.mark.parametrize("cache_size", [0, 100])
def test_what_cannot_even_be_kept_is_told_to_its_sender(cache_size: int) -> None:
    cured: list[bool] = []
    with picky(lambda item: None if cured else anywhere(item), cache_size=cache_size) as stepper:
        stepper.start("asks", CURE, execution_id=ID)
        stepper.start("listens", execution_id="listening")
        stepper.settle()
        value = stepper.codec.encode(POISON, "value")
        post = Post("listening", SignalReceived(stepper.clock.now(), "go", value, "s1"))
        stepper.inbox.append(post)
        run_all(stepper)
        with pytest.raises(StoreRefused, match="too big"):
            post.reply.wait(0)
        assert head_of(stepper, ID).status == head_of(stepper, "listening").status == "blocked"
        assert stepper.engine.in_flight == 0
        cured.append(True)
        stepper.resume(ID)
        stepper.resume("listening")
        stepper.run()
        assert stepper.outcome(ID) == POISON  # by another attempt: the first was lost
        assert stepper.outcome("listening") is None
        stepper.inbox.append(post)
        stepper.run()
        assert stepper.outcome("listening") == POISON


def test_a_refused_start_is_told_and_leaves_nothing() -> None:
    with picky(in_events) as stepper:
        starts = [stepper.start("asks", word, execution_id=word) for word in ("abc", POISON, "xyz")]
        stepper.settle()
        with pytest.raises(StoreRefused, match="too big"):
            starts[1].reply.wait(0)
        assert stepper.head(POISON) is None
        stepper.run()
        assert [stepper.outcome(word) for word in ("abc", "xyz")] == ["cba", "zyx"]


@pytest.mark.parametrize("cache_size", [0, 100])
def test_a_refused_child_does_not_begin_and_blocks_its_parent(cache_size: int) -> None:
    """What the parent decided and what begins by it are in one commit, or in none."""
    cured: list[bool] = []

    def refuses(item: Commit) -> Exception | None:
        child = item.execution_id == "child" and item.expected == 0
        return StoreRefused("too big") if child and not cured else None

    with picky(refuses, cache_size=cache_size) as stepper:
        stepper.start("parent", "abc", execution_id=ID)
        stepper.start("asks", "abc", execution_id="other")
        stepper.settle()
        run_all(stepper)
        assert stepper.outcome("other") == "cba"
        assert head_of(stepper, ID).status == "blocked"
        assert stepper.head("child") is None
        assert not any("ChildStarted" in line for line in stepper.lines(ID))
        cured.append(True)
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == "abc"
        assert stepper.faults(ID) == stepper.faults("child") == []


@pytest.mark.parametrize("cache_size", [0, 100])
def test_a_store_that_goes_away_between_two_of_them_loses_nothing(cache_size: int) -> None:
    calls: list[str] = []
    away: list[bool] = []

    def refuses(item: Commit) -> Exception | None:
        if (refusal := in_events(item)) is not None:
            return refusal
        calls.append(item.execution_id)
        return StoreUnavailable("away") if away and item.execution_id == "x-3" else None

    names = ["x-0", "x-1", "x-2", "x-3", "x-4"]
    with picky(refuses, cache_size=cache_size) as stepper:
        for name in names:
            stepper.start("asks", "abc", execution_id=name)
        stepper.settle()
        late = stepper.start("asks", POISON, execution_id="late")
        away.append(True)
        run_all(stepper)
        with pytest.raises(StoreError):
            late.reply.wait(0)
        assert all(stepper.outcome(name) == "cba" for name in names[:3])
        away.clear()
        stepper.clock.advance(RETRY_AFTER)
        stepper.run()
        assert all(stepper.outcome(name) == "cba" for name in names)
        assert len(stepper.runner.submitted) == len(names)
        assert all(stepper.faults(name) == [] for name in names)


def refuse_at(make: MakeState, name: str, n: int, cache_size: int) -> bool:
    shape = SHAPES[name]
    with Ledger() as ledger, stepping(make, shape, cache_size=cache_size) as stepper:
        stepper.open()
        stepper.settle()
        stepper.crashes.fail_commit(n, StoreRefused("too big"))
        start = stepper.start(name, execution_id=ID)
        stepper.settle()
        if n == 1:
            with pytest.raises(StoreRefused):
                start.reply.wait(0)
            assert stepper.head(ID) is None
            stepper.start(name, execution_id=ID)
        stepper.run()
        for blocked in stepper.backend.store.list(Query(status="blocked")).heads:
            assert blocked.blocked_kind == "StoreRefused"
            stepper.resume(blocked.execution_id)
            stepper.run()
            assert stepper.faults(blocked.execution_id) == []
        if name in ANSWERED and head_of(stepper, ID).closed_at is None:
            # The answer of an execution that has closed could not be kept: it is asked for anew.
            stepper.resume(ID)
            stepper.run()
        # What it waited for may have come in another order meanwhile, or too late.
        assert head_of(stepper, ID).closed_at is not None
        assert ledger.faults(ID, stepper.record.events(ID)) == []
        assert sum(ledger.names(ID).values()) <= shape.attempts
        assert stepper.engine.in_flight == 0
        return stepper.crashes.failed


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("name", NARROW)
def test_a_refusal_of_any_commit_is_made_good_by_a_resume(name: str, cache_size: int) -> None:
    for n in calls_of():
        if not refuse_at(in_memory, name, n, cache_size):
            break


def test_text_that_is_too_long_for_the_file(tmp_path: Path) -> None:
    files = Files(tmp_path)
    inner = files()

    def open_backend(owner: str, clock: ManualClock) -> Any:
        backend: Any = inner(owner, clock)
        backend.store._writer.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 20_000)
        return backend

    async def grows(ctx: Context, length: int) -> int:
        return len(await ctx.task(lambda: "x" * length))

    made = Registry()
    made.add(Workflow("grows", grows))
    with stepping(lambda: open_backend, registry=made) as stepper:
        stepper.open()
        for length in (10, 30_000, 20):
            stepper.start("grows", length, execution_id=f"x-{length}")
        stepper.settle()
        run_all(stepper)
        assert [stepper.outcome("x-10"), stepper.outcome("x-20")] == [10, 20]
        head = head_of(stepper, "x-30000")
        assert head.blocked_kind == "StoreRefused"
        assert "too big" in (head.blocked_reason or "")


@pytest.mark.parametrize(
    ("line", "text"), [("\ud800", "surrogates"), (object(), "not supported"), (2**70, "too large")]
)
def test_values_that_sqlite_cannot_keep(tmp_path: Path, line: Any, text: str) -> None:
    clock = ManualClock(1)
    backend = SQLiteBackend(tmp_path / "s.db", owner="a", address="", clock=clock, lease=LEASE)
    try:
        backend.leases.acquire(clock.now())
        head = Head("x", "w", "running", 1)
        with pytest.raises((StoreRefused, UnicodeEncodeError, OverflowError), match=text):
            backend.store.commit([Commit("y", 0, ("fine",), head), Commit("x", 0, (line,), head)])
        assert backend.store.head("x") is backend.store.head("y") is None
    finally:
        backend.close()


def test_a_reason_that_quotes_what_utf_8_cannot_say(tmp_path: Path) -> None:
    clock = ManualClock(1)
    backend = SQLiteBackend(tmp_path / "s.db", owner="a", address="", clock=clock, lease=LEASE)
    try:
        backend.leases.acquire(clock.now())
        head = blocked(Head("x", "w", "running", 1), DeterminismError("task 'n\ud800'"))
        assert backend.store.commit([Commit("x", 0, ("fine",), head)]) == [True]
        assert backend.store.head("x") == head
        assert "n\\ud800" in (head.blocked_reason or "")
    finally:
        backend.close()
