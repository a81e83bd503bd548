"""Engine: turns requests into committed turns, many executions to one commit.

Single-threaded and without a clock or a loop of its own: `process` takes what has arrived, and
what the time brings, commits it in one step, and only then dispatches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import CancelTask, RunTask, StartChild
from mini_workflow.core.events import Message
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.run import Definition
from mini_workflow.core.script import python_version
from mini_workflow.engine.answers import (
    answer_head,
    answer_start,
    answer_update,
    blocked,
    closed,
    not_found,
)
from mini_workflow.engine.cache import Cache
from mini_workflow.engine.inquiries import Answered, Inquiries
from mini_workflow.engine.outbox import not_started
from mini_workflow.engine.requests import (
    Ask,
    Nudge,
    Post,
    Release,
    Request,
    Resume,
    Start,
    Update,
    Waited,
)
from mini_workflow.engine.turn import UNKNOWN_WORKFLOW, Delivery, Turn, Turns
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import (
    ExecutionAlreadyExists,
    LeaseLost,
    MiniWorkflowError,
    NotAllowedInWorkflow,
    RuntimeClosed,
    StoreError,
    WireError,
)
from mini_workflow.ports import (
    Agenda,
    Clock,
    Leases,
    Mailbox,
    Store,
    TaskOutcome,
    TaskRequest,
    TaskRunner,
)

log = logging.getLogger("mini_workflow.engine")

DUE_AT_ONCE: Final = 500
"""How many executions that are due are taken into one commit."""

RETRY_AFTER: Final = 1_000
"""Milliseconds to wait before what a failing store refused is tried again."""

DEFAULT_HISTORY_LIMIT: Final = 200_000
"""Events after which a run must have continued as new: what a replay does in a second or two. Our
own bound."""

RESUME: Final = "resume"
"""The body of a letter that asks for a blocked execution to go on."""

Closed = Callable[[Turn], None]
"""Told of every turn that has closed or blocked its execution, after its commit."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The backend of an engine."""

    store: Store
    agenda: Agenda
    mailbox: Mailbox
    leases: Leases
    clock: Clock


