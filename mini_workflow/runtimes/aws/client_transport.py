"""ClientTransport: takes requests of clients to the queue, the bucket and the orchestrator."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from mini_workflow.core import events, wire
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import replace
from mini_workflow.core.seed import ENTROPY_BITS
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.replies import (
    closed,
    existing,
    not_found,
    not_open,
    restart_of,
    start_refusal,
    started_with,
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
from mini_workflow.engine.takeover import Sent
from mini_workflow.engine.transport import (
    CheckedStore,
    Pauses,
    refuse_in_workflow,
    wait_until_settled,
    wait_until_settled_async,
)
from mini_workflow.errors import PromiseNotOpen, RuntimeClosed, StoreUnavailable
from mini_workflow.ports import Commit, Head, StreamStore
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.settings import ORCHESTRATOR_FUNCTION_NAME
from mini_workflow.stores.aws.clients import LONGEST_ANSWER, translate_errors
from mini_workflow.stores.cached import Deleted
from mini_workflow.stores.s3.execution_object import ExecutionObject
from mini_workflow.stores.sqs.envelopes import dump, parse
from mini_workflow.stores.sqs.messages import SqsMessage

T = TypeVar("T")

CONFIRMED_WITHIN: Final = 60.0
"""Seconds to wait until it is known who has completed a promise first, or until the id of a deleted execution
is free. Our own bound."""


class ClientTransport:
    """The transport of AWSRuntime. Any thread."""

    def __init__(self, parts: Container) -> None:
        self.store: Final = CheckedStore(lambda: parts.store, self.check)
        """The bucket, for reading."""
        self._parts = parts
        self.closed = False
        self._resumed: dict[str, str] = {}
        """The last writers of the executions that were blocked when they were resumed."""

    def start(self, requests: Sequence[Start]) -> None:
        """See `Transport.start`."""
        self._parts.clients.each(self._guarded, list(requests))

    def ask(self, request: Request[T], timeout: float | None = None) -> T:
        """See `Transport.ask`. The `timeout` has no effect: each call of AWS has a timeout of its own."""
        self.check()
        reply = request.reply
        if isinstance(request, Post):
            request.reply.give(self._post(request))
        elif isinstance(request, Resume):
            request.reply.give(self._resume(request))
        elif isinstance(request, Ask):
            request.reply.give(self._query(request))
        elif isinstance(request, Update):
            request.reply.give(self._update(request))
        else:
            raise TypeError(f"not a request of a client: {request!r}")
        return reply.wait(0)

    def post(self, requests: Sequence[Post]) -> None:
        """See `Transport.post`."""
        self.check()
        self._parts.clients.each(self._post_one, list(requests))

    def _post_one(self, request: Post) -> None:
        try:
            request.reply.give(self._post(request))
        except Exception as error:
            request.reply.fail(error)

    def wait(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Transport.wait`. Looks at the bucket, with growing pauses."""
        pauses, look = Pauses(), partial(self._settled_now, execution_id)
        return wait_until_settled(
            execution_id, look, timeout, lambda left: time.sleep(pauses.take(left))
        )

    async def wait_async(self, execution_id: str) -> Settled:
        """See `Transport.wait_async`."""
        return await wait_until_settled_async(partial(self._settled_now, execution_id))

    @contextmanager
    def watch(self, execution_id: str) -> Generator[Callable[[float], None]]:
        """See `Transport.watch`: changes are found by looking, after growing pauses."""
        pauses = Pauses()
        yield lambda seconds: time.sleep(pauses.take(seconds))

    @property
    def streams(self) -> StreamStore:
        """The streams in the bucket."""
        return self._parts.streams

    @contextmanager
    def changes(self, execution_id: str, wake: Callable[[], None]) -> Generator[Pauses]:
        """See `Transport.changes`: changes are found by looking, after growing pauses."""
        yield Pauses()

    def now(self) -> int:
        """See `Transport.now`."""
        return self._parts.clock.now()

    def check(self) -> None:
        """Raise RuntimeClosed if the runtime is closed, and NotAllowedInWorkflow in a workflow."""
        if self.closed:
            raise RuntimeClosed("the runtime was closed; open a new one")
        refuse_in_workflow()

    def close(self) -> None:
        """Refuse every call from now on. Harmless if it was closed before."""
        self.closed = True

    def _settled_now(self, execution_id: str) -> Settled | None:
        resumed = self._is_resumed(execution_id)
        head = existing(execution_id, self.store.head(execution_id))
        if head.status == "running" or (resumed and head.status == "blocked"):
            return None
        return Settled(head)

    # Starting

    def _guarded(self, request: Start) -> None:
        try:
            request.reply.give(self._start(request))
        except Exception as error:
            request.reply.fail(error)

    def _start(self, request: Start) -> Started:
        """Send the start first: it takes place also if this process ends then. The object that is written
        after that shows the execution at once.
        """
        name = request.execution_id
        over = None if request.fresh else self._look(name)
        if isinstance(over, ExecutionObject):
            return self._found(request, over)
        if request.fork is not None:
            return self._create_fork(request, request.fork, over)
        now, entropy = self._parts.clock.now(), secrets.randbits(ENTROPY_BITS)
        started = first_event(
            request.workflow,
            request.arguments,
            now,
            entropy,
            worker=self._parts.settings.dev_worker(),
            **request.options(),
            first_seq=0 if over is None else over.events,
        )
        lines = [wire.encode(started)]
        if request.message is not None:
            lines.append(wire.encode(request.message))
        self._parts.post.send(
            [SqsMessage(name, "messages", "\n".join(lines), f"start/{name}/{started.seed}")]
        )
        head = first_head(name, started)
        commit = Commit(name, 0, (lines[0],), head)
        if self._parts.store.create(commit, request.arguments.fingerprint(), over):
            return Started(head)
        found = self._parts.store.header(name)
        if found is None:
            raise StoreUnavailable(
                f"execution {name!r} was deleted while it was started again: try again"
            )
        refusable = request.message is not None or request.if_closed == "reject"
        if refusable and found.head.closed_at is not None and self._began(name, started):
            # The message has begun it, and it has ended meanwhile.
            return Started(found.head)
        return self._found(request, found, sent=True)

    def _began(self, name: str, started: events.ExecutionStarted) -> bool:
        """Return whether the execution of that id is the one that begins with this event."""
        lines, _ = self._parts.store.lines_since(name, 0)
        first = wire.decode(lines[0]) if lines else None
        return isinstance(first, events.ExecutionStarted) and first.seed == started.seed

    def _look(self, name: str) -> ExecutionObject | Deleted | None:
        """Return the execution of that id, or the mark of a deleted one once its deletion is finished; None
        if there is neither. Raises StoreUnavailable if the deletion takes longer than CONFIRMED_WITHIN
        seconds.
        """
        pauses, ends, asked = Pauses(), 0.0, False
        while isinstance(found := self._parts.store.look(name), Deleted) and not found.finished:
            ends = ends or time.monotonic() + CONFIRMED_WITHIN
            if time.monotonic() > ends:
                raise StoreUnavailable(
                    f"execution {name!r} was deleted, and its deletion is not finished; nothing was started. "
                    "Try again once the orchestrator works, or choose another id"
                )
            time.sleep(pauses.take())
            if not asked:
                # The process that has begun the deletion may have died.
                asked = True
                again = events.DeletionRequested(self.now(), 0, 0)
                self._send(name, again, secrets.token_hex(8))
        return found

    def _create_fork(self, request: Start, fork: Beginning, over: Deleted | None) -> Started:
        """Write a fork, and then have it begin: the message does not have its events."""
        name = request.execution_id
        fingerprint = request.arguments.fingerprint()
        if not self._parts.store.create(fork.to_commit(), fingerprint, over):
            refusal = start_refusal(request, fork.head, str)
            assert refusal is not None
            raise refusal
        self._parts.post.send(
            [SqsMessage(name, "messages", "", f"fork/{name}/{secrets.token_hex(8)}")]
        )
        return Started(fork.head)

    def _found(self, request: Start, found: ExecutionObject, *, sent: bool = False) -> Started:
        """Return the execution that has the id already. Raises the error if the start is refused."""
        name, head = request.execution_id, found.head
        refusal = start_refusal(
            request,
            head,
            # A restart may have had other arguments, which are in the history.
            lambda: (
                found.fingerprint
                if head.run == 1
                else started_with(self._parts.store.history(name)[0])
            ),
        )
        if refusal is not None:
            raise refusal
        if sent:
            return Started(head)
        if (again := restart_of(request, head, self._parts.clock.now())) is not None:
            self._send(name, again, again.id)
        if request.message is not None:
            self._parts.backlog.admit(name)
            self._send(name, request.message, request.message_key())
        elif found.length == 1 and head.status == "running":
            # The process that wrote it may have died before it had sent the start.
            self._parts.post.send(
                [SqsMessage(name, "messages", "", f"again/{name}/{found.writer}")]
            )
        return Started(head)

    # Messages

    def _post(self, request: Post) -> Head:
        name, message = request.execution_id, request.message
        if isinstance(message, (events.PromiseCompleted, events.PromiseFailed)):
            return self._promise(name, message)
        if isinstance(message, events.PromiseHeartbeat):
            about = {"seq": message.seq, "secret": message.secret}
            if not self._invoke(name, "promise", about)["open"]:
                raise not_open()
        found = self._parts.store.header(name)
        head = still_takes(None if found is None else found.head, request)
        key = secrets.token_hex(8)
        if isinstance(message, (events.SignalReceived, events.PromiseHeartbeat)):
            # Only these: an execution that is behind can be ended, and its promises can be completed.
            self._parts.backlog.admit(name)
            key = getattr(message, "id", key)
        self._send(name, message, key)
        return head

    def _resume(self, request: Resume) -> Head:
        name = request.execution_id
        found = self._parts.store.header(name)
        head = still_open(name, None if found is None else found.head)
        assert found is not None
        if head.status == "blocked":
            self._resumed[name] = found.writer
        self._parts.post.send([SqsMessage(name, "resume", "", secrets.token_hex(8))])
        return head

    def _is_resumed(self, execution_id: str) -> bool:
        """Return whether this process has resumed the blocked execution, and it was not written since then:
        its next turn is still to come.
        """
        writer = self._resumed.get(execution_id)
        if writer is None:
            return False
        found = self._parts.store.header(execution_id)
        if found is not None and found.writer == writer:
            return True
        self._resumed.pop(execution_id, None)
        return False

    def _send(self, name: str, message: Sent, key: str) -> None:
        line = wire.encode(message)
        self._parts.post.send([SqsMessage(name, "messages", line, f"message/{name}/{key}")])

    def _promise(
        self,
        name: str,
        message: events.PromiseCompleted | events.PromiseFailed,
    ) -> Head:
        """Complete a promise, and wait until its history says who did so first."""
        answer = self._invoke(name, "promise", {"seq": message.seq, "secret": message.secret})
        if not answer["open"]:
            raise not_open()
        start: int = answer["length"]
        run: int = answer["run"]
        self._send(name, message, secrets.token_hex(8))
        ours = wire.encode(replace(message, secret=""))
        pauses, ends = Pauses(), time.monotonic() + CONFIRMED_WITHIN
        while True:
            time.sleep(pauses.take())
            lines, document = self._parts.store.lines_since(name, start)
            for line in lines:
                event = wire.decode(line)
                if isinstance(event, type(message)) and wire.encode(event) == ours:
                    assert document is not None
                    return document.head
                settled = isinstance(event, (events.PromiseCompleted, events.PromiseFailed))
                if settled and event.seq == message.seq:
                    raise PromiseNotOpen(
                        "another caller has completed or failed the promise in the meantime; "
                        "nothing was changed"
                    )
            if document is None:
                raise not_found(name)
            if document.head.closed_at is not None:
                raise closed(name, document.head.status)
            if document.head.status == "blocked":
                return document.head  # the value is kept, and counts once the execution goes on
            if document.head.run != run:
                raise PromiseNotOpen(
                    f"the promise is void: the run of execution {name!r} that had made it has ended"
                )
            if time.monotonic() > ends:
                raise TimeoutError(
                    f"the completion was sent, and execution {name!r} has not taken it within "
                    f"{CONFIRMED_WITHIN:g} s; it takes it once its orchestrator works again"
                )
            start = max(start, document.length)

    # Requests to the orchestrator

    def _query(self, request: Ask) -> Payload:
        content = {"name": request.name, "arguments": request.arguments.tree}
        return Payload(tree=self._invoke(request.execution_id, "query", content)["value"])

    def _update(self, request: Update) -> Answer:
        """Have the orchestrator validate the update, and put it into the queue if it is accepted: then the
        answer will be in the history.
        """
        if request.known:
            return Answer()
        self._parts.backlog.admit(request.execution_id)
        asked = request.message(request.at, forwarded=True)
        content = {"request": wire.encode(asked)}
        refusal = self._invoke(request.execution_id, "update", content).get("refusal")
        return Answer(refusal=None if refusal is None else Failure.from_plain(refusal))

    def _invoke(self, name: str, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        function = self._parts.settings.get(ORCHESTRATOR_FUNCTION_NAME)
        envelope = self._parts.envelopes.seal(
            dump(content), ("ask", name, kind), mini_workflow=kind, execution_id=name
        )
        with translate_errors(f"invoking function {function!r}"):
            # A second try would have the orchestrator begin anew beside the first: so this one waits.
            client = self._parts.clients.get("lambda", answers_within=LONGEST_ANSWER)
            answer = client.invoke(FunctionName=function, Payload=dump(envelope).encode())
            text = answer["Payload"].read().decode()
        if answer.get("FunctionError"):
            raise StoreUnavailable(f"function {function!r} failed: {text[:1000]}")
        plain = parse(self._parts.envelopes.open(parse(text), ("answer", name, kind)))
        if "failure" in plain:
            codec = self._parts.codec.for_execution(name)
            raise codec.decode_failure(Failure.from_plain(plain["failure"]))
        return plain
