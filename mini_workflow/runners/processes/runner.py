"""ProcessRunner: gives attempts of tasks to worker processes, and replaces those that die."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from mini_workflow.attempts import Limits, failed, lost
from mini_workflow.errors import UsageError
from mini_workflow.ports import AttemptCounts, Report, TaskOutcome, TaskRequest
from mini_workflow.runners.attempts import Attempts
from mini_workflow.runners.processes import protocol as frames
from mini_workflow.runners.processes.heartbeats import interval
from mini_workflow.runners.processes.protocol import Frame, Kind
from mini_workflow.runners.processes.slot import KILL_GRACE, SentAttempt, Slot, grace
from mini_workflow.runners.processes.worker import EXIT_GRACE, Worker, WorkerUnfit, check_main
from mini_workflow.runners.processes.worker_config import Factory
from mini_workflow.stream_buffer import Result, StreamBuffer
from mini_workflow.threads import NoThread, start_thread
from mini_workflow.worker_name import worker_name

log = logging.getLogger("mini_workflow.engine")

ASYNC_PER_WORKER: Final = 1_000
"""The number of async attempts that one worker runs at a time."""
STARTS_TRIED: Final = 3
"""The number of failed starts in a row after which waiting attempts are given up."""
FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 5.0
"""Seconds to wait after a failed start: FIRST_DELAY, doubled with each failure up to LAST_DELAY."""


class ProcessRunner:
    """A TaskRunner on worker processes, which are started when they are needed, `workers` at most.

    `factory` makes the configuration of this end and, pickled, that of each worker. A sync attempt
    that runs into its timeout, or whose heartbeat is missing, is stopped by killing its worker,
    which loses the async attempts there. When a worker dies, the attempts that were sent to it are
    reported as lost.

    With `hand_in`, the thread that reads from a worker reports there, and may be kept for a while to do
    the engine's work: only while the worker has no other attempt, and so sends nothing.

    Chunks that attempts write go to `streams`; without `streams` they are refused.

    Raises UsageError for fewer than 1 of `workers` or `async_per_worker`, and where workers cannot import
    the main script.
    """

    def __init__(
        self,
        factory: Factory,
        report: Report,
        workers: int | None = None,
        async_per_worker: int = ASYNC_PER_WORKER,
        *,
        hand_in: Report | None = None,
        streams: StreamBuffer | None = None,
    ) -> None:
        check_main()
        self._size: Final = (os.cpu_count() or 1) if workers is None else workers
        if self._size < 1:
            raise UsageError(f"workers must be at least 1, not {workers}")
        if async_per_worker < 1:
            raise UsageError(f"async_per_worker must be at least 1, not {async_per_worker}")
        self._async_per_worker: Final = async_per_worker
        self._factory: Final = factory
        self._hand_in: Final = None if hand_in is None else self._reporting(hand_in)
        self._streams: Final = streams
        self._config: Final = factory()
        self._attempts: Final[Attempts[SentAttempt]] = Attempts(
            self, self._reporting(report), "mini-workflow-worker-timeouts"
        )
        self._lock: Final = self._attempts.lock
        self._waiting: Final[deque[SentAttempt]] = deque()  # sync, in order; some may be over
        self._waiting_async: Final[deque[SentAttempt]] = deque()
        self._idle: Final[list[Slot]] = []  # without a sync attempt, the last one to end is next
        self._hosts: Final[set[Slot]] = set()
        self._slots: Final[dict[threading.Thread, Worker | None]] = {}
        self._closing: Final = threading.Event()
        self._started = 0
        self._failed_starts = 0

    def _reporting(self, report: Report) -> Report:
        """Return a report that also has the heartbeats of the attempt forgotten."""

        def to(outcome: TaskOutcome) -> None:
            if self._streams is not None:
                self._streams.over(outcome.key)
            report(outcome)

        return to

    def start(self) -> None:
        """Start all workers now instead of with the first attempts. Does not wait until they are ready."""
        with self._lock:
            while len(self._slots) < self._size and not self._attempts.closed:
                self._start_slot()

    def submit(self, request: TaskRequest) -> None:
        """See TaskRunner. Raises RuntimeClosed after `close`."""
        attempt = SentAttempt(request)
        with self._lock:
            self._attempts.take(attempt)
            host = self._choose(request)
            if host is not None:
                self._assign(host, attempt)
            else:
                (self._waiting_async if request.is_async else self._waiting).append(attempt)
                starting = len(self._slots) - len(self._hosts)
                waiting = len(self._waiting) + len(self._waiting_async)
                if len(self._slots) < self._size and starting < waiting:
                    self._start_slot_for(attempt)
        if host is not None:
            self._send(host, attempt)

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
        """See TaskRunner. Workers that still run attempts after the grace are killed."""
        self._attempts.stop()
        self._closing.set()
        with self._lock:
            self._waiting.clear()
            self._waiting_async.clear()
        self._attempts.drained.wait(grace)
        busy = {attempt.host for attempt in self._attempts.end_all()}
        with self._lock:
            ready = {host.worker for host in self._hosts - busy}
            slots = dict(self._slots)
        for worker in slots.values():
            if worker in ready:
                worker.send(frames.plain(Kind.BYE))
            elif worker is not None:
                worker.kill()
        ends_at = time.monotonic() + EXIT_GRACE
        for thread, worker in slots.items():
            thread.join(max(0.0, ends_at - time.monotonic()))
            if thread.is_alive() and worker is not None:
                worker.kill()
                thread.join(EXIT_GRACE)
        atexit.unregister(self.close)
        return self._attempts.handed_back()

    def prepare_close(self) -> None:
        """Begin no attempt any more, and tell the running ones to end."""
        self._attempts.stop()

    # The methods from here to `give_up` are called with the lock held.

    def _choose(self, request: TaskRequest) -> Slot | None:
        if not request.is_async:
            return self._idle.pop() if self._idle else None
        able = [host for host in self._hosts if host.doomed is None]
        host = min(able, key=lambda one: len(one.running), default=None)
        return None if host is None or len(host.running) >= self._async_per_worker else host

    def _assign(self, host: Slot, attempt: SentAttempt) -> None:
        request = attempt.request
        attempt.host = host
        attempt.ran_on = worker_name(host.worker.pid)
        if request.is_async:
            host.running[request.key] = attempt
        else:
            host.sync = attempt
        # A heartbeat may arrive late by the interval in which the worker sends them.
        self._attempts.begin(attempt, Limits.of(request, grace(attempt), interval(request)))

    def _assign_again(self, attempt: SentAttempt) -> Slot | None:
        """Give an attempt that did not reach its worker to another one, or put it first in the line."""
        attempt.host = None
        self._attempts.begins_anew(attempt)
        host = self._choose(attempt.request)
        if host is not None:
            self._assign(host, attempt)
        else:
            waiting = self._waiting_async if attempt.request.is_async else self._waiting
            waiting.appendleft(attempt)
        return host

    def _assign_next(self, host: Slot) -> list[SentAttempt]:
        """Give the worker the next sync attempt, or put it among the idle ones."""
        host.sync = None
        while self._waiting:
            attempt = self._waiting.popleft()
            if not attempt.over:
                self._assign(host, attempt)
                return [attempt]
        self._idle.append(host)
        return []

    def _assign_next_async(self, host: Slot) -> list[SentAttempt]:
        assigned: list[SentAttempt] = []
        while self._waiting_async and len(host.running) < self._async_per_worker:
            attempt = self._waiting_async.popleft()
            if not attempt.over:
                self._assign(host, attempt)
                assigned.append(attempt)
        return assigned

    def _start_slot_for(self, attempt: SentAttempt) -> None:
        """Start another worker. Raises NoThread, and forgets the attempt, if no other one would take it."""
        try:
            self._start_slot()
        except NoThread:
            if not self._slots:
                (self._waiting_async if attempt.request.is_async else self._waiting).remove(attempt)
                self._attempts.forget(attempt)
                raise

    def _start_slot(self) -> None:
        if not self._started:
            # At exit multiprocessing would wait for the workers for ever.
            atexit.register(self.close, 0.0)
        self._started += 1
        thread = threading.Thread(
            target=self._keep_worker,
            args=(self._started,),
            name=f"mini-workflow-worker-{self._started}",
            daemon=True,
        )
        self._slots[thread] = None
        try:
            start_thread(thread)
        except NoThread:
            del self._slots[thread]
            raise

    def grace(self, attempt: SentAttempt) -> float:
        """See Owner."""
        return grace(attempt)

    def give_up(self, attempt: SentAttempt) -> Callable[[], None] | None:
        """See Owner."""
        host = attempt.host
        assert host is not None
        if host.sync is not attempt:
            host.running.pop(attempt.request.key, None)
            return partial(self._send_all, host, self._assign_next_async(host))
        which = "heartbeat timeout" if attempt.silent else "timeout"
        what = "was silent" if attempt.silent else "ran"
        host.doomed = f"it was stopped because a task in it {what} longer than its {which}"
        host.worker.kill()
        return None

    # The methods from here on are called without the lock.

    def _send(self, host: Slot, attempt: SentAttempt) -> None:
        data = frames.from_request(attempt.request, self._config.seal)
        if attempt.request.is_async:
            host.worker.send_aside(data, attempt)
        else:
            host.worker.send(data, attempt)

    def _send_all(self, host: Slot, attempts: Iterable[SentAttempt]) -> None:
        for attempt in attempts:
            self._send(host, attempt)

    def tell(self, attempt: SentAttempt, reason: str) -> None:
        """See Owner."""
        host = attempt.host
        if host is not None:
            key = attempt.request.key
            host.worker.send_aside(frames.cancellation(key, reason, self._config.seal))

    def _keep_worker(self, number: int) -> None:
        """Run a worker, and another one when it has died, until the runner is closed, or a start fails and
        no attempt waits.
        """
        this = threading.current_thread()
        while True:
            with self._lock:
                failures = self._failed_starts
            if failures:
                self._closing.wait(min(FIRST_DELAY * 2 ** (failures - 1), LAST_DELAY))
            problem = self._run_worker(number)
            given_up: list[SentAttempt] = []
            with self._lock:
                self._slots[this] = None
                if problem is not None and not self._attempts.closed:
                    self._failed_starts += 1
                    if self._failed_starts >= STARTS_TRIED and not self._hosts:
                        given_up = [one for one in self._attempts if not one.begun]
                        for attempt in given_up:
                            self._attempts.end(attempt)
                if self._attempts.closed or (
                    problem is not None and not self._is_anything_waiting()
                ):
                    del self._slots[this]
                    ended = True
                else:
                    ended = False
            for attempt in given_up:
                how = f"no worker process can be started: {problem}."
                self._attempts.report(lost(attempt.request, how))
            if ended:
                return

    def _is_anything_waiting(self) -> bool:
        return any(not attempt.begun for attempt in self._attempts)

    def _run_worker(self, number: int) -> str | None:
        """Run one process to its end. Returns the reason if it did not get ready, else None."""
        if self._attempts.closed:
            return None
        try:
            worker = Worker(number, self._factory)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        with self._lock:
            self._slots[threading.current_thread()] = worker
            if self._attempts.closed:
                worker.kill()
        try:
            worker.wait_until_ready()
        except (WorkerUnfit, ValueError) as error:
            worker.end()
            return str(error)
        host = Slot(worker)
        try:
            self._serve(host)
        except (EOFError, OSError, ValueError) as error:
            if isinstance(error, ValueError):
                host.doomed = (
                    f"it was stopped because it sent a message that cannot be read ({error})"
                )
                worker.kill()
        self._bury(host)
        return None

    def _serve(self, host: Slot) -> None:
        """Give the worker attempts and take its messages, until it is gone. Raises EOFError or OSError then,
        and ValueError for a message that cannot be read.
        """
        with self._lock:
            self._failed_starts = 0
            self._hosts.add(host)
            started = [*self._assign_next(host), *self._assign_next_async(host)]
        self._send_all(host, started)
        while host.doomed is None:
            frame = host.worker.receive()
            if frame.kind in (Kind.HEARTBEAT, Kind.AWAITS):
                self._note(host, frame)
            elif frame.kind == Kind.CHUNKS:
                self._store(host, frame)
            elif frame.kind == Kind.WARNING:
                text = frame.sealed.decode(errors="replace")
                log.warning("worker process %d: %s", host.worker.pid, text)
            else:
                self._take(host, frame)

    def _note(self, host: Slot, frame: Frame) -> None:
        """Note a heartbeat, or that the attempt awaits. Raises ValueError if the frame cannot be unsealed."""
        try:
            details = frames.to_text(frame, self._config.unseal)
        except Exception as error:
            raise ValueError(str(error)) from error
        with self._lock:
            attempt = host.find(frame.key)
            if attempt is not None and frame.kind == Kind.AWAITS and not attempt.awaits:
                attempt.awaits = True
                if attempt.limits is not None:
                    attempt.limits.extend(grace(attempt) - KILL_GRACE)
        if attempt is None or frame.kind == Kind.AWAITS:
            return  # or it was given up
        attempt.last_heartbeat = details or None
        if attempt.limits is not None:
            attempt.limits.beat()
        if self._streams is not None:
            self._streams.heard(frame.key, attempt.last_heartbeat)

    def _store(self, host: Slot, frame: Frame) -> None:
        """Have chunks stored, and send the worker the results. Raises ValueError if the frame cannot be
        unsealed.
        """
        try:
            number, writes = frames.to_writes(frame, self._config.unseal)
        except Exception as error:
            raise ValueError(str(error)) from error

        def tell(results: list[Result]) -> None:
            host.worker.send_aside(frames.stored(frame.key, number, results, self._config.seal))

        if self._streams is None:
            tell(["refused"] * len(writes))
        else:
            self._streams.relay(writes, tell)

    def _take(self, host: Slot, frame: Frame) -> None:
        """Give the worker its next attempt, then report the one that has ended. Raises ValueError if the
        frame cannot be read.
        """
        with self._lock:
            if host.doomed is not None:
                return
            attempt = host.sync
            if attempt is not None and attempt.request.key == frame.key:
                started = self._assign_next(host)
            else:
                attempt = host.running.pop(frame.key, None)
                started = self._assign_next_async(host)
            is_free = host.sync is None and not host.running
        self._send_all(host, started)
        if attempt is None:
            return  # it was given up: the outcome comes too late
        unreadable: Exception | None = None
        try:
            outcome = frames.to_outcome(frame, self._config.unseal)
        except Exception as error:
            unreadable = error
            outcome = failed(attempt.request, frames.unreadable(error), attempt.details)
        with self._lock:
            report = self._attempts.finish(attempt, outcome)
        if report is not None:
            self._attempts.report(report, self._hand_in if is_free else None)
        if unreadable is not None:
            raise ValueError(str(unreadable)) from unreadable

    def _bury(self, host: Slot) -> None:
        """Report the attempts of a dead worker as lost; give those that did not reach it to other workers, or
        hand them back when the runner closes.
        """
        gone: list[SentAttempt] = []
        moved: list[tuple[Slot, SentAttempt]] = []
        with self._lock:
            self._hosts.discard(host)
            if host in self._idle:
                self._idle.remove(host)
            held = [*([] if host.sync is None else [host.sync]), *host.running.values()]
            for attempt in held:
                if attempt.over:
                    continue
                if attempt.sent:
                    self._attempts.end(attempt)
                    gone.append(attempt)
                elif self._attempts.closed:
                    self._attempts.hand_back(attempt)
                elif (other := self._assign_again(attempt)) is not None:
                    moved.append((other, attempt))
        for other, attempt in moved:
            self._send(other, attempt)
        how = host.worker.end()
        if host.doomed is not None:
            how = f"{how}: {host.doomed}"
        for attempt in gone:
            outcome = lost(attempt.request, f"{how}.", attempt.details)
            self._attempts.report(attempt.placed(outcome))
