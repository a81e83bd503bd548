"""advance(): what a workflow decides, given its history and what has arrived. Pure; never raises.

`revive` rebuilds a live run from a history; `decide` feeds messages to a live run and says what to
append, what to dispatch once that is committed, and what could not be taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mini_workflow.core import commands, events
from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import Command
from mini_workflow.core.events import CLOSING, Event, Message, Tick
from mini_workflow.core.history import History
from mini_workflow.core.run import Definition, Inline, Run
from mini_workflow.core.script import Script
from mini_workflow.core.state import Condition, ExecutionState
from mini_workflow.errors import MiniWorkflowError, NonDeterminismError, WireError


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of one advance.

    `events` are to be appended to the history and `commands` to be dispatched after that. With a
    `fault` the run cannot go on; `left` are the messages that it could not take and that must be
    kept. The other fields describe the execution as it is after `events`.
    """

    events: tuple[Event, ...]
    commands: tuple[Command, ...]
    condition: Condition
    busy: bool
    wake_at: int | None
    fault: MiniWorkflowError | None = None
    left: tuple[Message, ...] = ()


def advance(
    definition: Definition,
    history: History,
    messages: Iterable[Message],
    codec: Codec,
    *,
    execution_id: str = "",
    inline: Inline | None = None,
) -> Decision:
    """Replay the history, take the messages in order, and say what follows. Never raises."""
    run = revive(definition, execution_id, history, codec, inline)
    try:
        return decide(run, tuple(messages))
    finally:
        run.close()


def revive(
    definition: Definition,
    execution_id: str,
    history: Sequence[Event],
    codec: Codec,
    inline: Inline | None = None,
) -> Run:
    """A live run that has taken the whole history. If it no longer fits, the run has a `fault`."""
    run = Run(definition, execution_id, codec, inline)
    repeat(run, history)
    return run


def repeat(run: Run, history: Sequence[Event]) -> None:
    """Take a whole history into a new run. If it no longer fits, the run has a `fault`."""
    if not history:
        return
    first = history[0]
    python = first.python if isinstance(first, events.ExecutionStarted) else ""
    script = Script(history, python, run.place)
    try:
        run.follow(script, frozenset(ExecutionState.of(history).tasks))
        while run.fault is None and (event := script.next_incoming()) is not None:
            run.deliver(event)
    except (NonDeterminismError, WireError) as error:
        run.loop.fault = error
    run.follow(None)
    # What the code asked for behind the end of the recording has not been committed yet.
    fresh = run.take()[len(history) :]
    run.restore(fresh)


def decide(run: Run, messages: Sequence[Message]) -> Decision:
    """Feed messages to a live run, one at a time, until all are taken or it cannot go on."""
    taken: list[Event] = []
    left: list[Message] = []
    summary = _summary(run.state)
    if run.fault is None:
        taken.extend(run.take())
        for index, message in enumerate(messages):
            for event in _events_of(run, message):
                summary = _summary(run.state)
                run.deliver(event)
                if run.fault is not None:
                    run.take()
                    # An execution is never without its first event: what the code decided at it
                    # is found out again when the cause is mended.
                    first = isinstance(event, events.ExecutionStarted)
                    if first:
                        taken.append(event)
                        summary = ("running", False, None)
                    left.extend(messages[index + first :])
                    break
                taken.extend(run.take())
            if run.fault is not None:
                break
        else:
            summary = _summary(run.state)
    else:
        left.extend(messages)
    condition, busy, wake_at = summary
    return Decision(
        events=tuple(taken),
        commands=tuple(_commands(run, taken)),
        condition=condition,
        busy=busy,
        wake_at=wake_at,
        fault=run.fault,
        left=tuple(message for message in left if not isinstance(message, Tick)),
    )


def _events_of(run: Run, message: Message) -> Iterable[Event]:
    state = run.state
    if not isinstance(message, Tick):
        event = state.admit(message)
        if event is not None:
            yield event
        return
    while (due := state.due(message.at)) is not None:
        yield due


def _summary(state: ExecutionState) -> tuple[Condition, bool, int | None]:
    return state.condition, state.in_flight > 0, state.next_wake()


def _commands(run: Run, taken: Iterable[Event]) -> Iterable[Command]:
    """What is to be done for the events, leaving out what is over already."""
    state = run.state
    started: set[int] = set()
    for event in taken:
        if isinstance(event, (events.TaskScheduled, events.TaskRetryStarted)):
            task, call = state.tasks.get(event.seq), run.call_of(event.seq)
            fresh = event.seq not in started
            started.add(event.seq)
            if fresh and task is not None and call is not None and task.retry_at is None:
                payload, is_async = call
                yield commands.RunTask(
                    event.seq, task.attempt, task.name, payload, task.timeout, is_async
                )
        elif isinstance(event, events.TimerStarted):
            started.add(event.seq)
            if event.seq in state.timers:
                yield commands.StartTimer(event.seq, event.fire_at)
        elif isinstance(event, events.TaskCancelled):
            if event.seq not in started and event.seq in state.cancelled_tasks:
                yield commands.CancelTask(event.seq)
        elif isinstance(event, events.TimerCancelled):
            if event.seq not in started:
                yield commands.CancelTimer(event.seq)
        elif type(event) in CLOSING:
            yield from (commands.CancelTask(seq) for seq in state.left_tasks if seq not in started)
            yield from (
                commands.CancelTimer(seq) for seq in state.left_timers if seq not in started
            )
