"""Tasks that name a worker, in processes that serve it and others that do not, on one file or database."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionCancelled,
    LocalClient,
    LocalRuntime,
    PostgresClient,
    PostgresRuntime,
    RetryPolicy,
    UsageError,
    current_task,
    workflow,
)
from mini_workflow.core import events
from mini_workflow.doctor.executions import examine_executions
from tests.paths import ROOT
from tests.waiting import WAIT, eventually

Open = Callable[..., Any]

began: SimpleQueue[tuple[str, int, Any]] = SimpleQueue()
"""The thread and the attempt of each task that has begun, and the heartbeat that it began with."""
goes_on: dict[str, threading.Event] = {}
ended: SimpleQueue[str] = SimpleQueue()
URL: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    goes_on.clear()
    for queue in (began, ended):
        while not queue.empty():
            queue.get()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens runtimes on one store, and closes them after the test."""
    with ExitStack() as opened:
        if request.param == "sqlite":

            def make(*, as_client: bool = False, **options: Any) -> Any:
                if as_client:
                    return LocalClient(tmp_path / "state.db", **options)
                return LocalRuntime(tmp_path / "state.db", synchronous="NORMAL", **options)
        else:
            server = request.getfixturevalue("postgres")
            schema = server.schema()
            URL[:] = [server.url]

            def make(*, as_client: bool = False, **options: Any) -> Any:
                opens = PostgresClient if as_client else PostgresRuntime
                return opens(server.url, schema=schema, **options)

        def open_runtime(**options: Any) -> Any:
            runtime = make(**options)
            opened.callback(runtime.close)
            return runtime

        yield open_runtime
        for event in goes_on.values():
            event.set()


def place() -> str:
    task = current_task()
    began.put((threading.current_thread().name, task.attempt, task.last_heartbeat))
    gate = goes_on.get(task.execution_id)
    if gate is not None:
        while not gate.wait(0.01):
            if task.cancelled:
                ended.put("cancelled")
                return "told to end"
    return f"attempt {task.attempt}"


@workflow("labels.one")
async def one(ctx: Context) -> str:
    return await ctx.task(place, worker="gpu")


@workflow("labels.patient")
async def patient(ctx: Context) -> str:
    policy = RetryPolicy(max_attempts=3, initial=0.001)
    return await ctx.task(place, worker="gpu", retry=policy)


@workflow("labels.many")
async def many(ctx: Context, count: int) -> int:
    captured = [1, 2, 3]
    found = await ctx.map(lambda n: n + sum(captured), range(count), worker="gpu")
    return sum(found) + await ctx.task(lambda: len(captured))


@workflow("labels.given_up")
async def given_up(ctx: Context) -> str:
    task = ctx.task(place, worker="gpu")
    await ctx.wait_for_signal("enough")
    task.cancel()
    return "gave up"


@workflow("labels.fails")
async def fails(ctx: Context) -> str:
    def fail() -> None:
        raise LookupError("no such thing")

    try:
        await ctx.task(fail, worker="gpu")
    except LookupError as error:
        return str(error)
    return ""


async def hop() -> str:
    return "async"


@workflow("labels.of_async")
async def of_async(ctx: Context) -> str:
    return await ctx.task(hop, worker="gpu")


def failures(execution: Any) -> list[events.TaskFailed]:
    return [e for e in execution.history() if isinstance(e, events.TaskFailed)]


def test_they_go_to_a_process_that_serves_the_label(store: Open) -> None:
    owner, gpu = store(), store(labels=["gpu"])
    assert owner.start_execution(many, 40).result(WAIT) == sum(range(40)) + 40 * 6 + 3
    assert owner.start_execution(of_async).result(WAIT) == "async"
    assert owner.start_execution(fails).result(WAIT) == "no such thing"
    # Who serves it runs them itself.
    assert gpu.start_execution(one).result(WAIT) == "attempt 1"


def test_processes_of_its_own_serve_other_processes_too(store: Open) -> None:
    owner = store()
    store(workers={"gpu": 1})
    assert owner.start_execution(of_async).result(WAIT) == "async"


