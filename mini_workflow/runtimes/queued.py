"""QueueRuntime: makes a runtime of a queued backend, whose messages the program hands over."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Final, TypeVar

from mini_workflow.codecs.payload_codecs import Codecs
from mini_workflow.codecs.standard import DEFAULT_VALUE_LIMIT, StandardCodec, with_codecs
from mini_workflow.core import events, wire
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.core.seed import ENTROPY_BITS
from mini_workflow.core.wire import decode_message
from mini_workflow.durations import milliseconds
from mini_workflow.engine.batch import ended
from mini_workflow.engine.client import Client
from mini_workflow.engine.delivery import QueueDelivery
from mini_workflow.engine.engine import DEFAULT_HISTORY_LIMIT
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.intercepted import telling
from mini_workflow.engine.orchestrator import FOREVER, Orchestrator
from mini_workflow.engine.replies import (
    answer_start,
    existing,
    not_open,
    restart_of,
    still_open,
    still_takes,
)
from mini_workflow.engine.requests import (
    Answer,
    Ask,
    Beginning,
    Post,
    Request,
    Resume,
    Start,
    Started,
    Update,
)
from mini_workflow.engine.runs import first_event, first_head
from mini_workflow.engine.transport import (
    CheckedStore,
    Pauses,
    ReadableStore,
    refuse_in_workflow,
    wait_until_settled,
    wait_until_settled_async,
)
from mini_workflow.engine.turn_data import ABOUT_PROMISES, drop_pauses
from mini_workflow.engine.watchdog import DEFAULT_LIMIT
from mini_workflow.errors import RuntimeClosed, SchemaTooNew, WireError
from mini_workflow.heartbeat_buffer import HeartbeatBuffer
from mini_workflow.interceptors import Interceptor, Interceptors
from mini_workflow.ports import (
    Clock,
    Commit,
    Head,
    NoStreams,
    QueuedMessage,
    StreamStore,
    TaskOutcome,
    TaskRequest,
)
from mini_workflow.ports.heartbeats import heartbeats_of
from mini_workflow.ports.queue import NO_EFFECTS, NO_WAKEUPS, Dispatch, FencedStore, Received
from mini_workflow.runtimes.embedded import runner_in_process
from mini_workflow.stores.system_clock import SystemClock
from mini_workflow.stream_buffer import StreamBuffer
from mini_workflow.workflow import REGISTRY, Registry

T = TypeVar("T")

log = logging.getLogger("mini_workflow.runtimes.queued")

DEFAULT_CACHE: Final = 256
"""The number of executions that are kept in memory; the store's memory should have as many. Our own bound."""

RESUME: Final = "resume"
"""The body of the message by which a blocked execution is resumed."""

RESUMED_WITHIN: Final = 60.0
"""Seconds for which an execution counts as running after it was resumed, if nothing changes. Our own
bound."""


