"""ThreadRunner: runs attempts of tasks on a pool of threads in this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Final

from mini_workflow.attempts import (
    CLOSING,
    TOO_LONG,
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

MAX_DEFAULT_THREADS: Final = 32
MAX_WAITING: Final = 256
"""How many tasks may wait for executions at a time: our own bound, since each keeps a thread."""


def default_threads() -> int:
    """As many as the cores and a few that wait, 32 at most."""
    return min(MAX_DEFAULT_THREADS, (os.cpu_count() or 1) + 4)


class _Attempt:
    __slots__ = ("limits", "over", "request", "task", "thread", "waits")

    def __init__(self, request: TaskRequest) -> None:
        self.request: Final = request
        self.task: CurrentTask | None = None  # once it has begun, as is the next
        self.thread: threading.Thread | None = None
        self.limits: Limits | None = None
        self.waits = False  # for an execution
        self.over = False  # reported, or handed back


class ThreadRunner:
    """A TaskRunner on threads.

    Threads start when they are needed, `threads` at most, and stay. An attempt that runs into its
    timeout, or whose heartbeat is missing, is reported then; its thread is replaced, and whatever
    it still returns is dropped. A thread whose attempt waits for an execution does not count, so
    that what it waits for can run; MAX_WAITING attempts at most may wait like that.
    """

    def __init__(
        self,
        execute: Callable[[TaskRequest], TaskOutcome],
        report: Report,
        threads: int | None = None,
    ) -> None:
        self._size: Final = default_threads() if threads is None else threads
        if self._size < 1:
            raise UsageError(f"threads must be at least 1, not {threads}")
        self._execute: Final = execute
        self._held: Final = Held(report)
        self._report: Final = self._held.report
        self._queue: Final[SimpleQueue[_Attempt | None]] = SimpleQueue()
        self._deadlines: Final = Deadlines(self._expire, "mini-workflow-task-timeouts")
        self._lock: Final = threading.Lock()
        self._attempts: Final[dict[tuple[str, int], _Attempt]] = {}
        self._threads: Final[set[threading.Thread]] = set()
        self._started = 0
        self._idle = 0  # threads that wait and that no queued attempt is meant for
        self._waiting = 0  # queued attempts that no waiting thread is meant for
        self._asleep = 0  # threads whose attempts wait for an execution
        self._closed = False
        self._returned: Final[list[TaskRequest]] = []  # that were told to end, and did

    def submit(self, request: TaskRequest) -> None:
        """See TaskRunner. Raises RuntimeClosed after `close`."""
        attempt = _Attempt(request)
        with self._lock:
            if self._closed:
                raise RuntimeClosed("the runner of tasks was closed")
            self._attempts[request.execution_id, request.seq] = attempt
            self._held.add(request)
            if self._idle:
                self._idle -= 1
            elif len(self._threads) - self._asleep < self._size:
                self._start_thread()
            else:
                self._waiting += 1
        self._queue.put(attempt)

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        """See TaskRunner: drops an attempt that has not begun, and tells one that has."""
        with self._lock:
            attempt = self._attempts.get((execution_id, seq))
            if attempt is None:
                return
            task = attempt.task
            if task is None:
                self._end(attempt)
        if task is None:
            self._report(cancelled(attempt.request))
        else:
            task.cancel(reason)

    def holds(self, key: tuple[str, int, int]) -> bool:
        """See TaskRunner."""
        return key in self._held

    def close(self, grace: float) -> list[TaskRequest]:
        """See TaskRunner."""
        ends_at = time.monotonic() + grace
        self.prepare_close()
        with self._lock:
            not_begun = [one for one in self._attempts.values() if one.task is None]
            for attempt in not_begun:
                self._end(attempt)
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, ends_at - time.monotonic()))
        with self._lock:
            running = list(self._attempts.values())
            for attempt in running:
                self._end(attempt)
            returned = [*self._returned]
            self._returned.clear()
        for attempt in running:
            if attempt.task is not None:
                attempt.task.cancel(CLOSING)
                returned.append(handed_back(attempt.request, attempt.task.details))
        self._deadlines.close()
        self._held.clear()
        return [*(attempt.request for attempt in not_begun), *returned]

    def prepare_close(self) -> None:
        """Begin nothing any more, and tell what runs that it shall end."""
        with self._lock:
            self._closed = True
            for attempt in self._attempts.values():
                if attempt.task is not None:
                    attempt.task.tell(CLOSING)

    def _start_thread(self) -> None:
        self._started += 1
        thread = threading.Thread(
            target=self._work, name=f"mini-workflow-task-{self._started}", daemon=True
        )
        self._threads.add(thread)
        thread.start()

    def _end(self, attempt: _Attempt) -> bool:
        """Answers whether the caller is the one who ended it. With the lock held."""
        if attempt.over:
            return False
        attempt.over = True
        key = attempt.request.execution_id, attempt.request.seq
        if self._attempts.get(key) is attempt:
            del self._attempts[key]
        return True

    def _work(self) -> None:
        this = threading.current_thread()
        while True:
            attempt = self._queue.get()
            if attempt is None:
                return
            outcome = self._run(attempt)
            with self._lock:
                if this not in self._threads:
                    return  # it was replaced
                surplus = len(self._threads) - self._asleep > self._size
                if surplus:
                    self._threads.discard(this)  # others have waited, and go on
                elif self._waiting:
                    self._waiting -= 1
                else:
                    self._idle += 1
                mine = self._end(attempt)
                if mine and outcome is not None and self._closed and was_cancelled(outcome):
                    self._returned.append(handed_back(attempt.request, outcome.heartbeat))
                    mine = False
            if mine and outcome is not None:
                self._report(outcome)
            if surplus:
                return
            del attempt, outcome  # what they hold must not live until the next one

    def _run(self, attempt: _Attempt) -> TaskOutcome | None:
        request = attempt.request
        timeout = request.timeout
        limits = Limits.of(request)
        task = CurrentTask(
            request,
            None if timeout is None else time.time() + timeout / 1000,
            None if limits is None else limits.beat,
        )
        task.on_wait = partial(self._wait, attempt)
        with self._lock:
            if attempt.over:
                return None
            attempt.task = task
            attempt.limits = limits
            attempt.thread = threading.current_thread()
        if limits is not None:
            self._deadlines.watch(attempt, limits.due)
        token = CURRENT.set(task)
        try:
            return self._execute(request)
        except BaseException as error:
            return broken(request, error, task.details)
        finally:
            CURRENT.reset(token)
            if limits is not None:
                self._deadlines.forget(attempt)

    @contextmanager
    def _wait(self, attempt: _Attempt) -> Generator[None]:
        """Surrounds a wait of the attempt for an execution: its thread does not count meanwhile."""
        with self._lock:
            # Threads that the attempt has started itself are none of the pool's.
            mine = attempt.thread is threading.current_thread() and not attempt.over
            if mine and self._asleep >= MAX_WAITING:
                request = attempt.request
                raise UsageError(
                    f"task {request.name!r} of execution {request.execution_id!r} cannot wait for"
                    f" an execution: {MAX_WAITING} tasks do so already, and each keeps a thread."
                    " Have workflows wait for executions, with ctx.child, instead of tasks"
                )
            if mine:
                attempt.waits = True
                self._asleep += 1
                if self._waiting and not self._closed:
                    self._waiting -= 1
                    self._start_thread()
        try:
            yield
        finally:
            if mine:
                with self._lock:
                    self._wakes(attempt)

    def _wakes(self, attempt: _Attempt) -> None:
        """Its thread counts again, unless that was noted before. With the lock held."""
        if attempt.waits:
            attempt.waits = False
            self._asleep -= 1

    def _expire(self, attempt: _Attempt) -> None:
        with self._lock:
            limits, task = attempt.limits, attempt.task
            if attempt.over or limits is None or task is None:
                return
            if limits.due > time.monotonic():  # there was a heartbeat
                self._deadlines.watch(attempt, limits.due)
                return
            self._end(attempt)
            # Its thread may never come back: it no longer counts, and ends when it does.
            if attempt.thread is not None:
                self._threads.discard(attempt.thread)
                self._wakes(attempt)
            if self._waiting and not self._closed:
                self._waiting -= 1
                self._start_thread()
        if limits.silent:
            task.cancel(TOO_SILENT)
            self._report(silent(attempt.request, task.details))
        else:
            task.cancel(TOO_LONG)
            self._report(timed_out(attempt.request, task.details))
