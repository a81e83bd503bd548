"""Give the engine to one thread at a time, and keep the requests of the others in an inbox."""

from __future__ import annotations

import contextlib
import logging
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from math import inf
from queue import Empty, SimpleQueue
from threading import get_ident
from typing import Final, Protocol, TypeVar

from mini_workflow.core.records import field, mutable
from mini_workflow.engine.batch import OUTCOMES
from mini_workflow.engine.engine import Engine
from mini_workflow.engine.engine_parts import import_turns
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.leading import NO_HOOKS, HeldInterrupt, is_main, may_lead
from mini_workflow.engine.requests import Ask, Input, Reply, Request, Waited, WakeUp
from mini_workflow.engine.turn_data import Turn
from mini_workflow.engine.waiters import Changed, Closed, Waiters
from mini_workflow.errors import RuntimeClosed
from mini_workflow.ports import Clock, Store, TaskOutcome
from mini_workflow.threads import NoThread, join_thread, start_thread

log = logging.getLogger("mini_workflow.engine")

T = TypeVar("T")

BATCH: Final = 1_000
"""The highest number of requests in one commit."""

BACKLOG: Final = 8
"""The number of requests in the inbox above which a thread of the runner leaves them to the engine's own
thread, and runs tasks instead. Our own bound."""

QUIET: Final = 0.02
"""Seconds without a new outcome after which the outcomes in the inbox are taken. Our own bound."""

LONGEST: Final = 0.1
"""Seconds that outcomes wait for others at most. Our own bound."""


class Pace(Protocol):
    """The pace at which the engine's own thread waits, if not in real time."""

    def is_due(self, until: int, idle: bool) -> bool:
        """Return whether the engine is to work now, instead of waiting for a request.

        `until` is the time of the next deadline (milliseconds since the epoch); `idle` says that no task runs
        and the inbox is empty.
        """
        ...


@mutable
class _Call:
    """A function to call between two batches; it is called also when the store fails."""

    function: Callable[[], None]
    reply: Reply[None] = field(default_factory=Reply[None])

    def run(self) -> None:
        try:
            self.reply.give(self.function())
        except Exception as error:
            self.reply.fail(error)


def _called(taken: list[Input | _Call]) -> list[Input]:
    """Call the functions among the items, and return the requests."""
    requests: list[Input] = []
    for item in taken:
        if isinstance(item, _Call):
            item.run()
        else:
            requests.append(item)
    return requests


