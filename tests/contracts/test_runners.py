"""Every runner of tasks keeps the contract."""

from functools import partial
from secrets import token_bytes

from mini_workflow.ports import Report
from mini_workflow.runners.event_loop import EventLoopRunner
from mini_workflow.runners.processes import ProcessRunner
from mini_workflow.runners.routed import RoutedRunner
from mini_workflow.runners.threads import ThreadRunner
from mini_workflow.testing.contracts.runner import TaskRunnerContract
from tests.contracts.worker_code import EXECUTE, EXECUTE_ASYNC, make


class TestThreads(TaskRunnerContract):
    def make_runner(self, report: Report, room: int) -> ThreadRunner:
        return ThreadRunner(EXECUTE, report, threads=room)


class TestAsyncFunctionsOnThreads(TaskRunnerContract):
    is_async = True

    def make_runner(self, report: Report, room: int) -> ThreadRunner:
        return ThreadRunner(EXECUTE, report, threads=room)


class TestEventLoop(TaskRunnerContract):
    is_async = True

    def make_runner(self, report: Report, room: int) -> EventLoopRunner:
        return EventLoopRunner(EXECUTE_ASYNC, report, concurrency=room)


class TestProcesses(TaskRunnerContract):
    def make_runner(self, report: Report, room: int) -> ProcessRunner:
        return ProcessRunner(partial(make, token_bytes(32)), report, workers=room)


class TestAsyncFunctionsInProcesses(TaskRunnerContract):
    is_async = True

    def make_runner(self, report: Report, room: int) -> ProcessRunner:
        factory = partial(make, token_bytes(32))
        return ProcessRunner(factory, report, workers=1, async_per_worker=room)


class _Routed(TaskRunnerContract):
    def make_runner(self, report: Report, room: int) -> RoutedRunner:
        return RoutedRunner(
            ThreadRunner(EXECUTE, report, threads=room),
            EventLoopRunner(EXECUTE_ASYNC, report, concurrency=room),
        )


class TestRoutedSyncFunctions(_Routed):
    pass


class TestRoutedAsyncFunctions(_Routed):
    is_async = True
