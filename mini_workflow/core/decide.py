"""Feed messages to a live run, and return the decision. Never raises.

A decision has the events to append, the commands to dispatch once these are committed, and the messages
that could not be taken. `advance` is a whole turn as a pure function: history and messages -> decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeGuard

from mini_workflow.core import commands, events
from mini_workflow.core.asks import (
    NOTHING,
    answer,
    answer_of_closed,
    answers_at_end,
    given_before,
)
from mini_workflow.core.children import end_children, tell_parent
from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import Command
from mini_workflow.core.continuation import remember
from mini_workflow.core.duplicates import admit
from mini_workflow.core.events import CLOSING, Event, Message, Tick
from mini_workflow.core.failure import Failure
from mini_workflow.core.history import History
from mini_workflow.core.limit import LIMIT
from mini_workflow.core.open_operations import part_of
from mini_workflow.core.records import record, replace
from mini_workflow.core.replay import replay
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.core.run import Definition, Inline, OutOfTime, Run
from mini_workflow.core.slots import leave_limits, tell_limits
from mini_workflow.core.state import Condition, ExecutionState, Summary
from mini_workflow.core.streams import StreamWrite
from mini_workflow.core.timing import UNTIMED, Timing
from mini_workflow.errors import MiniWorkflowError, UsageError

SKEW: Final = 10_000
"""Milliseconds by which the clocks of two machines that run turns of one execution may differ. A smaller
difference does not count as a clock that was set back. Our own bound."""

UNWAITED_RUNS: Final = 20
"""The number of runs in a row that continue as new without waiting, from which on an update is refused that
none of them could take: its caller would wait for ever. Our own bound."""

Given = events.PromiseCompleted | events.PromiseFailed
"""The messages that complete a promise."""

Sent = (
    events.SignalSent
    | events.AskSent
    | events.CancelSent
    | events.CompletionSent
    | events.ChildCancelled
    | events.SlotsSent
)
"""The events that record messages to other executions."""

NOBODY: Final[dict[str, Failure]] = {}

_ENDS: Final = frozenset({events.TaskCompleted, events.TaskFailed})
"""Messages between which no code of the workflow runs but that which they wake."""


@record
class Decision:
    """The result of one advance.

    `events` are to be appended to the history, and `commands` to be dispatched after the commit. With a
    `fault` the run cannot go on; `left` are the messages that it could not take and that must be kept.
    `condition`, `busy` and `wake_at` (milliseconds since the epoch) describe the execution after `events`.
    """

    events: tuple[Event, ...]
    commands: tuple[Command, ...]
    condition: Condition
    busy: bool
    wake_at: int | None
    fault: MiniWorkflowError | None = None
    left: tuple[Message, ...] = ()
    refusals: tuple[tuple[str, Failure], ...] = ()
    """The refused updates: pairs of id and reason."""
    ignored: tuple[Message, ...] = ()
    """The messages that were not new, or came too late."""
    spoilt_by: tuple[str, Failure] | None = None
    """The update whose validator tried to change the run, and its refusal. The run and the rest of this
    decision are void: a new run has to decide, with this update among its `refused`."""
    deadline: bool = False
    """Whether `wake_at` is the deadline of an attempt's report, which need not be kept exactly."""
    chunks: tuple[StreamWrite, ...] = ()
    """The chunks that the code has written to streams."""
    cut: bool = False
    """Whether the run has stopped before an inline task for which this turn has no time. The decision
    counts; a new run continues there, before it takes the messages in `left`."""


def advance(
    definition: Definition,
    history: History,
    messages: Iterable[Message],
    codec: Codec,
    *,
    execution_id: str = "",
    inline: Inline | None = None,
    limits: ReportLimits | None = None,
) -> Decision:
    """Replay the history, take the messages in order, and return the decision. Never raises."""
    refused: dict[str, Failure] = {}
    taken = tuple(messages)
    while True:
        run = replay(definition, execution_id, history, codec, inline, limits)
        try:
            decision = decide(run, taken, refused=refused)
        finally:
            run.close()
        if decision.spoilt_by is None:
            return decision
        refused.update([decision.spoilt_by])


