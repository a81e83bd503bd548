"""ReportLimits: by when an attempt that was dispatched has to be reported, or counts as lost."""

from __future__ import annotations

from mini_workflow.core.failure import Failure, failure_of
from mini_workflow.core.records import record
from mini_workflow.errors import WorkerLost


@record
class ReportLimits:
    """How long a runtime waits for the report of an attempt, in milliseconds.

    An attempt may wait `queued` before it begins, then run for its timeout, or for `longest` if that
    is less or there is no timeout, and its report may take `margin`. Without a timeout and a
    `longest` it has no deadline.
    """

    queued: int = 0
    longest: int | None = None
    margin: int = 0

    def within(self, timeout: int | None) -> int | None:
        """How long after its dispatch an attempt with that timeout is waited for; None for ever."""
        longest = self.longest
        if timeout is None or (longest is not None and longest < timeout):
            timeout = longest
        return None if timeout is None else self.queued + timeout + self.margin


def not_reported(name: str, attempt: int) -> Failure:
    """What an attempt fails with that nobody has reported by its deadline."""
    return failure_of(
        WorkerLost(
            f"attempt {attempt} of task {name!r} is lost: there was no report by its deadline"
        )
    )
