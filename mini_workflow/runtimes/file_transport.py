"""Carry requests of a client to executions in an SQLite file that other processes run.

New executions and messages are put into the file, for the processes that run its executions.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from mini_workflow.core import wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.duplicates import admit
from mini_workflow.core.events import Message
from mini_workflow.core.history import History
from mini_workflow.core.records import replace
from mini_workflow.core.run import Definition
from mini_workflow.core.seed import ENTROPY_BITS
from mini_workflow.engine.asking import for_nobody
from mini_workflow.engine.batch import AT_ONCE
from mini_workflow.engine.cache import Cache
from mini_workflow.engine.deletion import (
    SWEPT_AT_ONCE,
    asks_to_delete,
    deletion_asked,
    run_again_before,
)
from mini_workflow.engine.engine import DEFAULT_HISTORY_LIMIT
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.pending_updates import find_answer
from mini_workflow.engine.queries import Queries
from mini_workflow.engine.replies import (
    answer_start,
    existing,
    not_found,
    not_open,
    restart_of,
    still_open,
    still_takes,
)
from mini_workflow.engine.requests import (
    Answer,
    Ask,
    Post,
    Request,
    Resume,
    Start,
    Started,
    Update,
)
from mini_workflow.engine.runs import first_event, first_head
from mini_workflow.engine.takeover import RESUME, mailbox_key, to_forward
from mini_workflow.engine.transport import (
    LONGEST_PAUSE,
    CheckedStore,
    Pauses,
    refuse_in_workflow,
    wait_until_settled,
)
from mini_workflow.engine.turn import Turns
from mini_workflow.engine.turn_data import ABOUT_PROMISES
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import (
    ExecutionNotFound,
    LeaseLost,
    RuntimeClosed,
    UsageError,
    WireError,
)
from mini_workflow.ports import Clock, Commit, Head, Leases, Mailbox, QueuedMessage, Store, Stored
from mini_workflow.ports.streams import NO_STREAMS, StreamStore
from mini_workflow.runtimes.file_watcher import FileWatcher
from mini_workflow.stores.wakeup_socket import WakeupSocket
from mini_workflow.waiting import blocking_wait
from mini_workflow.workflow import Registry

T = TypeVar("T")

READ_AGAIN: Final = 100
"""How often a client reads the messages again that have arrived while it deletes; then it leaves the deletion
to a process that runs executions. Our own bound."""


class ClientStore(Store, Protocol):
    """The part that a client needs of a store that other processes change."""

    def version(self) -> int:
        """Return a number that changes with each commit of any process. Any thread."""
        ...

    def ended(self, execution_ids: Sequence[str]) -> list[str]:
        """Return the ids of those that do not run: closed, blocked, or deleted. Any thread."""
        ...


class ClientBackend(Protocol):
    """A backend that a client has open. Its `acquire` does nothing where the store puts new executions into
    the partitions of living owners. It may have `streams` too, a StreamStore.
    """

    @property
    def store(self) -> ClientStore:
        """Heads and histories."""
        ...

    @property
    def mailbox(self) -> Mailbox:
        """Messages to executions."""
        ...

    @property
    def leases(self) -> Leases:
        """The rights of owners to run executions."""
        ...

    @property
    def path(self) -> object:
        """The name of its place, for people."""
        ...

    def close(self) -> None:
        """Close the backend."""
        ...


class FileTransport:
    """The transport of a `LocalClient`, and of a client of any store that other processes have open. It runs
    no task, and workflow code only for a query.

    With `wakes_holders` the store itself wakes the process that holds an execution, and puts new
    executions into a partition of a living process, which is told to begin them.
    """

    def __init__(
        self,
        backend: ClientBackend,
        clock: Clock,
        codec: Codec,
        registry: Registry,
        watchdog: Watchdog,
        *,
        read_only: bool,
        wakes_holders: bool = False,
        definitions: Callable[[str], Definition] | None = None,
    ) -> None:
        self._wakes_holders = wakes_holders
        self.store: Final = CheckedStore(lambda: backend.store, self.check, self._load)
        """The store, for reading on any thread."""
        self.streams: Final[StreamStore] = getattr(backend, "streams", NO_STREAMS)
        self._backend = backend
        self._store = backend.store
        self._clock = clock
        self._codec = codec
        self._definitions = definitions or registry.get
        self._watchdog = watchdog
        self._read_only = read_only
        self._socket = WakeupSocket()
        self._watcher = FileWatcher(self._store.version, self._store.ended)
        # For the part of the backend that one thread at a time may use.
        self._using = threading.RLock()
        self._process = os.getpid()
        self._closed = False

    # Requests of clients

    def wait(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Transport.wait`."""
        look = partial(self._settled_now, execution_id)
        found = look()
        if found is not None:
            return found
        changed = threading.Event()
        refused: list[BaseException] = []

        def refuse(error: BaseException) -> None:
            refused.append(error)
            changed.set()

        def wait(left: float | None) -> None:
            if refused:
                raise refused[0]
            changed.wait(left)
            changed.clear()

        with self._watcher.until_end(execution_id, changed.set), blocking_wait(refuse, timeout):
            return wait_until_settled(execution_id, look, timeout, wait)

    async def wait_async(self, execution_id: str) -> Settled:
        """See `Transport.wait_async`."""
        found = self._settled_now(execution_id)
        if found is not None:
            return found
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            # On a loop that was closed meanwhile no caller waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        with self._watcher.until_end(execution_id, wake):
            while (found := self._settled_now(execution_id)) is None:
                await changed.wait()
                changed.clear()
        return found

    def now(self) -> int:
        """See `Transport.now`."""
        return self._clock.now()

    @contextmanager
    def watch(self, execution_id: str) -> Generator[Callable[[float], None]]:
        """See `Transport.watch`."""
        self.check()
        changed = threading.Event()

        def wait(seconds: float) -> None:
            changed.wait(seconds)
            changed.clear()

        with self._watcher.until_change(execution_id, changed.set):
            yield wait

    @contextmanager
    def changes(self, execution_id: str, wake: Callable[[], None]) -> Generator[Pauses]:
        """See `Transport.changes`: a thread looks at the file while a caller waits."""
        self.check()
        with self._watcher.until_change(execution_id, wake):
            yield Pauses(LONGEST_PAUSE)

    def start(self, requests: Sequence[Start]) -> None:
        """See `Transport.start`: put the new executions into the file, for other processes to begin."""
        self._check_writable()
        made: list[tuple[Start, Commit]] = []
        names = {request.execution_id for request in requests if not request.fresh}
        there = self._store.lookup(names) if names else {}
        for request in requests:
            found = there.get(request.execution_id)
            if found is None or found.head is None:
                deleted = 0 if found is None else found.deleted_events
                made.append((request, self._creation(request, deleted)))
            else:
                self._answer_found(request)
        if made:
            answers = self._create([commit for _, commit in made])
            for (request, commit), created in zip(made, answers, strict=True):
                if created:
                    assert commit.head is not None
                    request.reply.give(Started(commit.head))
                else:
                    self._answer_found(request)
        self._notify()

    def ask(self, request: Request[T], timeout: float | None = None) -> T:
        """See `Transport.ask`. Returns once a message is in the mailbox, and does not wait for its effect."""
        reply = request.reply
        if isinstance(request, Ask):
            self._query(request)
            return reply.wait(0)
        self._check_writable()
        if isinstance(request, Post):
            request.reply.give(self._post(request))
        elif isinstance(request, Resume):
            request.reply.give(self._resume(request))
        else:
            assert isinstance(request, Update)
            request.reply.give(self._update(request))
        return reply.wait(0)

    def post(self, requests: Sequence[Post]) -> None:
        """See `Transport.post`. Executions to delete that no other process has are deleted here."""
        self._check_writable()
        if not self._wakes_holders and any(map(asks_to_delete, requests)):
            requests = self._delete(requests)
        for request in requests:
            try:
                request.reply.give(self._post(request))
            except Exception as error:
                request.reply.fail(error)

    def _delete(self, requests: Sequence[Post]) -> list[Post]:
        """Delete executions that no other process has. Returns the requests that are left.

        The store refuses a deletion when a message has arrived after the others were read: that one is read
        then, too.
        """
        now = self._clock.now()
        asked = {one.execution_id: one for one in requests if asks_to_delete(one)}
        left = dict(asked)
        with self._owning():
            for _ in range(READ_AGAIN):
                wanted, refused = self._to_delete(left)
                for name in refused:
                    left.pop(name).reply.fail(run_again_before(name))
                if not wanted:
                    break
                commits = [Commit(h.execution_id, n, deleted_at=now) for h, n in wanted]
                for deleted, (head, _) in zip(self._store.commit(commits), wanted, strict=True):
                    if deleted:
                        left.pop(head.execution_id).reply.give(head)
        while len(left) < len(asked) and self._store.sweep(now, SWEPT_AT_ONCE):
            pass
        done = {id(one) for name, one in asked.items() if name not in left}
        return [one for one in requests if id(one) not in done]

    def _to_delete(self, requests: Mapping[str, Post]) -> tuple[list[tuple[Head, int]], list[str]]:
        """Return the heads of the executions that can be deleted now, each with its number of events, and
        the ids of those that another message has run again before. Executions that have asked one of them
        are told that it does not exist.
        """
        messages = self._unread(requests.keys())
        wanted, refused = list[tuple[Head, int]](), list[str]()
        for name, request in requests.items():
            head, extent = self._store.head(name), self._store.extent(name)
            if not (head and extent and extent.held):
                continue
            if deletion_asked([*messages[name], request.message], head):
                wanted.append((head, extent.length))
                for answer in for_nobody(name, messages[name]):
                    with suppress(ExecutionNotFound):  # the asker was deleted, too
                        self._backend.mailbox.post(answer.execution_id, answer.body, answer.key)
            elif deletion_asked([request.message], head):
                refused.append(name)
        return wanted, refused

    def _unread(self, names: Collection[str]) -> dict[str, list[Message]]:
        """Read the messages to the executions that this process holds. Returns those to the ones named."""
        mailbox, after = self._backend.mailbox, 0
        found: dict[str, list[Message]] = {name: [] for name in names}
        while entries := mailbox.entries(after, AT_ONCE):
            after = entries[-1].number
            for entry in entries:
                if entry.execution_id in found and entry.body != RESUME:
                    with suppress(WireError):  # an unreadable message asks for nothing
                        found[entry.execution_id].append(wire.decode_message(entry.body))
        return found

    def _creation(self, request: Start, deleted: int) -> Commit:
        """Return the commit that creates the execution. Its first event stands alone, since no code has run
        yet; being busy has the process that takes it over begin.
        """
        if request.fork is not None:
            return request.fork.to_commit()
        started = first_event(
            *(
                request.workflow,
                request.arguments,
                self._clock.now(),
                secrets.randbits(ENTROPY_BITS),
            ),
            **request.options(),
            first_seq=deleted,
        )
        return Commit(
            request.execution_id,
            0,
            (wire.encode(started),),
            replace(first_head(request.execution_id, started), busy=True),
            park=() if request.message is None else (wire.encode(request.message),),
        )

    def _create(self, commits: Sequence[Commit]) -> list[bool]:
        """Commit new executions, and leave them to the processes that run executions."""
        if self._wakes_holders:
            begin = [QueuedMessage(commit.execution_id, RESUME, RESUME) for commit in commits]
            commits = [replace(one, outbox=(two,)) for one, two in zip(commits, begin, strict=True)]
        with self._owning():
            try:
                return self._store.commit(commits)
            except LeaseLost:
                # Paused for longer than the lease; nothing was written.
                self._backend.leases.acquire(self._clock.now())
                return self._store.commit(commits)

    @contextmanager
    def _owning(self) -> Generator[None]:
        """Hold the executions that no other process has, and leave them to others at the end."""
        leases = self._backend.leases
        with self._using:
            leases.acquire(self._clock.now())
            try:
                yield
            finally:
                leases.release()

    def _answer_found(self, request: Start) -> None:
        """Answer a start that has found an execution, or fail its reply: the other starts go on."""
        try:
            self._found(request)
        except Exception as error:
            request.reply.fail(error)

    def _found(self, request: Start) -> None:
        """Answer a start that has found an execution, and send it the message of the start."""
        head = existing(request.execution_id, self._store.head(request.execution_id))
        message, again = request.message, restart_of(request, head, self._clock.now())
        if again is not None:
            self._leave(request.execution_id, again)
        takes = head.workflow == request.workflow and (head.closed_at is None or again is not None)
        if message is not None and takes:
            self._leave(request.execution_id, message)
        answer_start(request, None, self._store)

    def _post(self, request: Post) -> Head:
        name, message = request.execution_id, request.message
        head = still_takes(self._store.head(name), request)
        if isinstance(message, ABOUT_PROMISES):
            history = History.from_lines(self._lines(request.execution_id))
            if admit(history.state(), message) is None:
                raise not_open()
        self._leave(request.execution_id, message)
        self._notify()
        return head

    def _resume(self, request: Resume) -> Head:
        head = self._open(request.execution_id)
        self._backend.mailbox.post(request.execution_id, RESUME, mailbox_key(RESUME))
        self._notify()
        return head

    def _update(self, request: Update) -> Answer:
        lines = self._lines(request.execution_id)
        before = find_answer(lines, request.update_id, request.at, request.until)
        if before is not None or request.known:
            return Answer(before)
        self._open(request.execution_id)
        self._leave(request.execution_id, request.message(request.at))
        self._notify()
        return Answer()  # the answer will be found in the history

    def _query(self, request: Ask) -> None:
        with self._using:
            self.check()
            cache = Cache(0)
            turns = Turns(
                store=self._store,
                cache=cache,
                codec=self._codec,
                definitions=self._definitions,
                watchdog=self._watchdog,
                dispatched=lambda key: False,
                entropy=lambda: 0,
                history_limit=DEFAULT_HISTORY_LIMIT,
            )
            Queries(turns, cache, self._watchdog).answer(request)

    # Inside

    def _settled_now(self, execution_id: str) -> Settled | None:
        head = existing(execution_id, self.store.head(execution_id))
        return None if head.status == "running" else Settled(head)

    def _open(self, execution_id: str) -> Head:
        return still_open(execution_id, self._store.head(execution_id))

    def _lines(self, execution_id: str) -> list[str]:
        lines = self._store.history(execution_id)
        if not lines:
            raise not_found(execution_id)
        return lines

    def _leave(self, execution_id: str, message: Any) -> None:
        body = wire.encode(to_forward(message))
        self._backend.mailbox.post(execution_id, body, mailbox_key(body, message))

    def _notify(self) -> None:
        if not self._wakes_holders:
            self._socket.notify(self._backend.leases.peers())

    def _load(self, execution_id: str) -> Stored | None:
        with self._using:
            self.check()
            return self._store.load(execution_id)

    def _check_writable(self) -> None:
        self.check()
        if self._read_only:
            raise UsageError(
                f"{self._backend.path} was opened read_only, so that nothing can be started or sent; open "
                "it without read_only"
            )

    def check(self) -> None:
        """Raise RuntimeClosed if the client is closed or of another process, and NotAllowedInWorkflow in a
        workflow.
        """
        if self._closed:
            raise RuntimeClosed("the client was closed; open a new one")
        if self._process != os.getpid():
            raise RuntimeClosed(
                "the client belongs to the process that forked this one; open one in this process"
            )
        refuse_in_workflow()

    def close(self) -> None:
        """Close the file. Harmless if it was closed before."""
        if self._process != os.getpid():
            return  # a copy made by fork: the client itself is the other process's
        with self._using:
            if not self._closed:
                self._closed = True
                self._watcher.close()
                self._socket.close()
                self._watchdog.close()
                self._backend.close()
