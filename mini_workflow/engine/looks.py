"""Read histories to describe executions, each time no more than the new events."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final

from mini_workflow.core import wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import CLOSING, Event, ExecutionStarted
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import replace
from mini_workflow.engine.activity import Activity, Look, Wait
from mini_workflow.engine.description import told_by
from mini_workflow.engine.followed_runs import FollowedRuns
from mini_workflow.engine.instants import instant
from mini_workflow.engine.transport import CheckedStore
from mini_workflow.errors import SerializationError, StoreCorrupt
from mini_workflow.ports import Head
from mini_workflow.ports.heartbeats import Heartbeat, HeartbeatStore

REMEMBERED: Final = 50
"""The number of executions, described last, whose open operations are remembered. Our own bound."""

LAST: Final = 20
"""Events at the end of a history among which the end of an execution is looked for first: others than late
outcomes and signals never follow it."""

HEARTBEATS: Final = 100
"""Tasks in flight whose last heartbeats are read to describe an execution. Our own bound."""


class Looks:
    """Looks at executions in a store, and at the last heartbeats of their tasks. Any thread."""

    def __init__(self, store: CheckedStore, heartbeats: HeartbeatStore) -> None:
        self._store: Final = store
        self._heartbeats: Final = heartbeats
        self._known: Final = FollowedRuns[Look](store.history, REMEMBERED)

    def started(self, execution_id: str) -> ExecutionStarted | None:
        """Return what the current run of an execution has begun with; None if it has gone."""
        lines = self._store.ends(execution_id, 0)
        found = wire.decode(lines[0]) if lines else None
        return found if isinstance(found, ExecutionStarted) else None

    def closing(self, execution_id: str) -> Event:
        """Return what has ended an execution, which has closed. Raises StoreCorrupt if nothing has."""
        last = LAST
        while True:
            lines = self._store.ends(execution_id, last)
            for line in reversed(lines[1:]):
                if wire.kind_of(line).startswith("Execution"):
                    event = wire.decode(line)
                    if type(event) in CLOSING:
                        return event
            if len(lines) <= last:
                raise StoreCorrupt(f"execution {execution_id!r} has closed without a closing event")
            last *= 10

    def activity(self, head: Head, codec: Codec) -> Activity:
        """Return what an execution does now. Raises WireError if its history cannot be read."""
        activity = Activity.of(head, lambda: self._look(head, codec))
        return self.with_heartbeats(head, activity, codec)

    def with_heartbeats(self, head: Head, activity: Activity, codec: Codec) -> Activity:
        """Return an activity with the last heartbeats of the tasks that are at work."""
        return replace(activity, waits=tuple(self._beating(head, activity.waits, codec)))

    def heartbeats(self, execution_id: str, attempts: dict[int, int]) -> dict[int, Heartbeat]:
        """Return the last heartbeats of attempts that are given by the numbers of their tasks, by these."""
        if not attempts:
            return {}
        found = self._heartbeats.last(execution_id, list(attempts)[:HEARTBEATS])
        return {beat.seq: beat for beat in found if beat.attempt == attempts[beat.seq]}

    @contextmanager
    def _look(self, head: Head, codec: Codec) -> Generator[Look]:
        """Have what is open, by what was known before and the events since."""
        with self._known.at(head.execution_id, lambda: Look(told=told_by(codec))) as run:
            run.read_on(head)
            yield run.made

    def _beating(self, head: Head, waits: Iterable[Wait], codec: Codec) -> Iterable[Wait]:
        waits = tuple(waits)
        attempts = {w.number: w.attempt + w.discounted for w in waits if w.kind == "task"}
        attempts.pop(0, None)
        beats = self.heartbeats(head.execution_id, attempts)
        for wait in waits:
            beat = beats.get(wait.number)
            if beat is None or wait.kind != "task":
                yield wait
            else:
                details = details_of(beat, codec)
                yield replace(wait, heartbeat=instant(beat.at), details=details)


def details_of(beat: Heartbeat, codec: Codec) -> object:
    """Return the details of a heartbeat as people read them; nothing of the store's code runs."""
    if beat.details is None:
        return None
    try:
        return codec.show(Payload(text=beat.details))
    except SerializationError:
        return beat.details
