"""OpenPromise: what is known of a promise that nobody has completed yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from mini_workflow.core import events
from mini_workflow.core.payload import EMPTY, Payload

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState


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

# What becomes of the state


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
