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
from dataclasses import field
from math import inf
from queue import Empty, SimpleQueue
from threading import get_ident
from typing import Final, Protocol, TypeVar

from mini_workflow.core.records import mutable
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

log = logging.getLogger("mini_workflow.engine")

T = TypeVar("T")

BATCH: Final = 1_000
"""How many requests are taken into one commit at most."""

BACKLOG: Final = 8
"""With so many requests in the inbox a thread of the runner leaves them to the engine's own thread, and
runs tasks instead. Our own bound."""

QUIET: Final = 0.02
"""Seconds without an outcome after which no more are waited for. Our own bound."""

LONGEST: Final = 0.1
"""Seconds that outcomes wait for others at most. Our own bound."""


class Pace(Protocol):
    """The pace at which the engine's own thread waits, if not in real time."""

    def is_due(self, until: int, idle: bool) -> bool:
        """Return whether there is something to do now, instead of waiting for a request.

        `until` is when something is due (milliseconds since the epoch); `idle` says that no task is
        running and no request is there.
        """
        ...


@mutable
class _Call:
    """Not the engine's business: it must be done also when the store fails."""

    function: Callable[[], None]
    reply: Reply[None] = field(default_factory=Reply[None])

    def run(self) -> None:
        try:
            self.reply.give(self.function())
        except Exception as error:
            self.reply.fail(error)


def _called(taken: list[Input | _Call]) -> list[Input]:
    """Call what is to be called, and return the rest."""
    requests: list[Input] = []
    for item in taken:
        if isinstance(item, _Call):
            item.run()
        else:
            requests.append(item)
    return requests


