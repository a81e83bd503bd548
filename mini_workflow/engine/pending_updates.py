"""Keep the callers that wait for the answer to an update, and find answers in a history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from mini_workflow.core import events, wire
from mini_workflow.core.continuation import Answered, inherited_answer
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.engine.requests import Answer, Update, UpdateStage

if TYPE_CHECKING:
    from mini_workflow.core.decide import Decision

ANSWERS: Final[frozenset[type[Event]]] = frozenset({*Answered.__args__, events.UpdateAccepted})
"""The kinds of events that answer callers who wait for an update."""


class PendingUpdates:
    """Requests by execution and update id. Each is answered when the event that it waits for is committed."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], list[Update]] = {}

    def __bool__(self) -> bool:
        """Return whether anybody waits."""
        return bool(self._waiting)

    def add(self, request: Update) -> None:
        """Have the request answered when its update is done, or accepted if it waits for that."""
        key = (request.execution_id, request.update_id)
        self._waiting.setdefault(key, []).append(request)

    def answer(self, execution_id: str, decision: Decision) -> bool:
        """Answer the updates that a decision has refused or answered. Returns whether callers here have asked
        for all of them.
        """
        if decision.refusals:
            self.refuse(execution_id, decision.refusals)
        return self.settle(execution_id, decision.events)

    def settle(self, execution_id: str, taken: Iterable[Event]) -> bool:
        """Give the answers among these events. Returns whether a caller here waits for each of them."""
        known = True
        for event in taken:
            if isinstance(event, Answered):
                requests = self._waiting.pop((execution_id, event.id), ())
                known = known and bool(requests)
                for request in requests:
                    request.reply.give(Answer(event))
            elif isinstance(event, events.UpdateAccepted):
                known = self._accepted((execution_id, event.id), event) and known
        return known

    def _accepted(self, key: tuple[str, str], event: events.UpdateAccepted) -> bool:
        requests = self._waiting.pop(key, [])
        for request in requests:
            if request.until == "accepted":
                request.reply.give(Answer(event))
        if waiting := [request for request in requests if request.until == "answered"]:
            self._waiting[key] = waiting
        return bool(requests)

    def refuse(self, execution_id: str, refusals: Iterable[tuple[str, Failure]]) -> None:
        """Answer callers whose update a validator has refused."""
        for update_id, failure in refusals:
            for request in self._waiting.pop((execution_id, update_id), ()):
                request.reply.give(Answer(refusal=failure))

    def fail(self, execution_id: str, error: Exception) -> None:
        """Fail the requests to an execution that has ended, or cannot go on, and has not answered them."""
        for key in [key for key in self._waiting if key[0] == execution_id]:
            for request in self._waiting.pop(key):
                request.reply.fail(error)

    def refer_to_history(self) -> None:
        """Have all callers look for answers in the history, where another process may record them."""
        waiting, self._waiting = self._waiting, {}
        for requests in waiting.values():
            for request in requests:
                request.reply.give(Answer())

    def fail_all(self, error: Exception) -> None:
        """Fail all requests: no answer will come."""
        for requests in self._waiting.values():
            for request in requests:
                request.reply.fail(error)
        self._waiting.clear()


def find_answer(
    lines: Sequence[str], update_id: str, asked: int, until: UpdateStage = "answered"
) -> Answered | events.UpdateAccepted | None:
    """Return the answer in the lines of a history to an update that was asked for at the time `asked`
    (milliseconds since the epoch), or None. With `until` "accepted", the event of its acceptance will do.

    A refusal from before that time was the answer to an earlier request of the same id.
    """
    for line in reversed(lines):
        if not wire.kind_of(line).startswith("Update"):
            continue
        event = wire.decode(line)
        if isinstance(event, events.UpdateRefused):
            if event.id == update_id and event.at >= asked:
                return event
        elif isinstance(event, Answered) and event.id == update_id:
            return event
        elif isinstance(event, events.UpdateAccepted) and event.id == update_id:
            return event if until == "accepted" else None
    first = wire.decode(lines[0]) if lines else None
    if isinstance(first, events.ExecutionStarted):
        return inherited_answer(first, update_id, asked)
    return None
