"""Keep operations that have not ended, and apply their events to the state of a run.

`ExecutionState.apply` calls the functions by the kind of an event.

The id of an ask says who waits for the answer, and which operation it is of, so that nothing else has to be
kept where it is answered.
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
        """When its attempt was to be made, or its wait for the next one began (milliseconds)."""
        self.part_of = event.part_of
        self.undoes = event.undoes
        self.retry = event.retry
        self.timeout = event.timeout
        self.heartbeat_timeout = event.heartbeat_timeout
        self.worker = event.worker
        self.limit = event.limit
        """Of what its attempts need a slot each; None for nothing."""
        self.waits = event.limit is not None
        """Whether its attempt waits for a slot."""
        self.heartbeat: Payload | None = None
        """The details that the attempts before have given last with a heartbeat."""
        self.attempt = 1
        self.discounted = 0
        """How many attempts do not count any more, because the task was to be made again."""
        self.retry_at: int | None = None
        """When the next attempt is due; None while an attempt is in flight, or waits for a slot."""

    @property
    def in_flight(self) -> bool:
        """Whether an attempt is being made."""
        return self.retry_at is None and not self.waits


class OpenPromise:
    """A promise that waits. `made` is when it was made, and `heard` when its last heartbeat was heard, with
    the `details`; None as long as none was. Times are milliseconds since the epoch.
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
        """By when it ends without a value; None for never."""
        ends = None if self.timeout is None else self.made + self.timeout
        if self.heartbeat_timeout is None:
            return ends
        silent = self._from + self.heartbeat_timeout
        return silent if ends is None else min(silent, ends)

    @property
    def since(self) -> int:
        """From when on that time is counted."""
        by_timeout = self.timeout is not None and self.due == self.made + self.timeout
        return self.made if by_timeout else self._from

    def hear(self, at: int, details: Payload | None) -> None:
        """Take in a heartbeat. One without details only has it go on."""
        self._from = max(self._from, at)
        if details is not None:
            self.heard = self._from
            self.details = details

    def late(self, now: int) -> bool:
        """Return whether the timeout has passed, and not only a heartbeat is missing."""
        return self.timeout is not None and now >= self.made + self.timeout


class OpenPromises(dict[int, OpenPromise]):
    """Those of a run, by number. `changed` says that their last heartbeats are to be kept anew."""

    __slots__ = ("changed",)

    def __init__(self) -> None:
        super().__init__()
        self.changed = False

    def end(self, seq: int) -> None:
        """Forget one that has ended. Raises KeyError if it is not open."""
        if self.pop(seq).heard is not None:
            self.changed = True

    def close(self) -> None:
        """Have the heartbeats forgotten: the run has ended."""
        if self:
            self.changed = any(promise.heard is not None for promise in self.values())

    def hear(self, message: events.PromiseHeartbeat, now: int | None) -> None:
        """Take in the heartbeat of one that is open: see `ExecutionState.hear`."""
        at = message.at if message.known or now is None else now
        self[message.seq].hear(at, message.value)
        self.changed = True

    def miss_none(self, now: int) -> Iterable[int]:
        """Have each wait for its next heartbeat as if one had come `now`, and return their numbers."""
        for promise in self.values():
            if promise.heartbeat_timeout is not None:
                promise.hear(now, promise.details or EMPTY)
                self.changed = True
        return tuple(self)

    def begin_again(self, made: int, at: int) -> Iterable[int]:
        """Have each wait for its next heartbeat from `at` on, since the run was over before, and the one with
        the number `made` as if it was made then. Returns their numbers.
        """
        for seq, promise in self.items():
            promise.made = at if seq == made else promise.made
            promise.hear(at, None)
        return tuple(self)

    def heartbeats(self, secret: Callable[[int], str]) -> list[events.PromiseHeartbeat]:
        """Return the last heartbeat of each, as messages that say so again, with the secrets by number."""
        self.changed = False
        return [
            events.PromiseHeartbeat(one.heard, seq, one.details or EMPTY, secret(seq), known=True)
            for seq, one in self.items()
            if one.heard is not None
        ]


NO_PROMISES: Final = OpenPromises()
"""What runs that have made no promise share: it stays empty."""


def promise_created(state: ExecutionState, event: events.PromiseCreated) -> None:
    """Have a promise that nobody has completed."""
    state.check_open(event)
    if state.promises is NO_PROMISES:
        state.promises = OpenPromises()
    state.promises[event.seq] = OpenPromise(event, state.now)
    state.wait_for_promise(event.seq)


def promise_ended(
    state: ExecutionState, event: events.PromiseCompleted | events.PromiseFailed | events.TimerFired
) -> None:
    """Know of the end of a promise."""
    state.promises.end(event.seq)
    if event.seq in state.timers:
        del state.timers[event.seq]
        state.durations.end(event.seq)


def child_started(state: ExecutionState, event: events.ChildStarted) -> None:
    """Have a child that has not ended."""
    state.check_open(event)
    state.children[event.seq] = OpenChild(event.id, event.on_parent_close)


def child_cancelled(state: ExecutionState, event: events.ChildCancelled) -> None:
    """Wait for a child no longer."""
    state.child_ids[event.seq] = state.children.pop(event.seq).id