class EngineRole:
    """Has an engine process what is put into the inbox, and what the time brings, on one thread at a
    time: on that of whoever brings something and may lead, or else on one of its own.

    Nobody waits for the lead. Whoever puts something into the inbox looks at the lead after that, and
    whoever has led looks at the inbox after that: so one of them sees the other.

    `notify_peers` is called after a commit that processes elsewhere may wait for, `on_end` as the
    last thing on the own thread.
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
        """Who wants to look at an execution again whenever another process may have changed it."""
        self.readers: Final = Waiters()
        """Who reads streams."""
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
        """Whether the last batch had more than outcomes of tasks: then others bring work too, and it
        shares a commit if it is left to the own thread.
        """
        self._more_until = 0.0
        """Until when a runner whose attempts wait for a thread is expected to bring more outcomes."""
        self._waits_since: float | None = None
        """Since when the own thread waits for them, if it does."""
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
        # What is put in with the lock held, while open, is answered.
        self._open = True
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="mini-workflow-engine", daemon=True)

    # Any thread

    def start(self, engine: Engine) -> None:
        """Begin."""
        self._engine = engine
        self._thread.start()

    def is_current(self) -> bool:
        """Return whether the calling thread leads now."""
        return self._leader == get_ident()

    def put(self, request: Input) -> None:
        """Have the engine take the request; nobody waits for an answer, and the caller never leads."""
        self._inbox.append(request)
        self._wake_unless_led()

    def hand_in(self, outcome: TaskOutcome, *, more: bool = False) -> None:
        """Have the engine take an outcome. The caller, a thread of the runner, does the engine's work
        for one batch if nobody does.

        With `more`, where attempts wait for a thread, others are about to come. They share a commit, as
        many as one turn takes, unless none comes for QUIET seconds, the first has waited for LONGEST, or
        somebody brings anything else. So it depends on their number how many commits they take, and
        not on how long each commit lasts, nor on which thread happens to run.
        """
        self._inbox.append(outcome)
        if more:
            self._more_until = time.monotonic() + QUIET
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
        """Have the engine take the requests, together as far as it can; the caller waits for the
        replies. Raises RuntimeClosed.
        """
        self._bring(tuple(requests), None)

    def call(self, function: Callable[[], None], timeout: float | None = None) -> None:
        """Call a function while nothing else is done, and wait for that. Raises RuntimeClosed.

        With a `timeout` (in seconds), of what the caller waits for, it is not done by the caller.
        """
        call = _Call(function)
        self._bring((call,), timeout)
        call.reply.wait()

    def runs(self, execution_id: str) -> bool:
        """See `Engine.runs`."""
        return self._engine is not None and self._engine.runs(execution_id)

    def closed_here(self, execution_id: str) -> Settled | None:
        """Return how the execution has ended here a moment ago, if that is remembered. Any thread."""
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
        if not self._woken_up:  # one look is enough for all who have rung before it
            self._woken_up = True
            self._inbox.append(_Call(self._recheck))
            self.put(WakeUp())

    def stop(self) -> None:
        """Do what is in the inbox, end the own thread, and wait for that. May be repeated."""
        self._stopping = True
        self._wake()
        self._thread.join()

    def _bring(self, items: Sequence[Input | _Call], timeout: float | None) -> None:
        if not self._has_turns and _Call not in map(type, items):
            import_turns()
            self._has_turns = True
        with self._lock:
            if not self._open:
                raise RuntimeClosed("the runtime was closed; open a new one")
            self._inbox.extend(items)
        if timeout is not None or not may_lead():
            self._wake_unless_led()
        elif is_main():
            with self._interrupt:
                self._lead_once()
        else:
            self._lead_once()

    def _lead_once(self, *, queries: bool = True) -> None:
        """Take one batch, unless somebody leads, who looks into the inbox afterwards."""
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
        """Have the own thread look: once for all who ask for it until it does."""
        if not self._rung:
            self._rung = True
            self._bell.put(None)

    # Who leads

    def announce(self, turn: Turn) -> None:
        """Tell those who wait that a turn has closed or blocked its execution."""
        self._notify = True
        name = turn.head.execution_id
        if self.waiters:
            self.waiters.tell(name, Settled(turn.head, turn.closing))
        if self.watchers:
            self.watchers.tell(name, Changed())
        if self.readers:
            self.readers.tell(name, Changed())

    def announce_chunks(self, execution_id: str) -> None:
        """Tell those who read streams of the execution that a turn has written to one."""
        self._notify = True
        self.readers.tell(execution_id, Changed())

    def announce_change(self, execution_id: str) -> None:
        """Tell those who look for an answer or for the end of the execution to look again."""
        self.watchers.tell(execution_id, Changed())

    def notify_peers_later(self) -> None:
        """Have other processes look at the store after this commit."""
        self._notify = True

    def will_resume(self, execution_id: str) -> bool:
        """Return the same as `resumes`, for who leads."""
        return self._engine is not None and self._engine.resumes(execution_id)

    def _recheck(self) -> None:
        """Tell those who wait for executions that another process runs."""
        self._woken_up = False
        for name in self.waiters.names():
            if self.runs(name):
                continue  # its end is told to who waits
            head = self._store.head(name)
            if head is not None and head.status != "running" and not self.will_resume(name):
                self.waiters.tell(name, Settled(head))
        self.watchers.tell_all(Changed())
        self.readers.tell_all(Changed())

    def _work(self, *, queries: bool = True) -> None:
        """Take one batch. Without `queries` one that has any is left as it is: they are answered
        after the dispatch, and would keep a thread of the runner from what it has taken itself.
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
            log.critical("the engine has failed; open a new runtime", exc_info=True)
        else:
            self._taken = []

    def _let_go(self) -> bool:
        """End the lead. Answers whether a clock that jumps has to be told that nothing is under way."""
        assert self._engine is not None
        self._due = self._engine.deadline()
        idle = self._pace is not None and self._engine.idle
        self._leader = 0
        self._lead.release()
        return idle

    def _insist(self) -> bool:
        """Ctrl-C was pressed again while the main thread leads. Answers whether it may be raised."""
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
            # Nobody else leads any more, but one may still be about to let go.
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
        if self._inbox and not self._waits_for_more(engine):
            return True
        until = engine.deadline()
        if until <= self._clock.now():
            return True
        return self._pace is not None and self._pace.is_due(until, engine.idle)

    def _waits_for_more(self, engine: Engine) -> bool:
        """Return whether the outcomes in the inbox are left there, since others are about to come."""
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
        """Wait to be woken, or until something is due while nobody leads."""
        due, led = self._due, self._lead.locked()
        self._sleeps_until = inf if led else due
        # From here on who lets go sees it. Has somebody before?
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
            # Whoever brings work from outside is about to bring more, and then leads: what has rung
            # shares that commit instead of taking one for itself. A sleep would ask a clock, which may
            # be set at that moment.
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
