"""LocalRuntime: runs workflows in this process, on one SQLite file; with EmbeddedRuntime, the part that it
shares with other embedded runtimes.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypedDict, Unpack

from mini_workflow.codecs.payload_codecs import Codecs
from mini_workflow.codecs.standard import (
    DEFAULT_VALUE_LIMIT,
    MAXIMUM_VALUE_LIMIT,
    StandardCodec,
    with_codecs,
)
from mini_workflow.core.codec import Codec
from mini_workflow.core.validation import worker_of
from mini_workflow.engine.cache import DEFAULT_SIZE
from mini_workflow.engine.engine import DEFAULT_HISTORY_LIMIT, Ports
from mini_workflow.engine.executor import execute, execute_async
from mini_workflow.engine.runtime import Runtime
from mini_workflow.engine.watchdog import DEFAULT_LIMIT
from mini_workflow.errors import StoreError, UsageError
from mini_workflow.interceptors import Interceptor, Interceptors
from mini_workflow.ports import Backend, Clock, HandIn, Report, TaskRunner
from mini_workflow.ports.owner import Owner
from mini_workflow.ports.transactions import TaskTransactions
from mini_workflow.runners.routed import Closing, NamedWorkers, RoutedRunner
from mini_workflow.runners.threads import default_threads
from mini_workflow.runtimes.embedded import DEFAULT_GRACE, runner_in_process
from mini_workflow.runtimes.sharing import MakeShared, sharing
from mini_workflow.stores.sqlite import SQLiteBackend
from mini_workflow.stores.system_clock import SystemClock
from mini_workflow.stores.wakeup_socket import WakeupSocket
from mini_workflow.stream_buffer import StreamBuffer
from mini_workflow.workflow import REGISTRY

if TYPE_CHECKING:
    from mini_workflow.runners.processes import WorkerConfig

DEFAULT_LEASE: Final = 15.0
"""Seconds after which the executions of a process that hangs are taken over by another one."""

MAXIMUM_LEASE: Final = 24 * 3600
"""Seconds in a day: our own bound against mistaken units."""


class EmbeddedOptions(TypedDict, total=False):
    """The options of a runtime that is embedded in a process: see `LocalRuntime`."""

    workers: int | Mapping[str, int]
    labels: Iterable[str]
    threads: int | None
    cache_size: int
    lease: float
    turn_timeout: float | None
    grace: float
    history_limit: int
    value_limit: int
    codec: Codecs | None
    interceptors: Iterable[Interceptor]
    retention: float | timedelta | None
    keep_runs: bool


class EmbeddedRuntime(Runtime):
    """The common part of `LocalRuntime` and `PostgresRuntime`: it runs executions and their tasks in
    this process, and shares a store with other processes. Raises their errors.

    Args:
        open_backend: opens the store. It takes the milliseconds of a lease, and whether the runs that are
            over are kept.
        **options: as for `LocalRuntime`.
    """

    def __init__(
        self,
        open_backend: Callable[[int, bool], OpenedBackend],
        *,
        workers: int | Mapping[str, int] = 0,
        labels: Iterable[str] = (),
        threads: int | None = None,
        cache_size: int = DEFAULT_SIZE,
        lease: float = DEFAULT_LEASE,
        turn_timeout: float | None = DEFAULT_LIMIT,
        grace: float = DEFAULT_GRACE,
        history_limit: int = DEFAULT_HISTORY_LIMIT,
        value_limit: int = DEFAULT_VALUE_LIMIT,
        codec: Codecs | None = None,
        interceptors: Iterable[Interceptor] = (),
        retention: float | timedelta | None = None,
        keep_runs: bool = True,
    ) -> None:
        processes = _processes_of(workers)
        served = _served(processes, labels)
        _check("threads", threads, threads is None or threads >= 1, "1 or more, or None")
        _check("cache_size", cache_size, cache_size >= 0, "0 or more")
        _check("lease", lease, 1 <= lease <= MAXIMUM_LEASE, f"1 to {MAXIMUM_LEASE} seconds")
        _check(
            "turn_timeout", turn_timeout, turn_timeout is None or turn_timeout > 0, "more than 0"
        )
        _check("grace", grace, 0 <= grace <= MAXIMUM_LEASE, f"0 to {MAXIMUM_LEASE} seconds")
        _check(
            "history_limit",
            history_limit,
            type(history_limit) is int and history_limit >= 10,
            "10 or more",
        )
        _check(
            "value_limit",
            value_limit,
            type(value_limit) is int and 1 <= value_limit <= MAXIMUM_VALUE_LIMIT,
            f"1 to {MAXIMUM_VALUE_LIMIT} bytes",
        )
        in_process = not any(processes.values())
        standard = StandardCodec(value_limit=value_limit, in_process=in_process)
        carrying, around = with_codecs(standard, codec), Interceptors.of(interceptors)
        if not in_process:
            _check_picklable("codec", codec)
            _check_picklable("interceptors", tuple(around))
        backend = self._opened = open_backend(round(lease * 1000), keep_runs)
        make_shared = sharing(
            *(backend, served, carrying, codec, value_limit, backend.clock, lease),
            backend.notify_peers,
        )
        super().__init__(
            Ports(
                *(backend.store, backend.agenda, backend.mailbox, backend.leases, backend.clock),
                streams=getattr(backend, "streams", None),
                begin_commit=getattr(backend.store, "begin_commit", None),
            ),
            codec=carrying,
            interceptors=around,
            make_runner=partial(
                *(_make_runner, carrying, around, value_limit, codec, processes, served, threads),
                make_shared,
                getattr(backend, "transactions", None),
            ),
            notify_peers=backend.notify_peers,
            on_stop=backend.close,
            cache_size=cache_size,
            turn_limit=turn_timeout,
            grace=grace,
            history_limit=history_limit,
            renew_every=lease / 4,
            retention=retention,
            drops_runs=not keep_runs,
        )
        try:
            backend.listen(self)
            if REGISTRY.scheduled():
                self.schedules.declare()
        except BaseException:
            self.close()
            raise

    def owners(self) -> list[Owner]:
        """Return the processes that run executions of the store, this one among them."""
        self.check_caller()
        return self._opened.owners()


class LocalRuntime(EmbeddedRuntime):
    """Runs workflows in this process and keeps them in one SQLite file; a context manager.

    Opening a file continues every execution that is running in it, unless another live process
    has it open and holds them. Several processes may open one file. After a fork, open one anew.

    Args:
        path: the file; it is created where there is none, in a directory that exists.
        workers: processes that run the tasks; 0 runs them in this process, sync ones on threads
            and async ones on the event loop in which the runtime is opened, or on one of its
            own if there is none. A mapping says so for each worker that is served here by its
            name, ``{"default": 4, "gpu": 1}``: "default" has the tasks that name none, and is 0
            where it is missing. Tasks of another worker go to a process that serves it, on whichever
            machine shares the store, and wait while there is none. A script that uses workers must
            start under ``if __name__ == "__main__":``.
        labels: the names of workers whose tasks run here as those do that name none; also of executions
            that other processes hold.
        threads: threads for sync tasks, where there are no workers; by default a few more than
            there are cores.
        synchronous: "FULL" loses nothing that was acknowledged, even in a power cut; "NORMAL" is
            faster and may lose the last moments in one (not in a crash of the process).
        cache_size: how many waiting executions are kept in memory (about 7 KiB each).
        lease: seconds after which another process may take over from one that hangs. From one
            that has died it takes over within a third of that.
        turn_timeout: seconds that a workflow may compute between two awaits; None for no limit.
        grace: seconds that `close` waits for tasks that have begun.
        history_limit: events after which an execution that has not continued as new is blocked; a
            warning is logged at half of them.
        codec: a PayloadCodec, or a list of them, by which all values, failures and calls are encoded
            before they are stored or sent, and in which the first one encodes first.
        interceptors: objects that go around calls, workflows and tasks: see `Interceptor`.
        value_limit: bytes that one value may take, encoded: an argument, a result, the value of a
            signal. More is refused with ValueTooLarge.
        retention: after which time since they closed executions are deleted, in seconds or as a
            timedelta, a few at a time beside the work; None for never.
        keep_runs: whether the events of runs that are over, before ``continue_as_new``, are kept.

    Raises:
        StoreUnavailable, StoreCorrupt, StoreTooNew: the file cannot be used; it is left as it is.
        UsageError: an argument is out of range, or a workflow declares a schedule that is not possible.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        **options: Unpack[EmbeddedOptions],
    ) -> None:
        _check("synchronous", synchronous, synchronous in ("FULL", "NORMAL"), '"FULL" or "NORMAL"')
        super().__init__(partial(_OpenedFile, path, synchronous), **options)


