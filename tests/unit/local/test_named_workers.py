"""Tasks that name the worker which is to run them, on a file and in an environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from mini_workflow import Context, ExecutionCancelled, LocalRuntime, UsageError, workflow
from mini_workflow.core import events, wire
from mini_workflow.ports import TaskRequest
from mini_workflow.runners.routed import NamedWorkers
from mini_workflow.runtimes.embedded import embed
from mini_workflow.stores.memory import MemoryBackend, MemoryState
from mini_workflow.stores.system_clock import SystemClock
from mini_workflow.testing import WorkflowEnvironment
from tests.waiting import WAIT


def place() -> int:
    return os.getpid()


async def place_of_async() -> int:
    return os.getpid()


@workflow("named.places")
async def places(ctx: Context) -> list[int]:
    first = await ctx.task(place)
    second = await ctx.task(place, worker="gpu")
    third = await ctx.task(place_of_async, worker="gpu")
    return [first, second, third, *await ctx.map(lambda _: place(), range(2), worker="gpu")]


@workflow("named.given_up")
async def given_up(ctx: Context) -> int:
    task = ctx.task(place, worker="gpu")
    await ctx.wait_for_signal("enough")
    task.cancel()
    return await ctx.task(place)


@workflow("named.bad")
async def bad(ctx: Context, options: dict[str, Any]) -> str:
    try:
        await ctx.task(place, **options)
    except UsageError as error:
        await ctx.task(place)
        return str(error)
    return ""


def scheduled(execution: Any) -> list[events.TaskScheduled]:
    return [e for e in execution.history() if isinstance(e, events.TaskScheduled)]


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> SimpleQueue[str]:
    """The names of the workers of attempts, as each is given to its worker."""
    seen: SimpleQueue[str] = SimpleQueue()
    submit = NamedWorkers.submit

    def look(runner: NamedWorkers, request: TaskRequest) -> None:
        submit(runner, request)
        seen.put(request.worker)

    monkeypatch.setattr(NamedWorkers, "submit", look)
    return seen


class TestServed:
    def test_processes_of_its_own_run_them(self, path: Path) -> None:
        with LocalRuntime(path, workers={"gpu": 1}) as runtime:
            execution = runtime.start_execution(places)
            first, *others = execution.result(WAIT)
            assert first == os.getpid()
            assert os.getpid() not in others
            assert len(set(others)) == 1
            assert [task.worker for task in scheduled(execution)] == ["", *["gpu"] * 4]

    @pytest.mark.parametrize("workers", [{"gpu": 0}, {"default": 0, "gpu": 0}])
    def test_this_process_runs_them_too(self, path: Path, workers: Mapping[str, int]) -> None:
        with LocalRuntime(path, workers=workers) as runtime:
            assert set(runtime.start_execution(places).result(WAIT)) == {os.getpid()}

    def test_the_default_worker_may_have_processes_and_the_other_none(self, path: Path) -> None:
        with LocalRuntime(path, workers={"default": 1, "gpu": 0}) as runtime:
            first, *others = runtime.start_execution(places).result(WAIT)
            assert first != os.getpid()
            assert set(others) == {os.getpid()}

    def test_an_environment_runs_the_tasks_of_all_workers(self) -> None:
        with WorkflowEnvironment() as environment:
            assert set(environment.start_execution(places).result(WAIT)) == {os.getpid()}

    def test_an_embedded_backend_serves_what_it_is_told(self) -> None:
        clock = SystemClock()
        backend = MemoryBackend(MemoryState(), owner="a", clock=clock, lease=60_000)
        with embed(backend, lease=None, clock=clock, serves=["gpu"]) as runtime:
            assert set(runtime.start_execution(places).result(WAIT)) == {os.getpid()}


class TestNotServed:
    def test_it_waits_for_a_process_that_serves_it(
        self, path: Path, submitted: SimpleQueue[str]
    ) -> None:
        with LocalRuntime(path) as runtime:
            execution = runtime.start_execution(places, id="e")
            assert [submitted.get(timeout=WAIT) for _ in range(2)] == ["", "gpu"]
            notes = [entry.note for entry in execution.timeline()]
            assert "worker gpu" in notes
            # Who runs it knows that nobody here serves that.
            assert execution.describe().unserved == ("gpu",)
            assert [one.unserved for one in runtime.list_executions()] == [("gpu",)]
        with LocalRuntime(path, workers={"gpu": 0}) as runtime:
            execution = runtime.get_execution("e")
            assert set(execution.result(WAIT)) == {os.getpid()}
            assert execution.describe().unserved == ()
            # The wait has cost no attempt.
            kinds = {type(event) for event in execution.history()}
            assert events.TaskRetryScheduled not in kinds

    def test_other_tasks_go_on_and_it_can_be_given_up(
        self, path: Path, submitted: SimpleQueue[str]
    ) -> None:
        with LocalRuntime(path) as runtime:
            execution = runtime.start_execution(given_up)
            assert submitted.get(timeout=WAIT) == "gpu"
            execution.signal("enough")
            assert execution.result(WAIT) == os.getpid()
            assert submitted.get(timeout=WAIT) == ""

    def test_the_execution_can_be_cancelled(self, path: Path) -> None:
        with LocalRuntime(path) as runtime:
            execution = runtime.start_execution(given_up)
            execution.cancel("enough")
            with pytest.raises(ExecutionCancelled):
                execution.result(WAIT)

    def test_it_is_not_lost_when_it_is_looked_for(
        self, path: Path, submitted: SimpleQueue[str]
    ) -> None:
        with LocalRuntime(path) as runtime:
            execution = runtime.start_execution(places)
            assert [submitted.get(timeout=WAIT) for _ in range(2)] == ["", "gpu"]
            execution.resume()
            assert not [e for e in execution.history() if isinstance(e, events.TaskFailed)]
            assert execution.describe().status == "running"


class TestBadNames:
    @pytest.mark.parametrize("worker", ["", "1gpu", "g pu", "g" * 33, "a/b", 3, ["gpu"], "gpü"])
    def test_a_name_that_cannot_be_one(self, worker: Any) -> None:
        with WorkflowEnvironment() as environment:
            execution = environment.start_execution(bad, {"worker": worker})
            assert "1 to 32 letters" in execution.result(WAIT)
            assert len(scheduled(execution)) == 1

    def test_an_inline_task_has_no_worker(self) -> None:
        with WorkflowEnvironment() as environment:
            execution = environment.start_execution(bad, {"worker": "gpu", "inline": True})
            assert "inline" in execution.result(WAIT)

    @pytest.mark.parametrize("name", [None, "default"])
    def test_the_default_worker_is_recorded_as_before(self, name: str | None) -> None:
        with WorkflowEnvironment() as environment:
            execution = environment.start_execution(bad, {"worker": name})
            execution.result(WAIT)
            assert not [task for task in scheduled(execution) if "worker" in wire.encode(task)]

    @pytest.mark.parametrize("workers", [-1, True, "gpu", {"gpu": -1}, {"a b": 1}, {"gpu": "1"}])
    def test_a_runtime_refuses_them(self, path: Path, workers: Any) -> None:
        with pytest.raises(UsageError, match="worker"):
            LocalRuntime(path, workers=workers)
        assert not path.exists()

    def test_an_embedded_runtime_refuses_them(self) -> None:
        backend = MemoryBackend(MemoryState(), owner="a", clock=SystemClock(), lease=60_000)
        with pytest.raises(UsageError, match="worker="):
            embed(backend, lease=None, serves=["a b"])
