"""LocalRuntime: workflows embedded in this process, on one SQLite file."""

from __future__ import annotations

import os
import secrets
import socket
from functools import partial
from typing import Final, Literal

from mini_workflow.backends.doorbell import Doorbell
from mini_workflow.backends.event_loop import EventLoopRunner
from mini_workflow.backends.routing import RoutedRunner
from mini_workflow.backends.sqlite import SQLiteBackend
from mini_workflow.backends.system_clock import SystemClock
from mini_workflow.backends.threads import ThreadRunner
from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.core.codec import Codec
from mini_workflow.engine.cache import DEFAULT_SIZE
from mini_workflow.engine.engine import Ports
from mini_workflow.engine.executor import execute, execute_async
from mini_workflow.engine.runtime import Runtime
from mini_workflow.engine.watchdog import DEFAULT_LIMIT
from mini_workflow.errors import StoreError, UsageError
from mini_workflow.ports import Clock, Report, TaskOutcome, TaskRequest, TaskRunner

DEFAULT_LEASE: Final = 15.0
"""Seconds after which the executions of a process that hangs are taken over by another one."""

DEFAULT_GRACE: Final = 10.0
"""Seconds that `close` gives to tasks that have begun."""


class LocalRuntime(Runtime):
    """Runs workflows in this process and keeps them in one SQLite file; a context manager.

    Opening a file continues every execution that is running in it, unless another live process
    has it open and holds them. Several processes may open one file.

    Args:
        path: the file; it is created where there is none.
        workers: processes that run sync tasks; 0 runs them on threads of this process. A script
            that uses workers must start under ``if __name__ == "__main__":``.
        threads: threads for sync tasks; by default a few more than there are cores.
        synchronous: "FULL" loses nothing that was acknowledged, even in a power cut; "NORMAL" is
            faster and may lose the last moments in one (not in a crash of the process).
        cache_size: how many waiting executions are kept in memory (about 5 KiB each).
        lease: seconds after which another process may take over from one that hangs. One that
            has died is found out at once.
        turn_timeout: seconds that a workflow may compute between two awaits; None for no limit.
        grace: seconds that `close` waits for tasks that have begun.

    Raises:
        StoreUnavailable, StoreCorrupt, StoreTooNew: the file cannot be used; it is left as it is.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        workers: int = 0,
        threads: int | None = None,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        cache_size: int = DEFAULT_SIZE,
        lease: float = DEFAULT_LEASE,
        turn_timeout: float | None = DEFAULT_LIMIT,
        grace: float = DEFAULT_GRACE,
    ) -> None:
        if workers < 0:
            raise UsageError(f"LocalRuntime(workers={workers!r}): give 0 or more")
        if lease < 1:
            raise UsageError(f"LocalRuntime(lease={lease!r}): give 1 second or more")
        clock = SystemClock()
        codec = StandardCodec()
        self._doorbell = Doorbell(lambda: self.look_around())
        try:
            backend = SQLiteBackend(
                path,
                owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
                address=self._doorbell.address,
                clock=clock,
                lease=round(lease * 1000),
                synchronous=synchronous,
            )
        except BaseException:
            self._doorbell.close()
            raise
        self._backend = backend
        self._peers: list[str] = []
        super().__init__(
            Ports(backend.store, backend.agenda, backend.mailbox, backend.leases, clock),
            codec=codec,
            make_runner=partial(_make_runner, codec, threads, workers),
            pace=_RealTime(clock),
            wake_peers=self._ring_peers,
            look_for_peers=self._look_for_peers,
            on_stop=self._close_backend,
            cache_size=cache_size,
            turn_limit=turn_timeout,
            grace=grace,
        )

    def _ring_peers(self) -> None:
        self._doorbell.ring(self._peers)

    def _look_for_peers(self) -> None:
        try:
            self._peers = self._backend.leases.peers()
        except StoreError:  # busy: they look for themselves soon
            return

    def _close_backend(self) -> None:
        self._look_for_peers()
        self._ring_peers()
        self._doorbell.close()
        self._backend.close()


class _RealTime:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def wait(self, until: int | None, idle: bool) -> float | None:
        """See `Pace.wait`."""
        return None if until is None else max(0.0, (until - self._clock.now()) / 1000)


def _make_runner(codec: Codec, threads: int | None, workers: int, report: Report) -> TaskRunner:
    run = partial(_execute, codec)
    return RoutedRunner(
        ThreadRunner(run, report, threads), EventLoopRunner(partial(_execute_async, codec), report)
    )


def _execute(codec: Codec, request: TaskRequest) -> TaskOutcome:
    return execute(request, codec)


async def _execute_async(codec: Codec, request: TaskRequest) -> TaskOutcome:
    return await execute_async(request, codec)