def decide(
    run: Run,
    messages: Sequence[Message],
    now: int | None = None,
    refused: Mapping[str, Failure] = NOBODY,
) -> Decision:
    """Feed messages to a live run, one at a time, until all are taken or the run cannot go on.

    `now` is the time of the clock (milliseconds since the epoch), at which durations begin; by default
    the time of the last message. The updates in `refused`, by id, are refused with that failure, without
    a call of their validators.
    """
    loop, state, recorder = run.loop, run.state, run.recorder
    loop.clock = now
    taken: list[Event] = []
    left: list[Message] = []
    others: _Others = [], [], []
    summary: Summary | None = run.summary or state.summary()
    stale = now is not None and state.durations.latest > now
    if stale:
        stale = _notice_the_clock(run, messages, now)
    if recorder.out and (loop.fault is None or _is_cut(run)):
        taken.extend(recorder.take())
    if loop.fault is not None:
        left.extend(messages)
    elif len(messages) > 1 and _ENDS.issuperset(map(type, messages)):
        with loop.with_hooks():
            summary = _feed(run, messages, now, refused, summary, stale, taken, left, others)
    else:
        summary = _feed(run, messages, now, refused, summary, stale, taken, left, others)
    refusals, ignored, said = others
    if summary is None:
        return Decision((), (), "running", False, None, spoilt_by=refusals[-1])
    condition, busy, wake_at, deadline = summary
    run.summary = summary if loop.fault is None else None
    cut = loop.fault is not None and _is_cut(run)
    return Decision(
        tuple(taken),
        (*said, *(_commands(run, taken) if taken else ())),
        *(condition, busy, wake_at, None if cut else loop.fault),
        tuple([m for m in left if not isinstance(m, Tick)]) if left else (),
        *(tuple(refusals), tuple(ignored), None, deadline),
        () if recorder.streams is None else recorder.streams.take(),
        cut,
    )


_SPECIAL: Final = frozenset({Tick, events.Asked, events.UpdateRequested})
"""The messages that do not become one event or none."""
_Others = tuple[list[tuple[str, Failure]], list[Message], list[Command]]
"""The refused updates, the ignored messages, and the answers to asks."""


def _feed(
    run: Run,
    messages: Sequence[Message],
    now: int | None,
    refused: Mapping[str, Failure],
    summary: Summary,
    stale: bool,
    taken: list[Event],
    left: list[Message],
    others: _Others,
) -> Summary | None:
    """Deliver the messages to a run, one at a time, and add what comes of them to the lists. Return the
    summary of the state after what counts; None if a validator has spoilt the run.
    """
    loop, state, recorder = run.loop, run.state, run.recorder
    refusals, ignored, said = others
    for index, message in enumerate(messages):
        if type(message) is Tick and index and _notice_the_clock(run, messages, now):
            # Durations that began with a message before this one, such as a delayed start.
            stale = True
            taken += recorder.take()
        if type(message) is events.PromiseHeartbeat and _is_heard(state, message, now):
            stale = True
            continue
        before = len(taken)
        if type(message) in _SPECIAL:
            due: Iterable[Event] = _events_of(run, message, refusals, refused, said)
        else:
            event = admit(state, message)
            due = () if event is None else (event,)
        for arrived in due:
            if stale:
                summary = state.summary()
            stale = True
            streams = recorder.streams
            written = 0 if streams is None else len(streams.out)
            run.deliver(arrived)
            if loop.fault is not None:
                counts, after = _before_the_stop(run, arrived, written)
                taken.extend(counts)
                left.extend(messages[index + bool(counts) :])
                return after or summary
            taken += recorder.out
            recorder.out.clear()
        if loop.fault is not None:
            return summary
        if loop.touched:
            return None
        if state.condition == "continued":
            if type(message) is events.ExecutionStarted:
                run.unwaited = message.unwaited + 1
            _hand_on(run, messages[index + 1 :], left, others)
            break
        if len(taken) == before:
            ignored.append(message)
    return state.summary()


def _is_heard(state: ExecutionState, heartbeat: events.PromiseHeartbeat, now: int | None) -> bool:
    """Take the heartbeat of a promise, and return whether the promise is open."""
    is_open = admit(state, heartbeat) is not None
    if is_open:
        state.hear(heartbeat, now)
    return is_open


