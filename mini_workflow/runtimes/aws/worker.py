"""Worker: runs one attempt of a task per invocation, and sends its outcome."""

from __future__ import annotations

import logging
import random
import threading
from base64 import b64decode
from collections.abc import Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mini_workflow.attempts import cancelled, failed, timeout_message
from mini_workflow.core import wire
from mini_workflow.core.failure import Failure
from mini_workflow.core.records import replace
from mini_workflow.engine.batch import ended
from mini_workflow.engine.executor import execute, execute_async
from mini_workflow.errors import (
    MiniWorkflowError,
    RuntimeClosed,
    StoreError,
    StoreUnavailable,
    TaskTimeout,
    WireError,
)
from mini_workflow.ports import Answer, StreamWrite, TaskOutcome, TaskRequest
from mini_workflow.ports.heartbeats import Heartbeat
from mini_workflow.runners.routed import RoutedRunner
from mini_workflow.runners.threads import ThreadRunner
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.runtimes.aws.telemetry import Metrics
from mini_workflow.runtimes.aws.time_left import TimeLeft
from mini_workflow.stores.aws.clients import is_refused
from mini_workflow.stores.aws.limits import HEARTBEAT_INTERVAL
from mini_workflow.stores.sqs.call_store import purpose_of
from mini_workflow.stores.sqs.dispatch import CANCELLED
from mini_workflow.stores.sqs.envelopes import parse
from mini_workflow.stores.sqs.messages import SqsMessage
from mini_workflow.stream_buffer import StreamBuffer
from mini_workflow.task import CURRENT, CurrentTask

if TYPE_CHECKING:
    from mini_workflow.runners.event_loop import EventLoopRunner

log = logging.getLogger("mini_workflow.runtimes.aws")

