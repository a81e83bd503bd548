"""Take over executions whose lease has ended, exchange messages with other owners, and renew leases."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from mini_workflow.core import events, wire
from mini_workflow.core.events import Incoming
from mini_workflow.core.records import frozen, replace
from mini_workflow.core.wire import decode_message
from mini_workflow.engine.batch import AT_ONCE, MESSAGES, Batch
from mini_workflow.engine.turn_data import (
    ABOUT_ATTEMPTS,
    ABOUT_PROMISES,
    UNKNOWN_WORKFLOW,
    Delivery,
)
from mini_workflow.errors import ExecutionNotFound, StoreError, WireError
from mini_workflow.ports import (
    Agenda,
    BeginCommit,
    Clock,
    Leases,
    Mailbox,
    MailboxEntry,
    Store,
    StreamStore,
)
from mini_workflow.threads import join_thread, start_thread

log = logging.getLogger("mini_workflow.engine")

Sent = Incoming | events.UnrecordedMessage | events.Request
"""The messages that can be left for another process."""

_OF_CLOSED: Final = (events.ResetRequested, events.DeletionRequested)
"""The requests to executions that have closed."""

RESUME: Final = "resume"
"""The body of a message by which a blocked execution goes on."""


@frozen
class Ports:
    """The backend of an engine."""

    store: Store
    agenda: Agenda
    mailbox: Mailbox
    leases: Leases
    clock: Clock
    streams: StreamStore | None = None
    begin_commit: BeginCommit | None = None


class Takeover:
    """Takes over executions, finds those that have to go on, and exchanges messages with other owners.

    Every method may raise the errors of the ports, and can be called again then. `known` returns the names
    of the registered workflows. `notify_peers` is called when a message was left for another owner.
    """

    def __init__(
        self,
        ports: Ports,
        *,
        known: Callable[[], Iterable[str]],
        notify_peers: Callable[[], None],
    ) -> None:
        self._ports = ports
        self._known = known
        self._notify_peers = notify_peers
        self._read_up_to = 0
        self._behind: dict[str, int] = {}
        """By execution with more messages than one turn takes: the number of the last one that was taken."""
        self._unrecovered = True

    def take(self, now: int) -> bool:
        """Take over executions that nobody holds. Answers whether `recover` has to be called, for these or
        for those of an earlier call.
        """
        if self._ports.leases.acquire(now):
            self._unrecovered = True
        return self._unrecovered

    def look(self, now: int) -> bool:
        """Take over executions as `take` does, after another process may have changed the store."""
        return self.take(now)

    def recover(self, awake: dict[str, bool]) -> int | None:
        """Add to `awake` the executions that need a turn: those with an attempt in flight, and, with True for
        a resume, those that a registration has unblocked. Returns when the next one is due (milliseconds), or
        None.
        """
        after = ""
        while names := self._ports.agenda.busy(after, AT_ONCE):
            for name in names:
                awake.setdefault(name, False)
            after = names[-1]
        after = ""
        known = set(self._known())
        while names := self._ports.agenda.blocked(UNKNOWN_WORKFLOW, after, AT_ONCE):
            for name in names:
                head = self._ports.store.head(name)
                if head is not None and head.workflow in known:
                    awake[name] = True
            after = names[-1]
        next_wake = self._ports.agenda.next_wake()
        if awake or next_wake is not None:
            log.info(
                "took over what no other process holds: executions to continue now: %d, next due: %s",
                len(awake),
                "none" if next_wake is None else datetime.fromtimestamp(next_wake / 1000, UTC),
            )
        self.read_again()
        self._unrecovered = False
        return next_wake

    def read(self, batch: Batch) -> bool:
        """Put messages that have not been read yet into the batch. Answers whether there may be more.

        An execution gets no more messages than one turn takes, so that the others do not wait for its
        backlog.
        """
        taken = 0
        more = True
        while taken < AT_ONCE:
            entries = self._ports.mailbox.entries(self._read_up_to, AT_ONCE)
            for entry in entries:
                self._read_up_to = entry.number
                if entry.execution_id not in self._behind:
                    self._deliver(entry, batch)
                    taken += 1
            if len(entries) < AT_ONCE:
                more = False
                break
        for name, after in list(self._behind.items()):
            room = MESSAGES - len(batch.delivery(name).entries)
            entries = self._ports.mailbox.entries(after, room, name) if room > 0 else []
            for entry in entries:
                self._behind[name] = entry.number
                self._deliver(entry, batch)
            if len(entries) < room:
                del self._behind[name]
        return more or bool(self._behind)

    def _deliver(self, entry: MailboxEntry, batch: Batch) -> None:
        delivery = batch.delivery(entry.execution_id)
        try:
            message = None if entry.body == RESUME else decode_message(entry.body)
        except WireError as error:
            log.error(
                "[%s] message %d in the mailbox cannot be read, and stays there for a process that can: %s",
                *(entry.execution_id, entry.number, error),
            )
            return
        delivery.entries = [*delivery.entries, entry.number]
        if message is None:
            delivery.ask_to_resume()
        else:
            delivery.messages.append(message)
        if len(delivery.entries) >= MESSAGES:
            self._behind.setdefault(entry.execution_id, entry.number)

    def read_again(self) -> None:
        """Begin at the first message again: the messages that were read have not been committed."""
        self._read_up_to = 0
        self._behind = {}

    def is_behind(self, execution_id: str) -> bool:
        """Return whether the execution has messages in the mailbox that have to be taken before new ones."""
        return execution_id in self._behind

    def forward(self, delivery: Delivery) -> None:
        """Leave the messages of a delivery for another owner, unless the execution has closed or does not
        exist.

        Outcomes of attempts are dropped: the other owner has counted the attempts as lost when it took over.
        Messages for a promise that is not open are `refused`, so that the sender can be told.
        """
        name = delivery.execution_id
        left = [(RESUME, mailbox_key(RESUME))] if delivery.resume else []
        resets = any(isinstance(m, _OF_CLOSED) for m in delivery.messages)
        for message in delivery.messages:
            if isinstance(message, (events.Tick, *ABOUT_ATTEMPTS)):
                continue
            if isinstance(message, ABOUT_PROMISES) and not self._is_open(name, message):
                delivery.refused = [*delivery.refused, message]
            else:
                body = wire.encode(to_forward(message))
                left.append((body, mailbox_key(body, message)))
        if not left:
            return
        head = self._ports.store.head(name)
        if head is None or (head.closed_at is not None and not resets):
            return
        try:
            for body, key in left:
                self._ports.mailbox.post(name, body, key)
        except ExecutionNotFound:
            return  # another owner has deleted it meanwhile
        delivery.forwarded = head
        self._notify_peers()

    def _is_open(self, execution_id: str, message: Sent) -> bool:
        """Return whether the promise can be completed by the history so far."""
        from mini_workflow.core.duplicates import admit
        from mini_workflow.core.state import ExecutionState

        try:
            history = map(wire.decode, self._ports.store.history(execution_id))
            return admit(ExecutionState.of(history), message) is not None
        except WireError:
            return True  # the other owner decides


def to_forward(message: Sent) -> Sent:
    """Return the message to forward. The sender of a forwarded update reads the answer in the history, so
    that a refusal is recorded too.
    """
    if isinstance(message, events.UpdateRequested):
        return replace(message, forwarded=True)
    return message


def mailbox_key(body: str, message: Sent | None = None) -> str:
    """Return the key by which a mailbox takes a message once; None is a resume. Pauses and resumes have no
    ids, and each has a key of its own: the other may have come since an equal one.
    """
    if message is None or isinstance(message, events.PauseRequested):
        return f"{body} {os.urandom(8).hex()}"
    return body


class LeaseRenewal:
    """Extends the lease every `interval` seconds, unless `hangs` names an execution whose turn cannot be
    interrupted: then another process should take over the other executions.

    The engine renews the lease too. This thread goes on while a turn computes, a value is decoded or a commit
    waits, so that none of them costs the process its executions.
    """

    def __init__(
        self, leases: Leases, clock: Clock, *, interval: float, hangs: Callable[[], str | None]
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._interval: Final = interval
        self._hangs = hangs
        self._ended = threading.Event()
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="mini-workflow-lease", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        start_thread(self._thread)

    def stop(self) -> None:
        """End the thread, and wait for that. May be repeated."""
        self._ended.set()
        join_thread(self._thread)

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self.extend()

    def extend(self) -> None:
        """Extend the lease now, unless the engine hangs."""
        name = self._hangs()
        if name is not None:
            if not self._given_up:
                self._given_up = True
                log.critical(
                    "[%s] keeps the engine busy, and cannot be interrupted. The lease is no longer "
                    "renewed, so that another process can take over the other executions. Terminate "
                    "the execution, and restart this process",
                    name,
                    extra={"execution_id": name},
                )
            return
        self._given_up = False
        try:
            self._leases.extend(self._clock.now())
        except StoreError as error:
            log.warning(
                "the lease could not be extended; trying again in %g s: %s", self._interval, error
            )
        except Exception:
            # The thread goes on after any error.
            log.exception("the lease could not be extended; trying again in %g s", self._interval)
