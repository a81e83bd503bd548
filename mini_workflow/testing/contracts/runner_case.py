"""Make runners, attempts and reports for the contract suites of task runners."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, ClassVar

import pytest

from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.core.codec import Codec
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.ports import Report, TaskOutcome, TaskRequest, TaskRunner
from mini_workflow.testing.contracts import runner_tasks as tasks

WAIT = 30.0
"""Seconds after which a report is missing."""
SHORT = 100
"""Milliseconds of a timeout that a test lets pass."""
LONG = 1_600
"""Milliseconds of a timeout that passes only while nothing has begun."""


class RunnerCase:
    """A suite for a runner, which is closed after each test and must leave no thread or process."""

    is_async: ClassVar[bool] = False
    codec: ClassVar[Codec] = StandardCodec()

    def make_runner(self, report: Report, room: int) -> TaskRunner:
        """Return a new runner that runs up to `room` attempts at a time, with the suite's codec."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _runners(self) -> Iterator[None]:
        before = set(threading.enumerate())
        self._outcomes: SimpleQueue[TaskOutcome] = SimpleQueue()
        self._opened: list[TaskRunner] = []
        self._made = 0
        yield
        for runner in self._opened:
            runner.close(0.0)
        left = [thread for thread in threading.enumerate() if thread not in before]
        # A thread that was stuck in a task may end only now that the gate of its test is open.
        for thread in left:
            thread.join(WAIT)
        assert not [thread for thread in left if thread.is_alive()]
        assert not multiprocessing.active_children()

    def runner(self, room: int = 2) -> TaskRunner:
        """Return a new runner whose reports `outcome` gives; closed after the test."""
        runner = self.make_runner(self._outcomes.put, room)
        self._opened.append(runner)
        return runner

    def warm_runner(self) -> TaskRunner:
        """Return a runner with room for one, which has loaded the tasks."""
        runner = self.runner(room=1)
        self.run(runner, self.request(tasks.echo, "warm"))
        return runner

    def request(
        self,
        function: Callable[..., Any],
        *args: object,
        attempt: int = 1,
        name: str = "contract",
        timeout: int | None = None,
        heartbeat_timeout: int | None = None,
        heartbeat: str | None = None,
    ) -> TaskRequest:
        """Return an attempt of a new task, whose function is sync or async as the runner needs it."""
        self._made += 1
        if self.is_async:
            other: Any = getattr(tasks, f"{function.__name__}_async", None)
            call = (other, args) if other else (tasks.call_async, (function, *args))
        else:
            call = (function, args)
        payload = self.codec.capture(*call, {})
        return TaskRequest(
            "contract",
            self._made,
            attempt,
            name,
            payload,
            timeout,
            self.is_async,
            heartbeat_timeout,
            heartbeat,
        )

    def outcome(self) -> TaskOutcome:
        """Return the next report."""
        try:
            return self._outcomes.get(timeout=WAIT)
        except Empty:
            raise AssertionError(f"no report within {WAIT:g} s") from None

    def value(self, outcome: TaskOutcome) -> Any:
        """Return the value of an attempt that completed."""
        assert outcome.failure is None, outcome.failure
        assert outcome.result is not None
        return self.codec.decode(Payload(text=outcome.result))

    def error(self, outcome: TaskOutcome) -> BaseException:
        """Return the exception of an attempt that failed."""
        assert outcome.result is None
        assert outcome.failure is not None
        return self.codec.decode_failure(Failure.from_plain(outcome.failure))

    def details(self, outcome: TaskOutcome) -> Any:
        """Return the details of the last heartbeat of a failed attempt."""
        assert outcome.heartbeat is not None
        return self.codec.decode(Payload(text=outcome.heartbeat))

    def run(self, runner: TaskRunner, request: TaskRequest) -> TaskOutcome:
        """Submit an attempt. Return its report, which must be the next one."""
        runner.submit(request)
        outcome = self.outcome()
        assert outcome.key == request.key
        return outcome

    def close_in_time(self, runner: TaskRunner) -> None:
        """Close a runner within a long grace, and check that the call does not wait for its end."""
        closing = threading.Thread(target=runner.close, args=(10 * WAIT,))
        closing.start()
        closing.join(WAIT)
        assert not closing.is_alive()

    def assert_no_more(self) -> None:
        """Check that there is no other report."""
        assert self._outcomes.empty()