MARGIN: Final = 2_000
"""Milliseconds before the end of the function's own time at which an attempt is given up: the time to send
its outcome. Our own bound."""

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries to send an outcome: the longest pause doubles with each try from the first to
the second bound, and a pause is drawn between 0 and that. A thousand workers that try every 2.5 seconds on
average send little more than the 300 messages a second that a message group takes. Our own bounds."""

ENDING: Final = 1.0
"""Seconds that threads have to end when the worker is closed. Our own bound."""


STREAM_PAUSE: Final = 0.1
"""Seconds between two batches of chunks that tasks write to streams: each batch is an object. Our own
bound."""

STREAM_TRIES: Final = 5
"""The number of tries to store a batch of chunks before their attempts fail: about three seconds, beside the
tries of boto3. Our own bound."""


class HandedBack(MiniWorkflowError):
    """An attempt that its worker hands back, since the worker ends first. `heartbeat` is the last JSON text
    that the attempt gave with a heartbeat.
    """

    def __init__(self, heartbeat: str | None) -> None:
        super().__init__("the worker ends; another one goes on with the attempt")
        self.heartbeat = heartbeat


class Worker:
    """Runs attempts, sends their outcomes, and keeps their heartbeats."""

    def __init__(self, parts: Container, threads: int | None = None) -> None:
        self._parts = parts
        self._threads = threads
        self._handing_back = False
        self._metrics = Metrics()
        self._buffer: StreamBuffer | None = None
        self._runner: RoutedRunner | None = None
        self._outcomes: dict[
            tuple[str, int, int], SimpleQueue[TaskOutcome | HandedBack | None]
        ] = {}
        self._heartbeats: dict[tuple[str, int, int], _HeartbeatThread] = {}
        self._lock = threading.Lock()
        self._ending: list[_HeartbeatThread] = []

    def execute(self, event: Any, context: Any) -> dict[str, Any]:
        """See `AWSRuntime.execute`."""
        left = TimeLeft(context, self._parts.clock)
        request, version = self.request_of(event)
        self.run(request, left, event if version else None)
        return {"execution_id": request.execution_id, "seq": request.seq, "done": True}

    def run(self, request: TaskRequest, left: TimeLeft, call: dict[str, Any] | None = None) -> None:
        """Run an attempt within the time that is left, and send its outcome. The captured `call` is kept for
        the next attempt, if this one fails. Raises StoreUnavailable, HandedBack.
        """
        limited = _within(request, left)
        with self._metrics.attempt(request):
            outcome = self._run(limited)
            if limited.timeout != request.timeout and outcome.failure is not None:
                outcome = self._explained(outcome, limited)
            self._metrics.outcome(failed=outcome.failure is not None)
            if call is not None and outcome.failure is not None:
                self._keep_call(call)
            self._send(outcome, left)

    def is_given_up(self, request: TaskRequest, left: TimeLeft) -> bool:
        """Return whether an attempt that has not begun was cancelled. Its outcome is sent then. Raises
        StoreUnavailable.
        """
        given_up = self._parts.bucket.get(f"{CANCELLED}{request.execution_id}/{request.seq}")
        if given_up is not None:
            self._send(cancelled(request), left)
        return given_up is not None

    def hand_back(self, grace: float) -> None:
        """Begin no attempt any more, tell the running ones to end, and wait up to `grace` seconds for them.
        The attempts that have not ended by then raise HandedBack from `run`.
        """
        with self._lock:
            self._handing_back = True
            runner = self._runner
        for request in () if runner is None else runner.close(grace):
            waiting = self._outcomes.get(request.key)
            if waiting is not None:
                waiting.put(HandedBack(request.heartbeat))

    def close(self) -> None:
        """End the threads of the runner. Attempts that still run have no effect."""
        with self._lock:
            ending, self._ending = self._ending, []
            for outcomes in self._outcomes.values():
                outcomes.put(None)
        if self._runner is not None:
            self._runner.close(ENDING)
        if self._buffer is not None:
            self._buffer.close()
        for heartbeats in ending:
            heartbeats.join(HEARTBEAT_INTERVAL)

    def request_of(self, event: Any) -> tuple[TaskRequest, str]:
        """Return the attempt to run, and the version of this function that it is for; empty for any. Raises
        SignatureInvalid, WireError, StoreUnavailable.
        """
        try:
            name, seq, attempt = event["execution_id"], event["seq"], event["attempt"]
            if not isinstance(name, str) or type(seq) is not int or type(attempt) is not int:
                raise TypeError("an attempt is named by a text and two numbers")
        except (KeyError, TypeError) as error:
            raise WireError(f"not an attempt of a task: {str(event)[:200]}") from error
        plain = parse(self._parts.envelopes.open(event, purpose_of(name, seq, attempt)))
        plain["payload"] = b64decode(plain["payload"])
        plain.pop("traceparent", None)
        version = plain.pop("version", "")
        request = TaskRequest(name, seq, attempt, **plain)
        if attempt > 1 and request.heartbeat is None and request.heartbeat_timeout is not None:
            # The attempt before may have been lost with its function: its details are in the bucket.
            found = self._parts.streams.heartbeats.details(name, seq)
            if found is not None:
                request = replace(request, heartbeat=found)
        return request, version

    def _keep_call(self, event: dict[str, Any]) -> None:
        """Keep the call for another attempt, also if another version of the code asks for that."""
        try:
            self._parts.calls.keep(event)
        except StoreError as error:
            log.warning(
                "[%s] the call of task #%d cannot be kept, and is captured anew for the next attempt: %s",
                *(event["execution_id"], event["seq"], error),
            )

    def _run(self, request: TaskRequest) -> TaskOutcome:
        outcomes: SimpleQueue[TaskOutcome | HandedBack | None] = SimpleQueue()
        heartbeats = _HeartbeatThread(self._parts, request)
        with self._lock:
            if self._handing_back:
                raise HandedBack(request.heartbeat)
            self._outcomes[request.key] = outcomes
            self._heartbeats[request.key] = heartbeats
            if self._buffer is None:
                self._buffer = StreamBuffer(self._append, pause=STREAM_PAUSE, tries=STREAM_TRIES)
            if self._runner is None:
                self._runner = RoutedRunner(
                    ThreadRunner(
                        self._execute, self._report, self._threads, now=self._parts.clock.now
                    ),
                    self._make_event_loop,
                )
        try:
            try:
                self._runner.submit(request)
            except RuntimeClosed:
                raise HandedBack(request.heartbeat) from None
            outcome = outcomes.get()
            if isinstance(outcome, HandedBack):
                raise outcome
            if outcome is None:
                raise RuntimeClosed(
                    "the runtime was closed while it ran the task. Run the attempt again."
                )
            return outcome
        finally:
            heartbeats.stop()
            with self._lock:
                self._ending = [*(p for p in self._ending if not p.join(0)), heartbeats]
                del self._outcomes[request.key], self._heartbeats[request.key]

    def _explained(self, outcome: TaskOutcome, request: TaskRequest) -> TaskOutcome:
        assert outcome.failure is not None
        codec = self._parts.codec.for_execution(request.execution_id)
        failure = codec.plain_failure(Failure.from_plain(outcome.failure))
        return _explained(failure, outcome, request)

    def _report(self, outcome: TaskOutcome) -> None:
        waiting = self._outcomes.get(outcome.key)
        if waiting is not None:
            waiting.put(outcome)

    def _make_event_loop(self) -> EventLoopRunner:
        from mini_workflow.runners.event_loop import EventLoopRunner

        return EventLoopRunner(self._execute_async, self._report, now=self._parts.clock.now)

    def _execute(self, request: TaskRequest) -> TaskOutcome:
        self._begin(request)
        around = self._parts.interceptors.around_task
        return execute(request, self._parts.codec, self._buffer, around)

    async def _execute_async(self, request: TaskRequest) -> TaskOutcome:
        self._begin(request)
        around = self._parts.interceptors.around_task
        return await execute_async(request, self._parts.codec, self._buffer, around)

    def _append(self, writes: Sequence[StreamWrite]) -> list[Answer]:
        return self._parts.streams.append(writes)

    def _begin(self, request: TaskRequest) -> None:
        heartbeats = self._heartbeats.get(request.key)
        if heartbeats is not None:
            heartbeats.start(CURRENT.get())

    def _send(self, outcome: TaskOutcome, left: TimeLeft) -> None:
        """Send the outcome; try again for as long as the function may run. An outcome that cannot be sent at
        once goes to the bucket too: the orchestrator finds it there when it hears of the failed invocation.
        Raises StoreUnavailable.
        """
        key = "/".join(map(str, ("outcome", *outcome.key)))
        line = wire.encode(ended(outcome, self._parts.clock.now()))
        message = SqsMessage(outcome.execution_id, "messages", line, key)
        pause, kept = FIRST_PAUSE, False
        while True:
            try:
                self._parts.post.send([message])
                return
            except StoreError as error:
                log.warning(
                    "[%s] the outcome of task #%d cannot be sent: %s",
                    *(outcome.execution_id, outcome.seq, error),
                )
                problem = error
            kept = kept or self._keep(outcome, message)
            seconds = random.uniform(0, pause)
            pause = min(LONGEST_PAUSE, pause * 2)
            if is_refused(problem) or seconds * 1000 > left() - MARGIN:
                what = "is in the bucket, and will be found" if kept else "is lost"
                raise StoreUnavailable(
                    f"the outcome of task #{outcome.seq} of execution {outcome.execution_id!r} cannot be "
                    f"sent, and {what}: {problem}"
                ) from problem
            self._parts.sleep(seconds)

    def _keep(self, outcome: TaskOutcome, message: SqsMessage) -> bool:
        """Put the outcome into the bucket. Answers whether it is there."""
        try:
            self._parts.outcomes.keep(*outcome.key[1:], message)
        except StoreError as error:
            log.warning(
                "[%s] the outcome of task #%d cannot be kept in the bucket: %s",
                *(outcome.execution_id, outcome.seq, error),
            )
            return False
        return True


class _HeartbeatThread:
    """A thread beside a running attempt. It puts the details of heartbeats into the bucket, and tells the
    attempt when the bucket says that it was cancelled.
    """

    every: ClassVar[float] = HEARTBEAT_INTERVAL
    """Seconds between two looks."""

    def __init__(self, parts: Container, request: TaskRequest) -> None:
        self._parts = parts
        self._request = request
        self._task: CurrentTask | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, task: CurrentTask) -> None:
        """Begin to look: the attempt begins."""
        self._task = task
        name = "mini-workflow-heartbeats"
        self._thread = threading.Thread(target=self._beat, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking: the attempt is over."""
        self._over.set()

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` for the end of the thread. Answers whether it has ended."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _beat(self) -> None:
        kept = 0
        task = self._task
        assert task is not None
        while not self._over.wait(self.every):
            try:
                heard, details = task.heard_at, task.details
                if heard != kept:
                    beat = Heartbeat(*self._request.key, heard, details)
                    self._parts.streams.heartbeats.keep([beat], ())
                    kept = heard
                found = self._parts.bucket.get(
                    f"{CANCELLED}{self._request.execution_id}/{self._request.seq}"
                )
                if found is not None:
                    task.cancel(found.body.decode())
                    return
            except Exception as error:
                # The next look may go well: without it the heartbeats of the task would be lost.
                log.warning(
                    "[%s] the heartbeat of task %r cannot be kept; trying again in %g s: %s",
                    *(self._request.execution_id, self._request.name, self.every, error),
                )


def _within(request: TaskRequest, left: TimeLeft) -> TaskRequest:
    """Return the request with a timeout before Lambda's own."""
    if not left.is_known:
        return request
    longest = max(1, left() - MARGIN)
    if request.timeout is not None and request.timeout <= longest:
        return request
    return replace(request, timeout=longest)


def _explained(failure: Failure, outcome: TaskOutcome, request: TaskRequest) -> TaskOutcome:
    """Return the outcome of an attempt that has timed out with its function, with a message that says so."""
    if failure.message != timeout_message(request):
        return outcome
    text = (
        f"attempt {request.attempt} of task {request.name!r} did not end within the timeout of the "
        f"worker function ({(request.timeout or 0) / 1000:g} s were left to it): give the function "
        "more time, up to 15 minutes, split the task, or give the task a worker that pulls"
    )
    return failed(request, TaskTimeout(text), outcome.heartbeat)
