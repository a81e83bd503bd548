"""Engine: turns requests into committed turns, many executions to one commit.

Without a thread, a clock or a loop of its own: `process` takes what has arrived, and
what the time brings, commits it in one step, and only then dispatches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from mini_workflow.core.codec import Codec
from mini_workflow.core.commands import CancelTask, RunTask
from mini_workflow.engine import clock_steps
from mini_workflow.engine.batch import AT_ONCE, Batch, brings_a_message, message_of
from mini_workflow.engine.cache import Cache
from mini_workflow.engine.clock_steps import ClockSteps
from mini_workflow.engine.deletion import Cleanup
from mini_workflow.engine.dispatch import Dispatcher
from mini_workflow.engine.engine_parts import EngineParts
from mini_workflow.engine.executor import Execute, execute
from mini_workflow.engine.group_commit import GroupCommit
from mini_workflow.engine.operator_log import tell
from mini_workflow.engine.pending_updates import ANSWERS, PendingUpdates
from mini_workflow.engine.replies import blocked, closed, restart_of
from mini_workflow.engine.requests import (
    Ask,
    Input,
    Release,
    Resume,
    Start,
    Update,
    Waited,
    WakeUp,
)
from mini_workflow.engine.share_commit import ShareCommit, may_divide
from mini_workflow.engine.takeover import Ports, Takeover
from mini_workflow.engine.turn_data import Delivery, Turn
from mini_workflow.engine.undelivered import warn_of_late_signals, warn_of_nobody
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import LeaseLost, MiniWorkflowError, RuntimeClosed, StoreError
from mini_workflow.loop.running import hold_hooks, release_hooks
from mini_workflow.ports import Found, Report, TaskOutcome, TaskRunner

if TYPE_CHECKING:
    from mini_workflow.core.run import Definition

log = logging.getLogger("mini_workflow.engine")

DEFAULT_HISTORY_LIMIT: Final = 200_000
"""Events after which a run must have continued as new: what a replay does in a second or two. Our
own bound."""

RETRY_AFTER: Final = 1_000
"""Milliseconds to wait before what a failing store refused is tried again."""

Closed = Callable[[Turn], None]
"""Told of every turn that has closed or blocked its execution, after its commit."""

_OPENINGS: Final = 5
"""How often an opening begins anew that was paused for longer than its lease each time."""


class Engine:
    """See the module's description. One thread at a time calls its methods; it may be another one each
    time.
    """

    def __init__(
        self,
        ports: Ports,
        *,
        codec: Codec,
        definitions: Callable[[str], Definition],
        known: Callable[[], Iterable[str]],
        entropy: Callable[[], int],
        on_close: Closed,
        report: Report,
        notify_peers: Callable[[], None] = lambda: None,
        on_chunks: Callable[[str], None] = lambda execution_id: None,
        on_change: Callable[[str], None] = lambda execution_id: None,
        cache_size: int = 4096,
        turn_limit: float | None = 10.0,
        history_limit: int = DEFAULT_HISTORY_LIMIT,
        execute_inline: Execute = execute,
        retention: int | None = None,
        drops_runs: bool = False,
        on_turn: Callable[[Turn], None] | None = None,
    ) -> None:
        self._ports = ports
        self._on_close, self._on_chunks, self._on_turn = on_close, on_chunks, on_turn
        self._on_change = on_change
        self._dispatcher = Dispatcher(self._again, report, ports.clock)
        self._cache, self._watchdog = Cache(cache_size), Watchdog(turn_limit)
        self._parts = EngineParts(
            *(ports, codec, definitions, entropy, self._dispatcher, self._cache, self._watchdog),
            history_limit=history_limit,
            execute=execute_inline,
        )
        self._takeover = Takeover(ports, known=known, notify_peers=notify_peers)
        self._group_commit = GroupCommit(ports, self._parts, self._dispatcher, self._cache)
        self._share_commit = ShareCommit(
            self._group_commit, ports.store, self._make, self._settle, self._discard
        )
        self.counts, self.closed_here = self._group_commit.counts, self._group_commit.closed_here
        self._pending_updates = PendingUpdates()
        self._notify_peers = notify_peers
        self._clock_steps = ClockSteps()
        self._cleanup = Cleanup(ports.store, retention, drops_runs=drops_runs)
        self._next_wake: int | None = None
        self._renew_at = 0
        self._held_back: list[Input] = []
        self._retry_at: int | None = None
        self._mailbox_due = False
        """Whether this engine has posted messages itself, which may be for its own executions."""
        self._awake: dict[str, bool] = {}
        """The executions that get a turn without a message, and whether they are to be resumed."""
        self._now = 0
        self._disown = False
        """Whether attempts are in hand whose executions another process may have by now."""
        self.interrupted = False
        """Whether no turn may be committed any more: the turns were interrupted from outside."""

    # Any thread

    def runs(self, execution_id: str) -> bool:
        """Return whether the execution is in memory, and no end of it was committed here: callers that wait
        for it already will be told of its end.
        """
        return self._cache.has_running(execution_id)

    # Life

    def open(self, runner: TaskRunner) -> None:
        """Take over the executions that nobody runs, and continue them. Raises StoreError."""
        self._dispatcher.use(runner)
        for _ in range(_OPENINGS - 1):
            try:
                self._take_over()
            except LeaseLost as error:
                # Paused between two steps of the opening for longer than its lease.
                log.warning("the opening begins anew after a pause: %s", error)
            else:
                return
        self._take_over()

    def drain(self) -> None:
        """Dispatch no attempt any more; attempts that would have begun are handed back to the store."""
        self._dispatcher.drain()

    def close(self) -> None:
        """Forget everything in memory; the stored executions stay for the next engine."""
        error = RuntimeClosed("the runtime was closed meanwhile; open a new one")
        for request in self._held_back:
            if isinstance(request, Waited):
                request.reply.fail(error)
        self._pending_updates.fail_all(error)
        self._cache.clear()
        self._watchdog.close()

    def hangs(self) -> str | None:
        """Return the execution whose turn cannot be interrupted, or None. Any thread."""
        return self._watchdog.hangs()

    @property
    def in_flight(self) -> int:
        """The number of attempts that were dispatched and not reported yet."""
        return len(self._dispatcher)

    @property
    def idle(self) -> bool:
        """Whether none of these attempts runs any more."""
        return self._dispatcher.idle

    @property
    def awaited(self) -> bool:
        """Whether a caller waits for the answer to an update."""
        return bool(self._pending_updates)

    @property
    def unsettled(self) -> bool:
        """Whether requests are kept whose time has come."""
        return self._retry_at is not None and self._retry_at <= self._ports.clock.now()

    @property
    def retry_at(self) -> int | None:
        """The time (milliseconds) at which kept requests are tried again, or None."""
        return self._retry_at

    def resumes(self, execution_id: str) -> bool:
        """Return whether the engine will resume the execution by itself, at its next call."""
        return self._awake.get(execution_id, False)

    @property
    def waiting(self) -> int:
        """The number of requests that are kept for the next call."""
        return len(self._held_back)

    def deadline(self) -> int:
        """Return when `process` wants to be called at the latest (milliseconds)."""
        first = min(self._renew_at, self._cleanup.due, self._dispatcher.retry_at)
        wake, retry = self._next_wake, self._retry_at
        first = first if wake is None else min(first, wake)
        return retry if retry is not None and retry < first else first

    def evict(self) -> None:
        """Drop all live executions from memory; the next event of each replays it."""
        self._cache.clear()

    # Work

    def process(self, requests: Sequence[Input]) -> None:
        """Take requests, and executions that are due, in one commit.

        Does not raise errors of the store: requests that it refuses are answered with the error, or kept and
        tried again if no caller would send them a second time.
        """
        now = self._look_at_clock()
        if self._retry_at is not None and now >= self._retry_at:
            requests = [*self._held_back, *requests]
            self._held_back, self._retry_at = [], None
        left = list(requests)
        if now >= self._dispatcher.retry_at:
            self._dispatcher.retry()
        try:
            if now >= self._renew_at:
                self._renew_at = self._ports.leases.renew(now)
                left.append(WakeUp())
            if self._ports.begin_commit and may_divide(left) and not self._has_more_to_do(now):
                self._share_commit.process(left, now)
            else:
                batch = self._make(left, now)
                try:
                    answers = self._group_commit.commit(batch, now)
                except BaseException:
                    self._discard(batch)
                    raise
                self._settle(batch, answers, now)
                left.clear()
            if now >= self._cleanup.due:
                self._cleanup.sweep(now, busy=bool(requests) or self._dispatcher.draining)
        except LeaseLost as error:
            log.warning("the lease was lost; executions are taken over anew: %s", error)
            self._start_anew(left)
        except StoreError as error:
            self._refused(left, error, now)
        except Exception as error:
            # A fault of the library: callers that wait must hear of it, and the others go on.
            log.exception("the engine failed at some requests, and goes on with the others")
            self._cache.clear()
            self._refused(left, error, now)

    def _look_at_clock(self) -> int:
        now, steps = self._ports.clock.now(), self._clock_steps
        self._now, before = now, steps.now
        if 0 <= now - before <= clock_steps.STEADY:
            steps.now = now
        elif steps.look(now):
            # It was set back: times that were planned by it would come too late.
            self._renew_at = now
            self._retry_at = None if self._retry_at is None else now
        return now

    def _has_more_to_do(self, now: int) -> bool:
        """Return whether executions get a turn that the requests are not about."""
        waits = self._awake or self._mailbox_due or self._clock_steps.to_tell
        is_due = self._next_wake is not None and self._next_wake <= now
        return bool(waits) or is_due or now >= self._cleanup.due

    def _make(
        self, requests: Sequence[Input], now: int, found: Mapping[str, Found] | None = None
    ) -> Batch:
        """Return a batch with the turns of the requests, and of what else is to be done, unless they are a
        share of many, whose starts have `found` something.
        """
        batch, shared = Batch(requests, self._ports.store, found), found is not None
        # While this engine ends, executions that go on by themselves are left to the next one.
        if self._awake and not (shared or self._dispatcher.draining):
            batch.awake = dict(islice(self._awake.items(), AT_ONCE))
        for name in batch.awake:
            batch.delivery(name).resume = self._awake.pop(name)
        hooks = hold_hooks() if len(requests) > 1 else None
        try:
            # Messages in the mailbox were sent before those that arrive now, perhaps by the same sender.
            kinds = frozenset(map(type, requests))
            brought = not kinds <= {TaskOutcome} and any(map(brings_a_message, requests))
            if WakeUp in kinds:
                self._mailbox_due = self._look_around(batch)
            elif not shared and (self._mailbox_due or brought):
                self._mailbox_due = self._takeover.read(batch)
            for request in requests:
                if isinstance(request, TaskOutcome):
                    batch.take_outcome(request, now)
                else:
                    self._take(request, batch, now)
            if not shared:
                self._take_due(batch, now)
            for delivery in batch.deliveries.values():
                self._advance(delivery, batch, now)
            if self.interrupted:
                raise KeyboardInterrupt
        except BaseException:
            self._discard(batch)
            raise
        finally:
            if hooks is not None:
                release_hooks(hooks)
        return batch

    def _discard(self, batch: Batch) -> None:
        """Forget the turns of a batch that was not committed."""
        for turn in batch.turns.values():
            self._parts.turns.discard(turn)
        self._awake = {**batch.awake, **self._awake}

    def _take_due(self, batch: Batch, now: int) -> None:
        """Add the executions that are due, and those that the retention deletes."""
        if self._next_wake is not None and self._next_wake <= now:
            for name in self._ports.agenda.due(now, AT_ONCE):
                batch.delivery(name).due = True
        if self._dispatcher.draining:
            return
        if now >= self._cleanup.due:
            for name, request in self._cleanup.expired(now):
                batch.delivery(name).messages.append(request)
        for name in islice(self._clock_steps.to_tell, AT_ONCE):
            batch.delivery(name)

    def _settle(self, batch: Batch, answers: Sequence[bool], now: int) -> None:
        # It is committed: if anything fails from here on, no caller may be told that it was refused.
        for turn, committed in zip(list(batch.turns.values()), answers, strict=True):
            if committed and turn.commit.deleted_at is not None:
                self._deleted(turn, batch)
            elif committed:
                self._committed(turn)
            else:
                self._lost_race(turn, batch)
        if self._next_wake is not None and self._next_wake <= now:
            try:
                self._next_wake = self._ports.agenda.next_wake()
            except StoreError as error:
                log.error("the next wake-up could not be read, and is read again: %s", error)
        more = self._awake or self._mailbox_due or self._clock_steps.to_tell
        if batch.again or (more and not self._dispatcher.draining):
            self._again(*batch.again)
        if batch.is_asked:
            batch.answer(self._ports.store, self._pending_updates)
        for query in batch.queries:
            self._parts.queries.answer(query)

    def _take(self, request: Waited | Release | WakeUp, batch: Batch, now: int) -> None:
        batch.is_asked = True
        if isinstance(request, Start):
            self._start(request, batch, now)
            return
        if isinstance(request, Ask):
            batch.queries.append(request)
        if isinstance(request, (Ask, WakeUp)):  # the engine has looked around for a wake-up before
            return
        delivery = batch.delivery_of(request)
        if delivery is None:
            return
        if brings_a_message(request) and self._takeover.is_behind(request.execution_id):
            batch.again.append(request)
            return
        delivery.requests.append(request)
        if isinstance(request, Resume):
            delivery.ask_to_resume()
        elif not (isinstance(request, Update) and request.known):
            delivery.messages.append(message_of(request, now))

    def _start(self, request: Start, batch: Batch, now: int) -> None:
        name = request.execution_id
        if request.message is not None and name in batch.turns:
            batch.again.append(request)  # it is found once that is committed
            return
        head, deleted = batch.found_of(request)
        if name in batch.turns or head is not None:
            if head is not None and (again := restart_of(request, head, now)) is not None:
                batch.delivery(name).messages.append(again)
            batch.starts.append(request)
            if request.message is not None and head and head.workflow == request.workflow:
                batch.delivery(name).messages.append(request.message)
            return
        if name in batch.deliveries:
            # Requests before the start were for no execution, and have to be answered so.
            batch.again.append(request)
            return
        if batch.has_fork(request):
            return
        try:
            turn = self._parts.turns.start(request, now, first_seq=deleted)
        except Exception as error:
            if not isinstance(error, MiniWorkflowError):
                log.exception("[%s] the start failed", name)
            request.reply.fail(error)
        else:
            batch.turns[name] = turn
            batch.starts.append(request)

    def _advance(self, delivery: Delivery, batch: Batch, now: int) -> None:
        name, steps = delivery.execution_id, self._clock_steps
        if delivery.due or name in steps.to_tell:
            delivery.messages.append(steps.tick(name))
        try:
            turn = self._parts.turns.next(delivery, now)
        except (Exception, KeyboardInterrupt) as error:
            self._cache.drop(name)  # what is in memory may be ahead of the store
            if isinstance(error, StoreError):
                raise
            # An error of one execution must not stop the others.
            log.exception("[%s] the turn failed", name)
            turn = self._parts.turns.block(delivery, error)
        if turn is None:
            # The other owner has counted these attempts as lost when it took over.
            self._dispatcher.acknowledge(name, delivery.messages)
            self._takeover.forward(delivery)
            steps.forget(name)
        else:
            batch.turns[name] = turn

    def _committed(self, turn: Turn) -> None:
        decision, head = turn.decision, turn.head
        name, steps = head.execution_id, self._clock_steps
        if head.wake_at is not None or name in steps.turns or steps.to_tell:
            steps.committed(head)
        if decision is not None:
            self._parts.turns.committed(turn)
        self._dispatcher.acknowledge(name, turn.delivery.messages)
        if decision is not None:
            for command in decision.commands:
                if isinstance(command, RunTask):
                    self._dispatcher.begin(name, command)
                elif isinstance(command, CancelTask):
                    self._dispatcher.give_up(name, command.seq, command.reason)
            if decision.refusals or not ANSWERS.isdisjoint(map(type, decision.events)):
                if not self._pending_updates.answer(name, decision):
                    self._notify_peers()  # a caller of another process may wait for the answer
                self._on_change(name)
        if head.wake_at is not None and (self._next_wake is None or head.wake_at < self._next_wake):
            self._next_wake = head.wake_at
        if (
            head.status != "running"
            or turn.first
            or turn.failed
            or turn.continues
            or turn.commit.outbox
            or turn.commit.chunks
        ):
            self._tell(turn)
        if self._on_turn is not None:
            self._on_turn(turn)

    def _deleted(self, turn: Turn, batch: Batch) -> None:
        name = turn.head.execution_id
        self._dispatcher.disown(name, "the execution was deleted")
        self._cleanup.deleted()
        self._on_change(name)
        if turn.final_messages:
            self._mailbox_due = True
            self._notify_peers()
        batch.start_again(name)

    def _tell(self, turn: Turn) -> None:
        """Tell callers, other processes and the log about a commit. Most turns need none of this."""
        head, name = turn.head, turn.head.execution_id
        if self._pending_updates and head.status != "running":
            ended = head.closed_at is not None
            self._pending_updates.fail(name, closed(name, head.status) if ended else blocked(head))
        if turn.first or turn.failed or turn.closing is not None or head.status == "blocked":
            tell(turn)
        if turn.continues:
            self._awake[name] = False
            self._cleanup.continued()
        if turn.commit.outbox:
            self._mailbox_due = True
            self._notify_peers()
            warn_of_nobody(turn, self._ports.store, self._ports.mailbox)
        if turn.commit.chunks:
            self._on_chunks(name)
        if head.closed_at is not None:
            self._cleanup.closed(head.closed_at)
            warn_of_late_signals(turn)
        if head.status == "terminated" and CancelTask not in turn.commands:
            self._dispatcher.give_up_all(name, getattr(turn.closing, "reason", ""))
        if turn.closing is not None or head.status == "blocked":
            try:
                self._on_close(turn)
            except Exception:
                log.exception("[%s] callers that wait for it could not be told of its end", name)

    def _again(self, *requests: Input) -> None:
        """Keep requests for the next call, which is to come at once."""
        self._held_back.extend(requests)
        self._retry_at = self._now

    def _lost_race(self, turn: Turn, batch: Batch) -> None:
        """Do a turn again on the stored execution: another writer was faster."""
        delivery = turn.delivery
        self._parts.turns.discard(turn)
        del batch.turns[delivery.execution_id]
        requests, delivery.requests = delivery.requests, []
        if delivery.entries:
            self._takeover.read_again()
        if delivery.entries or turn.deletes:  # there may be messages that were not read
            requests.append(WakeUp())
        self._awake[delivery.execution_id] = False
        self._again(*requests)

    # Other processes

    def _take_over(self) -> None:
        self._takeover.take(self._look_at_clock())
        self._renew_at = self._ports.leases.renew(self._now)
        self._recover()
        if self._disown:
            self._dispatcher.disown_others(self._ports.store)
            self._disown = False

    def _look_around(self, batch: Batch) -> bool:
        """Take over free executions, and read the mailbox, after another process may have changed the store.

        Answers whether there may be more messages.
        """
        if self._takeover.look(self._now):
            self._recover()
        return self._takeover.read(batch)

    def _recover(self) -> None:
        self._dispatcher.adopt()
        self._next_wake = self._takeover.recover(self._awake)
        self._cleanup.look_again()
        self._again(WakeUp())

    def _start_anew(self, requests: Sequence[Input]) -> None:
        """Forget the executions in memory after a lost lease, and take over anew.

        The requests are taken again. For an execution that another owner has taken over they are forwarded,
        or come too late and are dropped.
        """
        self._cache.clear()
        self.closed_here.clear()
        self._awake = {}
        self._keep(requests)
        # Another process may record the answers: they are found in the histories.
        self._pending_updates.refer_to_history()
        self._disown = True
        try:
            self._take_over()
        except StoreError as error:
            log.error("the store is not available; trying again in %d ms: %s", RETRY_AFTER, error)
            self._retry_at = self._renew_at = self._now + RETRY_AFTER

    def _refused(self, requests: Sequence[Input], error: Exception, now: int) -> None:
        """Fail the requests that callers wait for, since nothing was committed; keep those that no caller
        would send again.
        """
        log.error("nothing was committed, trying again in %d ms: %s", RETRY_AFTER, error)
        for request in requests:
            if isinstance(request, Waited):
                request.reply.fail(error)
        self._keep([r for r in requests if isinstance(r, (TaskOutcome, Release))])
        self._takeover.read_again()
        self._retry_at = now + RETRY_AFTER
        self._cleanup.look_again(self._retry_at)
        self._renew_at = max(self._renew_at, self._retry_at)
        if self._next_wake is not None:
            self._next_wake = max(self._next_wake, self._retry_at)

    def _keep(self, requests: Sequence[Input]) -> None:
        kept = [r for r in (*self._held_back, *requests) if not isinstance(r, WakeUp)]
        self._held_back = [*kept, WakeUp()]