def _hand_on(run: Run, messages: Iterable[Message], left: list[Message], others: _Others) -> None:
    """Keep messages for the next run in `left`. Those for a promise of this run are ignored, and where run
    follows run without a wait, what asks for an answer is refused.
    """
    refusals, ignored, said = others
    for message in messages:
        if isinstance(message, Given | events.PromiseHeartbeat):
            ignored.append(message)
        elif run.unwaited < UNWAITED_RUNS or not _is_request(message):
            left.append(message)
        else:
            failure = run.recorder.codec.encode_failure(_never_waits(run, message))
            if isinstance(message, events.Asked):
                said.append(answer(message.id, run.state.now, failure, run.state.length))
                continue
            refusals.append((message.id, failure))
            if message.forwarded:
                remember(
                    run.state.answers,
                    message.at,
                    events.UpdateRefused(message.at, message.id, failure),
                )


def _is_request(message: Message) -> TypeGuard[events.Asked | events.UpdateRequested]:
    """Return whether a run has to take a message before anybody can be answered."""
    if isinstance(message, events.Asked):
        return message.kind in ("signal", "update")
    return isinstance(message, events.UpdateRequested)


def _never_waits(run: Run, message: events.Asked | events.UpdateRequested) -> UsageError:
    kind = message.kind if isinstance(message, events.Asked) else "update"
    return UsageError(
        f"{kind} {message.name!r} has met {run.unwaited} runs of execution {run.execution_id!r} that "
        "continued as new without waiting for anything, so that none could take it: send it again later, "
        "and let the workflow wait, for example for a task, before ctx.continue_as_new()"
    )


def _is_cut(run: Run) -> bool:
    """Return whether the run has stopped before an inline task for which its turn has no time."""
    return type(run.loop.fault) is OutOfTime


def _before_the_stop(
    run: Run, event: Event, written: int
) -> tuple[Sequence[Event], Summary | None]:
    """Return the events that remain of a step in which the run has stopped, and the summary of the state
    after them if it has changed. Drops the chunks of this step: those behind the first `written` ones.
    """
    recorded = run.recorder.take()
    if _is_cut(run):
        return recorded, run.state.summary()
    if run.recorder.streams is not None:
        del run.recorder.streams.out[written:]
    if isinstance(event, events.ExecutionStarted):
        # An execution always keeps its first event. The code decides again when the cause is fixed.
        return (event,), ("running", False, None, False)
    return (), None


def _notice_the_clock(run: Run, messages: Sequence[Message], now: int | None) -> bool:
    """Deliver ClockSetBack to the run if the clock was set back, and return whether it was."""
    if run.loop.fault is None and now is not None and run.state.durations.latest > now:
        step = _look_at_clock(run.state, messages, now)
        if step is not None:
            run.deliver(step)
            return True
    return False


def _look_at_clock(
    state: ExecutionState, messages: Sequence[Message], now: int
) -> events.ClockSetBack | None:
    """Return the event to record if durations have begun after `now`: the clock was set back, unless the
    difference is small enough to be that of two machines.
    """
    by = sum(message.set_back for message in messages if isinstance(message, Tick))
    if state.durations.begun_after(now if by else now + SKEW):
        return events.ClockSetBack(now, by)
    return None


def _events_of(
    run: Run,
    message: Message,
    refusals: list[tuple[str, Failure]],
    refused: Mapping[str, Failure],
    said: list[Command],
) -> Iterable[Event]:
    """Return the events that a message becomes which is one of _SPECIAL."""
    if isinstance(message, Tick):
        return _due(run.state, message)
    if isinstance(message, events.Asked):
        event = _asked(run, message, refusals, refused, said)
    else:
        event = admit(run.state, message)
        if event is not None and isinstance(message, events.UpdateRequested):
            event = _validated(event, run, message, refusals, refused)
    return () if event is None else (event,)


def _asked(
    run: Run,
    asked: events.Asked,
    refusals: list[tuple[str, Failure]],
    refused: Mapping[str, Failure],
    said: list[Command],
) -> Event | None:
    """Return the event that an ask of another execution becomes, and add an immediate answer to `said`.
    The engine answers a query after all other messages.
    """
    name, state = run.execution_id, run.state
    if asked.kind == "query":
        return None
    if state.end is not None:
        said.append(answer_of_closed(name, state, state.end, asked))
        return None
    event, outcome = admit(state, asked), NOTHING if asked.kind == "signal" else None
    if asked.kind == "update" and event is None:
        outcome = given_before(state, asked.id)
    elif asked.kind == "update" and event is not None:
        about = (asked.at, asked.id, asked.name, asked.value)
        request = events.UpdateRequested(*about, headers=asked.headers)
        event = _validated(event, run, request, refusals, refused)
        outcome = refusals[-1][1] if event is None else None
    if outcome is not None:
        said.append(answer(asked.id, state.now, outcome, state.length))
    return event