class QueueRuntime(Client):
    """Runs the executions of a queued backend, as `embed` does for the other backends. The code that
    receives from the queue calls `orchestrate`, and the code that runs attempts calls `execute`: a
    loop, a thread or a function of the cloud, here or in any other process. All methods may be called on
    any thread; turns are made one batch at a time.

    Two callers who complete a promise at the same time may both be told that they did: one value counts.

    Args:
        store: the executions, as this process remembers them.
        dispatch: takes attempts, messages and wake-ups.
        reader: the executions as of the last commit, for clients: its `head`, `load`, `history` and `list`
            are those of `Store`.
        streams: the streams of the executions; without them every use of one is refused.
        clock: by default the system's.
        registry: the workflows, by name.
        threads: threads for sync tasks in `execute`; by default a few more than there are cores.
        cache_size: how many live executions are kept in memory.
        turn_timeout: seconds that a workflow may compute between two awaits; None for no limit.
        history_limit: events after which an execution that has not continued as new is blocked.
        codec: a PayloadCodec, or a list of them, by which all values, failures and calls are encoded
            before they are stored or sent, and in which the first one encodes first.
        interceptors: objects that go around calls, workflows and tasks: see `Interceptor`.
        value_limit: bytes that one value may take, encoded.
        lost_after: seconds that an attempt may wait until it runs, as many that it may run, and as
            many that its report may be under way: after all of them it counts as lost.
    """

    def __init__(
        self,
        store: FencedStore,
        dispatch: Dispatch,
        reader: ReadableStore,
        streams: StreamStore | None = None,
        *,
        clock: Clock | None = None,
        registry: Registry = REGISTRY,
        threads: int | None = None,
        cache_size: int = DEFAULT_CACHE,
        turn_timeout: float | None = DEFAULT_LIMIT,
        history_limit: int = DEFAULT_HISTORY_LIMIT,
        value_limit: int = DEFAULT_VALUE_LIMIT,
        lost_after: float = 24 * 3_600.0,
        codec: Codecs | None = None,
        interceptors: Iterable[Interceptor] = (),
    ) -> None:
        carrying = with_codecs(StandardCodec(value_limit=value_limit), codec)
        around = Interceptors.of(interceptors)
        longest = milliseconds(lost_after)
        self._clock: Clock = clock or SystemClock()
        self._dispatch = dispatch
        self._outcomes: dict[tuple[str, int, int], list[SimpleQueue[TaskOutcome | None]]] = {}
        """The callers of `execute`, by attempt: an attempt that comes twice has two."""
        self._outcomes_lock = threading.Lock()
        kept = streams or NoStreams()
        self._buffer: StreamBuffer | None = None
        if streams is not None:
            beats = HeartbeatBuffer(heartbeats_of(streams), self._clock.now)
            self._buffer = StreamBuffer(streams.append, self._stored, heartbeats=beats)
        self._runner = runner_in_process(
            *(carrying, threads, self._report),
            sink=self._buffer,
            interceptors=around,
            clock=clock,
        )
        self._orchestrator = Orchestrator(
            store,
            dispatch,
            self._clock,
            codec=carrying,
            definitions=around.definitions(registry.get),
            entropy=partial(secrets.randbits, ENTROPY_BITS),
            cache_size=cache_size,
            turn_limit=turn_timeout,
            history_limit=history_limit,
            limits=ReportLimits(queued=longest, longest=longest, margin=longest),
            streams=kept,
            around_task=around.around_task,
            on_turn=telling(around, store),
        )
        self._queue_transport = _QueueTransport(
            store, dispatch, reader, self._clock, kept, self._orchestrator
        )
        transport = self._queue_transport
        super().__init__(transport, transport.store, carrying, registry, around)

    def orchestrate(
        self, received: Sequence[Received], time_left: Callable[[], int] = lambda: FOREVER
    ) -> list[str]:
        """Make the turns of executions for which messages have come, with all that follows from them.

        Args:
            received: a batch of the queue. Until this returns, the queue must not hand out other messages
                of the same executions.
            time_left: returns how many milliseconds this process may still run.

        Returns:
            The ids of the executions whose messages must come again, all of them and in order. The
            messages of the others may be removed from the queue. An error of one execution is not raised;
            a message that comes again and again should be set aside.
        """
        self._queue_transport.check()
        self.schedules.declare_once()
        deliveries: dict[str, QueueDelivery] = {}
        failed: list[str] = []
        for one in received:
            name = one.execution_id
            delivery = deliveries.setdefault(name, QueueDelivery(name))
            delivery.ids = (*delivery.ids, one.id)
            delivery.delivery = max(delivery.delivery, one.delivery)
            if one.woken is not None:
                delivery.woken.append(one.woken)
            elif one.body == RESUME:
                delivery.resume = True
                delivery.messages = drop_pauses(delivery.messages)
            else:
                try:
                    delivery.messages += map(decode_message, filter(None, one.body.split("\n")))
                except (WireError, SchemaTooNew) as error:
                    log.error(
                        "[%s] message %s cannot be read, and has to come again: %s",
                        name,
                        one.id,
                        error,
                    )
                    failed.append(name)
        readable = [one for name, one in deliveries.items() if name not in failed]
        with self._queue_transport.lock:
            failed += self._orchestrator.take(readable, time_left)
        self._queue_transport.note_turns()
        return failed

    def execute(self, request: TaskRequest) -> None:
        """Run an attempt to its end, and post its outcome. Raises StoreError if that cannot be posted:
        the attempt then has to be run again. Raises RuntimeClosed likewise.
        """
        self._queue_transport.check()
        outcomes: SimpleQueue[TaskOutcome | None] = SimpleQueue()
        with self._outcomes_lock:
            self._outcomes.setdefault(request.key, []).append(outcomes)
        try:
            self._runner.submit(request)
            outcome = outcomes.get()
            if outcome is None:
                raise RuntimeClosed(
                    "the runtime was closed while it ran the task. Run the attempt again."
                )
        finally:
            with self._outcomes_lock:
                waiting = self._outcomes.get(request.key, [])
                if outcomes in waiting:
                    waiting.remove(outcomes)
                if not waiting:
                    self._outcomes.pop(request.key, None)
        message = wire.encode(ended(outcome, self._clock.now()))
        key = "/".join(map(str, ("outcome", *outcome.key)))
        self._dispatch.post((QueuedMessage(outcome.execution_id, message, key),))

    def cancel_attempts(self, execution_id: str, seq: int, reason: str) -> None:
        """Cancel the attempts of a task that `execute` runs here: nobody waits for them any more."""
        self._runner.cancel(execution_id, seq, reason)

    def _stored(self, executions: set[str]) -> None:
        self._queue_transport.note_turns()

    def _report(self, outcome: TaskOutcome) -> None:
        with self._outcomes_lock:
            waiting = self._outcomes.get(outcome.key)
            if waiting:
                waiting.pop(0).put(outcome)

    def close(self) -> None:
        """End the threads of this process. The executions, and the messages in the queue, stay."""
        super().close()
        self._queue_transport.closed = True
        self._queue_transport.note_turns()
        with self._outcomes_lock:
            for outcomes in [one for waiting in self._outcomes.values() for one in waiting]:
                outcomes.put(None)
        self._runner.close(0)
        if self._buffer is not None:
            self._buffer.close()
        self._orchestrator.close()


