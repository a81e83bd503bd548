"""Answer asks between executions that need no decision of workflow code.

The run of a turn answers a query once it has taken all other messages. For an execution that has closed, its
history answers, without its code. The answers are sent with the turn's own messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mini_workflow.core import events, wire
from mini_workflow.core.asks import answer, answer_of_closed, nobody
from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import SendMessage
from mini_workflow.core.decide import Decision
from mini_workflow.core.events import Event, Message
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import replace
from mini_workflow.core.run import Run
from mini_workflow.core.state import ExecutionState
from mini_workflow.engine.outbox import outbox
from mini_workflow.engine.turn_data import Delivery, Turn
from mini_workflow.errors import TurnTimeout, WireError
from mini_workflow.loop.running import Halt
from mini_workflow.ports import Commit, Head, QueuedMessage, Reader, Stored

Watched = Callable[[Run, Callable[[], Payload]], Payload | None]


class Asking:
    """Answers the asks of executions. `look` returns a run to answer queries, and `let_go` drops it.
    `watched` calls a function that runs code of a workflow, and returns None if that was interrupted.
    """

    def __init__(
        self,
        store: Reader,
        codec: Codec,
        watched: Watched,
        look: Callable[[str], Run | None],
        let_go: Callable[[Run | None], None],
    ) -> None:
        self._store = store
        self._codec = codec
        self._watched = watched
        self._look = look
        self._let_go = let_go

    def answer_queries(self, turn: Turn, run: Run, queries: Sequence[events.Asked]) -> None:
        """Answer queries by the run of a turn that is about to be committed."""
        say(turn, [self._answered(run, asked) for asked in queries])

    def of_closed(self, delivery: Delivery) -> tuple[Stored, list[SendMessage]] | None:
        """Take the asks out of a delivery for an execution that has closed, and return their answers. None if
        there are no asks, or the execution has not closed or is not held here.
        """
        asks = [m for m in delivery.messages if isinstance(m, events.Asked)]
        head = self._store.head(delivery.execution_id) if asks else None
        stored = None
        if head is not None and head.closed_at is not None:
            stored = self._store.load(delivery.execution_id)
        if stored is None or not stored.held:
            return None
        delivery.messages = [m for m in delivery.messages if not isinstance(m, events.Asked)]
        return stored, [*self._answers(stored, asks)]

    def _answers(self, stored: Stored, asks: Sequence[events.Asked]) -> Iterable[SendMessage]:
        name, run = stored.head.execution_id, None
        try:
            try:
                history: list[Event] = [wire.decode(line) for line in stored.events]
                state = ExecutionState.of(history)
            except WireError as error:
                for asked in asks:
                    failure = self._codec.encode_failure(error)
                    yield answer(asked.id, asked.at, failure, asked.at)
                return
            for asked in asks:
                if asked.kind != "query" and state.end is not None:
                    yield answer_of_closed(name, state, state.end, asked, history)
                    continue
                try:
                    run = run or self._look(name)
                    assert run is not None
                    yield self._answered(run, asked)
                except Exception as error:
                    failure = self._codec.encode_failure(error)
                    yield answer(asked.id, asked.at, failure, asked.at)
        finally:
            self._let_go(run)

    def _answered(self, run: Run, asked: events.Asked) -> SendMessage:
        """Return the answer to a query: its result, or the failure if it cannot be answered."""
        at = max(run.state.now, asked.at)
        try:
            result = self._watched(run, lambda: _put(run, asked))
            if result is None:
                fault, run.loop.fault = run.loop.fault, None
                run.loop.touched = True  # interrupted anywhere: it does not go on from there
                raise fault or TurnTimeout(
                    f"query {asked.name!r} of execution {run.execution_id!r} was interrupted"
                )
        except (Exception, KeyboardInterrupt) as error:
            failure = run.recorder.codec.encode_failure(error)
            return answer(asked.id, at, failure, f"{run.state.length}/{asked.at}")
        return answer(asked.id, at, result, f"{run.state.length}/{asked.at}")


def _put(run: Run, asked: events.Asked) -> Payload:
    try:
        return run.messages.answer(asked.name, asked.value)
    except Halt:
        run.loop.fault = run.loop.fault or TurnTimeout(f"query {asked.name!r} took too long")
        raise


def queries_among(
    messages: Sequence[Message], decision: Decision
) -> tuple[tuple[events.Asked, ...], tuple[Message, ...]]:
    """Return the queries that a turn with this decision has to answer, and the messages that it leaves. A run
    that cannot go on answers no query: those are left.
    """
    queries = tuple(m for m in messages if isinstance(m, events.Asked) and m.kind == "query")
    stopped = decision.fault is not None or decision.cut
    waiting = [m for m in queries if stopped or any(m is one for one in decision.left)]
    others = [m for m in decision.left if not any(m is one for one in waiting)]
    return tuple(m for m in queries if m not in waiting), (*others, *waiting)


def say(turn: Turn, said: Sequence[SendMessage]) -> None:
    """Have a turn send messages, beside what it has decided."""
    posted = outbox(said)
    turn.commit = replace(turn.commit, outbox=(*turn.commit.outbox, *posted))
    if turn.decision is not None:
        turn.decision = replace(turn.decision, commands=(*turn.decision.commands, *said))


def say_only(delivery: Delivery, stored: Stored, said: Sequence[SendMessage]) -> Turn:
    """Return a turn of an execution that has closed: it only sends answers."""
    head, entries = stored.head, tuple(delivery.entries)
    length = head.base + len(stored.events)
    commit = Commit(delivery.execution_id, length, taken=entries, outbox=outbox(said))
    return Turn(delivery, commit, head, None)


def for_nobody(name: str, messages: Iterable[Message]) -> tuple[QueuedMessage, ...]:
    """Return the answers to executions that have asked one that does not exist."""
    asks = [m for m in messages if isinstance(m, events.Asked)]
    return outbox([nobody(asked.id, name, asked.at, asked.at) for asked in asks])


def asked_of_nobody(
    turn: Turn, found: Callable[[str], Head | None], place: str = "nobody"
) -> tuple[QueuedMessage, ...]:
    """Return the answers to the asks of a turn to executions that do not exist: messages to the asker."""
    told: list[SendMessage] = []
    for message in turn.commit.outbox:
        if wire.kind_of(message.body) == "Asked" and found(message.execution_id) is None:
            asked = wire.decode(message.body)
            assert isinstance(asked, events.Asked)
            told.append(nobody(asked.id, message.execution_id, asked.at, place))
    return outbox(told)
