"""Law 19: a report that never arrives ends in WorkerLost at a deadline that stands in the store;
`resume()` does the same at once. Whatever message is dropped, nothing hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_workflow import ChildFailed, Context, ExecutionCancelled, RetryPolicy, current_task
from mini_workflow.core import events
from mini_workflow.core.history import History
from mini_workflow.engine.engine_parts import LIMITS
from mini_workflow.engine.requests import Request
from mini_workflow.ports import Commit, TaskOutcome
from mini_workflow.testing.simulation.stepping import Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, Files, in_memory, stepping

TIMEOUT = 20


def ten(value: int) -> int:
    return 10 * value


def fails_first(value: int) -> int:
    if current_task().attempt == 1:
        raise ConnectionError("once more")
    return 10 * value


RETRY = RetryPolicy(max_attempts=9, initial=5, factor=1, jitter="none")


async def sequence(ctx: Context, timeout: float | None) -> list[int]:
    return [await ctx.task(ten, i, timeout=timeout) for i in range(3)]


async def fan_out(ctx: Context, timeout: float | None) -> list[int]:
    tasks = [ctx.task(fails_first, i, retry=RETRY, timeout=timeout) for i in range(3)]
    return list(await asyncio.gather(*tasks))


async def small(ctx: Context, number: int, timeout: float | None) -> int:
    await ctx.sleep(30)
    return await ctx.task(ten, number, timeout=timeout)


async def parent(ctx: Context, timeout: float | None) -> list[int]:
    children = [ctx.child("small", i, timeout, id=f"child-{i}") for i in range(2)]
    first = list(await asyncio.gather(*children))
    await ctx.sleep(3_600)
    return [*first, await ctx.task(ten, 5, timeout=timeout)]


async def fails(ctx: Context) -> None:
    raise ValueError("no such luck")


async def has_failing_child(ctx: Context, timeout: float | None) -> str:
    try:
        await ctx.child("fails", id="child-0")
    except ChildFailed as error:
        return str(error.__cause__)
    return "not failed"


async def told(ctx: Context) -> list[Any]:
    # One that was lost comes behind the others.
    return sorted([await ctx.wait_for_signal("hello"), await ctx.wait_for_signal("hello")])


async def waits(ctx: Context) -> None:
    await ctx.wait_for_signal("never")


async def teller(ctx: Context, timeout: float | None) -> list[Any]:
    child = ctx.child("told", id="child-0")
    child.signal("hello", 1)
    other = ctx.child("waits", id="child-1")
    ctx.execution("child-1").cancel("no need")
    child.signal("hello", await ctx.task(ten, 2, timeout=timeout))
    try:
        await other
    except ExecutionCancelled as error:
        return [*await child, str(error)]
    except ChildFailed as error:
        return [*await child, str(error.__cause__)]
    return []


async def leaves(ctx: Context, timeout: float | None) -> str:
    ctx.child("waits", id="child-0", on_parent_close="terminate")
    ctx.child("waits", id="child-1", on_parent_close="cancel")
    return str(await ctx.task(ten, 1, timeout=timeout))


RESULTS: dict[str, Any] = {
    "teller": [1, 20, "no need"],
    "leaves": "10",
    "sequence": [0, 10, 20],
    "fan_out": [0, 10, 20],
    "parent": [0, 10, 50],
    "has_failing_child": "no such luck",
}


def registry(*more: Any) -> Registry:
    made = Registry()
    plain = (sequence, fan_out, small, parent, fails, has_failing_child)
    for handler in (*plain, told, waits, teller, leaves, *more):
        made.add(Workflow(handler.__name__, handler))
    return made


class Loss:
    """Drops the n-th message, counted from 0: the reports of attempts that reach the engine, and the
    messages that a commit leaves for executions.
    """

    def __init__(self, stepper: Stepper, drop: Callable[[int], bool]) -> None:
        self.count = 0
        self.dropped: list[object] = []
        self._drop = drop
        inbox, store = stepper.inbox, stepper.backend.store
        self._commit = store.commit
        store.commit = self.commit  # type: ignore[method-assign]
        stepper.runner._report = self._report(inbox.append)

    def _report(self, report: Callable[[Request], None]) -> Callable[[TaskOutcome], None]:
        def take(outcome: TaskOutcome) -> None:
            if not self._is_lost(outcome):
                report(outcome)

        return take

    def commit(self, commits: list[Commit]) -> list[bool]:
        kept = [
            replace(c, outbox=tuple(out for out in c.outbox if not self._is_lost(out)))
            for c in commits
        ]
        return self._commit(kept)

    def _is_lost(self, message: object) -> bool:
        self.count += 1
        if self._drop(self.count - 1):
            self.dropped.append(message)
            return True
        return False


def play(
    name: str,
    drop: Callable[[int], bool],
    timeout: float | None,
    *,
    cache_size: int = 100,
    make: Any = in_memory,
) -> tuple[Loss, bool, list[events.Event]]:
    """Run it with losses; answers them, whether it had to be resumed, and its history."""
    with stepping(make, registry=registry(), cache_size=cache_size) as stepper:
        stepper.open()
        loss = Loss(stepper, drop)
        stepper.start(name, timeout, execution_id=ID)
        stepper.run()
        resumed = False
        for _ in range(20):
            heads = [stepper.head(execution_id) for execution_id in (ID, "child-0", "child-1")]
            still_open = [head for head in heads if head is not None and head.closed_at is None]
            if not still_open:
                break
            resumed = True
            for head in still_open:
                stepper.resume(head.execution_id)
            stepper.run()
        assert still_open == []
        assert stepper.outcome(ID) == RESULTS[name], loss.dropped
        assert stepper.faults(ID) == []
        assert stepper.backend.mailbox.entries(0, 10) == []
        return loss, resumed, list(History.from_lines(stepper.lines(ID)))


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("timeout", [TIMEOUT, None], ids=["timeout", "no timeout"])
@pytest.mark.parametrize("name", RESULTS)
def test_law_19_the_nth_message_is_lost(name: str, timeout: float | None, cache_size: int) -> None:
    whole, resumed, _ = play(name, lambda n: False, timeout, cache_size=cache_size)
    assert not resumed
    for lost in range(whole.count):
        loss, resumed, _ = play(
            name, lambda n, lost=lost: n == lost, timeout, cache_size=cache_size
        )
        assert len(loss.dropped) == 1
        if isinstance(loss.dropped[0], TaskOutcome):
            # By itself where there is a deadline.
            assert resumed == (timeout is None)


def test_law_19_the_nth_message_is_lost_in_a_file(tmp_path: Any) -> None:
    files = Files(tmp_path)
    for lost in range(3):
        _, resumed, history = play("sequence", lambda n, lost=lost: n == lost, TIMEOUT, make=files)
        assert not resumed
        kinds = [type(event).__name__ for event in history]
        assert kinds.count("TaskRetryScheduled") == 1


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(RESULTS)),
    timeout=st.sampled_from([None, TIMEOUT]),
    lost=st.sets(st.integers(0, 12), max_size=4),
    cache_size=st.sampled_from([0, 100]),
)
def test_law_19_several_messages_are_lost(
    name: str, timeout: float | None, lost: set[int], cache_size: int
) -> None:
    play(name, lambda n: n in lost, timeout, cache_size=cache_size)


def test_law_19_the_deadline_is_that_of_the_attempt_and_the_late_report_a_duplicate() -> None:
    with stepping(in_memory, registry=registry()) as stepper:
        stepper.open()
        stepper.start("sequence", TIMEOUT, execution_id=ID)
        stepper.settle()
        start = stepper.clock.now()
        deadline = start + TIMEOUT * 1_000 + LIMITS.margin
        assert stepper.head(ID).wake_at == deadline  # type: ignore[union-attr]
        stepper.runner.run(stepper.runner.held[0])
        late = stepper.inbox.pop()
        stepper.clock.set(deadline - 1)
        stepper.settle()
        assert stepper.runner.held == []
        stepper.clock.set(deadline)
        stepper.settle()
        (again,) = stepper.runner.held
        assert again.key == (ID, 1, 2)
        stepper.inbox.append(late)
        stepper.settle()
        assert stepper.runner.held == [again]
        stepper.run()
        assert stepper.outcome(ID) == RESULTS["sequence"]
        (lost,) = [
            e
            for e in History.from_lines(stepper.lines(ID))
            if isinstance(e, events.TaskRetryScheduled)
        ]
        assert lost.failure.type == "mini_workflow.errors:WorkerLost"
        assert lost.at == deadline


def test_law_19_a_report_that_is_under_way_at_the_deadline_counts() -> None:
    """It stands in front of what the engine says of the attempt."""
    with stepping(in_memory, registry=registry()) as stepper:
        stepper.open()
        stepper.start("sequence", TIMEOUT, execution_id=ID)
        stepper.settle()
        stepper.clock.set(stepper.head(ID).wake_at or 0)  # type: ignore[union-attr]
        stepper.runner.run(stepper.runner.held[0])
        stepper.run()
        assert stepper.outcome(ID) == RESULTS["sequence"]
        assert stepper.record.events(ID) == list(History.from_lines(stepper.lines(ID)))
        assert not any(isinstance(e, events.TaskRetryScheduled) for e in stepper.record.events(ID))


def test_law_19_what_is_still_in_hand_is_not_lost() -> None:
    """However long it waits for room: the timeout counts from its start there."""
    with stepping(in_memory, registry=registry(), slow={"ten": 10**9}) as stepper:
        stepper.open()
        stepper.start("sequence", TIMEOUT, execution_id=ID)
        stepper.settle()
        for _ in range(5):
            due = stepper.head(ID).wake_at  # type: ignore[union-attr]
            assert due is not None
            stepper.clock.set(due)
            stepper.settle()
            assert stepper.head(ID).wake_at == due + TIMEOUT * 1_000 + LIMITS.margin  # type: ignore[union-attr]
            stepper.engine.evict()
        stepper.resume(ID)
        stepper.settle()
        assert [r.key for r in stepper.runner.submitted] == [(ID, 1, 1)]


def test_law_19_a_deadline_costs_no_write() -> None:
    """Nor a head: what is due first stays, and is looked at again when its time has come."""

    def writes(timeout: float | None) -> list[tuple[int, int]]:
        with stepping(in_memory, registry=registry()) as stepper:
            stepper.open()
            written: list[Commit] = []
            store = stepper.backend.store
            commit = store.commit
            store.commit = lambda commits: written.extend(commits) or commit(commits)  # type: ignore[method-assign]
            stepper.start("sequence", timeout, execution_id=ID)
            while stepper.step():
                # Time passes from step to step, so that each has another deadline.
                stepper.clock.advance(100)
            assert stepper.outcome(ID) == RESULTS["sequence"]
            return [(len(c.events), c.head is not None) for c in written]

    assert writes(TIMEOUT) == writes(None)


def test_law_19_resume_leaves_alone_what_runs(tmp_path: Any) -> None:
    with stepping(in_memory, registry=registry()) as stepper:
        stepper.open()
        stepper.start("fan_out", None, execution_id=ID)
        stepper.settle()
        for _ in range(3):
            stepper.resume(ID)
            stepper.settle()
        assert len(stepper.runner.submitted) == 3
        stepper.run()
        assert stepper.outcome(ID) == RESULTS["fan_out"]


def test_law_19_resume_without_a_loss_changes_nothing() -> None:
    with stepping(in_memory, registry=registry()) as stepper:
        stepper.open()
        stepper.start("parent", TIMEOUT, execution_id=ID)
        for _ in range(200):
            if not stepper.step():
                break
            if stepper.outcome(ID) is None:
                stepper.resume(ID)
        expected = play("parent", lambda n: False, TIMEOUT)[2]
        kinds = [type(event).__name__ for event in History.from_lines(stepper.lines(ID))]
        assert kinds == [type(event).__name__ for event in expected]
        assert stepper.outcome(ID) == RESULTS["parent"]
