"""Drive an engine step by step: without threads, on a clock that stands still, through crashes.

`Stepper` is a process with its engine, cache, runner and backend. `crash` throws all of them away and
keeps the stored data. Requests from outside are sent between two steps.

A crashed owner cannot give its lease back, and its process still lives on this machine. So another owner
may take over only when the lease has ended: `crash` moves the clock behind its end. The short `LEASE` of
this module is too short to matter to a workflow of the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import count
from typing import Any, Final, Literal

from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.core.codec import Codec
from mini_workflow.core.decide import advance
from mini_workflow.core.events import (
    CLOSING,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionTerminated,
)
from mini_workflow.core.history import History
from mini_workflow.core.run import Definition, Run
from mini_workflow.core.wire import decode_message
from mini_workflow.engine.engine import Engine, Ports
from mini_workflow.engine.engine_parts import LIMITS
from mini_workflow.engine.requests import Input, Post, Release, Resume, Start
from mini_workflow.engine.turn import Turn
from mini_workflow.ports import Backend, Head, StreamStore
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.simulation.crash import Crashes
from mini_workflow.testing.simulation.manual_runner import DirectSink, ManualRunner
from mini_workflow.testing.simulation.outside import Outside, Record, Say
from mini_workflow.testing.simulation.shapes import choose
from mini_workflow.workflow import Registry

LEASE: Final = 60
"""Milliseconds of a lease, to be given to the backends that a `Stepper` opens."""

START: Final = 1_767_225_600_000
"""The time at which a stepper's clock begins: the first of January 2026, in milliseconds."""


OpenBackend = Callable[[str, ManualClock], "Backend"]
"""Opens the state of a test for an owner: (name, clock) -> backend, with leases of `LEASE`."""


