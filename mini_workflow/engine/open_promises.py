"""OpenPromise: what is known from outside of a promise that waits to be completed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.promises import make_token
from mini_workflow.core.state import ExecutionState


@dataclass(frozen=True, slots=True)
class OpenPromise:
    """A promise of an execution. `number` is that of its operation, `name` is empty if it has none, and
    `token` completes it: whoever has it may do so.
    """

    number: int
    name: str
    token: str = field(repr=False)


def open_promises_of(execution_id: str, history: Iterable[Event]) -> list[OpenPromise]:
    """Return the promises that are open at the end of a history, in order."""
    made = list(history)
    state = ExecutionState.of(made)
    if state.closed:
        return []
    return [
        OpenPromise(e.seq, e.name, make_token(execution_id, e.seq, state.secret(e.seq)))
        for e in made
        if isinstance(e, events.PromiseCreated) and e.seq in state.promises
    ]
