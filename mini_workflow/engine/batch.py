"""Gather the requests and deliveries that the engine commits in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mini_workflow.core import events
from mini_workflow.core.events import Message
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.engine.deletion import asks_to_delete
from mini_workflow.engine.pending_updates import PendingUpdates
from mini_workflow.engine.replies import answer_head, answer_start, answer_update, not_found
from mini_workflow.engine.requests import Ask, Input, Post, Release, Resume, Start, Update
from mini_workflow.engine.turn_data import Delivery, Turn
from mini_workflow.errors import MiniWorkflowError
from mini_workflow.ports import Found, Head, Store, TaskOutcome

AT_ONCE: Final = 500
"""The number of executions that get a turn without a message in one commit."""

MESSAGES: Final = 200
"""The number of messages that one turn of an execution takes: with handlers of 0.2 ms that is 40 ms, for
which the others wait. Our own bound."""

OUTCOMES: Final = 1_000
"""The number of messages that a turn may have if the next one is the outcome of a task, for which code takes
some 30 microseconds: that is 30 ms. Our own bound."""


class Batch:
    """The deliveries of one commit, the turns made of them, and the requests to answer.

    `again` are requests for the batch after this one. `found` is what was looked up before for its starts.
    """

    def __init__(
        self, requests: Sequence[Input], store: Store, found: Mapping[str, Found] | None = None
    ) -> None:
        self.deliveries: dict[str, Delivery] = {}
        self.turns: dict[str, Turn] = {}
        self.starts: list[Start] = []
        self.queries: list[Ask] = []
        self.again: list[Input] = []
        self.awake: Mapping[str, bool] = {}
        """The executions that get a turn without a message, and whether they are to be resumed."""
        if found is None and Start in map(type, requests):
            found = look_up(requests, store)
        self._found: Mapping[str, Found] = found or {}
        self.is_asked = False
        """Whether the batch has requests of callers, and not only outcomes."""

    def delivery(self, execution_id: str) -> Delivery:
        """Return the delivery for the execution, with the messages so far."""
        delivery = self.deliveries.get(execution_id)
        if delivery is None:
            delivery = self.deliveries[execution_id] = Delivery(execution_id)
        return delivery

    def delivery_of(
        self, request: Post | Update | Resume | Release | TaskOutcome
    ) -> Delivery | None:
        """Return the delivery that takes a request about an execution. None if the request is put off to the
        next batch, because the execution begins in this one, or has as many messages as one turn takes.
        """
        name = request.execution_id
        delivery = None
        if name not in self.turns:
            delivery = self.deliveries.get(name)
            if delivery is None:
                delivery = self.deliveries[name] = Delivery(name)
            elif is_full(delivery, request):
                delivery = None
        if delivery is None:
            self.again.append(request)
        return delivery

    def take_outcome(self, outcome: TaskOutcome, now: int) -> None:
        """Take the outcome of an attempt."""
        delivery = self.deliveries.get(outcome.execution_id)
        if delivery is None or len(delivery.messages) >= OUTCOMES:
            delivery = self.delivery_of(outcome)
        if delivery is not None:
            delivery.requests.append(outcome)
            delivery.messages.append(ended(outcome, now))

    def found_of(self, start: Start) -> tuple[Head | None, int]:
        """Return the head that the id of a start had when the batch began, or None, and the number of deleted
        events of that id. None and 0 for an id that was made up.
        """
        found = None if start.fresh else self._found[start.execution_id]
        return (None, 0) if found is None else (found.head, found.deleted_events)

    def start_again(self, execution_id: str) -> None:
        """Have starts begin anew that have found an execution which was deleted in this batch."""
        starts, self.starts = self.starts, []
        for start in starts:
            (self.again if start.execution_id == execution_id else self.starts).append(start)

    def has_fork(self, start: Start) -> bool:
        """Return whether the start is one of a fork, and if so add its turn."""
        if start.fork is None:
            return False
        from mini_workflow.engine.reset_turn import fork_turn

        self.turns[start.execution_id] = fork_turn(start, start.fork)
        self.starts.append(start)
        return True

    def answer(self, store: Store, updates: PendingUpdates) -> None:
        """Answer the requests. If the store fails now, or a history is damaged, only the requests that need
        it fail.
        """
        for start in self.starts:
            try:
                answer_start(start, self.turns.get(start.execution_id), store)
            except MiniWorkflowError as error:
                start.reply.fail(error)
        for name, delivery in self.deliveries.items():
            for request in delivery.requests:
                if not isinstance(request, (Post, Resume, Update)):
                    continue
                turn = self.turns.get(name)
                try:
                    if turn is not None and turn.deletes and not asks_to_delete(request):
                        request.reply.fail(not_found(name))
                    elif isinstance(request, Update):
                        answer_update(request, turn, store, updates)
                    else:
                        answer_head(request, delivery, turn, store)
                except MiniWorkflowError as error:
                    request.reply.fail(error)


def look_up(requests: Sequence[Input], store: Store) -> Mapping[str, Found]:
    """Return what starts may find, after one look at the store for all; nothing for ids that were made up."""
    names = {one.execution_id for one in requests if type(one) is Start and not one.fresh}
    return store.lookup(names) if names else {}


def message_of(request: Post | Update | Release, now: int) -> Message:
    """Return the message that a request brings."""
    if isinstance(request, Post):
        return request.message
    if isinstance(request, Update):
        return request.message(max(now, request.at))
    heartbeat = None if request.heartbeat is None else Payload(text=request.heartbeat)
    return events.TaskReleased(now, request.seq, request.attempt, heartbeat)


def ended(outcome: TaskOutcome, now: int) -> events.TaskCompleted | events.TaskFailed:
    """Return the message about the outcome of an attempt."""
    seq, attempt = outcome.seq, outcome.attempt
    begun, ran_on = outcome.begun, outcome.ran_on
    if outcome.failure is not None:
        heartbeat = None if outcome.heartbeat is None else Payload(text=outcome.heartbeat)
        failure = Failure.from_plain(outcome.failure)
        return events.TaskFailed(now, seq, attempt, failure, heartbeat, begun, ran_on)
    return events.TaskCompleted(now, seq, attempt, Payload(outcome.result), begun, ran_on)


def is_full(delivery: Delivery, request: Input) -> bool:
    """Return whether a delivery has as many messages as one turn takes, so that the request has to wait."""
    most = OUTCOMES if type(request) is TaskOutcome else MESSAGES
    return len(delivery.messages) >= most


def brings_a_message(request: Input) -> bool:
    """Return whether the request brings a message, whose sender may have left others in the mailbox
    before.
    """
    if isinstance(request, Start):
        return request.message is not None
    return isinstance(request, (Post, Resume, Update))
