"""WorkflowEnvironment: time that jumps."""

# ruff: noqa: B023 - ctx.task captures the loop's variable when it is called

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionBlocked,
    ExecutionNotFound,
    RetryPolicy,
    RuntimeClosed,
    UsageError,
    current_task,
    workflow,
)
from mini_workflow.engine.engine import Engine
from mini_workflow.testing import WorkflowEnvironment
from tests.unit.local import flows
from tests.waiting import WAIT, eventually

DAY = timedelta(days=1)


@workflow("env.monthly")
async def monthly(ctx: Context, months: int) -> list[int]:
    done = []
    for month in range(months):
        await ctx.sleep(30 * DAY)
        done.append(await ctx.task(lambda: month))
    return done


@workflow("env.sleeper")
async def sleeper(ctx: Context, days: float) -> datetime:
    await ctx.sleep(timedelta(days=days))
    return ctx.now()


@workflow("env.ticker")
async def ticker(ctx: Context) -> None:
    while True:
        await ctx.sleep(DAY)


@workflow("env.stubborn")
async def stubborn(ctx: Context) -> int:
    def flaky() -> int:
        if current_task().attempt < 4:
            raise ConnectionError
        return current_task().attempt

    policy = RetryPolicy(max_attempts=5, initial=3600, factor=2, maximum=1e5, jitter="none")
    return await ctx.task(flaky, retry=policy)


@pytest.mark.parametrize("cache_size", [4096, 1, 0])
class TestTime:
    def test_a_year_takes_no_time(self, cache_size: int) -> None:
        with WorkflowEnvironment(cache_size=cache_size) as environment:
            began, before = time.monotonic(), environment.now()
            assert environment.start_execution(monthly, 12).result(WAIT) == list(range(12))
            assert environment.now() - before == 360 * DAY
            assert time.monotonic() - began < 10

    def test_a_hundred_sleepers_wake_in_order(self, cache_size: int) -> None:
        with WorkflowEnvironment(cache_size=cache_size) as environment:
            start = environment.now()
            executions = [environment.start_execution(sleeper, n) for n in range(100, 0, -1)]
            for days, execution in zip(range(100, 0, -1), executions, strict=True):
                assert execution.result(WAIT) == start + days * DAY

    def test_waits_between_attempts_are_virtual(self, cache_size: int) -> None:
        with WorkflowEnvironment(cache_size=cache_size) as environment:
            before = environment.now()
            assert environment.start_execution(stubborn).result(WAIT) == 4
            assert environment.now() - before == timedelta(hours=1 + 2 + 4)

    def test_no_time_passes_while_a_task_runs(
        self, cache_size: int, in_thread: Callable[..., Any]
    ) -> None:
        with WorkflowEnvironment(cache_size=cache_size) as environment:
            before = environment.now()
            asleep = environment.start_execution(sleeper, 1)
            execution = environment.start_execution(flows.gated, "still")
            outcome = in_thread(execution.result)
            assert flows.gate("still").reached.wait(WAIT)
            assert environment.now() == before
            flows.gate("still").opened.set()
            assert outcome.get() == "still"
            assert environment.now() == before
            assert asleep.describe().status == "running"


class TestAdvance:
    def test_as_far_as_said(self) -> None:
        with WorkflowEnvironment() as environment:
            before = environment.now()
            execution = environment.start_execution(monthly, 12)
            environment.advance(75 * DAY)
            assert environment.now() == before + 75 * DAY
            assert execution.describe().next_wake_at == before + 90 * DAY
            environment.advance(15 * DAY)
            assert execution.describe().next_wake_at == before + 120 * DAY
            environment.advance(0)
            assert environment.now() == before + 90 * DAY

    def test_with_nothing_to_do(self) -> None:
        with WorkflowEnvironment() as environment:
            before = environment.now()
            environment.advance(1.5)
            environment.advance(timedelta(days=100 * 365))
            assert environment.now() == before + timedelta(days=100 * 365, seconds=1.5)

    def test_by_several_threads(self, in_thread: Callable[..., Any]) -> None:
        with WorkflowEnvironment() as environment:
            environment.start_execution(ticker)
            before = environment.now()
            outcomes = [in_thread(lambda n=n: environment.advance(n * DAY)) for n in range(1, 9)]
            for outcome in outcomes:
                outcome.get()
            assert environment.now() >= before + 8 * DAY

    @pytest.mark.parametrize("by", [-1, -DAY, float("nan"), float("inf"), "1", None, 1e12])
    def test_nonsense(self, by: Any) -> None:
        with WorkflowEnvironment() as environment:
            before = environment.now()
            with pytest.raises(UsageError):
                environment.advance(by)
            assert environment.now() == before

    def test_an_endless_execution_does_not_carry_time_away(self) -> None:
        with WorkflowEnvironment() as environment:
            before = environment.now()
            environment.start_execution(ticker)
            for number in range(50):
                done = environment.start_execution(flows.steps, 3)
                assert done.result(WAIT) == 3
                assert done.result(WAIT) == 3
                handle = environment.get_execution(done.id)
                assert handle.result(WAIT) == 3
                assert environment.now() == before, number


