"""What those who asked the engine are told, once their turn is committed or cannot be."""

from __future__ import annotations

from mini_workflow.core import events, wire
from mini_workflow.engine.requests import Post, Resume, Start, Started
from mini_workflow.engine.turn import Turn
from mini_workflow.errors import (
    ExecutionAlreadyExists,
    ExecutionClosed,
    ExecutionNotFound,
    WireError,
)
from mini_workflow.ports import Store


def answer_start(request: Start, turn: Turn | None, store: Store) -> None:
    """Answer with the execution: the new one, or the one that the same request made before."""
    name = request.execution_id
    if turn is not None and turn.start is request:
        request.reply.give(Started(turn.head, turn.closing))
        return
    head = store.head(name)
    if head is None:
        request.reply.fail(ExecutionNotFound(f"execution {name!r} is gone", execution_id=name))
        return
    if head.workflow != request.workflow:
        request.reply.fail(
            ExecutionAlreadyExists(
                f"execution {name!r} exists and is one of workflow {head.workflow!r}, not "
                f"{request.workflow!r}; choose another id",
                execution_id=name,
            )
        )
        return
    try:
        first = wire.decode(store.history(name)[0])
    except (WireError, IndexError) as error:
        request.reply.fail(error)
        return
    if isinstance(first, events.ExecutionStarted) and first.arguments != request.arguments:
        request.reply.fail(
            ExecutionAlreadyExists(
                f"execution {name!r} exists and was started with other arguments: "
                f"{first.arguments.text[:300]}; choose another id",
                execution_id=name,
            )
        )
        return
    request.reply.give(Started(head))


def answer_head(request: Post | Resume, turn: Turn | None, store: Store) -> None:
    """Answer with the execution's head, or say why the request came to nothing."""
    name = request.execution_id
    head = turn.head if turn is not None else store.head(name)
    if head is None:
        request.reply.fail(
            ExecutionNotFound(
                f"there is no execution {name!r} in this store; list_executions() shows all",
                execution_id=name,
            )
        )
    elif head.closed_at is not None and (
        turn is None or turn.closing is None or _came_too_late(request, turn)
    ):
        request.reply.fail(
            ExecutionClosed(
                f"execution {name!r} has closed before ({head.status})", execution_id=name
            )
        )
    else:
        request.reply.give(head)


def _came_too_late(request: Post | Resume, turn: Turn) -> bool:
    """Whether the execution came to its own end in the turn that was to terminate it."""
    return (
        isinstance(request, Post)
        and isinstance(request.message, events.ExecutionTerminated)
        and not isinstance(turn.closing, events.ExecutionTerminated)
    )
