"""OpenTask: what a history says of a task that has not ended."""

from __future__ import annotations

from mini_workflow.core import events
from mini_workflow.core.payload import Payload


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
