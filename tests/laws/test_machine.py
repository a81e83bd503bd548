"""Laws 2, 3, 10, 13 and 14 together: whatever happens, in any order, the stored history only grows,
what has closed stays closed, no execution is lost, and each comes to the end that it would have come
to in peace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mini_workflow.core.history import History
from mini_workflow.engine.requests import Post, Start, WakeUp
from mini_workflow.errors import ExecutionError, StoreError, StoreFull
from mini_workflow.ports import Head, TaskOutcome, TaskRequest
from mini_workflow.testing.simulation import corpus
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.crash import SimulatedCrash
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.stepping import Stepper
from tests.unit.engine.harness import Files, MakeState, in_memory

NAMES = [
    "asynchronous",
    "cancelled",
    "cleanup",
    "exhausted",
    "failing",
    "fails_unseen",
    "fan_out",
    "generators",
    "inline",
    "many_retries",
    "mapped",
    "nested",
    "never_awaited",
    "nothing",
    "queue",
    "retried_after_the_end",
    "retries",
    "semaphore",
    "sequence",
    "sleeping",
]
"""Shapes whose end does not depend on what time it is when something arrives."""

# A failure takes minutes to be made small.
pytestmark = pytest.mark.timeout(600)

LOSSES = 3
"""How often all attempts in flight may be lost: with one more at the end, a task has five."""

SLOW = {name: ms for shape in SHAPES.values() for name, ms in shape.slow.items()}


class Machine(RuleBasedStateMachine):
    make: MakeState
    cache_size = 100

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.ledger.__enter__()
        self.stepper = Stepper(
            self.make(), corpus.registry(), slow=SLOW, cache_size=self.cache_size
        )
        self.losses = 0
        self.is_open = False
        self.starts: list[Start] = []
        self.ends: list[Post] = []
        self.late: list[TaskOutcome] = []
        self.promised: set[str] = set()
        self.doomed: set[str] = set()
        self.seen: dict[str, list[str]] = {}
        self.closed: dict[str, tuple[Head, Any]] = {}
        self.reopen()

    def survive(self, action: Callable[[], None]) -> None:
        try:
            action()
        except SimulatedCrash:
            self.die()

    def die(self) -> None:
        self.look()
        self.losses += 1
        self.stepper.crash()
        self.stepper.crashes.crash_at(None)
        self.is_open = False

    # What is asked

    @precondition(lambda self: self.is_open)
    @rule(name=st.sampled_from(NAMES), number=st.integers(1, 2))
    def start(self, name: str, number: int) -> None:
        self.starts.append(self.stepper.start(name, execution_id=f"{name}-{number}"))

    @precondition(lambda self: self.is_open and self.seen)
    @rule(data=st.data())
    def terminate(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.seen)))
        self.ends.append(self.stepper.terminate(name))

    @precondition(lambda self: self.is_open and self.seen)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        self.stepper.resume(data.draw(st.sampled_from(sorted(self.seen))))

    @precondition(lambda self: self.is_open)
    @rule()
    def wake_up(self) -> None:
        self.stepper.inbox.append(WakeUp())

    # What is done

    @precondition(lambda self: self.is_open)
    @rule()
    def process(self) -> None:
        self.survive(self.stepper.process)

    @precondition(lambda self: self.is_open)
    @rule()
    def settle(self) -> None:
        self.survive(self.stepper.settle)

    @precondition(lambda self: self.is_open)
    @rule(times=st.integers(1, 8))
    def work(self, times: int) -> None:
        for _ in range(times):
            if self.is_open:
                self.survive(lambda: _ignore(self.stepper.step()))

    @precondition(lambda self: self.is_open and self.stepper.runner.ready())
    @rule(data=st.data(), times=st.integers(1, 3))
    def run_tasks(self, data: st.DataObject, times: int) -> None:
        for _ in range(times):
            ready = self.stepper.runner.ready()
            if ready and self.is_open:
                self.run_task(data.draw(st.sampled_from(ready)))

    def run_task(self, request: TaskRequest) -> None:
        self.survive(lambda: _ignore(self.stepper.runner.run(request)))

    @precondition(lambda self: self.is_open and self.stepper.runner.ready())
    @rule(data=st.data(), twice=st.booleans())
    def run_task_and_delay_its_outcome(self, data: st.DataObject, twice: bool) -> None:
        request = data.draw(st.sampled_from(self.stepper.runner.ready()))
        inbox = self.stepper.inbox
        self.survive(lambda: self.late.append(self.stepper.runner.run(request)))
        if self.is_open and not twice:
            inbox.pop()

    @precondition(lambda self: self.is_open and self.late)
    @rule(data=st.data(), again=st.booleans())
    def deliver_late(self, data: st.DataObject, again: bool) -> None:
        outcome = data.draw(st.sampled_from(self.late))
        self.stepper.inbox.append(outcome)
        if not again:
            self.late.remove(outcome)

    @precondition(lambda self: self.is_open and self.losses < LOSSES and self.stepper.runner.held)
    @rule(data=st.data())
    def lose_worker(self, data: st.DataObject) -> None:
        self.losses += 1
        request = data.draw(st.sampled_from(self.stepper.runner.held))
        self.survive(lambda: self.stepper.runner.lose(request))

    @rule(by=st.sampled_from([1, 19, 21, 999, 2_000, 5_000, 70_000]))
    def time_passes(self, by: int) -> None:
        self.stepper.clock.advance(by)

    # Not while nobody is there: the lease of a process that died would not have ended yet.
    @precondition(lambda self: self.is_open)
    @rule(by=st.sampled_from([1, 50, 10_000]))
    def time_goes_back(self, by: int) -> None:
        self.stepper.clock.advance(-by)

    # What goes wrong

    @precondition(lambda self: self.is_open)
    @rule()
    def evict(self) -> None:
        self.stepper.engine.evict()

    @precondition(lambda self: self.is_open)
    @rule(name=st.sampled_from(["store.commit", "store.load", "store.head", "agenda.due"]))
    def store_refuses_once(self, name: str) -> None:
        self.stepper.crashes.fail(name, StoreFull("no space"))

    @precondition(lambda self: self.is_open and self.losses < LOSSES)
    @rule()
    def crash(self) -> None:
        self.die()

    @precondition(lambda self: self.losses < LOSSES)
    @rule(n=st.integers(1, 12), after=st.booleans())
    def crash_soon(self, n: int, after: bool) -> None:
        self.losses = LOSSES
        self.stepper.crashes.crash_at(n, after=after)

    @precondition(lambda self: self.is_open)
    @rule()
    def close(self) -> None:
        def close() -> None:
            self.stepper.crashes.recover()
            self.stepper.close()
            self.is_open = False

        self.survive(close)

    @precondition(lambda self: not self.is_open)
    @rule()
    def reopen(self) -> None:
        def reopen() -> None:
            try:
                self.is_open = True
                self.stepper.open()
            except StoreError:
                self.die()

        self.survive(reopen)

    # What must hold

    @invariant()
    def look(self) -> None:
        if not self.is_open:
            return
        self.hear()
        store = self.stepper.backend.store
        for name in [f"{name}-{n}" for name in NAMES for n in (1, 2)]:
            lines = store.history(name)
            if name in self.promised:
                assert lines, f"{name} is lost"
            if not lines:
                assert name not in self.seen
                continue
            before = self.seen.get(name, [])
            assert lines[: len(before)] == before
            if lines == before:
                continue
            self.seen[name] = lines
            assert self.stepper.faults(name) == []
            assert self.ledger.faults(name, History.from_lines(lines)) == []
            head = self.stepper.head(name)
            assert head is not None
            if head.closed_at is not None:
                now = (head.status, self.stepper.outcome(name), head.closed_at)
                assert self.closed.setdefault(name, now) == now  # type: ignore[arg-type]
            else:
                assert name not in self.closed

    def hear(self) -> None:
        """What callers have been told."""
        for start in self.starts[:]:
            try:
                self.promised.add(start.reply.wait(0).head.execution_id)
            except TimeoutError:
                continue
            except StoreError:
                pass
            self.starts.remove(start)
        for end in self.ends[:]:
            name = end.execution_id
            try:
                assert end.reply.wait(0).status == "terminated"
                assert self.stepper.outcome(name) == "ExecutionTerminated"
            except TimeoutError:
                # It may still take place, or have taken place before a crash.
                self.doomed.add(name)
                continue
            except (StoreError, ExecutionError):
                pass
            else:
                self.doomed.add(name)
            self.ends.remove(end)

    def teardown(self) -> None:
        stepper = self.stepper
        try:
            stepper.crashes.crash_at(None)
            stepper.crashes.recover()
            if self.is_open:
                self.look()
                stepper.crash()
            self.is_open = True
            stepper.open()
            stepper.inbox.extend(self.late)
            stepper.run()
            self.look()
            for name in self.seen:
                shape = SHAPES[name.rpartition("-")[0]]
                outcome = stepper.outcome(name)
                if not (name in self.doomed and outcome == "ExecutionTerminated"):
                    assert outcome == (shape.result if shape.failure is None else shape.failure)
                head = stepper.head(name)
                assert head is not None
                assert not head.busy
                assert head.wake_at is None
            assert stepper.engine.in_flight == 0
            assert len(stepper.engine._cache) == 0
        finally:
            stepper.discard()
            self.ledger.__exit__(None, None, None)


def _ignore(_value: object) -> None: ...


class InMemory(Machine):
    make = staticmethod(in_memory)


class Uncached(Machine):
    make = staticmethod(in_memory)
    cache_size = 1


TestInMemory = InMemory.TestCase
TestInMemory.settings = settings(max_examples=100, stateful_step_count=50)
TestUncached = Uncached.TestCase
TestUncached.settings = settings(max_examples=60, stateful_step_count=50)


def test_in_a_file(tmp_path: Path) -> None:
    class InFile(Machine):
        make = staticmethod(Files(tmp_path))
        cache_size = 2

    run_state_machine_as_test(InFile, settings=settings(max_examples=15, stateful_step_count=40))
