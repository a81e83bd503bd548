"""Declare what an orchestrator asks of a backend whose queue hands executions from process to process.

All times are whole milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, Final, Protocol

from mini_workflow.core.records import frozen, record
from mini_workflow.errors import StoreError
from mini_workflow.ports import Commit, QueuedMessage, Reader, StreamWrite, TaskRequest


@frozen
class Wakeup:
    """A wake-up that has been asked for: at `at`, by the schedule `schedule` if it is not empty."""

    at: int
    schedule: str = ""


@frozen
class Wakeups:
    """The wake-ups that are set for an execution: the one for what is due at a certain time, and the
    one for the deadline of an attempt. The latter stays set as long as the execution is open, so that
    attempts which end before their deadlines cost none.
    """

    timer: Wakeup | None = None
    deadline: Wakeup | None = None

    def all(self) -> tuple[Wakeup, ...]:
        """Return those that are set."""
        return tuple(one for one in (self.timer, self.deadline) if one is not None)


NO_WAKEUPS: Final = Wakeups()


@frozen
class PendingEffects:
    """The effects that a commit leaves to be done elsewhere once it is durable: attempts to
    dispatch, as (seq,
    attempt), messages to send, whether the wake-ups are to be set, and what the turn has written to
    streams.

    `caused_by` are the ids of the queue's messages that led to them: one that comes again says that
    they may not have been done. `unconfirmed` says so although none will come.
    """

    tasks: tuple[tuple[int, int], ...] = ()
    outbox: tuple[QueuedMessage, ...] = ()
    wakeup: bool = False
    caused_by: tuple[str, ...] = ()
    unconfirmed: bool = False
    chunks: tuple[StreamWrite, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tasks or self.outbox or self.wakeup or self.chunks)


NO_EFFECTS: Final = PendingEffects()


@frozen
class ExecutionMeta:
    """The bookkeeping of an execution beside what a Head says: the effects of its last commit,
    whether this process knows them done, the wake-ups that are set, how often in a row its turns may
    have ended the process, who its parent is (``{"id": ..., "seq": ...}``), and how many events it
    has. One that is not `listed` will be by its next commit: there has to be one, also without
    anything to write. `version` is one more with each write, also one without events: what is decided
    by this is committed on top of it, and of nothing else.
    """

    pending: PendingEffects
    done: bool
    wakeup: Wakeups
    tries: int
    parent: dict[str, Any] | None
    length: int
    listed: bool = True
    version: int = field(default=0, compare=False)


@record
class Received:
    """A message as a queue hands it to an orchestrator: a `body` as it was posted, or the time for
    which a wake-up was set, which has come. `id` is the same when it comes again, and `delivery`
    counts how often it was handed out, from 1.
    """

    id: str
    execution_id: str
    body: str
    woken: int | None = None
    delivery: int = 0


class Dispatch(Protocol):
    """Takes to other functions what a committed turn has decided. At least once: what is done twice
    is recognized where it arrives. Durable on return; when a method raises StoreError, all, a part or
    nothing of it may have happened, and the caller does it again. Any thread.
    """

    def run(self, requests: Sequence[TaskRequest]) -> list[StoreError | None]:
        """Have attempts of tasks run, and answer for each what went wrong: one that fails does not
        keep back the others. Their outcomes come back as messages; so does the failure of one that
        names a worker which is not there.
        """
        ...

    def outcomes(self, execution_id: str, attempts: Sequence[tuple[int, int]]) -> list[str]:
        """Return the messages about those attempts, (seq, attempt), whose outcomes were kept because
        they could not be sent; none where none are kept. It is asked before attempts count as lost.
        """
        ...

    def cancel(self, execution_id: str, seq: int, reason: str) -> None:
        """Cancel a task for which nobody waits: tell whoever runs it, if that is possible. Harmless for
        a task that nobody runs.
        """
        ...

    def post(self, messages: Sequence[QueuedMessage]) -> None:
        """Deliver messages to executions, whether they exist or not; those for one execution arrive
        in the order in which they were posted first, however large they are. One with the key of
        another may be left out while that is on its way.
        """
        ...

    def wakeup(self, execution_id: str, at: int, now: int) -> Wakeup:
        """Return the wakeup that `set` would set for that time. Pure, and different for each execution
        and time; the `schedule` alone tells `unset` which one it is, and is empty if it needs not.
        """
        ...

    def set(self, execution_id: str, wakeup: Wakeup, now: int) -> None:
        """Have the execution woken at the wake-up's time, at most a second late: it may come early, and
        then has to be set again. Setting it twice is harmless.
        """
        ...

    def unset(self, wakeup: Wakeup) -> None:
        """Cancel a wakeup that is not needed any more; it may go off all the same. Harmless if it is
        not set, and for all others.
        """
        ...


class FencedStore(Reader, Protocol):
    """Executions that one process at a time works on, by the order of a queue; a process that has
    been overtaken is refused.

    What it has read and written it remembers, and answers from memory, until somebody else turns
    out to have written, or it is told to forget; it may forget by itself. Any thread, each for
    executions of its own. Every method may raise StoreError: then a write may have happened all the
    same, and the memory of that execution is forgotten.
    """

    def meta(self, execution_id: str) -> ExecutionMeta | None:
        """Return how things stand with an execution, from memory where that is known; None if there
        is none of that id.
        """
        ...

    def is_current(self, execution_id: str) -> bool:
        """Return whether what is in memory of an execution is as of the last write of any process.
        If not, it is forgotten. False too if there is nothing in memory.
        """
        ...

    def create(
        self,
        commit: Commit,
        parent: dict[str, Any] | None,
        fingerprint: str,
        pending: PendingEffects,
        wakeup: Wakeups,
    ) -> bool:
        """Write a new execution with its first events, in one durable step; False, and nothing is
        written, if there is one of that id. The `fingerprint` is of the arguments.

        Raises UsageError, and writes nothing, as `Store.commit`.
        """
        ...

    def commit(
        self,
        commit: Commit,
        pending: PendingEffects,
        wakeup: Wakeups,
        tries: int,
        version: int | None = None,
    ) -> bool:
        """Write in one durable step what follows the execution in memory, with the effects, which
        include the outbox and the chunks: nothing is posted, or put into streams, from here. The other
        fields replace what was there.

        False, and nothing is written, unless the execution is in memory, has `expected` events
        there, and nobody has written it since it was read: not even a commit without events. It is
        forgotten then, and the caller begins again with what `meta` says. The same commit again
        is refused, and also after an error, if it was written: nothing is stored twice.

        Nor is anything written if what is in memory has another `version` than this: it has been read
        anew since the caller asked, because a memory forgets by itself. None is whichever it has.

        Raises UsageError, and writes nothing, as `Store.commit`.
        """
        ...

    def delete(self, execution_id: str, at: int, version: int | None = None) -> bool:
        """Delete the execution in memory, at that time, and all that was written for it.

        False, and nothing is deleted, as for `commit`. With one durable step it cannot be read or found
        any more; then the rest goes, and when this returns its id is free. After an error, or the end of
        the process, the same call finishes what was begun, also by another process: it is true again for
        an execution that is gone. An id whose deletion is not finished cannot be used.
        """
        ...

    def deleted_events(self, execution_id: str) -> int:
        """Return `Found.deleted_events` as of the last `meta`, which has answered None."""
        ...

    def done(self, execution_id: str, version: int | None = None) -> None:
        """Note in memory that the effects of the last commit have been done. Nothing is written:
        other processes do not know it, and this one forgets it with the rest. Nothing is noted if what
        is in memory has another `version` than this; None is whichever it has.
        """
        ...

    def forget(self, execution_id: str) -> None:
        """Forget what is in memory: it may not be true any more."""
        ...
