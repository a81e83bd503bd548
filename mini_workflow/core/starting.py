"""What starting an execution takes: an id that is safe everywhere, and encoded arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, Protocol

from mini_workflow.core.payload import Payload
from mini_workflow.errors import InvalidIdentifier


class Startable(Protocol):
    """A workflow, as far as starting one needs to know it."""

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        ...

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise InvalidArguments unless it can be called with them."""
        ...


EXECUTION_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\-]{0,99}")
"""What an execution id may be. 100 characters is what EventBridge Pipes allows in a message group
id; the characters are safe in file names, object keys and message group ids alike."""


def check_id(execution_id: Any) -> None:
    """Raise InvalidIdentifier unless it can be an execution id."""
    if not isinstance(execution_id, str) or EXECUTION_ID.fullmatch(execution_id) is None:
        raise InvalidIdentifier(
            f"{execution_id!r} cannot be an execution id: use 1 to 100 letters, digits and '_', "
            "'-', '.', ':', '@', beginning with a letter, a digit or '_'"
        )


def encode_arguments(
    encode: Callable[[object, str], Payload], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Payload:
    """Arguments as ``[[positional...], {keyword...}]``. Raises ValueNotSerializable."""
    positional = ",".join(
        encode(value, f"argument {number}").text for number, value in enumerate(args, 1)
    )
    keyword = ",".join(
        f"{json.dumps(name)}:{encode(value, f'argument {name!r}').text}"
        for name, value in kwargs.items()
    )
    return Payload(text=f"[[{positional}],{{{keyword}}}]")
