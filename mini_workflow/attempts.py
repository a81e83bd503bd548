"""What every runner of tasks needs: the outcomes that it makes itself, and a clock for timeouts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from math import inf
from typing import Generic, TypeVar

from mini_workflow.core.failure import Failure
from mini_workflow.errors import TaskError, TaskTimeout, WorkerLost
from mini_workflow.ports import TaskOutcome, TaskRequest

Item = TypeVar("Item", bound=Hashable)


def failed(request: TaskRequest, error: Exception) -> TaskOutcome:
    """The outcome of an attempt that ended by an error of this library, which has no traceback."""
    lineage = tuple(
        f"{kind.__module__}:{kind.__qualname__}"
        for kind in type(error).__mro__
        if kind is not object
    )
    message = str(error)
    failure = Failure(type=lineage[0], message=message, lineage=lineage, state={"args": [message]})
    return TaskOutcome(*request.key, failure=failure.to_plain())


def timed_out(request: TaskRequest) -> TaskOutcome:
    """The outcome of an attempt that ran longer than its timeout."""
    return failed(request, TaskTimeout(timeout_message(request)))


def timeout_message(request: TaskRequest) -> str:
    """What a TaskTimeout says."""
    seconds = (request.timeout or 0) / 1000
    return (
        f"attempt {request.attempt} of task {request.name!r} ran longer than its timeout of"
        f" {seconds:g} s"
    )


def cancelled(request: TaskRequest) -> TaskOutcome:
    """The outcome of an attempt that was stopped because nobody waits for it."""
    return failed(request, TaskError("cancelled"))


def broken(request: TaskRequest, error: BaseException) -> TaskOutcome:
    """The outcome of an attempt at which the library itself failed."""
    text = f"attempt {request.attempt} of task {request.name!r} could not be run: {error!r}"
    return failed(request, TaskError(text))


def lost(request: TaskRequest, how: str) -> TaskOutcome:
    """The outcome of an attempt whose worker is gone; `how` is a whole sentence."""
    text = f"attempt {request.attempt} of task {request.name!r} is lost: {how}"
    return failed(request, WorkerLost(text))


class Deadlines(Generic[Item]):
    """Calls `expired` for each watched item at its deadline, on a thread of its own.

    The thread is started with the first item and sleeps until the nearest deadline, or until
    there is one: it never polls. Deadlines are times of `time.monotonic`.
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
        """Call back for the item at that time, unless it is forgotten before."""
        with self._changed:
            if self._closed:
                return
            self._due[item] = at
            if at >= self._wakes_at:
                return
            self._wakes_at = at
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            else:
                self._changed.notify()

    def forget(self, item: Item) -> None:
        """Do not call back for it; harmless if that has happened."""
        with self._changed:
            self._due.pop(item, None)

    def close(self) -> None:
        """End the thread; nothing is called back any more."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

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
