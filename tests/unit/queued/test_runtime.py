"""QueueRuntime on the queued backend in memory: what a client asks, and processes that die."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy
from mini_workflow.errors import (
    ExecutionAlreadyExists,
    ExecutionBlocked,
    ExecutionClosed,
    PromiseNotOpen,
    RuntimeClosed,
)
from mini_workflow.ports import Commit, QueuedMessage
from mini_workflow.ports.queue import PendingEffects, Received
from mini_workflow.runtimes.queued import QueueRuntime
from mini_workflow.stores.cached import CachedStore
from mini_workflow.testing.clock import ManualClock
from mini_workflow.workflow import Registry, Workflow
from tests.contracts.queue_cases import Death, UnsafeDispatch, UnsafeDocuments
from tests.pausing import ask_in_turns
from tests.runtime_fixtures import in_thread
from tests.waiting import WAIT, eventually

__all__ = ["in_thread"]

STEPS = 500


class Life:
    """A queued backend, and the processes on it, of which each step is taken by the test."""

    def __init__(self, *workflows: Any) -> None:
        self.registry = Registry()
        for function in workflows:
            self.registry.add(Workflow(function.__name__, function))
        self.clock = ManualClock(1_900_000_000_000)
        self.documents, self.dispatch = UnsafeDocuments(), UnsafeDispatch()
        self.opened: list[QueueRuntime] = []
        self.runtime = self.process()

    def process(self, registry: Registry | None = None, store: Any = None) -> QueueRuntime:
        store = store or CachedStore(self.documents, 100)
        self.opened.append(
            QueueRuntime(
                store,
                self.dispatch,
                self.documents,
                clock=self.clock,
                registry=registry or self.registry,
            )
        )
        return self.opened[-1]

    def deliver(self, runtime: QueueRuntime | None = None) -> bool:
        received = self.dispatch.receive(10, self.clock.now())
        self.dispatch.finish(received, (runtime or self.runtime).orchestrate(received))
        return bool(received)

    def attempt(self) -> bool:
        request = self.dispatch.take_request()
        if request is not None:
            self.runtime.execute(request)
        return request is not None

    def run(self, *, sleeps: bool = True) -> None:
        """Go on until nothing moves any more; time passes when nothing else happens."""
        for _ in range(STEPS):
            if self.deliver() or self.attempt():
                continue
            due = self.dispatch.next_wakeup()
            if due is None or not sleeps:
                return
            self.clock.set(max(due, self.clock.now()))
        raise AssertionError("it does not come to rest")


@pytest.fixture
def life() -> Any:
    made: list[Life] = []

    def make(*workflows: Any) -> Life:
        made.append(Life(*workflows))
        return made[-1]

    yield make
    for one in made:
        for runtime in one.opened:
            runtime.close()


Make = Callable[..., Life]


async def double(ctx: Context, number: int) -> int:
    await ctx.sleep(timedelta(days=40))
    return await ctx.task(lambda: number * 2)


async def adds(ctx: Context, number: int) -> int:
    parts = await asyncio.gather(*(ctx.task(lambda n=n: n) for n in range(number)))  # type: ignore[misc]
    child = await ctx.child("double", 21, id="child")
    return sum(parts) + child


async def talks(ctx: Context) -> list[str]:
    heard: list[str] = []

    def say(word: str) -> int:
        heard.append(word)
        return len(heard)

    def check(word: str) -> None:
        if not word:
            raise ValueError("say something")

    ctx.on_query("heard", lambda: list(heard))
    ctx.on_update("say", say, check)
    heard.append(await ctx.wait_for_signal("word"))
    return heard


async def waits_for_promise(ctx: Context) -> Any:
    promise = ctx.promise()
    ctx.on_query("token", lambda: promise.token)
    return await promise


def test_a_workflow_with_tasks_a_child_and_a_long_sleep(life: Make) -> None:
    one = life(adds, double)
    began = one.clock.now()
    execution = one.runtime.start_execution("adds", 5, id="a")
    assert [h.id for h in one.runtime.list_executions(status="running")] == ["a"]
    one.run()
    assert execution.result(timeout=0) == 10 + 42
    assert one.clock.now() - began >= 40 * 86_400_000
    assert {h.id for h in one.runtime.list_executions(status="completed")} == {"a", "child"}


def test_the_same_start_again_finds_the_execution_and_another_one_is_refused(life: Make) -> None:
    one = life(adds, double, talks)
    other = one.process()
    for runtime in (one.runtime, other, one.runtime):
        runtime.start_execution("double", 2, id="a")
    with pytest.raises(ExecutionAlreadyExists):
        other.start_execution("double", 3, id="a")
    with pytest.raises(ExecutionAlreadyExists):
        other.start_execution("talks", id="a")
    one.run()
    assert other.get_execution("a").result(timeout=0) == 4


def test_signals_queries_and_updates(life: Make, in_thread: Any) -> None:
    one = life(talks)
    execution = one.runtime.signal_with_start("talks", id="a", signal="later")
    one.run()
    assert execution.query("heard") == []
    with pytest.raises(ValueError, match="say something"):
        execution.update("say", "")
    answer = in_thread(lambda: execution.update("say", "x", timeout=WAIT))
    eventually(one.deliver)
    assert answer.get() == 1
    execution.signal("word", "y")
    one.run()
    assert execution.result(timeout=0) == ["x", "y"]
    with pytest.raises(ExecutionClosed):
        execution.signal("word", "z")


async def fails_at_first(ctx: Context, number: int) -> int:
    await ctx.sleep(1)
    if ctx.info.attempt < number:
        raise LookupError(f"attempt {ctx.info.attempt}")
    return ctx.info.attempt


def test_an_execution_is_tried_again_by_its_policy_and_by_hand(life: Make) -> None:
    one = life(fails_at_first)
    policy = RetryPolicy(max_attempts=3, initial=60, jitter="none")
    execution = one.runtime.start_execution("fails_at_first", 3, id="a", retry=policy)
    one.run()
    assert execution.result(timeout=0) == 3
    other = one.runtime.start_execution("fails_at_first", 5, id="b", retry=policy)
    one.run()
    for _ in range(2):
        with pytest.raises(LookupError, match="attempt 3"):
            other.result(timeout=0)
        other.retry()
        one.run()
    assert other.describe().status == "failed"


def test_an_update_comes_with_the_start_of_its_execution(life: Make, in_thread: Any) -> None:
    one = life(talks)
    begin = in_thread(
        lambda: one.runtime.update_with_start("talks", id="a", update="say", update_args=["x"])
    )
    eventually(one.deliver)
    handle = begin.get()
    one.run()
    assert handle.result(timeout=WAIT) == 1
    assert handle.execution.query("heard") == ["x"]


def test_a_promise_is_completed_once(life: Make) -> None:
    one = life(waits_for_promise)
    execution = one.runtime.start_execution("waits_for_promise", id="a")
    one.run()
    token = execution.query("token")
    one.process().complete_promise(token, 7)
    one.run()
    assert execution.result(timeout=0) == 7
    with pytest.raises((PromiseNotOpen, ExecutionClosed)):
        one.runtime.complete_promise(token, 8)


def test_cancel_and_terminate(life: Make) -> None:
    one = life(talks)
    first, second = (one.runtime.start_execution("talks", id=name) for name in "ab")
    one.run()
    first.cancel("enough")
    second.terminate("now")
    one.run()
    assert (first.describe().status, second.describe().status) == ("cancelled", "terminated")


async def waits(ctx: Context) -> Any:
    return await ctx.wait_for_signal("word")


def test_what_was_asked_last_counts(life: Make) -> None:
    """Messages that arrive together keep their order."""
    one = life(waits)
    goes, stays = [one.runtime.start_execution("waits", id=name) for name in ("goes", "stays")]
    one.run()
    ask_in_turns(goes, stays)
    for execution in (goes, stays):
        execution.signal("word", "go")
    one.run()
    assert goes.describe().status == "completed"
    assert stays.describe().blocked_kind == "ExecutionPaused"


def test_a_blocked_execution_is_resumed(life: Make) -> None:
    one = life(double)
    execution = one.runtime.start_execution("double", 2, id="a")
    without_code = one.process(Registry())
    one.deliver(without_code)
    with pytest.raises(ExecutionBlocked):
        execution.result(timeout=0)
    execution.resume()
    with pytest.raises(TimeoutError):  # the news of it are still to come
        execution.result(timeout=0)
    one.run()
    assert execution.result(timeout=0) == 4


def test_who_waits_is_woken_by_a_turn_of_this_process(life: Make, in_thread: Any) -> None:
    one = life(double)
    execution = one.runtime.start_execution("double", 4, id="a")
    result = in_thread(lambda: execution.result(timeout=WAIT))
    one.run()
    assert result.get() == 8

    async def wait() -> Any:
        return await execution

    assert asyncio.run(wait()) == 8


def test_what_nobody_can_read_comes_again_and_keeps_nobody_else_back(life: Make) -> None:
    one = life(double)
    one.runtime.start_execution("double", 1, id="a")
    received = one.dispatch.receive(10, one.clock.now())
    bad = Received("9", "b", "{not json", delivery=1)
    assert one.runtime.orchestrate([*received, bad]) == ["b"]
    one.dispatch.finish(received, ())
    one.run()
    assert one.runtime.get_execution("a").result(timeout=0) == 2


@pytest.mark.parametrize("after", [False, True])
def test_nothing_is_lost_when_the_backend_fails_for_a_while(life: Make, after: bool) -> None:
    one = life(adds, double)
    execution = one.runtime.start_execution("adds", 3, id="a")
    with one.documents.switch.on(after=after):
        assert one.deliver()
    with one.dispatch.switch.on(after=after):
        assert one.deliver()
    one.run()
    assert execution.result(timeout=0) == 3 + 42


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("part", ["documents", "dispatch"])
def test_a_process_that_dies_at_any_call_is_replaced(life: Make, part: str, after: bool) -> None:
    n, died = 0, True
    while died:
        n, died = n + 1, False
        one = life(adds, double)
        switch = getattr(one, part).switch
        execution = one.runtime.start_execution("adds", 3, id="a")
        switch.dies_at, switch.after = switch.calls + n, after
        for _ in range(STEPS):
            try:
                one.run()
                break
            except Death:
                died = True
                one.dispatch.recover()
                one.runtime = one.process()
        assert execution.result(timeout=0) == 3 + 42
        events = [line for line in one.documents.history("a") if "TaskCompleted" in line]
        assert len(events) == 3
    assert n > 6


class Evicting(CachedStore[Any]):
    """A memory that is full: it forgets the execution when its turn has begun. Another process writes it
    meanwhile, once, and no event with that.
    """

    def __init__(self, documents: Any, write: Callable[[], None]) -> None:
        super().__init__(documents, 100)
        self.write: Callable[[], None] | None = write

    def meta(self, execution_id: str) -> Any:
        found = super().meta(execution_id)
        if self.write is not None:
            self.write()
            self.write = None
            self.forget(execution_id)
        return found


def test_what_another_process_owes_is_not_lost_when_memory_forgets_within_a_turn(
    life: Make,
) -> None:
    one = life(talks)
    execution = one.runtime.start_execution("talks", id="a")
    one.run()
    owed = PendingEffects(outbox=(QueuedMessage("b", "", "owed"),), unconfirmed=True)

    def write() -> None:
        other = CachedStore(one.documents, 100)
        meta = other.meta("a")
        assert meta is not None
        assert other.commit(Commit("a", meta.length), owed, meta.wakeup, 0)

    full = one.process(store=Evicting(one.documents, write))
    execution.signal("word", "y")
    assert one.deliver(full)
    sent = [found.execution_id for found in one.dispatch.receive(10, one.clock.now())]
    assert sent == ["b"]
    assert execution.result(timeout=0) == ["y"]


def test_a_closed_runtime_says_so(life: Make) -> None:
    one = life(double)
    one.runtime.close()
    with pytest.raises(RuntimeClosed):
        one.runtime.start_execution("double", 1)
    with pytest.raises(RuntimeClosed):
        one.runtime.orchestrate([])


both_run = threading.Barrier(2)


async def meets(ctx: Context) -> str:
    def meet() -> str:
        both_run.wait(WAIT)
        return "met"

    return await ctx.task(meet)


def test_an_attempt_that_comes_twice_at_a_time_keeps_nobody_waiting(life: Make) -> None:
    world = life(meets)
    execution = world.runtime.start_execution("meets", id="twice")
    while (request := world.dispatch.take_request()) is None:
        assert world.deliver()
    threads = [
        threading.Thread(target=world.runtime.execute, args=(request,), daemon=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads)
    world.run()
    assert execution.result(WAIT) == "met"
