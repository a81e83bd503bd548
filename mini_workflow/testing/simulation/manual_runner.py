"""A runner of tasks for tests that choose when each attempt runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress

from mini_workflow.attempts import cancelled, lost, timed_out
from mini_workflow.core.codec import Codec
from mini_workflow.engine.executor import execute
from mini_workflow.errors import StoreError
from mini_workflow.ports import (
    Clock,
    Report,
    StreamStore,
    StreamWrite,
    TaskOutcome,
    TaskRequest,
)
from mini_workflow.ports.heartbeats import Heartbeat, heartbeats_of
from mini_workflow.stream_buffer import Key


class DirectSink:
    """A StreamSink that stores each write and each heartbeat at once, where the process may die."""

    def __init__(self, streams: StreamStore, now: Callable[[], int]) -> None:
        self.died: BaseException | None = None
        """The error of a write that no code of a task must handle."""
        self.beats: list[Heartbeat] = []
        """The heartbeats of attempts."""
        self._streams = streams
        self._now = now

    def write(self, write: StreamWrite, *, may_wait: bool) -> None:
        """See `StreamSink.write`."""
        with self._dying():
            self._streams.append([write])

    def flush(self, key: Key) -> None:
        """See `StreamSink.flush`."""

    async def drain(self, key: Key) -> None:
        """See `StreamSink.drain`."""

    def forget(self, key: Key) -> None:
        """See `StreamSink.forget`."""

    def heard(self, key: Key, details: str | None) -> None:
        """See `StreamSink.heard`."""
        beat = Heartbeat(*key, self._now(), details)
        self.beats.append(beat)
        self._keep([beat], [])

    def over(self, key: Key) -> None:
        """See `StreamSink.over`."""
        if self.died is None and any(beat.key == key for beat in self.beats):
            self._keep([], [key])

    def _keep(self, beats: list[Heartbeat], over: list[Key]) -> None:
        with self._dying(), suppress(StoreError):  # a heartbeat may be lost
            heartbeats_of(self._streams).keep(beats, over)

    @contextmanager
    def _dying(self) -> Generator[None]:
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception):
                self.died = error
            raise


class ManualRunner:
    """A TaskRunner that runs an attempt when a test calls `run`.

    `held` are the attempts, in the order in which they were submitted. `slow` has the milliseconds
    that tasks take, by name. `dies` has the number of attempts, by name, whose worker dies when they
    are done, so that their outcome is lost. With `obeys` cancelled attempts are dropped; otherwise they
    go on, and their outcome comes late.
    """

    def __init__(
        self,
        report: Report,
        clock: Clock,
        codec: Codec,
        slow: Mapping[str, int],
        dies: Mapping[str, int],
        *,
        obeys: bool = False,
    ) -> None:
        self.held: list[TaskRequest] = []
        self.submitted: list[TaskRequest] = []
        self._report = report
        self._clock = clock
        self._codec = codec
        self._slow = slow
        self._dies = dies
        self._obeys = obeys
        self._ready_at: dict[tuple[str, int, int], int] = {}
        self.sink: DirectSink | None = None
        """Where tasks write to streams."""

    def submit(self, request: TaskRequest) -> None:
        """See `TaskRunner`."""
        takes = self._slow.get(request.name, 0)
        if request.timeout is not None:
            takes = min(takes, request.timeout)
        self.held.append(request)
        self.submitted.append(request)
        self._ready_at[request.key] = self._clock.now() + takes

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        """See `TaskRunner`."""
        if self._obeys:
            for request in [r for r in self.held if (r.execution_id, r.seq) == (execution_id, seq)]:
                self.held.remove(request)
                self._report(cancelled(request))

    def holds(self, key: tuple[str, int, int]) -> bool:
        """See `TaskRunner`."""
        return any(request.key == key for request in self.held)

    def close(self, grace: float) -> list[TaskRequest]:
        """See `TaskRunner`. Nothing that is held has begun."""
        held, self.held = self.held, []
        return held

    def clock_set(self, by: int) -> None:
        """Keep the durations of attempts when the clock is set on or back by so many milliseconds."""
        self._ready_at = {key: at + by for key, at in self._ready_at.items()}

    def ready(self) -> list[TaskRequest]:
        """Return the attempts whose time is over, in order."""
        now = self._clock.now()
        return [request for request in self.held if self._ready_at[request.key] <= now]

    def next_ready(self) -> int | None:
        """Return when the next attempt is ready, or None."""
        return min((self._ready_at[request.key] for request in self.held), default=None)

    def run(self, request: TaskRequest) -> TaskOutcome:
        """Run a held attempt and report it. Return the outcome too, so that a test can send it again."""
        self.held.remove(request)
        outcome = execute(request, self._codec, self.sink)
        if self.sink is not None and self.sink.died is not None:
            raise self.sink.died
        if request.timeout is not None and self._slow.get(request.name, 0) > request.timeout:
            outcome = timed_out(request)
        if request.attempt <= self._dies.get(request.name, 0):
            outcome = lost(request, "its worker was killed.", outcome.heartbeat)
        self._report(outcome)
        return outcome

    def lose(self, request: TaskRequest) -> None:
        """Report a held attempt as lost with its worker."""
        self.held.remove(request)
        self._report(lost(request, "its worker was killed."))
