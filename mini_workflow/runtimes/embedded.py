"""embed(): makes a runtime of a backend, in this process."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final

from mini_workflow.codecs.payload_codecs import Codecs
from mini_workflow.codecs.standard import DEFAULT_VALUE_LIMIT, StandardCodec, with_codecs
from mini_workflow.core.codec import Codec
from mini_workflow.core.validation import worker_of
from mini_workflow.engine.cache import DEFAULT_SIZE
from mini_workflow.engine.engine import DEFAULT_HISTORY_LIMIT, Ports
from mini_workflow.engine.executor import AroundTask, execute, execute_async
from mini_workflow.engine.runtime import Runtime
from mini_workflow.engine.watchdog import DEFAULT_LIMIT
from mini_workflow.errors import UsageError
from mini_workflow.interceptors import NO_INTERCEPTORS, Interceptor, Interceptors
from mini_workflow.loop.running import running_loop
from mini_workflow.ports import Backend, Clock, HandIn, Report, TaskRunner
from mini_workflow.ports.transactions import TaskTransactions
from mini_workflow.runners.routed import NamedWorkers, RoutedRunner
from mini_workflow.runners.threads import ThreadRunner, default_threads
from mini_workflow.runtimes.sharing import MakeShared, sharing
from mini_workflow.stores.system_clock import SystemClock
from mini_workflow.stream_buffer import StreamSink
from mini_workflow.task import CurrentTask

if TYPE_CHECKING:
    from mini_workflow.runners.event_loop import EventLoopRunner

DEFAULT_GRACE: Final = 10.0
"""Seconds that `close` waits for tasks that have begun."""


def embed(
    backend: Backend,
    *,
    lease: float | None,
    clock: Clock | None = None,
    threads: int | None = None,
    serves: Iterable[str] = (),
    cache_size: int = DEFAULT_SIZE,
    turn_timeout: float | None = DEFAULT_LIMIT,
    grace: float = DEFAULT_GRACE,
    history_limit: int = DEFAULT_HISTORY_LIMIT,
    value_limit: int = DEFAULT_VALUE_LIMIT,
    codec: Codecs | None = None,
    interceptors: Iterable[Interceptor] = (),
) -> Runtime:
    """Make a runtime that runs the executions of a backend, and its tasks, in this process.

    It continues at once the executions that nobody runs. Closing it closes the backend, and so does an error
    here. Other processes are not notified of commits: they look at the store when they renew their leases.

    Args:
        backend: the four ports over one state, opened by an owner of its own.
        lease: seconds of the leases that the backend was opened with: a thread of its own extends
            them each quarter of that, also while a turn computes for long. None where no other
            process can take over.
        clock: the one that the backend was opened with; by default the system's.
        threads: threads for sync tasks; by default a few more than there are cores.
        serves: the names of workers whose tasks run here too, also for executions that other owners
            hold. Tasks of other workers wait for an owner that serves them.
        cache_size: how many waiting executions are kept in memory (about 7 KiB each).
        turn_timeout: seconds that a workflow may compute between two awaits; None for no limit.
        grace: seconds that `close` waits for tasks that have begun.
        history_limit: events after which an execution that has not continued as new is blocked.
        codec: a PayloadCodec, or a list of them, by which all values, failures and calls are encoded
            before they are stored or sent, and in which the first one encodes first.
        interceptors: objects that go around calls, workflows and tasks: see `Interceptor`.
        value_limit: bytes that one value may take, encoded.

    Raises:
        UsageError: `lease` is not more than 0, or a name in `serves` cannot be that of a worker.
        StoreError: the backend fails when executions are taken over.
    """
    if lease is not None and not lease > 0:
        backend.close()
        raise UsageError(f"embed(lease={lease!r}): give more than 0 seconds, or None")
    try:
        served = frozenset(name for name in map(worker_of, serves) if name)
        carrying = with_codecs(StandardCodec(value_limit=value_limit, in_process=True), codec)
        around = Interceptors.of(interceptors)
    except UsageError:
        backend.close()
        raise
    ticking = SystemClock() if clock is None else clock
    make_shared = sharing(
        *(backend, served, carrying, codec, value_limit, ticking, lease), lambda: None
    )
    return Runtime(
        Ports(
            backend.store,
            backend.agenda,
            backend.mailbox,
            backend.leases,
            ticking,
            getattr(backend, "streams", None),
            getattr(backend.store, "begin_commit", None),
        ),
        codec=carrying,
        interceptors=around,
        make_runner=partial(_make_runner, carrying, around, threads, served, make_shared, ticking),
        on_stop=backend.close,
        cache_size=cache_size,
        turn_limit=turn_timeout,
        grace=grace,
        history_limit=history_limit,
        renew_every=None if lease is None else lease / 4,
    )


def _make_runner(
    codec: Codec,
    interceptors: Interceptors,
    threads: int | None,
    serves: frozenset[str],
    make_shared: MakeShared | None,
    clock: Clock | None,
    report: Report,
    hand_in: HandIn,
    sink: StreamSink | None,
) -> TaskRunner:
    shared = None if make_shared is None else make_shared(report)
    if shared is not None and serves:
        report, hand_in = shared.reporting(report), shared.hand_in(hand_in)
    runner = runner_in_process(codec, threads, report, hand_in, sink, interceptors, clock=clock)
    if shared is not None:
        shared.serve(dict.fromkeys(serves, (runner, threads or default_threads())))
    return NamedWorkers(runner, dict.fromkeys(serves, runner), report, shared)


def runner_in_process(
    codec: Codec,
    threads: int | None,
    report: Report,
    hand_in: HandIn | None = None,
    sink: StreamSink | None = None,
    interceptors: Interceptors = NO_INTERCEPTORS,
    transactions: TaskTransactions | None = None,
    clock: Clock | None = None,
) -> RoutedRunner:
    """Make the runner of tasks in this process: sync ones on threads, async ones on an event loop. The times
    at which they begin are those of `clock`; by default the system's.
    """
    now = None if clock is None else clock.now
    around = _with_transactions(interceptors.around_task, transactions)
    on_thread = partial(execute, codec=codec, sink=sink, around=around)
    on_loop = partial(execute_async, codec=codec, sink=sink, around=around)
    loop = running_loop()

    def on_event_loop() -> EventLoopRunner:
        from mini_workflow.runners.event_loop import EventLoopRunner

        return EventLoopRunner(on_loop, report, loop=loop, hand_in=hand_in, now=now)

    # That of the application knows it by the thread, which is this one.
    made = None if loop is None else on_event_loop()
    return RoutedRunner(
        ThreadRunner(on_thread, report, threads, hand_in=hand_in, now=now),
        on_event_loop if made is None else lambda: made,
    )


def _with_transactions(
    around: AroundTask | None, transactions: TaskTransactions | None
) -> AroundTask | None:
    """Return the function for the context manager around the code of a task, which also gives the task its
    transactions.
    """
    if transactions is None:
        return around

    def entered(task: CurrentTask) -> AbstractContextManager[object]:
        task.transactions = transactions
        return nullcontext() if around is None else around(task)

    return entered
