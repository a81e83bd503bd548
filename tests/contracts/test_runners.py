"""Every runner of tasks keeps the contract."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from secrets import token_bytes
from typing import Any, ClassVar

import pytest

from mini_workflow.ports import Report, TaskOutcome, TaskRequest
from mini_workflow.runners.event_loop import EventLoopRunner
from mini_workflow.runners.processes import ProcessRunner
from mini_workflow.runners.routed import NamedWorkers, RoutedRunner
from mini_workflow.runners.threads import ThreadRunner
from mini_workflow.testing.contracts.heartbeat import HeartbeatContract
from mini_workflow.testing.contracts.runner import TaskRunnerContract
from tests.contracts.worker_code import EXECUTE, EXECUTE_ASYNC, make


@pytest.fixture(autouse=True)
def _short_graces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What resists is given up soon; that there is time for a cleanup is tested elsewhere."""
    monkeypatch.setattr("mini_workflow.runners.event_loop.CLEANUP_GRACE", 0.2)
    monkeypatch.setattr("mini_workflow.runners.processes.slot.CLEANUP_GRACE", 0.2)


class TestThreads(TaskRunnerContract, HeartbeatContract):
    def make_runner(self, report: Report, room: int) -> ThreadRunner:
        return ThreadRunner(EXECUTE, report, threads=room)


class TestAsyncFunctionsOnThreads(TaskRunnerContract, HeartbeatContract):
    is_async = True

    def make_runner(self, report: Report, room: int) -> ThreadRunner:
        return ThreadRunner(EXECUTE, report, threads=room)


class TestEventLoop(TaskRunnerContract, HeartbeatContract):
    is_async = True

    def make_runner(self, report: Report, room: int) -> EventLoopRunner:
        return EventLoopRunner(EXECUTE_ASYNC, report, concurrency=room)


class TestApplicationLoop(TaskRunnerContract, HeartbeatContract):
    """On a loop that runs for other reasons, and that others go on using."""

    is_async = True
    loop: ClassVar[asyncio.AbstractEventLoop]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _application(cls) -> Iterator[None]:
        cls.loop = asyncio.new_event_loop()
        thread = threading.Thread(target=cls.loop.run_forever)
        thread.start()
        yield
        cls.loop.call_soon_threadsafe(cls.loop.stop)
        thread.join()
        left = asyncio.all_tasks(cls.loop)
        cls.loop.close()
        assert not left

    def make_runner(self, report: Report, room: int) -> EventLoopRunner:
        async def make() -> EventLoopRunner:
            return EventLoopRunner(
                EXECUTE_ASYNC, report, concurrency=room, loop=asyncio.get_running_loop()
            )

        return asyncio.run_coroutine_threadsafe(make(), self.loop).result()


class TestProcesses(TaskRunnerContract, HeartbeatContract):
    def make_runner(self, report: Report, room: int) -> ProcessRunner:
        return ProcessRunner(partial(make, token_bytes(32)), report, workers=room)


class TestAsyncFunctionsInProcesses(TaskRunnerContract, HeartbeatContract):
    is_async = True

    def make_runner(self, report: Report, room: int) -> ProcessRunner:
        factory = partial(make, token_bytes(32))
        return ProcessRunner(factory, report, workers=1, async_per_worker=room)


class _Routed(TaskRunnerContract, HeartbeatContract):
    def make_runner(self, report: Report, room: int) -> RoutedRunner:
        return RoutedRunner(
            ThreadRunner(EXECUTE, report, threads=room),
            lambda: EventLoopRunner(EXECUTE_ASYNC, report, concurrency=room),
        )


class TestRoutedSyncFunctions(_Routed):
    pass


class TestRoutedAsyncFunctions(_Routed):
    is_async = True


class TestNamedWorker(TaskRunnerContract, HeartbeatContract):
    """Of tasks that name a worker, beside a default one that runs none of them."""

    def request(self, *args: Any, **options: Any) -> TaskRequest:
        return replace(super().request(*args, **options), worker="gpu")

    def make_runner(self, report: Report, room: int) -> NamedWorkers:
        gpu = ThreadRunner(EXECUTE, report, threads=room)
        return NamedWorkers(ThreadRunner(unexpected, report), {"gpu": gpu}, report)


def unexpected(request: TaskRequest) -> TaskOutcome:
    raise AssertionError(f"{request} was given to the default worker")