class Engine:
    """See the module's description. Every method belongs to one thread."""

    def __init__(
        self,
        ports: Ports,
        *,
        codec: Codec,
        definitions: Callable[[str], Definition],
        known: Callable[[], Iterable[str]],
        entropy: Callable[[], int],
        on_close: Closed,
        on_post: Callable[[], None] = lambda: None,
        on_look: Callable[[], None] = lambda: None,
        cache_size: int = 4096,
        turn_limit: float | None = 10.0,
        history_limit: int = DEFAULT_HISTORY_LIMIT,
    ) -> None:
        self._ports = ports
        self._codec = codec
        self._known = known
        self._entropy = entropy
        self._on_close = on_close
        self._on_post = on_post
        self._on_look = on_look
        self._runner: TaskRunner | None = None
        self._dispatched: set[tuple[str, int, int]] = set()
        self._cache = Cache(cache_size)
        self._watchdog = Watchdog(turn_limit)
        self._turns = Turns(
            store=ports.store,
            cache=self._cache,
            codec=codec,
            definitions=definitions,
            watchdog=self._watchdog,
            dispatched=self._dispatched.__contains__,
            entropy=entropy,
            history_limit=history_limit,
        )
        self._next_wake: int | None = None
        self._renew_at = 0
        self._letter = 0
        self._letters_due = False
        self._held_back: list[Request] = []
        self._retry_at: int | None = None
        self._awake: list[str] = []
        self._inquiries = Inquiries()
        self._draining = False

    # Life

    def open(self, runner: TaskRunner) -> None:
        """Take over what nobody runs, and continue it."""
        self._runner = runner
        self._take_over(self._ports.clock.now())

    def drain(self) -> None:
        """Dispatch nothing any more; what would have been is handed back to the store."""
        self._draining = True

    def close(self) -> None:
        """Forget everything in memory; what is stored stays for the next engine."""
        self._cache.clear()
        self._watchdog.close()
        self._inquiries.fail_all(RuntimeClosed("the runtime was closed meanwhile; open a new one"))

    @property
    def in_flight(self) -> int:
        """How many attempts this engine has dispatched and not heard of."""
        return len(self._dispatched)

    @property
    def awaited(self) -> bool:
        """Whether anybody waits for the answer to an update."""
        return bool(self._inquiries)

    @property
    def unsettled(self) -> bool:
        """Whether something is still to be done that need not wait."""
        return self._retry_at is not None and self._retry_at <= self._ports.clock.now()

    def deadline(self) -> int | None:
        """When `process` wants to be called at the latest (milliseconds), or None."""
        times = [self._renew_at, self._next_wake, self._retry_at]
        return min((at for at in times if at is not None), default=None)

    def evict(self) -> None:
        """Drop all live executions from memory; the next event of each replays it."""
        self._cache.clear()

    # Work

    def process(self, requests: Sequence[Request]) -> None:
        """Take what has arrived and what is due, in one commit.

        Raises nothing of the store's: what it refuses is answered with the error, or kept and
        tried again where nobody would send it a second time.
        """
        now = self._ports.clock.now()
        if self._retry_at is not None and now >= self._retry_at:
            requests = [*self._held_back, *requests]
            self._held_back, self._retry_at = [], None
        try:
            if now >= self._renew_at:
                self._renew_at = self._ports.leases.renew(now)
                requests = [*requests, Nudge()]
            self._process(requests, now)
        except LeaseLost as error:
            log.warning("starting anew: %s", error)
            self._start_anew(requests)
        except StoreError as error:
            self._refused(requests, error, now)
        except Exception as error:
            # A fault of ours: those who wait must hear of it, and the others go on.
            log.exception("the engine failed")
            self._cache.clear()
            self._refused(requests, error, now)

    def _process(self, requests: Sequence[Request], now: int) -> None:
        batch = Batch()
        for name in self._awake:
            batch.delivery(name)
        self._awake = []
        try:
            for request in requests:
                self._take(request, batch, now)
            if batch.nudged:
                self._look_around(batch, now)
            if batch.nudged or self._letters_due:
                self._letters_due = False
                self._read_letters(batch)
            if self._next_wake is not None and self._next_wake <= now:
                for name in self._ports.agenda.due(now, DUE_AT_ONCE):
                    batch.delivery(name).messages.append(events.Tick(now))
            for delivery in batch.deliveries.values():
                self._advance(delivery, batch, now)
            self._start_children(batch, now)
            answers = self._ports.store.commit([turn.commit for turn in batch.turns.values()])
        except Exception:
            for turn in batch.turns.values():
                self._discard(turn)
            raise
        for turn, committed in zip(list(batch.turns.values()), answers, strict=True):
            if committed:
                self._committed(turn)
            else:
                self._lost_race(turn, batch)
        if self._next_wake is not None and self._next_wake <= now:
            self._next_wake = self._ports.agenda.next_wake()
        batch.answer(self._ports.store, self._inquiries)
        for request in batch.questions:
            self._ask(request)

    def _take(self, request: Request, batch: Batch, now: int) -> None:
        if isinstance(request, Start):
            self._start(request, batch, now)
        elif isinstance(request, Nudge):
            batch.nudged = True
        elif isinstance(request, Ask):
            batch.questions.append(request)
        elif request.execution_id in batch.turns:
            # Started in this very batch: it is found once that is committed.
            self._again([request], now)
        else:
            delivery = batch.delivery(request.execution_id)
            delivery.requests.append(request)
            if isinstance(request, Resume):
                delivery.resume = True
            else:
                delivery.messages.append(_message(request, now))

    def _start(self, request: Start, batch: Batch, now: int) -> None:
        name = request.execution_id
        batch.starts.append(request)
        head = None if request.fresh else self._ports.store.head(name)
        if name in batch.turns or head is not None:
            if request.signal is not None and (head is None or head.workflow == request.workflow):
                self._signal_existing(request, batch, now)
            return
        started = self._first_event(request.workflow, request.arguments, now, None)
        signals = () if request.signal is None else (request.signal,)
        try:
            batch.turns[name] = self._turns.create(name, started, request, signals)
        except StoreError:
            raise
        except Exception as error:
            if not isinstance(error, MiniWorkflowError):
                log.exception("[%s] the first turn failed", name)
            batch.starts.pop()
            request.reply.fail(error)

    def _signal_existing(self, request: Start, batch: Batch, now: int) -> None:
        if request.execution_id in batch.turns:
            batch.starts.remove(request)
            self._again([request], now)  # it is found once that is committed
        elif request.signal is not None:
            batch.delivery(request.execution_id).messages.append(request.signal)

    def _first_event(
        self, workflow: str, arguments: Payload, now: int, parent: dict[str, Any] | None
    ) -> events.ExecutionStarted:
        return events.ExecutionStarted(
            at=now,
            workflow=workflow,
            arguments=arguments,
            seed=self._entropy(),
            python=python_version(),
            parent=parent,
        )

    def _start_children(self, batch: Batch, now: int) -> None:
        """Have the children that these turns start begin in the same commit, and theirs."""
        parents = list(batch.turns)
        for parent in parents:
            turn = batch.turns[parent]
            for command in turn.decision.commands if turn.decision is not None else ():
                if not isinstance(command, StartChild):
                    continue
                name = command.execution_id
                error = self._start_child(parent, command, batch, now)
                if error is None:
                    parents.append(name)
                    continue
                letter = not_started(parent, command.seq, now, self._codec.encode_failure(error))
                turn.commit = replace(turn.commit, outbox=(*turn.commit.outbox, letter))

    def _start_child(
        self, parent: str, command: StartChild, batch: Batch, now: int
    ) -> Exception | None:
        name = command.execution_id
        if name in batch.turns or self._ports.store.head(name) is not None:
            return ExecutionAlreadyExists(
                f"execution {name!r} exists already; give the child another id", execution_id=name
            )
        about = {"id": parent, "seq": command.seq}
        started = self._first_event(command.workflow, command.arguments, now, about)
        try:
            batch.turns[name] = self._turns.create(name, started, None)
        except StoreError:
            raise
        except Exception as error:
            return error
        return None

    def _ask(self, request: Ask) -> None:
        """Answer a question, of an execution in whatever condition."""
        name = request.execution_id
        try:
            run = self._turns.look(name)
            if run is None:
                request.reply.fail(not_found(name))
                return
            try:
                request.reply.give(self._turns.ask(run, request.name, request.arguments))
            finally:
                live = self._cache.get(name)
                if live is None or live.run is not run:
                    run.close()
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, NotAllowedInWorkflow):
                self._cache.drop(name)  # it may have changed what a replay would not
            request.reply.fail(error)

    def _advance(self, delivery: Delivery, batch: Batch, now: int) -> None:
        try:
            turn = self._turns.next(delivery, now)
        except StoreError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            # Whatever one execution does must not take the others with it.
            log.exception("[%s] the turn failed", delivery.execution_id)
            self._cache.drop(delivery.execution_id)
            turn = self._turns.block(delivery, error)
        if turn is None:
            self._forward(delivery)
        else:
            batch.turns[delivery.execution_id] = turn

    def _again(self, requests: Iterable[Request], now: int) -> None:
        self._held_back.extend(requests)
        self._retry_at = now

    def _committed(self, turn: Turn) -> None:
        live, decision = turn.live, turn.decision
        head = turn.head
        name = head.execution_id
        for message in turn.delivery.messages:
            if isinstance(message, (events.TaskCompleted, events.TaskFailed)):
                self._dispatched.discard((name, message.seq, message.attempt))
        if live is not None and decision is not None:
            live.head = head
            live.length += len(decision.events)
            done = head.closed_at is not None and not decision.busy
            if turn.continues or head.status == "blocked" or done:
                self._discard(turn)
            elif not live.run.dead:
                self._cache.put(live)
            for command in decision.commands:
                if isinstance(command, RunTask):
                    self._dispatch(name, command)
                elif isinstance(command, CancelTask) and self._runner is not None:
                    self._runner.cancel(name, command.seq)
            if self._inquiries:
                self._inquiries.settle(name, decision.events)
                self._inquiries.refuse(name, decision.refusals)
            if any(isinstance(event, Answered) for event in decision.events):
                self._on_post()  # somebody elsewhere may wait for the answer
        if self._inquiries and head.closed_at is not None:
            self._inquiries.fail(name, closed(name, head.status))
        if self._inquiries and head.status == "blocked":
            self._inquiries.fail(name, blocked(head))
        if turn.continues:
            self._awake.append(name)
            self._again([], self._ports.clock.now())
        if turn.commit.outbox:
            self._on_post()
            self._letters_due = True
            self._again([], self._ports.clock.now())
        if head.wake_at is not None and (self._next_wake is None or head.wake_at < self._next_wake):
            self._next_wake = head.wake_at
        if head.status == "terminated" and self._runner is not None:
            for key in [key for key in self._dispatched if key[0] == name]:
                self._runner.cancel(name, key[1])
        if turn.closing is not None or head.status == "blocked":
            self._on_close(turn)

    def _dispatch(self, name: str, command: RunTask) -> None:
        request = TaskRequest(
            execution_id=name,
            seq=command.seq,
            attempt=command.attempt,
            name=command.name,
            payload=command.payload,
            timeout=command.timeout,
            is_async=command.is_async,
        )
        if self._draining:
            self._again([Release(*request.key)], self._ports.clock.now())
        elif request.key not in self._dispatched and self._runner is not None:
            self._dispatched.add(request.key)
            self._runner.submit(request)

    def _discard(self, turn: Turn) -> None:
        """What is in memory of the execution is ahead of the store: drop it."""
        self._cache.drop(turn.delivery.execution_id)
        if turn.live is not None:
            turn.live.run.close()

    def _lost_race(self, turn: Turn, batch: Batch) -> None:
        """Another writer was faster: do the turn again on what is stored now."""
        delivery = turn.delivery
        self._discard(turn)
        del batch.turns[delivery.execution_id]
        requests, delivery.requests = delivery.requests, []
        if delivery.letters:
            self._letter = min(self._letter, delivery.letters[0] - 1)
            requests.append(Nudge())
        self._awake.append(delivery.execution_id)
        self._again(requests, self._ports.clock.now())

    # Other processes

    def _forward(self, delivery: Delivery) -> None:
        """Nothing is to be done for the execution here: another owner holds it, it has closed, or
        there is none. Leave a letter for the other owner."""
        name = delivery.execution_id
        head = self._ports.store.head(name)
        bodies: list[str] = [RESUME] if delivery.resume else []
        for message in delivery.messages:
            if isinstance(message, (events.TaskCompleted, events.TaskFailed)):
                # The other owner has counted the attempt as lost when it took over.
                self._dispatched.discard((name, message.seq, message.attempt))
            elif isinstance(message, events.UpdateRequested):
                bodies.append(wire.encode(replace(message, forwarded=True)))
            elif not isinstance(message, (events.Tick, events.TaskReleased)):
                bodies.append(wire.encode(message))
        if bodies and head is not None and head.closed_at is None:
            for body in bodies:
                self._ports.mailbox.post(name, body, body)
            self._on_post()

    def _look_around(self, batch: Batch, now: int) -> None:
        """Another process may have changed something: take over what is free, read the letters."""
        self._on_look()
        if self._ports.leases.acquire(now):
            self._letter = 0
            self._recover()

    def _read_letters(self, batch: Batch) -> None:
        while letters := self._ports.mailbox.letters(self._letter, DUE_AT_ONCE):
            for letter in letters:
                self._letter = letter.number
                delivery = batch.delivery(letter.execution_id)
                delivery.letters.append(letter.number)
                if letter.body == RESUME:
                    delivery.resume = True
                    continue
                try:
                    delivery.messages.append(wire.decode(letter.body))  # type: ignore[arg-type]
                except WireError as error:
                    log.error("[%s] an unreadable letter: %s", letter.execution_id, error)

    def _take_over(self, now: int) -> None:
        self._ports.leases.acquire(now)
        self._renew_at = self._ports.leases.renew(now)
        self._letter = 0
        self._recover()

    def _recover(self) -> None:
        """Look at what was in flight, what is due, and what a registration has unblocked."""
        agenda = self._ports.agenda
        after = ""
        while names := agenda.busy(after, DUE_AT_ONCE):
            self._awake.extend(names)
            after = names[-1]
        after = ""
        known = set(self._known())
        while names := agenda.blocked(UNKNOWN_WORKFLOW, after, DUE_AT_ONCE):
            for name in names:
                head = self._ports.store.head(name)
                if head is not None and head.workflow in known:
                    self._held_back.append(Resume(name))
            after = names[-1]
        self._next_wake = agenda.next_wake()
        self._again([], self._ports.clock.now())

    def _start_anew(self, requests: Sequence[Request]) -> None:
        """After a lost lease: nothing in memory counts any more."""
        self._cache.clear()
        self._dispatched.clear()
        self._awake, self._held_back = [], []
        for request in requests:
            if isinstance(request, Waited):
                self._held_back.append(request)
        try:
            self._take_over(self._ports.clock.now())
        except StoreError as error:
            log.error("the store is not available: %s", error)
            self._retry_at = self._renew_at = self._ports.clock.now() + RETRY_AFTER

    def _refused(self, requests: Sequence[Request], error: Exception, now: int) -> None:
        """Nothing could be committed: tell those who wait, keep what nobody would send again."""
        log.error("nothing was committed, trying again in %d ms: %s", RETRY_AFTER, error)
        for request in requests:
            if isinstance(request, Waited):
                request.reply.fail(error)
            elif isinstance(request, (TaskOutcome, Release)):
                self._held_back.append(request)
        self._letter = 0
        self._held_back.append(Nudge())
        self._retry_at = now + RETRY_AFTER
        self._renew_at = max(self._renew_at, self._retry_at)
        if self._next_wake is not None:
            self._next_wake = max(self._next_wake, self._retry_at)


