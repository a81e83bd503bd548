"""Give tokens to classes that cannot be imported, such as those made in a function.

A payload with a token refers to the class of that token, if it is alive in this process. Elsewhere the class
is rebuilt from the code in the payload, once for all payloads, and becomes the class of the token. A stored
value of an earlier process refers to a class of this process, if that is the only one with the same name
and the same members: the function that makes the class has run again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from mini_workflow.class_names import name_of
from mini_workflow.codecs.names import is_importable, type_of
from mini_workflow.errors import PayloadNotReadable

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_PROCESS: Final = secrets.token_hex(4)

_tokens: WeakKeyDictionary[type[Any], str] = WeakKeyDictionary()
_alive: WeakValueDictionary[str, type[Any]] = WeakValueDictionary()
_rebuilt: WeakSet[type[Any]] = WeakSet()


class Reference(NamedTuple):
    """The form in which a payload names a local class: its token, its name, and the names of its members."""

    token: str
    name: str
    members: tuple[str, ...]


def is_local_class(value: object) -> bool:
    """Return whether a value is a class that was made by Python code and cannot be imported."""
    return (
        issubclass(type_of(value), type)
        and bool(value.__flags__ & _HEAP_TYPE)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
        and not is_importable(value)
    )


def reference_to(kind: type[Any]) -> Reference:
    """Return the reference to a local class. The class gets a token if it has none."""
    token = _tokens.get(kind)
    if token is None:
        token = _tokens.setdefault(kind, _PROCESS + secrets.token_hex(8))
        _alive.setdefault(token, kind)
    return Reference(token, name_of(kind), _members(kind))


def find_local_class(token: str) -> type[Any]:
    """Return the class of a token. Raises PayloadNotReadable."""
    kind = _alive.get(token)
    if kind is None:
        raise PayloadNotReadable("a class that was made in a function does not exist here")
    return kind


def is_alive(reference: Reference, *, by_name: bool) -> bool:
    """Return whether the class is alive in this process, so that it is not rebuilt.

    With `by_name`, a class of an earlier process may be found by its name.
    """
    if reference.token in _alive:
        return True
    if not by_name or reference.token.startswith(_PROCESS):
        return False
    same = [
        kind
        for kind in _all_classes()
        if name_of(kind) == reference.name
        and kind not in _rebuilt
        and _members(kind) == reference.members
    ]
    if len(same) == 1:
        _alive[reference.token] = same[0]
        _tokens.setdefault(same[0], reference.token)
    return len(same) == 1


def adopt(token: str, kind: type[Any]) -> None:
    """Make a rebuilt class the class of its token, unless the original is alive in this process."""
    _tokens[kind] = token
    _rebuilt.add(kind)
    known = _alive.get(token)
    if known is None or known in _rebuilt:
        _alive[token] = kind


def _members(kind: type[Any]) -> tuple[str, ...]:
    annotations: dict[str, Any] = vars(kind).get("__annotations__", {})
    return tuple(sorted({*annotations, *(name for name in vars(kind) if name[:2] != "__")}))


def _all_classes() -> Iterator[type[Any]]:
    seen: set[int] = set()
    waiting: list[type[Any]] = [object]
    while waiting:
        for kind in type.__subclasses__(waiting.pop()):
            if id(kind) not in seen:
                seen.add(id(kind))
                waiting.append(kind)
                yield kind