class EngineRole:
    """Has an engine process the inbox, and executions that are due, on one thread at a time: on the thread of
    a caller that brings a request and may lead, or else on a thread of its own.

    No thread waits for the lead. A thread that puts a request into the inbox looks at the lead after that,
    and a thread that has led looks at the inbox after that: so one of them sees the other.

    `notify_peers` is called after a commit that other processes may wait for, and `on_end` as the
    last call on the own thread.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        pace: Pace | None,
        notify_peers: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self.waiters: Final = Waiters()
        self.watchers: Final = Waiters()
        """The callers that look at an execution again whenever another process may have changed it."""
        self.readers: Final = Waiters()
        """The callers that read streams."""
        self._store = store
        self._clock = clock
        self._pace = pace
        self._notify_peers = notify_peers
        self._on_end = on_end
        self._engine: Engine | None = None
        self._inbox: deque[Input | _Call] = deque()
        self._taken: list[Input | _Call] = []  # from the inbox, and not done with
        self._lead = threading.Lock()
        self._lead.acquire()  # until there is an engine
        self._leader = 0  # the thread that leads
        self._context = Context()
        self._is_shared = False
        """Whether the last batch had requests of callers too: then outcomes are left to the own thread, and
        share a commit with such requests.
        """
        self._more_until = 0.0
        """The time until which a runner whose attempts wait for a thread is expected to bring more
        outcomes.
        """
        self._waits_since: float | None = None
        """The time since which the own thread waits for these outcomes, or None."""
        self._interrupt = HeldInterrupt(self._insist)
        self._interruptible = False
        self._has_turns = False
        """Whether what makes turns has been imported."""
        self._stopping = False
        self._failed = False
        self._notify = False
        self._woken_up = False
        # Of the own thread
        self._due: float = inf  # the deadline that the last leader has left
        self._sleeps_until: float = inf
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._rung = False
        # Every request that is put in with the lock held, while open, is answered.
        self._open = True
        self._lock = threading.RLock()  # a signal handler may come in between
        self._thread = threading.Thread(target=self._run, name="mini-workflow-engine", daemon=True)

    # Any thread

    def start(self, engine: Engine) -> None:
        """Give the role its engine, and start the own thread. Raises NoThread; the engine has ended then."""
        self._engine = engine
        try:
            start_thread(self._thread)
        except NoThread:
            engine.drain()
            self._stopping = True
            self._run()
            raise

    def is_current(self) -> bool:
        """Return whether the calling thread leads now."""
        return self._leader == get_ident()

    def put(self, request: Input) -> None:
        """Have the engine take a request that needs no answer. The caller never leads."""
        self._inbox.append(request)
        self._wake_unless_led()

    def hand_in(self, outcome: TaskOutcome, *, more: bool = False) -> None:
        """Have the engine take an outcome. The caller, a thread of the runner, leads for one batch if no
        thread leads.

        With `more`, where attempts wait for a thread, other outcomes are about to come. They share a commit,
        as many as one turn takes, unless none comes for QUIET seconds, the first has waited for LONGEST, or
        another request comes. So the number of commits depends on the number of outcomes, and not on the
        time that a commit takes, nor on the order in which threads run.
        """
        self._inbox.append(outcome)
        if more:
            self._more_until = time.monotonic() + QUIET
            if self._rung:  # many come before the own thread has woken up
                return
            if self._waits_since is None or len(self._inbox) >= OUTCOMES:
                self._wake_unless_led()
        elif self._is_shared or len(self._inbox) > BACKLOG or sys.get_asyncgen_hooks() != NO_HOOKS:
            self._wake_unless_led()
        else:
            self._lead_once(queries=False)

    def ask(self, request: Request[T], timeout: float | None = None) -> T:
        """Have the engine take the request, and wait for its reply.

        Raises RuntimeClosed, and TimeoutError after `timeout` seconds.
        """
        reply = request.reply
        assert isinstance(request, Waited)
        self._bring((request,), timeout)
        return reply.wait(timeout)

    def put_all(self, requests: Iterable[Input]) -> None:
        """Have the engine take requests, in as few commits as possible; the caller waits for the replies.
        Raises RuntimeClosed.
        """
        self._bring(tuple(requests), None)

    def call(self, function: Callable[[], None], timeout: float | None = None) -> None:
        """Call a function between two batches, and wait for its end. Raises RuntimeClosed, and its errors.

        With the `timeout` of the caller (in seconds) the caller does not lead for it.
        """
        call = _Call(function)
        self._bring((call,), timeout)
        call.reply.wait()

    def runs(self, execution_id: str) -> bool:
        """See `Engine.runs`."""
        return self._engine is not None and self._engine.runs(execution_id)

    def closed_here(self, execution_id: str) -> Settled | None:
        """Return the end of an execution that has closed here a moment ago, or None. Any thread."""
        return None if self._engine is None else self._engine.closed_here.find(execution_id)

    def resumes(self, execution_id: str, timeout: float | None = None) -> bool:
        """Return whether the engine is about to resume the execution by itself. Raises
        RuntimeClosed.
        """
        found: list[bool] = []
        self.call(lambda: found.append(self.will_resume(execution_id)), timeout)
        return found[0]

    def wake_up(self) -> None:
        """Have the engine look at the store, which another process may have changed. Does not wait."""
        if not self._woken_up:  # one look is enough for all notifications before it
            self._woken_up = True
            self._inbox.append(_Call(self._recheck))
            self.put(WakeUp())

    def stop(self) -> None:
        """End the own thread once the inbox is empty, and wait for that. May be repeated."""
        self._stopping = True
        self._wake()
        join_thread(self._thread)

    def _bring(self, items: Sequence[Input | _Call], timeout: float | None) -> None:
        if not self._has_turns and _Call not in map(type, items):
            import_turns()
            self._has_turns = True
        with self._lock:
            if not self._open:
                raise RuntimeClosed("the runtime was closed; open a new one")
            self._inbox.extend(items)
        in_main = is_main()
        if timeout is not None or not may_lead(in_main=in_main):
            self._wake_unless_led()
        elif in_main:
            with self._interrupt:
                self._lead_once()
        else:
            self._lead_once()

    def _lead_once(self, *, queries: bool = True) -> None:
        """Take one batch, unless another thread leads, which looks into the inbox afterwards."""
        if not self._lead.acquire(blocking=False):
            return
        try:
            self._leader = get_ident()
            if not (self._stopping or self._failed):
                self._work(queries=queries)
        finally:
            idle = self._let_go()
            if (
                self._inbox
                or idle
                or self._stopping
                or self._failed
                or self._due < self._sleeps_until
            ):
                self._wake()

    def _wake_unless_led(self) -> None:
        if not self._lead.locked():
            self._wake()

    def _wake(self) -> None:
        """Have the own thread look at the inbox, unless it is about to."""
        if not self._rung:
            self._rung = True
            self._bell.put(None)

    # On the thread that leads

    def announce(self, turn: Turn) -> None:
        """Tell callers that wait for an execution that a turn has closed or blocked it."""
        self._notify = True
        name = turn.head.execution_id
        if self.waiters:
            self.waiters.tell(name, Settled(turn.head, turn.closing))
        if self.watchers:
            self.watchers.tell(name, Changed())
        if self.readers:
            self.readers.tell(name, Changed())

    def announce_chunks(self, execution_id: str) -> None:
        """Tell readers of streams of an execution that a turn has written to one."""
        self._notify = True
        self.readers.tell(execution_id, Changed())

    def announce_change(self, execution_id: str) -> None:
        """Tell callers that look for an answer or for the end of the execution to look again."""
        self.watchers.tell(execution_id, Changed())

    def notify_peers_later(self) -> None:
        """Have other processes look at the store after this commit."""
        self._notify = True

    def will_resume(self, execution_id: str) -> bool:
        """Return the same as `resumes`, on the thread that leads."""
        return self._engine is not None and self._engine.resumes(execution_id)

    def _recheck(self) -> None:
        """Tell callers that wait for executions of other processes to look again."""
        self._woken_up = False
        for name in self.waiters.names():
            if self.runs(name):
                continue  # callers will be told of its end
            head = self._store.head(name)
            if head is not None and head.status != "running" and not self.will_resume(name):
                self.waiters.tell(name, Settled(head))
        self.watchers.tell_all(Changed())
        self.readers.tell_all(Changed())

    def _work(self, *, queries: bool = True) -> None:
        """Take one batch. Without `queries`, a batch that has queries is left: they are answered after the
        dispatch, and would keep a thread of the runner from the attempt that it has kept for itself.
        """
        assert self._engine is not None
        inbox = self._inbox
        taken = self._taken = []
        if inbox:
            taken.append(inbox.popleft())
            room = min(len(inbox), BATCH - self._engine.waiting) if inbox else 0
            while len(taken) < room + 1:
                taken.append(inbox.popleft())
        if not queries and Ask in map(type, taken):
            self._taken = []
            inbox.extendleft(reversed(taken))
            return
        if taken:
            self._is_shared = not {TaskOutcome}.issuperset(map(type, taken))
        try:
            self._interruptible = True
            if _Call in map(type, taken):
                taken = self._context.run(_called, taken)
            self._context.run(self._engine.process, taken)  # type: ignore[arg-type]
            if self._notify:
                self._notify = False
                self._notify_peers()
            self._interruptible = False
        except BaseException:
            self._interruptible = False
            self._failed = True
            log.critical("the engine has failed, and stops. Open a new runtime.", exc_info=True)
        else:
            self._taken = []

    def _let_go(self) -> bool:
        """End the lead. Answers whether a clock that jumps has to be told that no task runs."""
        assert self._engine is not None
        self._due = self._engine.deadline()
        idle = self._pace is not None and self._engine.idle
        self._leader = 0
        self._lead.release()
        return idle

    def _insist(self) -> bool:
        """Answer whether a second Ctrl-C may be raised now, while the main thread leads."""
        if self._engine is None or not (self._interruptible and self.is_current()):
            return False
        self._engine.interrupted = True
        return True

    # The own thread

    def _run(self) -> None:
        engine = self._engine
        assert engine is not None
        self._let_go()
        try:
            self._serve(engine)
        finally:
            # No other thread leads any more, but one may still be about to let go.
            self._lead.acquire()
            self._leader = get_ident()
            try:
                while not self._failed and (self._inbox or engine.unsettled):
                    self._work()
            finally:
                self._end(engine)
                self._leader = 0  # the number may be that of another thread soon

    def _serve(self, engine: Engine) -> None:
        while not (self._stopping or self._failed):
            worked = False
            if self._lead.acquire(blocking=False):
                try:
                    self._leader = get_ident()
                    if self._is_due(engine):
                        worked = True
                        self._work()
                finally:
                    self._let_go()
            if not worked:
                self._sleep()

    def _is_due(self, engine: Engine) -> bool:
        # Before the inbox is looked at: what a runner holds no more has been put there.
        idle = self._pace is not None and engine.idle
        if self._inbox and not self._waits_for_more(engine):
            return True
        until = engine.deadline()
        if until <= self._clock.now():
            return True
        return self._pace is not None and self._pace.is_due(until, idle)

    def _waits_for_more(self, engine: Engine) -> bool:
        """Return whether the outcomes in the inbox are left there, since more are about to come."""
        since, self._waits_since = self._waits_since, None
        now, inbox = time.monotonic(), self._inbox.copy()
        if now >= self._more_until or self._pace is not None or self._stopping:
            return False
        if len(inbox) >= min(OUTCOMES, engine.in_flight) or (since or now) < now - LONGEST:
            return False
        if not {TaskOutcome}.issuperset(map(type, inbox)):
            return False
        self._waits_since = now if since is None else since
        return True

    def _sleep(self) -> None:
        """Wait to be woken, or for the next deadline while no thread leads."""
        due, led = self._due, self._lead.locked()
        self._sleeps_until = inf if led else due
        # From here on a thread that lets go sees it. Has one done so before?
        waits = self._waits_since is not None
        if due != self._due or (not self._lead.locked() and (led or (self._inbox and not waits))):
            return
        timeout = None
        if not led and self._pace is None:
            timeout = max(0.0, (due - self._clock.now()) / 1000)
            timeout = min(timeout, QUIET) if waits else timeout
        with contextlib.suppress(Empty):
            self._bell.get(timeout=timeout)
        if self._is_shared:
            # A caller that brings requests is about to bring more, and then leads: the request that has
            # woken this thread shares that commit. A sleep would ask a clock, which may be set at that
            # moment.
            select.select((), (), (), 0)
        self._rung = False

    def _end(self, engine: Engine) -> None:
        with self._lock:
            self._open = False
        try:
            engine.close()
        finally:
            try:
                self._on_end()
            finally:
                self._answer_all()

    def _answer_all(self) -> None:
        left = self._taken
        while self._inbox:
            left.append(self._inbox.popleft())
        for item in left:
            if isinstance(item, _Call | Waited):
                item.reply.fail(RuntimeClosed("the runtime was closed meanwhile; open a new one"))
        self.waiters.tell_all(Closed())
        self.watchers.tell_all(Closed())
        self.readers.tell_all(Closed())
