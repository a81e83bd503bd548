"""PendingUpdates: who waits for the answer to an update, and the answers that a history holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mini_workflow.core import events, wire
from mini_workflow.core.continuation import Answered, inherited_answer
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.engine.requests import Answer, Reply, Update

ANSWERS: Final[frozenset[type[Event]]] = frozenset(Answered.__args__)
"""The kinds of events that answer an update."""


class PendingUpdates:
    """Replies by execution and update id. They are given when the answer is committed."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], list[Reply[Answer]]] = {}

    def __bool__(self) -> bool:
        """Return whether anybody waits."""
        return bool(self._waiting)

    def add(self, request: Update) -> None:
        """Have the request answered when its update is done."""
        key = (request.execution_id, request.update_id)
        self._waiting.setdefault(key, []).append(request.reply)

    def settle(self, execution_id: str, taken: Iterable[Event]) -> bool:
        """Give the answers that are among these events; whether somebody here waits for each."""
        known = True
        for event in taken:
            if isinstance(event, Answered):
                replies = self._waiting.pop((execution_id, event.id), ())
                known = known and bool(replies)
                for reply in replies:
                    reply.give(Answer(event))
        return known

    def refuse(self, execution_id: str, refusals: Iterable[tuple[str, Failure]]) -> None:
        """Tell those whose update a validator has refused."""
        for update_id, failure in refusals:
            for reply in self._waiting.pop((execution_id, update_id), ()):
                reply.give(Answer(refusal=failure))

    def fail(self, execution_id: str, error: Exception) -> None:
        """Fail what waits for an execution that has ended, or cannot go on, without having
        answered.
        """
        for key in [key for key in self._waiting if key[0] == execution_id]:
            for reply in self._waiting.pop(key):
                reply.fail(error)

    def refer_to_history(self) -> None:
        """Another process may record the answers: have all who wait look for them there."""
        waiting, self._waiting = self._waiting, {}
        for replies in waiting.values():
            for reply in replies:
                reply.give(Answer())

    def fail_all(self, error: Exception) -> None:
        """Nobody will answer."""
        for replies in self._waiting.values():
            for reply in replies:
                reply.fail(error)
        self._waiting.clear()


def find_answer(lines: Sequence[str], update_id: str, asked: int) -> Answered | None:
    """Return the answer in a history to an update that was asked for at the time `asked`
    (milliseconds since the epoch), or None.

    A refusal from before that time was the answer to somebody else, or to an earlier question.
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
            return None
    first = wire.decode(lines[0]) if lines else None
    if isinstance(first, events.ExecutionStarted):
        return inherited_answer(first, update_id, asked)
    return None
