"""One turn of one execution: load or take from the cache, advance, and say what to commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event, Message
from mini_workflow.core.failure import Failure
from mini_workflow.core.loop import Halt
from mini_workflow.core.payload import Payload
from mini_workflow.core.replay import Decision, decide, repeat
from mini_workflow.core.run import Definition, Inline, Run
from mini_workflow.core.state import ExecutionState
from mini_workflow.engine.cache import Cache, Live
from mini_workflow.engine.executor import execute
from mini_workflow.engine.requests import Request, Start
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import (
    UnknownWorkflow,
    WireError,
    WorkerLost,
)
from mini_workflow.ports import Commit, Head, Store, Stored, TaskRequest, reopened

log = logging.getLogger("mini_workflow.engine")

UNKNOWN_WORKFLOW = "UnknownWorkflow"
"""The kind of block that the registration of the workflow resolves by itself."""


@dataclass(slots=True)
class Delivery:
    """What has arrived for one execution. `letters` are numbers in the mailbox."""

    execution_id: str
    messages: list[Message] = field(default_factory=list[Message])
    requests: list[Request] = field(default_factory=list[Request])
    letters: list[int] = field(default_factory=list[int])
    resume: bool = False


@dataclass(slots=True)
class Turn:
    """A turn that has been advanced and waits for its commit. `head` is the one to be."""

    delivery: Delivery
    commit: Commit
    head: Head
    live: Live | None
    decision: Decision | None = None
    closing: Event | None = None
    start: Start | None = None


def inline_runner(codec: Codec) -> Inline:
    """Runs inline tasks: on the calling thread, inside the turn."""

    def run(execution_id: str, seq: int, name: str, payload: bytes) -> Payload | Failure:
        outcome = execute(TaskRequest(execution_id, seq, 1, name, payload), codec)
        if outcome.failure is not None:
            return Failure.from_plain(outcome.failure)
        return Payload(text=outcome.result)

    return run


class Turns:
    """Makes turns. `dispatched` tells whether this engine has an attempt in hand."""

    def __init__(
        self,
        *,
        store: Store,
        cache: Cache,
        codec: Codec,
        definitions: Callable[[str], Definition],
        watchdog: Watchdog,
        dispatched: Callable[[tuple[str, int, int]], bool],
    ) -> None:
        self._store = store
        self._cache = cache
        self._codec = codec
        self._definitions = definitions
        self._watchdog = watchdog
        self._dispatched = dispatched
        self._inline = inline_runner(codec)

    def create(self, execution_id: str, started: events.ExecutionStarted, start: Start) -> Turn:
        """The first turn of a new execution. Raises UnknownWorkflow."""
        definition = self._definitions(started.workflow)
        run = Run(definition, execution_id, self._codec, self._inline)
        head = Head(execution_id, started.workflow, "running", started.at, run=started.run)
        turn = self._advance(Delivery(execution_id, [started]), Live(run, head, 0), ())
        turn.start = start
        return turn

    def next(self, delivery: Delivery, now: int) -> Turn | None:
        """The turn that a delivery makes; None if nothing is to be done for the execution here: it
        does not exist, is not held here, or has closed and waits for nothing."""
        live = self._cache.get(delivery.execution_id)
        if live is not None:
            return self._advance(delivery, live, ())
        head = self._store.head(delivery.execution_id)
        if head is None:
            return None
        if head.closed_at is not None and not (
            head.busy or head.wake_at is not None or delivery.letters
        ):
            return None
        stored = self._store.load(delivery.execution_id)
        if stored is None or not stored.held:
            return None
        if stored.head.status == "blocked" and not delivery.resume:
            return self._blocked_still(delivery, stored, now)
        return self._cold(delivery, stored, now)

    def block(self, delivery: Delivery, reason: BaseException) -> Turn | None:
        """Keep what has arrived for an execution that cannot go on, without touching its code."""
        stored = self._store.load(delivery.execution_id)
        if stored is None or not stored.held:
            return None
        return self._block(delivery, stored, reason)

    def _cold(self, delivery: Delivery, stored: Stored, now: int) -> Turn:
        head = reopened(stored.head) if stored.head.status == "blocked" else stored.head
        try:
            history = [wire.decode(line) for line in stored.events]
            parked = [_message(line) for line in stored.parked]
            definition = self._definitions(head.workflow)
            state = ExecutionState.of(history)
        except (WireError, UnknownWorkflow) as error:
            return self._block(delivery, stored, error)
        run = Run(definition, head.execution_id, self._codec, self._inline)
        self._watchdog.begin(run)
        try:
            repeat(run, history)
        except Halt:
            pass
        finally:
            self._watchdog.end()
        lost = self._lost(head.execution_id, state, [*parked, *delivery.messages], now)
        if lost and stored.head.status != "blocked":
            log.info("[%s] attempts without a worker: %d", head.execution_id, len(lost))
        live = Live(run, stored.head, len(history))
        return self._advance(delivery, live, [*parked, *lost], unpark=bool(parked), reopen=head)

    def _lost(
        self, execution_id: str, state: ExecutionState, arriving: Sequence[Message], now: int
    ) -> list[Message]:
        """What to say of attempts in flight that nobody here is running and nobody reported."""
        reported = {
            (message.seq, message.attempt)
            for message in arriving
            if isinstance(message, (events.TaskCompleted, events.TaskFailed))
        }
        lost: list[Message] = []
        for seq, task in state.tasks.items():
            if task.retry_at is not None or (seq, task.attempt) in reported:
                continue
            if self._dispatched((execution_id, seq, task.attempt)):
                continue
            if seq in state.released:
                lost.append(events.TaskRetryStarted(now, seq, task.attempt))
                continue
            error = WorkerLost(
                f"attempt {task.attempt} of task {task.name!r} was in flight when its engine stopped"
            )
            failure = self._codec.encode_failure(error)
            lost.append(events.TaskFailed(now, seq, task.attempt, failure))
        return lost

    def _advance(
        self,
        delivery: Delivery,
        live: Live,
        before: Sequence[Message],
        *,
        unpark: bool = False,
        reopen: Head | None = None,
    ) -> Turn:
        run, head = live.run, live.head
        self._watchdog.begin(run)
        decision: Decision | None = None
        try:
            decision = decide(run, [*before, *delivery.messages])
        except Halt:
            pass
        finally:
            self._watchdog.end()
        if decision is None:
            # Interrupted between two steps: nothing of this turn counts.
            left = (*before, *delivery.messages)
            decision = Decision((), (), "running", False, None, run.fault, left)
        after = self._head_after(reopen or head, decision)
        taken = decision.events
        closing = next((e for e in taken if type(e) in events.CLOSING), None)
        commit = Commit(
            execution_id=delivery.execution_id,
            expected=live.length,
            events=tuple(map(wire.encode, taken)),
            head=after if after != head or live.length == 0 else None,
            park=tuple(wire.encode(message) for message in decision.left if _can_wait(message)),
            unpark=unpark,
            taken=tuple(delivery.letters),
        )
        return Turn(delivery, commit, after, live, decision, closing)

    def _head_after(self, head: Head, decision: Decision) -> Head:
        fault = decision.fault
        if fault is not None:
            if head.closed_at is not None:
                log.error("[%s] closed, but %s", head.execution_id, fault)
                return replace(head, busy=False, wake_at=None)
            return _blocked(head, fault)
        if head.closed_at is None and decision.condition not in ("new", "running"):
            return replace(
                head,
                status=decision.condition,
                closed_at=_time_of(decision.events, head.started_at),
                busy=decision.busy,
                wake_at=decision.wake_at,
            )
        if head.busy == decision.busy and head.wake_at == decision.wake_at:
            return head
        return replace(head, busy=decision.busy, wake_at=decision.wake_at)

    def _block(self, delivery: Delivery, stored: Stored, error: BaseException) -> Turn:
        """Keep what has arrived, and mark the execution; its code is not touched."""
        head = stored.head
        if head.closed_at is not None:
            log.error("[%s] closed, but %s", head.execution_id, error)
            after = replace(head, busy=False, wake_at=None)
        else:
            after = _blocked(head, error)
        return self._kept(delivery, stored, after)

    def _blocked_still(self, delivery: Delivery, stored: Stored, now: int) -> Turn:
        terminated = [m for m in delivery.messages if isinstance(m, events.ExecutionTerminated)]
        if not terminated:
            return self._kept(delivery, stored, stored.head)
        # Ended without any code of the workflow, so also when that code is what is wrong.
        after = replace(
            reopened(stored.head), status="terminated", closed_at=now, busy=False, wake_at=None
        )
        commit = Commit(
            execution_id=delivery.execution_id,
            expected=len(stored.events),
            events=(wire.encode(terminated[0]),),
            head=after,
            unpark=True,
            taken=tuple(delivery.letters),
        )
        return Turn(delivery, commit, after, None, closing=terminated[0])

    def _kept(self, delivery: Delivery, stored: Stored, after: Head) -> Turn:
        commit = Commit(
            execution_id=delivery.execution_id,
            expected=len(stored.events),
            head=after if after != stored.head else None,
            park=tuple(wire.encode(message) for message in delivery.messages if _can_wait(message)),
            taken=tuple(delivery.letters),
        )
        return Turn(delivery, commit, after, None)


def _blocked(head: Head, reason: BaseException) -> Head:
    return replace(
        head,
        status="blocked",
        busy=False,
        wake_at=None,
        blocked_kind=type(reason).__name__,
        blocked_reason=f"{type(reason).__name__}: {reason}",
    )


def _can_wait(message: Message) -> bool:
    """Whether a message must be kept; the time comes again by itself."""
    return not isinstance(message, events.Tick)


def _message(line: str) -> Message:
    event = wire.decode(line)
    if type(event) not in events.INCOMING:
        raise WireError(f"not a message: {line[:200]!r}")
    return event  # type: ignore[return-value]


def _time_of(taken: Sequence[Event], otherwise: int) -> int:
    return max((getattr(event, "at", 0) for event in taken), default=0) or otherwise
