"""Define the requests to an engine, and the reply that a caller waits for."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from mini_workflow.core.events import (
    Event,
    Incoming,
    PromiseHeartbeat,
    SignalReceived,
    UpdateAccepted,
    UpdateCompleted,
    UpdateFailed,
    UpdateRefused,
    UpdateRequested,
)
from mini_workflow.core.events import Request as EventRequest
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import field, frozen, mutable
from mini_workflow.core.start_options import IfClosed
from mini_workflow.core.timing import UNTIMED, Timing
from mini_workflow.ports import Commit, Head, TaskOutcome

T = TypeVar("T")

_BEGINNING: Final = threading.Lock()
"""Held while a thread begins to wait for an answer."""


class Reply(Generic[T]):
    """A value or an error that one thread gives, once, and another thread waits for."""

    __slots__ = ("_error", "_given", "_lock", "_value")

    def __init__(self) -> None:
        self._value: T | None = None
        self._error: BaseException | None = None
        self._given = False
        self._lock: threading.Lock | None = None
        """What is released by the answer, once somebody waits: most answers are there by then."""

    def give(self, value: T) -> None:
        """Answer with a value. Only the first answer counts."""
        self._answer(value, None)

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        self._answer(None, error)

    def _answer(self, value: T | None, error: BaseException | None) -> None:
        if not self._given:
            self._value, self._error = value, error
            self._given = True
            # Looked for behind that: who waits has put it there before looking for the answer.
            if (lock := self._lock) is not None and lock.locked():
                with suppress(RuntimeError):  # released by another thread in between
                    lock.release()

    def wait(self, timeout: float | None = None) -> T:
        """Return the answer. Raises the error that `fail` was given, or TimeoutError after `timeout`
        seconds.
        """
        if not self._given:
            with _BEGINNING:
                if (lock := self._lock) is None:
                    lock = threading.Lock()
                    lock.acquire()
                    self._lock = lock
            if not self._given:
                if not lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
                    raise TimeoutError("no answer in time")
                lock.release()  # for others who wait
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class Request(Protocol[T]):
    """A request to an engine; the reply to it is a T."""

    @property
    def execution_id(self) -> str:
        """The id of the execution that the request is about."""
        ...

    @property
    def reply(self) -> Reply[T]:
        """The reply to the request."""
        ...


@mutable
class Started:
    """The answer to Start: the execution's head, and its closing event if it has closed."""

    head: Head
    closing: Event | None = None


@frozen
class Beginning:
    """The beginning of a fork: its head, the lines of its history, and the lines of the messages that it
    takes next.
    """

    head: Head
    events: tuple[str, ...]
    parked: tuple[str, ...]

    def to_commit(self) -> Commit:
        """Return the commit that creates the execution."""
        name = self.head.execution_id
        return Commit(name, 0, self.events, self.head, park=self.parked)


@mutable
class Start:
    """Start an execution, or find the one that was started with the same id.

    With `fresh` the id was made up, so that no execution has it. The execution gets the `message` either
    way. `if_closed` says what is done if the found execution has closed, and `restarts` that it was asked to
    begin anew. A new execution gets the `tags`, the `headers` and the `timing`. A `fork` must be a new one.
    `arguments` are by position where they can be; older versions have recorded them `as_given`.
    """

    execution_id: str
    workflow: str
    arguments: Payload
    fresh: bool = False
    message: SignalReceived | UpdateRequested | None = None
    timing: Timing = UNTIMED
    tags: dict[str, str] | None = None
    if_closed: IfClosed = "return"
    fork: Beginning | None = None
    restarts: bool = False
    as_given: Payload | None = None
    headers: dict[str, str] | None = None
    reply: Reply[Started] = field(default_factory=Reply[Started])

    def matches(self, fingerprint: str) -> bool:
        """Return whether the arguments are those of an execution whose arguments have that fingerprint."""
        given = self.as_given
        return self.arguments.matches(fingerprint) or (
            given is not None and given.matches(fingerprint)
        )

    def options(self) -> dict[str, Any]:
        """Return the options of a new execution, as arguments of `first_event`."""
        return {"timing": self.timing, "tags": self.tags, "headers": self.headers}

    def message_key(self) -> str:
        """Return the key with which the message is posted. The key of a signal is its id, the same in every
        copy. An update gets a random one: its id may have any form, and its workflow recognizes that.
        """
        if isinstance(self.message, SignalReceived):
            return self.message.id
        return os.urandom(8).hex()


@mutable
class Post:
    """Deliver a message to an execution; the reply is its head after that.

    `over` is the number of the run that is over for the sender, who has asked for the next run before; 0 for
    none. The next run takes the message, also if it has not begun yet.
    """

    execution_id: str
    message: Incoming | PromiseHeartbeat | EventRequest
    over: int = 0
    reply: Reply[Head] = field(default_factory=Reply[Head])


@mutable
class Resume:
    """Let a blocked execution go on; the reply is its head after that."""

    execution_id: str
    reply: Reply[Head] = field(default_factory=Reply[Head])


@mutable
class Answer:
    """The answer to Update: the event with the answer, or, if the validator has refused the update, the
    `refusal`. Neither if another process has the execution and will record the answer.
    """

    event: UpdateCompleted | UpdateFailed | UpdateRefused | UpdateAccepted | None = None
    refusal: Failure | None = None


UpdateStage = Literal["accepted", "answered"]
"""The stage of an update for which its sender waits."""


@mutable
class Update:
    """Have the workflow handle a request, once per `update_id`. It was asked for at the time `at`
    (milliseconds since the epoch). The reply comes at the stage `until`. A `known` update was accepted
    before: only its answer is wanted. `headers` are its headers, and `asked_by` says who has asked.
    """

    execution_id: str
    update_id: str
    name: str
    arguments: Payload
    at: int
    until: UpdateStage = "answered"
    known: bool = False
    headers: dict[str, str] | None = None
    asked_by: str = ""
    reply: Reply[Answer] = field(default_factory=Reply[Answer])

    def message(self, at: int, *, forwarded: bool = False) -> UpdateRequested:
        """Return the message that the workflow takes."""
        about = (at, self.update_id, self.name, self.arguments)
        return UpdateRequested(*about, forwarded, self.headers, self.asked_by)


@mutable
class Ask:
    """Query the workflow; the reply is the encoded answer. Nothing is recorded."""

    execution_id: str
    name: str
    arguments: Payload
    reply: Reply[Payload] = field(default_factory=Reply[Payload])


@mutable
class Release:
    """Put back an attempt that the runner has handed back: it had not begun, or not ended. `heartbeat` is the
    last JSON text that this attempt, or one before it, gave with a heartbeat.
    """

    execution_id: str
    seq: int
    attempt: int
    heartbeat: str | None = None


@mutable
class WakeUp:
    """Look at the store, which another process may have changed."""


Waited = Start | Post | Resume | Update | Ask

Input = Waited | Release | TaskOutcome | WakeUp
"""The input of an engine: requests, outcomes of attempts, and a hint to look at the store."""
