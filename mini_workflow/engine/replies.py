"""Reply to requests, by the same rules on all runtimes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mini_workflow.core import events, wire
from mini_workflow.core.continuation import Answered
from mini_workflow.core.records import replace
from mini_workflow.engine.deletion import deletion_refusal
from mini_workflow.engine.pending_updates import PendingUpdates, find_answer
from mini_workflow.engine.requests import Answer, Post, Resume, Start, Started, Update
from mini_workflow.engine.transport import ReadableStore
from mini_workflow.engine.turn_data import ABOUT_PROMISES, Delivery, Turn
from mini_workflow.errors import (
    ExecutionAlreadyExists,
    ExecutionBlocked,
    ExecutionClosed,
    ExecutionNotClosed,
    ExecutionNotFound,
    MiniWorkflowError,
    PromiseNotOpen,
    WireError,
)
from mini_workflow.ports import Head, Store

if TYPE_CHECKING:
    from mini_workflow.core.decide import Given

T = TypeVar("T")


def start_refusal(
    request: Start, head: Head, fingerprint: Callable[[], str], *, reached: bool = False
) -> MiniWorkflowError | None:
    """Return the error by which a start is refused that has found an execution of its id, or None.

    `fingerprint` returns that of the arguments with which the execution was started. `reached` says that
    the execution took the message of the start before its end.
    """
    name = request.execution_id
    if request.fork is not None:
        return ExecutionAlreadyExists(
            f"execution {name!r} exists; choose another id for the fork", execution_id=name
        )
    if head.workflow != request.workflow:
        return ExecutionAlreadyExists(
            f"execution {name!r} exists and is one of workflow {head.workflow!r}, not "
            f"{request.workflow!r}; choose another id",
            execution_id=name,
        )
    if head.closed_at is not None and request.if_closed != "return":
        return None if request.if_closed == "restart" else _rejected(request, head)
    if request.message is not None:
        return closed(name, head.status) if head.closed_at is not None and not reached else None
    if not request.matches(fingerprint()):
        return ExecutionAlreadyExists(
            f"execution {name!r} exists and was started with other arguments; choose another id",
            execution_id=name,
        )
    return None


def _rejected(request: Start, head: Head) -> ExecutionAlreadyExists:
    name = request.execution_id
    return ExecutionAlreadyExists(
        f"execution {name!r} exists and has closed ({head.status}): choose another id, or start it with "
        'if_closed="restart"',
        execution_id=name,
    )


def restart_of(request: Start, head: Head, now: int) -> events.ResetRequested | None:
    """Return the request by which a closed execution begins anew, if the start asks for that, and note it in
    `request.restarts`; else None.
    """
    wanted = request.if_closed == "restart" and head.workflow == request.workflow
    if not wanted or head.closed_at is None:
        return None
    request.restarts = True
    name = f"restart/{head.run}"
    return events.ResetRequested(now, "restart", head.run, name, request.arguments)


def reset_refusal(request: events.ResetRequested, head: Head) -> MiniWorkflowError | None:
    """Return the error by which another run of an execution is refused now, or None. An execution that
    another caller has run again meanwhile is no error.
    """
    name = head.execution_id
    if request.run not in (0, head.run):
        return None
    if head.closed_at is None:
        return ExecutionNotClosed(
            f"execution {name!r} is {head.status} and can be run again once it has closed: wait for its "
            "end, or call terminate()",
            execution_id=name,
        )
    if request.how == "retry" and head.status == "completed":
        return ExecutionClosed(
            f"execution {name!r} has completed, and nothing is left to retry; call restart() to begin it "
            "anew",
            execution_id=name,
        )
    return None


def still_takes(head: Head | None, request: Post) -> Head:
    """Return the head of an execution that can take a message, now or once the next run has begun that the
    sender has asked for. Raises ExecutionNotFound, ExecutionClosed or ExecutionNotClosed.
    """
    name, message = request.execution_id, request.message
    if isinstance(message, events.DeletionRequested):
        head = existing(name, head)
        if (refusal := deletion_refusal(message, head)) is not None:
            raise refusal
        return head
    if not isinstance(message, events.ResetRequested):
        if head is not None and head.run <= request.over:
            return head
        return still_open(name, head)
    head = existing(name, head)
    if (refusal := reset_refusal(message, head)) is not None:
        raise refusal
    return head


def answer_start(request: Start, turn: Turn | None, store: ReadableStore) -> None:
    """Answer with the execution: the new one, or the one that the same request made before."""
    name = request.execution_id
    if turn is not None and turn.start is request:
        request.reply.give(Started(turn.head, turn.closing))
        return
    head = store.head(name)
    if head is None:
        request.reply.fail(
            ExecutionNotFound(
                f"execution {name!r} was deleted while it was started again: try again",
                execution_id=name,
            )
        )
        return
    reached = turn is not None and turn.closing is not None
    try:
        error = start_refusal(
            request, head, lambda: started_with(store.history(name)[0]), reached=reached
        )
    except (WireError, IndexError) as damage:
        request.reply.fail(damage)
        return
    if error is None:
        request.reply.give(Started(head))
    else:
        request.reply.fail(error)


def started_with(line: str) -> str:
    """Return the fingerprint of the arguments of the first run, from the first line of any run. Raises
    WireError.
    """
    first = wire.decode(line)
    if not isinstance(first, events.ExecutionStarted):
        raise WireError(f"a history begins with {line[:100]!r}, which is not its start")
    return first.origin or first.arguments.fingerprint()


def answer_head(
    request: Post | Resume, delivery: Delivery, turn: Turn | None, store: Store
) -> None:
    """Answer with the execution's head, or say why the request had no effect."""
    name = request.execution_id
    # A forwarded message may have closed the execution by now.
    head = turn.head if turn is not None else delivery.forwarded or store.head(name)
    if head is None:
        request.reply.fail(not_found(name))
    elif isinstance(request, Post) and isinstance(request.message, events.DeletionRequested):
        refusal = deletion_refusal(request.message, head)
        if refusal is None:
            request.reply.give(head)
        else:
            request.reply.fail(refusal)
    elif isinstance(request, Post) and isinstance(request.message, events.ResetRequested):
        refusal = None if turn is None else reset_refusal(request.message, head)
        if refusal is None:
            request.reply.give(head)
        else:
            request.reply.fail(refusal)
    elif head.closed_at is not None and (
        turn is None or turn.closing is None or _came_too_late(request, turn)
    ):
        request.reply.fail(closed(name, head.status))
    elif (
        isinstance(request, Post)
        and isinstance(request.message, ABOUT_PROMISES)
        and _is_not_open(request.message, name, delivery, turn, store)
    ):
        request.reply.fail(not_open())
    else:
        request.reply.give(head)


