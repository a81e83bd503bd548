"""Encode one commit as the arrays that the functions of the database take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from mini_workflow.errors import UsageError
from mini_workflow.ports import Commit, Head, StreamWrite
from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.postgres.arrays import flags, numbers, texts
from mini_workflow.stores.postgres.mailbox import ReceivedMessages, digest


class Events:
    """Rows of events, as columns."""

    def __init__(self) -> None:
        self.refs: list[int] = []
        self.numbers: list[int] = []
        self.bodies: list[str] = []

    def add(self, ref: int, first: int, bodies: Sequence[str]) -> None:
        """Add events of an execution; `first` is the number of the first one."""
        self.refs.extend(repeat(ref, len(bodies)))
        self.numbers.extend(range(first, first + len(bodies)))
        self.bodies.extend(bodies)

    def literals(self) -> tuple[str, str, str]:
        """Return the arrays."""
        return numbers(self.refs), numbers(self.numbers), texts(self.bodies)


class Batch:
    """The rows of one commit, as the arrays that the function takes.

    A new execution has a negative reference until the server returns its key.
    """

    def __init__(
        self,
        holding: Ownership,
        received: ReceivedMessages,
        found: dict[str, tuple[int, int]],
        *,
        keep_runs: bool,
    ) -> None:
        self._keep_runs = keep_runs
        self._deleted: list[tuple[str, int, int, int]] = []
        self._dropped: dict[int, int] = {}
        self.events = Events()
        self._holding = holding
        self._received = received
        self._places = found
        self._items: list[tuple[str, int] | None] = []
        """The execution and the reference of each item; None for an item that is refused."""
        self._creator: dict[str, int] = {}
        """The position of the item that creates an execution."""
        self._created: list[tuple[int, str, Head]] = []
        self._heads: dict[int, Head] = {}
        self._tries: dict[int, int] = {}
        self._unparked: set[int] = set()
        self._parked: dict[int, list[str]] = {}
        self._taken: list[tuple[int, int]] = []
        self._posted: list[tuple[int, str, str, str]] = []
        self._otherwise: list[tuple[int, str, str, str]] = []
        self._chunks: list[tuple[int, StreamWrite]] = []

    def add(self, item: Commit) -> None:
        """Add an item, unless its fence forbids it. Raises UsageError."""
        name, expected, head = item.execution_id, item.expected, item.head
        length = expected + len(item.events)
        place = self._places.get(name) or self._holding.lengths.get(name)
        if item.deleted_at is not None:
            self._delete(item, place, item.deleted_at)
            return
        if expected == 0 and (head is None or not item.events):
            raise UsageError(f"the commit that creates {name!r} must have a head and a first event")
        if head is not None and not 0 <= head.base < length:
            raise UsageError(
                f"a run of {name} that begins at event {head.base} has no event among {length}"
            )
        if (place is not None) if expected == 0 else (place is None or place[1] != expected):
            self._items.append(None)
            return
        if place is None:
            assert head is not None
            homes = self._holding.homes
            homes.append(homes.pop(0))
            self._created.append((homes[-1], name, head))
            ref = -len(self._created)
        else:
            ref = place[0]
            if head is not None:
                self._change(ref, head)
                if not self._keep_runs and ref > 0 and head.base >= expected:
                    self._dropped[ref] = head.base
        self._places[name] = (ref, length)
        self._items.append((name, ref))
        self.events.add(ref, expected, item.events)
        if item.tries is not None:
            self._tries[ref] = item.tries
        if item.unpark:
            self._unparked.add(ref)
            self._parked.pop(ref, None)
        if item.park:
            self._parked.setdefault(ref, []).extend(item.park)
        for number in item.taken:
            if (stored := self._received.stored_number(number, name)) is not None:
                self._taken.append((ref, stored))
        self._post(ref, item)
        self._chunks.extend((ref, write) for write in item.chunks)

    def _post(self, ref: int, item: Commit) -> None:
        for one in item.outbox:
            key = digest(one.key)
            self._posted.append((ref, one.execution_id, one.body, key))
            if one.otherwise:
                self._otherwise.append((ref, one.execution_id, one.otherwise, key))

    def _change(self, ref: int, head: Head) -> None:
        if ref > 0:
            self._heads[ref] = head
        else:
            partition, name, _ = self._created[-ref - 1]
            self._created[-ref - 1] = (partition, name, head)

    def _delete(self, item: Commit, place: tuple[int, int] | None, at: int) -> None:
        name, length = item.execution_id, item.expected
        if length < 1 or item.events or item.head is not None:
            raise UsageError(
                f"the commit that deletes {name!r} must give its number of events, and no events or head"
            )
        if place is None or place[1] != length:
            self._items.append(None)
            return
        self._deleted.append((name, place[0], length, at))
        self._items.append((name, place[0]))

    def removes(self) -> bool:
        """Return whether executions are deleted, or runs dropped."""
        return bool(self._deleted or self._dropped)

    def needs_messages(self) -> bool:
        """Return whether executions are deleted, or messages go to executions that may not exist."""
        return bool(self._deleted or self._otherwise)

    def asked_for(self) -> list[str]:
        """Return the arrays of messages that were read, and of answers for executions that are missing."""
        return [
            numbers(self._received.read()),
            numbers(ref for ref, *_ in self._otherwise),
            texts(name for _, name, *_ in self._otherwise),
            texts(body for *_, body, _ in self._otherwise),
            texts(key for *_, key in self._otherwise),
        ]

    def removed(self) -> list[str]:
        """Return the arrays of deleted executions and dropped runs."""
        return [
            numbers(key for _, key, _, _ in self._deleted),
            numbers(length for _, _, length, _ in self._deleted),
            numbers(at for *_, at in self._deleted),
            numbers(self._dropped),
            numbers(self._dropped.values()),
        ]

    def only_appends(self) -> bool:
        """Return whether the commit only appends events to existing executions."""
        return not (
            self._created
            or self._deleted
            or self._heads
            or self._tries
            or self._unparked
            or self._parked
            or self._taken
            or self._posted
            or self._chunks
        )

    def has_created(self) -> bool:
        """Return whether executions are created."""
        return bool(self._created)

    def writes_chunks(self) -> bool:
        """Return whether the commit writes to streams."""
        return bool(self._chunks)

    def chunks(self) -> list[str]:
        """Return the arrays of the chunks."""
        return [
            numbers(ref for ref, _ in self._chunks),
            *chunk_arrays([write for _, write in self._chunks]),
        ]

    def literals(self) -> list[str]:
        """Return the arrays, in the order in which the function takes them."""
        parked = [(ref, body) for ref, bodies in self._parked.items() for body in bodies]
        return [
            texts([name for _, name, _ in self._created]),
            numbers([partition for partition, _, _ in self._created]),
            *_columns([head for _, _, head in self._created]),
            numbers(self._heads),
            *_columns(list(self._heads.values())),
            *self.events.literals(),
            numbers(self._tries),
            numbers(self._tries.values()),
            numbers(ref for ref in self._unparked if ref > 0),
            numbers(ref for ref, _ in parked),
            texts(body for _, body in parked),
            numbers(ref for ref, _ in self._taken),
            numbers(number for _, number in self._taken),
            numbers(ref for ref, *_ in self._posted),
            texts(name for _, name, *_ in self._posted),
            texts(body for *_, body, _ in self._posted),
            texts(key for *_, key in self._posted),
        ]

    def settle(self, made: Sequence[int | None]) -> list[bool]:
        """Return whether each item was written, given the keys of the executions that were made."""
        answers: list[bool] = []
        gone = {name for name, *_ in self._deleted}
        for item in self._items:
            if item is None:
                answers.append(False)
                continue
            name, ref = item
            key = ref if ref > 0 else made[-ref - 1]
            if key is not None and name in gone:
                self._holding.lengths.pop(name, None)
            elif key is not None:
                self._holding.remember(name, key, self._places[name][1])
            answers.append(key is not None)
        for _, number in self._taken:
            self._received.done(number)
        return answers


def chunk_arrays(writes: Sequence[StreamWrite]) -> list[str]:
    """Return writes to streams as arrays, without their executions."""
    return [
        texts(write.stream for write in writes),
        numbers(write.source for write in writes),
        numbers(write.attempt for write in writes),
        numbers(write.number for write in writes),
        texts(write.body for write in writes),
    ]


def _columns(heads: Sequence[Head]) -> list[str]:
    """Return the columns of HEAD as arrays."""
    return [
        texts([head.workflow for head in heads]),
        texts([head.status for head in heads]),
        numbers([head.started_at for head in heads]),
        numbers([head.closed_at for head in heads]),
        flags([head.busy for head in heads]),
        numbers([head.wake_at for head in heads]),
        texts([head.blocked_kind for head in heads]),
        texts([_printable(head.blocked_reason) for head in heads]),
        numbers([head.run for head in heads]),
        numbers([head.base for head in heads]),
        texts([head.parent for head in heads]),
        texts([head.tags for head in heads]),
        texts([head.waits for head in heads]),
        texts([head.progress for head in heads]),
    ]


def _printable(reason: str | None) -> str | None:
    """Return a reason that Postgres can store: a text there has no NUL, which a reason may quote."""
    return None if reason is None else reason.replace("\0", "\\0")