def test_it_waits_until_somebody_serves_the_label(
    store: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mini_workflow.engine")
    owner = store()
    execution = owner.start_execution(one)
    eventually(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert "worker 'gpu', which no process serves" in record.getMessage()
    assert "--label gpu" in record.getMessage()
    # Whoever is asked says so: who has it, another process, and clients.
    asked = [owner, store(), store(as_client=True), store(as_client=True, read_only=True)]
    found = [other.get_execution(execution.id) for other in asked]
    assert [each.describe().unserved for each in found] == [("gpu",)] * 4
    assert [other.list_executions()[0].unserved for other in asked] == [("gpu",)] * 4
    told = [finding for finding in examine_executions(asked[3], "here") if finding.execution_id]
    assert [finding.execution_id for finding in told] == [execution.id]
    assert "worker 'gpu', which no process serves, of executions: 1" in told[0].what
    assert "--label gpu" in told[0].remedy
    store(labels=["gpu"])
    assert execution.result(WAIT) == "attempt 1"
    assert [each.describe().unserved for each in found] == [()] * 4


def test_a_label_that_is_served_is_not_told_to_be_missing(store: Open) -> None:
    goes_on["e"] = threading.Event()
    owner = store()
    store(labels=["gpu", "big"])
    execution = owner.start_execution(one, id="e")
    began.get(timeout=WAIT)
    assert execution.describe().unserved == ()
    goes_on["e"].set()
    assert execution.result(WAIT) == "attempt 1"


def test_the_owner_may_close_and_another_one_gets_the_outcome(store: Open) -> None:
    goes_on["e"] = threading.Event()
    owner, gpu = store(), store(labels=["gpu"])
    owner.start_execution(one, id="e")
    began.get(timeout=WAIT)
    owner.close()
    goes_on["e"].set()
    execution = gpu.get_execution("e")
    assert execution.result(WAIT) == "attempt 1"
    assert failures(execution) == []
    assert began.empty()


def test_the_owner_may_be_opened_again_meanwhile(store: Open) -> None:
    goes_on["e"] = threading.Event()
    owner = store()
    owner.start_execution(one, id="e")
    eventually(lambda: owner.get_execution("e").describe().unserved == ("gpu",))
    owner.close()
    again = store()
    store(labels=["gpu"])
    began.get(timeout=WAIT)
    goes_on["e"].set()
    assert again.get_execution("e").result(WAIT) == "attempt 1"
    assert failures(again.get_execution("e")) == []


def test_a_worker_that_closes_hands_back_what_it_has_begun(store: Open) -> None:
    goes_on["e"] = threading.Event()
    owner, gpu = store(), store(labels=["gpu"], grace=0.01)
    execution = owner.start_execution(one, id="e")
    began.get(timeout=WAIT)
    gpu.close()
    goes_on["e"].set()
    store(labels=["gpu"])
    assert execution.result(WAIT) == "attempt 1"
    assert failures(execution) == []


def test_a_task_that_is_given_up_is_told_so_where_it_runs(store: Open) -> None:
    goes_on["e"] = threading.Event()
    owner = store()
    store(labels=["gpu"])
    execution = owner.start_execution(given_up, id="e")
    began.get(timeout=WAIT)
    execution.signal("enough")
    assert execution.result(WAIT) == "gave up"
    assert ended.get(timeout=WAIT) == "cancelled"


def test_a_task_that_nobody_has_begun_can_be_given_up(store: Open) -> None:
    owner = store()
    execution = owner.start_execution(given_up, id="e")
    eventually(lambda: execution.describe().unserved == ("gpu",))
    execution.cancel("enough")
    with pytest.raises(ExecutionCancelled):
        execution.result(WAIT)
    store(labels=["gpu"])
    # Another one is taken, and not the first.
    assert owner.start_execution(one).result(WAIT) == "attempt 1"
    assert began.qsize() == 1


def test_it_is_not_lost_when_it_is_looked_for(store: Open) -> None:
    goes_on["e"] = threading.Event()
    owner = store(cache_size=1)
    execution = owner.start_execution(one, id="e")
    eventually(lambda: execution.describe().unserved == ("gpu",))
    owner.evict()
    execution.resume()
    store(labels=["gpu"])
    began.get(timeout=WAIT)
    owner.evict()
    execution.resume()
    goes_on["e"].set()
    assert execution.result(WAIT) == "attempt 1"
    assert failures(execution) == []


def test_labels_are_names_of_workers(store: Open) -> None:
    for labels in ("gpu", ["a b"], [3]):
        with pytest.raises(UsageError):
            store(labels=labels)


CHILD = """
import sys, threading
from mini_workflow import LocalRuntime, PostgresRuntime
from tests.unit.local import test_labels
test_labels.goes_on["e"] = threading.Event()
if sys.argv[1] == "sqlite":
    runtime = LocalRuntime(sys.argv[2], labels=["gpu"])
else:
    runtime = PostgresRuntime(sys.argv[2], schema=sys.argv[3], labels=["gpu"])
print(*test_labels.began.get(), flush=True)
sys.stdin.read()
"""


def test_a_worker_that_is_killed_costs_an_attempt(store: Open) -> None:
    owner = store(lease=1)
    execution = owner.start_execution(patient, id="e")
    path: Any = owner._opened.backend.path
    place = ["sqlite", str(path)]
    if not isinstance(path, Path):
        address = owner._opened.backend.database
        place = ["postgres", URL[0], address.schema]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *place],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().split()[-2:] == ["1", "None"]
        child.kill()
    store(labels=["gpu"])
    assert execution.result(WAIT) == "attempt 2"
    (lost,) = [e for e in execution.history() if isinstance(e, events.TaskRetryScheduled)]
    assert lost.failure.type.endswith("WorkerLost")
    assert "its worker process is gone" in lost.failure.message
