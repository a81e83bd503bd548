"""Unreported: what an execution that is resumed was not told of its children."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from mini_workflow.core import events, wire
from mini_workflow.core.commands import Command, StartChild
from mini_workflow.core.events import Event
from mini_workflow.core.replay import tell_parent
from mini_workflow.core.run import Run
from mini_workflow.core.state import ExecutionState
from mini_workflow.errors import WireError
from mini_workflow.ports import Reader

log = logging.getLogger("mini_workflow.engine")


class Unreported:
    """Looks after the children of executions that are resumed. `refresh` is called before a child is
    looked at, where what the store answers may be out of date.
    """

    def __init__(self, store: Reader, refresh: Callable[[str], None]) -> None:
        self._store = store
        self._refresh = refresh

    def of_children(self, run: Run, now: int) -> list[Command]:
        """Messages to the parent about the ends of its children, behind what is under way to it, and
        the starts of those that are not there. Both are recognized if they come a second time.
        """
        ended: list[Command] = []
        absent: dict[int, str] = {}
        for seq, child in run.state.family().items():
            self._refresh(child.id)
            head = self._store.head(child.id)
            if head is None:
                absent[seq] = child.id
            elif head.closed_at is not None:
                ended += self._end_of(child.id, run.execution_id, seq, now)
        return [*ended, *self._starts_of(run.execution_id, absent)]

    def _end_of(self, child: str, parent: str, seq: int, now: int) -> list[Command]:
        stored = self._store.load(child)
        try:
            history = [] if stored is None else [wire.decode(line) for line in stored.events]
            state = ExecutionState.of(history)
        except WireError as error:
            log.error("[%s] the end of child %r cannot be read: %s", parent, child, error)
            return []
        first = history[0] if history else None
        end = next((event for event in reversed(history) if type(event) in events.CLOSING), None)
        if not isinstance(first, events.ExecutionStarted) or end is None:
            return []
        if first.parent != {"id": parent, "seq": seq}:
            return []  # it is somebody else's: the parent has been told so, or will be
        # By another key: what was sent under the first one is not to keep it back.
        return [
            replace(command, key=f"{command.key}/again/{now}")
            for command in tell_parent(child, first, state, end)
        ]

    def _starts_of(self, parent: str, absent: dict[int, str]) -> list[Command]:
        stored = self._store.load(parent) if absent else None
        history: list[Event] = [] if stored is None else [wire.decode(s) for s in stored.events]  # type: ignore[misc]
        return [
            StartChild(event.seq, event.id, event.name, event.arguments)
            for event in history
            if isinstance(event, events.ChildStarted) and absent.get(event.seq) == event.id
        ]
