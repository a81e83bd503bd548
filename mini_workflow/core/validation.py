"""Check ids, names and reasons from outside, so that they are safe in every store."""

from __future__ import annotations

import re
from typing import Any, Final

from mini_workflow.errors import InvalidIdentifier, UsageError
from mini_workflow.settings import DEFAULT_WORKER, WORKER_NAME, WORKER_NAME_RULE

EXECUTION_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\-]{0,99}")
"""What an execution id may be. 100 characters is what EventBridge Pipes allows in a message group
id; the characters are safe in file names, object keys and message group ids alike."""


MAXIMUM_NAME: Final = 200
"""Characters of the name of a signal, query or update, and of an update's id. Our own bound."""


def check_name(kind: str, name: object) -> None:
    """Raise UsageError unless it can be the name of a signal, query or update."""
    if not isinstance(name, str) or not name or len(name) > MAXIMUM_NAME:
        raise UsageError(
            f"{name!r} is not the name of a {kind}: give a text of 1 to {MAXIMUM_NAME} characters"
        )


def check_reason(reason: object, by: object = "") -> None:
    """Raise UsageError unless it can be the reason of a cancellation, and `by` the name of who asks."""
    if not isinstance(reason, str):
        raise UsageError(f"{reason!r} is not a reason: give a text")
    if not isinstance(by, str) or len(by) > MAXIMUM_NAME:
        raise UsageError(
            f"by={by!r}: say who asks for it as a text of at most {MAXIMUM_NAME} characters"
        )


def check_id(execution_id: Any) -> None:
    """Raise InvalidIdentifier unless it can be an execution id."""
    if not isinstance(execution_id, str) or EXECUTION_ID.fullmatch(execution_id) is None:
        raise InvalidIdentifier(
            f"{execution_id!r} cannot be an execution id: use 1 to 100 letters, digits and '_', "
            "'-', '.', ':', '@', beginning with a letter, a digit or '_'"
        )


def worker_of(name: object) -> str:
    """Return the name of a worker as it is recorded: empty for the default one, which None and
    "default" mean. Raises UsageError.
    """
    if name is None or name == DEFAULT_WORKER:
        return ""
    if not isinstance(name, str) or WORKER_NAME.fullmatch(name) is None:
        raise UsageError(f"worker={name!r}: give {WORKER_NAME_RULE}")
    return name