class Stepper:
    """Processes, one after the other, on the same state. See the docstring of the module."""

    def __init__(
        self,
        open_backend: OpenBackend,
        registry: Registry,
        *,
        slow: Mapping[str, int] | None = None,
        dies: Mapping[str, int] | None = None,
        clock: ManualClock | None = None,
        cache_size: int = 100,
        turn_limit: float | None = None,
        obeys: bool = False,
        codec: Codec | None = None,
    ) -> None:
        self.clock = ManualClock(START) if clock is None else clock
        self.crashes = Crashes()
        self.codec: Codec = StandardCodec() if codec is None else codec
        self.inbox: list[Input] = []
        self.registry = registry
        self.settled: dict[str, Turn] = {}
        """The last turn that closed or blocked each execution, as its waiters received it."""
        self.record = Record()
        self.outside: Outside | None = None
        """The senders of requests to executions between two steps."""
        self.wakeups = 0
        self.owners = 0
        self.backend: Backend
        self.engine: Engine
        self.runner: ManualRunner
        self._open_backend = open_backend
        self._slow: Mapping[str, int] = slow or {}
        self._dies: Mapping[str, int] = dies or {}
        self._cache_size = cache_size
        self._turn_limit = turn_limit
        self._obeys = obeys
        self._entropy = count(4711)
        self._runs: list[Run] = []
        self._latest = 0
        self._is_open = False

    def speak(self, execution_id: str, says: Sequence[Say]) -> None:
        """Send these requests to an execution, between two steps."""
        self.outside = Outside(
            execution_id, says, self.codec.for_execution(execution_id), self.record
        )

    def share(self, other: Stepper) -> None:
        """Share the state and the outside with another stepper."""
        self.record, self.outside = other.record, other.outside

    # Life

    def open(self) -> None:
        """Open the state as a process does."""
        self.owners += 1
        self._latest = max(self._latest, self.clock.now())
        crashes = self.crashes
        crashes.replay()
        self.inbox = []
        if self.outside is not None:
            self.outside.forget()
        self.backend = backend = self._open_backend(f"owner-{self.owners}", self.clock)
        self._is_open = True
        self.runner = ManualRunner(
            crashes.report(self.inbox.append),
            self.clock,
            self.codec,
            self._slow,
            self._dies,
            obeys=self._obeys,
        )
        store = self.record.watch(backend.store)
        streams: StreamStore | None = getattr(backend, "streams", None)
        ports = crashes.ports(
            Ports(store, backend.agenda, backend.mailbox, backend.leases, self.clock, streams)
        )
        if ports.streams is not None:
            self.runner.sink = DirectSink(ports.streams, self.clock.now)
        self.engine = Engine(
            ports,
            codec=self.codec,
            definitions=self._definition,
            known=self.registry.names,
            entropy=lambda: next(self._entropy),
            on_close=self._on_close,
            report=crashes.report(self.inbox.append),
            notify_peers=self._on_post,
            cache_size=self._cache_size,
            turn_limit=self._turn_limit,
        )
        self.engine.open(crashes.runner(self.runner))

    def crash(self) -> None:
        """Let the process die. Nothing of it can reach the state any more; its lease ends."""
        self._drop()
        # Enough also if the clock was set back since the lease was renewed.
        self.clock.set(max(self.clock.now(), self._latest) + LEASE + 1)

    def close(self) -> None:
        """End the process in good order, as a runtime does."""
        self.engine.drain()
        for request in self.crashes.runner(self.runner).close(0):
            self.inbox.append(Release(*request.key, request.heartbeat))
        for _ in range(100):
            if not self.inbox and not self.engine.unsettled:
                break
            self.process()
        else:
            raise AssertionError("the engine does not come to rest")
        self.engine.close()
        self.crashes.ports(self.ports).leases.release()
        self._drop()

    def discard(self) -> None:
        """Drop the process without a close. Harmless if there is none."""
        if self._is_open:
            self._drop()

    @property
    def ports(self) -> Ports:
        """The backend's own ports, uncounted, for a test to look at."""
        one = self.backend
        streams: StreamStore | None = getattr(one, "streams", None)
        return Ports(one.store, one.agenda, one.mailbox, one.leases, self.clock, streams)

    def _drop(self) -> None:
        self.crashes.kill()
        # Close live coroutines now: the garbage collector would end them at a random time.
        self.engine.close()
        for run in self._runs:
            run.close()
        self._runs.clear()
        self.inbox = []
        self.backend.close()
        self._is_open = False
        if self.crashes.intruders:
            raise AssertionError(f"reached after the end: {self.crashes.intruders}")

    # Requests

    def start(self, workflow: str, *args: Any, execution_id: str, fresh: bool = False) -> Start:
        """Request the start of an execution. Its `reply` has the answer once `process` has run."""
        arguments = self.codec.for_execution(execution_id).encode_arguments(args, {})
        shape = choose(without=["ordered"]).get(workflow)
        request = Start(execution_id, workflow, arguments, fresh)
        if shape is not None:
            request.timing = shape.timing
            request.headers = None if shape.headers is None else dict(shape.headers)
        self.inbox.append(request)
        return request

    def terminate(self, execution_id: str, reason: str = "") -> Post:
        """Request the termination of an execution."""
        request = Post(execution_id, ExecutionTerminated(self.clock.now(), reason))
        self.inbox.append(request)
        return request

    def resume(self, execution_id: str) -> Resume:
        """Request that a blocked execution is resumed."""
        request = Resume(execution_id)
        self.inbox.append(request)
        return request

    def set_clock(self, by: int) -> None:
        """Set the clock on or back by so many milliseconds, without time passing."""
        self.clock.advance(by)
        self.runner.clock_set(by)

    # Steps

    def process(self) -> None:
        """Let the engine process the messages that have arrived."""
        # The same list is kept: the runner reports into it.
        requests = self.inbox[:]
        del self.inbox[:]
        self._latest = max(self._latest, self.clock.now())
        self.engine.process(requests)

    def settle(self) -> None:
        """Process until everything that is left waits for a task or a time."""
        for _ in range(1000):
            self.process()
            if not self.inbox and not self._is_due():
                return
        raise AssertionError("the engine does not come to rest")

    def step(self) -> bool:
        """Settle; then send the next request, or else run the next attempt, or else let time pass.

        Return whether there was anything to do.
        """
        self.settle()
        if self.outside is not None and self.outside.step(self.inbox.append):
            return True
        ready = self.runner.ready()
        if ready:
            self.runner.run(ready[0])
            return True
        engine = self.engine
        times = [engine.retry_at, self.runner.next_ready(), self.backend.agenda.next_wake()]
        later = min((at for at in times if at is not None), default=None)
        if later is None:
            return False
        if later <= self.clock.now():
            # A timer is due, but the engine waits for a store that has failed.
            later = engine.deadline()
        self.clock.set(max(self.clock.now(), later))
        return True

    def run(self, limit: int = 2_000) -> None:
        """Step until nothing is left to do."""
        for _ in range(limit):
            if not self.step():
                return
        raise AssertionError(f"still at work after {limit} steps")

    def run_wide(self, limit: int = 2_000) -> None:
        """Step, and run all ready attempts before the engine gets their outcomes."""
        for _ in range(limit):
            self.settle()
            for request in self.runner.ready():
                self.runner.run(request)
            if not self.inbox and not self.step():
                return
        raise AssertionError(f"still at work after {limit} steps")

    def _is_due(self) -> bool:
        return self.engine.deadline() <= self.clock.now()

    # The stored data

    def head(self, execution_id: str) -> Head | None:
        """Return the stored head."""
        return self.backend.store.head(execution_id)

    def lines(self, execution_id: str) -> list[str]:
        """Return the stored history."""
        return self.backend.store.history(execution_id)

    def outcome(self, execution_id: str) -> Any:
        """Return the result of a closed execution, or the name of its failure or of its status."""
        for event in reversed(History.from_lines(self.lines(execution_id))):
            if isinstance(event, ExecutionCompleted):
                return self.codec.for_execution(execution_id).decode(event.result)
            if isinstance(event, ExecutionFailed):
                return event.failure.type
            if type(event) in CLOSING:
                return type(event).__name__
        return None

    def faults(self, execution_id: str) -> list[str]:
        """Return the faults of a stored execution; empty if there are none.

        Its history has to replay to the end without new events, and its head has to fit the history.
        """
        head = self.head(execution_id)
        if head is None:
            return [f"{execution_id} is gone"]
        if head.status == "blocked":
            return [f"{execution_id} is blocked: {head.blocked_reason}"]
        history = History.from_lines(self.lines(execution_id))
        definition = self.registry.get(head.workflow)
        stored = self.backend.store.load(execution_id)
        assert stored is not None
        # The last heartbeats of promises, which move their ends, are kept beside the history.
        kept = tuple(map(decode_message, stored.parked))
        decision = advance(
            definition, history, kept, self.codec, execution_id=execution_id, limits=LIMITS
        )
        found: list[str] = []
        if decision.fault is not None:
            found.append(f"the replay fails: {decision.fault}")
        if len(history) == 1 and head.run > 1 and head.busy:
            return found  # the earlier run has ended, and this one has not had its first turn
        if decision.events:
            found.append(f"the replay brings more: {decision.events}")
        says = (head.status, head.busy, head.wake_at)
        # Any time is right for a deadline: that of an earlier attempt, or a later one.
        wakes = head.wake_at if decision.deadline and head.wake_at else decision.wake_at
        if says != (decision.condition, decision.busy, wakes):
            found.append(f"the head {head} does not fit its history, {decision}")
        if (head.closed_at is None) != (head.status == "running"):
            found.append(f"the head is half closed: {head}")
        return found

    # Inside

    def _definition(self, name: str) -> Definition:
        return _Watched(self.registry.get(name), self._runs)

    def _on_close(self, turn: Turn) -> None:
        self.settled[turn.head.execution_id] = turn

    def _on_post(self) -> None:
        self.wakeups += 1


class _Watched:
    """A definition whose runs are remembered."""

    def __init__(self, definition: Definition, runs: list[Run]) -> None:
        self._definition = definition
        self._runs = runs
        self.name = definition.name
        self.place = definition.place
        self.changed_values: Literal["warn", "block"] = definition.changed_values

    def begin(self, run: Run, args: list[Any], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        if not self._runs or self._runs[-1] is not run:
            self._runs.append(run)
        return self._definition.begin(run, args, kwargs)

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._definition.check_arguments(args, kwargs)
