"""Check the headers of executions, tasks and messages, and declare the hooks that see them.

Headers are short texts by name, such as a tenant or a trace. The engine hands them on; the code of a
workflow does not have to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, cast

from mini_workflow.core.validation import shown
from mini_workflow.errors import UsageError

MAXIMUM_HEADER_NAME: Final = 64
"""Characters of the name of a header. Our own bound."""

MAXIMUM_HEADERS_SIZE: Final = 4_096
"""Bytes of all names and values of the headers together, in UTF-8. They go with each attempt of a task and
with each child. Our own bound."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\-]*")


class Hooks(Protocol):
    """Hooks around the code of one run. They are called in the workflow's own loop, also in a replay."""

    def around(
        self, kind: str, name: str, headers: dict[str, str] | None
    ) -> AbstractContextManager[object]:
        """Return the context manager to enter around a handler of the workflow. `kind` is "signal",
        "update" or "query", `name` the name of the message, and `headers` came with it.
        """
        ...

    def sending(
        self, kind: str, name: str, target: str, given: dict[str, str] | None = None
    ) -> dict[str, str] | None:
        """Return the headers that go with a message to the execution `target`. `kind` is "child" or "start"
        (`name` is the workflow; None stands for the headers of this execution), or "signal" or "update"
        (`name` is that of the message). `given` are the headers without hooks.
        """
        ...


def check_headers(headers: Any) -> dict[str, str] | None:
    """Return a copy of the headers in order of their names; None if there are none.

    Raises UsageError if a name or value is not allowed, or all together are too large.
    """
    if headers is None:
        return None
    if not isinstance(headers, Mapping):
        raise UsageError(f'headers={headers!r}: give a mapping, as in headers={{"tenant": "t-7"}}')
    given = cast("Mapping[Any, Any]", headers)
    size = 0
    for name, value in given.items():
        if (
            not isinstance(name, str)
            or len(name) > MAXIMUM_HEADER_NAME
            or not _NAME.fullmatch(name)
        ):
            raise UsageError(
                f"{shown(name)} cannot be the name of a header: use 1 to {MAXIMUM_HEADER_NAME} letters, "
                "digits and '_', '-', '.', ':', '@', beginning with a letter, a digit or '_'"
            )
        if not isinstance(value, str) or not (value.isprintable() or not value):
            raise UsageError(
                f"header {name!r} has the value {str(value)[:300]!r}: give a text of printable characters"
            )
        size += len(name) + len(value.encode())
    if size > MAXIMUM_HEADERS_SIZE:
        raise UsageError(
            f"the headers take {size:,} bytes; their names and values may take {MAXIMUM_HEADERS_SIZE:,} "
            "together, since they go with every task: pass larger values as arguments"
        )
    return dict(sorted(given.items())) or None
