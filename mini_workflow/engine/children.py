"""Start children in the commit of their parents, and refuse starts that cannot take place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from mini_workflow.core import events, wire
from mini_workflow.core.children import is_child
from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import StartChild
from mini_workflow.core.events import ExecutionStarted, Message
from mini_workflow.core.limit import LIMIT
from mini_workflow.core.records import replace
from mini_workflow.core.run import Definition
from mini_workflow.engine.asking import asked_of_nobody, for_nobody
from mini_workflow.engine.batch import Batch
from mini_workflow.engine.outbox import not_started
from mini_workflow.engine.runs import blocked, first_event
from mini_workflow.engine.turn import Turns
from mini_workflow.engine.turn_data import Delivery, Turn
from mini_workflow.engine.undelivered import warn_of_unreceived
from mini_workflow.errors import (
    ExecutionAlreadyExists,
    InvalidArguments,
    StoreError,
    UnknownWorkflow,
)
from mini_workflow.ports import Commit, Found, Head, Store
from mini_workflow.ports.queue import Dispatch, ExecutionMeta, FencedStore

log = logging.getLogger("mini_workflow.engine")


class Children:
    """Adds the first turns of children to the batch of their parents: one commit has both, so that no crash
    separates a parent's decision from its child.
    """

    def __init__(
        self, store: Store, codec: Codec, turns: Turns, entropy: Callable[[], int]
    ) -> None:
        self._store = store
        self._codec = codec
        self._turns = turns
        self._entropy = entropy

    def see_to_others(self, batch: Batch, now: int) -> None:
        """Start the children that the batch's turns ask for, and answer their asks of executions that do not
        exist. Raises StoreError.
        """
        self._start_children(batch, now)
        for turn in batch.turns.values():
            if turn.commit.outbox and (told := asked_of_nobody(turn, partial(self._find, batch))):
                turn.commit = replace(turn.commit, outbox=(*turn.commit.outbox, *told))

    def _find(self, batch: Batch, execution_id: str) -> Head | None:
        turn = batch.turns.get(execution_id)
        if turn is not None:
            return None if turn.deletes else turn.head
        return self._store.head(execution_id)

    def _start_children(self, batch: Batch, now: int) -> None:
        """Start the children that the batch's turns ask for, and the children of these. A parent whose child
        cannot be started gets a message about that in the same commit.
        """
        parents = list(batch.turns)
        while wanted := [each for parent in parents for each in _children_of(parent, batch)]:
            # One look at the store for all of a generation.
            found = self._store.lookup([command.execution_id for _, command in wanted])
            parents = list[str]()
            for parent, command in wanted:
                turn = batch.turns[parent]
                error = self._start(parent, command, found[command.execution_id], batch, now)
                if error is None:
                    parents.append(command.execution_id)
                    turn.children = turn.children or []
                    turn.children.append(command.execution_id)
                    continue
                about = command.parent(parent)
                if about is None:
                    if command.workflow != LIMIT:  # each run that needs a limit starts it
                        log.warning("[%s] could not start an execution: %s", parent, error)
                    continue
                failure = self._codec.encode_failure(error)
                entry = not_started(about, command.execution_id, now, failure)
                turn.commit = replace(turn.commit, outbox=(*turn.commit.outbox, entry))

    def _start(
        self, parent: str, command: StartChild, found: Found, batch: Batch, now: int
    ) -> Exception | None:
        name = command.execution_id
        if name in batch.turns or found.head is not None:
            return ExecutionAlreadyExists(
                f"execution {name!r} exists already; give the child another id", execution_id=name
            )
        about = command.parent(parent)
        started = first_event(
            *(command.workflow, command.arguments, now, self._entropy(), about, command.worker),
            timing=command.timing,
            tags=command.tags,
            headers=command.headers,
            first_seq=found.deleted_events,
        )
        try:
            turn = self._turns.create(name, started, None)
        except StoreError:
            raise
        except Exception as error:
            if not command.detached:
                return error
            # No parent waits for an error: the execution begins blocked, and goes on once that is fixed.
            turn = _blocked_turn(name, started, error)
        decision = turn.decision
        fault = None if decision is None else decision.fault
        if isinstance(fault, InvalidArguments) and not command.detached:
            # The parent has called it with wrong arguments: the child does not begin.
            if turn.live is not None:
                self._turns.close(turn.live.run)
            return fault
        batch.turns[name] = turn
        return None


def _children_of(parent: str, batch: Batch) -> list[tuple[str, StartChild]]:
    """Return the starts of children in a turn, with its execution."""
    turn = batch.turns[parent]
    if turn.decision is None or StartChild not in turn.commands:
        return []
    return [(parent, one) for one in turn.decision.commands if isinstance(one, StartChild)]


def _blocked_turn(name: str, started: ExecutionStarted, reason: BaseException) -> Turn:
    """Return a turn that makes an execution whose code cannot begin yet."""
    head = blocked(Head(name, started.workflow, "running", started.at), reason)
    commit = Commit(name, 0, (wire.encode(started),), head)
    return Turn(Delivery(name, [started]), commit, head, None)


class StartCheck:
    """Checks starts that arrive as messages, and tells parents of children that cannot begin. Any thread."""

    def __init__(
        self, dispatch: Dispatch, codec: Codec, definitions: Callable[[str], Definition]
    ) -> None:
        self._dispatch = dispatch
        self._codec = codec
        self._definitions = definitions

    def knows(self, name: str, started: events.ExecutionStarted) -> bool:
        """Return whether the workflow is registered and, for a child, takes the arguments.

        A child that cannot begin is not started, and its parent is told. An execution that a client has
        started stays, and waits for its code.
        """
        try:
            definition = self._definitions(started.workflow)
            if is_child(started):
                codec = self._codec.for_execution(name)
                definition.check_arguments(*codec.decode(started.arguments))
        except (UnknownWorkflow, InvalidArguments) as error:
            if is_child(started):
                self._tell_parent(name, started, error)
            return False
        return True

    def check(self, name: str, started: events.ExecutionStarted, meta: ExecutionMeta) -> None:
        """Tell a parent whose child cannot be started because the id is taken."""
        if started.parent is not None and started.parent != meta.parent:
            error = ExecutionAlreadyExists(
                f"execution {name!r} exists already; give the child another id",
                execution_id=name,
            )
            self._tell_parent(name, started, error)

    def turn_away(self, name: str, messages: list[Message]) -> None:
        """Warn of messages to an execution that does not exist, and answer the asks among them."""
        warn_of_unreceived(name, messages, None)
        if told := for_nobody(name, messages):
            self._dispatch.post(told)

    def _tell_parent(self, name: str, started: events.ExecutionStarted, error: Exception) -> None:
        """Tell a parent that its child cannot be started."""
        assert started.parent is not None
        failure = self._codec.encode_failure(error)
        self._dispatch.post((not_started(started.parent, name, started.at, failure),))


def number_behind_deleted(store: FencedStore, name: str, messages: list[Message], now: int) -> None:
    """Finish the deletion of the execution that had the id, if a message asks for it, and have a new
    execution number its operations behind those of the deleted one. Raises StoreError.
    """
    if any(isinstance(message, events.DeletionRequested) for message in messages):
        store.delete(name, now)
        store.meta(name)
    before = store.deleted_events(name)
    for index, message in enumerate(messages):
        if isinstance(message, events.ExecutionStarted) and message.first_seq < before:
            messages[index] = replace(message, first_seq=before)