class _QueueTransport:
    """Implements `Transport`: posts requests that change an execution, and answers the others."""

    def __init__(
        self,
        fenced: FencedStore,
        dispatch: Dispatch,
        reader: ReadableStore,
        clock: Clock,
        streams: StreamStore,
        orchestrator: Orchestrator,
    ) -> None:
        self.streams: Final = streams
        self.store: Final = CheckedStore(lambda: reader, self.check)
        self.lock: Final = threading.RLock()
        """Held while the fenced store or the orchestrator is used."""
        self.closed = False
        self._fenced = fenced
        self._dispatch = dispatch
        self._clock = clock
        self._queries = orchestrator.queries
        self._resumed: dict[str, tuple[Head, float]] = {}
        self._changed = threading.Condition()
        self._batches = 0
        self._wakes: list[Callable[[], None]] = []

    def start(self, requests: Sequence[Start]) -> None:
        """See `Transport.start`. The message is posted first: the start takes place also if this process
        ends then.
        """
        for request in requests:
            try:
                self._start(request)
            except Exception as error:
                request.reply.fail(error)

    def _start(self, request: Start) -> None:
        name, sent = request.execution_id, request.message
        head = None if request.fresh else self.store.head(name)
        if head is not None:
            answer_start(request, None, self.store)
            request.reply.wait()
            if (again := restart_of(request, head, self.now())) is not None:
                self._post(name, wire.encode(again), again.id)
            if sent is not None:
                self._post(name, wire.encode(sent), request.message_key())
            return
        if request.fork is not None:
            self._create_fork(request, request.fork)
            return
        with self.lock:
            self._fenced.meta(name)
            deleted = self._fenced.deleted_events(name)
        started = first_event(
            *(request.workflow, request.arguments, self.now(), secrets.randbits(ENTROPY_BITS)),
            **request.options(),
            first_seq=deleted,
        )
        line = wire.encode(started)
        lines = [line] if sent is None else [line, wire.encode(sent)]
        self._post(name, "\n".join(lines), f"start/{started.seed}")
        head = first_head(name, started)
        commit = Commit(name, 0, (line,), head)
        fingerprint = request.arguments.fingerprint()
        with self.lock:
            created = self._fenced.create(commit, None, fingerprint, NO_EFFECTS, NO_WAKEUPS)
        if created:
            request.reply.give(Started(head))
        else:
            answer_start(request, None, self.store)

    def _create_fork(self, request: Start, fork: Beginning) -> None:
        """Write a fork, and then have it begin: the message does not have its events."""
        name, fingerprint = request.execution_id, request.arguments.fingerprint()
        with self.lock:
            created = self._fenced.create(
                fork.to_commit(), None, fingerprint, NO_EFFECTS, NO_WAKEUPS
            )
        if not created:
            answer_start(request, None, self.store)
            return
        self._post(name, "", f"fork/{secrets.token_hex(8)}")
        request.reply.give(Started(fork.head))

    def ask(self, request: Request[T], timeout: float | None = None) -> T:
        """See `Transport.ask`."""
        self.check()
        name, reply = request.execution_id, request.reply
        if isinstance(request, Ask):
            with self.lock:
                self._queries.ask(request)
        elif isinstance(request, Update):
            request.reply.give(self._update(request))
        elif isinstance(request, (Post, Resume)):
            if isinstance(request, Post):
                head = still_takes(self.store.head(name), request)
                self._send(request)
            else:
                head = still_open(name, self.store.head(name))
                self._resumed[name] = (head, time.monotonic() + RESUMED_WITHIN)
                self._post(name, RESUME, secrets.token_hex(8))
            request.reply.give(head)
        else:
            raise TypeError(f"not a request of a client: {request!r}")
        return reply.wait()

    def post(self, requests: Sequence[Post]) -> None:
        """See `Transport.post`."""
        for request in requests:
            try:
                self.ask(request)
            except Exception as error:
                request.reply.fail(error)

    def _send(self, request: Post) -> None:
        name, message = request.execution_id, request.message
        if isinstance(message, ABOUT_PROMISES):
            with self.lock:
                if not self._queries.is_open(name, message.seq, message.secret):
                    raise not_open()
        key = message.id if isinstance(message, events.SignalReceived) else secrets.token_hex(8)
        self._post(name, wire.encode(message), key)

    def _update(self, request: Update) -> Answer:
        if request.known:
            return Answer()
        asked = request.message(request.at, forwarded=True)
        with self.lock:
            refusal = self._queries.refusal(request.execution_id, asked)
        if refusal is None:
            self._post(request.execution_id, wire.encode(asked), secrets.token_hex(8))
        return Answer(refusal=refusal)

    def _post(self, name: str, body: str, key: str) -> None:
        self._dispatch.post((QueuedMessage(name, body, f"{name}/{key}"),))

    def wait(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Transport.wait`."""
        look = partial(self._settled, execution_id)
        with self.watch(execution_id) as wait:
            return wait_until_settled(
                *(execution_id, look, timeout),
                lambda left: wait(RESUMED_WITHIN if left is None else left),
            )

    async def wait_async(self, execution_id: str) -> Settled:
        """See `Transport.wait_async`."""
        return await wait_until_settled_async(partial(self._settled, execution_id))

    @contextmanager
    def watch(self, execution_id: str) -> Generator[Callable[[float], None]]:
        """See `Transport.watch`. Each batch that this process handles may bring a change; changes by other
        processes are found after growing pauses.
        """
        pauses, seen = Pauses(), self._batches

        def wait(seconds: float) -> None:
            nonlocal seen
            with self._changed:
                self._changed.wait_for(lambda: self._batches != seen, pauses.take(seconds))
                seen = self._batches

        yield wait

    @contextmanager
    def changes(self, execution_id: str, wake: Callable[[], None]) -> Generator[Pauses]:
        """See `Transport.changes`. Batches of this process are told at once; changes by other processes are
        found after growing pauses.
        """
        with self._changed:
            self._wakes.append(wake)
        try:
            yield Pauses()
        finally:
            with self._changed:
                self._wakes.remove(wake)

    def now(self) -> int:
        """See `Transport.now`."""
        return self._clock.now()

    def check(self) -> None:
        """Raise RuntimeClosed if the runtime is closed, and NotAllowedInWorkflow in a workflow."""
        if self.closed:
            raise RuntimeClosed("the runtime was closed; open a new one")
        refuse_in_workflow()

    def note_turns(self) -> None:
        """Wake the callers that wait for a change."""
        with self._changed:
            self._batches += 1
            self._changed.notify_all()
            for wake in self._wakes:
                wake()

    def _settled(self, name: str) -> Settled | None:
        head = existing(name, self.store.head(name))
        before, until = self._resumed.get(name, (None, 0.0))
        if head == before and time.monotonic() < until:
            return None
        self._resumed.pop(name, None)
        return None if head.status == "running" else Settled(head)
