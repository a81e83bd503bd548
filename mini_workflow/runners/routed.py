"""RoutedRunner: one runner of tasks made of two, for sync and for async functions."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, Protocol

from mini_workflow.ports import AttemptCounts, CountingRunner, TaskRequest, TaskRunner


class Closing(TaskRunner, Protocol):
    """A runner that can be told beforehand that it will be closed."""

    def prepare_close(self) -> None:
        """Begin nothing any more, and tell what runs that it shall end."""
        ...

    def details(self, key: tuple[str, int, int]) -> str | None:
        """Return the details that an attempt gave last with a heartbeat, if it runs here and gave any. Any
        thread.
        """
        ...


class RoutedRunner:
    """A TaskRunner that gives sync functions to one runner and async functions to another.

    Both must have been made with the same report. Closing it closes both.
    """

    def __init__(self, sync_runner: Closing, async_runner: Closing) -> None:
        self._sync: Final = sync_runner
        self._async: Final = async_runner

    def submit(self, request: TaskRequest) -> None:
        """See TaskRunner."""
        (self._async if request.is_async else self._sync).submit(request)

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        """See TaskRunner: at most one of the two has the attempt."""
        self._sync.cancel(execution_id, seq, reason)
        self._async.cancel(execution_id, seq, reason)

    def holds(self, key: tuple[str, int, int]) -> bool:
        """See TaskRunner."""
        return self._sync.holds(key) or self._async.holds(key)

    def details(self, key: tuple[str, int, int]) -> str | None:
        """See `Closing.details`."""
        return self._sync.details(key) or self._async.details(key)

    def counts(self) -> AttemptCounts:
        """See CountingRunner."""
        return counts_of((self._sync, self._async))

    def close(self, grace: float) -> list[TaskRequest]:
        """See TaskRunner: the two share the grace."""
        ends_at = time.monotonic() + grace
        self._async.prepare_close()
        not_begun = self._sync.close(grace)
        return not_begun + self._async.close(max(0.0, ends_at - time.monotonic()))

    def prepare_close(self) -> None:
        """Begin nothing any more, and tell what runs that it shall end."""
        self._sync.prepare_close()
        self._async.prepare_close()


def counts_of(runners: Iterable[TaskRunner]) -> AttemptCounts:
    """Return the counts of several runners together, of those that count."""
    total = AttemptCounts()
    for runner in runners:
        if isinstance(runner, CountingRunner):
            total += runner.counts()
    return total
