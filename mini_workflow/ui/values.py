"""Draw decoded values as trees of labelled nodes, cut where they are large."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, cast
from urllib.parse import urlencode
from uuid import UUID

from mini_workflow.codecs.decoding import Shown
from mini_workflow.core.records import field, mutable
from mini_workflow.engine.timeline import Unreadable

MOST: Final = 100
"""Items of a list or a dict that are shown."""

LONGEST: Final = 2_000
"""Characters of a text that are shown."""

DEEPEST: Final = 8

COPIED: Final = 20_000
"""Characters of a value that a button copies; one that is longer is downloaded."""

NOWHERE: Final[Mapping[str, str | int]] = {}

_AS_TEXT: Final = (Decimal, date, time, timedelta, UUID, PurePath)


@mutable
class Node:
    """A value: its name in its container, its text, its type where that says more, its parts, and how much of
    it is left out. `value` is the value itself, if no container holds it. `place` is the query of the
    address by which it is downloaded; empty for a value that stands in no history.
    """

    name: str
    text: str = ""
    kind: str = ""
    items: list[Node] = field(default_factory=list["Node"])
    left_out: str = ""
    value: Any = field(default=None, compare=False, shown=False)
    place: str = ""

    @property
    def is_cut(self) -> bool:
        """Return whether a part of the value is left out."""
        return bool(self.left_out) or any(one.is_cut for one in self.items)


def whole_of(value: Any, name: str, place: Mapping[str, str | int] = NOWHERE) -> Node:
    """Return the tree of a whole value, which stands at a `place` of a history."""
    node = tree_of(value, name)
    node.value = value
    node.place = urlencode(place)
    return node


def json_of(value: Any) -> str:
    """Return a value as JSON, to be copied; parts that JSON cannot hold as text. Empty if it is too long."""
    try:
        text = json.dumps(value, default=_plain, ensure_ascii=False, indent=1)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= COPIED else ""


def document_of(value: Any) -> str:
    """Return all of a value as a JSON document; parts that JSON cannot hold as text."""
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False, indent=1, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(repr(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, (Shown, Unreadable)):
        return value.text
    if isinstance(value, AbstractSet):
        return list(cast("AbstractSet[Any]", value))
    return value.name if isinstance(value, Enum) else str(value)


def tree_of(value: Any, name: str = "", depth: int = 0) -> Node:
    """Return the tree of a value."""
    if isinstance(value, str):
        return _text(name, value)
    if value is None or isinstance(value, (bool, int, float)):
        return Node(name, repr(value))
    if isinstance(value, Shown):
        return _long(name, value.text, "")
    if isinstance(value, Unreadable):
        return _long(name, value.text, f"cannot be read here: {value.reason}")
    if isinstance(value, Enum):
        return Node(name, value.name, type(value).__name__)
    if isinstance(value, _AS_TEXT):
        return Node(name, str(value), type(value).__name__)
    items = _items(value)
    if items is None or depth == DEEPEST:
        return _long(name, repr(cast(object, value)), type(value).__name__)
    size = len(value)
    node = Node(name, kind=f"{type(cast(object, value)).__name__}, {size}")
    for label, item in items:
        if len(node.items) == MOST:
            node.left_out = f"{size - MOST:,} more"
            break
        node.items.append(tree_of(item, label, depth + 1))
    return node


def _items(value: Any) -> Iterator[tuple[str, Any]] | None:
    if isinstance(value, Mapping):
        known = cast("Mapping[Any, Any]", value)
        return ((key if isinstance(key, str) else repr(key), item) for key, item in known.items())
    if isinstance(value, (list, tuple)):
        listed = cast("list[Any]", value)
        return ((str(number), item) for number, item in enumerate(listed))
    if isinstance(value, AbstractSet):
        return (("", item) for item in cast("AbstractSet[Any]", value))
    return None


def _text(name: str, text: str) -> Node:
    shown, left = text[:LONGEST], len(text) - LONGEST
    return Node(name, f'"{shown}"', left_out=f"{left:,} characters more" if left > 0 else "")


def _long(name: str, text: str, kind: str) -> Node:
    shown, left = text[:LONGEST], len(text) - LONGEST
    return Node(name, shown, kind, left_out=f"{left:,} characters more" if left > 0 else "")
