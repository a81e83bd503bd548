"""EventLoopRunner: runs attempts of async tasks together on one event loop in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final

from mini_workflow.attempts import (
    CLOSING,
    TOO_SILENT,
    Deadlines,
    Held,
    Limits,
    broken,
    cancelled,
    handed_back,
    silent,
    timed_out,
    was_cancelled,
)
from mini_workflow.errors import RuntimeClosed, UsageError
from mini_workflow.ports import Report, TaskOutcome, TaskRequest
from mini_workflow.task import CURRENT, CurrentTask

DEFAULT_CONCURRENCY: Final = 1_000
CLEANUP_GRACE: Final = 1.0
"""Seconds that an async task has for its cleanup, after its timeout or after the runner's grace."""


class _Attempt:
    __slots__ = ("current", "limits", "over", "request", "silent", "task")

    def __init__(self, request: TaskRequest) -> None:
        self.request: Final = request
        self.current: CurrentTask | None = None  # once it has begun, as is the next
        self.task: asyncio.Task[None] | None = None
        self.limits: Limits | None = None
        self.silent = False  # given up, because its heartbeat is missing
        self.over = False  # reported, or handed back


class EventLoopRunner:
    """A TaskRunner on an event loop, which runs on a daemon thread from the first attempt on.

    `concurrency` bounds how many attempts run at a time. `execute` enforces timeouts itself, and
    an attempt whose heartbeat is missing is cancelled. One that does not end by that, because it
    blocks the loop or resists its cancellation, is reported as timed out CLEANUP_GRACE later.
    """

    def __init__(
        self,
        execute: Callable[[TaskRequest], Coroutine[Any, Any, TaskOutcome]],
        report: Report,
        concurrency: int = DEFAULT_CONCURRENCY,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"concurrency must be at least 1, not {concurrency}")
        self._execute: Final = execute
        self._held: Final = Held(report)
        self._report: Final = self._held.report
        self._concurrency: Final = concurrency
        self._lock: Final = threading.Lock()
        self._attempts: Final[dict[tuple[str, int], _Attempt]] = {}
        self._inbox: Final[deque[_Attempt]] = deque()  # not begun, in order
        self._deadlines: Final = Deadlines(self._expire, "mini-workflow-async-timeouts")
        self._drained: Final = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._running = 0
        self._woken = False  # the loop is about to look at the inbox
        self._closed = False
        self._stopping = False
        self._returned: Final[list[TaskRequest]] = []  # that were told to end, and did

    def submit(self, request: TaskRequest) -> None:
        """See TaskRunner. Raises RuntimeClosed after `close`."""
        attempt = _Attempt(request)
        with self._lock:
            if self._closed:
                raise RuntimeClosed("the runner of tasks was closed")
            self._attempts[request.execution_id, request.seq] = attempt
            self._held.add(request)
            self._inbox.append(attempt)
            self._wake()

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        """See TaskRunner: drops an attempt that has not begun, and cancels one that has."""
        with self._lock:
            attempt = self._attempts.get((execution_id, seq))
            if attempt is None:
                return
            current, task = attempt.current, attempt.task
            if current is None or task is None:
                self._end(attempt)
            else:
                current.cancel(reason)
                task.get_loop().call_soon_threadsafe(task.cancel)
        if current is None:
            self._report(cancelled(attempt.request))

    def holds(self, key: tuple[str, int, int]) -> bool:
        """See TaskRunner."""
        return key in self._held

    def close(self, grace: float) -> list[TaskRequest]:
        """See TaskRunner. What still runs after the grace is cancelled."""
        self.prepare_close()
        with self._lock:
            not_begun = [one for one in self._attempts.values() if one.current is None]
            for attempt in not_begun:
                self._end(attempt)
            self._inbox.clear()
            loop, thread = self._loop, self._thread
            running: list[_Attempt] = []
            if not self._running:
                self._drained.set()
        if loop is not None and thread is not None and thread.is_alive():
            self._drained.wait(grace)
            with self._lock:
                running = list(self._attempts.values())
                for attempt in running:
                    self._end(attempt)
                self._stopping = True
                loop.call_soon_threadsafe(loop.stop)
            if thread is not threading.current_thread():
                thread.join(2 * CLEANUP_GRACE)
        self._deadlines.close()
        self._held.clear()
        # What a task has said in its cleanup is among the details.
        returned = [
            handed_back(attempt.request, attempt.current.details)
            for attempt in running
            if attempt.current is not None
        ]
        returned += self._returned
        self._returned.clear()
        return [*(attempt.request for attempt in not_begun), *returned]

    def prepare_close(self) -> None:
        """Begin nothing any more, and tell what runs that it shall end."""
        with self._lock:
            self._closed = True
            for attempt in self._attempts.values():
                if attempt.current is not None:
                    attempt.current.tell(CLOSING)

    def _wake(self) -> None:
        """Have the loop look at the inbox: once for all that is put in until it does."""
        if self._woken:
            return
        self._woken = True
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._serve, args=(self._loop,), name="mini-workflow-async", daemon=True
            )
            self._thread.start()
        self._loop.call_soon_threadsafe(self._begin, context=Context())

    def _end(self, attempt: _Attempt) -> bool:
        """Answers whether the caller is the one who ended it. With the lock held."""
        if attempt.over:
            return False
        attempt.over = True
        if attempt.current is not None:
            self._running -= 1
            if self._inbox and not self._closed:
                self._wake()
            elif self._closed and not self._running:
                self._drained.set()
        key = attempt.request.execution_id, attempt.request.seq
        if self._attempts.get(key) is attempt:
            del self._attempts[key]
        return True

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            self._woken = False
            while self._inbox and self._running < self._concurrency:
                attempt = self._inbox.popleft()
                if attempt.over:
                    continue
                request = attempt.request
                limits = attempt.limits = Limits.of(request, CLEANUP_GRACE)
                if limits is None:
                    attempt.current = CurrentTask(request)
                else:
                    timeout = request.timeout
                    deadline = None if timeout is None else time.time() + timeout / 1000
                    attempt.current = CurrentTask(request, deadline, limits.beat)
                    self._deadlines.watch(attempt, limits.due)
                self._running += 1
                # A context of its own: the one at hand is that of whoever woke the loop.
                work = self._run(attempt, attempt.current)
                attempt.task = loop.create_task(work, context=Context())

    async def _run(self, attempt: _Attempt, current: CurrentTask) -> None:
        request = attempt.request
        CURRENT.set(current)
        try:
            outcome = await self._execute(request)
        except asyncio.CancelledError:
            outcome = cancelled(request)
        except BaseException as error:
            outcome = broken(request, error, current.details)
        if attempt.limits is not None:
            self._deadlines.forget(attempt)
        with self._lock:
            mine = self._end(attempt)
            if mine and self._closed and was_cancelled(outcome):
                self._returned.append(handed_back(request, current.details))
                mine = False
        if mine:
            self._report(silent(request, current.details) if attempt.silent else outcome)

    def _expire(self, attempt: _Attempt) -> None:
        with self._lock:
            current, task, limits = attempt.current, attempt.task, attempt.limits
            if attempt.over or current is None or task is None or limits is None:
                return
            now = time.monotonic()
            if not attempt.silent:
                if limits.due > now:  # there was a heartbeat
                    self._deadlines.watch(attempt, limits.due)
                    return
                if limits.silent:
                    attempt.silent = True
                    current.cancel(TOO_SILENT)
                    task.get_loop().call_soon_threadsafe(task.cancel)
                    self._deadlines.watch(attempt, now + CLEANUP_GRACE)
                    return
            self._end(attempt)
        outcome = silent if attempt.silent else timed_out
        self._report(outcome(attempt.request, current.details))

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping:
            try:
                loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                # Raised by something that a task has started, and set on it; asyncio lets the two
                # through all the same. The other tasks go on.
                continue
        try:
            leftovers = asyncio.all_tasks(loop)
            for task in leftovers:
                task.cancel()
            if leftovers:
                loop.run_until_complete(asyncio.wait(leftovers, timeout=CLEANUP_GRACE))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            # Whoever resists even now is dropped without a word.
            loop.set_exception_handler(lambda _loop, _context: None)
            loop.close()
