"""Make the turn that begins a run with events of another one: of its own execution, or of a fork's source."""

from __future__ import annotations

from collections.abc import Sequence

from mini_workflow.core import events, wire
from mini_workflow.core.children import tell_parent
from mini_workflow.core.commands import SendMessage
from mini_workflow.core.events import Event
from mini_workflow.core.records import replace
from mini_workflow.core.state import ExecutionState
from mini_workflow.engine.outbox import outbox
from mini_workflow.engine.requests import Beginning, Start
from mini_workflow.engine.runs import reset_run
from mini_workflow.engine.turn_data import Delivery, Turn, lines_to_keep, unhandled
from mini_workflow.ports import Commit, Stored


def reset_turn(
    delivery: Delivery, stored: Stored, request: events.ResetRequested, entropy: int
) -> Turn:
    """Return the turn that begins another run of an execution that has closed. No code runs in it, so that
    the workflow need not be known here; the run goes on in a turn of its own. Raises WireError.
    """
    name, head = delivery.execution_id, stored.head
    history = [wire.decode(line) for line in stored.events]
    length = head.base + len(history)
    seen = request.run == 0 and any(
        isinstance(event, events.ExecutionReset) and event.id == request.id for event in history
    )
    if seen or (request.how == "retry" and head.status == "completed"):
        # A parent that waits for it has asked: it is told of the end once more.
        again = () if seen or request.run else _told_again(name, history, request.id)
        late = tuple(map(wire.encode, unhandled(delivery.messages)))
        entries = tuple(delivery.entries)
        commit = Commit(name, length, late, taken=entries, outbox=outbox(again))
        return Turn(delivery, commit, head, None)
    made, after, said = reset_run(name, history, request, head, length, entropy)
    messages = (*made.messages, *delivery.messages)
    commit = Commit(
        execution_id=name,
        expected=length,
        events=tuple(map(wire.encode, made.history)),
        head=after,
        park=lines_to_keep(messages, after),
        unpark=True,
        taken=tuple(delivery.entries),
        outbox=outbox(said),
        tries=0,
    )
    return Turn(delivery, commit, after, None, continues=True)


def _told_again(name: str, history: Sequence[Event], request_id: str) -> tuple[SendMessage, ...]:
    """Return the messages that tell the parent once more of the end of its child."""
    end = next((event for event in reversed(history) if type(event) in events.CLOSING), None)
    started = history[0]
    if end is None or not isinstance(started, events.ExecutionStarted):
        return ()
    messages = tell_parent(name, started, ExecutionState.of(history), end)
    return tuple(replace(command, key=f"{command.key}/{request_id}") for command in messages)


def fork_turn(request: Start, fork: Beginning) -> Turn:
    """Return the turn that creates a fork. No code runs in it: the fork goes on in a turn of its own."""
    delivery = Delivery(request.execution_id)
    turn = Turn(delivery, fork.to_commit(), fork.head, None, continues=True)
    turn.start = request
    return turn
