"""Open an engine on a backend for the threads of a program."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Final

from mini_workflow.core.codec import Codec
from mini_workflow.core.seed import ENTROPY_BITS
from mini_workflow.engine.client import Client
from mini_workflow.engine.engine import Engine, Ports
from mini_workflow.engine.engine_role import EngineRole, Pace
from mini_workflow.engine.engine_transport import EngineTransport
from mini_workflow.engine.executor import execute
from mini_workflow.engine.instants import instant
from mini_workflow.engine.leading import HeldInterrupt, is_inside_a_call, is_main
from mini_workflow.engine.metrics import Latency, Metrics
from mini_workflow.engine.requests import Release
from mini_workflow.engine.takeover import LeaseRenewal
from mini_workflow.engine.waiters import Changed
from mini_workflow.errors import RuntimeClosed, StoreError, UsageError
from mini_workflow.heartbeat_buffer import HeartbeatBuffer
from mini_workflow.interceptors import NO_INTERCEPTORS, Interceptors
from mini_workflow.ports import (
    STATUSES,
    AttemptCounts,
    CountingRunner,
    HandIn,
    NamedWorkerRunner,
    NoStreams,
    Report,
    Store,
    TaskOutcome,
    TaskRunner,
)
from mini_workflow.ports.heartbeats import heartbeats_of
from mini_workflow.stream_buffer import StreamBuffer
from mini_workflow.threads import start_thread
from mini_workflow.workflow import REGISTRY

if TYPE_CHECKING:
    from mini_workflow.engine.turn import Turn

log = logging.getLogger("mini_workflow.engine")

RELEASE_SECONDS: Final = 5.0
"""Seconds beyond the grace that a `close` in a signal handler waits at most. Our own bound."""


class Runtime(Client):
    """Runs workflows on a backend. `embed` and the modules of `runtimes` make one.

    Args:
        ports: the backend.
        codec: encodes values and closures.
        interceptors: surround calls and workflows, and hear of commits.
        make_runner: makes the runner of tasks. It takes the report, the HandIn for threads that may lead the
            engine meanwhile (`EngineRole.hand_in`), and the buffer for chunks of tasks; None if the
            backend has no streams.
        cache_size: the number of waiting executions that are kept in memory.
        turn_limit: seconds that a workflow may compute between two awaits; None for no limit.
        grace: seconds that `close` waits for tasks that have begun.
        history_limit: events after which an execution that has not continued as new is blocked.
        pace: the pace of the engine's own thread, if it does not wait in real time.
        notify_peers: tells other processes that have the same store open to look at it.
        on_stop: called at the end, to close the backend.
        execute_inline: runs the tasks that run inside a turn.
        renew_every: seconds between two extensions of the lease by a thread of its own; None for
            none, where no other process can take over.
        enlists_as_leader: see `EngineTransport`.
        retention: seconds (or a timedelta) after their end at which executions are deleted; None for
            never.
        drops_runs: whether the backend drops the events of runs that are over.
    """

    def __init__(
        self,
        ports: Ports,
        *,
        codec: Codec,
        interceptors: Interceptors = NO_INTERCEPTORS,
        make_runner: Callable[[Report, HandIn, StreamBuffer | None], TaskRunner],
        cache_size: int,
        turn_limit: float | None,
        grace: float,
        history_limit: int,
        pace: Pace | None = None,
        notify_peers: Callable[[], None] = lambda: None,
        on_stop: Callable[[], None] = lambda: None,
        execute_inline: Callable[..., TaskOutcome] = execute,
        renew_every: float | None = None,
        enlists_as_leader: bool = False,
        retention: float | timedelta | None = None,
        drops_runs: bool = False,
    ) -> None:
        try:
            keep = None if retention is None else _milliseconds_of(retention)
        except UsageError:
            on_stop()
            raise
        self._ports = ports
        self._opened_at = instant(ports.clock.now())
        self._grace = grace
        self._on_stop = on_stop
        self._closing = threading.Lock()
        self._closer = 0  # the thread that closes
        self._released = threading.Event()
        self._ended = False
        self._role = EngineRole(
            store=ports.store,
            clock=ports.clock,
            pace=pace,
            notify_peers=notify_peers,
            on_end=self._end,
        )
        transport = EngineTransport(
            self._role,
            ports.store,
            ports.clock,
            ports.streams or NoStreams(),
            enlists_as_leader=enlists_as_leader,
        )
        self._buffer: StreamBuffer | None = None
        if ports.streams is not None:
            beats = HeartbeatBuffer(heartbeats_of(ports.streams), ports.clock.now)
            self._buffer = StreamBuffer(ports.streams.append, self._chunks_stored, heartbeats=beats)
        self._announce = notify_peers
        super().__init__(transport, transport.store, codec, REGISTRY, interceptors)
        self._engine_transport = transport
        self._renewal: LeaseRenewal | None = None
        try:
            self._runner = make_runner(self._role.put, self._role.hand_in, self._buffer)
            try:
                self._engine = Engine(
                    ports,
                    codec=codec,
                    definitions=interceptors.definitions(REGISTRY.get),
                    known=REGISTRY.known,
                    entropy=_draw_entropy,
                    on_close=self._role.announce,
                    report=self._role.put,
                    notify_peers=self._role.notify_peers_later,
                    on_chunks=self._role.announce_chunks,
                    on_change=self._role.announce_change,
                    cache_size=cache_size,
                    turn_limit=turn_limit,
                    history_limit=history_limit,
                    execute_inline=partial(execute_inline, around=interceptors.around_task),
                    on_turn=_telling(interceptors, ports.store),
                    retention=keep,
                    drops_runs=drops_runs,
                )
                if renew_every is not None:
                    self._renewal = LeaseRenewal(
                        ports.leases, ports.clock, interval=renew_every, hangs=self._engine.hangs
                    )
                    self._renewal.start()
                self._engine.open(self._runner)
            except BaseException:
                self._stop_renewal()
                self._runner.close(0)
                if self._buffer is not None:
                    self._buffer.close()
                # Nobody waits for the end of its time, as after Ctrl-C.
                with contextlib.suppress(StoreError):
                    ports.leases.release()
                raise
        except BaseException:
            on_stop()
            raise
        try:
            with HeldInterrupt(lambda: False) if is_main() else contextlib.nullcontext():
                self._role.start(self._engine)
            notify_peers()
        except BaseException:
            self._close()
            raise

    # For users

    def close(self) -> None:
        """Stop. Tasks that have begun have some seconds to end; running executions stay in the
        store, and the next runtime that opens it continues them.

        Harmless if it was closed before. Callers that still wait for a result get RuntimeClosed. In a
        signal handler that has interrupted another call, that call ends the runtime: this returns once
        executions are free for the next runtime, and the file is closed when the call has returned.
        """
        if self._engine_transport.process != os.getpid():
            return  # a copy made by fork: the runtime itself belongs to the other process
        self._engine_transport.check_outside()
        if not is_inside_a_call():
            self._close()
        elif self._closer != get_ident():
            # The interrupted call may hold what the end of the runtime waits for.
            start_thread(threading.Thread(target=self._close, name="mini-workflow-close"))
            self._released.wait(self._grace + RELEASE_SECONDS)

    def _close(self) -> None:
        super().close()
        with self._closing:
            if self._ended:
                return
            self._closer = get_ident()
            try:
                self._stop()
            finally:
                self._closer = 0

    def _stop(self) -> None:
        self._engine_transport.closed = True
        # Each of these steps may be repeated: Ctrl-C may have interrupted a close before.
        with contextlib.suppress(RuntimeClosed):
            self._role.call(self._engine.drain)
        for request in self._runner.close(self._grace):
            self._role.put(Release(*request.key, request.heartbeat))
        if self._buffer is not None:
            self._buffer.close()
        self._role.stop()
        self._interceptors.flush()
        self._ended = True

    def evict(self) -> None:
        """Drop all live executions from memory; the next event of each replays it."""
        self._engine_transport.check()
        self._role.call(self._engine.evict)

    def metrics(self) -> Metrics:
        """Return the metrics as of now: executions and attempts, their durations, and failures.

        Counts the executions in the store by an index, which takes a moment if there are very many. Raises
        StoreUnavailable and RuntimeClosed.
        """
        self._engine_transport.check()
        runner, counts = self._runner, self._engine.counts
        attempts = runner.counts() if isinstance(runner, CountingRunner) else AttemptCounts()
        return Metrics(
            since=self._opened_at,
            executions={status: self.count_executions(status=status) for status in STATUSES},
            tasks_running=attempts.run,
            tasks_waiting=attempts.wait,
            attempts=attempts.ended,
            retries=counts.retries,
            failed_tasks=counts.failed,
            blocked=counts.blocked,
            queue_wait=Latency(attempts.begun, attempts.waited, attempts.longest_wait),
            task_time=Latency(attempts.ended, attempts.ran, attempts.longest_run),
            execution_time=counts.latency,
            turns=counts.turns,
            commits=counts.commits,
            cached=counts.cached,
        )

    def _unserved(self, execution_ids: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        runner = self._runner
        return runner.unserved(execution_ids) if isinstance(runner, NamedWorkerRunner) else {}

    def awaited_elsewhere(self) -> list[str] | None:
        """Return the executions that callers here wait for and another process runs; None if a caller waits
        for any change. Any thread.
        """
        if self._role.watchers:
            return None
        return [name for name in self._role.waiters.names() if not self._role.runs(name)]

    def on_wait(self, entered: Callable[[], None], *, looks: float) -> None:
        """Have `entered` called whenever a caller begins to wait for an execution. Readers of streams that
        another process writes look again after at most `looks` seconds.
        """
        self._role.waiters.entered = self._role.watchers.entered = entered
        self._engine_transport.looks = looks

    def look_around(self) -> None:
        """Look at the store: another process may have changed it. Callable from any thread."""
        self._role.wake_up()
        if isinstance(self._runner, NamedWorkerRunner):
            self._runner.look()

    def _chunks_stored(self, executions: set[str]) -> None:
        """Tell readers of streams, here and in other processes, on the thread of the buffer."""
        for name in executions:
            self._role.readers.tell(name, Changed())
        self._announce()

    def _end(self) -> None:
        """Clean up as the last thing on the engine's own thread, however it ends."""
        self._engine_transport.closed = True
        self._stop_renewal()
        try:
            self._ports.leases.release()
        except StoreError as error:
            log.error(
                "the lease could not be released; the next opening takes the executions over: %s",
                error,
            )
        finally:
            self._released.set()
            self._on_stop()

    def _stop_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal.stop()


def _draw_entropy() -> int:
    # The same as `secrets.randbits`, without the import.
    size = -(-ENTROPY_BITS // 8)
    return int.from_bytes(os.urandom(size)) >> (8 * size - ENTROPY_BITS)


def _telling(interceptors: Interceptors, store: Store) -> Callable[[Turn], None] | None:
    if not interceptors.hear:
        return None
    from mini_workflow.engine.intercepted import telling

    return telling(interceptors, store)


def _milliseconds_of(retention: float | timedelta) -> int:
    from mini_workflow.engine.deletions import retention_of

    return retention_of(retention)
