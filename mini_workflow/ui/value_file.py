"""Make a file of JSON of one value of a history."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mini_workflow.errors import UsageError
from mini_workflow.ui.execution_page import arguments_of, whole
from mini_workflow.ui.followed import AllFollowed
from mini_workflow.ui.values import document_of


def value_file(known: AllFollowed, name: str, asked: Mapping[str, str]) -> tuple[str, str]:
    """Return a JSON document of the value at the place that an address says, and a name for the file. It is
    decoded as the pages show it: nothing is unpickled. Raises ExecutionNotFound or UsageError.
    """
    number, which = whole("event", asked.get("event", "")) or 0, asked.get("name", "")
    item = asked.get("item", "")
    with known.at(name) as one:
        first = one.entries[0].number
        place = number - first
        values: Mapping[str, Any] = (
            (one.entries[place].values or {}) if 0 <= place < len(one.entries) else {}
        )
    try:
        value = values[which]
        if item:
            value = dict(arguments_of(value))[item]
    except (KeyError, TypeError, ValueError, AttributeError):
        what = f"{which} {item}".strip()
        raise UsageError(f"event {number} of {name} has no value {what!r} now") from None
    parts = [name, str(number), which, *([item] if item else [])]
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))
    return document_of(value), f"{plain}.json"
