"""Find attempts that were never reported, and messages that have never arrived."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mini_workflow.core import events, wire
from mini_workflow.core.asks import answer, given_before, nobody
from mini_workflow.core.children import end_children, tell_parent
from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import Command, SendMessage
from mini_workflow.core.continuation import CARRIED_SIGNALS
from mini_workflow.core.decide import message_to, start_of
from mini_workflow.core.duplicates import admit
from mini_workflow.core.events import Event, Message
from mini_workflow.core.limit import LIMIT, LIMIT_PREFIX
from mini_workflow.core.records import frozen, replace
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.core.run import Run
from mini_workflow.core.slots import askers, left, slots_by_name, tell_again
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.wire import decode_message
from mini_workflow.engine.cache import Cache
from mini_workflow.engine.turn_data import ABOUT_ATTEMPTS
from mini_workflow.errors import WireError, WorkerLost
from mini_workflow.ports import Head, Reader

if TYPE_CHECKING:
    from mini_workflow.ports.queue import Dispatch


class LostAttempts:
    """Finds attempts that nobody will report. `dispatched` returns whether this engine has dispatched an
    attempt that was not reported yet.

    While `draining`, attempts that were handed back do not begin again.
    """

    def __init__(
        self,
        codec: Codec,
        dispatched: Callable[[tuple[str, int, int]], bool],
        draining: Callable[[], bool],
    ) -> None:
        self._codec = codec
        self._dispatched = dispatched
        self._draining = draining

    def of(
        self,
        execution_id: str,
        state: ExecutionState,
        parked: Sequence[Message],
        arriving: Sequence[Message],
        now: int,
    ) -> list[Message]:
        """Return the messages by which attempts of an execution in that state fail, or begin again. Attempts
        with a message among the `parked` or `arriving` ones are left out.
        """
        told: dict[tuple[int, int], type[Message]] = {
            (message.seq, message.attempt): type(message)
            for message in (*parked, *arriving)
            if isinstance(message, ABOUT_ATTEMPTS)
        }
        lost: list[Message] = []
        marker = next((m for m in parked if isinstance(m, events.ExecutionReset)), None)
        for seq, task in state.tasks.items():
            key = (seq, task.attempt)
            if marker is not None:
                # All tasks are made again but for those whose attempts run.
                if seq not in (marker.running or ()):
                    continue
                key = (seq, (marker.attempts or {})[str(seq)])
            elif task.retry_at is not None:
                continue
            if self._dispatched((execution_id, *key)):
                continue
            what = told.get(key)
            if seq in state.released or what is events.TaskReleased:
                if not self._draining():
                    lost.append(events.TaskRetryStarted(now, *key))
            elif what is None:
                error = WorkerLost(
                    f"attempt {key[1]} of task {task.name!r} was in flight when its engine stopped"
                )
                lost.append(events.TaskFailed(now, *key, self._codec.encode_failure(error)))
        return lost


log = logging.getLogger("mini_workflow.engine")


class LateOutcomes:
    """The outcomes that workers have kept. They are looked for before a turn counts attempts as lost, or has
    them run once more.
    """

    def __init__(
        self, store: Reader, cache: Cache, dispatch: Dispatch, limits: ReportLimits
    ) -> None:
        self._store = store
        self._cache = cache
        self._dispatch = dispatch
        self._limits = limits

    def find(self, execution_id: str, now: int) -> list[Message]:
        """Return the kept outcomes of the attempts that are about to count as lost, so that finished work is
        not repeated. Raises StoreError.
        """
        try:
            late = self._late(execution_id, now)
        except WireError as error:
            log.error("[%s] its history cannot be read: %s", execution_id, error)
            return []
        return self.outcomes(execution_id, late)

    def outcomes(self, execution_id: str, attempts: Sequence[tuple[int, int]]) -> list[Message]:
        """Return the outcomes that are kept of attempts, (seq, attempt). Raises StoreError."""
        try:
            texts = self._dispatch.outcomes(execution_id, attempts) if attempts else []
            return [decode_message(line) for text in texts for line in text.split("\n")]
        except WireError as error:
            log.error("[%s] kept outcomes of its attempts cannot be read: %s", execution_id, error)
            return []

    def _late(self, execution_id: str, now: int) -> list[tuple[int, int]]:
        """Return the attempts, as (seq, attempt), that should have been reported by now."""
        live = self._cache.get(execution_id)
        if live is not None:
            state = live.run.state
        else:
            stored, state = self._store.load(execution_id), ExecutionState()
            state.limits = self._limits
            for line in () if stored is None else stored.events:
                state.apply(wire.decode(line))  # type: ignore[arg-type]
        return [(seq, state.tasks[seq].attempt) for seq in state.deadlines.passed(now)]


@frozen
class _Other:
    """Another execution: its head, and its current run."""

    head: Head
    history: list[Event]
    state: ExecutionState

    @property
    def started(self) -> events.ExecutionStarted | None:
        first = self.history[0] if self.history else None
        return first if isinstance(first, events.ExecutionStarted) else None

    @property
    def end(self) -> Event | None:
        """The event that it has closed with; None while it is open."""
        closing = (event for event in reversed(self.history) if type(event) in events.CLOSING)
        return None if self.head.closed_at is None else next(closing, None)


def ask_for_attempts(state: ExecutionState) -> None:
    """Have attempts reported as lost that are in flight, and that no runner has any more."""
    if state.in_hand is not None:
        for seq, task in state.tasks.items():
            if task.in_flight and seq not in state.released:
                state.in_hand((state.execution_id, seq, task.attempt), task.name)


class Unreported:
    """Compares the history of an execution with those of its parent, its children and the executions that it
    has sent messages to, to find messages that are missing.

    `refresh` is called before the history of another execution is read, where the store may be out of date.
    """

    def __init__(self, store: Reader, refresh: Callable[[str], object]) -> None:
        self._store = store
        self._refresh = refresh

    def of(self, run: Run, now: int) -> list[Command]:
        """Return the messages to and from an open execution that have to be sent again."""
        known: dict[str, _Other | None] = {}

        def find(execution_id: str) -> _Other | None:
            if execution_id not in known:
                known[execution_id] = self._find(execution_id)
            return known[execution_id]

        name, state = run.execution_id, run.state
        absent: dict[int, str] = {}
        found: list[SendMessage] = []
        for seq, child in state.family().items():
            other = find(child.id)
            if other is None and self._store.head(child.id) is None:
                absent[seq] = child.id
            elif other is not None and _is_child(other, name, seq) and other.end is not None:
                found += tell_parent(child.id, other.started, other.state, other.end)
        parent = None if run.started is None else run.started.parent
        if parent is not None and (other := find(parent["id"])) is not None and other.end:
            ended = end_children(parent["id"], other.state)
            found += [command for command in ended if command.execution_id == name]
        history = self._history(name)
        for event in history:
            if isinstance(event, events.StartSent) and event.notify:
                other, about = find(event.id), start_of(event, state).parent(name)
                if other is not None and other.end is not None and _parent(other) == about:
                    found += tell_parent(event.id, other.started, other.state, other.end)
            if isinstance(event, (events.SignalSent, events.CancelSent, events.CompletionSent)):
                command = message_to(run, event)
                other = find(command.execution_id)
                if other is not None and _lacks(other, command):
                    found.append(command)
        for ask in state.asks.values():
            found += self._asked_again(run, ask.sent, find(ask.sent.target), now)
        found += tell_again(name, state, now)
        if run.started is not None and run.started.workflow == LIMIT:
            found += _asked(run, history, find, now)
        starts = [
            start_of(event, state)
            for event in history
            if (isinstance(event, events.ChildStarted) and absent.get(event.seq) == event.id)
            or (isinstance(event, events.StartSent) and self._store.head(event.id) is None)
        ]
        # By other keys: messages under the first keys must not keep these back.
        return [*(replace(c, key=f"{c.key}/again/{now}") for c in found), *starts]

    def _asked_again(
        self, run: Run, sent: events.AskSent, other: _Other | None, now: int
    ) -> Iterable[SendMessage]:
        """Return an ask as it is sent once more, or its answer where only the history has that."""
        command = message_to(run, sent)
        if other is None and self._store.head(sent.target) is None:
            yield nobody(command.key, sent.target, run.state.now)
            return
        history = () if other is None else other.history
        if sent.kind == "update" and other is not None:
            outcome = given_before(other.state, command.key, history)
            if outcome is not None:
                yield answer(command.key, run.state.now, outcome, "again")
                return
        yield command

    def of_fork(self, run: Run) -> list[Command]:
        """Return the starts of the children of a fork, which have to be sent again: the children in its first
        events are those of the other execution.
        """
        open_ones = run.state.children
        return [
            start_of(event, run.state)
            for event in self._history(run.execution_id)
            if isinstance(event, events.ChildStarted) and event.seq in open_ones
        ]

    def _find(self, execution_id: str) -> _Other | None:
        self._refresh(execution_id)
        head = self._store.head(execution_id)
        if head is None:
            return None
        try:
            history = self._history(execution_id)
            return _Other(head, history, ExecutionState.of(history))
        except WireError as error:
            log.error("[%s] its history cannot be read: %s", execution_id, error)
            return None

    def _history(self, execution_id: str) -> list[Event]:
        stored = self._store.load(execution_id)
        return [] if stored is None else list(_decoded(stored.events))


def _decoded(lines: Iterable[str]) -> Iterable[Event]:
    for line in lines:
        yield wire.decode(line)  # type: ignore[misc]


def _asked(
    run: Run, history: Iterable[Event], find: Callable[[str], _Other | None], now: int
) -> Iterable[SendMessage]:
    """Return the messages that a limit has to get once more about the runs that have asked for slots."""
    assert run.started is not None
    name = run.execution_id.removeprefix(LIMIT_PREFIX)
    for sender, asker in askers(run.started, history).items():
        other = find(asker)
        known = () if other is None or other.end else dict(slots_by_name(asker, other.state))
        if other is None or sender not in known:
            yield left(name, sender, asker, run.state.now, f"/again/{now}")
        else:
            yield from tell_again(asker, other.state, now, name, sender)


def _is_child(other: _Other, parent: str, seq: int) -> bool:
    """Return whether the execution is that child, and not another one of the same id."""
    return _parent(other) == {"id": parent, "seq": seq}


def _parent(other: _Other) -> dict[str, Any] | None:
    return None if other.started is None else other.started.parent


def _lacks(other: _Other, command: SendMessage) -> bool:
    """Return whether an execution has certainly not got a message. The history has a bounded number of
    messages of earlier runs: if one may be missing from it, the answer is False, and nothing is sent twice.
    """
    started, message, state = other.started, command.message, other.state
    if started is None or state.closed:
        return False
    if isinstance(message, events.PromiseCompleted | events.PromiseFailed):
        return admit(state, message) is not None
    if isinstance(message, events.SignalReceived):
        complete = started.run == 1 or len(started.signals or ()) < CARRIED_SIGNALS
        return complete and message.id not in state.signal_ids
    return started.run == 1 and not state.cancel_requested
