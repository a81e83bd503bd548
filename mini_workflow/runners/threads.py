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

from mini_workflow.attempts import CLOSING, TOO_LONG, TOO_SILENT, Limits, broken
from mini_workflow.errors import UsageError
from mini_workflow.ports import AttemptCounts, HandIn, Report, TaskOutcome, TaskRequest
from mini_workflow.runners.attempts import Attempt, Attempts
from mini_workflow.task import CURRENT
from mini_workflow.threads import TRY_AGAIN, NoThread, start_thread

MAX_DEFAULT_THREADS: Final = 32
MAX_WAITING: Final = 256
"""The number of tasks that may wait for executions at a time. Our own bound: each keeps a thread."""


def default_threads() -> int:
    """Return the default number of threads: one for each core and four that may wait, 32 at most."""
    return min(MAX_DEFAULT_THREADS, (os.cpu_count() or 1) + 4)


class _Attempt(Attempt):
    thread: threading.Thread | None = None  # once it has begun
    waits = False  # for an execution


class ThreadRunner:
    """A TaskRunner on threads.

    Threads start when they are needed, `threads` at most, and stay. An attempt that runs into its
    timeout, or whose heartbeat is missing, is reported at once; its thread is replaced, and the result
    that it may still return is dropped. A thread whose attempt waits for an execution does not count, so
    that the tasks of that execution can run; MAX_WAITING attempts at most may wait like that.

    With `hand_in`, the threads report there, and may be kept for a while to do the engine's work. A thread
    keeps the first attempt that this work submits for itself, unless other attempts wait for a thread.

    Raises UsageError for fewer than 1 thread.
    """

    def __init__(
        self,
        execute: Callable[[TaskRequest], TaskOutcome],
        report: Report,
        threads: int | None = None,
        *,
        hand_in: HandIn | None = None,
        now: Callable[[], int] | None = None,
    ) -> None:
        self._size: Final = default_threads() if threads is None else threads
        if self._size < 1:
            raise UsageError(f"threads must be at least 1, not {threads}")
        self._execute: Final = execute
        self._hand_in: Final = hand_in
        self._hand_in_more: Final = None if hand_in is None else partial(hand_in, more=True)
        self._kept: Final[dict[int, _Attempt | None]] = {}
        """By the threads that are handing in: the attempt that each keeps for itself."""
        self._queue: Final[SimpleQueue[_Attempt | None]] = SimpleQueue()
        self._attempts: Final[Attempts[_Attempt]] = Attempts(
            self, report, "mini-workflow-task-timeouts", now
        )
        self._lock: Final = self._attempts.lock
        self._threads: Final[set[threading.Thread]] = set()
        self._started = 0
        self._idle = 0  # threads that wait and that no queued attempt is meant for
        self._waiting = 0  # queued attempts that no waiting thread is meant for
        self._asleep = 0  # threads whose attempts wait for an execution

    def submit(self, request: TaskRequest) -> None:
        """See TaskRunner. Raises RuntimeClosed after `close`, and NoThread."""
        attempt = _Attempt(request)
        with self._lock:
            self._attempts.take(attempt)
            if self._idle:
                self._idle -= 1
                this = threading.get_ident()
                if self._kept.get(this, attempt) is None:
                    self._kept[this] = attempt
                    return
            elif len(self._threads) - self._asleep >= self._size or not self._has_another(attempt):
                self._waiting += 1
        self._queue.put(attempt)

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        """See TaskRunner: drops an attempt that has not begun, and tells one that has."""
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
        """See TaskRunner."""
        ends_at = time.monotonic() + grace
        self._attempts.stop()
        with self._lock:
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, ends_at - time.monotonic()))
        for attempt in self._attempts.end_all():
            if attempt.current is not None:
                attempt.current.cancel(CLOSING)
        return self._attempts.handed_back()

    def prepare_close(self) -> None:
        """Begin no attempt any more, and tell the running ones to end."""
        self._attempts.stop()

    # For the attempts

    def look(self) -> None:
        """See Looks: tries again to start a thread for attempts that wait."""
        with self._lock:
            if len(self._threads) - self._asleep < self._size:
                self._start_for_waiting()

    def tell(self, attempt: _Attempt, reason: str) -> None:
        """See Owner."""
        if attempt.current is not None:
            attempt.current.tell(reason)

    def grace(self, _attempt: _Attempt) -> float:
        """See Owner: none, since an attempt that does not end keeps no other from running."""
        return 0.0

    def give_up(self, attempt: _Attempt) -> Callable[[], None] | None:
        """See Owner: the thread may never come back, so it does not count, and ends when it does."""
        if attempt.thread is not None:
            self._threads.discard(attempt.thread)
            self._wakes(attempt)
        self._start_for_waiting()
        current = attempt.current
        return current and partial(current.cancel, TOO_SILENT if attempt.silent else TOO_LONG)

    # Threads

    def _start_thread(self) -> None:
        name = f"mini-workflow-task-{self._started + 1}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.add(thread)
        try:
            start_thread(thread)
        except NoThread:
            self._threads.discard(thread)
            raise
        self._started += 1

    def _has_another(self, attempt: _Attempt) -> bool:
        """Start another thread for an attempt, and return whether there is one. With the lock held.

        Raises NoThread, and forgets the attempt, if no other thread would take it.
        """
        try:
            self._start_thread()
        except NoThread:
            if len(self._threads) > self._asleep:
                return False
            self._attempts.forget(attempt)
            raise
        return True

    def _start_for_waiting(self) -> None:
        """Start another thread, for which there is room, if there is work for it. With the lock held."""
        if self._waiting and not self._attempts.closed:
            try:
                self._start_thread()
            except NoThread:
                self._attempts.deadlines.watch(self, time.monotonic() + TRY_AGAIN)
            else:
                self._waiting -= 1

    def _work(self) -> None:
        this, number = threading.current_thread(), threading.get_ident()
        attempt: _Attempt | None = None
        while True:
            attempt = attempt or self._queue.get()
            if attempt is None:
                return
            outcome = self._run(attempt, this)
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
                report = None if outcome is None else self._attempts.finish(attempt, outcome)
            # Results must not stay in memory until the next attempt comes.
            attempt = outcome = None
            if report is None:
                pass
            elif self._hand_in is None or surplus:
                self._attempts.report(report)
            elif not self._queue.empty():
                self._attempts.report(report, self._hand_in_more)
            else:
                self._kept[number] = None
                self._attempts.report(report, self._hand_in)
                attempt = self._kept.pop(number)
            if surplus:
                return
            report = None

    def _run(self, attempt: _Attempt, this: threading.Thread) -> TaskOutcome | None:
        request = attempt.request
        is_limited = not (request.timeout is request.heartbeat_timeout is None)
        limits = Limits(request) if is_limited else None
        with self._lock:
            current = self._attempts.begin_here(attempt, limits)
            if current is None:
                return None
            attempt.thread = this
            current.on_wait = self._wait
        token = CURRENT.set(current)
        try:
            return self._execute(request)
        except BaseException as error:
            return broken(request, error, current.details)
        finally:
            CURRENT.reset(token)

    @contextmanager
    def _wait(self, request: TaskRequest) -> Generator[None]:
        """Surround a wait of an attempt for an execution: its thread does not count meanwhile. Raises
        UsageError when MAX_WAITING attempts wait already.
        """
        with self._lock:
            attempt = self._attempts.find(request)
            if attempt is not None and attempt.thread is not threading.current_thread():
                attempt = None  # the thread was started by the attempt, and is none of the pool's
            if attempt is not None and self._asleep >= MAX_WAITING:
                raise UsageError(
                    f"task {request.name!r} of execution {request.execution_id!r} cannot wait for"
                    f" an execution: {MAX_WAITING} tasks do so already, and each keeps a thread."
                    " Have workflows wait for executions, with ctx.child, instead of tasks."
                )
            if attempt is not None:
                attempt.waits = True
                self._asleep += 1
                self._start_for_waiting()
        try:
            yield
        finally:
            if attempt is not None:
                with self._lock:
                    self._wakes(attempt)

    def _wakes(self, attempt: _Attempt) -> None:
        """Count the thread of an attempt again that has waited for an execution. With the lock held."""
        if attempt.waits:
            attempt.waits = False
            self._asleep -= 1
