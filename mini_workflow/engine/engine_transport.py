"""Pass requests to an engine in this process."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from mini_workflow.engine.engine_role import EngineRole
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.replies import existing
from mini_workflow.engine.requests import Post, Reply, Request, Start
from mini_workflow.engine.transport import (
    CheckedStore,
    Pauses,
    refuse_in_workflow,
    still_running,
)
from mini_workflow.engine.turn_data import UNKNOWN_WORKFLOW
from mini_workflow.engine.waiters import Closed, News
from mini_workflow.errors import NotAllowedInWorkflow, RuntimeClosed
from mini_workflow.ports import Clock, Store, Stored, StreamStore
from mini_workflow.waiting import blocking_wait

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

RECHECK: Final = 5.0
"""Seconds after which somebody who waits for an execution looks at the store, because the process
that runs it may have died without a word."""


class EngineTransport:
    """Hands requests to the engine, and waits for it.

    With `enlists_as_leader`, who waits for an execution is entered by who leads the engine, so that
    a virtual clock does not jump for somebody whose execution has settled, or who was told of a
    change and has not looked yet.
    """

    def __init__(
        self,
        role: EngineRole,
        store: Store,
        clock: Clock,
        streams: StreamStore,
        *,
        enlists_as_leader: bool = False,
    ) -> None:
        self.closed = False
        self.looks: float | None = None
        """The longest pause between looks at a stream that another process writes, in seconds; None if every
        change is notified.
        """
        self.process: Final = os.getpid()
        self.store: Final = CheckedStore(lambda: store, self.check, self._load)
        """The store, for reading on any thread."""
        self.streams: Final = streams
        self.waiting: Final[set[object]] = set()
        """The callers that wait for a change now, and were told of none. With `enlists_as_leader` only."""
        self._role = role
        self._engine_store = store
        self._clock = clock
        self._enlists_as_leader = enlists_as_leader

    # Requests of clients

    def start(self, requests: Sequence[Start]) -> None:
        """See `Transport.start`."""
        self._role.put_all(requests)

    def ask(self, request: Request[T], timeout: float | None = None) -> T:
        """See `Transport.ask`."""
        self.check()
        return self._role.ask(request, timeout)

    def post(self, requests: Sequence[Post]) -> None:
        """See `Transport.post`."""
        self.check()
        self._role.put_all(requests)

    def wait(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Transport.wait`."""
        if (found := self._settled_now(execution_id, timeout)) is not None:
            return found
        reply: Reply[News] = Reply()
        try:
            with blocking_wait(reply.fail, timeout):
                self._enlist(execution_id, reply.give, timeout)
                return self._wait_for(execution_id, reply, timeout)
        finally:
            self._role.waiters.remove(execution_id, reply.give)

    async def wait_async(self, execution_id: str) -> Settled:
        """See `Transport.wait_async`."""
        import asyncio

        if (found := self._settled_now(execution_id)) is not None:
            return found
        future, deliver = _awaitable_reply()
        try:
            self._enlist(execution_id, deliver)
            while (found := self._settled_now(execution_id)) is None:
                done, _ = await asyncio.wait([future], timeout=RECHECK)
                if done:
                    return _opened(future.result())
            return found
        finally:
            self._role.waiters.remove(execution_id, deliver)

    @contextlib.contextmanager
    def watch(self, execution_id: str) -> Generator[Callable[[float], None]]:
        """See `Transport.watch`."""
        watchers, changed = self._role.watchers, threading.Event()
        closed = threading.Event()

        def tell(news: News) -> None:
            self.waiting.discard(tell)
            if isinstance(news, Closed):
                closed.set()
            changed.set()

        def wait(seconds: float) -> None:
            self._begin_to_wait(tell, changed, seconds)
            changed.wait(seconds)
            self.waiting.discard(tell)
            # Callbacks are called once. Changes from here on are looked at next.
            changed.clear()
            watchers.remove(execution_id, tell)
            watchers.add(execution_id, tell)
            if closed.is_set():
                raise RuntimeClosed("the runtime was closed meanwhile; open a new one")

        watchers.add(execution_id, tell)
        try:
            yield wait
        finally:
            watchers.remove(execution_id, tell)

    @contextlib.contextmanager
    def changes(self, execution_id: str, wake: Callable[[], None]) -> Generator[Pauses]:
        """See `Transport.changes`."""
        readers, over = self._role.readers, threading.Event()
        changed = threading.Event()

        def begin() -> bool:
            if changed.is_set():
                changed.clear()
                return False
            self._begin_to_wait(tell, changed)
            return True

        def tell(news: News) -> None:
            self.waiting.discard(tell)
            changed.set()
            # Callbacks are called once: it enters itself again for the next change.
            if not isinstance(news, Closed) and not over.is_set():
                readers.add(execution_id, tell)
                if over.is_set():
                    readers.remove(execution_id, tell)
            wake()

        readers.add(execution_id, tell)
        try:
            looks = self.looks if self._role.runs(execution_id) is False else None
            if self._enlists_as_leader:
                yield Pauses(RECHECK, RECHECK, begin)
            else:
                yield Pauses(RECHECK, RECHECK) if looks is None else Pauses(longest=looks)
        finally:
            over.set()
            readers.remove(execution_id, tell)
            self.waiting.discard(tell)

    def now(self) -> int:
        """See `Transport.now`."""
        return self._clock.now()

    # Checks of the caller

    def check(self) -> None:
        """Raise RuntimeClosed if the runtime is closed or of another process, and NotAllowedInWorkflow in a
        workflow or an inline task.
        """
        if self.closed:
            raise RuntimeClosed("the runtime was closed; open a new one")
        if self.process != os.getpid():
            raise RuntimeClosed(
                "the runtime belongs to the process that forked this one; open one in this process"
            )
        self.check_outside()

    def check_outside(self) -> None:
        """Refuse a call from workflow code or an inline task, which would wait for itself. Raises
        NotAllowedInWorkflow.
        """
        refuse_in_workflow()
        if self._role.is_current():
            raise NotAllowedInWorkflow(
                "a runtime cannot be used by an inline task, which the engine itself runs; drop "
                "inline=True"
            )

    # Inside

    def _wait_for(self, execution_id: str, reply: Reply[News], timeout: float | None) -> Settled:
        left = timeout
        while (found := self._settled_now(execution_id, timeout)) is None:
            wait = RECHECK if left is None else min(RECHECK, left)
            try:
                return _opened(reply.wait(wait))
            except TimeoutError:
                if left is not None:
                    left -= wait
                    if left <= 0:
                        raise still_running(execution_id, timeout) from None
        return found

    def _settled_now(self, execution_id: str, timeout: float | None = None) -> Settled | None:
        if self._role.runs(execution_id):
            # Callers that wait already are told of its end; others look once more when they begin to.
            self.check()
            return None
        if (found := self._role.closed_here(execution_id)) is not None:
            self.check()
            return found
        head = existing(execution_id, self.store.head(execution_id))
        if head.status == "running":
            return None
        # Is the workflow known now, and the block about to be lifted?
        if head.blocked_kind == UNKNOWN_WORKFLOW:
            if self._role.resumes(execution_id, timeout):
                return None
            head = existing(execution_id, self.store.head(execution_id))
        return None if head.status == "running" else Settled(head)

    def _enlist(
        self, execution_id: str, told: Callable[[News], None], timeout: float | None = None
    ) -> None:
        waiters = self._role.waiters
        if not self._enlists_as_leader:
            waiters.add(execution_id, told)
            return

        def enlist() -> None:
            head = self._engine_store.head(execution_id)
            resumes = self._role.will_resume(execution_id)
            if head is None or head.status == "running" or resumes:
                waiters.add(execution_id, told)
            else:
                told(Settled(head))

        self._role.call(enlist, timeout)

    def _begin_to_wait(
        self, who: object, changed: threading.Event, timeout: float | None = None
    ) -> None:
        """Enter somebody who begins to wait, unless a change came before it could be entered."""
        if not self._enlists_as_leader:
            return

        def enter() -> None:
            if not changed.is_set():
                self.waiting.add(who)

        self._role.call(enter, timeout)

    def _load(self, execution_id: str) -> Stored | None:
        # This part of a store is for the thread that leads the engine.
        found: list[Stored | None] = []
        self._role.call(lambda: found.append(self._engine_store.load(execution_id)))
        return found[0]


def _opened(news: News) -> Settled:
    """Return the news of a settled execution. Raises RuntimeClosed if the news is the end of the runtime."""
    if isinstance(news, Settled):
        return news
    raise RuntimeClosed(
        "the runtime was closed while the execution was running; open a new one, and wait there"
    )


def _awaitable_reply() -> tuple[asyncio.Future[News], Callable[[News], None]]:
    """Return a future of the running loop, and the function that sets it from any thread."""
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[News] = loop.create_future()

    def set_result(news: News) -> None:
        if not future.done():
            future.set_result(news)

    def deliver(news: News) -> None:
        # On a loop that was closed meanwhile no caller waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(set_result, news)

    return future, deliver
