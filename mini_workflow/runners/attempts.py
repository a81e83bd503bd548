"""Attempts: the table of the attempts that a runner has, from their submission to their report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, Generic, Protocol, TypeVar

from mini_workflow.attempts import (
    CLOSING,
    TOO_SILENT,
    Deadlines,
    Limits,
    cancelled,
    handed_back,
    lost,
    silent,
    timed_out,
    was_cancelled,
)
from mini_workflow.core.records import replace
from mini_workflow.errors import RuntimeClosed
from mini_workflow.ports import AttemptCounts, Report, TaskOutcome, TaskRequest
from mini_workflow.task import CurrentTask
from mini_workflow.worker_name import worker_name


def _system_now() -> int:
    return time.time_ns() // 1_000_000


class Attempt:
    """One attempt and its state. A runner adds the fields that it needs in a subclass."""

    __slots__ = (
        "began_at",
        "begun",
        "current",
        "limits",
        "over",
        "ran_on",
        "request",
        "silent",
        "since",
    )

    def __init__(self, request: TaskRequest) -> None:
        self.request: Final = request
        self.begun = False
        self.began_at = 0  # when, in milliseconds since the epoch
        self.ran_on = ""
        self.current: CurrentTask | None = None  # once it has begun, if that is in this process
        self.limits: Limits | None = None
        self.silent = False  # told that its heartbeat is missing
        self.over = False  # reported, or handed back
        self.since = time.monotonic()
        """The time (`time.monotonic`) at which it was taken or, once it has begun, at which it began."""

    @property
    def details(self) -> str | None:
        """The JSON text that the attempt gave last with a heartbeat, or None."""
        return None if self.current is None else self.current.details

    def placed(self, outcome: TaskOutcome) -> TaskOutcome:
        """Return the outcome with the time and the worker at which the attempt began."""
        return (
            replace(outcome, begun=self.began_at, ran_on=self.ran_on) if self.began_at else outcome
        )


def was_stopped(current: CurrentTask) -> TaskOutcome:
    """Return the outcome of an async attempt that asyncio has cancelled. The attempt is lost, unless it was
    told to end.
    """
    request, details = current.request, current.details
    if current.is_told:
        return cancelled(request, details)
    how = "something other than the engine has cancelled its asyncio task."
    return lost(request, how, details)


Item = TypeVar("Item", bound=Attempt)
Item_contra = TypeVar("Item_contra", bound=Attempt, contravariant=True)


class Owner(Protocol[Item_contra]):
    """The part of a runner that its table of attempts calls."""

    def tell(self, attempt: Item_contra, /, reason: str) -> None:
        """Tell an attempt that has begun to end, and stop it if possible; with CLOSING, do not stop it."""
        ...

    def grace(self, attempt: Item_contra, /) -> float:
        """Return the seconds that an attempt has to end once it was told that its heartbeat is missing."""
        ...

    def give_up(self, attempt: Item_contra, /) -> Callable[[], None] | None:
        """Free the place of an attempt that was ended because it is past its limits. With the lock held.

        Answers a function to call without the lock once the attempt was reported, or None.
        """
        ...


class Looks(Protocol):
    """Does something at a time of its own, on the thread that watches the limits."""

    def look(self) -> None:
        """Do what is due."""
        ...


class Attempts(Generic[Item]):
    """Reports each attempt that it takes once, or hands it back once.

    `lock` protects everything here, and in the attempts. The methods that need it held say so; the
    others are called without it.
    """

    def __init__(
        self,
        owner: Owner[Item],
        report: Report,
        name: str,
        now: Callable[[], int] | None = None,
    ) -> None:
        """`name` names the thread that watches the limits. `now` returns milliseconds since the epoch, by
        default those of the system's clock.
        """
        self._now: Final = now or _system_now
        self._place: Final = worker_name()
        self.lock: Final = threading.Lock()
        self.deadlines: Final[Deadlines[Item | Looks]] = Deadlines(self._expire, name)
        self.drained: Final = threading.Event()
        """Set once `stop` was called and nothing runs any more."""
        self.closed = False
        self.begun = 0
        """The number of attempts that have begun and are not over."""
        self._begun = self._ended = 0
        self._waited = self._longest_wait = self._ran = self._longest_run = 0.0
        self._owner: Final = owner
        self._to: Final = report
        self._unreported: Final[set[tuple[str, int, int]]] = set()
        self._all: Final[dict[tuple[str, int], Item]] = {}
        self._ending: Final[list[Item]] = []
        self._returned: Final[list[TaskRequest]] = []

    def __bool__(self) -> bool:
        """Return whether there are attempts that are not over."""
        return bool(self._all)

    def __iter__(self) -> Iterator[Item]:
        """Iterate over the attempts that are not over. With the lock held."""
        return iter(list(self._all.values()))

    def holds(self, key: tuple[str, int, int]) -> bool:
        """See `TaskRunner.holds`. Any thread, with or without the lock."""
        return key in self._unreported

    def details(self, key: tuple[str, int, int]) -> str | None:
        """See `Closing.details`. Any thread."""
        attempt = self._all.get(key[:2])
        return attempt.details if attempt is not None and attempt.request.key == key else None

    def counts(self) -> AttemptCounts:
        """See `CountingRunner`."""
        with self.lock:
            waiting = len(self._all) - self.begun
            return AttemptCounts(
                *(self.begun, max(0, waiting), self._begun, self._waited, self._longest_wait),
                *(self._ended, self._ran, self._longest_run),
            )

    def report(self, outcome: TaskOutcome, to: Report | None = None) -> None:
        """Report the outcome of an attempt, which counts as held until that is done. `to` takes it in place
        of the usual report.
        """
        try:
            (to or self._to)(outcome)
        finally:
            self._unreported.discard((outcome.execution_id, outcome.seq, outcome.attempt))

    def cancel(self, execution_id: str, seq: int, reason: str) -> None:
        """Drop an attempt that has not begun, and tell one that has."""
        with self.lock:
            attempt = self._all.get((execution_id, seq))
            if attempt is None:
                return
            begun = attempt.begun
            if not begun:
                self.end(attempt)
        if begun:
            self._owner.tell(attempt, reason)
        else:
            self.report(cancelled(attempt.request))

    def stop(self) -> None:
        """Take and begin no attempt any more; tell the running ones to end. May be repeated."""
        with self.lock:
            self.closed = True
            begun: list[Item] = []
            for attempt in self:
                if attempt.begun:
                    begun.append(attempt)
                else:
                    self.hand_back(attempt)
            if not self.begun:
                self.drained.set()
        for attempt in begun:
            self._owner.tell(attempt, CLOSING)

    def end_all(self) -> list[Item]:
        """End the attempts that still run. They are handed back with the details that they have by then."""
        with self.lock:
            running = list(self)
            for attempt in running:
                self.end(attempt)
            self._ending.extend(running)
            return running

    def handed_back(self) -> list[TaskRequest]:
        """Return all attempts that are handed back, those that never began first. Limits are not watched any
        more.
        """
        self.deadlines.close()
        with self.lock:
            late = (handed_back(attempt.request, attempt.details) for attempt in self._ending)
            returned = [*self._returned, *late]
            self._returned.clear()
            self._ending.clear()
            self._unreported.clear()
            return returned

    # With the lock held

    def take(self, attempt: Item) -> None:
        """Add a new attempt. Raises RuntimeClosed after `stop`."""
        if self.closed:
            raise RuntimeClosed("the runner of tasks was closed. Open a new runtime.")
        request = attempt.request
        self._all[request.execution_id, request.seq] = attempt
        self._unreported.add((request.execution_id, request.seq, request.attempt))

    def forget(self, attempt: Item) -> None:
        """Remove an attempt that was just taken, and that nobody here will run."""
        request = attempt.request
        attempt.over = True
        self._all.pop((request.execution_id, request.seq), None)
        self._unreported.discard(request.key)

    def find(self, request: TaskRequest) -> Item | None:
        """Return the attempt that was made of a request, unless it is over."""
        attempt = self._all.get((request.execution_id, request.seq))
        return attempt if attempt is not None and attempt.request is request else None

    def begin_here(self, attempt: Item, limits: Limits | None) -> CurrentTask | None:
        """Have an attempt begin whose code runs in this process. Returns the CurrentTask for that code; None
        where `begin` answers False.
        """
        if not self.begin(attempt, limits):
            return None
        current = attempt.current = CurrentTask(attempt.request, limits)
        current.begun, current.ran_on = attempt.began_at, attempt.ran_on
        return current

    def begin(self, attempt: Item, limits: Limits | None) -> bool:
        """Have an attempt begin. Answers False, and does nothing, if it is over or the runner is closed."""
        if attempt.over or self.closed:
            return False
        attempt.begun = True
        attempt.began_at = self._now()
        attempt.ran_on = attempt.ran_on or self._place
        now = time.monotonic()
        waited, attempt.since = now - attempt.since, now
        self._begun += 1
        self._waited += waited
        if waited > self._longest_wait:
            self._longest_wait = waited
        attempt.limits = limits
        self.begun += 1
        if limits is not None:
            self.deadlines.watch(attempt, limits.due)
        return True

    def begins_anew(self, attempt: Item) -> None:
        """Note that an attempt has not begun after all, and will begin later."""
        attempt.begun = False
        self.begun -= 1
        self._begun -= 1
        if attempt.limits is not None:
            self.deadlines.forget(attempt)
            # The thread that watches the limits may have this attempt in hand already.
            attempt.limits = None

    def end(self, attempt: Item) -> bool:
        """End an attempt. Answers False if it was over before."""
        if attempt.over:
            return False
        attempt.over = True
        if attempt.begun:
            ran = time.monotonic() - attempt.since
            self._ended += 1
            self._ran += ran
            if ran > self._longest_run:
                self._longest_run = ran
            self.begun -= 1
            if self.closed and not self.begun:
                self.drained.set()
        if attempt.limits is not None:
            self.deadlines.forget(attempt)
        key = attempt.request.execution_id, attempt.request.seq
        if self._all.get(key) is attempt:
            del self._all[key]
        return True

    def finish(self, attempt: Item, outcome: TaskOutcome) -> TaskOutcome | None:
        """End an attempt that has ended by itself. Returns the outcome that the caller is to report, or None
        if there is nothing to report.
        """
        if self.closed and was_cancelled(outcome):
            self.hand_back(attempt, outcome.heartbeat or attempt.details)
            return None
        if not self.end(attempt):
            return None
        if attempt.silent:
            outcome = silent(attempt.request, outcome.heartbeat or attempt.details)
        return outcome if outcome.begun else attempt.placed(outcome)

    def hand_back(self, attempt: Item, details: str | None = None) -> None:
        """End an attempt that goes on when the runtime is opened again."""
        if not attempt.over:
            # Before it counts as ended: `close` of the runner might read the list too early.
            self._returned.append(handed_back(attempt.request, details))
            self.end(attempt)

    # On the thread that watches the limits

    def _expire(self, item: Item | Looks) -> None:
        if not isinstance(item, Attempt):
            with suppress(Exception):  # of a handler of logging: limits are watched all the same
                item.look()
            return
        attempt = item
        telling = False
        then: Callable[[], None] | None = None
        with self.lock:
            limits = attempt.limits
            if attempt.over or limits is None:
                return
            now = time.monotonic()
            if not attempt.silent:
                if limits.due > now:  # there was a heartbeat
                    self.deadlines.watch(attempt, limits.due)
                    return
                if limits.silent:
                    attempt.silent = True
                    grace = self._owner.grace(attempt)
                    telling = grace > 0
                    if telling:
                        self.deadlines.watch(attempt, now + grace)
            if not telling:
                self.end(attempt)
                then = self._owner.give_up(attempt)
        if telling:
            self._owner.tell(attempt, TOO_SILENT)
            return
        outcome = silent if attempt.silent else timed_out
        self.report(attempt.placed(outcome(attempt.request, attempt.details)))
        if then is not None:
            then()
