"""EventLoopRunner: runs attempts of async tasks together on one event loop in this process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import Context
from typing import Any, Final

from mini_workflow.attempts import CLOSING, Limits, broken, handed_back
from mini_workflow.errors import UsageError
from mini_workflow.loop.running import running_loop
from mini_workflow.ports import AttemptCounts, Report, TaskOutcome, TaskRequest
from mini_workflow.runners.attempts import Attempt, Attempts, was_stopped
from mini_workflow.runners.loop_monitor import LoopMonitor, task_name
from mini_workflow.task import CURRENT, CurrentTask
from mini_workflow.threads import NoThread, start_thread
from mini_workflow.waiting import WAY_OUT, Fail, add_loop_user

log = logging.getLogger("mini_workflow.engine")

DEFAULT_CONCURRENCY: Final = 1_000
CLEANUP_GRACE: Final = 1.0
"""Seconds that an async task has to clean up, after its timeout or after the runner's grace."""

LAST_MOMENTS: Final = 0.5
"""Seconds that an application's loop lives on at most once it has cancelled all tasks because it ends,
as `asyncio.run` does. Our own bound."""

LOOP_ENDED: Final = "the event loop that it ran on has ended, and the task begins again on another"
"""The reason that is told to an attempt which moves to another loop."""


class _Attempt(Attempt):
    task: asyncio.Task[None] | None = None  # once it has begun

    def stop(self) -> None:
        """Have asyncio cancel it. Any thread."""
        task = self.task
        if task is not None:
            with suppress(RuntimeError):  # the loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)


