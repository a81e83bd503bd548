"""Heartbeats from end to end: in this process, and in worker processes."""

from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionCancelled,
    LocalRuntime,
    RetryPolicy,
    TaskTimeout,
    workflow,
)
from mini_workflow.testing import WorkflowEnvironment
from mini_workflow.testing.contracts.runner_tasks import Gate
from tests.unit.local import beating
from tests.waiting import WAIT

PATIENCE = 0.5
"""Seconds of a heartbeat timeout that is meant to pass."""
POLICY = RetryPolicy(max_attempts=20, initial=0.01)


@workflow("heartbeats.watched")
async def watched(ctx: Context, function: str, gate: Gate, attempts: int = 20) -> Any:
    policy = RetryPolicy(max_attempts=attempts, initial=0.01)
    return await ctx.task(
        getattr(beating, function), gate, retry=policy, heartbeat_timeout=PATIENCE
    )


@workflow("heartbeats.unwatched")
async def unwatched(ctx: Context, function: str, gate: Gate) -> Any:
    return await ctx.task(getattr(beating, function), gate, retry=POLICY)


@pytest.fixture
def gate(tmp_path: Path) -> Any:
    gate = Gate(tmp_path)
    yield gate
    gate.open()


@pytest.mark.parametrize("workers", [0, 1])
class TestOnARuntime:
    @pytest.mark.parametrize(
        "function", ["silent_at_first", "silent_at_first_async", "stuck_at_first"]
    )
    def test_a_silent_attempt_is_followed_by_one_that_knows_its_details(
        self, path: Path, workers: int, function: str, gate: Gate
    ) -> None:
        with LocalRuntime(path, workers=workers, grace=0) as runtime:
            execution = runtime.start_execution(watched, function, gate)
            assert execution.result(WAIT) == beating.DETAILS
            gate.open()

    def test_without_another_attempt_it_is_a_timeout(
        self, path: Path, workers: int, gate: Gate
    ) -> None:
        with LocalRuntime(path, workers=workers, grace=0) as runtime:
            execution = runtime.start_execution(watched, "stuck_at_first", gate, attempts=1)
            with pytest.raises(TaskTimeout, match="heartbeat"):
                execution.result(WAIT)
            gate.open()

    @pytest.mark.parametrize("function", ["upload_until_cancelled", "upload_until_cancelled_async"])
    def test_a_cancelled_task_stops_by_itself_and_hears_why(
        self, path: Path, workers: int, function: str, gate: Gate
    ) -> None:
        with LocalRuntime(path, workers=workers) as runtime:
            execution = runtime.start_execution(unwatched, function, gate)
            Gate.wait(gate.begun)
            execution.cancel("out of stock")
            with pytest.raises(ExecutionCancelled):
                execution.result(WAIT)
            Gate.wait(gate.left)
        assert "out of stock" in gate.left.read_text()

    def test_so_does_one_whose_execution_is_terminated(
        self, path: Path, workers: int, gate: Gate
    ) -> None:
        with LocalRuntime(path, workers=workers) as runtime:
            execution = runtime.start_execution(unwatched, "upload_until_cancelled", gate)
            Gate.wait(gate.begun)
            execution.terminate("by hand")
            Gate.wait(gate.left)
        assert "by hand" in gate.left.read_text()


@pytest.mark.parametrize("function", ["kill_self_at_first", "kill_self_at_first_async"])
def test_the_details_of_a_worker_that_dies_reach_the_next_attempt(
    path: Path, function: str, gate: Gate
) -> None:
    with LocalRuntime(path, workers=1) as runtime:
        execution = runtime.start_execution(unwatched, function, gate)
        assert execution.result(WAIT) == beating.DETAILS


@workflow("heartbeats.patient")
async def patient(ctx: Context) -> Any:
    policy = RetryPolicy(max_attempts=10, initial=3600, maximum=3600, jitter="none")
    return await ctx.task(beating.count_and_fail, retry=policy)


@pytest.mark.parametrize("cache_size", [0, 100])
def test_details_are_there_after_a_replay_and_a_restart(cache_size: int) -> None:
    with WorkflowEnvironment(cache_size=cache_size) as before:
        execution = before.start_execution(patient)
        before.advance(3600)
        assert execution.describe().status == "running"
    with WorkflowEnvironment(before.state, cache_size=cache_size) as after:
        assert after.get_execution(execution.id).result(WAIT) == (3, 4)


@workflow("heartbeats.crowded")
async def crowded(ctx: Context) -> Any:
    return await ctx.task(beating.beat_from_threads, retry=POLICY, heartbeat_timeout=30)


@pytest.mark.parametrize("workers", [0, 1])
def test_many_threads_of_a_task_give_many_heartbeats(path: Path, workers: int) -> None:
    with LocalRuntime(path, workers=workers) as runtime:
        assert runtime.start_execution(crowded).result(WAIT) == "alive"
