"""advance(): what a workflow decides, given its history and what has arrived. Pure; never raises.

`revive` rebuilds a live run from a history; `decide` feeds messages to a live run and says what to
append, what to dispatch once that is committed, and what could not be taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import Context
from typing import Final

from mini_workflow.core import commands, events
from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import Command
from mini_workflow.core.events import CLOSING, Event, Message, Tick
from mini_workflow.core.failure import Failure
from mini_workflow.core.history import History
from mini_workflow.core.payload import Payload
from mini_workflow.core.recorded import Script
from mini_workflow.core.records import record
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.core.run import Definition, Inline, Run
from mini_workflow.core.state import Condition, ExecutionState
from mini_workflow.errors import (
    MiniWorkflowError,
    NonDeterminismError,
    NotAllowedInWorkflow,
    UsageError,
    WireError,
)

Given = events.PromiseCompleted | events.PromiseFailed
"""What is given to a promise from outside."""


NOBODY: Final[dict[str, Failure]] = {}


@record
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
    refusals: tuple[tuple[str, Failure], ...] = ()
    """The updates that were refused, by id, with the reason."""
    ignored: tuple[Message, ...] = ()
    """The messages that said nothing new, or that came too late."""
    spoilt_by: tuple[str, Failure] | None = None
    """The update whose validator tried to change the run, and its refusal. The run is of no use any
    more, and nothing of this decision counts: another run has to decide, and be told of it."""
    deadline: bool = False
    """Whether `wake_at` is the deadline of an attempt's report: then it need not be kept to the
    moment."""


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
    """Replay the history, take the messages in order, and say what follows. Never raises."""
    refused: dict[str, Failure] = {}
    taken = tuple(messages)
    while True:
        run = revive(definition, execution_id, history, codec, inline, limits)
        try:
            decision = decide(run, taken, refused=refused)
        finally:
            run.close()
        if decision.spoilt_by is None:
            return decision
        refused.update([decision.spoilt_by])


def revive(
    definition: Definition,
    execution_id: str,
    history: Sequence[Event],
    codec: Codec,
    inline: Inline | None = None,
    limits: ReportLimits | None = None,
) -> Run:
    """A live run that has taken the whole history. If it no longer fits, the run has a `fault`."""
    run = Run(definition, execution_id, codec, inline)
    run.state.limits = limits
    repeat(run, history)
    return run


def repeat(run: Run, history: Sequence[Event]) -> None:
    """Take a whole history into a new run. If it no longer fits, the run has a `fault`."""
    if not history:
        return
    first = history[0]
    python = first.python if isinstance(first, events.ExecutionStarted) else ""
    script = Script(history, python, run.place, run.comparison)
    try:
        state = ExecutionState.of(history)
        run.recorded = frozenset(state.patches)
        run.follow(script, frozenset(state.tasks))
        while run.fault is None and (event := script.next_incoming()) is not None:
            run.deliver(event)
    except (NonDeterminismError, WireError) as error:
        run.loop.fault = error
    run.follow(None)
    # What the code asked for behind the end of the recording has not been committed yet.
    fresh = run.take()[len(history) :]
    run.restore(fresh)


def decide(
    run: Run,
    messages: Sequence[Message],
    now: int | None = None,
    refused: Mapping[str, Failure] = NOBODY,
) -> Decision:
    """Feed messages to a live run, one at a time, until all are taken or it cannot go on.

    `now` is what the time really is (milliseconds since the epoch), which durations begin at; by
    default the time of the last message. The validators of the updates in `refused`, by id, are not
    asked again.
    """
    run.loop.clock = now
    taken: list[Event] = []
    left: list[Message] = []
    refusals: list[tuple[str, Failure]] = []
    ignored: list[Message] = []
    summary = _summary(run.state)
    if run.fault is None:
        taken.extend(run.take())
        for index, message in enumerate(messages):
            before = len(taken)
            for event in _events_of(run, message, refusals, refused):
                summary = _summary(run.state)
                run.deliver(event)
                if run.fault is not None:
                    run.take()
                    # An execution is never without its first event: what the code decided at it
                    # is found out again when the cause is fixed.
                    first = isinstance(event, events.ExecutionStarted)
                    if first:
                        taken.append(event)
                        summary = ("running", False, None, False)
                    left.extend(messages[index + first :])
                    break
                taken.extend(run.take())
            if run.fault is not None:
                break
            if run.loop.touched:
                return Decision((), (), "running", False, None, spoilt_by=refusals[-1])
            if run.state.condition == "continued":
                # What else has arrived is for the next run, but for the promises of this one.
                for other in messages[index + 1 :]:
                    (ignored if isinstance(other, Given) else left).append(other)
                summary = _summary(run.state)
                break
            if len(taken) == before:
                ignored.append(message)
        else:
            summary = _summary(run.state)
    else:
        left.extend(messages)
    condition, busy, wake_at, deadline = summary
    return Decision(
        events=tuple(taken),
        commands=tuple(_commands(run, taken)),
        condition=condition,
        busy=busy,
        wake_at=wake_at,
        fault=run.fault,
        left=tuple(message for message in left if not isinstance(message, Tick)),
        refusals=tuple(refusals),
        ignored=tuple(ignored),
        deadline=deadline,
    )


def ask(run: Run, codec: Codec, name: str, arguments: Payload) -> Payload:
    """Answer a query. Raises UnknownHandler, NotAllowedInWorkflow, what the handler raises, or the
    run's fault: a run that has stopped half-way has nothing to say.
    """
    fault = run.fault
    # That an inline task comes next is no fault of the code: it has not been run yet.
    if fault is not None and type(fault) is not UsageError:
        raise fault
    args, kwargs = codec.decode_ordered(arguments)
    run.reading = f"the handler of query {name!r}"
    try:
        with run.loop.inside():
            # In a context of its own: what it sets there is not seen by anybody else.
            answer = Context().run(run.messages.ask, name, args, kwargs)
            return run.messages.encode_answer(answer, name)
    finally:
        run.reading = None


def _events_of(
    run: Run,
    message: Message,
    refusals: list[tuple[str, Failure]],
    refused: Mapping[str, Failure],
) -> Iterable[Event]:
    state = run.state
    if isinstance(message, Tick):
        while (due := state.due(message.at)) is not None:
            yield due
        return
    if isinstance(message, events.UpdateRequested):
        event = _accept(run, message, refusals, refused)
    else:
        event = state.admit(message)
    if event is not None:
        yield event


def _accept(
    run: Run,
    message: events.UpdateRequested,
    refusals: list[tuple[str, Failure]],
    refused: Mapping[str, Failure],
) -> Event | None:
    """Ask the validator. A refusal leaves no history."""
    if message.id in run.state.updates or run.state.closed:
        return None
    failure = refused.get(message.id) or check_update(run, message)
    if failure is not None:
        refusals.append((message.id, failure))
        return events.UpdateRefused(message.at, message.id, failure) if message.forwarded else None
    return events.UpdateAccepted(message.at, message.id, message.name, message.arguments)


def check_update(run: Run, message: events.UpdateRequested) -> Failure | None:
    """Why the workflow refuses an update now, or None.

    Nothing changes by asking, unless the run's loop is `touched` then.
    """
    what = run.reading = f"the validator of update {message.name!r}"
    try:
        with run.loop.inside():
            args, kwargs = run.decode(message.arguments)
            # In a context of its own: what it sets there is not seen by anybody else.
            Context().run(run.messages.validate, message.name, args, kwargs)
    except Exception as error:
        return run.encode_failure(error)
    finally:
        run.reading = None
    if run.loop.touched:
        return run.encode_failure(
            NotAllowedInWorkflow(f"{what} tried to change the workflow; it may only look at it")
        )
    return None


def _summary(state: ExecutionState) -> tuple[Condition, bool, int | None, bool]:
    busy = state.in_flight > 0 or state.condition == "continued"
    wake_at = state.next_wake()
    return state.condition, busy, wake_at, wake_at is not None and state.next_is_deadline()


def _commands(run: Run, taken: Iterable[Event]) -> Iterable[Command]:
    """What is to be done for the events, leaving out what is over already."""
    state = run.state
    started: set[int] = set()
    for event in taken:
        if isinstance(event, (events.TaskScheduled, events.TaskRetryStarted)):
            fresh = event.seq not in started
            started.add(event.seq)
            if fresh and (command := attempt_of(run, event.seq)) is not None:
                yield command
        elif isinstance(event, events.TimerStarted):
            started.add(event.seq)
            if event.seq in state.timers:
                yield commands.StartTimer(event.seq, event.fire_at)
        elif isinstance(event, events.TaskCancelled):
            if event.seq not in started and event.seq in state.cancelled_tasks:
                yield commands.CancelTask(event.seq, event.reason)
        elif isinstance(event, events.TimerCancelled):
            if event.seq not in started:
                yield commands.CancelTimer(event.seq)
        elif isinstance(event, events.ChildStarted):
            yield commands.StartChild(event.seq, event.id, event.name, event.arguments)
        elif isinstance(event, (events.SignalSent, events.CancelSent, events.ChildCancelled)):
            yield message_to(run, event)
        elif type(event) in CLOSING:
            reason = getattr(event, "reason", "")
            yield from (
                commands.CancelTask(seq, reason) for seq in state.left_tasks if seq not in started
            )
            yield from (
                commands.CancelTimer(seq) for seq in state.left_timers if seq not in started
            )
            if not isinstance(event, events.ContinuedAsNew):
                yield from end_children(run.execution_id, state)
                yield from tell_parent(run.execution_id, run.started, state, event)


def attempt_of(run: Run, seq: int) -> commands.RunTask | None:
    """The attempt of a task that is to be in flight now, or None."""
    task, call = run.state.tasks.get(seq), run.call_of(seq)
    if task is None or call is None or task.retry_at is not None:
        return None
    payload, is_async = call
    return commands.RunTask(
        seq,
        task.attempt,
        task.name,
        payload,
        task.timeout,
        is_async,
        task.heartbeat_timeout,
        task.heartbeat,
    )


def message_to(
    run: Run, event: events.SignalSent | events.CancelSent | events.ChildCancelled
) -> commands.SendMessage:
    """What the event has sent to another execution."""
    key = f"{run.execution_id}/{run.state.seed}/{event.seq}"
    at = run.state.now
    if isinstance(event, events.SignalSent):
        signal = events.SignalReceived(at, event.name, event.value, key)
        return commands.SendMessage(event.target, signal, key)
    if isinstance(event, events.CancelSent):
        return commands.SendMessage(
            event.target, events.CancelRequested(at, event.reason, key), key
        )
    reason = event.reason or f"cancelled by its parent {run.execution_id!r}"
    return commands.SendMessage(
        run.state.child_ids[event.seq], events.CancelRequested(at, reason, key), key
    )


def end_children(execution_id: str, state: ExecutionState) -> Iterable[commands.SendMessage]:
    """What is to become of the children that are open when their parent closes."""
    reason = f"its parent {execution_id!r} has closed"
    for seq, child in state.family().items():
        key = f"{execution_id}/{state.seed}/{seq}/close"
        if child.on_parent_close == "cancel":
            message = events.CancelRequested(state.now, reason, key)
            yield commands.SendMessage(child.id, message, key)
        elif child.on_parent_close == "terminate":
            yield commands.SendMessage(child.id, events.ExecutionTerminated(state.now, reason), key)


def tell_parent(
    execution_id: str, started: events.ExecutionStarted | None, state: ExecutionState, end: Event
) -> Iterable[commands.SendMessage]:
    """The message to the parent about the end of its child."""
    if started is None or started.parent is None:
        return
    parent, seq = started.parent["id"], started.parent["seq"]
    message: Event
    if isinstance(end, events.ExecutionCompleted):
        message = events.ChildCompleted(state.now, seq, end.result)
    elif isinstance(end, events.ExecutionFailed):
        message = events.ChildFailed(state.now, seq, end.failure)
    else:
        kind = "ExecutionCancelled" if isinstance(end, events.ExecutionCancelled) else ""
        kind = kind or "ExecutionTerminated"
        reason = getattr(end, "reason", "")
        failure = Failure(
            type=f"mini_workflow.errors:{kind}",
            message=reason,
            lineage=(f"mini_workflow.errors:{kind}", "builtins:Exception"),
            state={"args": [reason], "how": "call"},
        )
        message = events.ChildFailed(state.now, seq, failure)
    yield commands.SendMessage(parent, message, f"{execution_id}/{state.seed}/end")
