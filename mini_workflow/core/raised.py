"""Change what Python keeps with an exception, also where its class forbids to set attributes.

The class of an exception may be a frozen dataclass. Python itself does not ask such a class when it
raises; so these set what belongs to BaseException as Python does.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

FINAL: Final = "__mini_workflow_final__"
"""The attribute that says of an exception that no further attempt is wanted."""


def set_traceback(error: BaseException, traceback: TracebackType | None) -> None:
    """Set where the exception was raised."""
    BaseException.with_traceback(error, traceback)


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set the exception that was its direct cause."""
    BaseException.__cause__.__set__(error, cause)  # type: ignore[attr-defined]


def set_args(error: BaseException, args: tuple[Any, ...]) -> None:
    """Set the arguments that its class was called with."""
    BaseException.args.__set__(error, args)  # type: ignore[attr-defined]


def add_note(error: BaseException, note: str) -> None:
    """Add a line to what is printed with the exception."""
    notes = vars(error).get("__notes__")
    vars(error)["__notes__"] = [*(notes if isinstance(notes, list) else ()), note]  # pyright: ignore[reportUnknownVariableType]