class OpenedBackend(Backend, Protocol):
    """A backend that this process has open as an owner, and that notifies other owners. It may have
    `streams` too, a StreamStore, `shared_tasks`, a SharedTasks, and `transactions`, TaskTransactions.
    """

    @property
    def clock(self) -> Clock:
        """The clock by which leases end."""
        ...

    def notify_peers(self) -> None:
        """Have the other processes look at the store, after a commit that they may wait for."""
        ...

    def owners(self) -> list[Owner]:
        """Return the processes that hold executions, this one among them."""
        ...

    def listen(self, runtime: Runtime) -> None:
        """Have the runtime look at the store whenever another process notifies this one."""
        ...


class _OpenedFile:
    """An SQLite file. Its owners notify each other over loopback."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        synchronous: Literal["FULL", "NORMAL"],
        lease: int,
        keep_runs: bool,
    ) -> None:
        self.clock = SystemClock()
        self._socket = WakeupSocket()
        try:
            self.backend = SQLiteBackend(
                path,
                owner=owner_name(),
                address=self._socket.address,
                clock=self.clock,
                lease=lease,
                synchronous=synchronous,
                keep_runs=keep_runs,
            )
        except BaseException:
            self._socket.close()
            raise
        self.store, self.agenda = self.backend.store, self.backend.agenda
        self.mailbox, self.leases = self.backend.mailbox, self.backend.leases
        self.streams = self.backend.streams
        self.shared_tasks = self.backend.shared_tasks
        self._runtime: Runtime | None = None
        self._peers: list[str] = []
        self._peers_until = 0.0
        self._refresh = lease / 4000

    def owners(self) -> list[Owner]:
        """See `OpenedBackend.owners`."""
        return self.leases.owners()

    def listen(self, runtime: Runtime) -> None:
        """See `OpenedBackend.listen`."""
        self._runtime = runtime
        self._socket.listen(self._notified)

    def _notified(self) -> None:
        """Look at the store: another process has notified this one. It may have opened the file just now."""
        self._peers_until = 0.0
        assert self._runtime is not None
        self._runtime.look_around()

    def notify_peers(self) -> None:
        """See `OpenedBackend.notify_peers`."""
        now = time.monotonic()
        if now >= self._peers_until:
            # Set before the look: a process that notifies this one meanwhile is found the next time.
            self._peers_until = now + self._refresh
            try:
                self._peers = self.leases.peers()
            except StoreError:  # busy: the others look at the store soon anyway
                self._peers_until = 0.0
        self._socket.notify(self._peers)

    def close(self) -> None:
        """See `OpenedBackend.close`."""
        self._peers_until = 0.0
        self.notify_peers()
        self._socket.close()
        self.backend.close()


def owner_name() -> str:
    """Return a name of this process for people: the machine, the process id, and a random part."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"


