"""Make one turn of one execution: load it or take it from the cache, advance it, and return the commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, TypeVar

from mini_workflow.core import events, wire
from mini_workflow.core.awaited import is_of_task, recall
from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import SendMessage
from mini_workflow.core.decide import Decision, decide
from mini_workflow.core.events import Message
from mini_workflow.core.failure import Failure
from mini_workflow.core.records import replace
from mini_workflow.core.replay import repeat
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.core.run import Definition, Run
from mini_workflow.core.run_reset import is_fork
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.tasks import TaskFuture
from mini_workflow.core.wire import decode_message
from mini_workflow.engine.asking import Asking, queries_among, say, say_only
from mini_workflow.engine.cache import Cache, Live
from mini_workflow.engine.deletion import deletion_asked, deletion_turn
from mini_workflow.engine.executor import Execute, execute, inline_runner
from mini_workflow.engine.kept_turn import blocked_turn, kept_turn, termination
from mini_workflow.engine.outbox import family_messages, outbox
from mini_workflow.engine.requests import Start
from mini_workflow.engine.runs import (
    blocked,
    bounded,
    first_event,
    first_head,
    next_run,
    tagged,
    with_waits,
)
from mini_workflow.engine.turn_data import (
    OF_ONE,
    Delivery,
    Turn,
    closing_of,
    deadly,
    kinds_of,
    names_of_failed,
    parking,
    time_of,
    unhandled,
)
from mini_workflow.engine.unreported import LostAttempts, Unreported, ask_for_attempts
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import (
    DeterminismError,
    ExecutionPaused,
    UnknownWorkflow,
    WireError,
)
from mini_workflow.loop.running import Halt
from mini_workflow.ports import Commit, Head, Reader, Stored, reopened

log = logging.getLogger("mini_workflow.engine")

T = TypeVar("T")
P = ParamSpec("P")

RECORDED_LATE: Final = (events.SignalReceived, events.PromiseCompleted, events.PromiseFailed)
"""The messages that an execution takes also when it has closed: a retry needs them."""

DEADLY: Final = 4
"""The number of tries at which an execution is blocked. A process that has died in the middle of its turn
counts 1, one that hangs 2 (`Leases.note_turn`): four that die, or two that hang. Our own bound."""


class Turns:
    """Makes turns. `dispatched` tells whether this engine has dispatched an attempt and not heard of
    it. `limits` say by when attempts have to be reported, and `in_hand` is asked of one before it
    counts as lost: whether it is still being run.

    With a `refresh` each turn writes a head anyway, which then names a task that is awaited, too.

    While it is `draining`, attempts that were handed back are not begun again.
    """

    def __init__(
        self,
        *,
        store: Reader,
        cache: Cache,
        codec: Codec,
        definitions: Callable[[str], Definition],
        watchdog: Watchdog,
        dispatched: Callable[[tuple[str, int, int]], bool],
        draining: Callable[[], bool] = lambda: False,
        entropy: Callable[[], int],
        history_limit: int,
        execute: Execute = execute,
        note: Callable[[str | None], None] = lambda execution_id: None,
        limits: ReportLimits | None = None,
        in_hand: Callable[[tuple[str, int, int], str], bool] | None = None,
        refresh: Callable[[str], object] | None = None,
    ) -> None:
        self._unreported = Unreported(store, refresh or (lambda execution_id: None))
        self._note, self._tells = note, refresh is not None
        self._attempt_limits, self._in_hand = limits, in_hand
        self._store = store
        self._cache = cache
        self._codec = codec
        self._definitions = definitions
        self._watchdog = watchdog
        self._entropy = entropy
        self._limit = history_limit
        self._inline = inline_runner(codec, execute)
        self._lost = LostAttempts(codec, dispatched, draining)
        self._asking = Asking(store, codec, self.watched, self.look, self.let_go)
        cache.close = self.close

    def start(self, request: Start, now: int, *, first_seq: int) -> Turn:
        """Return the first turn of a new execution that somebody starts now; `first_seq` are the
        `Store.deleted_events` of its id. Raises UnknownWorkflow.
        """
        started = first_event(
            *(request.workflow, request.arguments, now, self._entropy()),
            *(None, "", request.timing, request.tags, request.headers, first_seq),
        )
        messages = () if request.message is None else (request.message,)
        return self.create(request.execution_id, started, request, messages)

    def create(
        self,
        execution_id: str,
        started: events.ExecutionStarted,
        start: Start | None,
        others: Sequence[Message] = (),
        now: int | None = None,
    ) -> Turn:
        """Return the first turn of a new execution, which was started `now` or before. Raises
        UnknownWorkflow.
        """
        run = self._begin(self._definitions(started.workflow), execution_id)
        head = first_head(execution_id, started)
        try:
            delivery = Delivery(execution_id, [started, *others])
            turn = self._advance(delivery, Live(run, head, 0), (), now or started.at)
        except BaseException:
            self.close(run)
            raise
        turn.start = start
        return turn

    def next(self, delivery: Delivery, now: int) -> Turn | None:
        """Return the turn that a delivery makes; None if nothing is to be done for the execution
        here: it does not exist, is not held here, or has closed and waits for nothing.
        """
        if not events.REQUESTS.isdisjoint(map(type, delivery.messages)):
            return self._requested(delivery, now)
        live = self._cache.get(delivery.execution_id)
        if live is not None:
            name, state = delivery.execution_id, live.run.state
            before = (
                self._lost.of(name, state, (), delivery.messages, now) if delivery.resume else ()
            )
            return self._advance(delivery, live, before, now)
        if (asked := self._asking.of_closed(delivery)) is not None:
            turn = self.next(delivery, now) if delivery.messages or delivery.resume else None
            if turn is None:
                return say_only(delivery, *asked)
            say(turn, asked[1])
            return turn
        ends = termination(delivery.messages) is not None
        if not delivery.due:  # what is due is not blocked, and has something to do
            head = self._store.head(delivery.execution_id)
            if head is None:
                return None
            if head.closed_at is not None and not (
                head.busy or head.wake_at is not None or delivery.entries or delivery.posted
            ):
                return None
            if head.status == "blocked" and not delivery.resume and not ends:
                # The delivery is only kept: that must not cost a read of the history.
                extent = self._store.extent(delivery.execution_id)
                if extent is None or not extent.held:
                    return None
                return kept_turn(delivery, Stored(head, [], []), head, extent.length)
        stored = self._store.load(delivery.execution_id)
        if stored is None or not stored.held:
            return None
        if (stored.head.status == "blocked" and not delivery.resume) or (
            ends and (stored.head.status == "blocked" or stored.tries)
        ):
            return kept_turn(delivery, stored, stored.head)
        if stored.tries >= DEADLY and not delivery.resume and stored.head.closed_at is None:
            return blocked_turn(delivery, stored, deadly(stored.tries))
        return self._cold(delivery, stored, now)

    def _requested(self, delivery: Delivery, now: int) -> Turn | None:
        """Return the turn of a delivery with requests about the execution as a whole. Other messages are for
        the execution after that.
        """
        head = self._store.head(delivery.execution_id)
        if head is None:
            return None
        if deletion_asked(delivery.messages, head):
            extent = self._store.extent(delivery.execution_id)
            if extent is None or not extent.held:
                return None
            self._drop(delivery.execution_id)
            asked = self._asking.of_closed(delivery)
            turn = deletion_turn(delivery, head, extent.length, now)
            turn.final_messages = () if asked is None else outbox(asked[1])
            return turn
        pauses = [m for m in delivery.messages if isinstance(m, events.PauseRequested)]
        resets = [m for m in delivery.messages if isinstance(m, events.ResetRequested)]
        others = [m for m in delivery.messages if type(m) not in events.REQUESTS]
        about = next((m for m in resets if head.closed_at and m.run in (0, head.run)), None)
        if about is None and (not pauses or head.closed_at is not None):
            delivery.messages = others
            return self.next(delivery, now)
        stored = self._store.load(delivery.execution_id)
        if stored is None or not stored.held:
            return None
        delivery.messages = others
        self._drop(delivery.execution_id)
        if about is None:
            return blocked_turn(delivery, stored, ExecutionPaused(pauses[-1].reason))
        from mini_workflow.engine.reset_turn import reset_turn

        turn = reset_turn(delivery, stored, about, self._entropy())
        if not turn.continues and (asked := self._asking.of_closed(delivery)) is not None:
            say(turn, asked[1])
        return turn

    def _drop(self, execution_id: str) -> None:
        """Forget what is in memory of an execution, as it is stored."""
        live = self._cache.get(execution_id)
        if live is not None:
            self._cache.drop(execution_id)
            self.close(live.run)

    def _begin(self, definition: Definition, execution_id: str) -> Run:
        """Return a new run, which knows by when its attempts have to be reported."""
        run = Run(definition, execution_id, self._codec, self._inline)
        run.state.execution_id = execution_id
        run.state.limits, run.state.in_hand = self._attempt_limits, self._in_hand
        return run

    def block(self, delivery: Delivery, reason: BaseException) -> Turn | None:
        """Keep what has arrived for an execution that cannot go on, without touching its code."""
        stored = self._store.load(delivery.execution_id)
        if stored is None or not stored.held:
            return None
        return blocked_turn(delivery, stored, reason)

    def _cold(self, delivery: Delivery, stored: Stored, now: int) -> Turn:
        head = reopened(stored.head) if stored.head.status == "blocked" else stored.head
        try:
            history = [wire.decode(line) for line in stored.events]
            parked = [decode_message(line) for line in stored.parked]
            definition = self._definitions(head.workflow)
            state = ExecutionState.of(history)
        except (WireError, UnknownWorkflow) as error:
            return blocked_turn(delivery, stored, error)
        run = self._begin(definition, head.execution_id)
        # A first event that stands alone was recorded, and its code has not run yet.
        fresh = [e for e in history if isinstance(e, events.ExecutionStarted)]
        fresh = fresh if len(history) == 1 else []
        try:
            if not fresh:
                self.watched(run, lambda: repeat(run, history))
                recall(run, head.waits)
            lost = self._lost.of(head.execution_id, state, parked, delivery.messages, now)
            if lost and stored.head.status != "blocked":
                log.info("[%s] attempts without a worker: %d", head.execution_id, len(lost))
            live = Live(run, stored.head, head.base + len(history), stored.tries)
            before: list[Message] = [*fresh, *parked, *lost]
            return self._advance(
                delivery, live, before, now, known=len(fresh), unpark=bool(parked), reopen=head
            )
        except BaseException:
            self.close(run)
            raise

    def watched(
        self, run: Run, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Call `work`, which runs code of the workflow; None if that was interrupted."""
        watchdog = self._watchdog
        try:
            watchdog.begin(run)
            try:
                try:
                    self._note(run.execution_id)
                    return work(*args, **kwargs)
                finally:
                    self._note(None)
            finally:
                watchdog.end()
        except (Halt, KeyboardInterrupt):
            # The interruption may have hit those calls on the way out.
            watchdog.end()
            self._note(None)
            if run.loop.fault is None:
                run.loop.fault = DeterminismError("the turn was interrupted")
            return None

    def close(self, run: Run) -> None:
        """Drop a run from memory. Its ``finally`` blocks run then: one that does not end is interrupted
        as a turn is.
        """
        if run.recorder.dead:
            return
        if run.loop.dead and not run.loop.tasks:
            run.close()  # its code has come to its end
            return
        fault, run.loop.fault = run.loop.fault, None
        self.watched(run, run.close)
        if run.loop.fault is not None:
            log.warning(
                "[%s] interrupted while it was dropped from memory: %s",
                run.execution_id,
                run.loop.fault,
            )
        run.loop.fault = fault

    def _advance(
        self,
        delivery: Delivery,
        live: Live,
        before: Sequence[Message],
        now: int,
        *,
        known: int = 0,
        unpark: bool = False,
        reopen: Head | None = None,
    ) -> Turn:
        run, head = live.run, live.head
        messages = (*before, *delivery.messages)
        if delivery.resume:
            ask_for_attempts(run.state)
            run.state.miss_no_heartbeat(now)
            run.summary = None
        arrived = [*map(type, messages)]
        names = names_of_failed(run, messages) if events.TaskFailed in arrived else None
        waits = run.main is None and not run.state.has_begun()
        decision = self.watched(run, decide, run, messages, now)
        if decision is None or decision.spoilt_by is not None:
            live, decision = self._decide_anew(live, decision, messages, now, fresh=bool(known))
            run = live.run
        stopped = decision.fault is not None or decision.cut
        if stopped and (end := termination(decision.left)) is not None:
            # Ending it takes none of the code that is at fault, or that still has far to go.
            final_messages = family_messages(run, end, decision.left)
            ended, written = (*decision.events, end), decision.chunks
            decision = Decision(ended, final_messages, "terminated", False, None, chunks=written)
        if known:
            # The first event is recorded already.
            decision = replace(decision, events=decision.events[known:])
        if delivery.resume and decision.condition == "running" and decision.fault is None:
            again = self._unreported.of(run, now)
            decision = replace(decision, commands=(*decision.commands, *again))
        if before and any(map(is_fork, before)) and any(map(is_fork, decision.events)):
            again = self._unreported.of_fork(run)
            decision = replace(decision, commands=(*decision.commands, *again))
        after = self._head_after(run, head, reopen, decision, now)
        taken, asks = decision.events, events.Asked in arrived
        queries, left = queries_among(messages, decision) if asks else ((), decision.left)
        continues = decision.condition == "continued" and decision.fault is None
        if continues:
            taken, after, left = next_run(run, decision, after, live.length, self._entropy())
            if (end := termination(left)) is not None:
                # The next run has not begun, and no code of it has to.
                final_messages = family_messages(run, end, left)
                taken = (*taken, end, *unhandled(left))
                continues, left = False, ()
                after = replace(after, status="terminated", closed_at=end.at, busy=False)
                decision = replace(
                    decision,
                    commands=(*decision.commands, *final_messages),
                    condition="terminated",
                    busy=False,
                )
        elif live.length + len(taken) - head.base >= self._limit // 2:
            after = bounded(after, live.length, live.length + len(taken), self._limit)
        has_ended = decision.condition != "running" and not continues
        closing = closing_of(taken) if has_ended else None
        # A resume that ends in the same block is written too: who waits looks for what is new.
        is_new = live.length == 0 or delivery.resume or after.status != head.status
        is_new = is_new or (after is not head and after != head)
        told = decision.commands
        kinds = OF_ONE[type(told[0])] if len(told) == 1 else kinds_of(told)
        park: tuple[str, ...] = ()
        if left or unpark or run.state.promises.changed:
            park, unpark = parking(run.state, after, left, unpark, ends=continues)
        commit = Commit(
            delivery.execution_id,
            live.length,
            tuple(map(wire.encode, taken)),
            after if is_new else None,
            park,
            unpark,
            tuple(delivery.entries),
            outbox(decision.commands) if SendMessage in kinds else (),
            0 if live.tries else None,
            decision.chunks,
            before=None if delivery.resume or reopen or live.tries else head,
        )
        turn = Turn(delivery, commit, after, live, decision, closing, None, continues)
        begins = bool(known) or waits or live.length == 0
        turn.first, turn.failed = begins and run.state.has_begun(), names
        turn.cut, turn.commands = decision.cut, kinds
        if queries:
            self._asking.answer_queries(turn, run, queries)
        return turn

    def _decide_anew(
        self,
        live: Live,
        decision: Decision | None,
        messages: tuple[Message, ...],
        now: int,
        *,
        fresh: bool,
    ) -> tuple[Live, Decision]:
        """Decide without the updates whose validators have spoilt the run, and say what counts of a turn
        that was interrupted.
        """
        refused: dict[str, Failure] = {}
        while decision is not None and decision.spoilt_by is not None:
            refused.update([decision.spoilt_by])
            live = self._anew(live, fresh=fresh)
            decision = self.watched(live.run, decide, live.run, messages, now, refused)
        if decision is None:
            # Interrupted between two steps: nothing of this turn counts. Only that the execution
            # was started does: none is without its first event.
            first = 1 if live.length == 0 else 0
            taken, left = messages[:first], messages[first:]
            fault = live.run.fault
            decision = Decision(taken, (), "running", False, None, fault, left)  # type: ignore[arg-type]
        return live, decision

    def _anew(self, live: Live, *, fresh: bool) -> Live:
        """Return the same execution as it is in the store; `fresh` if no code of it has run yet."""
        name = live.head.execution_id
        self._cache.drop(name)
        self.close(live.run)
        run = self._begin(self._definitions(live.head.workflow), name)
        stored = self._store.load(name) if live.length and not fresh else None
        if stored is not None:
            history = [wire.decode(line) for line in stored.events]
            self.watched(run, lambda: repeat(run, history))
        return Live(run, live.head, live.length)

    def committed(self, turn: Turn) -> None:
        """Keep the run of a turn that is committed in memory, if it goes on and nothing is amiss."""
        live, decision = turn.live, turn.decision
        if live is None or decision is None:
            return
        head = live.head = turn.head
        live.length += len(decision.events)
        live.tries = 0
        done = head.closed_at is not None and not decision.busy
        loop = live.run.loop
        if loop.fault or loop.touched or turn.continues or head.status == "blocked" or done:
            self.discard(turn)
        elif not live.run.recorder.dead:
            self._cache.put(live)

    def discard(self, turn: Turn) -> None:
        """Drop what is in memory of the execution: it is ahead of the store."""
        self._cache.drop(turn.delivery.execution_id)
        if turn.live is not None:
            self.close(turn.live.run)

    def look(self, execution_id: str) -> Run | None:
        """Return a run to answer queries, of an execution in whatever condition; None if there is
        none of that id. Unless it is the cached one, the caller must close it.
        """
        live = self._cache.get(execution_id)
        if live is not None:
            return live.run
        stored = self._store.load(execution_id)
        if stored is None:
            return None
        history = [wire.decode(line) for line in stored.events]
        # Without a runner of inline tasks: a query must not run what has not been recorded.
        run = Run(self._definitions(stored.head.workflow), execution_id, self._codec)
        self.watched(run, lambda: repeat(run, history))
        return run

    def let_go(self, run: Run | None) -> None:
        """Close a run that was only looked at, unless it is the cached one."""
        if run is not None:
            live = self._cache.get(run.execution_id)
            if live is None or live.run is not run:
                self.close(run)

    def _head_after(
        self, run: Run, head: Head, reopen: Head | None, decision: Decision, now: int
    ) -> Head:
        """Return the head after a turn: the same one if nothing in it has changed."""
        after = self._decided_head(reopen or head, decision, now)
        if events.TagsSet in map(type, decision.events):
            after = tagged(after, decision.events)
        # A step after another one says nothing new of what is awaited.
        is_step = type(getattr(run.main, "_fut_waiter", None)) is TaskFuture and is_of_task(
            head.waits
        )
        if not is_step or after is not head or self._tells or run.progress:
            after = with_waits(after, run, decision.events, always=self._tells or after is not head)
        return after

    def _decided_head(self, head: Head, decision: Decision, now: int) -> Head:
        fault, wake_at = decision.fault, decision.wake_at
        if fault is not None:
            if head.closed_at is not None:
                log.error("[%s] closed, but %s", head.execution_id, fault)
                return replace(head, busy=False, wake_at=None)
            return blocked(head, fault)
        if head.closed_at is None and decision.condition not in ("new", "running"):
            return replace(
                head,
                status=decision.condition,
                closed_at=time_of(decision.events, head.started_at),
                busy=decision.busy,
                wake_at=wake_at,
                waits="",
            )
        if decision.deadline and wake_at and head.wake_at and now < head.wake_at <= wake_at:
            # A wake-up for an earlier attempt will do: or each step would write a head.
            wake_at = head.wake_at
        if head.busy == decision.busy and head.wake_at == wake_at:
            return head
        return replace(head, busy=decision.busy, wake_at=wake_at)
