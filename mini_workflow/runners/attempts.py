"""Attempts: the attempts that a runner of tasks has, from their submission to their report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

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

if TYPE_CHECKING:
    from mini_workflow.runners.loop_monitor import LoopMonitor


def _system_now() -> int:
    return time.time_ns() // 1_000_000


class Attempt:
    """One attempt and what has become of it. Runners add what they need to know."""

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
        """When it was taken, or has begun."""

    @property
    def details(self) -> str | None:
        """What it gave last with a heartbeat, as JSON text."""
        return None if self.current is None else self.current.details

    def placed(self, outcome: TaskOutcome) -> TaskOutcome:
        """Return its outcome, which says when and where it began."""
        return (
            replace(outcome, begun=self.began_at, ran_on=self.ran_on) if self.began_at else outcome
        )


def was_stopped(current: CurrentTask) -> TaskOutcome:
    """Return the outcome of an async attempt that asyncio has cancelled: it is lost if nobody asked
    for that.
    """
    request, details = current.request, current.details
    if current.is_told:
        return cancelled(request, details)
    how = "something other than the engine has cancelled its asyncio task."
    return lost(request, how, details)


Item = TypeVar("Item", bound=Attempt)
Item_contra = TypeVar("Item_contra", bound=Attempt, contravariant=True)


class Owner(Protocol[Item_contra]):
    """The runner, as its attempts see it."""

    def tell(self, attempt: Item_contra, /, reason: str) -> None:
        """Tell an attempt that has begun that it shall end; with CLOSING, do not stop it."""
        ...

    def grace(self, attempt: Item_contra, /) -> float:
        """Return seconds that an attempt has to end once it was told that its
        heartbeat is missing.
        """
        ...

    def give_up(self, attempt: Item_contra, /) -> Callable[[], None] | None:
        """Return an attempt is past its limits, and was ended: free what it took. With the lock
        held.

        Answers what is left to do once the attempt was reported, without the lock.
        """
        ...


class Attempts(Generic[Item]):
    """Sees to it that each attempt that it takes is reported once, or handed back once.

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
        """`name` is that of the thread that watches the limits; `now` tells milliseconds since the
        epoch, by default as the system's clock does.
        """
        self._now: Final = now or _system_now
        self._place: Final = worker_name()
        self.lock: Final = threading.Lock()
        self.deadlines: Final[Deadlines[Item | LoopMonitor]] = Deadlines(self._expire, name)
        self.drained: Final = threading.Event()
        """Set once `stop` was called and nothing runs any more."""
        self.closed = False
        self.begun = 0
        """How many have begun and are not over."""
        self._begun = self._ended = 0
        self._waited = self._longest_wait = self._ran = self._longest_run = 0.0
        self._owner: Final = owner
        self._to: Final = report
        self._unreported: Final[set[tuple[str, int, int]]] = set()
        self._all: Final[dict[tuple[str, int], Item]] = {}
        self._ending: Final[list[Item]] = []
        self._returned: Final[list[TaskRequest]] = []

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._all)

    def __iter__(self) -> Iterator[Item]:
        """Over those that are not over. With the lock held."""
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
        """Report what became of an attempt, which is held until that is done; `to` somebody else than
        usual.
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
        """Take and begin nothing any more; tell what runs that it shall end. May be repeated."""
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
        """End what still runs, to be handed back with the details that it has at the end."""
        with self.lock:
            running = list(self)
            for attempt in running:
                self.end(attempt)
            self._ending.extend(running)
            return running

    def handed_back(self) -> list[TaskRequest]:
        """Return all that is handed back, those that never began first. No limits are watched any
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
            raise RuntimeClosed("the runner of tasks was closed")
        request = attempt.request
        self._all[request.execution_id, request.seq] = attempt
        self._unreported.add((request.execution_id, request.seq, request.attempt))

    def begin_here(self, attempt: Item, limits: Limits | None) -> CurrentTask | None:
        """Have an attempt begin whose code runs in this process, and return what that is given; None as
        for `begin`.
        """
        if not self.begin(attempt, limits):
            return None
        current = attempt.current = CurrentTask(attempt.request, limits)
        current.begun, current.ran_on = attempt.began_at, attempt.ran_on
        return current

    def begin(self, attempt: Item, limits: Limits | None) -> bool:
        """Have an attempt begin, unless it is over, or nothing begins any more: then False."""
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
        """Note that an attempt has not begun after all, and will."""
        attempt.begun = False
        self.begun -= 1
        self._begun -= 1
        if attempt.limits is not None:
            self.deadlines.forget(attempt)

    def end(self, attempt: Item) -> bool:
        """End an attempt; answers whether the caller is the one who ended it."""
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
        """Return an attempt has ended by itself. Answers what the caller is to
        report, if anything.
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
            # Before it counts as ended, or whoever closes might look too early.
            self._returned.append(handed_back(attempt.request, details))
            self.end(attempt)

    # On the thread that watches the limits

    def _expire(self, item: Item | LoopMonitor) -> None:
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
