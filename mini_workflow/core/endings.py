"""Collect, for the observers of commits, the operations of a run that have ended, with their begin.

A history has the begin and the end of an operation in two events, which may be months apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.records import record

if TYPE_CHECKING:
    from mini_workflow.core.recorder import Recorder
    from mini_workflow.core.state import ExecutionState

HowEnded = Literal["completed", "failed", "cancelled", "left"]


@record
class Ended:
    """An attempt of a task, or an update, that has ended. It began at `since` and ended at `at`
    (milliseconds since the epoch).

    For an attempt, `name`, `seq` and `worker` are those of the task, and `since` is the time at which it
    was due. For an update, `id` and `headers` are its own, and `since` is the time of its acceptance.
    `how` is "left" if the run ended first. After a `failure` with `again` another attempt follows.
    """

    kind: Literal["attempt", "update"]
    name: str
    how: HowEnded
    since: int
    at: int
    failure: Failure | None = None
    seq: int = 0
    attempt: int = 0
    worker: str = ""
    again: bool = False
    id: str = ""
    headers: dict[str, str] | None = None


class Endings:
    """The ended operations of one run. Events that a replay repeats add none."""

    __slots__ = ("_recorder", "_updates", "ended", "reset_at")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Final = recorder
        self._updates: Final[dict[str, events.UpdateAccepted]] = {}
        self.ended: list[Ended] = []
        self.reset_at: int | None = None
        """The time of its reset (milliseconds since the epoch), if the run begins with events of another."""

    def note(self, state: ExecutionState, event: Event) -> None:
        """Take an event into account. Called before the event is applied to the state."""
        note = self._NOTES.get(type(event))
        if note is not None:
            note(self, state, event)

    def take(self) -> list[Ended]:
        """Return the operations that have ended since the last call."""
        ended, self.ended = self.ended, []
        return ended

    def _add(self, *about: Any, **more: Any) -> None:
        if self._recorder.recorded is None:
            self.ended.append(Ended(*about, **more))

    def _attempt(
        self, state: ExecutionState, seq: int, how: HowEnded, at: int, **more: Any
    ) -> None:
        task = state.tasks.get(seq)
        if task is None or not task.in_flight:
            return
        about = {"seq": seq, "attempt": task.attempt, "worker": task.worker, **more}
        self._add("attempt", task.name, how, task.since, max(at, task.since), **about)

    def _completed(self, state: ExecutionState, event: events.TaskCompleted) -> None:
        self._attempt(state, event.seq, "completed", event.at)

    def _failed(self, state: ExecutionState, event: events.TaskFailed) -> None:
        self._attempt(state, event.seq, "failed", event.at, failure=event.failure)

    def _retried(self, state: ExecutionState, event: events.TaskRetryScheduled) -> None:
        self._attempt(state, event.seq, "failed", event.at, failure=event.failure, again=True)

    def _given_up(self, state: ExecutionState, event: events.TaskCancelled) -> None:
        self._attempt(state, event.seq, "cancelled", state.now)

    def _inline(
        self,
        state: ExecutionState,
        event: events.InlineTaskCompleted | events.InlineTaskFailed,
    ) -> None:
        failure = event.failure if isinstance(event, events.InlineTaskFailed) else None
        how = "completed" if failure is None else "failed"
        about = {"failure": failure, "seq": event.seq, "attempt": 1}
        self._add("attempt", event.name, how, state.now, state.now, **about)

    def _closed(
        self, state: ExecutionState, event: events.ExecutionTerminated | events.ContinuedAsNew
    ) -> None:
        for seq in state.tasks:
            self._attempt(state, seq, "left", max(getattr(event, "at", 0), state.now))

    def _accepted(self, state: ExecutionState, event: events.UpdateAccepted) -> None:
        self._updates[event.id] = event

    def _answered(
        self, state: ExecutionState, event: events.UpdateCompleted | events.UpdateFailed
    ) -> None:
        accepted = self._updates.pop(event.id, None)
        if accepted is not None:
            failure = event.failure if isinstance(event, events.UpdateFailed) else None
            how = "completed" if failure is None else "failed"
            about = {"failure": failure, "id": event.id, "headers": accepted.headers}
            self._add("update", accepted.name, how, accepted.at, state.now, **about)

    def _reset(self, state: ExecutionState, event: events.ExecutionReset) -> None:
        self.reset_at = event.at

    _NOTES: ClassVar[dict[type[Event], Callable[[Endings, ExecutionState, Any], None]]] = {
        events.TaskCompleted: _completed,
        events.TaskFailed: _failed,
        events.TaskRetryScheduled: _retried,
        events.TaskCancelled: _given_up,
        events.InlineTaskCompleted: _inline,
        events.InlineTaskFailed: _inline,
        events.ExecutionTerminated: _closed,
        events.ContinuedAsNew: _closed,
        events.UpdateAccepted: _accepted,
        events.UpdateCompleted: _answered,
        events.UpdateFailed: _answered,
        events.ExecutionReset: _reset,
    }
