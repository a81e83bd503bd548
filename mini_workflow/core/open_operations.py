"""Keep operations that have not ended, and apply their events to the state of a run.

`ExecutionState.apply` calls the functions by the kind of an event. The id of an ask contains the id of the
asking execution and the number of the operation, so that the answering side has to keep nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from mini_workflow.core import events
from mini_workflow.core.continuation import OpenChild, remember
from mini_workflow.core.payload import EMPTY, Payload

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState


class OpenTask:
    """A task whose final outcome has not been recorded."""

    __slots__ = (
        "attempt",
        "discounted",
        "heartbeat",
        "heartbeat_timeout",
        "limit",
        "name",
        "part_of",
        "retry",
        "retry_at",
        "since",
        "timeout",
        "undoes",
        "waits",
        "worker",
    )

    def __init__(self, event: events.TaskScheduled, now: int) -> None:
        self.name = event.name
        self.since = event.begun or now
        """The time at which its attempt was due, or its wait for the next one began (milliseconds since the
        epoch)."""
        self.part_of = event.part_of
        self.undoes = event.undoes
        self.retry = event.retry
        self.timeout = event.timeout
        self.heartbeat_timeout = event.heartbeat_timeout
        self.worker = event.worker
        self.limit = event.limit
        """The slot that each attempt needs, as TaskScheduled records it; None for none."""
        self.waits = event.limit is not None
        """Whether its attempt waits for a slot."""
        self.heartbeat: Payload | None = None
        """The details of the last heartbeat of the attempts before."""
        self.attempt = 1
        self.discounted = 0
        """The number of attempts that do not count any more, because a reset begins the task again."""
        self.retry_at: int | None = None
        """The time of the next attempt; None while an attempt is in flight, or waits for a slot."""

    @property
    def in_flight(self) -> bool:
        """Whether an attempt is being made."""
        return self.retry_at is None and not self.waits


class OpenPromise:
    """A promise that is open. It was created at the time `made`. `heard` is the time of its last heartbeat
    with details, and `details` are these; both are None before the first one. Times are milliseconds since
    the epoch.
    """

    __slots__ = ("_from", "details", "heard", "heartbeat_timeout", "made", "timeout")

    def __init__(self, event: events.PromiseCreated, made: int) -> None:
        self.made = made
        self.timeout = event.timeout
        self.heartbeat_timeout = event.heartbeat_timeout
        self.heard: int | None = None
        self.details: Payload | None = None
        self._from = made

    @property
    def due(self) -> int | None:
        """The time at which the promise ends without a value; None for never."""
        ends = None if self.timeout is None else self.made + self.timeout
        if self.heartbeat_timeout is None:
            return ends
        silent = self._from + self.heartbeat_timeout
        return silent if ends is None else min(silent, ends)

    @property
    def since(self) -> int:
        """The begin of the timeout that ends at `due`."""
        by_timeout = self.timeout is not None and self.due == self.made + self.timeout
        return self.made if by_timeout else self._from

    def hear(self, at: int, details: Payload | None) -> None:
        """Take a heartbeat, which restarts the heartbeat timeout. Without `details` nothing is kept of it."""
        self._from = max(self._from, at)
        if details is not None:
            self.heard = self._from
            self.details = details

    def late(self, now: int) -> bool:
        """Return whether the timeout has passed at the time `now`; otherwise only a heartbeat is missing."""
        return self.timeout is not None and now >= self.made + self.timeout


class OpenPromises(dict[int, OpenPromise]):
    """The open promises of a run by number. `changed` says that their last heartbeats have to be stored."""

    __slots__ = ("changed",)

    def __init__(self) -> None:
        super().__init__()
        self.changed = False

    def end(self, seq: int) -> None:
        """Forget a promise that has ended. Raises KeyError if it is not open."""
        if self.pop(seq).heard is not None:
            self.changed = True

    def close(self) -> None:
        """Mark the stored heartbeats as changed if there are any, since the run has ended."""
        if self:
            self.changed = any(promise.heard is not None for promise in self.values())

    def hear(self, message: events.PromiseHeartbeat, now: int | None) -> None:
        """Take the heartbeat of an open promise: see `ExecutionState.hear`."""
        at = message.at if message.known or now is None else now
        self[message.seq].hear(at, message.value)
        self.changed = True

    def miss_none(self, now: int) -> Iterable[int]:
        """Begin all heartbeat timeouts again at `now`, and return the numbers of the promises."""
        for promise in self.values():
            if promise.heartbeat_timeout is not None:
                promise.hear(now, promise.details or EMPTY)
                self.changed = True
        return tuple(self)

    def begin_again(self, made: int, at: int) -> Iterable[int]:
        """Begin all heartbeat timeouts again at `at`, when the run continues after its end, and the timeout
        of the promise number `made`. Return the numbers of the promises.
        """
        for seq, promise in self.items():
            promise.made = at if seq == made else promise.made
            promise.hear(at, None)
        return tuple(self)

    def heartbeats(self, secret: Callable[[int], str]) -> list[events.PromiseHeartbeat]:
        """Return the last heartbeats as messages to store. `secret` returns the secret of a number."""
        self.changed = False
        return [
            events.PromiseHeartbeat(
                promise.heard, seq, promise.details or EMPTY, secret(seq), known=True
            )
            for seq, promise in self.items()
            if promise.heard is not None
        ]


NO_PROMISES: Final = OpenPromises()
"""The empty promises that all runs share which have created none."""


def promise_created(state: ExecutionState, event: events.PromiseCreated) -> None:
    """Add an open promise."""
    state.check_open(event)
    if state.promises is NO_PROMISES:
        state.promises = OpenPromises()
    state.promises[event.seq] = OpenPromise(event, state.now)
    state.wait_for_promise(event.seq)


def promise_ended(
    state: ExecutionState, event: events.PromiseCompleted | events.PromiseFailed | events.TimerFired
) -> None:
    """Remove a promise that has ended, with its timer."""
    state.promises.end(event.seq)
    if event.seq in state.timers:
        del state.timers[event.seq]
        state.durations.end(event.seq)


def child_started(state: ExecutionState, event: events.ChildStarted) -> None:
    """Add an open child."""
    state.check_open(event)
    state.children[event.seq] = OpenChild(event.id, event.on_parent_close)


def child_cancelled(state: ExecutionState, event: events.ChildCancelled) -> None:
    """Move a child to those that were cancelled."""
    state.child_ids[event.seq] = state.children.pop(event.seq).id


def child_ended(state: ExecutionState, event: events.ChildCompleted | events.ChildFailed) -> None:
    """Remove a child that has ended, also one that was cancelled or is of an earlier run."""
    if event.seq in state.child_ids:
        del state.child_ids[event.seq]
    elif event.seq in state.inherited:
        del state.inherited[event.seq]
    else:
        del state.children[event.seq]


class OpenAsk:
    """An open ask, `sent` by that event. `again` is the number of the run that asked it anew, or 0."""

    __slots__ = ("again", "sent")

    def __init__(self, sent: events.AskSent) -> None:
        self.sent = sent
        self.again = 0


def part_of(state: ExecutionState, seq: int) -> str:
    """Return the part of the id of an open ask that stands behind the id of the execution."""
    again = state.asks[seq].again
    return f"{state.seed}/{seq}/{again}" if again else f"{state.seed}/{seq}"


def read_ask(ask_id: str) -> tuple[str, int]:
    """Return the id of the asking execution and the number of its operation. Raises ValueError if `ask_id`
    is no id of an ask.
    """
    asker, _, number, *_ = (*ask_id.split("/"), "", "")
    return asker, int(number)


def is_open(state: ExecutionState, message: events.AskAnswered | events.AskFailed) -> bool:
    """Return whether the answer is for an open ask, as it was asked last."""
    seq = message.seq
    return seq in state.asks and message.id.partition("/")[2] == part_of(state, seq)


def take_sent(state: ExecutionState, event: events.AskSent) -> None:
    """Add an open ask."""
    state.check_open(event)
    state.asks[event.seq] = OpenAsk(event)


def take_answer(state: ExecutionState, event: events.AskAnswered | events.AskFailed) -> None:
    """Remove an ask that is answered."""
    del state.asks[event.seq]


def take_asker(state: ExecutionState, event: events.ResultAsked) -> None:
    """Add an execution that waits for the result."""
    state.askers[event.id] = "result"


def ask_again(state: ExecutionState, event: events.ExecutionReset) -> None:
    """Give the open asks the ids by which a reset asks again. Executions that wait for the source of a fork
    do not wait for the fork.
    """
    for number, run in (event.asks or {}).items():
        if (ask := state.asks.get(int(number))) is not None and run:
            ask.again = run
    if event.how == "fork":
        state.askers.clear()


def update_accepted(state: ExecutionState, event: events.UpdateAccepted) -> None:
    """Add an update that is not answered, and the execution that waits for the answer, if there is one."""
    state.updates[event.id] = False
    if event.asker:
        state.askers[event.id] = "update"


def update_ended(
    state: ExecutionState, event: events.UpdateCompleted | events.UpdateFailed
) -> None:
    """Keep the answer to an update. Raises KeyError if the update was not accepted."""
    if event.id not in state.updates:
        raise KeyError(event.id)
    state.updates[event.id] = True
    remember(state.answers, state.now, event)


def update_refused(state: ExecutionState, event: events.UpdateRefused) -> None:
    """Keep the refusal of an update."""
    remember(state.answers, event.at, event)


_NONE: Final[dict[int, int]] = {}
"""The empty `moved` that runs share as long as none of their durations is moved, which is rare."""


class OpenDurations:
    """The begins of the open durations, by number. If one began later than the present time of the clock,
    the clock was set back since, and the end of the duration is moved by as much.
    """

    moved: dict[int, int]
    """The milliseconds by which durations end earlier than planned, by number."""

    __slots__ = ("_began", "latest", "moved")

    def __init__(self) -> None:
        self._began: dict[int, int] = {}
        self.moved = _NONE
        self.latest = 0
        """The latest begin of all durations, ended ones included (milliseconds since the epoch)."""

    def begin(self, seq: int, at: int) -> None:
        """Add a duration that begins at the time `at` (milliseconds since the epoch)."""
        self._began[seq] = at
        self.keep_end(seq)
        if at > self.latest:
            self.latest = at

    def end(self, seq: int) -> None:
        """Remove a duration that has ended, if there is one of that number."""
        if self._began.pop(seq, None) is not None:
            self.keep_end(seq)

    def keep_end(self, seq: int) -> None:
        """Move the end of a duration back to where it was planned at first."""
        if seq in self.moved:
            del self.moved[seq]

    def clear(self) -> None:
        """Forget all durations."""
        self._began.clear()
        self.moved = _NONE

    def begun_after(self, now: int) -> list[int]:
        """Return the numbers of the durations that began later than `now`, by what is known of the clock."""
        moved = self.moved
        return [seq for seq, at in self._began.items() if at - moved.get(seq, 0) > now]

    def move(self, seq: int, now: int, by: int) -> None:
        """Move the end of a duration by the `by` milliseconds that the clock was set back; if that is too
        little, as if the duration began at `now`.
        """
        moved = self.moved.get(seq, 0)
        if self.moved is _NONE:
            self.moved = {}
        self.moved[seq] = moved + max(by, self._began[seq] - moved - now)

    def is_moved(self, seq: int, now: int, steady_since: int) -> bool:
        """Return whether the moved end of a duration is valid, since the clock was not set forward again.

        That is so if the duration began later than `now`, or if the clock has reached its begin without a
        jump: it has not jumped since `steady_since`.
        """
        began = self._began[seq]
        return began > now or steady_since < began


NO_DURATIONS: Final = OpenDurations()
"""The empty durations that all runs share which had none."""


def begin_duration(state: ExecutionState, seq: int, at: int) -> None:
    """Add a duration to a state: see `OpenDurations.begin`."""
    if state.durations is NO_DURATIONS:
        state.durations = OpenDurations()
    state.durations.begin(seq, at)
