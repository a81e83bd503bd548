"""Declare the ports of a store: small protocols whose docstrings state their promises.

All times are whole milliseconds since the epoch. Every method may raise StoreError when the
store cannot do its part; then nothing of the call has happened. A store sees plain fields and
opaque lines of text, never events or values.

An engine calls one method at a time, but not always on the same thread. A method whose docstring says "any
thread" may be called on any thread, at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Literal, Protocol

from mini_workflow.core.records import frozen, record, replace
from mini_workflow.core.streams import StreamWrite

Status = Literal["running", "blocked", "completed", "failed", "cancelled", "terminated"]

STATUSES: Final[tuple[Status, ...]] = (
    "running",
    "blocked",
    "completed",
    "failed",
    "cancelled",
    "terminated",
)

CLOSED: Final[tuple[Status, ...]] = STATUSES[2:]
"""The statuses of executions that have closed."""


@record
class Head:
    """The summary of an execution that a store has without reading its history.

    `busy` says that a task is in flight. `wake_at` is the earliest time at which something is due
    by itself (a timer, a retry, the deadline of an attempt), or None; for an attempt it may be earlier.
    `blocked_kind` and `blocked_reason` explain the status blocked. `closed_at` is None
    while the execution is open. `run` counts the runs from 1, and `base` is the number of events of the
    runs before this one: these events stay stored and count, and neither `load` nor `history` returns
    them. `parent` is the id of the execution that started this one as its child. `tags` is a JSON object of
    names and values, as text; empty if there are none. `waits` says what the code awaits, and `progress`
    how far it has come by its own account, both as texts of the module `core.awaited`; empty where nothing
    is known.
    """

    execution_id: str
    workflow: str
    status: Status
    started_at: int
    closed_at: int | None = None
    busy: bool = False
    wake_at: int | None = None
    blocked_kind: str | None = None
    blocked_reason: str | None = None
    run: int = 1
    base: int = 0
    parent: str | None = None
    tags: str = ""
    waits: str = ""
    progress: str = ""


@record
class Stored:
    """An execution as loaded: its head, the lines of its history, and its parked messages.

    `events` are those of the current run, so that `head.base + len(events)` is the number of all.
    `held` says whether the owner that loads the execution holds it. `tries` counts the owners that were
    lost in the middle of its turn, since a commit has last set the count (see `Leases.note_turn`).
    """

    head: Head
    events: list[str]
    parked: list[str]
    held: bool = True
    tries: int = 0


@record
class QueuedMessage:
    """A message for an execution's mailbox. `Mailbox.post` explains `key`. `otherwise` is the message that
    the sending execution gets instead, with the same key, if there is no execution of that id; empty for
    none.
    """

    execution_id: str
    body: str
    key: str
    otherwise: str = ""


@record
class Commit:
    """One execution's part of a commit.

    `expected` is the number of events that the writer has seen, those of earlier runs included:
    the fence; 0 creates the execution. `head` is None when it has not changed; one with another
    `base` begins the run whose first event has that number, counted from 0. The event may come
    with the same commit, behind the last ones of the run before. `park` are messages (lines of
    text) to keep for an execution that is blocked, behind those already parked; `unpark` removes
    all parked messages that were there before. `taken` are the numbers of mailbox messages that this commit
    has handled. `outbox` are messages to post to any executions: also those of other owners, those that the
    same step creates, and this one. A message for an execution that does not exist even so is dropped, or
    its `otherwise` is posted. `tries` sets that count; None leaves it as it is. `chunks` are kept in the
    streams of the execution, by the rules of `StreamStore`. `before` is the head that is stored now, if the
    writer knows it: a store may write only what differs.

    `deleted_at` deletes the execution, at that time; nothing else is given with it but `expected`. With
    the step nothing of the execution can be read, found or written any more. The messages to it, its streams
    and its parked messages are gone, and its id is free. Nothing else of the step is for that id. Its
    events may be removed later, by `Store.sweep`. The answer is False as long as there is a message to it
    that `Mailbox.entries` has not returned to this owner: the sender would wait for ever.
    """

    execution_id: str
    expected: int
    events: tuple[str, ...] = ()
    head: Head | None = None
    park: tuple[str, ...] = ()
    unpark: bool = False
    taken: tuple[int, ...] = ()
    outbox: tuple[QueuedMessage, ...] = ()
    tries: int | None = None
    chunks: tuple[StreamWrite, ...] = ()
    deleted_at: int | None = None
    before: Head | None = None


DELETIONS_KEPT: Final = 30 * 24 * 3_600_000
"""Milliseconds for which a store remembers, at least, how many events a deleted execution had: longer than
any message about it is under way, and longer than services keep idempotency keys. Our own bound."""

Order = Literal["-started", "started", "-closed", "closed"]

ORDERS: Final[tuple[Order, ...]] = ("-started", "started", "-closed", "closed")
"""The orders of a listing: by the start or by the end, the latest first with a minus."""


@frozen
class Query:
    """A query for executions to list or to count: those that match all fields that are given.

    `limit` is the number of heads on a page, and `after` the `Page.next` of the page before, of the same
    query. `tags` are pairs of a name and a value. Times are from `_after` on, itself included, and up to
    `_before`, itself not. With an `order` by the end, `closed_after` or `closed_before`, only executions
    that have closed match. `id_prefix` is the beginning of the ids.
    """

    workflow: str | None = None
    status: Status | None = None
    limit: int = 100
    after: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    started_after: int | None = None
    started_before: int | None = None
    closed_after: int | None = None
    closed_before: int | None = None
    parent: str | None = None
    order: Order = "-started"
    id_prefix: str | None = None


@frozen
class Page:
    """One page of a listing; `next` is None on the last one."""

    heads: list[Head]
    next: str | None = None


@record
class MailboxEntry:
    """A message in the mailbox: its number there, the execution that it is for, and its text."""

    number: int
    execution_id: str
    body: str


@record
class Extent:
    """The number of events that an execution has, those of earlier runs included, and whether the owner that
    asks holds it.
    """

    length: int
    held: bool


@record
class Found:
    """The findings about an id. `head` is that of the execution which has the id, as of the last commit, or
    None. `deleted_events` is the number of events, all together, of the executions that had the id before
    and were deleted.

    A new execution of that id numbers its operations from there on, so that a late message for one of the
    deleted executions is not taken for its own. The number is known as long as an execution has the id,
    and for DELETIONS_KEPT after the last deletion; after that it may be forgotten, and is 0.
    """

    head: Head | None
    deleted_events: int = 0


class Reader(Protocol):
    """The part of a store that turns are made from."""

    def load(self, execution_id: str) -> Stored | None:
        """Return the execution as of the last commit, or None if there is none of that id.

        The cost depends on the current run, and not on those before it.
        """
        ...

    def extent(self, execution_id: str) -> Extent | None:
        """Return the number of events of the execution, or None if there is none of that id. The cost does
        not depend on that number.
        """
        ...

    def head(self, execution_id: str) -> Head | None:
        """Return the head as of the last commit, or None. Callable from any thread."""
        ...


class Store(Reader, Protocol):
    """Heads and histories."""

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        """Return the lines of the current run's history as of the last commit, from event number
        `since` on, counted from 0 over all runs. Any thread.

        Empty if there is no such execution. The cost is that of `load`, or of the returned lines alone where
        a store can read them alone.
        """
        ...

    def ends(self, execution_id: str, last: int) -> list[str]:
        """Return the first line of the current run's history as of the last commit, and its `last` lines, as
        far as there are others than the first. Any thread.

        Empty if there is no such execution. The cost does not depend on the length of the history.
        """
        ...

    def list(self, query: Query) -> Page:
        """Return heads that match, in the order of the query, newest start first by default; of equal times
        the one created later first, or last where the order is ascending.

        Any thread. Pages fit together whichever executions begin or close in between. Raises UsageError
        when `after` is not the `next` of a page, the limit is less than 1, or the store has no index
        for the query: the error says which queries it can answer.
        """
        ...

    def count(self, query: Query) -> int:
        """Return how many executions match; `limit`, `after` and `order` make no difference. Any thread.
        Raises UsageError as `list` does.
        """
        ...

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """Write commits in one durable step. Answers True or False for each, in order.

        Each item is written as a whole, or not at all and answered False. The answer is False when the
        number of its stored events is not `expected` (another writer was faster, or the id exists already),
        and when another owner holds the execution. The other items are written all the same. Items of one
        execution build on each other. The outboxes of the written items are posted in the order of the
        items, after all else of the step. When the call returns, the items answered True survive a crash.

        Raises LeaseLost, and writes nothing at all, when this owner has no lease, or another one
        has taken it over. Raises UsageError, and writes nothing either, when a creation lacks its
        head or its first event, or when the `base` of a head is negative or leaves no event to
        its run. Raises StoreRefused, and writes nothing, when this store cannot keep a value: the caller
        then tries the items alone.
        """
        ...

    def lookup(self, execution_ids: Collection[str]) -> dict[str, Found]:
        """Return the findings about each of these ids. Any thread.

        A store that can reads them all at once: a batch of starts calls this.
        """
        ...

    def sweep(self, now: int, limit: int) -> bool:
        """Remove events that are not needed any more: about `limit` at most, of executions that were deleted
        and, if the store was opened to drop them, of runs that are over. Answers whether something is
        left to remove.

        No reader sees a difference. One short step of its own, which survives a crash as a whole or has not
        happened: every process that has the store open may call it, at any time, with or without a
        lease. It also gives space back, and forgets deletions (see `Found`).
        """
        ...


BeginCommit = Callable[[Sequence[Commit]], Callable[[], list[bool]]]
"""Begins a commit as `Store.commit`, which a store may have beside it as `begin_commit`.

