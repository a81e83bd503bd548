"""Declare a store of heartbeats: the last one of each task whose attempt runs, beside the histories."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from mini_workflow.core.records import record


@record
class Heartbeat:
    """The last heartbeat of an attempt. The attempt gave it `at` that time (milliseconds since the epoch).
    `details` is the last JSON text that the attempt gave with a heartbeat, or None if it gave none.
    """

    execution_id: str
    seq: int
    attempt: int
    at: int
    details: str | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """The key of the attempt: (execution id, sequence number of the task, attempt number)."""
        return (self.execution_id, self.seq, self.attempt)


class HeartbeatStore(Protocol):
    """Keeps the last heartbeat of each task, for people and clients who look from outside. All methods may
    be called on any thread, and raise StoreError when the store cannot do its part.

    The engine does not depend on this store: a heartbeat may be missing, or belong to an attempt that is
    over.
    """

    def keep(self, beats: Sequence[Heartbeat], over: Collection[tuple[str, int, int]]) -> None:
        """Keep heartbeats, and forget those of the attempts whose keys are in `over`.

        A heartbeat replaces the one before of its task, unless that one is of a later attempt. A heartbeat
        for an execution that does not exist is dropped.
        """
        ...

    def last(self, execution_id: str, seqs: Sequence[int]) -> list[Heartbeat]:
        """Return the last heartbeats of the tasks with these sequence numbers, as far as there are any."""
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
    """Return the `heartbeats` that a StreamStore has, or NO_HEARTBEATS if it has none."""
    found: HeartbeatStore = getattr(streams, "heartbeats", NO_HEARTBEATS)
    return found
