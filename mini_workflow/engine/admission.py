"""Admission: which starts take place, and what parents are told of the others."""

from __future__ import annotations

from collections.abc import Callable

from mini_workflow.core import events
from mini_workflow.core.children import is_child
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Message
from mini_workflow.core.records import replace
from mini_workflow.core.run import Definition
from mini_workflow.engine.asking import for_nobody
from mini_workflow.engine.outbox import not_started
from mini_workflow.engine.undelivered import warn_of_unreceived
from mini_workflow.errors import ExecutionAlreadyExists, InvalidArguments, UnknownWorkflow
from mini_workflow.ports.queue import Dispatch, ExecutionMeta, FencedStore


class StartCheck:
    """Callable from any thread."""

    def __init__(
        self, dispatch: Dispatch, codec: Codec, definitions: Callable[[str], Definition]
    ) -> None:
        self._dispatch = dispatch
        self._codec = codec
        self._definitions = definitions

    def knows(self, name: str, started: events.ExecutionStarted) -> bool:
        """Return whether there is such a workflow, which for a child must take its arguments too:
        one that cannot begin is not started, as nothing of it exists yet. What somebody outside has
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

    def check(self, name: str, started: events.ExecutionStarted, standing: ExecutionMeta) -> None:
        """Tell a parent whose child cannot be started because the id is taken."""
        if started.parent is not None and started.parent != standing.parent:
            error = ExecutionAlreadyExists(
                f"execution {name!r} exists already; give the child another id",
                execution_id=name,
            )
            self._tell_parent(name, started, error)

    def turn_away(self, name: str, messages: list[Message]) -> None:
        """Warn of messages to an execution that is not there, and answer what it is asked."""
        warn_of_unreceived(name, messages, None)
        if told := for_nobody(name, messages):
            self._dispatch.post(told)

    def _tell_parent(self, name: str, started: events.ExecutionStarted, error: Exception) -> None:
        """Tell a parent that its child cannot be started."""
        assert started.parent is not None
        failure = self._codec.encode_failure(error)
        self._dispatch.post((not_started(started.parent, name, started.at, failure),))


def number_behind_deleted(store: FencedStore, name: str, messages: list[Message], now: int) -> None:
    """Finish the deletion of what had the id, if it is asked for, and have what begins now number its
    operations behind those of it.
    """
    if any(isinstance(message, events.DeletionRequested) for message in messages):
        store.delete(name, now)
        store.standing(name)
    before = store.deleted_events(name)
    for index, message in enumerate(messages):
        if isinstance(message, events.ExecutionStarted) and message.first_seq < before:
            messages[index] = replace(message, first_seq=before)
