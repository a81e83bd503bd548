"""EngineThread: an engine on a thread of its own, and the inbox through which other threads reach it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, Protocol, TypeVar

from mini_workflow.engine.engine import Engine
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.requests import Input, Reply, Request, Waited, WakeUp
from mini_workflow.engine.turn import Turn
from mini_workflow.engine.waiters import Changed, Closed, Waiters
from mini_workflow.errors import RuntimeClosed
from mini_workflow.ports import Clock, Store

log = logging.getLogger("mini_workflow.engine")

T = TypeVar("T")

BATCH: Final = 1_000
"""How many requests are taken into one commit at most."""


class Pace(Protocol):
    """How the engine's thread waits, if not in real time."""

    def wait(self, until: int | None, idle: bool) -> float | None:
        """Return how many seconds to wait for a request: 0 for not at all, None for without end.

        `until` is when something is due (milliseconds since the epoch), or None; `idle` says that
        no task is running and no request is there.
        """
        ...


@dataclass(slots=True)
class _Call:
    """Not the engine's business: it must be done also when the store fails."""

    function: Callable[[], None]
    reply: Reply[None] = field(default_factory=Reply[None])

    def run(self) -> None:
        try:
            self.reply.give(self.function())
        except Exception as error:
            self.reply.fail(error)


class EngineThread:
    """Has an engine process what is put into the inbox, and what the time brings.

    `notify_peers` is called after a commit that processes elsewhere may wait for, `on_end` as the
    last thing on the thread.
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
        self._store = store
        self._clock = clock
        self._pace = pace
        self._notify_peers = notify_peers
        self._on_end = on_end
        self._engine: Engine | None = None
        self._inbox: SimpleQueue[Input | _Call] = SimpleQueue()
        self._taken: list[Input | _Call] = []  # from the inbox, and not done with
        self._open = True
        self._stopping = False
        self._ring = False
        self._woken_up = False
        # What is put in with the lock held, while open, is answered.
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="mini-workflow-engine", daemon=True)

    # Any thread

    def start(self, engine: Engine) -> None:
        """Begin."""
        self._engine = engine
        self._thread.start()

    def is_current(self) -> bool:
        """Return whether the calling thread is the engine's."""
        return threading.current_thread() is self._thread

    def put(self, request: Input) -> None:
        """Have the engine take the request; nobody waits for an answer."""
        self._inbox.put(request)

    def ask(self, request: Request[T], timeout: float | None = None) -> T:
        """Have the engine take the request, and wait for its reply.

        Raises RuntimeClosed, and TimeoutError after `timeout` seconds.
        """
        reply = request.reply
        assert isinstance(request, Waited)
        self._put_in(request)
        return reply.wait(timeout)

    def put_all(self, requests: Iterable[Input]) -> None:
        """Have the engine take the requests, together as far as it can. Raises RuntimeClosed."""
        with self._lock:
            if not self._open:
                raise RuntimeClosed("the runtime was closed; open a new one")
            for request in requests:
                self._inbox.put(request)

    def call(self, function: Callable[[], None]) -> None:
        """Call a function on the engine's thread, and wait for that. Raises RuntimeClosed."""
        call = _Call(function)
        self._put_in(call)
        call.reply.wait()

    def resumes(self, execution_id: str) -> bool:
        """Return whether the engine is about to resume the execution by itself. Raises
        RuntimeClosed.
        """
        found: list[bool] = []
        self.call(lambda: found.append(self.will_resume(execution_id)))
        return found[0]

    def wake_up(self) -> None:
        """Another process may have changed something in the store: look at it. Does not wait."""
        if not self._woken_up:  # one look is enough for all who have rung before it
            self._woken_up = True
            self._inbox.put(_Call(self._recheck))
            self._inbox.put(WakeUp())

    def stop(self) -> None:
        """Do what is in the inbox, end the thread, and wait for that. May be repeated."""
        self._inbox.put(_Call(self._stop))
        self._thread.join()

    def _put_in(self, item: Input | _Call) -> None:
        with self._lock:
            if not self._open:
                raise RuntimeClosed("the runtime was closed; open a new one")
            self._inbox.put(item)

    # The engine's thread

    def announce(self, turn: Turn) -> None:
        """Tell those who wait that a turn has closed or blocked its execution."""
        self._ring = True
        self.waiters.tell(turn.head.execution_id, Settled(turn.head, turn.closing))

    def notify_peers_later(self) -> None:
        """Have other processes look at the store after this commit."""
        self._ring = True

    def _recheck(self) -> None:
        """Tell those who wait for executions that another process runs."""
        self._woken_up = False
        for name in self.waiters.names():
            head = self._store.head(name)
            if head is not None and head.status != "running" and not self.will_resume(name):
                self.waiters.tell(name, Settled(head))
        self.watchers.tell_all(Changed())

    def will_resume(self, execution_id: str) -> bool:
        """Return the same as `resumes`, on the engine's thread."""
        return self._engine is not None and self._engine.resumes(execution_id)

    def _stop(self) -> None:
        self._stopping = True

    def _run(self) -> None:
        assert self._engine is not None
        try:
            self._serve(self._engine)
        except BaseException:
            log.critical("the engine's thread has failed; open a new runtime", exc_info=True)
        finally:
            self._end(self._engine)

    def _serve(self, engine: Engine) -> None:
        while not (self._stopping and self._inbox.empty() and not engine.unsettled):
            requests: list[Input] = []
            self._taken = self._receive(engine)
            for item in self._taken:
                if isinstance(item, _Call):
                    item.run()
                else:
                    requests.append(item)
            engine.process(requests)
            self._taken = []
            if self._ring:
                self._ring = False
                self._notify_peers()

    def _receive(self, engine: Engine) -> list[Input | _Call]:
        """Wait for what comes next, or until something is due."""
        inbox, until = self._inbox, engine.deadline()
        items: list[Input | _Call] = []
        now = self._clock.now()
        if until is None or until > now or not inbox.empty():
            if self._pace is not None:
                timeout = self._pace.wait(until, engine.idle and inbox.empty())
            else:
                timeout = None if until is None else max(0.0, (until - now) / 1000)
            with contextlib.suppress(Empty):
                items.append(inbox.get(timeout != 0, timeout))
                room = max(0, BATCH - engine.waiting)
                items.extend(inbox.get_nowait() for _ in range(min(inbox.qsize(), room)))
        return items

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
        while not self._inbox.empty():
            left.append(self._inbox.get_nowait())
        for item in left:
            if isinstance(item, _Call | Waited):
                item.reply.fail(RuntimeClosed("the runtime was closed meanwhile; open a new one"))
        self.waiters.tell_all(Closed())
        self.watchers.tell_all(Closed())
