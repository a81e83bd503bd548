"""Replay a recorded execution against the code of this process, step by step.

No task runs and nothing is written: the code gets the recorded events, and must ask for the recorded
operations. `replay` returns the state at the end, or the event at which the code stopped fitting, and why.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.core import events
from mini_workflow.core.codec import CapturedCall, Codec
from mini_workflow.core.decide import decide
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.recorded import describe
from mini_workflow.core.recorder import Recorder
from mini_workflow.core.records import field, frozen
from mini_workflow.core.replay import repeat
from mini_workflow.core.run import Definition, Run
from mini_workflow.core.streams import StreamWrite
from mini_workflow.engine.recording import Recording
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import MiniWorkflowError, NonDeterminismError
from mini_workflow.loop.running import Halt
from mini_workflow.loop.source_line import describe_frame, user_frame, waiting_line
from mini_workflow.workflow import REGISTRY


class Stopped(MiniWorkflowError):
    """The end of a replay before the end of its history. Never leaves this module."""


@frozen
class Step:
    """An event that is being replayed.

    `place` is the user's line, as ``file:line in function``: the line that asks for the operation, or,
    for an event that arrives, the line at which the workflow function waits.
    """

    number: int
    event: Event
    place: str = ""


Observer = Callable[[Step], None]
"""Called at every step: before the code reacts to an event, and when it asks for an operation."""


@frozen
class Mismatch:
    """The place where the code no longer fits the history: event `number`, counted from 1.

    `recorded` is the event of the history there, `asked` the event that the code asks for; None if
    there is no more. `place` is the user's line, as ``file:line in function``.
    """

    number: int
    recorded: Event | None
    asked: Event | None
    place: str


@frozen
class Replayed:
    """The result of a replay.

    Attributes:
        events: the number of events of the history that fit.
        fault: the reason why the code cannot go on, which would block the execution.
        mismatch: both sides of the fault, if it is a mismatch.
        parked_fault: whether the whole history fits, and the fault is at a message behind it.
        beyond: the operations for which the code asks behind the end of the history.
        stopped: the reason why the replay ended early; empty if it did not.
        waiting: pairs of the name of an asyncio task and the user's line at which it waits.
        open: the operations that are under way, in words.
        handlers: the functions that handle messages, by kind ("signal", "query", "update") and name.
    """

    recording: Recording
    events: int
    fault: MiniWorkflowError | None = None
    mismatch: Mismatch | None = None
    parked_fault: bool = False
    beyond: tuple[Event, ...] = ()
    stopped: str = ""
    waiting: tuple[tuple[str, str], ...] = ()
    open: tuple[str, ...] = ()
    handlers: Mapping[tuple[str, str], Callable[..., Any]] = field(
        default_factory=dict[tuple[str, str], Callable[..., Any]]
    )

    @property
    def fits(self) -> bool:
        """Return whether the code can go on where the history ends."""
        return self.fault is None


def replay(
    recording: Recording,
    definition: Definition | None = None,
    *,
    codec: Codec | None = None,
    until: int | None = None,
    observe: Observer | None = None,
    turn_timeout: float | None = None,
    now: int | None = None,
    trust: bool = False,
) -> Replayed:
    """Replay a recorded execution. Runs on this thread, so that a debugger can stop in it.

    Args:
        recording: the execution to replay.
        definition: the workflow; by default the registered one with the name in the recording.
        codec: the codec of the values; by default that of the runtimes, which without `trust` finds
            classes in imported modules only, and unpickles nothing.
        until: the number of the event at which to stop, before the code reacts to it.
        observe: called at each step.
        turn_timeout: seconds that the code may compute; None for no limit, for a debugger.
        now: the time in milliseconds since the epoch up to which timers fire behind the end of the
            history of a blocked execution; None for no timers.
        trust: load all values of the recording. Use it for recordings of a source that you trust.

    Raises:
        UnknownWorkflow: no workflow of that name is registered in this process.
    """
    definition = definition or REGISTRY.get(recording.workflow)
    run = _ObservedRun(definition, recording, codec or StandardCodec(trust=trust), until, observe)
    watchdog = Watchdog(turn_timeout)
    try:
        watchdog.begin(run)
        try:
            return _replay(run, recording, now)
        except Halt:
            return _result(run, recording)
        finally:
            watchdog.end()
    finally:
        watchdog.close()
        run.close()


def _replay(run: _ObservedRun, recording: Recording, now: int | None) -> Replayed:
    history = recording.history
    # A single event was recorded by a start: the code has not run yet.
    fresh = len(history) == 1
    if not fresh:
        repeat(run, history)
        if run.fault is not None:
            if isinstance(run.fault, NonDeterminismError) and run.mismatch is None:
                run.mismatch = run.nothing_more()
            return _result(run, recording)
    if recording.status != "blocked" and not fresh:
        return _result(run, recording, beyond=tuple(run.recorder.take()))
    run.behind = True
    messages = [*(history if fresh else ()), *recording.parked]
    if recording.status == "blocked" and now is not None:
        messages.append(events.Tick(now))
    decision = decide(run, messages)  # type: ignore[arg-type]
    beyond = tuple(e for e in decision.events if e is not history[0])
    return _result(run, recording, beyond=beyond, parked_fault=run.fault is not None)


def _result(
    run: _ObservedRun,
    recording: Recording,
    *,
    beyond: tuple[Event, ...] = (),
    parked_fault: bool = False,
) -> Replayed:
    fault = run.fault
    stopped = str(fault) if isinstance(fault, Stopped) else ""
    return Replayed(
        recording,
        events=min(run.count, len(recording.history)),
        fault=None if stopped else fault,
        mismatch=None if stopped else run.mismatch,
        parked_fault=parked_fault and not stopped,
        beyond=beyond,
        stopped=stopped,
        waiting=run.waiting(),
        open=run.open_operations(),
        handlers=run.messages.handlers(),
    )


class _ObservedRun(Run):
    """A run that reports every event to an observer, and stops at a given one."""

    def __init__(
        self,
        definition: Definition,
        recording: Recording,
        codec: Codec,
        until: int | None,
        observe: Observer | None,
    ) -> None:
        super().__init__(
            definition,
            recording.execution_id,
            codec,
            self._refuse_inline,
            make_recorder=partial(_ObservedRecorder, self),
        )
        self._recording = recording
        self._until = until
        self._observe = observe
        self.count = 0
        self.behind = False
        self.mismatch: Mismatch | None = None

    def deliver(self, event: Event) -> None:
        """See `Run.deliver`."""
        self._step(event, self._place_of_main())
        if self.fault is None:
            self.count += 1
            super().deliver(event)

    def emit(self, event: Event, record: Callable[[Event], Event]) -> Event:
        """Record an event by `record`, and report it."""
        frame = user_frame(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        place = "" if frame is None else describe_frame(frame)
        try:
            kept = record(event)
        except Halt:
            history = self._recording.history
            recorded = history[self.count] if self.count < len(history) else None
            self.mismatch = Mismatch(self.count + 1, recorded, event, place)
            raise
        self._step(kept, place)
        if self.fault is not None:
            raise Halt
        self.count += 1
        return kept

    def _step(self, event: Event, place: str) -> None:
        number = self.count + 1
        if number == self._until:
            self.loop.fault = Stopped(f"stopped at event {number}, {describe(event)}")
        elif self._observe is not None:
            with self.loop.outside():
                self._observe(Step(number, event, place))

    def _refuse_inline(
        self,
        execution_id: str,
        seq: int,
        name: str,
        payload: CapturedCall,
        written: list[StreamWrite],
        headers: dict[str, str] | None,
    ) -> Payload | Failure:
        self.loop.fault = Stopped(f"inline task {name!r} comes next, and no task runs in a replay")
        raise Halt

    def nothing_more(self) -> Mismatch:
        """Return the mismatch of a history with more events than the code asks for."""
        return Mismatch(
            self.count + 1, self._recording.history[self.count], None, self._place_of_main()
        )

    def _place_of_main(self) -> str:
        main = self.main
        if main is None or main.done():
            return ""
        return waiting_line(main.get_coro())

    def waiting(self) -> tuple[tuple[str, str], ...]:
        """Return the lines at which asyncio tasks of the workflow wait, by their names."""
        found = (
            (t.get_name(), waiting_line(t.get_coro())) for t in self.loop.tasks if not t.done()
        )
        return tuple((name, place) for name, place in found if place)

    def open_operations(self) -> tuple[str, ...]:
        """Return the operations that are under way, in words."""
        state = self.state
        found = [f"task #{n} {t.name!r}, attempt {t.attempt}" for n, t in state.tasks.items()]
        found += [f"timer #{number}" for number in state.timers]
        found += [f"promise #{number}" for number in state.promises]
        found += [f"child #{n} {child.id!r}" for n, child in state.children.items()]
        return tuple(found)


class _ObservedRecorder(Recorder):
    """A recorder that records each event by its run, which reports it."""

    def __init__(self, run: _ObservedRun, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._run = run

    def emit(self, event: Event) -> Event:
        """See `Recorder.emit`."""
        return self._run.emit(event, super().emit)


def explain(replayed: Replayed) -> str:
    """Return the reason why the code cannot go on, in one line; empty if it can."""
    if replayed.fault is None:
        return ""
    if replayed.mismatch is None:
        where = "behind the history" if replayed.parked_fault else f"after event {replayed.events}"
        return f"{where}: {type(replayed.fault).__name__}: {replayed.fault}"
    return str(replayed.fault)
