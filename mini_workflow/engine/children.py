"""Children: has children begin in the commit of their parents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import StartChild
from mini_workflow.core.events import ExecutionStarted
from mini_workflow.core.payload import Payload
from mini_workflow.engine.batch import Batch
from mini_workflow.engine.outbox import not_started
from mini_workflow.engine.turn import Turns
from mini_workflow.errors import ExecutionAlreadyExists, InvalidArguments, StoreError
from mini_workflow.ports import Store

FirstEvent = Callable[
    [str, Payload, int, "dict[str, Any] | None", "dict[str, str] | None"], ExecutionStarted
]
"""Makes the first event of an execution: (workflow, arguments, now, parent, tags) -> event."""


class Children:
    """Adds the first turns of children to the batch that starts them, so that no crash can come
    between a parent's decision and its child.
    """

    def __init__(self, store: Store, codec: Codec, turns: Turns, first_event: FirstEvent) -> None:
        self._store = store
        self._codec = codec
        self._turns = turns
        self._first_event = first_event

    def start_children(self, batch: Batch, now: int) -> None:
        """Start the children that the batch's turns ask for, and theirs. A parent whose child
        cannot be started is told so by a message in the same commit.
        """
        parents = list(batch.turns)
        for parent in parents:
            turn = batch.turns[parent]
            for command in turn.decision.commands if turn.decision is not None else ():
                if not isinstance(command, StartChild):
                    continue
                error = self._start(parent, command, batch, now)
                if error is None:
                    parents.append(command.execution_id)
                    turn.children.append(command.execution_id)
                    continue
                entry = not_started(parent, command.seq, now, self._codec.encode_failure(error))
                turn.commit = replace(turn.commit, outbox=(*turn.commit.outbox, entry))

    def _start(self, parent: str, command: StartChild, batch: Batch, now: int) -> Exception | None:
        name = command.execution_id
        if name in batch.turns or self._store.head(name) is not None:
            return ExecutionAlreadyExists(
                f"execution {name!r} exists already; give the child another id", execution_id=name
            )
        about = {"id": parent, "seq": command.seq}
        started = self._first_event(command.workflow, command.arguments, now, about, command.tags)
        try:
            turn = self._turns.create(name, started, None)
        except StoreError:
            raise
        except Exception as error:
            return error
        decision = turn.decision
        if decision is not None and isinstance(decision.fault, InvalidArguments):
            # Nothing is there yet that could be blocked: the parent has called it wrongly.
            if turn.live is not None:
                self._turns.close(turn.live.run)
            return decision.fault
        batch.turns[name] = turn
        return None
