"""Declare what an orchestrator asks of a backend whose queue hands executions from process to process.

All times are whole milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from mini_workflow.core.records import field, frozen, record
from mini_workflow.errors import StoreError
from mini_workflow.ports import Commit, QueuedMessage, Reader, StreamWrite, TaskRequest


@frozen
class Wakeup:
    """A wake-up that was requested for the time `at`. `schedule` names the schedule that does it, and is
    empty if none has to be named.
    """

    at: int
    schedule: str = ""


@frozen
class Wakeups:
    """The wake-ups that are set for an execution: `timer` for the next time at which something is due, and
    `deadline` for the deadline of an attempt. The latter stays set as long as the execution is open, so
    that an attempt that ends before its deadline costs no change.
    """

    timer: Wakeup | None = None
    deadline: Wakeup | None = None

    def all(self) -> tuple[Wakeup, ...]:
        """Return the wake-ups that are set."""
        return tuple(one for one in (self.timer, self.deadline) if one is not None)


NO_WAKEUPS: Final = Wakeups()


@frozen
class PendingEffects:
    """The effects that a commit leaves to be done elsewhere once it is durable: the attempts to dispatch, as
    (sequence number, attempt), the messages to send, whether to set the wake-ups, and the chunks that the
    turn has written to streams.

    `caused_by` are the ids of the queue's messages that led to these effects: if one comes again, the
    effects may not have been done. `unconfirmed` says that they may not have been done although no such
    message will come.
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
    """The bookkeeping of an execution beside its Head.

    `pending` are the effects of its last commit, and `done` says whether this process knows that they were
    done. `wakeup` are the wake-ups that are set. `tries` counts how often in a row its turns may have ended
    the process. `parent` is ``{"id": ..., "seq": ...}``, and `length` the number of its events.

    An execution that is not `listed` gets listed by its next commit: there has to be one, also with nothing
    else to write. `version` rises by one with each write, also with one without events: a turn that was
    decided on this version is committed on top of it and of no other.
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
    """A message as a queue hands it to an orchestrator: a `body` as it was posted, or a wake-up, whose time
    `woken` (milliseconds since the epoch) has come. `id` is the same when the message comes again, and
    `delivery` counts how often it was handed out, from 1; 0 if that is not known.
    """

    id: str
    execution_id: str
    body: str
    woken: int | None = None
    delivery: int = 0


class Dispatch(Protocol):
    """Takes the effects of a committed turn to other functions, at least once: the receiver recognizes an
    effect that arrives twice. Effects are durable when a method returns. When it raises StoreError, all, a
    part or nothing of them may have happened, and the caller does it again. Any thread.
    """

    def run(self, requests: Sequence[TaskRequest]) -> list[StoreError | None]:
        """Have attempts of tasks run. Answers for each the error, or None: an attempt that cannot be handed
        over does not keep back the others. Outcomes come back as messages; so does the failure of an attempt
        that names a worker which does not exist.
        """
        ...

    def outcomes(self, execution_id: str, attempts: Sequence[tuple[int, int]]) -> list[str]:
        """Return the messages with kept outcomes of these attempts, given as (sequence number, attempt).

        An outcome is kept where it could not be sent. A backend that keeps none answers none. The engine
        calls this before it counts attempts as lost.
        """
        ...

    def cancel(self, execution_id: str, seq: int, reason: str) -> None:
        """Cancel a task for which nobody waits: tell the worker that runs it, if that is possible. Harmless
        for a task that nobody runs. `reason` is told to the task.
        """
        ...

    def post(self, messages: Sequence[QueuedMessage]) -> None:
        """Deliver messages to executions, whether these exist or not. Messages for one execution arrive in
        the order in which they were posted first, however large they are. While a message is on its way,
        another one with the same key may be left out.
        """
        ...

    def wakeup(self, execution_id: str, at: int, now: int) -> Wakeup:
        """Return the wake-up that `set` would set for the time `at` (milliseconds). Pure, and different for
        each execution and time. `unset` finds a wake-up by its `schedule` alone, which is empty if there is
        nothing to find.
        """
        ...

    def set(self, execution_id: str, wakeup: Wakeup, now: int) -> None:
        """Have the execution woken at the wake-up's time, at most a second late. A wake-up may come early;
        the caller then sets it again. Setting it twice is harmless.
        """
        ...

    def unset(self, wakeup: Wakeup) -> None:
        """Cancel a wake-up that is not needed any more; it may come all the same. Harmless if it is not set,
        and for all others.
        """
        ...


class FencedStore(Reader, Protocol):
    """Executions that one process at a time works on, in the order of a queue. The commit of a process that
    another one has overtaken is refused.

    The store remembers what it has read and written, and answers from memory, until it finds that another
    process has written, or `forget` is called; it may forget by itself. Any thread, each for executions of
    its own. Every method may raise StoreError: then a write may have happened all the same, and the memory
    of that execution is forgotten.
    """

    def meta(self, execution_id: str) -> ExecutionMeta | None:
        """Return how things stand with an execution, from memory where that is known; None if there
        is none of that id.
        """
        ...

    def is_current(self, execution_id: str) -> bool:
        """Return whether the memory of an execution has the last write of any process. If not, the memory is
        forgotten. False too if there is nothing in memory.
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
        """Write a new execution with its first events, in one durable step. Answers False, and writes
        nothing, if there is one of that id. `fingerprint` is that of the arguments.

        Raises UsageError, and writes nothing, as `Store.commit` does.
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
        """Write in one durable step the events that follow the execution in memory, and its effects. The
        effects include the outbox and the chunks: this method posts no message, and puts no chunk into a
        stream. The other fields replace what was there.

        Answers False, and writes nothing, unless the execution is in memory, has `expected` events there,
        and nobody has written it since it was read, not even a commit without events. It is forgotten then,
        and the caller begins again with what `meta` says. A commit that was written is refused when it
        comes again, also after an error: nothing is stored twice.

        Answers False, and writes nothing, also if the memory has another `version`: the execution was read
        anew since the caller asked, because a memory forgets by itself. None accepts any version.

        Raises UsageError, and writes nothing, as `Store.commit` does.
        """
        ...

    def delete(self, execution_id: str, at: int, version: int | None = None) -> bool:
        """Delete the execution in memory, at the time `at` (milliseconds), and all that was written for it.

        Answers False, and deletes nothing, as `commit` does. After one durable step the execution cannot be
        read or found any more; then the rest is removed, and when this returns its id is free. After an
        error, or the end of the process, the same call finishes the deletion, also in another process: it
        answers True again for an execution that is gone. An id whose deletion is not finished cannot be
        used.
        """
        ...

    def deleted_events(self, execution_id: str) -> int:
        """Return `Found.deleted_events` as of the last call of `meta`, which has answered None."""
        ...

    def done(self, execution_id: str, version: int | None = None) -> None:
        """Note in memory that the effects of the last commit were done. Nothing is written: other processes
        do not know of it, and this one forgets it with the rest. Nothing is noted if the memory has another
        `version`; None accepts any version.
        """
        ...

    def forget(self, execution_id: str) -> None:
        """Forget the memory of an execution, which may not be true any more."""
        ...
