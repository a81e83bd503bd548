"""Answers: what an execution says to others that have asked it for something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mini_workflow.core import events
from mini_workflow.core.commands import SendMessage
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure, failure_of
from mini_workflow.core.open_ask import read_ask
from mini_workflow.core.payload import Payload
from mini_workflow.core.state import ExecutionState
from mini_workflow.errors import (
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionNotFound,
    ExecutionTerminated,
)

NOTHING = Payload(tree=None)
"""What confirms a signal."""

Outcome = Payload | Failure


def answer(ask_id: str, at: int, outcome: Outcome, place: object) -> SendMessage:
    """Return the answer to an ask. `place` tells it from another one to the same ask."""
    asker, seq = read_ask(ask_id)
    message: Event
    if isinstance(outcome, Failure):
        message = events.AskFailed(at, seq, outcome, ask_id)
    else:
        message = events.AskAnswered(at, seq, outcome, ask_id)
    return SendMessage(asker, message, f"{ask_id}/answer/{place}")


def nobody(ask_id: str, target: str, at: int, place: object = "nobody") -> SendMessage:
    """Return the answer to an ask of an execution that does not exist."""
    why = f"there is no execution {target!r} to ask: it was never started, or it was deleted"
    return answer(ask_id, at, failure_of(ExecutionNotFound(why)), place)


def outcome_of(end: Event, execution_id: str) -> Outcome:
    """Return what an execution has come to, by the event that it has closed with."""
    if isinstance(end, events.ExecutionCompleted):
        return end.result
    if isinstance(end, events.ExecutionFailed):
        return end.failure
    because = f": {reason}" if (reason := getattr(end, "reason", "")) else ""
    if isinstance(end, events.ExecutionTerminated):
        return failure_of(
            ExecutionTerminated(f"execution {execution_id!r} was terminated{because}")
        )
    return failure_of(ExecutionCancelled(f"execution {execution_id!r} was cancelled{because}"))


def answers_at_end(execution_id: str, state: ExecutionState, end: Event) -> Iterable[SendMessage]:
    """Return what those are told who wait for an execution that closes."""
    for ask_id, kind in state.askers.items():
        if kind == "result":
            yield answer(ask_id, state.now, outcome_of(end, execution_id), state.length)
        elif not state.updates[ask_id]:
            yield answer(ask_id, state.now, _closed(execution_id, end), state.length)


def answer_of_closed(
    execution_id: str,
    state: ExecutionState,
    end: Event,
    asked: events.Asked,
    history: Sequence[Event] = (),
) -> SendMessage:
    """Return the answer of an execution that has closed, to anything but a query. What it has answered
    before it answers once more.
    """
    outcome: Outcome = _closed(execution_id, end)
    if asked.kind == "result":
        outcome = outcome_of(end, execution_id)
    elif asked.kind == "signal" and asked.id in state.signal_ids:
        outcome = NOTHING
    elif asked.kind == "update":
        outcome = given_before(state, asked.id, history) or outcome
    return answer(asked.id, max(asked.at, state.now), outcome, f"{state.length}/{asked.at}")


def given_before(
    state: ExecutionState, update_id: str, history: Sequence[Event] = ()
) -> Outcome | None:
    """Return what an update was answered with, as far as that is known; None if it was not answered."""
    for event in history:
        if isinstance(event, events.UpdateCompleted) and event.id == update_id:
            return event.result
        if isinstance(event, events.UpdateFailed) and event.id == update_id:
            return event.failure
    if not state.updates.get(update_id):
        return None
    about = state.answers.get(update_id, {})
    if "result" in about:
        return Payload(tree=about["result"])
    if "failure" in about:
        return Failure.from_plain(about["failure"])
    why = "it was handled, and the answer is too long, or too old, to be told once more"
    return failure_of(ExecutionClosed(why))


def _closed(execution_id: str, end: Event) -> Failure:
    status = type(end).__name__.removeprefix("Execution").lower()
    return failure_of(ExecutionClosed(f"execution {execution_id!r} has closed before ({status})"))