The function that is returned waits for its end, answers, and raises, as `Store.commit` does: call it once,
and before another commit begins. Meanwhile the store may be read, as of before or after that commit."""


class Agenda(Protocol):
    """Executions that are due, among those that this owner holds."""

    def due(self, now: int, limit: int) -> list[str]:
        """Return ids of executions whose `wake_at` is at or before `now`, earliest first.

        The status does not matter, as long as `wake_at` is set. Reading does not consume.
        """
        ...

    def next_wake(self) -> int | None:
        """Return the earliest `wake_at` of all, or None."""
        ...

    def busy(self, after: str, limit: int) -> list[str]:
        """Return up to `limit` ids whose head says busy, in order of id, beginning behind the id `after`."""
        ...

    def blocked(self, kind: str, after: str, limit: int) -> list[str]:
        """Return up to `limit` ids whose status is blocked, with that kind, in order of id, beginning behind
        the id `after`.
        """
        ...


class Mailbox(Protocol):
    """Durable messages to executions from processes that do not hold them."""

    def post(self, execution_id: str, body: str, key: str) -> None:
        """Keep a message until a commit takes it. Any thread.

        Durable on return; messages to one execution stay in order. A second message with the same
        key to the same execution is ignored while the first is there. The status of the execution
        does not matter, nor who holds it. Raises ExecutionNotFound if there is no such execution.
        """
        ...

    def entries(
        self, after: int, limit: int, execution_id: str | None = None
    ) -> list[MailboxEntry]:
        """Return up to `limit` messages for executions that this owner holds, in order of their numbers,
        beginning behind the number `after`: all, or those for one execution.

        To find that there are none is cheap: it may be asked often. A number is never used twice.
        A message that can be read later has a higher number than all that could be read before: where
        several writers commit at the same time, numbers are given in the order in which they commit.
        A takeover may bring messages with lower numbers than those already read: begin at 0 again
        after `acquire` has answered True.
        """
        ...


class Leases(Protocol):
    """The rights of owners (runtimes with the store open) to run executions.

    Executions belong to partitions, and each partition to at most one owner at a time. The owner
    that creates an execution puts it into a partition of its own. A lease covers all that an owner
    holds: it is taken over as a whole, or not at all. One that has ended stands until another
    owner takes over. Closing a backend does not release.
    """

    def acquire(self, now: int) -> bool:
        """Take partitions that nobody holds, whose owner is dead, or whose lease has ended.

        Takes all of them, or a fair share of those that hold executions, and one at least; other living
        owners take theirs by their own calls. Makes a partition for this owner where it has none. Answers
        whether a partition was taken over that holds executions: False means that none is left to take.
        Raises LeaseLost when this owner's lease was taken over and no call has said so yet; the next call
        then begins afresh.
        """
        ...

    def renew(self, now: int) -> int:
        """Extend this owner's lease. Answers the time (milliseconds) at which to renew it next.

        Raises LeaseLost when another owner has taken the lease over in the meantime.
        """
        ...

    def extend(self, now: int) -> None:
        """Extend this owner's lease if it has one that stands, and do nothing otherwise. Any thread."""
        ...

    def note_turn(self, execution_id: str | None) -> None:
        """Note the execution in the middle of whose turn this owner is; None if it is in no turn.

        The note must cost next to nothing, since every turn writes it twice, and outlive the end of the
        process, not of the machine. An owner that takes over from one that is gone or hangs adds to
        the `tries` of the noted execution: 1 if the other owner has died, 2 if it may still
        hang. Nothing is added for an owner that has released its executions.
        """
        ...

    def release(self) -> None:
        """Give everything back, so that another owner can take it at once. Holding nothing is fine."""
        ...

    def peers(self) -> list[str]:
        """Return the addresses of the other living owners, at which they can be notified. Any thread."""
        ...


class Backend(Protocol):
    """The four ports over one state, as one owner has it open."""

    @property
    def store(self) -> Store:
        """Heads and histories."""
        ...

    @property
    def agenda(self) -> Agenda:
        """The executions that are due."""
        ...

    @property
    def mailbox(self) -> Mailbox:
        """Messages from other processes."""
        ...

    @property
    def leases(self) -> Leases:
        """The rights of owners to run executions."""
        ...

    def close(self) -> None:
        """Close, without releasing anything. A second time does nothing."""
        ...


class Clock(Protocol):
    """The time."""

    def now(self) -> int:
        """Return milliseconds since the epoch. May jump, also backwards."""
        ...


def reopened(head: Head) -> Head:
    """Return the head of a blocked execution that runs again."""
    return replace(head, status="running", blocked_kind=None, blocked_reason=None)
