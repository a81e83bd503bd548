"""Make the outcomes that runners of tasks share, and keep the time limits of attempts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from math import inf
from typing import Final, Generic, TypeVar

from mini_workflow.core.failure import failure_of
from mini_workflow.core.records import replace
from mini_workflow.errors import TaskError, TaskTimeout, WorkerLost
from mini_workflow.ports import TaskOutcome, TaskRequest
from mini_workflow.threads import NoThread, has_begun, join_thread, start_thread

Item = TypeVar("Item", bound=Hashable)

log = logging.getLogger("mini_workflow.engine")


def failed(request: TaskRequest, error: Exception, heartbeat: str | None = None) -> TaskOutcome:
    """Return the outcome of an attempt that ended with an error of this library, which has no traceback.

    `heartbeat` encodes the details of its last heartbeat, here and in the functions below.
    """
    return TaskOutcome(*request.key, failure=failure_of(error).to_plain(), heartbeat=heartbeat)


def timed_out(request: TaskRequest, heartbeat: str | None = None) -> TaskOutcome:
    """Return the outcome of an attempt that ran longer than its timeout."""
    return failed(request, TaskTimeout(timeout_message(request)), heartbeat)


def timeout_message(request: TaskRequest) -> str:
    """Return the message of the TaskTimeout of an attempt."""
    seconds = (request.timeout or 0) / 1000
    return (
        f"attempt {request.attempt} of task {request.name!r} ran longer than its timeout of"
        f" {seconds:g} s"
    )


def silent(request: TaskRequest, heartbeat: str | None = None) -> TaskOutcome:
    """Return the outcome of an attempt whose heartbeat is missing."""
    seconds = (request.heartbeat_timeout or 0) / 1000
    text = (
        f"the heartbeat of attempt {request.attempt} of task {request.name!r} is missing: there was"
        f" none for its heartbeat timeout of {seconds:g} s"
    )
    return failed(request, TaskTimeout(text), heartbeat)


def cancelled(request: TaskRequest, heartbeat: str | None = None) -> TaskOutcome:
    """Return the outcome of an attempt that was stopped because its task was cancelled."""
    return failed(request, TaskError(_CANCELLED), heartbeat)


def was_cancelled(outcome: TaskOutcome) -> bool:
    """Return whether an outcome is that of an attempt which was stopped because its task was cancelled."""
    return outcome.failure is not None and outcome.failure.get("message") == _CANCELLED


def handed_back(request: TaskRequest, heartbeat: str | None) -> TaskRequest:
    """Return the request of an attempt that is handed back, with the details of its last heartbeat for the
    next one.
    """
    return request if heartbeat is None else replace(request, heartbeat=heartbeat)


def broken(request: TaskRequest, error: BaseException, heartbeat: str | None = None) -> TaskOutcome:
    """Return the outcome of an attempt that failed by an error inside the library."""
    text = f"attempt {request.attempt} of task {request.name!r} could not be run: {error!r}"
    return failed(request, TaskError(text), heartbeat)


def lost(request: TaskRequest, how: str, heartbeat: str | None = None) -> TaskOutcome:
    """Return the outcome of an attempt whose worker has died; `how` is a whole sentence."""
    text = f"attempt {request.attempt} of task {request.name!r} is lost: {how}"
    return failed(request, WorkerLost(text), heartbeat)


_CANCELLED: Final = "cancelled"

CLOSING: Final = "its runtime closes, and the task goes on when it is opened again"
"""The reason given to running attempts when their runner is closed."""

TOO_LONG: Final = "it ran longer than its timeout"
TOO_SILENT: Final = "its heartbeat is missing"
"""The reasons given to an attempt that its runner has given up."""


class Limits:
    """The time for which an attempt that begins now may run, and be silent. Times are those of
    `time.monotonic`, in seconds.

    A heartbeat only sets the time, without a lock: the watcher reads `due` again when that time has come.
    """

    __slots__ = ("_beat_at", "_ends_at", "_patience")

    def __init__(self, request: TaskRequest, grace: float = 0.0, patience: float = 0.0) -> None:
        """`grace` and `patience` are seconds beyond the timeout and beyond the heartbeat timeout."""
        self._beat_at = time.monotonic()
        timeout, silence = request.timeout, request.heartbeat_timeout
        self._ends_at = inf if timeout is None else self._beat_at + timeout / 1000 + grace
        self._patience: Final = inf if silence is None else silence / 1000 + patience

    def beat(self, details: str | None = None) -> None:
        """Take a heartbeat. Callable on any thread."""
        self._beat_at = time.monotonic()

    def extend(self, seconds: float) -> None:
        """Extend the time of the attempt by so many seconds."""
        self._ends_at += seconds

    @classmethod
    def of(cls, request: TaskRequest, grace: float = 0.0, patience: float = 0.0) -> Limits | None:
        """Return the limits of an attempt that begins now; None if it has none."""
        if request.timeout is None and request.heartbeat_timeout is None:
            return None
        return cls(request, grace, patience)

    @property
    def due(self) -> float:
        """The time at which the attempt has to be ended, unless a heartbeat comes; infinite for never."""
        return min(self._ends_at, self._beat_at + self._patience)

    @property
    def silent(self) -> bool:
        """Whether the attempt ends at `due` because a heartbeat is missing."""
        return self._beat_at + self._patience < self._ends_at


class Deadlines(Generic[Item]):
    """Calls `expired` for each watched item at its deadline, on a thread of its own.

    The thread is started with the first item and sleeps until the next deadline; it never polls.
    Deadlines are times of `time.monotonic`, in seconds.
    """

    def __init__(self, expired: Callable[[Item], None], name: str) -> None:
        self._expired = expired
        self._name = name
        self._changed = threading.Condition()
        self._due: dict[Item, float] = {}
        self._wakes_at = inf
        self._closed = False
        self._thread: threading.Thread | None = None

    def watch(self, item: Item, at: float) -> None:
        """Call `expired` for the item at the time `at`, unless the item is forgotten before."""
        with self._changed:
            if self._closed:
                return
            self._due[item] = at
            if at >= self._wakes_at:
                return
            self._wakes_at = at
            if not has_begun(self._thread):
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    start_thread(self._thread)
                except NoThread as error:
                    self._wakes_at = inf
                    log.error(
                        "nobody watches the limits of tasks until another one has limits: %s", error
                    )
            else:
                self._changed.notify()

    def forget(self, item: Item) -> None:
        """Remove an item, so that `expired` is not called for it. Has no effect if that has happened."""
        with self._changed:
            self._due.pop(item, None)

    def close(self) -> None:
        """End the thread. `expired` is not called any more."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
            thread = self._thread
        join_thread(thread)

    def _run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                due = [item for item, at in self._due.items() if at <= now]
                if not due:
                    if self._closed:
                        return
                    self._wakes_at = min(self._due.values(), default=inf)
                    self._changed.wait(min(self._wakes_at - now, threading.TIMEOUT_MAX))
                    continue
                for item in due:
                    del self._due[item]
            for item in due:
                self._expired(item)