class Batch:
    """What one call of `process` collects: deliveries, turns, and who waits for an answer."""

    def __init__(self) -> None:
        self.deliveries: dict[str, Delivery] = {}
        self.turns: dict[str, Turn] = {}
        self.starts: list[Start] = []
        self.questions: list[Ask] = []
        self.nudged = False

    def delivery(self, execution_id: str) -> Delivery:
        """What has arrived for the execution so far."""
        delivery = self.deliveries.get(execution_id)
        if delivery is None:
            delivery = self.deliveries[execution_id] = Delivery(execution_id)
        return delivery

    def answer(self, store: Store, inquiries: Inquiries) -> None:
        """Tell everybody who waits."""
        for start in self.starts:
            answer_start(start, self.turns.get(start.execution_id), store)
        for name, delivery in self.deliveries.items():
            for request in delivery.requests:
                if isinstance(request, (Post, Resume)):
                    answer_head(request, self.turns.get(name), store)
                elif isinstance(request, Update):
                    answer_update(request, self.turns.get(name), store, inquiries)


def _message(request: Post | Update | Release | TaskOutcome, now: int) -> Message:
    if isinstance(request, Post):
        return request.message
    if isinstance(request, Update):
        return events.UpdateRequested(now, request.update_id, request.name, request.arguments)
    seq, attempt = request.seq, request.attempt
    if isinstance(request, Release):
        return events.TaskReleased(now, seq, attempt)
    if request.failure is not None:
        return events.TaskFailed(now, seq, attempt, Failure.from_plain(request.failure))
    return events.TaskCompleted(now, seq, attempt, Payload(text=request.result))