def _check(name: str, value: object, fits: bool, wanted: str) -> None:
    if not fits:
        raise UsageError(f"{name}={value!r}: give {wanted}")


def _check_picklable(name: str, value: object) -> None:
    import pickle

    try:
        pickle.dumps(value)
    except Exception as error:
        raise UsageError(
            f"{name}={value!r}: worker processes need a copy of it, and it cannot be "
            f"pickled ({type(error).__name__}: {error}): define its class, and its functions, at the "
            "top level of a module"
        ) from error


def _processes_of(workers: int | Mapping[str, int]) -> dict[str, int]:
    """Return the number of processes of each worker that is served, by its name; the default one is empty.
    Raises UsageError.
    """
    given = workers if isinstance(workers, Mapping) else {"": workers}
    wanted = 'processes, 0 or more, or a mapping of them by the names of workers: {"gpu": 1}'
    for number in given.values():
        _check("workers", workers, type(number) is int and number >= 0, wanted)
    return {"": 0, **{worker_of(name) if name else "": count for name, count in given.items()}}


def _served(processes: Mapping[str, int], labels: Iterable[str]) -> frozenset[str]:
    """Return the names of the workers whose tasks run here, without the default one. Raises UsageError."""
    _check("labels", labels, not isinstance(labels, str), 'names of workers, such as ["gpu"]')
    return frozenset(name for name in (*map(worker_of, labels), *processes) if name)


