"""Check the headers of executions, tasks and messages, and declare the hooks that see them.

A tenant, a trace: short texts by name, which no code of a workflow has to hand on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, cast

from mini_workflow.errors import UsageError

MAXIMUM_HEADER_NAME: Final = 64
"""Characters of the name of a header. Our own bound."""

MAXIMUM_HEADERS_SIZE: Final = 4_096
"""Bytes of all names and values of the headers together, in UTF-8: they go with each attempt of a task and
each child. Our own bound."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\-]*")


class Hooks(Protocol):
    """Hooks around the code of one run. They are called in the workflow's own loop, also in a replay."""

    def around(
        self, kind: str, name: str, headers: dict[str, str] | None
    ) -> AbstractContextManager[object]:
        """Return what goes around a call of the workflow's code: its handler of a "signal", an "update" or a
        "query" of that name, which came with these headers.
        """
        ...

    def sending(
        self, kind: str, name: str, target: str, given: dict[str, str] | None = None
    ) -> dict[str, str] | None:
        """Return the headers of what the code sends to the execution `target`: a "child" or a "start" of the
        workflow of that name, for which None means those of the execution, or a "signal" or an "update".
        `given` are those that it has without hooks.
        """
        ...


def check_headers(headers: Any) -> dict[str, str] | None:
    """Return a copy of the headers, in order of their names; None if there are none. Raises UsageError."""
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
                f"{name!r} cannot be the name of a header: use 1 to {MAXIMUM_HEADER_NAME} letters, "
                "digits and '_', '-', '.', ':', '@', beginning with a letter, a digit or '_'"
            )
        if not isinstance(value, str) or not (value.isprintable() or not value):
            raise UsageError(
                f"header {name!r} has the value {str(value)[:300]!r}: give a text of printable characters"
            )
        size += len(name) + len(value.encode())
    if size > MAXIMUM_HEADERS_SIZE:
        raise UsageError(
            f"headers of {size:,} bytes: their names and values may have {MAXIMUM_HEADERS_SIZE:,} together, "
            "since they go with every task; give what is larger as an argument"
        )
    return dict(sorted(given.items())) or None
