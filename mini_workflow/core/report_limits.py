"""Compute the deadline for the report of a dispatched attempt. Without a report the attempt is lost."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from mini_workflow.core.failure import Failure, failure_of
from mini_workflow.core.records import record
from mini_workflow.errors import WorkerLost

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState


@record
class ReportLimits:
    """The time for which a runtime waits for the report of an attempt, in milliseconds.

    An attempt may wait `queued` before it begins, then run for its timeout, or for `longest` if that
    is less or there is no timeout, and its report may take `margin`. An attempt without a timeout and
    a `longest` has no deadline. `others` has the limits of particular workers, by name.
    """

    queued: int = 0
    longest: int | None = None
    margin: int = 0
    others: Mapping[str, ReportLimits] | None = None

    def of(self, worker: str) -> ReportLimits:
        """Return the limits of the attempts of a worker."""
        return self if self.others is None else self.others.get(worker, self)

    def within(self, timeout: int | None) -> int | None:
        """Return the milliseconds from the dispatch of an attempt with that `timeout` to its deadline;
        None if it has no deadline.
        """
        longest = self.longest
        if timeout is None or (longest is not None and longest < timeout):
            timeout = longest
        return None if timeout is None else self.queued + timeout + self.margin


class ReportDeadlines:
    """The deadlines for the reports of the attempts in flight, by the number of their task."""

    __slots__ = ("_began", "_due", "_heap", "open")

    def __init__(self) -> None:
        self._due: dict[int, int] = {}
        self._began: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []
        self.open = self._due
        """The deadlines by the number of the task, for a quick test whether there are any."""

    def __getitem__(self, seq: int) -> int:
        """Return the deadline of a task's attempt. Raises KeyError if there is none."""
        return self._due[seq]

    def __contains__(self, seq: int) -> bool:
        return seq in self._due

    def set(self, seq: int, began: int, within: int | None) -> None:
        """Set the deadline of an attempt: `within` milliseconds after it `began` (milliseconds since the
        epoch). With None it has no deadline.
        """
        if within is None:
            return
        self._began[seq] = began
        self._due[seq] = began + within
        heap = self._heap
        heappush(heap, (began + within, seq))
        if len(heap) > 64 + 2 * len(self._due):
            # Most entries are stale. Tasks that end long before their deadlines must not pile up.
            heap[:] = [(at, open_seq) for open_seq, at in self._due.items()]
            heapify(heap)

    def drop(self, seq: int) -> None:
        """Drop the deadline of a task's attempt, if it has one."""
        if self._due.pop(seq, None) is not None:
            del self._began[seq]

    def clear(self) -> None:
        """Drop all deadlines."""
        self._due.clear()
        self._began.clear()
        self._heap.clear()

    def first(self) -> tuple[int, int] | None:
        """Return the deadline that comes first, and the number of its task."""
        heap = self._heap
        while heap:
            at, seq = heap[0]
            if self._due.get(seq) == at:
                return at, seq
            heappop(heap)
        return None

    def passed(self, now: int) -> list[int]:
        """Return the numbers of the tasks whose attempts should have been reported by now."""
        return [seq for seq, at in self._due.items() if at <= now]

    def clock_set_back(self, now: int) -> None:
        """Move deadlines after the clock was set back: an attempt that began later than `now` counts as
        begun now.
        """
        for seq, began in list(self._began.items()):
            if began > now:
                self.set(seq, now, self._due[seq] - began)


NO_DEADLINES: Final = ReportDeadlines()
"""The empty deadlines that all runs share whose attempts have none."""


def wait_for_report(state: ExecutionState, seq: int, began: int, within: int | None) -> None:
    """Set the deadline of an attempt in a state: see `ReportDeadlines.set`."""
    if state.deadlines is NO_DEADLINES:
        state.deadlines = ReportDeadlines()
    state.deadlines.set(seq, began, within)


def not_reported(name: str, attempt: int) -> Failure:
    """Return the failure of an attempt whose report has not come by its deadline."""
    return failure_of(
        WorkerLost(
            f"attempt {attempt} of task {name!r} is lost: its worker did not report by the deadline"
        )
    )
