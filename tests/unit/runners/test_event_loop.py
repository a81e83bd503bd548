"""What becomes of async attempts when their loop ends, is blocked, or is somebody else's."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.errors import UsageError, WorkerLost
from mini_workflow.ports import TaskOutcome, TaskRequest
from mini_workflow.runners.event_loop import EventLoopRunner, _complete
from mini_workflow.runners.loop_monitor import LoopMonitor
from mini_workflow.task import current_task
from mini_workflow.testing.contracts.runner_tasks import Gate
from mini_workflow.waiting import blocking_wait
from tests.contracts.worker_code import CODEC, EXECUTE_ASYNC
from tests.waiting import WAIT, eventually

APPLICATION = "application"
OWN = "mini-workflow-async"


class Loop:
    """An event loop of an application, on a thread, which the test may stop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name=APPLICATION)
        self.thread.start()

    def do(self, function: Callable[[], Any]) -> Any:
        """Call it on the loop's thread."""

        async def call() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(WAIT)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def close(self) -> None:
        if self.thread.is_alive():
            self.stop()
        for task in asyncio.all_tasks(self.loop) if not self.loop.is_closed() else ():
            task.cancel()
        if not self.loop.is_closed():
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()


class Runner:
    """A runner on such a loop, and its reports."""

    def __init__(self, loop: Loop) -> None:
        self.outcomes: SimpleQueue[TaskOutcome] = SimpleQueue()
        self.submitted = 0
        self.runner: EventLoopRunner = loop.do(
            lambda: EventLoopRunner(
                EXECUTE_ASYNC, self.outcomes.put, loop=asyncio.get_running_loop()
            )
        )
        # The test says when a second has passed.
        self.monitor: LoopMonitor = self.runner._monitor
        self.monitor._watcher = self  # type: ignore[misc]
        self.watched = 0

    def watch(self, _item: object, _at: float) -> None:
        self.watched += 1

    def submit(self, function: Callable[..., Any], *args: object, **limits: Any) -> TaskRequest:
        self.submitted += 1
        payload = CODEC.capture(function, args, {})
        request = TaskRequest("e", self.submitted, 1, "work", payload, is_async=True, **limits)
        self.runner.submit(request)
        return request

    def next(self) -> Any:
        outcome = self.outcomes.get(timeout=WAIT)
        if outcome.failure is not None:
            return CODEC.decode_failure(Failure.from_plain(outcome.failure))
        return CODEC.decode(Payload(text=outcome.result))


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def runner(loop: Loop) -> Iterator[Runner]:
    made = Runner(loop)
    yield made
    made.runner.close(0)


async def where() -> str:
    return threading.current_thread().name


async def hold(gate: Gate) -> tuple[str, object, int]:
    """Says on which thread it ends, what the one before had said, and which attempt it is."""
    current_task().heartbeat("begun")
    gate.begun.touch()
    while not gate.opened.exists():
        await asyncio.sleep(0.001)
    return threading.current_thread().name, current_task().last_heartbeat, current_task().attempt


def test_attempts_run_on_the_loop_that_is_given(loop: Loop, runner: Runner) -> None:
    runner.submit(where)
    assert runner.next() == APPLICATION


def test_without_one_they_run_on_a_thread_of_their_own(loop: Loop) -> None:
    outcomes: SimpleQueue[TaskOutcome] = SimpleQueue()
    runner = EventLoopRunner(EXECUTE_ASYNC, outcomes.put)
    try:
        payload = CODEC.capture(where, (), {})
        runner.submit(TaskRequest("e", 1, 1, "work", payload, is_async=True))
        found = CODEC.decode(Payload(text=outcomes.get(timeout=WAIT).result))
        assert found == OWN
    finally:
        runner.close(0)


