"""WorkflowEnvironment: runs workflows in memory, on a clock that jumps to the next timer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from mini_workflow.codecs.payload_codecs import Codecs
from mini_workflow.codecs.standard import DEFAULT_VALUE_LIMIT, StandardCodec, with_codecs
from mini_workflow.core.codec import Codec
from mini_workflow.durations import MAXIMUM_DURATION, milliseconds, seconds
from mini_workflow.engine.engine import DEFAULT_HISTORY_LIMIT, Ports
from mini_workflow.engine.executor import AroundTask, execute, execute_async
from mini_workflow.engine.requests import Reply
from mini_workflow.engine.runtime import Runtime
from mini_workflow.errors import RuntimeClosed, UsageError
from mini_workflow.interceptors import Interceptor, Interceptors
from mini_workflow.loop.running import running_loop
from mini_workflow.ports import HandIn, Report, TaskOutcome, TaskRequest, TaskRunner
from mini_workflow.runners.event_loop import EventLoopRunner
from mini_workflow.runners.routed import RoutedRunner
from mini_workflow.runners.threads import ThreadRunner
from mini_workflow.stores.memory import MemoryBackend, MemoryState
from mini_workflow.stream_buffer import StreamSink
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.stubs import Stubs
from mini_workflow.waiting import blocking_wait

DEFAULT_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The time at which an environment's clock begins: a constant, so that tests repeat."""

_LEASE: Final = 10 * MAXIMUM_DURATION
"""Milliseconds of a lease: longer than any sleep of a workflow."""


class EnvironmentState:
    """The rest of a closed environment: the executions, and the time on its clock."""

    def __init__(self) -> None:
        self.executions: Final = MemoryState()
        self.now: int | None = None
        self.is_open = False


class WorkflowEnvironment(Runtime):
    """A runtime for tests: it serializes values as the other runtimes do, and writes no file.

    Time stands still while tasks run. When nothing else is left to do, it jumps to the next timer, as
    long as a caller waits for a result or an update, or up to the time of `advance`. A sleep of
    thirty days takes as long as its code. Tasks run in real time, and so do their timeouts and that of
    `result()`. Schedules that workflows declare are made by a call of `schedules.declare()` only, so
    that nothing starts that a test has not asked for.

    Args:
        state: the state to continue, that of a closed environment; a new one if left out.
        start: the time at which the clock begins (an aware datetime); by default the one at which
            the closed environment ended, or else the first of January 2026.
        cache_size: the number of executions kept in memory; 0 replays the history at every event.
        turn_timeout: seconds that a workflow may compute between two awaits; None for no limit.
        grace: seconds that `close` waits for tasks that have begun.
        history_limit: events after which an execution that has not continued as new is blocked.
        codec: a PayloadCodec, or a list of them, of which the first encodes first. It encodes all
            values, failures and calls before they are stored or sent.
        interceptors: objects that go around calls, workflows and tasks: see `Interceptor`.
        value_limit: bytes of one encoded value: an argument, a result, the value of a signal. Larger
            values are refused with ValueTooLarge.
        retention: the time after which closed executions are deleted, in seconds or as a timedelta,
            a few at a time; None for never.
        keep_runs: whether the events of earlier runs, before ``continue_as_new``, are kept.

    Raises:
        UsageError: the state belongs to an environment that is open, or `start` has no time zone.
    """

    def __init__(
        self,
        state: EnvironmentState | None = None,
        *,
        start: datetime | None = None,
        cache_size: int = 4096,
        turn_timeout: float | None = 10.0,
        grace: float = 10.0,
        history_limit: int = DEFAULT_HISTORY_LIMIT,
        value_limit: int = DEFAULT_VALUE_LIMIT,
        codec: Codecs | None = None,
        interceptors: Iterable[Interceptor] = (),
        retention: float | timedelta | None = None,
        keep_runs: bool = True,
    ) -> None:
        carrying = with_codecs(StandardCodec(value_limit=value_limit), codec)
        around = Interceptors.of(interceptors)
        self.state = EnvironmentState() if state is None else state
        if self.state.is_open:
            raise UsageError(
                "WorkflowEnvironment(state): the environment that it belongs to is still open; "
                "close it first"
            )
        self._clock = ManualClock(_first_time(self.state, start))
        self._skipping = _Skipping(self._clock)
        self._backend = MemoryBackend(
            self.state.executions,
            owner="environment",
            clock=self._clock,
            lease=_LEASE,
            keep_runs=keep_runs,
        )
        backend = self._backend
        self._stubs = Stubs()
        self.state.is_open = True
        super().__init__(
            Ports(
                *(backend.store, backend.agenda, backend.mailbox, backend.leases, self._clock),
                streams=backend.streams,
            ),
            codec=carrying,
            interceptors=around,
            make_runner=partial(_make_runner, carrying, self._stubs, around, self._clock),
            pace=self._skipping,
            on_stop=self._leave_state,
            cache_size=cache_size,
            turn_limit=turn_timeout,
            grace=grace,
            history_limit=history_limit,
            execute_inline=partial(_execute, self._stubs),
            enlists_as_leader=True,
            retention=retention,
            drops_runs=not keep_runs,
        )
        waiters, waiting = self._role.waiters, self._engine_transport.waiting
        engine = self._engine
        self._skipping.is_awaited = lambda: bool(waiters or waiting) or engine.awaited

    def stub(self, name: str, function: Callable[..., Any]) -> None:
        """Call a function in place of the tasks with a name, with their arguments.

        Its result or exception is the outcome of the task. Retries, timeouts and `current_task()` work
        as for the task itself. The function may be async. A closure has no arguments.

        Args:
            name: the name of the tasks, in which ``*`` stands for any characters. If several stubs
                match, the one added last is called.
            function: the function to call.
        """
        self._stubs.add(name, function)

    def unstub(self, name: str) -> None:
        """Remove the stub with a name. Harmless if there is none."""
        self._stubs.remove(name)

    def now(self) -> datetime:
        """Return the time on the environment's clock, in UTC."""
        return datetime.fromtimestamp(self._clock.now() / 1000, UTC)

    def advance(self, by: float | timedelta) -> None:
        """Let `by` seconds (or a timedelta) pass, with all timers in that time.

        Returns when that time has come and nothing is left to do: tasks that were started on the way
        have ended.

        Raises:
            UsageError: `by` is negative, or more than a hundred years; or this thread runs the event
                loop of an async task, which would wait for it.
            RuntimeClosed: the environment was closed.
        """
        wait = milliseconds(seconds(by))
        if not 0 <= wait <= MAXIMUM_DURATION:
            raise UsageError(f"advance({by!r}): give 0 seconds or more, up to a hundred years")
        self._engine_transport.check()
        arrived: Reply[None] = Reply()
        with blocking_wait(arrived.fail):
            self._role.call(lambda: self._skipping.go(wait, arrived))
            arrived.wait()

    def _leave_state(self) -> None:
        self._skipping.give_up()
        self._backend.close()
        self.state.now = self._clock.now()
        self.state.is_open = False


