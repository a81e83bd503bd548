"""Check ids, names and reasons that callers give, so that they are safe in every store."""

from __future__ import annotations

import re
from typing import Any, Final

from mini_workflow.errors import InvalidIdentifier, UsageError
from mini_workflow.settings import DEFAULT_WORKER, WORKER_NAME, WORKER_NAME_RULE

EXECUTION_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\-]{0,99}")
"""Ids that an execution may have. EventBridge Pipes allows 100 characters in a message group id; the
characters are safe in file names, object keys and message group ids alike."""

MAXIMUM_NAME: Final = 200
"""Characters of the name of a signal, query or update, and of an update's id. Our own bound."""


MAXIMUM_REASON: Final = 10_000
"""Characters of the reason of a cancellation and the like. Our own bound."""

_SHOWN: Final = 300
"""Characters of a refused value that an error shows."""


def shown(value: object) -> str:
    """Return the representation of a refused value for an error, cut where it is long."""
    text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(str(value)):,} characters)"


def check_name(kind: str, name: object) -> None:
    """Raise UsageError unless `name` can be the name of a signal, query or update. `kind` says which."""
    if not isinstance(name, str) or not name or len(name) > MAXIMUM_NAME:
        raise UsageError(f"{kind} {shown(name)}: give a text of 1 to {MAXIMUM_NAME} characters")


def check_text(kind: str, text: object) -> None:
    """Raise UsageError unless `text` is a text. `kind` says which."""
    if not isinstance(text, str):
        raise UsageError(f"{shown(text)} is not a {kind}: give a text")


def check_reason(reason: object, by: object = "") -> None:
    """Raise UsageError unless `reason` can be the reason of a cancellation, and `by` the caller's name."""
    check_text("reason", reason)
    if isinstance(reason, str) and len(reason) > MAXIMUM_REASON:
        raise UsageError(
            f"reason={shown(reason)}: give at most {MAXIMUM_REASON:,} characters, and keep a longer text "
            "elsewhere"
        )
    if not isinstance(by, str) or len(by) > MAXIMUM_NAME:
        raise UsageError(
            f"by={shown(by)}: give the caller's name as a text of at most {MAXIMUM_NAME} characters"
        )


def check_id(execution_id: Any) -> None:
    """Raise InvalidIdentifier unless `execution_id` can be the id of an execution."""
    if not isinstance(execution_id, str) or EXECUTION_ID.fullmatch(execution_id) is None:
        raise InvalidIdentifier(
            f"{shown(execution_id)} cannot be an execution id: use 1 to 100 letters, digits and '_', "
            "'-', '.', ':', '@', beginning with a letter, a digit or '_'"
        )


def worker_of(name: object) -> str:
    """Return the name of a worker as it is recorded. The default worker (None or "default") has the
    empty name. Raises UsageError if a worker cannot have that name.
    """
    if name is None or name == DEFAULT_WORKER:
        return ""
    if not isinstance(name, str) or WORKER_NAME.fullmatch(name) is None:
        raise UsageError(f"worker={shown(name)}: give {WORKER_NAME_RULE}")
    return name