def test_the_task_factory_of_the_application_is_not_used(loop: Loop, runner: Runner) -> None:
    """One that begins tasks at once would begin them while the runner's lock is held."""

    def factory(_loop: object, _coroutine: object, **_options: object) -> Any:
        raise AssertionError("called")

    loop.do(lambda: loop.loop.set_task_factory(factory))
    runner.submit(where)
    assert runner.next() == APPLICATION
    loop.loop.call_soon_threadsafe(loop.loop.set_task_factory, None)


@pytest.mark.parametrize("how", ["closed", "stopped"])
def test_what_ran_on_a_loop_that_has_ended_begins_again(
    loop: Loop, runner: Runner, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Law: the end of the application's loop costs no attempt, and loses no heartbeat."""
    gate = Gate(tmp_path)
    runner.submit(hold, gate)
    Gate.wait(gate.begun)
    loop.stop()
    suspended = asyncio.all_tasks(loop.loop)
    if how == "closed":
        loop.loop.close()
        runner.monitor.look()
    else:
        runner.monitor.look()
        assert caplog.messages == []  # it may go on the next moment
        runner.monitor.look()
    gate.open()
    thread, before, attempt = runner.next()
    assert (before, attempt) == ("begun", 1)
    assert thread == OWN
    assert [message for message in caplog.messages if how in message]
    runner.submit(where)
    assert runner.next() == OWN
    assert runner.outcomes.empty()
    if how == "closed":
        for task in suspended:  # as asyncio does when it is collected, but without a warning
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            coroutine.close()
    assert runner.outcomes.empty()


def test_a_loop_that_goes_on_the_next_moment_keeps_its_attempts(
    loop: Loop, runner: Runner, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    runner.submit(hold, gate)
    Gate.wait(gate.begun)
    loop.stop()
    runner.monitor.look()
    loop.thread = threading.Thread(target=loop.loop.run_forever, name=APPLICATION)
    loop.thread.start()
    eventually(loop.loop.is_running)
    runner.monitor.look()
    gate.open()
    assert runner.next()[1:] == (None, 1)


def test_what_is_submitted_to_a_closed_loop_runs_elsewhere(loop: Loop, runner: Runner) -> None:
    loop.close()
    runner.submit(where)
    assert runner.next() == OWN


def test_what_had_not_begun_on_a_loop_that_has_stopped_begins_elsewhere(
    loop: Loop, runner: Runner
) -> None:
    loop.stop()
    runner.submit(where)
    runner.monitor.look()
    runner.monitor.look()
    assert runner.next() == OWN


def test_closing_does_not_wait_for_a_loop_that_has_ended(
    loop: Loop, runner: Runner, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    request = runner.submit(hold, gate)
    Gate.wait(gate.begun)
    loop.stop()
    (returned,) = runner.runner.close(10 * WAIT)
    assert returned.key == request.key
    assert returned.heartbeat is not None


def test_closing_is_woken_when_the_loop_ends(loop: Loop, runner: Runner, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    request = runner.submit(hold, gate)
    Gate.wait(gate.begun)
    returned: list[TaskRequest] = []
    closing = threading.Thread(target=lambda: returned.extend(runner.runner.close(10 * WAIT)))
    closing.start()
    eventually(lambda: runner.runner._attempts.closed)
    loop.stop()
    runner.monitor.look()
    runner.monitor.look()
    closing.join(WAIT)
    assert [one.key for one in returned] == [request.key]


def test_closing_on_the_loops_own_thread_waits_for_nothing(
    loop: Loop, runner: Runner, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    request = runner.submit(hold, gate)
    Gate.wait(gate.begun)
    (returned,) = loop.do(lambda: runner.runner.close(10 * WAIT))
    assert returned.key == request.key
    assert returned.heartbeat is not None
    eventually(lambda: not loop.do(lambda: asyncio.all_tasks() - {asyncio.current_task()}))
    assert runner.outcomes.empty()


def test_what_the_application_cancels_is_lost(loop: Loop, runner: Runner, tmp_path: Path) -> None:
    """Law: an attempt that nobody of the engine has cancelled is reported, as one whose worker died."""
    gate = Gate(tmp_path)
    runner.submit(hold, gate)
    Gate.wait(gate.begun)

    def cancel_all() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    loop.do(cancel_all)
    error = runner.next()
    assert isinstance(error, WorkerLost)
    assert "'work'" in str(error)
    runner.submit(where)
    assert runner.next() == APPLICATION


def test_what_the_application_cancels_while_it_closes_is_handed_back(
    loop: Loop, runner: Runner, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    request = runner.submit(hold, gate)
    Gate.wait(gate.begun)
    runner.runner.prepare_close()
    loop.do(lambda: [task.cancel() for task in asyncio.all_tasks() - {asyncio.current_task()}])
    (returned,) = runner.runner.close(WAIT)
    assert returned.key == request.key
    assert runner.outcomes.empty()


# Waiting on the thread of the loop


def wait_on(loop: Loop, inside: Callable[[], None] = lambda: None) -> BaseException | None:
    """Wait there for something; the error with which the wait has ended."""
    failed: list[BaseException] = []

    def wait() -> None:
        with blocking_wait(failed.append):
            inside()

    try:
        loop.do(wait)
    except UsageError as error:
        return error
    return failed[0] if failed else None


def test_a_wait_that_holds_up_an_attempt_is_refused(
    loop: Loop, runner: Runner, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    runner.submit(hold, gate)
    Gate.wait(gate.begun)
    error = wait_on(loop)
    assert isinstance(error, UsageError)
    assert "async task 'work' of execution 'e'" in str(error)
    assert "await execution" in str(error)
    gate.open()
    runner.next()
    assert wait_on(loop) is None


def test_a_wait_is_ended_by_an_attempt_that_comes_meanwhile(loop: Loop, runner: Runner) -> None:
    error = wait_on(loop, lambda: runner.submit(where) and None)
    assert isinstance(error, UsageError)
    assert runner.next() == APPLICATION


def test_every_runner_on_the_loop_is_asked(loop: Loop, runner: Runner) -> None:
    other = Runner(loop)
    try:
        for each in (runner, other):
            assert isinstance(wait_on(loop, partial(each.submit, where)), UsageError)
            assert each.next() == APPLICATION
    finally:
        other.runner.close(0)


def test_waits_elsewhere_hold_up_nothing(loop: Loop, runner: Runner) -> None:
    other = Loop()
    try:
        assert wait_on(other, lambda: runner.submit(where) and None) is None
        assert runner.next() == APPLICATION
    finally:
        other.close()
    with blocking_wait(pytest.fail):
        runner.submit(where)
        assert runner.next() == APPLICATION


# A loop that does not answer


class Block:
    """Code that blocks a loop until the test lets it go on."""

    blocks = threading.Event()
    goes_on = threading.Event()

    @classmethod
    def begin(cls) -> None:
        cls.blocks.clear()
        cls.goes_on.clear()


async def blocker() -> str:
    Block.blocks.set()
    assert Block.goes_on.wait(WAIT)  # this line
    return "done"


async def blocks_in_a_child() -> str:
    async with asyncio.TaskGroup() as group:
        child = group.create_task(blocker())
    return child.result()


LINE = blocker.__code__.co_firstlineno + 2


@pytest.fixture(params=["application", "own"])
def watched(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """A runner on the application's loop, and one on its own."""
    loop = Loop()
    runner = Runner(loop)
    if request.param == "own":
        loop.close()
    yield runner
    Block.goes_on.set()
    runner.runner.close(0)
    loop.close()


def test_a_task_that_blocks_the_loop_is_named(
    watched: Runner, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mini_workflow.runners.loop_monitor.INTERVAL", 3 * WAIT)
    Block.begin()
    watched.submit(where)
    watched.next()
    caplog.clear()
    watched.submit(blocker)
    assert Block.blocks.wait(WAIT)
    watched.monitor.look()  # asks
    assert caplog.messages == []
    watched.monitor.look()
    watched.monitor.look()
    (said,) = caplog.messages  # not at every look
    assert caplog.records[0].levelname == "WARNING"
    assert "async task 'work' of execution 'e' blocks it" in said
    assert f"{__file__}:{LINE} in blocker" in said
    monkeypatch.setattr("mini_workflow.runners.loop_monitor.INTERVAL", 0.0)
    watched.monitor._warn_after = 0.0
    watched.monitor.look()
    eventually(lambda: watched.monitor.look() or caplog.messages[2:])  # as long again and again
    Block.goes_on.set()
    assert watched.next() == "done"


def test_each_time_that_it_blocks(watched: Runner, caplog: pytest.LogCaptureFixture) -> None:
    watched.submit(where)
    watched.next()
    caplog.clear()
    for number in range(1, 3):
        Block.begin()
        watched.submit(blocker)
        assert Block.blocks.wait(WAIT)
        watched.monitor.look()
        watched.monitor.look()
        assert len(caplog.messages) == number
        Block.goes_on.set()
        assert watched.next() == "done"


def test_what_a_task_has_started_is_named_too(
    watched: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    Block.begin()
    watched.submit(where)
    watched.next()
    caplog.clear()
    watched.submit(blocks_in_a_child)
    assert Block.blocks.wait(WAIT)
    watched.monitor.look()
    watched.monitor.look()
    (said,) = caplog.messages
    if sys.version_info >= (3, 12):  # before, asyncio does not say whose its task is
        assert "async task 'work' of execution 'e' blocks it" in said
    assert f"{__file__}:{LINE} in blocker" in said


def test_the_application_itself_is_named(
    loop: Loop, runner: Runner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Block.begin()
    gate = Gate(tmp_path)
    runner.submit(hold, gate)
    Gate.wait(gate.begun)
    asyncio.run_coroutine_threadsafe(blocker(), loop.loop)
    assert Block.blocks.wait(WAIT)
    runner.monitor.look()
    runner.monitor.look()
    (said,) = caplog.messages
    assert "'work'" not in said
    assert f"{__file__}:{LINE} in blocker" in said
    Block.goes_on.set()
    gate.open()
    runner.next()


def test_a_loop_that_answers_is_not_blocked(
    watched: Runner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(tmp_path)
    watched.submit(hold, gate)
    Gate.wait(gate.begun)
    caplog.clear()
    for _ in range(3):
        watched.monitor.look()
        eventually(lambda: watched.monitor._asked_at is None)
    assert caplog.messages == []
    gate.open()
    watched.next()


def test_nothing_is_looked_at_without_attempts(watched: Runner) -> None:
    for _ in range(100):
        watched.submit(where)
        watched.next()
    eventually(lambda: not watched.runner._attempts)
    before = watched.watched
    watched.monitor.look()
    assert watched.watched == before <= 2  # once for each loop, not for each attempt
    watched.submit(where)
    watched.next()
    assert watched.watched == before + 1


def test_the_thread_of_the_limits_looks(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    Block.begin()
    outcomes: SimpleQueue[TaskOutcome] = SimpleQueue()
    runner = EventLoopRunner(EXECUTE_ASYNC, outcomes.put)
    try:
        payload = CODEC.capture(blocker, (), {})
        runner.submit(TaskRequest("e", 1, 1, "work", payload, is_async=True))
        eventually(lambda: [text for text in caplog.messages if "in blocker" in text])
        Block.goes_on.set()
        outcomes.get(timeout=WAIT)
    finally:
        Block.goes_on.set()
        runner.close(0)


def test_a_loop_that_was_asked_to_stop_once_more_is_still_cleaned_up() -> None:
    """An attempt may end, and ask for it, in the moment in which its runner is closed."""
    loop, done = asyncio.new_event_loop(), []

    async def clean_up() -> None:
        await asyncio.sleep(0)
        await loop.run_in_executor(None, done.append, "cleaned up")

    loop.call_soon(loop.stop)
    _complete(loop, clean_up())
    _complete(loop, loop.shutdown_default_executor())
    assert done == ["cleaned up"]
    loop.close()