def _is_not_open(
    message: Given | events.PromiseHeartbeat,
    name: str,
    delivery: Delivery,
    turn: Turn | None,
    store: Store,
) -> bool:
    """Return whether the promise was not open any more when the message came.

    If no code has taken the message, since another process holds the execution or it is blocked, the history
    and the parked messages decide. Two messages that are on their way to another process at the same time
    both count as in time.
    """
    decision = None if turn is None else turn.decision
    if decision is not None and not any(left is message for left in decision.left):
        return any(ignored is message for ignored in decision.ignored)
    if turn is None and delivery.refused:
        return any(refused is message for refused in delivery.refused)
    stored = store.load(name)
    if stored is None:
        return False
    from mini_workflow.core.decide import Given
    from mini_workflow.core.duplicates import admit
    from mini_workflow.core.state import ExecutionState

    try:
        state = ExecutionState.of([wire.decode(line) for line in stored.events])
        kept = [wire.decode(line) for line in stored.parked]
    except WireError:
        return False
    if admit(state, message) is None:
        # Another process may have taken this very message meanwhile.
        return _recorded(message) not in stored.events
    rivals = [m for m in kept if isinstance(m, Given) and admit(state, m) and m.seq == message.seq]
    return rivals[:1] not in ([], [message])


def _recorded(message: Given | events.PromiseHeartbeat) -> str:
    return wire.encode(replace(message, secret=""))


def _came_too_late(request: Post | Resume, turn: Turn) -> bool:
    """Return whether the execution came to its own end in the turn that was to terminate it."""
    return (
        isinstance(request, Post)
        and isinstance(request.message, events.ExecutionTerminated)
        and not isinstance(turn.closing, events.ExecutionTerminated)
    )


def answer_update(
    request: Update, turn: Turn | None, store: Store, updates: PendingUpdates
) -> None:
    """Answer an update that has its answer or was refused; have any other answered later."""
    name, update_id = request.execution_id, request.update_id
    decision = turn.decision if turn is not None else None
    if decision is not None:
        for event in decision.events:
            if not isinstance(event, Answered | events.UpdateAccepted) or event.id != update_id:
                continue
            if request.until == "accepted" or isinstance(event, Answered):
                request.reply.give(Answer(event))
                return
        for refused, failure in decision.refusals:
            if refused == update_id:
                request.reply.give(Answer(refusal=failure))
                return
    head = turn.head if turn is not None else store.head(name)
    if head is None:
        request.reply.fail(not_found(name))
        return
    new = decision is not None and any(
        isinstance(event, events.UpdateAccepted) and event.id == update_id
        for event in decision.events
    )
    before = None if new else find_answer(store.history(name), update_id, request.at, request.until)
    if before is not None:
        request.reply.give(Answer(before))
    elif head.closed_at is not None:
        request.reply.fail(closed(name, head.status))
    elif head.status == "blocked":
        request.reply.fail(blocked(head))
    elif turn is None:
        request.reply.give(Answer())
    else:
        updates.add(request)


def existing(name: str, found: T | None) -> T:
    """Return `found`, which was read of an execution. Raises ExecutionNotFound if it is None."""
    if found is None:
        raise not_found(name)
    return found


def still_open(name: str, head: Head | None) -> Head:
    """Return the head of an open execution. Raises ExecutionNotFound or ExecutionClosed."""
    head = existing(name, head)
    if head.closed_at is not None:
        raise closed(name, head.status)
    return head


def not_open() -> PromiseNotOpen:
    """Return the error about a promise that is not open."""
    return PromiseNotOpen(
        "the promise was completed, failed or given up before, or the token is wrong; nothing was "
        "changed"
    )


def not_found(name: str) -> ExecutionNotFound:
    """Return the error about an execution that does not exist."""
    return ExecutionNotFound(
        f"there is no execution {name!r} in this store; list_executions() shows all",
        execution_id=name,
    )


def blocked(head: Head) -> ExecutionBlocked:
    """Return the error about an update of an execution that cannot go on now."""
    name = head.execution_id
    reason = (head.blocked_reason or "").rstrip(": ")
    return ExecutionBlocked(
        f"execution {name!r} is blocked: {reason}. The update is kept. Call resume() to have it handled, "
        "and ask again with the same id for the answer",
        execution_id=name,
    )


def closed(name: str, status: str) -> ExecutionClosed:
    """Return the error about an execution that has closed."""
    return ExecutionClosed(f"execution {name!r} has closed before ({status})", execution_id=name)
