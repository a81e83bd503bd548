"""Orchestrator: makes turns of executions that a queue hands to one process after the other.

In contrast to an Engine it owns no executions: its memory of them may be stale, and the store fences it.
Messages arrive at least once, and come again until all effects of their turn are done. Tasks run elsewhere,
and go on when it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from mini_workflow.core import events, wire
from mini_workflow.core.children import is_child
from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import CancelTask, RunTask
from mini_workflow.core.records import replace
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.core.run import Definition, OutOfTime, Run
from mini_workflow.engine.cache import Cache
from mini_workflow.engine.children import StartCheck, number_behind_deleted
from mini_workflow.engine.delivery import (
    ConcurrentMap,
    OfAnotherVersion,
    QueueDelivery,
    QueueTurn,
    one_by_one,
)
from mini_workflow.engine.dispatch import request_of
from mini_workflow.engine.effects import (
    RESERVE,
    Effects,
    continuation,
    put_off,
    requests_of,
    together,
    waking_of,
)
from mini_workflow.engine.executor import AroundTask, execute
from mini_workflow.engine.operator_log import tell
from mini_workflow.engine.outbox import outbox_with_starts
from mini_workflow.engine.queries import FencedQueries
from mini_workflow.engine.runs import blocked, deadly, first_head
from mini_workflow.engine.turn import RECORDED_LATE, Delivery, Turn, Turns
from mini_workflow.engine.undelivered import warn_of_late_signals, warn_of_unreceived
from mini_workflow.engine.unreported import LateOutcomes
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import StoreError, StoreUnavailable, UsageError
from mini_workflow.ports import Clock, Commit, Head, QueuedMessage, TaskOutcome, TaskRequest
from mini_workflow.ports.queue import (
    NO_EFFECTS,
    NO_WAKEUPS,
    Dispatch,
    ExecutionMeta,
    FencedStore,
    PendingEffects,
)
from mini_workflow.ports.streams import NO_STREAMS, StreamStore

log = logging.getLogger("mini_workflow.engine")


RACES: Final = 5
"""How often a turn is done again because another writer was faster, before its messages go back to
the queue. Our own bound."""

SUSPICIOUS: Final = 2
"""The delivery of a message from which on each try is counted in the store, and executions take their turns
alone: their turn may end the process. Our own bound."""

TRIES: Final = 3
"""The number of counted tries after which the execution is blocked. Our own bound."""

GIVE_UP: Final = 40
"""The delivery of a message from which on an execution is blocked whose tasks cannot be dispatched.
Our own bound: with pauses that grow to 300 seconds about two hours, longer than most outages."""

RUNS_AT_ONCE: Final = 10
"""The number of runs of an execution that continue as new without waiting and follow each other, before its
other messages are taken. Our own bound."""

FROM_NOTHING: Final = ExecutionMeta(NO_EFFECTS, False, NO_WAKEUPS, 0, None, 0)
FOREVER: Final = 10**12
"""Milliseconds that are left to a process whose end is not known."""


class Orchestrator:
    """See the module's description. Not to be used by two threads at the same time."""

    def __init__(
        self,
        store: FencedStore,
        dispatch: Dispatch,
        clock: Clock,
        *,
        codec: Codec,
        definitions: Callable[[str], Definition],
        entropy: Callable[[], int],
        cache_size: int,
        turn_limit: float | None,
        history_limit: int,
        limits: ReportLimits,
        streams: StreamStore = NO_STREAMS,
        each: ConcurrentMap = one_by_one,
        on_turn: Callable[[Turn], None] | None = None,
        claim: Callable[[str], str] = lambda execution_id: "",
        around_task: AroundTask | None = None,
        behind: Callable[[str], bool] = lambda execution_id: False,
    ) -> None:
        self._store, self._dispatch, self._clock, self._each = store, dispatch, clock, each
        self._on_turn, self._claim, self._around_task = on_turn, claim, around_task
        self._entropy = entropy
        self._left: Callable[[], int] = lambda: FOREVER
        self._ready: Callable[[], None] = lambda: None
        self._longest: int | None = None
        self._effects = Effects(dispatch, clock, streams, behind)
        self._cache = Cache(cache_size)
        self._watchdog = Watchdog(turn_limit)
        self._turns = Turns(
            store=store,
            cache=self._cache,
            codec=codec,
            definitions=definitions,
            watchdog=self._watchdog,
            # Attempts run elsewhere, and are heard of if they are lost, or else count as lost at
            # their deadlines.
            dispatched=lambda key: True,
            entropy=entropy,
            history_limit=history_limit,
            limits=limits,
            refresh=store.is_current,
            execute=self._execute,
        )
        self._late = LateOutcomes(store, self._cache, dispatch, limits)
        self._start_check = StartCheck(dispatch, codec, definitions)
        self.queries = FencedQueries(store, self._turns, self._cache, self._watchdog)
        """Answers direct queries of executions."""

    def close(self) -> None:
        """Forget everything in memory."""
        self._cache.clear()
        self._watchdog.close()

    def evict(self) -> None:
        """Drop all live executions from memory; the next event of each replays it."""
        self._cache.clear()

    def has_live(self, name: str) -> bool:
        """Return whether the code of an execution waits in memory for its next event."""
        return self._cache.has_running(name)

    # Deliveries of a queue

    def take(
        self,
        arrivals: Sequence[QueueDelivery],
        left: Callable[[], int] = lambda: FOREVER,
        ready: Callable[[], None] = lambda: None,
        alone: Callable[[str], None] = lambda name: None,
    ) -> dict[str, Exception]:
        """Make the turns of several executions, and do their effects. Returns the executions whose
        messages must be delivered again, with the errors; never raises.

        `left` returns how many milliseconds this process may still run. Effects that take longer go on in
        a message that the execution sends itself. `ready` is called, and waits, before any code of a workflow
        runs, and `alone` is called with an execution whose turn comes next and may end the process.
        """
        self._left, self._ready = left, ready
        failed: dict[str, Exception] = {}
        if any(arrival.delivery >= SUSPICIOUS for arrival in arrivals):
            # One of them may end the process: the others take their turns before or after.
            for arrival in arrivals:
                if len(arrivals) > 1:
                    alone(arrival.execution_id)
                self._take([arrival], failed)
        else:
            self._take(arrivals, failed)
        return failed

    def _take(self, arrivals: Sequence[QueueDelivery], failed: dict[str, Exception]) -> None:
        works = [QueueTurn(a, list(a.messages), a.resume) for a in arrivals]
        while works:
            works = self._stage(self._prepare, works, failed)
            turned: list[QueueTurn] = []
            self._ready()
            for work in works:
                try:
                    self._advance(work)
                    turned.append(work)
                except Exception as error:
                    self._fail(work, error, failed)
            committed = self._stage(self._commit, turned, failed)
            again = [work for work in committed if work.again]
            finished = [work for work in committed if not work.again]
            for work in finished:
                if work.turn is not None:
                    self._turns.committed(work.turn)
                    if self._on_turn is not None:
                        self._on_turn(work.turn)
                    tell(work.turn)
                    warn_of_late_signals(work.turn)
            done = self._stage(self._carry_out, finished, failed)
            again += [
                QueueTurn(work.arrival, [], False, runs=work.runs + 1)
                for work in done
                if work.turn is not None and work.turn.continues and work.runs < RUNS_AT_ONCE
            ]
            works = again

    def _stage(
        self,
        step: Callable[[QueueTurn], None],
        works: list[QueueTurn],
        failed: dict[str, Exception],
    ) -> list[QueueTurn]:
        """Do a step for all, and return those for which it has gone well."""

        def attempt(work: QueueTurn) -> Exception | None:
            try:
                step(work)
            except Exception as error:
                return error
            return None

        well: list[QueueTurn] = []
        for work, error in zip(works, self._each(attempt, works), strict=True):
            if error is None:
                well.append(work)
            else:
                self._fail(work, error, failed)
        return well

    def _fail(self, work: QueueTurn, error: Exception, failed: dict[str, Exception]) -> None:
        failed[work.name] = error
        if work.turn is not None:
            self._turns.discard(work.turn)
        if isinstance(error, OfAnotherVersion):
            log.debug("[%s] is handed over: %s", work.name, error)
        elif isinstance(error, StoreError):
            log.warning("[%s] will be tried again: %s", work.name, error)
            self._uncount(work)
        else:
            # A fault of the library: the others go on.
            log.error("[%s] the orchestrator failed; trying again", work.name, exc_info=error)
        self._cache.drop(work.name)
        self._store.forget(work.name)

    def _prepare(self, work: QueueTurn) -> None:
        """Read the bookkeeping of an execution, and begin one that is to be started here."""
        meta = self._store.meta(work.name)
        work.remark = "" if meta is None else self._claim(work.name)
        if meta is None:
            number_behind_deleted(self._store, work.name, work.messages, self._clock.now())
        started = next((m for m in work.messages if isinstance(m, events.ExecutionStarted)), None)
        work.started = None
        if meta is None and started is not None:
            known = self._start_check.knows(work.name, started)
            if not known and is_child(started):
                work.messages[:] = [m for m in work.messages if type(m) is events.Asked]
                return
            if known and is_child(started) and work.arrival.delivery < SUSPICIOUS:
                work.started = started
            else:
                # Without a turn: a client may write the same at this moment, or the execution has
                # to be blocked, or the tries of its turn to be counted.
                head = first_head(work.name, started)
                commit = Commit(work.name, 0, (wire.encode(started),), head)
                fingerprint = started.arguments.fingerprint()
                self._store.create(commit, started.parent, fingerprint, NO_EFFECTS, NO_WAKEUPS)
                meta = self._store.meta(work.name)
        if started is not None and meta is not None:
            work.messages.remove(started)
            self._start_check.check(work.name, started, meta)
        work.meta, work.version = meta, 0 if meta is None else meta.version

    def _advance(self, work: QueueTurn) -> None:
        """Make the turn, and plan its effects."""
        work.again, self._longest = False, None
        name, meta = work.name, work.meta
        if meta is None:
            self._first(work)
            return
        self._cache.drop_unless(name, meta.length)
        now = self._clock.now()
        head = self._store.head(name)
        error: BaseException | None = None
        if work.arrival.delivery >= SUSPICIOUS and head is not None and head.closed_at is None:
            meta = self._counted(work, meta)
            error = deadly(meta.tries - 1) if meta.tries > TRIES else None
        if error is None:
            error = self._make_sure(work, meta, head)
        else:
            work.owed = put_off(work.pending_effects(meta))
        messages = [*work.kept, *work.messages]
        due = head is not None and head.wake_at is not None and head.wake_at <= now
        if due or work.resume:
            deadline = meta.wakeup.deadline
            if error is None and (work.resume or (deadline is not None and deadline.at <= now)):
                messages += self._late.find(name, now)
            messages.append(events.Tick(now))
        signalled = any(isinstance(m, RECORDED_LATE) for m in messages)
        delivery = Delivery(name, messages, resume=work.resume and error is None, posted=signalled)
        if error is None:
            try:
                work.turn = self._turns.next(delivery, now)
            except StoreError:
                raise
            except (Exception, KeyboardInterrupt) as problem:
                # An error of one execution must not stop the others.
                log.exception("[%s] the turn failed", name)
                error = problem
        if error is not None:
            self._cache.drop(name)
            delivery.resume = False
            work.turn = self._turns.block(delivery, error)
        if head is not None and head.closed_at is not None:
            warn_of_unreceived(name, work.messages, head)
        work.add_remark()
        if not work.deletes:
            self._plan(work, meta, now)

    def _first(self, work: QueueTurn) -> None:
        """Make the first turn of a new execution."""
        started = work.started
        if started is None:
            self._start_check.turn_away(work.name, work.messages)
            return
        now, others = self._clock.now(), [m for m in work.messages if m is not started]
        work.turn = self._turns.create(work.name, started, None, others, now)
        self._plan(work, FROM_NOTHING, now)

    def _make_sure(
        self, work: QueueTurn, meta: ExecutionMeta, head: Head | None
    ) -> BaseException | None:
        """Do the effects of the last commit if they may not have been done. Returns the error by which the
        execution has to be blocked, or None.

        The queue hands over the messages of an execution in order, and brings no new ones before the
        messages of the last turn are finished.
        """
        name, pending = work.name, work.pending_effects(meta)
        if work.resume and pending.tasks:
            pending = work.take_outcomes(self._late.outcomes(name, pending.tasks), pending)
        if not pending:
            self._store.done(name, work.version)
            return None
        blocked_now = head is not None and head.status == "blocked"
        if blocked_now and not work.resume:
            work.owed = put_off(pending)
            return None
        run: Run | None = None
        try:
            run = self._turns.look(name) if pending.tasks else None
            # That an inline task comes next is no fault of the code: it has not been run yet.
            if run is not None and run.fault is not None and type(run.fault) is not UsageError:
                # Its code has to be fixed first: this turn blocks the execution.
                work.owed = put_off(pending)
                return None
            undone = self._effects.do(
                name,
                pending,
                meta.wakeup.all(),
                requests_of(name, pending, run),
                self._left,
                lambda left, goes_on: self._note(work, left, goes_on),
            )
        except StoreError as error:
            if work.arrival.delivery < GIVE_UP:
                raise
            log.error("[%s] is blocked: %s", name, error)
            work.owed = put_off(pending)
            return error
        except Exception as error:
            work.owed = put_off(pending)
            return error
        finally:
            self._turns.let_go(run)
        if undone.left or undone.held:
            return work.note_undone(undone, closed=head is None or head.closed_at is not None)
        self._store.done(name, work.version)
        self._effects.done(name)
        return None

    def _note(self, work: QueueTurn, left: PendingEffects, goes_on: bool) -> None:
        """Write the effects that are left after a wave.

        If this process ends, the next one goes on from here; and the count of tries begins at 0, since the
        turn has come so far.
        """
        left = left if goes_on else put_off(left)
        self._rewrite(work, self._store.meta(work.name), left, 0)

    def _rewrite(
        self, work: QueueTurn, known: ExecutionMeta | None, pending: PendingEffects, tries: int
    ) -> None:
        """Write the bookkeeping of an execution, without an event. Raises StoreUnavailable."""
        name = work.name
        if known is None or not self._store.commit(
            Commit(name, known.length), pending, known.wakeup, tries, work.version
        ):
            raise StoreUnavailable(f"execution {name!r} is written by another process")
        work.version += 1

    def _counted(self, work: QueueTurn, meta: ExecutionMeta) -> ExecutionMeta:
        """Count a try, before any step that may end the process."""
        pending, tries = work.pending_effects(meta), meta.tries + 1
        self._rewrite(work, meta, pending, tries)
        work.meta = replace(meta, pending=pending, done=False, tries=tries)
        return work.meta

    def _uncount(self, work: QueueTurn) -> None:
        """Take back that a try was counted: this process lives."""
        if work.arrival.delivery < SUSPICIOUS:
            return
        try:
            meta = self._store.meta(work.name)
            if meta is not None and meta.tries:
                work.version = meta.version  # whether a write that failed was done or not
                self._rewrite(work, meta, meta.pending, meta.tries - 1)
        except StoreError as error:
            log.warning("[%s] a counted try cannot be taken back: %s", work.name, error)

    def _execute(self, request: TaskRequest, codec: Codec) -> TaskOutcome:
        """Run an inline task, if it is the first of its turn or there is time for another one."""
        longest = self._longest
        if longest is not None and self._left() < RESERVE + longest:
            raise OutOfTime("the turn has lasted as long as the function may run")
        before = self._left()
        outcome = execute(request, codec, around=self._around_task)
        self._longest = max(longest or 0, before - self._left())
        return outcome

    def _plan(self, work: QueueTurn, meta: ExecutionMeta, now: int) -> None:
        turn, commands = work.turn, work.commands
        head = turn.head if turn is not None else self._store.head(work.name)
        tasks = tuple((c.seq, c.attempt) for c in commands if isinstance(c, RunTask))
        messages = outbox_with_starts(work.name, commands, now, self._entropy)
        if turn is not None and turn.decision is None:
            messages += turn.commit.outbox
        at = None if head is None else head.wake_at
        if turn is not None and turn.continues and work.runs >= RUNS_AT_ONCE:
            at = now  # behind the messages that have arrived meanwhile
        needed = None if at is None else self._dispatch.wakeup(work.name, at, now)
        decision, woken = None if turn is None else turn.decision, work.arrival.woken
        work.plan_wakeup = waking_of(head, decision, meta.wakeup, needed, woken, now)
        to_set = work.plan_wakeup.to_set is not None
        new = PendingEffects(tasks, tuple(messages), to_set, work.arrival.ids, chunks=work.chunks)
        work.pending = together(work.owed, new)

    def _commit(self, work: QueueTurn) -> None:
        turn, meta, started = work.turn, work.meta, work.started
        if turn is not None and turn.commit.deleted_at is not None:
            self._dispatch.post((*work.held, *turn.final_messages))
            if not self._store.delete(work.name, turn.commit.deleted_at, work.version):
                self._lose_race(work)
            return
        wakeup, pending = work.plan_wakeup.wakeup, work.pending
        if meta is None:
            if turn is None or started is None:
                return
            fingerprint = started.arguments.fingerprint()
            if not self._store.create(turn.commit, started.parent, fingerprint, pending, wakeup):
                self._lose_race(work)
            work.version = 1
            return
        commit = turn.commit if turn is not None else Commit(work.name, meta.length)
        empty = not (commit.events or commit.head or commit.park or commit.unpark or commit.chunks)
        if empty and not (pending.tasks or pending.outbox or work.owed or wakeup != meta.wakeup):
            # The same wake-up is set again before this message is finished.
            pending = NO_EFFECTS
        # Effects that are done but unconfirmed would be done again by the next reader.
        same = not (pending or meta.pending.unconfirmed) and wakeup == meta.wakeup
        if same and turn is None:
            return  # it has closed, and nothing is left to write
        if same and empty and meta.listed and not meta.tries:
            known = self._store.meta(work.name) if self._store.is_current(work.name) else None
            now = (commit.expected, work.version)
            written = known is not None and (known.length, known.version) == now
        else:
            written = self._store.commit(commit, pending, wakeup, 0, work.version)
            work.version += 1
        if not written:
            self._lose_race(work)

    def _lose_race(self, work: QueueTurn) -> None:
        """Have the turn done again: another writer was faster. Raises StoreUnavailable after RACES times."""
        if work.turn is not None:
            self._turns.discard(work.turn)
        self._cache.drop(work.name)
        work.races += 1
        if work.races > RACES:
            raise StoreUnavailable(f"execution {work.name!r} is written by others all the time")
        work.turn, work.again, work.owed, work.held = None, True, NO_EFFECTS, ()

    def _carry_out(self, work: QueueTurn) -> None:
        if work.deletes or (work.meta is None and work.turn is None):
            return
        name, commands, owed = work.name, work.commands, work.owed
        try:
            if not work.unfinished:
                requests = [request_of(name, c) for c in commands if isinstance(c, RunTask)]
                to_set = work.plan_wakeup.to_set
                undone = self._effects.do(
                    name,
                    work.new_effects,
                    () if to_set is None else (to_set,),
                    requests,
                    self._left,
                    lambda left, goes_on: self._note(work, together(owed, left), goes_on),
                    work.held,
                )
                work.unfinished = bool(undone.left)
                if (work.held or undone.held) and not work.unfinished:
                    self._hold(work, undone.held)
            if work.unfinished or (work.turn is not None and work.turn.cut):
                self._dispatch.post((continuation(name, self._store.meta(name)),))
        except StoreError as error:
            if work.arrival.delivery < GIVE_UP or not self._give_up(work, error):
                raise
            return
        for command in commands:
            if isinstance(command, CancelTask):
                self._dispatch.cancel(name, command.seq, command.reason)
        for wakeup in work.plan_wakeup.to_unset:
            self._dispatch.unset(wakeup)
        if not work.owed and not work.unfinished and not work.held:
            self._store.done(name, work.version)
            self._effects.done(name)

    def _hold(self, work: QueueTurn, held: tuple[QueuedMessage, ...]) -> None:
        """Write the effects that are left, and have the held messages tried again later."""
        if work.new_effects:
            self._note(work, together(work.owed, PendingEffects(outbox=held)), goes_on=False)
        work.held = (*work.held, *held)
        self._effects.wake(work.name, work.arrival.woken)

    def _give_up(self, work: QueueTurn, error: StoreError) -> bool:
        """Block an execution whose effects cannot be done; `resume` tries again."""
        head, meta = self._store.head(work.name), self._store.meta(work.name)
        if head is None or meta is None or head.closed_at is not None:
            return False
        log.error("[%s] is blocked: %s", work.name, error)
        commit = Commit(work.name, meta.length, head=blocked(head, error))
        self._cache.drop(work.name)
        return self._store.commit(commit, put_off(meta.pending), meta.wakeup, 0, work.version)
