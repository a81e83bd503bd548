"""Route attempts to the runners of a process: by the worker that a task names, and by sync or async."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from mini_workflow.attempts import cancelled
from mini_workflow.errors import RuntimeClosed
from mini_workflow.ports import AttemptCounts, CountingRunner, Report, TaskRequest, TaskRunner

if TYPE_CHECKING:
    from mini_workflow.runners.shared_runner import SharedRunner

log = logging.getLogger("mini_workflow.engine")


class Closing(TaskRunner, Protocol):
    """A runner that can prepare its end, so that several runners end at the same time."""

    def prepare_close(self) -> None:
        """Begin no attempt any more, and tell the running ones to end."""
        ...

    def details(self, key: tuple[str, int, int]) -> str | None:
        """Return the JSON text that an attempt gave last with a heartbeat, if it runs here and gave any. Any
        thread.
        """
        ...


class RoutedRunner:
    """A TaskRunner that gives sync functions to one runner, and async functions to another, which is made
    when the first of them comes.

    Both must have been made with the same report. Closing it closes both.
    """

    def __init__(self, sync_runner: Closing, make_async: Callable[[], Closing]) -> None:
        self._sync: Final = sync_runner
        self._make_async: Final = make_async
        self._async: Closing | None = None
        self._closed = False
        self._lock: Final = threading.Lock()

    def submit(self, request: TaskRequest) -> None:
        """See TaskRunner. Raises RuntimeClosed after `close`."""
        if request.is_async:
            (self._async or self._made()).submit(request)
        else:
            self._sync.submit(request)

    def _made(self) -> Closing:
        with self._lock:
            if self._async is None:
                if self._closed:
                    raise RuntimeClosed("the runner of tasks was closed")
                self._async = self._make_async()
            return self._async

    @property
    def _both(self) -> tuple[Closing, ...]:
        return (self._sync,) if self._async is None else (self._sync, self._async)

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        """See TaskRunner: at most one of the two has the attempt."""
        for runner in self._both:
            runner.cancel(execution_id, seq, reason)

    def holds(self, key: tuple[str, int, int]) -> bool:
        """See TaskRunner."""
        return any(runner.holds(key) for runner in self._both)

    def details(self, key: tuple[str, int, int]) -> str | None:
        """See `Closing.details`."""
        return next(filter(None, (runner.details(key) for runner in self._both)), None)

    def counts(self) -> AttemptCounts:
        """See CountingRunner."""
        return counts_of(self._both)

    def close(self, grace: float) -> list[TaskRequest]:
        """See TaskRunner: the two share the grace."""
        ends_at = time.monotonic() + grace
        self.prepare_close()
        not_begun = list[TaskRequest]()
        for runner in self._both:
            not_begun += runner.close(max(0.0, ends_at - time.monotonic()))
        return not_begun

    def prepare_close(self) -> None:
        """Begin no attempt any more, and tell the running ones to end."""
        with self._lock:
            self._closed = True
        for runner in self._both:
            runner.prepare_close()


def worker_message(worker: str) -> str:
    """Return the remedy for tasks that wait for a worker which no process serves."""
    return (
        f"run mini-workflow worker MODULE --label {worker}, or open a runtime with "
        f"labels=[{worker!r}] or workers={{{worker!r}: 1}}"
    )


def counts_of(runners: Iterable[TaskRunner]) -> AttemptCounts:
    """Return the counts of several runners together; those that do not count add none."""
    total = AttemptCounts()
    for runner in runners:
        if isinstance(runner, CountingRunner):
            total += runner.counts()
    return total


class NamedWorkers:
    """A TaskRunner that routes attempts by the worker that their task names.

    `default` runs tasks that name no worker. `others` has the runners of named workers, which may be the
    default one too. All must have been made with the same `report`. An attempt for another worker goes to
    other processes through `elsewhere`; without it the attempt waits here until it is cancelled or handed
    back. Closing this runner closes the others.
    """

    def __init__(
        self,
        default: Closing,
        others: Mapping[str, Closing],
        report: Report,
        elsewhere: SharedRunner | None = None,
    ) -> None:
        self._default: Final = default
        self._others: Final = dict(others)
        self._all: Final = list(dict.fromkeys((default, *others.values())))
        self._report: Final = report
        self._elsewhere: Final = elsewhere
        self._lock: Final = threading.Lock()
        self._waiting: Final[dict[tuple[str, int, int], TaskRequest]] = {}
        self._warned: Final[set[str]] = set()
        self._closed = False

    def submit(self, request: TaskRequest) -> None:
        """See TaskRunner. Raises RuntimeClosed after `close`."""
        worker = request.worker
        if not worker:
            self._default.submit(request)
            return
        runner = self._others.get(worker)
        if runner is not None:
            runner.submit(request)
            return
        if self._elsewhere is not None:
            self._elsewhere.submit(request)
            return
        with self._lock:
            if self._closed:
                raise RuntimeClosed("the runner of tasks was closed. Open a new runtime.")
            self._waiting[request.key] = request
            first = worker not in self._warned
            self._warned.add(worker)
        if first:
            log.warning(
                "[%s] task %r waits for worker %r, which this process does not serve; so do other tasks "
                "that name it. Remedy: %s",
                request.execution_id,
                request.name,
                worker,
                worker_message(worker),
            )

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        """See TaskRunner: at most one of the runners has the attempt."""
        with self._lock:
            found = [key for key in self._waiting if key[:2] == (execution_id, seq)]
            dropped = [self._waiting[key] for key in found]
        for request in dropped:
            self._report(cancelled(request))
            with self._lock:
                self._waiting.pop(request.key, None)
        for runner in self._all:
            runner.cancel(execution_id, seq, reason)
        if self._elsewhere is not None:
            self._elsewhere.cancel(execution_id, seq, reason)

    def holds(self, key: tuple[str, int, int]) -> bool:
        """See TaskRunner."""
        return (
            key in self._waiting
            or any(runner.holds(key) for runner in self._all)
            or (self._elsewhere is not None and self._elsewhere.holds(key))
        )

    def kept(self) -> list[tuple[str, int, int]]:
        """See NamedWorkerRunner."""
        return [] if self._elsewhere is None else self._elsewhere.kept()

    def look(self) -> None:
        """See NamedWorkerRunner."""
        if self._elsewhere is not None:
            self._elsewhere.look()

    def counts(self) -> AttemptCounts:
        """See CountingRunner: attempts for other workers wait here."""
        return counts_of(self._all) + AttemptCounts(wait=len(self._waiting))

    def unserved(self, execution_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
        """See NamedWorkerRunner."""
        if self._elsewhere is not None:
            return self._elsewhere.unserved(execution_ids)
        with self._lock:
            waiting = list(self._waiting.values())
        workers = {
            name: tuple(sorted({r.worker for r in waiting if r.execution_id == name}))
            for name in execution_ids
        }
        return {name: found for name, found in workers.items() if found}

    def close(self, grace: float) -> list[TaskRequest]:
        """See TaskRunner: the runners share the grace."""
        ends_at = time.monotonic() + grace
        self.prepare_close()
        with self._lock:
            handed_back = list(self._waiting.values())
            self._waiting.clear()
        for runner in self._all:
            handed_back += runner.close(max(0.0, ends_at - time.monotonic()))
        if self._elsewhere is not None:
            handed_back = self._elsewhere.close(handed_back)
        return handed_back

    def prepare_close(self) -> None:
        """Begin no attempt any more, and tell the running ones to end."""
        with self._lock:
            self._closed = True
        if self._elsewhere is not None:
            self._elsewhere.prepare_close()
        for runner in self._all:
            runner.prepare_close()
