"""WorkflowEnvironment: workflows in memory, on a clock that jumps when everybody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Final

from mini_workflow.backends.event_loop import EventLoopRunner
from mini_workflow.backends.memory import MemoryBackend, MemoryState
from mini_workflow.backends.routing import RoutedRunner
from mini_workflow.backends.threads import ThreadRunner
from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.core.codec import Codec
from mini_workflow.core.retry import seconds
from mini_workflow.engine.engine import Ports
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.executor import execute, execute_async
from mini_workflow.engine.requests import Do, Reply
from mini_workflow.engine.runtime import Runtime
from mini_workflow.ports import Report, TaskOutcome, TaskRequest, TaskRunner
from mini_workflow.testing.clock import ManualClock

DEFAULT_START: Final = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""The time at which an environment's clock begins: a constant, so that tests repeat."""

_LEASE: Final = 1000 * 366 * 24 * 3600 * 1000
"""A thousand years in milliseconds: leases must not end because a workflow sleeps."""


class WorkflowEnvironment(Runtime):
    """A runtime for tests: everything is serialized as by the other runtimes, nothing is written.

    Time stands still while tasks run, and jumps to the next timer when nothing else is left to
    do: while somebody waits in `result()`, or as far as `advance` says. A sleep of thirty days
    takes as long as its code.

    Args:
        state: what to open; pass the `state` of a closed environment to continue it.
        start: the time at which the clock begins (an aware datetime).
        cache_size: how many live executions are kept; 0 replays the history at every event.
        turn_timeout: seconds that a workflow may compute between two awaits; None for no limit.
    """

    def __init__(
        self,
        state: MemoryState | None = None,
        *,
        start: datetime = DEFAULT_START,
        cache_size: int = 4096,
        turn_timeout: float | None = 10.0,
    ) -> None:
        self.state = MemoryState() if state is None else state
        self._clock = ManualClock(round(start.timestamp() * 1000))
        self._skipping = _Skipping(self._clock)
        self._backend = MemoryBackend(
            self.state, owner="environment", clock=self._clock, lease=_LEASE
        )
        backend = self._backend
        codec = StandardCodec()
        super().__init__(
            Ports(backend.store, backend.agenda, backend.mailbox, backend.leases, self._clock),
            codec=codec,
            make_runner=partial(_make_runner, codec),
            pace=self._skipping,
            on_stop=backend.close,
            cache_size=cache_size,
            turn_limit=turn_timeout,
        )

    def now(self) -> datetime:
        """The time on the environment's clock."""
        return datetime.fromtimestamp(self._clock.now() / 1000, timezone.utc)

    def advance(self, by: float | timedelta) -> None:
        """Let `by` seconds (or a timedelta) pass, with everything that happens in them.

        Returns when the time is there and nothing is left to do at it.
        """
        arrived: Reply[None] = Reply()
        target = self._clock.now() + round(seconds(by) * 1000)
        self._inbox.put(Do(lambda: self._skipping.go(target, arrived)))
        arrived.wait()

    def settled(self, execution_id: str, timeout: float | None) -> Settled:
        """Wait as by any runtime, with time jumping meanwhile."""
        with self._skipping.waiting():
            self._inbox.put(Do(_nothing))
            return super().settled(execution_id, timeout)

    async def settled_async(self, execution_id: str) -> Settled:
        """Wait as by any runtime, with time jumping meanwhile."""
        with self._skipping.waiting():
            self._inbox.put(Do(_nothing))
            return await super().settled_async(execution_id)


class _Skipping:
    """The pace of an environment: jumps to what is due instead of waiting for it."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiters = 0
        self._target: int | None = None
        self._arrived: Reply[None] | None = None

    def waiting(self) -> _Waiting:
        """A `with` block of somebody who waits for an execution."""
        return _Waiting(self._count)

    def _count(self, change: int) -> None:
        with self._lock:
            self._waiters += change

    def go(self, target: int, arrived: Reply[None]) -> None:
        """Let time pass until `target`; `arrived` is told."""
        self._target, self._arrived = target, arrived

    def wait(self, until: int | None, idle: bool) -> float | None:
        """See `Pace.wait`."""
        now = self._clock.now()
        if until is not None and until <= now:
            return 0
        if not idle:
            return None
        if self._target is not None:
            if until is not None and until <= self._target:
                self._clock.set(until)
                return 0
            self._clock.set(max(now, self._target))
            self._target = None
            if self._arrived is not None:
                self._arrived.give(None)
            return None
        if self._waiters and until is not None and until < now + _LEASE // 4:
            self._clock.set(until)
            return 0
        return None


class _Waiting:
    def __init__(self, count: Callable[[int], None]) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._count(1)

    def __exit__(self, *_: object) -> None:
        self._count(-1)


def _nothing() -> None:
    """Wakes the engine's thread, so that it asks its pace again."""


def _make_runner(codec: Codec, report: Report) -> TaskRunner:
    def run(request: TaskRequest) -> TaskOutcome:
        return execute(request, codec)

    async def run_async(request: TaskRequest) -> TaskOutcome:
        return await execute_async(request, codec)

    return RoutedRunner(ThreadRunner(run, report), EventLoopRunner(run_async, report))
