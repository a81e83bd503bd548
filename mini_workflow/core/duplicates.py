"""Ignore duplicate and late messages: a rule for each kind says whether one is new, and its event.

A message that is not new is ignored: it is a duplicate, too late, or not waited for any more. The table
in docs/design.md is written from the docstrings of the functions here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mini_workflow.core import events
from mini_workflow.core.events import Event, Message
from mini_workflow.core.open_operations import is_open, read_ask
from mini_workflow.core.records import replace
from mini_workflow.core.retry import DEFAULT_POLICY, RetryPolicy
from mini_workflow.core.slots import is_granted

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState


class Rule(NamedTuple):
    """A rule for one kind of message. `to_event` is called for new messages only."""

    is_new: Callable[[ExecutionState, Any], bool]
    to_event: Callable[[ExecutionState, Any], Event]


def _has_no_history(state: ExecutionState, message: Event) -> bool:
    """Return whether the execution has no history."""
    return state.condition == "new"


def _is_not_reset(state: ExecutionState, message: events.ExecutionReset) -> bool:
    """Return whether the workflow runs, and its run was not reset yet; of a fork, not by this one."""
    if message.how == "fork":
        known = any(name == message.id for _, name in state.resets)
    else:
        known = any(run == message.run for run, _ in state.resets)
    return state.condition == "running" and not known


def _is_running(state: ExecutionState, message: Event) -> bool:
    """Return whether the workflow runs."""
    return state.condition == "running"


def _is_first_cancel(state: ExecutionState, message: events.CancelRequested) -> bool:
    """Return whether the workflow runs, and neither another request to cancel nor this one, by its id,
    has been recorded.
    """
    repeated = message.id != "" and message.id == state.cancelled_by
    return state.condition == "running" and not state.cancel_requested and not repeated


def _is_awaited(state: ExecutionState, message: events.TaskCompleted | events.TaskFailed) -> bool:
    """Return whether that attempt is in flight, or was when its task was given up."""
    task = state.tasks.get(message.seq)
    if task is None:
        return state.cancelled_tasks.get(message.seq) == message.attempt
    return task.attempt == message.attempt and task.retry_at is None and not task.waits


def _is_held_back(state: ExecutionState, message: events.TaskRetryStarted) -> bool:
    """Return whether that attempt waits for its time, or was handed back by a runtime that closed."""
    task = state.tasks.get(message.seq)
    if task is None or task.attempt != message.attempt:
        return False
    return task.retry_at is not None or message.seq in state.released


def _can_be_released(state: ExecutionState, message: events.TaskReleased) -> bool:
    """Return whether that attempt is in flight, and was not handed back before."""
    task = state.tasks.get(message.seq)
    if task is None or task.attempt != message.attempt:
        return False
    return task.in_flight and message.seq not in state.released


def _is_open_timer(state: ExecutionState, message: events.TimerFired) -> bool:
    """Return whether the timer is open."""
    return message.seq in state.timers


def _is_unseen_signal(state: ExecutionState, message: events.SignalReceived) -> bool:
    """Return whether no signal with its id was recorded, in this run or of late in those before; one
    without an id is always new.
    """
    return message.id not in state.signal_ids


def _is_unseen_update(state: ExecutionState, message: events.UpdateRequested) -> bool:
    """Return whether the workflow has not ended, and no update with its id was accepted."""
    return message.id not in state.updates and not state.closed


def _is_unknown_update(state: ExecutionState, message: events.UpdateAccepted) -> bool:
    """Return whether the workflow has not ended, and no update with its id was accepted. It was
    accepted before the run was reset.
    """
    return message.id not in state.updates and not state.closed


def _is_open_promise(
    state: ExecutionState, message: events.PromiseCompleted | events.PromiseFailed
) -> bool:
    """Return whether the promise is open and the secret is the right one."""
    return message.seq in state.promises and message.secret == state.secret(message.seq)


def _is_open_promise_at_work(state: ExecutionState, message: events.PromiseHeartbeat) -> bool:
    """Return whether the workflow runs, the promise is open and the secret is the right one."""
    return (
        state.condition == "running"
        and message.seq in state.promises
        and message.secret == state.secret(message.seq)
    )


def _is_open_child(
    state: ExecutionState, message: events.ChildCompleted | events.ChildFailed
) -> bool:
    """Return whether the end of that child is not known yet, also if it was given up or is of an
    earlier run.
    """
    seq = message.seq
    return seq in state.children or seq in state.child_ids or seq in state.inherited


def _is_open_ask(state: ExecutionState, message: events.AskAnswered | events.AskFailed) -> bool:
    """Return whether the workflow runs, and that ask is open and was not asked anew since."""
    return state.condition == "running" and is_open(state, message)


def _is_unknown_ask(state: ExecutionState, message: events.Asked) -> bool:
    """Return whether the workflow runs, and has not got that ask yet. A query never changes anything."""
    if state.condition != "running" or message.kind == "query":
        return False
    known = state.signal_ids if message.kind == "signal" else state.updates
    return message.id not in known and message.id not in state.askers


def _grants_more(state: ExecutionState, message: events.SlotsGranted) -> bool:
    """Return whether the workflow runs, the slots are for this run, and it knows of fewer."""
    return state.condition == "running" and is_granted(state, message)


def as_it_is(state: ExecutionState, message: Event) -> Event:
    """Return the message itself."""
    return message


def _at_its_time(state: ExecutionState, message: events.TimerFired) -> Event:
    """Return the message itself, at the timer's time if it comes early."""
    # The clocks of two machines differ; a timer never ends before its time all the same.
    fire_at = state.timers[message.seq]
    return message if message.at >= fire_at else replace(message, at=fire_at)