def _due(state: ExecutionState, tick: Tick) -> Iterator[Event]:
    while (due := state.due(tick.at, tick.steady_since)) is not None:
        yield due


def _validated(
    accepted: Event,
    run: Run,
    message: events.UpdateRequested,
    refusals: list[tuple[str, Failure]],
    refused: Mapping[str, Failure],
) -> Event | None:
    """Call the validator of a new update, and return its event. A refusal is recorded only if the update was
    forwarded from an earlier run.
    """
    failure = refused.get(message.id) or run.messages.refusal(message)
    if failure is None:
        return accepted
    refusals.append((message.id, failure))
    return events.UpdateRefused(message.at, message.id, failure) if message.forwarded else None


def _commands(run: Run, taken: Iterable[Event]) -> list[Command]:
    """Return the commands for the events, without those for operations that have ended already."""
    found: list[Command] = []
    started: set[int] = set()
    for event in taken:
        follow = _FOLLOW.get(type(event))
        if follow is not None:
            follow(run, event, started, found)
    state = run.state
    if not (state.slots is state.own_slot is None or state.closed):
        found += tell_limits(run.execution_id, state)
    return found


def _attempt(
    run: Run,
    event: events.TaskScheduled | events.TaskRetryStarted,
    started: set[int],
    found: list[Command],
) -> None:
    if event.seq not in started:
        started.add(event.seq)
        if (command := run.tasks.attempt(event.seq)) is not None:
            found.append(command)


def _slots(run: Run, event: events.SlotsGranted, started: set[int], found: list[Command]) -> None:
    slots = run.state.slots
    for seq in () if slots is None else slots.begun():
        if seq not in started:
            started.add(seq)
            if (command := run.tasks.attempt(seq)) is not None:
                found.append(command)


def _timer(run: Run, event: events.TimerStarted, started: set[int], found: list[Command]) -> None:
    started.add(event.seq)
    if event.seq in run.state.timers:
        found.append(commands.StartTimer(event.seq, event.fire_at))


def _no_task(
    run: Run, event: events.TaskCancelled, started: set[int], found: list[Command]
) -> None:
    if event.seq not in started and event.seq in run.state.cancelled_tasks:
        found.append(commands.CancelTask(event.seq, event.reason))


def _no_timer(
    run: Run, event: events.TimerCancelled, started: set[int], found: list[Command]
) -> None:
    if event.seq not in started:
        found.append(commands.CancelTimer(event.seq))


def _start(
    run: Run,
    event: events.ChildStarted | events.StartSent,
    started: set[int],
    found: list[Command],
) -> None:
    found.append(start_of(event, run.state))


def _message(
    run: Run,
    event: Sent,
    started: set[int],
    found: list[Command],
) -> None:
    found.append(message_to(run, event))


def _end(run: Run, event: Event, started: set[int], found: list[Command]) -> None:
    state, reason = run.state, getattr(event, "reason", "")
    if left := state.left_tasks:
        found += (commands.CancelTask(seq, reason) for seq in left if seq not in started)
    if left := state.left_timers:
        found += (commands.CancelTimer(seq) for seq in left if seq not in started)
    continues = isinstance(event, events.ContinuedAsNew)
    goes_on = continues and event.failure is None
    if not (state.slots is state.own_slot is None):
        found += leave_limits(run.execution_id, state, goes_on=goes_on)
    if not goes_on and (state.made("children") or state.made("inherited")):
        found += end_children(run.execution_id, state)
    if not continues:
        if run.started is not None and run.started.parent is not None:
            found += tell_parent(run.execution_id, run.started, state, event)
        if state.made("askers"):
            found += answers_at_end(run.execution_id, state, event)


