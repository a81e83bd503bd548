"""LocalClient: sees and steers the executions in an SQLite file without running any of them."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

from mini_workflow.codecs.standard import DEFAULT_VALUE_LIMIT, StandardCodec
from mini_workflow.core import events, wire
from mini_workflow.core.history import History
from mini_workflow.engine.cache import Cache
from mini_workflow.engine.client import Client, refuse_in_workflow, still_running
from mini_workflow.engine.engine import DEFAULT_HISTORY_LIMIT
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.messenger import Messenger
from mini_workflow.engine.pending_updates import find_answer
from mini_workflow.engine.queries import Questions
from mini_workflow.engine.replies import answer_start, closed
from mini_workflow.engine.requests import (
    Answer,
    Ask,
    Post,
    Reply,
    Request,
    Resume,
    Start,
    Started,
    Update,
)
from mini_workflow.engine.runs import ENTROPY_BITS, first_event
from mini_workflow.engine.takeover import RESUME, to_forward
from mini_workflow.engine.turn import Turns
from mini_workflow.engine.watchdog import DEFAULT_LIMIT, Watchdog
from mini_workflow.errors import LeaseLost, PromiseNotOpen, RuntimeClosed, UsageError
from mini_workflow.ports import Commit, Head
from mini_workflow.runtimes.file_watcher import FileWatcher
from mini_workflow.stores.sqlite import SQLiteBackend
from mini_workflow.stores.system_clock import SystemClock
from mini_workflow.stores.wakeup_socket import WakeupSocket
from mini_workflow.waiting import blocking_wait
from mini_workflow.workflow import REGISTRY

T = TypeVar("T")

LEASE: Final = 15.0
"""Seconds for which a client may hold what it needs to put an execution into the file; it takes
milliseconds. One that dies meanwhile is found out at once."""


class LocalClient(Client):
    """Sees and steers executions in the file of a `LocalRuntime`; a context manager.

    A client runs no workflow and no task. What it starts or sends is durable when the call
    returns, and is taken up by a runtime that has the file open, now or later. A query replays the
    execution here, so that its workflow has to be registered in this process.

    Args:
        path: the file; unless it is only read it is created where there is none.
        read_only: change nothing in the file; SQLite itself refuses it. Such a client also runs no
            code from the file: values of classes whose modules are not imported, and pickled ones,
            are refused with PayloadNotReadable.
        trust: have a client that only reads load everything all the same. Do that where you trust
            whoever can write to the file.
        turn_timeout: seconds that a query may compute; None for no limit.
        value_limit: bytes that one value may take, encoded: an argument, a result, what a signal
            brings. More is refused with ValueTooLarge.

    Raises:
        StoreUnavailable, StoreCorrupt, StoreTooNew: the file cannot be used; it is left as it is.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        turn_timeout: float | None = DEFAULT_LIMIT,
        value_limit: int = DEFAULT_VALUE_LIMIT,
        trust: bool = False,
    ) -> None:
        self._read_only = read_only
        self._clock = SystemClock()
        self._backend = SQLiteBackend(
            path,
            owner=f"{socket.gethostname()}:{os.getpid()}:client",
            clock=self._clock,
            lease=round(LEASE * 1000),
            read_only=read_only,
        )
        self._store = self._backend.store
        self._codec = StandardCodec(value_limit=value_limit, trust=trust or not read_only)
        self._registry = REGISTRY
        self._doorbell = WakeupSocket()
        self._watcher = FileWatcher(self._store.version, self._store.ended)
        self._messenger = Messenger(self, self._codec)
        self._watchdog = Watchdog(turn_timeout)
        # The part of the backend that belongs to one thread, whichever that is at the moment.
        self._using = threading.RLock()
        self._process = os.getpid()
        self._closed = False

    @property
    def path(self) -> Path:
        """The file."""
        return self._backend.path

    def is_served(self) -> bool:
        """Whether a living process has the file open to run what is in it."""
        return bool(self._read(self._backend.leases.peers))

    def close(self) -> None:
        """Close the file. Harmless if it was closed before."""
        if self._process != os.getpid():
            return  # a copy made by fork: the client itself is the other process's
        with self._using:
            if not self._closed:
                self._closed = True
                self._watcher.close()
                self._doorbell.close()
                self._watchdog.close()
                self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # For handles

    def settled(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Service.settled`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        found = self._settled_now(execution_id)
        if found is not None:
            return found
        changed = threading.Event()
        refused: list[BaseException] = []

        def refuse(error: BaseException) -> None:
            refused.append(error)
            changed.set()

        with self._watcher.until_end(execution_id, changed.set), blocking_wait(refuse):
            while (found := self._settled_now(execution_id)) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise still_running(execution_id, timeout)
                if refused:
                    raise refused[0]
                changed.wait(left)
                changed.clear()
        return found

    async def settled_async(self, execution_id: str) -> Settled:
        """See `Service.settled_async`."""
        found = self._settled_now(execution_id)
        if found is not None:
            return found
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            # A loop that was closed meanwhile has nobody left who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        with self._watcher.until_end(execution_id, wake):
            while (found := self._settled_now(execution_id)) is None:
                await changed.wait()
                changed.clear()
        return found

    # Requests, which others will meet

    def clock_now(self) -> int:
        """See `Desk.clock_now`."""
        return self._clock.now()

    @contextmanager
    def watch(self, execution_id: str) -> Generator[Callable[[float], None]]:
        """See `Desk.watch`."""
        self._check_caller()
        changed = threading.Event()

        def wait(seconds: float) -> None:
            changed.wait(seconds)
            changed.clear()

        with self._watcher.until_change(execution_id, changed.set):
            yield wait

    def put_all(self, requests: Iterable[Start]) -> None:
        """See `Client.put_all`: put the new executions into the file, for others to begin."""
        self._check_writable()
        made: list[tuple[Start, Commit]] = []
        for request in requests:
            if request.fresh or self._store.head(request.execution_id) is None:
                made.append((request, self._creation(request)))
            else:
                self._found(request)
        if made:
            answers = self._create([commit for _, commit in made])
            for (request, commit), created in zip(made, answers, strict=True):
                if created:
                    assert commit.head is not None
                    request.reply.give(Started(commit.head))
                else:
                    self._found(request)
        self._ring()

    def ask_within(self, request: Request, reply: Reply[T], timeout: float | None) -> T:
        """See `Desk.ask_within`. What is left in the mailbox is not waited for."""
        if isinstance(request, Ask):
            return cast(T, self._ask(request))
        self._check_writable()
        if isinstance(request, Post):
            return cast(T, self._post(request))
        if isinstance(request, Resume):
            return cast(T, self._resume(request))
        assert isinstance(request, Update)
        return cast(T, self._update(request))

    def _creation(self, request: Start) -> Commit:
        """What makes the execution. Its first event stands alone: no code has run yet, and being
        busy tells whoever takes it over to begin.
        """
        now = self._clock.now()
        started = first_event(
            request.workflow, request.arguments, now, secrets.randbits(ENTROPY_BITS)
        )
        return Commit(
            request.execution_id,
            0,
            (wire.encode(started),),
            Head(request.execution_id, request.workflow, "running", now, busy=True),
            park=() if request.signal is None else (wire.encode(request.signal),),
        )

    def _create(self, commits: Sequence[Commit]) -> list[bool]:
        """Commit, and leave everything to whoever runs executions."""
        leases = self._backend.leases
        with self._using:
            leases.acquire(self._clock.now())
            try:
                return self._store.commit(commits)
            except LeaseLost:
                # Paused for longer than the lease; nothing was written.
                leases.acquire(self._clock.now())
                return self._store.commit(commits)
            finally:
                leases.release()

    def _found(self, request: Start) -> None:
        """Answer for an execution that is there; a signal that came along is sent to it."""
        head = self.head(request.execution_id)
        signal = request.signal
        if signal is not None and head.workflow == request.workflow and head.closed_at is None:
            self._leave(request.execution_id, signal)
        answer_start(request, None, self._store)

    def _post(self, request: Post) -> Head:
        head = self._open(request.execution_id)
        message = request.message
        if isinstance(message, (events.PromiseCompleted, events.PromiseFailed)):
            history = History.from_lines(self._lines(request.execution_id))
            if history.state().admit(message) is None:
                raise PromiseNotOpen(
                    "the promise was completed, failed or given up before, or the token is wrong; "
                    "nothing was changed"
                )
        self._leave(request.execution_id, message)
        self._ring()
        return head

    def _resume(self, request: Resume) -> Head:
        head = self._open(request.execution_id)
        self._backend.mailbox.post(request.execution_id, RESUME, RESUME)
        self._ring()
        return head

    def _update(self, request: Update) -> Answer:
        before = find_answer(self._lines(request.execution_id), request.update_id, request.at)
        if before is not None:
            return Answer(before)
        self._open(request.execution_id)
        message = events.UpdateRequested(
            request.at, request.update_id, request.name, request.arguments
        )
        self._leave(request.execution_id, message)
        self._ring()
        return Answer()  # the answer will be found in the history

    def _ask(self, request: Ask) -> Any:
        with self._using:
            self._check_caller()
            cache = Cache(0)
            turns = Turns(
                store=self._store,
                cache=cache,
                codec=self._codec,
                definitions=self._registry.get,
                watchdog=self._watchdog,
                dispatched=lambda key: False,
                entropy=lambda: 0,
                history_limit=DEFAULT_HISTORY_LIMIT,
            )
            Questions(turns, cache, self._codec, self._watchdog).answer(request)
            return request.reply.wait()

    # Inside

    def _open(self, execution_id: str) -> Head:
        head = self.head(execution_id)
        if head.closed_at is not None:
            raise closed(execution_id, head.status)
        return head

    def _leave(self, execution_id: str, message: Any) -> None:
        body = wire.encode(to_forward(message))
        self._backend.mailbox.post(execution_id, body, body)

    def _ring(self) -> None:
        self._doorbell.ring(self._backend.leases.peers())

    def _load(self, execution_id: str) -> Any:
        with self._using:
            return self._read(lambda: self._store.load(execution_id))

    def _read(self, read: Callable[[], T]) -> T:
        self._check_caller()
        return read()

    def _check_writable(self) -> None:
        self._check_caller()
        if self._read_only:
            raise UsageError(
                f"{self.path} was opened read_only: nothing can be started or sent; open it without"
            )

    def _check_caller(self) -> None:
        if self._closed:
            raise RuntimeClosed("the client was closed; open a new one")
        if self._process != os.getpid():
            raise RuntimeClosed(
                "the client belongs to the process that forked this one; open one in this process"
            )
        refuse_in_workflow()
