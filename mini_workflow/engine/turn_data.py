"""Define the input and the result of a turn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, get_args

from mini_workflow.core import events, wire
from mini_workflow.core.commands import Command
from mini_workflow.core.events import Event, Message
from mini_workflow.core.records import field, mutable
from mini_workflow.core.wire import decode_message
from mini_workflow.engine.requests import Input, Start
from mini_workflow.errors import TurnTimeout, WireError
from mini_workflow.ports import Commit, Head, QueuedMessage, Stored

if TYPE_CHECKING:
    from mini_workflow.core.decide import Decision
    from mini_workflow.core.run import Run
    from mini_workflow.core.state import ExecutionState
    from mini_workflow.engine.cache import Live

UNKNOWN_WORKFLOW: Final = "UnknownWorkflow"
"""The kind of block that the registration of the workflow resolves by itself."""


@mutable
class Delivery:
    """The messages that have arrived for one execution, and the requests that brought them.

    `entries` are the numbers of those from the mailbox. `refused` are the messages that were not forwarded
    to another owner, since they have no effect there, and `forwarded` is the head at the time of the
    forwarding. `resume` says that the execution is to be resumed, `posted` that some messages were sent
    without a caller who waits for an answer, and `due` that a timer, a retry or a deadline is due.
    """

    execution_id: str
    messages: list[Message] = field(default_factory=list[Message])
    requests: list[Input] = field(default_factory=list[Input])
    entries: list[int] | tuple[()] = ()
    refused: list[Message] | tuple[()] = ()
    resume: bool = False
    posted: bool = False
    due: bool = False
    forwarded: Head | None = None

    def ask_to_resume(self) -> None:
        """Have the execution resumed, behind the messages that have arrived so far."""
        self.resume = True
        self.messages = drop_pauses(self.messages)


def drop_pauses(messages: Sequence[Message]) -> list[Message]:
    """Return the messages that are left when a resume has arrived behind them: it ends a pause before it."""
    return [one for one in messages if not isinstance(one, events.PauseRequested)]


@mutable
class Turn:
    """A turn that has been advanced and waits for its commit. `head` is the head after that commit."""

    delivery: Delivery
    commit: Commit
    head: Head
    live: Live | None
    decision: Decision | None = None
    closing: Event | None = None
    start: Start | None = None
    continues: bool = False
    first: bool = False
    """Whether the code of the run has begun in this turn."""
    cut: bool = False
    """Whether the turn ends before an inline task for which there was no time: see `Decision.cut`."""
    failed: Mapping[int, str] | None = None
    """The names of the tasks whose attempts are reported to have failed, by number; None if none is."""
    children: list[str] | tuple[()] = ()
    """The ids of the children that begin in its commit."""
    final_messages: tuple[QueuedMessage, ...] = ()
    """The last messages of an execution that the turn deletes. They are posted before the commit."""
    commands: frozenset[type[Command]] = frozenset()
    """The kinds of commands in the decision."""

    @property
    def deletes(self) -> bool:
        """Whether the turn deletes the execution."""
        return self.commit.deleted_at is not None


def lines_to_keep(messages: Iterable[Message], head: Head) -> tuple[str, ...]:
    """Return the lines of the messages that have to be kept; ticks and heartbeats come again by
    themselves.
    """
    if head.closed_at is not None:
        return ()
    return tuple(wire.encode(m) for m in messages if not isinstance(m, _NOT_KEPT))


def parking(
    state: ExecutionState, head: Head, left: Iterable[Message], unpark: bool, *, ends: bool
) -> tuple[tuple[str, ...], bool]:
    """Return the lines to park, and whether the parked ones before are removed. The lines are those of the
    messages that are `left`; of a run that goes on, the last heartbeats of its promises stand before them.
    """
    park = lines_to_keep(left, head) if left else ()
    changed = state.promises.changed
    if not (unpark or changed) or ends or head.status != "running":
        return park, unpark or changed
    heartbeats = state.promises.heartbeats(state.secret)
    return (*map(wire.encode, heartbeats), *park), True


ABOUT_ATTEMPTS: Final = (events.TaskCompleted, events.TaskFailed, events.TaskReleased)
ABOUT_PROMISES: Final = (
    events.PromiseCompleted,
    events.PromiseFailed,
    events.PromiseHeartbeat,
)

_NOT_KEPT: Final = (
    events.Tick,
    events.PromiseHeartbeat,
    events.ResetRequested,
    events.PauseRequested,
    events.DeletionRequested,
)


def unhandled(messages: Iterable[Message]) -> Iterable[events.SignalUnhandled]:
    """Return the events about signals that an execution does not get, because it is terminated."""
    for message in messages:
        if isinstance(message, events.SignalReceived):
            about = (message.at, message.name, message.value, message.id)
            more = (message.headers, message.asked_by, message.first_run)
            yield events.SignalUnhandled(*about, *more)


OF_ONE: Final = {kind: frozenset({kind}) for kind in get_args(Command)}
"""The kinds of a turn with one command, by that command's."""
_KINDS: Final[dict[frozenset[type[Command]], frozenset[type[Command]]]] = {}


def kinds_of(commands: Sequence[Command]) -> frozenset[type[Command]]:
    """Return the kinds of the commands of a turn. Many turns keep one object."""
    kinds = frozenset(map(type, commands))
    return _KINDS.setdefault(kinds, kinds)


def closing_of(taken: Sequence[Event]) -> Event | None:
    """Return the last of the events that closes a run."""
    for event in reversed(taken):
        if type(event) in events.CLOSING:
            return event
    return None


def names_of_failed(run: Run, messages: Iterable[Message]) -> Mapping[int, str]:
    """Return the names of the tasks whose attempts are reported to have failed, by number."""
    tasks = run.state.tasks
    failed = [m.seq for m in messages if type(m) is events.TaskFailed]
    return {seq: tasks[seq].name for seq in failed if seq in tasks}


def time_of(taken: Iterable[Event], otherwise: int) -> int:
    """Return the time of the last event, in milliseconds since the epoch."""
    return max([getattr(event, "at", 0) for event in taken], default=0) or otherwise


def deadly(tries: int) -> TurnTimeout:
    """Return the error about an execution whose turns have ended, or stopped, their processes."""
    return TurnTimeout(
        f"its turn has ended or stopped its processes again and again (counted: {tries}). Look at the last "
        "lines of their logs, move the call that ends a process (a crash in a C extension, too much memory, "
        "an endless call) from the workflow into a task, then call resume() to continue"
    )


def ended_lines(
    stored: Stored, closing: events.ExecutionTerminated, messages: Iterable[Message]
) -> tuple[str, ...]:
    """Return the lines that end an execution without running its code, with those of the signals that it does
    not get.
    """
    from mini_workflow.core.state import ExecutionState

    known: set[str] = set()
    kept: list[Message] = []
    with contextlib.suppress(WireError):
        known.update(ExecutionState.of(map(wire.decode, stored.events)).signal_ids)
        kept.extend(map(decode_message, stored.parked))
    lost = [signal for signal in unhandled((*kept, *messages)) if signal.id not in known]
    return tuple(map(wire.encode, (closing, *lost)))