class TestState:
    def test_a_closed_environment_is_continued(self) -> None:
        with WorkflowEnvironment() as environment:
            environment.start_execution(sleeper, 10, id="one")
            environment.advance(4 * DAY)
            left_at = environment.now()
        with WorkflowEnvironment(environment.state) as again:
            assert again.now() == left_at
            assert again.get_execution("one").result(WAIT) == left_at + 6 * DAY

    def test_at_another_time(self) -> None:
        with WorkflowEnvironment() as environment:
            environment.start_execution(sleeper, 10, id="one")
        later = datetime(2030, 1, 1, tzinfo=UTC)
        with WorkflowEnvironment(environment.state, start=later) as again:
            assert again.get_execution("one").result(WAIT) == later

    def test_one_at_a_time(self) -> None:
        with WorkflowEnvironment() as environment:
            with pytest.raises(UsageError, match="still open"):
                WorkflowEnvironment(environment.state)
            assert environment.start_execution(flows.answer).result(WAIT) == 42
        WorkflowEnvironment(environment.state).close()

    def test_a_start_without_a_time_zone(self) -> None:
        with pytest.raises(UsageError, match="no time zone"):
            WorkflowEnvironment(start=datetime(2026, 1, 1))

    def test_two_are_independent(self) -> None:
        with WorkflowEnvironment() as one, WorkflowEnvironment() as two:
            one.start_execution(sleeper, 5, id="same").result(WAIT)
            with pytest.raises(ExecutionNotFound):
                two.get_execution("same")
            assert one.now() - two.now() == 5 * DAY


class TestMisuse:
    def test_after_close(self) -> None:
        environment = WorkflowEnvironment()
        execution = environment.start_execution(ticker)
        environment.close()
        calls: list[Callable[[], Any]] = [
            lambda: environment.advance(1),
            execution.result,
            lambda: environment.start_execution(ticker),
            lambda: asyncio.run(wait_for(execution)),
        ]
        for call in calls:
            with pytest.raises(RuntimeClosed):
                call()

    def test_closed_while_time_passes(self, in_thread: Callable[..., Any]) -> None:
        environment = WorkflowEnvironment(grace=0.1)
        environment.start_execution(flows.gated, "env")
        assert flows.gate("env").reached.wait(WAIT)
        outcome = in_thread(lambda: environment.advance(1))  # waits for the task
        eventually(lambda: environment._skipping._trips)
        environment.close()
        with pytest.raises(RuntimeClosed):
            outcome.get()

    def test_what_waits_for_ever_is_said(self) -> None:
        with WorkflowEnvironment() as environment, pytest.raises(ExecutionBlocked):
            environment.start_execution(flows.waits_for_nothing).result(WAIT)

    def test_a_timeout_is_in_real_time(self) -> None:
        with WorkflowEnvironment() as environment:
            execution = environment.start_execution(ticker)
            with pytest.raises(TimeoutError, match="still running after"):
                execution.result(0.05)
            assert environment.now() > datetime(2026, 1, 2, tzinfo=UTC)

    def test_asynchronous_callers(self) -> None:
        async def main() -> None:
            before = environment.now()
            results = await asyncio.gather(
                *(wait_for(environment.start_execution(sleeper, days)) for days in (3, 1, 2))
            )
            assert [result - before for result in results] == [3 * DAY, 1 * DAY, 2 * DAY]

        with WorkflowEnvironment() as environment:
            asyncio.run(main())


async def wait_for(execution: Any) -> Any:
    return await execution


@workflow("env.held_beside_a_timer")
async def held_beside_a_timer(ctx: Context) -> datetime:
    timer = asyncio.create_task(sleeping(ctx))
    await ctx.task(hold)
    timer.cancel()
    return ctx.now()


async def sleeping(ctx: Context) -> None:
    await ctx.sleep(DAY)


HELD, FREE = threading.Event(), threading.Event()


def hold() -> None:
    HELD.set()
    assert FREE.wait(WAIT)


def test_time_stands_while_an_outcome_is_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for one that comes while the clock asks whether tasks run: it jumps only after that is taken."""
    HELD.clear()
    FREE.clear()
    with WorkflowEnvironment() as environment:
        is_idle = Engine.idle.fget
        assert is_idle is not None

        def brought_meanwhile(engine: Engine) -> bool:
            asked_by_the_clock = sys._getframe(1).f_code.co_name == "_is_due"
            if HELD.is_set() and not FREE.is_set() and asked_by_the_clock:
                FREE.set()
                eventually(lambda: environment._role._inbox and is_idle(engine))
            return is_idle(engine)

        monkeypatch.setattr(Engine, "idle", property(brought_meanwhile))
        before = environment.now()
        execution = environment.start_execution(held_beside_a_timer)
        assert HELD.wait(WAIT)
        environment.look_around()  # has the clock ask
        assert execution.result(WAIT) == before
        assert FREE.is_set()