def _make_runner(
    codec: Codec,
    interceptors: Interceptors,
    value_limit: int,
    codecs: Codecs | None,
    processes: dict[str, int],
    served: frozenset[str],
    threads: int | None,
    make_shared: MakeShared | None,
    transactions: TaskTransactions | None,
    report: Report,
    hand_in: HandIn,
    buffer: StreamBuffer | None,
) -> TaskRunner:
    shared = None if make_shared is None else make_shared(report)
    if shared is not None and served:
        report, hand_in = shared.reporting(report), shared.hand_in(hand_in)
    in_process: RoutedRunner | None = None
    runners: dict[str, Closing] = {}
    for name, count in processes.items():
        if count:
            # Only here, because multiprocessing takes a while to import.
            from mini_workflow.runners.processes import ProcessRunner

            # The key never leaves this process and its workers.
            config = partial(_config, os.urandom(32), value_limit, codecs, tuple(interceptors))
            runners[name] = ProcessRunner(config, report, count, hand_in=hand_in, streams=buffer)
        else:
            in_process = in_process or runner_in_process(
                codec, threads, report, hand_in, buffer, interceptors, transactions
            )
            runners[name] = in_process
    default = runners.pop("")
    others = {name: runners.get(name, default) for name in served}
    if shared is not None:
        room = threads or default_threads()
        shared.serve(
            {
                name: (runner, processes.get(name, processes[""]) or room)
                for name, runner in others.items()
            }
        )
    return NamedWorkers(default, others, report, shared)


def _config(
    key: bytes, value_limit: int, codecs: Codecs | None, interceptors: tuple[Interceptor, ...]
) -> WorkerConfig:
    """Return the configuration of the engine's end, or of a worker process; each makes its own."""
    from mini_workflow.codecs.signing import Signer
    from mini_workflow.runners.processes import WorkerConfig

    signer = Signer(key)

    def seal(data: bytes, execution_id: str, seq: int, attempt: int) -> bytes:
        return signer.sign(data, execution_id=execution_id, seq=seq, attempt=attempt)

    def unseal(data: bytes, execution_id: str, seq: int, attempt: int) -> bytes:
        return signer.verify(data, execution_id=execution_id, seq=seq, attempt=attempt)

    codec = with_codecs(StandardCodec(value_limit=value_limit), codecs)
    around = Interceptors.of(interceptors)
    return WorkerConfig(
        partial(execute, codec=codec, around=around.around_task),
        partial(execute_async, codec=codec, around=around.around_task),
        seal,
        unseal,
        around.flush,
    )
