"""Failure: an exception as data. It suffices to rebuild the exception, and to decide about a retry."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Final

from mini_workflow.class_names import name_of
from mini_workflow.core.records import record


@record
class Failure:
    """An exception as data, after it has crossed a boundary.

    `type` is ``module:qualname``. `lineage` lists the same for the class and all its bases except
    ``object``, so that ``retry_on`` can be decided without an import. `state` is plain JSON by which the
    failures codec rebuilds the exception, or None if it cannot be rebuilt. `retry_after` is the delay in
    milliseconds that the exception itself asks for. `attempts` counts the attempts that were made, the
    failed one included. `final` says that the policy's `retry_if` refused another attempt.

    `traceback` is that of the code which the exception left last. `task_traceback` is that of the task or
    child which had raised it; empty if that code raised it itself. Older histories have the one text in
    front of the other in `traceback`.
    """

    type: str
    message: str
    traceback: str = ""
    lineage: tuple[str, ...] = ()
    state: Any = None
    cause: Failure | None = None
    retry_after: int | None = None
    attempts: int | None = None
    final: bool = False
    task_traceback: str = ""

    @property
    def tracebacks(self) -> str:
        """Return both as one text, the one of the task first."""
        return "\n".join(filter(None, (self.task_traceback, self.traceback)))

    def summary(self) -> str:
        """Return class and message of the exception."""
        return f"{self.type.rpartition(':')[2]}: {self.message}"

    def to_plain(self) -> dict[str, Any]:
        """Return the failure as plain JSON, without the fields that have their default."""
        plain: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.traceback:
            plain["traceback"] = self.traceback
        if self.task_traceback:
            plain["task_traceback"] = self.task_traceback
        if self.lineage:
            plain["lineage"] = list(self.lineage)
        if self.state is not None:
            plain["state"] = self.state
        if self.cause is not None:
            plain["cause"] = self.cause.to_plain()
        if self.retry_after is not None:
            plain["retry_after"] = self.retry_after
        if self.attempts is not None:
            plain["attempts"] = self.attempts
        if self.final:
            plain["final"] = True
        return plain

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Failure:
        """Return the failure that `to_plain` described."""
        cause = plain.get("cause")
        return cls(
            type=plain["type"],
            message=plain["message"],
            traceback=plain.get("traceback", ""),
            lineage=tuple(plain.get("lineage", ())),
            state=plain.get("state"),
            cause=None if cause is None else cls.from_plain(cause),
            retry_after=plain.get("retry_after"),
            attempts=plain.get("attempts"),
            final=plain.get("final", False),
            task_traceback=plain.get("task_traceback", ""),
        )


def failure_of(error: Exception) -> Failure:
    """Return the failure of an error of this library that was never raised and has no traceback."""
    lineage = tuple(name_of(kind) for kind in type(error).__mro__ if kind is not object)
    message = str(error)
    return Failure(type=lineage[0], message=message, lineage=lineage, state={"args": [message]})


FINAL: Final = "__mini_workflow_final__"
"""The attribute that marks an exception after which no further attempt is made."""


def set_traceback(error: BaseException, traceback: TracebackType | None) -> None:
    """Set the traceback of an exception, whatever its class overrides."""
    BaseException.with_traceback(error, traceback)


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set the direct cause of an exception, whatever its class overrides."""
    BaseException.__cause__.__set__(error, cause)  # type: ignore[attr-defined]


def set_args(error: BaseException, args: tuple[Any, ...]) -> None:
    """Set the `args` of an exception, whatever its class overrides."""
    BaseException.args.__set__(error, args)  # type: ignore[attr-defined]


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, which is printed below its message."""
    notes = vars(error).get("__notes__")
    vars(error)["__notes__"] = [*(notes if isinstance(notes, list) else ()), note]  # pyright: ignore[reportUnknownVariableType]


LONGEST: Final = 200
"""Characters of the class and message of an execution's failure that a head keeps."""

_FAILED: Final = "failed"


def head_text(failure: Failure) -> str:
    """Return the JSON text by which a head says with which failure its execution has ended."""
    return json.dumps({_FAILED: failure.summary()[:LONGEST]})


def error_in(text: str) -> str:
    """Return class and message of the failure in a text by `head_text`; empty for any other text."""
    try:
        summary = json.loads(text)[_FAILED] if text.startswith(f'{{"{_FAILED}"') else ""
    except (ValueError, KeyError):
        return ""
    return summary if isinstance(summary, str) else ""