class EventLoopRunner:
    """A TaskRunner on an event loop.

    Attempts run on `loop`, the one of the application, for as long as it runs; the caller is on its
    thread. When that loop has stopped or was closed, its unfinished attempts begin again on a loop of
    the runner's own. Without `loop` all attempts run on the runner's own loop: on a daemon thread, which
    starts with the first of them.

    `concurrency` bounds how many attempts run at a time. `execute` enforces timeouts itself, and
    an attempt whose heartbeat is missing is cancelled. An attempt that does not end then, because it
    blocks the loop or resists its cancellation, is reported as timed out CLEANUP_GRACE later. When the
    loop does not answer for a second or two, a warning in the log names the task.

    With `hand_in`, the thread of the runner's own loop reports there, and may be kept for a while to
    do the engine's work: between two passes of the loop, and only while no other attempt is there.

    Raises UsageError for a `concurrency` below 1.
    """

    def __init__(
        self,
        execute: Callable[[TaskRequest], Coroutine[Any, Any, TaskOutcome]],
        report: Report,
        concurrency: int = DEFAULT_CONCURRENCY,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        hand_in: Report | None = None,
        now: Callable[[], int] | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"concurrency must be at least 1, not {concurrency}")
        self._execute: Final = execute
        self._hand_in: Final = hand_in
        self._last: TaskOutcome | None = None  # to be handed in when the loop has made its pass
        self._concurrency: Final = concurrency
        self._attempts: Final[Attempts[_Attempt]] = Attempts(
            self, report, "mini-workflow-async-timeouts", now
        )
        self._inbox: Final[deque[_Attempt]] = deque()  # not begun, in order
        attempts = self._attempts
        self._monitor: Final = LoopMonitor(
            attempts.deadlines, lambda: bool(attempts), log.warning, self._leave
        )
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._thread: threading.Thread | None = None  # of the loop, if that is the runner's own
        self._woken = False  # the loop is about to look at the inbox
        self._unfinished = 0  # attempts that asyncio has not done with, over or not
        self._finished: Final = threading.Event()  # set when there are none, after a close
        self._stopping = False
        self._refuse: Fail | None = None  # ends the wait that keeps the loop from running
        if loop is not None:
            add_loop_user(self)

    def submit(self, request: TaskRequest) -> None:
        """See TaskRunner. Raises RuntimeClosed after `close`, and NoThread."""
        attempt = _Attempt(request)
        with self._attempts.lock:
            self._attempts.take(attempt)
            self._inbox.append(attempt)
            try:
                ended = self._wake()
            except NoThread:
                self._inbox.remove(attempt)
                self._attempts.forget(attempt)
                raise
            refuse = self._refuse
        if refuse is not None:
            refuse(_held_up(request))
        if ended is not None:
            self._leave(ended)

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        """See TaskRunner: drops an attempt that has not begun, and cancels one that has."""
        self._attempts.cancel(execution_id, seq, reason)

    def holds(self, key: tuple[str, int, int]) -> bool:
        """See TaskRunner."""
        return self._attempts.holds(key)

    def details(self, key: tuple[str, int, int]) -> str | None:
        """See `Closing.details`."""
        return self._attempts.details(key)

    def counts(self) -> AttemptCounts:
        """See CountingRunner."""
        return self._attempts.counts()

    def close(self, grace: float) -> list[TaskRequest]:
        """See TaskRunner. Attempts that still run after the grace are cancelled.

        On the thread of the loop itself it does not wait, since no attempt can end meanwhile.
        """
        self._attempts.stop()
        with self._attempts.lock:
            loop, thread = self._loop, self._thread
            self._inbox.clear()
        if loop is None:
            return self._attempts.handed_back()
        runs = loop.is_running() if thread is None else thread.is_alive()
        waits = runs and running_loop() is not loop
        if waits:
            self._attempts.drained.wait(grace)
        running = self._attempts.end_all()
        if thread is None:
            for attempt in running:
                attempt.stop()
            with self._attempts.lock:
                if not self._unfinished:
                    self._finished.set()
            if waits:
                self._finished.wait(CLEANUP_GRACE)
        else:
            self._stopping = True
            with suppress(RuntimeError):  # it was closed before
                loop.call_soon_threadsafe(loop.stop)
            if waits:
                thread.join(2 * CLEANUP_GRACE)
        return self._attempts.handed_back()

    def prepare_close(self) -> None:
        """Begin no attempt any more, and tell the running ones to end."""
        self._attempts.stop()

    # For `blocking_wait`

    def waits(
        self, loop: asyncio.AbstractEventLoop, fail: Fail
    ) -> AbstractContextManager[None] | None:
        """See LoopUser."""
        with self._attempts.lock:
            if loop is not self._loop:
                return None
            held_up = next(iter(self._attempts), None)
            if held_up is not None:
                raise _held_up(held_up.request)
            self._refuse = fail
        return self._wait()

    @contextmanager
    def _wait(self) -> Generator[None]:
        try:
            yield
        finally:
            self._refuse = None

    # For the attempts

    def tell(self, attempt: _Attempt, reason: str) -> None:
        """See Owner."""
        if attempt.current is not None:
            attempt.current.tell(reason)
        if reason != CLOSING:
            attempt.stop()

    def grace(self, _attempt: _Attempt) -> float:
        """See Owner."""
        return CLEANUP_GRACE

    def give_up(self, _attempt: _Attempt) -> Callable[[], None] | None:
        """See Owner."""
        ended = self._wake() if self._inbox else None
        return None if ended is None else lambda: self._leave(ended)

    # With the lock held

    def _wake(self) -> asyncio.AbstractEventLoop | None:
        """Have the loop look at the inbox, unless it is about to.

        Returns the loop if it is closed: the caller then calls `_leave` with it, without the lock.
        """
        if self._woken:
            return None
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._serve, args=(loop,), name="mini-workflow-async", daemon=True
            )
            try:
                start_thread(self._thread)
            except NoThread:
                self._loop = self._thread = None
                loop.close()
                raise
            self._loop_thread = self._thread.ident or 0
        try:
            loop.call_soon_threadsafe(self._begin, context=Context())
        except RuntimeError:
            return loop
        self._woken = True
        self._monitor.watch(loop, self._loop_thread)
        return None

    def _move(self, loop: asyncio.AbstractEventLoop) -> int:
        """Begin the attempts of a loop that has ended again. Answers how many had begun."""
        self._loop = None
        self._woken = False
        moved = [attempt for attempt in self._attempts if attempt.begun]
        for attempt in reversed(moved):
            if attempt.current is not None:
                attempt.current.cancel(LOOP_ENDED)
            attempt.stop()  # for a loop that is only stopped, and goes on one day
            if self._attempts.closed:
                self._attempts.hand_back(attempt, attempt.details)
                continue
            self._attempts.end(attempt)
            again = _Attempt(handed_back(attempt.request, attempt.details))
            self._attempts.take(again)
            self._inbox.appendleft(again)
        if self._inbox:
            self._wake()
        return len(moved)

    # Without it

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on with a loop of the runner's own: the application's was closed, or has stopped."""
        with self._attempts.lock:
            if loop is not self._loop or self._thread is not None:
                return
            moved = self._move(loop)
        log.warning(
            "the event loop in which the runtime was opened has been %s: async tasks run on a loop of"
            " the runtime's own from now on (tasks that begin again there: %d)",
            "closed" if loop.is_closed() else "stopped",
            moved,
        )

    # On the loop

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        with self._attempts.lock:
            if loop is not self._loop:
                return  # it was left
            self._woken = False
            while self._inbox and self._attempts.begun < self._concurrency:
                attempt = self._inbox.popleft()
                request = attempt.request
                limits = Limits.of(request, CLEANUP_GRACE)
                current = self._attempts.begin_here(attempt, limits)
                if current is None:
                    continue
                self._unfinished += 1
                # A context of its own: the present one is that of the thread that woke the loop. Not by
                # the loop's own factory, which may begin at once, while the lock is held.
                work = self._run(attempt, current)
                attempt.task = asyncio.Task(
                    work, loop=loop, name=task_name(current), context=Context()
                )

    async def _run(self, attempt: _Attempt, current: CurrentTask) -> None:
        request = attempt.request
        CURRENT.set(current)
        outcome: TaskOutcome | None = None
        try:
            outcome = await self._execute(request)
        except asyncio.CancelledError:
            if current.is_told or self._thread is not None:
                outcome = was_stopped(current)
            else:
                # If the loop ends now, this is not called, and the attempt is moved.
                loop = asyncio.get_running_loop()
                loop.call_later(LAST_MOMENTS, self._lose, attempt, current, context=Context())
        except GeneratorExit:
            outcome = was_stopped(current)
        except BaseException as error:
            outcome = broken(request, error, current.details)
        if outcome is not None:
            self._finish(attempt, outcome)
        with self._attempts.lock:
            self._unfinished -= 1
            if self._attempts.closed and not self._unfinished:
                self._finished.set()

    def _lose(self, attempt: _Attempt, current: CurrentTask) -> None:
        """Report an attempt that the application has cancelled, and whose loop goes on, as lost."""
        self._finish(attempt, was_stopped(current))

    def _finish(self, attempt: _Attempt, outcome: TaskOutcome) -> None:
        with self._attempts.lock:
            report = self._attempts.finish(attempt, outcome)
            if self._inbox and not self._attempts.closed:
                self._wake()
            alone = self._thread is not None and not self._attempts
        if report is None:
            return
        if alone and self._hand_in is not None and self._last is None:
            self._last = report
            asyncio.get_running_loop().stop()
        else:
            self._attempts.report(report)

    # On the thread of the runner's own loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping:
            # asyncio lets these two through when code that a task has started raises them. The other
            # tasks go on.
            with suppress(KeyboardInterrupt, SystemExit):
                loop.run_forever()
            if (last := self._last) is not None:
                self._last = None
                self._attempts.report(last, self._hand_in)
                last = None
        try:
            leftovers = asyncio.all_tasks(loop)
            for task in leftovers:
                task.cancel()
            if leftovers:
                _complete(loop, asyncio.wait(leftovers, timeout=CLEANUP_GRACE))
            _complete(loop, loop.shutdown_asyncgens())
            _complete(loop, loop.shutdown_default_executor())
        finally:
            # A task that resists even now is dropped without a message.
            loop.set_exception_handler(lambda _loop, _context: None)
            loop.close()


def _complete(loop: asyncio.AbstractEventLoop, last: Coroutine[Any, Any, Any]) -> None:
    """Run the loop until this is done, also if it was asked to stop before.

    `run_until_complete` would raise then, and leave the rest of what is to be cleaned up.
    """
    task = loop.create_task(last)
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        loop.run_forever()
    task.result()


def _held_up(request: TaskRequest) -> UsageError:
    return UsageError(
        f"async task {request.name!r} of execution {request.execution_id!r} runs on the event loop"
        f" of this thread, which must not wait for an execution meanwhile: {WAY_OUT}"
    )
