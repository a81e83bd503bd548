"""Declare a store of heartbeats: the last one of each attempt that runs, beside the histories."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from mini_workflow.core.records import record


@record
class Heartbeat:
    """The last heartbeat of an attempt: it was given `at` (milliseconds since the epoch), and `details` are
    those that the attempt gave last, as JSON text, or None if it gave none.
    """

    execution_id: str
    seq: int
    attempt: int
    at: int
    details: str | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """What identifies the attempt."""
        return (self.execution_id, self.seq, self.attempt)


class HeartbeatStore(Protocol):
    """Keeps the last heartbeat of each task, for whoever looks from outside. All methods may be called on any
    thread, and raise StoreError when the store cannot do its part.

    Nothing depends on what is in it: a heartbeat may be missing, or be that of an attempt which is over.
    """

    def keep(self, beats: Sequence[Heartbeat], over: Collection[tuple[str, int, int]]) -> None:
        """Keep heartbeats, each in place of the one before of its task, unless that is of a later attempt;
        and forget those of the attempts that are `over`. What is for no execution is dropped.
        """
        ...

    def last(self, execution_id: str, seqs: Sequence[int]) -> list[Heartbeat]:
        """Return the last heartbeats of these tasks, of those that have given any."""
        ...


class NoHeartbeats:
    """Stands in for a store that keeps none."""

    def keep(self, beats: Sequence[Heartbeat], over: Collection[tuple[str, int, int]]) -> None:
        """See `HeartbeatStore.keep`. Nothing is kept."""

    def last(self, execution_id: str, seqs: Sequence[int]) -> list[Heartbeat]:
        """See `HeartbeatStore.last`: there are none."""
        return []


NO_HEARTBEATS: Final = NoHeartbeats()


def heartbeats_of(streams: object) -> HeartbeatStore:
    """Return the `heartbeats` that a StreamStore has, or what stands in for them."""
    found: HeartbeatStore = getattr(streams, "heartbeats", NO_HEARTBEATS)
    return found
