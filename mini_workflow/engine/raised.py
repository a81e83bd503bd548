"""RaisedError: what ended an execution that has failed, with both tracebacks, as fields."""

from __future__ import annotations

from mini_workflow.core.codec import Codec
from mini_workflow.core.failure import Failure
from mini_workflow.core.records import frozen, replace
from mini_workflow.errors import SerializationError


@frozen
class RaisedError:
    """An exception that has ended an execution. `type` is the qualified name of its class.

    `traceback` is that of the workflow's code, and `task_traceback` that of the task, or the child, which the
    exception comes from: empty if the workflow has raised it itself, and in histories from before, where
    `traceback` begins with it. `cause` is the exception behind it, if there is one.
    """

    type: str
    message: str
    traceback: str = ""
    task_traceback: str = ""
    cause: RaisedError | None = None

    @classmethod
    def of(cls, failure: Failure, codec: Codec) -> RaisedError:
        """Return that of a failure. What cannot be decoded here is left out."""
        return cls._of(readable(codec, failure))

    @classmethod
    def _of(cls, failure: Failure) -> RaisedError:
        cause = None if failure.cause is None else cls._of(failure.cause)
        return cls(
            *(failure.type, failure.message, failure.traceback, failure.task_traceback, cause)
        )


def readable(codec: Codec, failure: Failure) -> Failure:
    """Return a failure with what a codec has encoded, as far as it can be decoded here."""
    try:
        return codec.plain_failure(failure)
    except SerializationError:
        return replace(failure, traceback="", task_traceback="", cause=None)
