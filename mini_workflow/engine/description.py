"""Describe an execution at a glance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.comparison import Mismatch, read_mismatch
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure, error_in
from mini_workflow.core.records import field, frozen, replace
from mini_workflow.core.tags import tags_from_text
from mini_workflow.engine.activity import Activity, Progress, Wait
from mini_workflow.engine.instants import instant
from mini_workflow.engine.sentence import sentence_of
from mini_workflow.errors import NonDeterminismError, SerializationError
from mini_workflow.ports import Head, Status

_MISMATCH: Final = NonDeterminismError.__name__


@frozen
class Description:
    """An execution at a glance. Times are in UTC.

    `closed_at` is None while it is open, and `blocked_kind` (the name of an error class) and
    `blocked_reason` are None unless it is blocked. `run` counts the runs from 1; `busy` says that a task is
    in flight. `parent` is the id of the execution that started it as its child, or None; `tags` are its
    present ones.

    `unserved` names the workers that tasks of it wait for, because no living process serves them: open a
    runtime with ``labels=[name]`` or ``workers={name: 1}``, or run
    ``mini-workflow worker MODULE --label name``. It is empty on AWS, where each worker has a queue.

    `activity` has the operations that it works on and waits for: all of them from `describe`, and in a
    listing those that are known without its history.

    `failure` is the exception that has ended a failed execution, and `forked_from` the id of the execution
    that this one is a fork of, or None: only `describe` has both. `error` is the class and the message of
    that exception, shortened, also in a listing; empty if it failed before stores kept it, and the class
    alone where codecs encode values. `mismatch` has the two sides of a NonDeterminismError that blocks it:
    the recorded operation, and the one that the code asks for.
    """

    id: str
    workflow: str
    status: Status
    started_at: datetime
    closed_at: datetime | None = None
    next_wake_at: datetime | None = None
    blocked_reason: str | None = None
    run: int = 1
    blocked_kind: str | None = None
    busy: bool = False
    unserved: tuple[str, ...] = ()
    parent: str | None = None
    tags: dict[str, str] = field(default_factory=dict[str, str])
    activity: Activity = field(default_factory=Activity)
    failure: RaisedError | None = None
    forked_from: str | None = None
    mismatch: Mismatch | None = None
    error: str = ""

    @classmethod
    def from_head(
        cls, head: Head, unserved: tuple[str, ...] = (), activity: Activity | None = None
    ) -> Description:
        """Return the description by a head, with the workers that nobody serves. Without an `activity` it has
        the one of the head.
        """
        return cls(
            id=head.execution_id,
            workflow=head.workflow,
            status=head.status,
            started_at=instant(head.started_at),
            closed_at=instant(head.closed_at),
            next_wake_at=instant(head.wake_at),
            blocked_reason=head.blocked_reason,
            run=head.run,
            blocked_kind=head.blocked_kind,
            busy=head.busy,
            parent=head.parent,
            tags=tags_from_text(head.tags),
            unserved=unserved,
            mismatch=read_mismatch(head.waits) if head.blocked_kind == _MISMATCH else None,
            activity=Activity.of(head) if activity is None else activity,
            error=error_in(head.waits) if head.status == "failed" else "",
        )

    @property
    def waits(self) -> tuple[Wait, ...]:
        """The operations that it works on or waits for; the one that its code awaits comes first."""
        return self.activity.waits

    @property
    def progress(self) -> tuple[Progress, ...]:
        """Its progress by its own ``ctx.progress``, and that of each ``ctx.map``."""
        return self.activity.progress

    def sentence(self, now: datetime) -> str:
        """Return its work and its waits in words, as of `now`, which has a time zone."""
        return sentence_of(
            self.status,
            self.activity,
            now,
            self.started_at,
            self.closed_at,
            self.blocked_kind,
            self.blocked_reason,
            busy=self.busy,
            unserved=self.unserved,
            error=self.error,
        )


def described(
    one: Description,
    started: events.ExecutionStarted,
    latest: Event,
    activity: Activity,
    codec: Codec,
) -> Description:
    """Return a description with the facts of the first and the latest event of the history, and an
    activity.
    """
    failed = latest.failure if isinstance(latest, events.ExecutionFailed) else None
    source = started.forked_from
    return replace(
        one,
        activity=activity,
        failure=None if failed is None else RaisedError.of(failed, codec),
        forked_from=None if source is None else source["id"],
    )


def told_by(codec: Codec) -> Callable[[Failure], str]:
    """Return the function that puts a failure into one line, with this codec for its values."""

    def told(failure: Failure) -> str:
        try:
            return codec.plain_failure(failure).summary()
        except SerializationError:
            return failure.type.rpartition(":")[2]

    return told


@frozen
class RaisedError:
    """An exception that has ended an execution. `type` is the qualified name of its class.

    `traceback` is that of the workflow's code, and `task_traceback` that of the task, or the child, from
    which the exception comes: empty if the workflow has raised it itself, and in older histories, where
    `traceback` begins with it. `cause` is the exception behind it, if there is one.
    """

    type: str
    message: str
    traceback: str = ""
    task_traceback: str = ""
    cause: RaisedError | None = None

    @classmethod
    def of(cls, failure: Failure, codec: Codec) -> RaisedError:
        """Return the error of a failure. Fields that cannot be decoded here are left out."""
        return cls._of(readable(codec, failure))

    @classmethod
    def _of(cls, failure: Failure) -> RaisedError:
        cause = None if failure.cause is None else cls._of(failure.cause)
        return cls(
            *(failure.type, failure.message, failure.traceback, failure.task_traceback, cause)
        )


def readable(codec: Codec, failure: Failure) -> Failure:
    """Return a failure with its decoded fields; those that cannot be decoded here are empty."""
    try:
        return codec.plain_failure(failure)
    except SerializationError:
        return replace(failure, traceback="", task_traceback="", cause=None)