def _again(run: Run, event: events.ExecutionReset, started: set[int], found: list[Command]) -> None:
    started.update(event.running or ())
    for seq in map(int, event.attempts or ()):
        if seq not in started:
            started.add(seq)
            if (command := run.tasks.attempt(seq)) is not None:
                found.append(command)
    for seq in map(int, event.asks or ()):
        if (ask := run.state.asks.get(seq)) is not None:
            command = message_to(run, ask.sent)
            found.append(replace(command, key=f"{command.key}/again/{event.run}"))


def _answered(
    run: Run,
    event: events.UpdateCompleted | events.UpdateFailed,
    started: set[int],
    found: list[Command],
) -> None:
    state = run.state
    if event.id in state.askers:
        outcome = event.result if isinstance(event, events.UpdateCompleted) else event.failure
        found.append(answer(event.id, state.now, outcome, state.length))


_FOLLOW: Final[dict[type[Event], Callable[[Run, Any, set[int], list[Command]], None]]] = {
    events.ExecutionReset: _again,
    events.TaskScheduled: _attempt,
    events.TaskRetryStarted: _attempt,
    events.TimerStarted: _timer,
    events.TaskCancelled: _no_task,
    events.TimerCancelled: _no_timer,
    events.ChildStarted: _start,
    events.StartSent: _start,
    events.SignalSent: _message,
    events.AskSent: _message,
    events.UpdateCompleted: _answered,
    events.UpdateFailed: _answered,
    events.CancelSent: _message,
    events.CompletionSent: _message,
    events.ChildCancelled: _message,
    events.SlotsSent: _message,
    events.SlotsGranted: _slots,
    **dict.fromkeys(CLOSING, _end),
}
"""Functions that add the commands for an event: (run, event, the numbers of the operations started before it
in this delivery, the commands so far).
"""


def start_of(
    event: events.ChildStarted | events.StartSent, state: ExecutionState
) -> commands.StartChild:
    """Return the command for the start of another execution, with the worker and headers of this one."""
    worker, headers = state.worker, event.headers
    if headers is None and event.name != LIMIT:  # other executions use the limit too
        headers = state.headers
    asked = (event.seq, event.id, event.name, event.arguments)
    if isinstance(event, events.ChildStarted):
        timing = UNTIMED if event.limit is None else Timing(limit=event.limit)
        return commands.StartChild(*asked, timing, False, "", worker, event.tags, headers)
    timing = Timing(event.delay, event.start_at, event.timeout, event.retry, event.limit)
    return commands.StartChild(*asked, timing, True, event.notify, worker, event.tags, headers)


def message_to(run: Run, event: Sent) -> commands.SendMessage:
    """Return the command for the message that the event records."""
    key = f"{run.execution_id}/{run.state.seed}/{event.seq}"
    at = run.state.now
    if isinstance(event, events.SignalSent):
        signal = events.SignalReceived(at, event.name, event.value, key, event.headers)
        return commands.SendMessage(event.target, signal, key)
    if isinstance(event, events.AskSent):
        return ask_of(run, event)
    if isinstance(event, events.SlotsSent):
        granted = events.SlotsGranted(at, event.limit, event.sender, event.granted)
        return commands.SendMessage(event.target, granted, key)
    if isinstance(event, events.CompletionSent):
        given: Given = events.PromiseCompleted(at, event.promise, event.value, event.secret)
        if event.failure is not None:
            given = events.PromiseFailed(at, event.promise, event.failure, event.secret)
        return commands.SendMessage(event.target, given, key)
    if isinstance(event, events.CancelSent):
        message = (
            events.ExecutionTerminated(at, event.reason)
            if event.terminates
            else events.CancelRequested(at, event.reason, key)
        )
        return commands.SendMessage(event.target, message, key)
    reason = event.reason or f"cancelled by its parent {run.execution_id!r}"
    return commands.SendMessage(
        run.state.child_ids[event.seq], events.CancelRequested(at, reason, key), key
    )


def ask_of(run: Run, event: events.AskSent) -> commands.SendMessage:
    """Return the command for an ask, with the id of its latest repetition while it is open."""
    state, at = run.state, run.state.now
    part = part_of(state, event.seq) if event.seq in state.asks else f"{state.seed}/{event.seq}"
    ask_id = f"{run.execution_id}/{part}"
    asked = events.Asked(at, ask_id, event.kind, event.name, event.value, event.headers)
    return commands.SendMessage(event.target, asked, ask_id)