def _retry_or_failure(state: ExecutionState, message: events.TaskFailed) -> Event:
    """Return `TaskRetryScheduled` if the policy allows another attempt, the message itself otherwise."""
    task = state.tasks.get(message.seq)
    if task is None:
        return message
    policy = DEFAULT_POLICY if task.retry is None else RetryPolicy.from_plain(task.retry)
    failure, attempt = message.failure, task.attempt
    made = attempt - task.discounted
    if not policy.retries(failure, made):
        return replace(message, failure=replace(failure, attempts=made))
    draw = random.Random(f"{state.seed}:{message.seq}:{attempt}").random()
    retry_at = message.at + policy.delay(failure, made, draw)
    return events.TaskRetryScheduled(
        *(message.at, message.seq, attempt + 1, retry_at, failure, message.heartbeat),
        begun=message.begun,
        ran_on=message.ran_on,
    )


def _signal(state: ExecutionState, message: events.SignalReceived) -> Event:
    """Return `SignalUnhandled` if the workflow has ended, the message itself otherwise."""
    if state.closed:
        about = (message.at, message.name, message.value, message.id)
        return events.SignalUnhandled(*about, message.headers, message.asked_by, message.first_run)
    return message


def _accepted(state: ExecutionState, message: events.UpdateRequested) -> Event:
    """Return `UpdateAccepted`, if its validator lets it pass."""
    about = (message.at, message.id, message.name, message.arguments)
    return events.UpdateAccepted(*about, message.headers, message.asked_by)


def _without_secret(
    state: ExecutionState, message: events.PromiseCompleted | events.PromiseFailed
) -> Event:
    """Return the message itself, without the secret."""
    return replace(message, secret="")


def _as_asked(state: ExecutionState, message: events.Asked) -> Event:
    """Return `ResultAsked`, `SignalReceived`, or `UpdateAccepted`, if its validator lets it pass."""
    if message.kind == "result":
        return events.ResultAsked(message.at, message.id)
    about = (message.name, message.value)
    if message.kind == "signal":
        return events.SignalReceived(message.at, *about, message.id, message.headers)
    asker = read_ask(message.id)[0]
    return events.UpdateAccepted(message.at, message.id, *about, message.headers, asker=asker)


def _without_id(state: ExecutionState, message: events.AskAnswered | events.AskFailed) -> Event:
    """Return the message itself, without the id."""
    return replace(message, id="")


def _unrecorded(state: ExecutionState, message: events.PromiseHeartbeat) -> Any:
    """Return nothing that is recorded: the last one of each promise is kept beside the history."""
    return message


RULES: Final[dict[type[Any], Rule]] = {
    events.ExecutionStarted: Rule(_has_no_history, as_it_is),
    events.ExecutionReset: Rule(_is_not_reset, as_it_is),
    events.TaskCompleted: Rule(_is_awaited, as_it_is),
    events.TaskFailed: Rule(_is_awaited, _retry_or_failure),
    events.TaskRetryStarted: Rule(_is_held_back, as_it_is),
    events.TaskReleased: Rule(_can_be_released, as_it_is),
    events.TimerFired: Rule(_is_open_timer, _at_its_time),
    events.SignalReceived: Rule(_is_unseen_signal, _signal),
    events.UpdateRequested: Rule(_is_unseen_update, _accepted),
    events.UpdateAccepted: Rule(_is_unknown_update, as_it_is),
    events.CancelRequested: Rule(_is_first_cancel, as_it_is),
    events.ExecutionTerminated: Rule(_is_running, as_it_is),
    events.PromiseCompleted: Rule(_is_open_promise, _without_secret),
    events.PromiseFailed: Rule(_is_open_promise, _without_secret),
    events.PromiseHeartbeat: Rule(_is_open_promise_at_work, _unrecorded),
    events.ChildCompleted: Rule(_is_open_child, as_it_is),
    events.ChildFailed: Rule(_is_open_child, as_it_is),
    events.Asked: Rule(_is_unknown_ask, _as_asked),
    events.AskAnswered: Rule(_is_open_ask, _without_id),
    events.AskFailed: Rule(_is_open_ask, _without_id),
    events.SlotsGranted: Rule(_grants_more, as_it_is),
}
"""The rules by the kind of the message. Messages of other kinds are never new: such events come from the
code or the engine. For a Tick, `ExecutionState.due` returns the events.
"""


def admit(state: ExecutionState, message: Message) -> Event | None:
    """Return the event that a message becomes, or None if the message is not new: see `RULES`."""
    rule = RULES.get(type(message))
    if rule is None or not rule.is_new(state, message):
        return None
    to_event = rule.to_event
    return message if to_event is as_it_is else to_event(state, message)  # type: ignore[return-value]