class _Skipping:
    """The pace of an environment: it jumps to the next timer instead of waiting.

    All methods are for the thread that leads the engine.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._trips: list[tuple[int, Reply[None]]] = []
        self.is_awaited: Callable[[], bool] = lambda: False

    def go(self, by: int, arrived: Reply[None]) -> None:
        """Let so many milliseconds pass from now on, and then answer `arrived`."""
        self._trips.append((self._clock.now() + by, arrived))
        self._trips.sort(key=lambda trip: trip[0])

    def give_up(self) -> None:
        """Fail all waits, since the environment is closed."""
        for _, arrived in self._trips:
            arrived.fail(RuntimeClosed("the environment was closed meanwhile"))

    def is_due(self, until: int, idle: bool) -> bool:
        """See `Pace.is_due`."""
        if not idle:
            return False
        if self._trips:
            target, arrived = self._trips[0]
            if until <= target:
                self._clock.set(until)
            else:
                self._clock.set(target)
                del self._trips[0]
                arrived.give(None)
            return True
        # Only the renewal of the lease is due after so long.
        if until - self._clock.now() >= _LEASE // 4 or not self.is_awaited():
            return False
        self._clock.set(until)
        return True


def _first_time(state: EnvironmentState, start: datetime | None) -> int:
    if start is None and state.now is not None:
        return state.now
    start = start or DEFAULT_START
    if start.tzinfo is None:
        raise UsageError(
            f"WorkflowEnvironment(start={start!r}): the time has no time zone; add "
            "tzinfo=timezone.utc"
        )
    return round(start.timestamp() * 1000)


def _execute(
    stubs: Stubs, request: TaskRequest, codec: Codec, around: AroundTask | None
) -> TaskOutcome:
    return execute(request, stubs.codec(request, codec), around=around)


def _make_runner(
    codec: Codec,
    stubs: Stubs,
    interceptors: Interceptors,
    clock: ManualClock,
    report: Report,
    hand_in: HandIn,
    sink: StreamSink | None,
) -> TaskRunner:
    around = interceptors.around_task

    def run(request: TaskRequest) -> TaskOutcome:
        return execute(request, stubs.codec(request, codec), sink, around)

    async def run_async(request: TaskRequest) -> TaskOutcome:
        return await execute_async(request, stubs.codec(request, codec), sink, around)

    loop = running_loop()
    asynchronous = EventLoopRunner(run_async, report, loop=loop, hand_in=hand_in, now=clock.now)
    return RoutedRunner(
        ThreadRunner(run, report, hand_in=hand_in, now=clock.now),
        lambda: asynchronous,
    )