def child_ended(state: ExecutionState, event: events.ChildCompleted | events.ChildFailed) -> None:
    """Know of the end of a child, also of one that was given up or is of an earlier run."""
    if event.seq in state.child_ids:
        del state.child_ids[event.seq]
    elif event.seq in state.inherited:
        del state.inherited[event.seq]
    else:
        del state.children[event.seq]


class OpenAsk:
    """An ask as it was `sent`. `again` is the number of the run in which it was asked anew, or 0."""

    __slots__ = ("again", "sent")

    def __init__(self, sent: events.AskSent) -> None:
        self.sent = sent
        self.again = 0


def part_of(state: ExecutionState, seq: int) -> str:
    """Return what stands behind the id of the execution in the id of one of its open asks."""
    again = state.asks[seq].again
    return f"{state.seed}/{seq}/{again}" if again else f"{state.seed}/{seq}"


def read_ask(ask_id: str) -> tuple[str, int]:
    """Return who waits for the answer, and the number of the operation. Raises ValueError if that is no
    id of an ask.
    """
    asker, _, number, *_ = (*ask_id.split("/"), "", "")
    return asker, int(number)


def is_open(state: ExecutionState, message: events.AskAnswered | events.AskFailed) -> bool:
    """Return whether the answer is to something that is open, as it was asked last."""
    seq = message.seq
    return seq in state.asks and message.id.partition("/")[2] == part_of(state, seq)


def take_sent(state: ExecutionState, event: events.AskSent) -> None:
    """Wait for an answer."""
    state.check_open(event)
    state.asks[event.seq] = OpenAsk(event)


def take_answer(state: ExecutionState, event: events.AskAnswered | events.AskFailed) -> None:
    """Wait for it no longer."""
    del state.asks[event.seq]


def take_asker(state: ExecutionState, event: events.ResultAsked) -> None:
    """Have somebody wait for the result."""
    state.askers[event.id] = "result"


def ask_again(state: ExecutionState, event: events.ExecutionReset) -> None:
    """Have what is open answered as it is asked now. Who has asked another execution waits for that one."""
    for number, run in (event.asks or {}).items():
        if (ask := state.asks.get(int(number))) is not None and run:
            ask.again = run
    if event.how == "fork":
        state.askers.clear()


def update_accepted(state: ExecutionState, event: events.UpdateAccepted) -> None:
    """Have an update that is not answered, for which another execution may wait."""
    state.updates[event.id] = False
    if event.asker:
        state.askers[event.id] = "update"


def update_ended(
    state: ExecutionState, event: events.UpdateCompleted | events.UpdateFailed
) -> None:
    """Know what it was answered with."""
    if event.id not in state.updates:
        raise KeyError(event.id)
    state.updates[event.id] = True
    remember(state.answers, state.now, event)


def update_refused(state: ExecutionState, event: events.UpdateRefused) -> None:
    """Know that it was refused."""
    remember(state.answers, event.at, event)


_NONE: Final[dict[int, int]] = {}
"""Shared by all of whose durations none is moved, and never changed: clocks are rarely set back."""


class OpenDurations:
    """The begin of each duration that is open, by number. One that began later than the clock says now
    began before the clock was set back: its end is moved by as much.
    """

    moved: dict[int, int]
    """By how many milliseconds durations end earlier than was planned."""

    __slots__ = ("_began", "latest", "moved")

    def __init__(self) -> None:
        self._began: dict[int, int] = {}
        self.moved = _NONE
        self.latest = 0
        """When the last one of all, ended ones included, began."""

    def begin(self, seq: int, at: int) -> None:
        """Note that a duration begins."""
        self._began[seq] = at
        self.keep_end(seq)
        if at > self.latest:
            self.latest = at

    def end(self, seq: int) -> None:
        """Note that a duration is over; harmless if it is none."""
        if self._began.pop(seq, None) is not None:
            self.keep_end(seq)

    def keep_end(self, seq: int) -> None:
        """Have a duration end when it was to end in the first place."""
        if seq in self.moved:
            del self.moved[seq]

    def clear(self) -> None:
        """Forget all durations."""
        self._began.clear()
        self.moved = _NONE

    def begun_after(self, now: int) -> list[int]:
        """Return those that began later than `now`, as far as is known of the clock."""
        moved = self.moved
        return [seq for seq, at in self._began.items() if at - moved.get(seq, 0) > now]

    def move(self, seq: int, now: int, by: int) -> None:
        """Have one end earlier, by as much as the clock was set back, or, where that is too little,
        as if it began `now`.
        """
        moved = self.moved.get(seq, 0)
        if self.moved is _NONE:
            self.moved = {}
        self.moved[seq] = moved + max(by, self._began[seq] - moved - now)

    def is_moved(self, seq: int, now: int, steady_since: int) -> bool:
        """Return whether the moved end of one counts: the clock has not been set forward again
        meanwhile.

        If it began later than `now`, that is so. So it is if the clock has come to when it began
        without a jump: it has not jumped since `steady_since`.
        """
        began = self._began[seq]
        return began > now or steady_since < began


NO_DURATIONS: Final = OpenDurations()
"""What runs share that had none: it stays empty."""


def begin_duration(state: ExecutionState, seq: int, at: int) -> None:
    """Note in a state that a duration begins."""
    if state.durations is NO_DURATIONS:
        state.durations = OpenDurations()
    state.durations.begin(seq, at)
