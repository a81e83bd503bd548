"""ClientTransport: requests of clients, answered by way of the queue, the bucket and the orchestrator."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from mini_workflow.core import events, wire
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.engine.replies import closed, not_found
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
from mini_workflow.errors import ExecutionAlreadyExists, PromiseNotOpen, StoreUnavailable
from mini_workflow.ports import Commit, Head
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.settings import ORCHESTRATOR_FUNCTION_NAME
from mini_workflow.stores.aws_clients import translate_errors
from mini_workflow.stores.s3.execution_object import ExecutionObject
from mini_workflow.stores.sqs.envelopes import dump, parse
from mini_workflow.stores.sqs.messages import Mail

T = TypeVar("T")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds between two looks at an execution that somebody waits for: they grow by half each time,
and each is drawn between a half and the whole. Our own bounds."""


CONFIRMED_WITHIN: Final = 60.0
"""Seconds to wait for the news who has completed a promise first. Our own bound."""


LONGEST_ANSWER: Final = 910
"""Seconds within which the orchestrator answers: no function of Lambda runs for longer than 900 (Lambda
quotas), and what is left is the way."""


class Pauses:
    """Growing pauses with jitter between looks at the bucket."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def take(self, at_most: float | None = None) -> float:
        """Seconds to wait now."""
        pause = random.uniform(self._next / 2, self._next)
        self._next = min(LONGEST_PAUSE, self._next * 1.5)
        return pause if at_most is None else max(0.0, min(pause, at_most))


class ClientTransport:
    """Puts requests where they are answered. Callable from any thread."""

    def __init__(self, parts: Container) -> None:
        self._parts = parts
        self._resumed: dict[str, str] = {}
        """The last writers of the executions that were blocked when they were resumed."""

    def put_all(self, requests: list[Start]) -> None:
        """Start many executions; each reply says how it went."""
        self._parts.clients.each(self._guarded, requests)

    def ask(self, request: Request, reply: Reply[T]) -> T:
        """Answer a request."""
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

    @contextmanager
    def watch(self) -> Generator[Callable[[float], None]]:
        """See `Desk.watch`: nobody tells, so the pauses grow."""
        pauses = Pauses()
        yield lambda seconds: time.sleep(pauses.take(seconds))

    # Starting

    def _guarded(self, request: Start) -> None:
        try:
            request.reply.give(self._start(request))
        except Exception as error:
            request.reply.fail(error)

    def _start(self, request: Start) -> Started:
        """Send the start first: whatever happens to this process then, it takes place. That the
        execution can be seen at once is what its object is for.
        """
        name = request.execution_id
        found = None if request.fresh else self._parts.store.header(name)
        if found is not None:
            return self._found(request, found)
        now, entropy = self._parts.clock.now(), secrets.randbits(ENTROPY_BITS)
        started = first_event(request.workflow, request.arguments, now, entropy)
        lines = [wire.encode(started)]
        if request.signal is not None:
            lines.append(wire.encode(request.signal))
        self._parts.post.send(
            [Mail(name, "messages", "\n".join(lines), f"start/{name}/{started.seed}")]
        )
        head = Head(name, request.workflow, "running", now)
        commit = Commit(name, 0, (lines[0],), head)
        if self._parts.store.create(commit, None, request.arguments.fingerprint()):
            return Started(head)
        found = self._parts.store.header(name)
        if found is None:
            raise StoreUnavailable(f"execution {name!r} is gone")
        return self._found(request, found, sent=True)

    def _found(self, request: Start, found: ExecutionObject, *, sent: bool = False) -> Started:
        """The execution that has the id already."""
        name, head = request.execution_id, found.head
        if head.workflow != request.workflow:
            raise ExecutionAlreadyExists(
                f"execution {name!r} exists and is one of workflow {head.workflow!r}, not "
                f"{request.workflow!r}; choose another id",
                execution_id=name,
            )
        if request.signal is not None:
            if head.closed_at is not None:
                raise closed(name, head.status)
            if not sent:
                self._send(name, request.signal, request.signal.id)
        elif found.fingerprint != request.arguments.fingerprint():
            raise ExecutionAlreadyExists(
                f"execution {name!r} exists and was started with other arguments; choose another "
                "id",
                execution_id=name,
            )
        elif found.length == 1 and head.status == "running" and not sent:
            # Whoever wrote it may have died before it had sent anything.
            self._parts.post.send([Mail(name, "messages", "", f"again/{name}/{found.writer}")])
        return Started(head)

    # Messages

    def _post(self, request: Post) -> Head:
        name, message = request.execution_id, request.message
        if isinstance(message, (events.PromiseCompleted, events.PromiseFailed)):
            return self._promise(name, message)
        head = self._open(name)
        key = message.id if isinstance(message, events.SignalReceived) else secrets.token_hex(8)
        self._send(name, message, key)
        return head

    def _resume(self, request: Resume) -> Head:
        name = request.execution_id
        found = self._parts.store.header(name)
        head = _still_open(name, found)
        assert found is not None
        if head.status == "blocked":
            self._resumed[name] = found.writer
        self._parts.post.send([Mail(name, "resume", "", secrets.token_hex(8))])
        return head

    def is_resumed(self, execution_id: str) -> bool:
        """Whether this process has resumed the blocked execution, and it stands as it stood then:
        the news of how it goes on are still to come.
        """
        writer = self._resumed.get(execution_id)
        if writer is None:
            return False
        found = self._parts.store.header(execution_id)
        if found is not None and found.writer == writer:
            return True
        self._resumed.pop(execution_id, None)
        return False

    def _open(self, name: str) -> Head:
        return _still_open(name, self._parts.store.header(name))

    def _send(self, name: str, message: events.Incoming, key: str) -> None:
        line = wire.encode(message)
        self._parts.post.send([Mail(name, "messages", line, f"message/{name}/{key}")])

    def _promise(
        self,
        name: str,
        message: events.PromiseCompleted | events.PromiseFailed,
    ) -> Head:
        """Complete a promise, and see who did so first."""
        answer = self._invoke(name, "promise", {"seq": message.seq, "secret": message.secret})
        if not answer["open"]:
            raise PromiseNotOpen(
                "the promise was completed, failed or given up before, or the token is wrong; "
                "nothing was changed"
            )
        start: int = answer["length"]
        run: int = answer["run"]
        self._send(name, message, secrets.token_hex(8))
        ours = wire.encode(type(message)(*(_without_secret(message))))
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
                        "somebody else has completed or failed the promise in the meantime; "
                        "nothing was changed"
                    )
            if document is None:
                raise not_found(name)
            if document.head.closed_at is not None:
                raise closed(name, document.head.status)
            if document.head.status == "blocked":
                return document.head  # it is kept, and counts once the execution goes on
            if document.head.run != run:
                raise PromiseNotOpen("the run that had made the promise has ended")
            if time.monotonic() > ends:
                raise TimeoutError(
                    f"the completion was sent, and the execution {name!r} has not taken it within "
                    f"{CONFIRMED_WITHIN:g} s: it will, once its orchestrator works again"
                )
            start = max(start, document.length)

    # What the orchestrator answers

    def _query(self, request: Ask) -> Payload:
        content = {"name": request.name, "arguments": request.arguments.tree}
        return Payload(tree=self._invoke(request.execution_id, "query", content)["value"])

    def _update(self, request: Update) -> Answer:
        """Have the update validated, and, if it is accepted, put into the queue by the
        orchestrator: then the answer will be in the history.
        """
        asked = events.UpdateRequested(
            request.at, request.update_id, request.name, request.arguments, forwarded=True
        )
        content = {"request": wire.encode(asked)}
        refusal = self._invoke(request.execution_id, "update", content).get("refusal")
        return Answer(refusal=None if refusal is None else Failure.from_plain(refusal))

    def _invoke(self, name: str, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        function = self._parts.settings.get(ORCHESTRATOR_FUNCTION_NAME)
        envelope = self._parts.envelopes.seal(
            dump(content), ("ask", name, kind), mini_workflow=kind, execution_id=name
        )
        with translate_errors(f"invoking function {function!r}"):
            # Asked again, the orchestrator would begin anew beside itself: it is waited for.
            client = self._parts.clients.get("lambda", answers_within=LONGEST_ANSWER)
            answer = client.invoke(FunctionName=function, Payload=dump(envelope).encode())
            text = answer["Payload"].read().decode()
        if answer.get("FunctionError"):
            raise StoreUnavailable(f"function {function!r} failed: {text[:1000]}")
        plain = parse(self._parts.envelopes.open(parse(text), ("answer", name, kind)))
        if "failure" in plain:
            raise self._parts.codec.decode_failure(Failure.from_plain(plain["failure"]))
        return plain


def _still_open(name: str, found: ExecutionObject | None) -> Head:
    if found is None:
        raise not_found(name)
    if found.head.closed_at is not None:
        raise closed(name, found.head.status)
    return found.head


def _without_secret(
    message: events.PromiseCompleted | events.PromiseFailed,
) -> tuple[Any, ...]:
    if isinstance(message, events.PromiseCompleted):
        return (message.at, message.seq, message.value)
    return (message.at, message.seq, message.failure)
