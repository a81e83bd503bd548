"""Find the part of a value that makes a pickler fail, so that the error can name it.

The search runs only after a failure. It tries each part alone, from the outside in; the innermost part
that still fails is the culprit.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from types import CellType, FunctionType, MemberDescriptorType, MethodType
from typing import Any, Final

from mini_workflow.codecs.forbidden import Refused, refusal
from mini_workflow.codecs.names import is_importable, is_local, type_of

MAX_STEPS: Final = 20
"""The depth of the search."""

Fault = Callable[[Any], Exception | None]
"""Tries to pickle a value; returns the error, or None."""


def find_culprit(value: Any, fault: Fault, error: Exception) -> tuple[str, Any, Exception]:
    """Return the path from the value to the culprit, the culprit, and its error.

    `error` is the error of the whole value.
    """
    path = ""
    seen = {id(value)}
    for _ in range(MAX_STEPS):
        if isinstance(error, Refused) and refusal(type_of(value)) is not None:
            break
        try:
            parts = list(_parts(value))
        except Exception:  # code of the value itself fails
            break
        for step, part in parts:
            if id(part) in seen:
                continue
            seen.add(id(part))
            found = fault(part)
            # Parts inside of a class explain little, unless one of them is refused.
            if found is not None and (not isinstance(value, type) or isinstance(found, Refused)):
                path += step
                value = part
                error = found
                break
        else:
            break
    return path, value, error


def why_not(culprit: object, error: Exception) -> tuple[str, str]:
    """Return the problem of the culprit in words, and the remedy; empty if there is none."""
    if isinstance(error, RecursionError):
        return "is nested too deeply", "flatten it"
    if issubclass(type_of(culprit), type) and is_local(culprit):
        return "is a class made in a function", "define it at the top level of a module"
    if is_local(type_of(culprit)):
        return "is of a class made in a function", "define that at the top level of a module"
    return f"cannot be pickled ({type(error).__name__}: {error})", ""


def captured(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Iterate over the captured variables of a function with their values, without unset ones."""
    cells: tuple[CellType, ...] = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue


def defaults(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Iterate over the parameters of a function that have defaults, with these."""
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    values = function.__defaults__ or ()
    yield from zip(positional[len(positional) - len(values) :], values, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    for kind, parts in _PARTS:
        if isinstance(value, kind):
            return parts(value)
    return _object_parts(value)


def _dict_parts(value: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        yield f"[{_quoted(key)}]", item
        yield f".keys()[{_quoted(key)}]", key


def _sequence_parts(value: Any) -> Iterator[tuple[str, Any]]:
    for index, item in enumerate(value):
        yield f"[{index}]", item


def _set_parts(value: Any) -> Iterator[tuple[str, Any]]:
    for item in value:
        yield f"{{{item!r}}}", item


def _partial_parts(value: functools.partial[Any]) -> Iterator[tuple[str, Any]]:
    yield ".func", value.func
    for index, item in enumerate(value.args):
        yield f".args[{index}]", item
    for key, item in value.keywords.items():
        yield f".keywords[{_quoted(key)}]", item


def _method_parts(value: MethodType) -> Iterator[tuple[str, Any]]:
    yield ".__self__", value.__self__
    yield ".__func__", value.__func__


def _function_parts(value: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, item in captured(value):
        yield f"'s captured {name!r}", item
    for name, item in defaults(value):
        yield f"'s default {name!r}", item
    for name, item in vars(value).items():
        yield f".{name}", item


def _class_parts(value: type[Any]) -> Iterator[tuple[str, Any]]:
    for name, item in vars(value).items():
        if not name.startswith("__") and not isinstance(item, MemberDescriptorType):
            yield f".{name}", item


def _object_parts(value: Any) -> Iterator[tuple[str, Any]]:
    for name, item in _attributes(value):
        yield f".{name}", item
    if not is_importable(type(value)):
        yield ".__class__", type_of(value)


_PARTS: Final[tuple[tuple[Any, Callable[[Any], Iterator[tuple[str, Any]]]], ...]] = (
    (dict, _dict_parts),
    ((list, tuple, deque), _sequence_parts),
    ((set, frozenset), _set_parts),
    (functools.partial, _partial_parts),
    (MethodType, _method_parts),
    (FunctionType, _function_parts),
    (type, _class_parts),
)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for base in type(value).__mro__:
        for name, slot in vars(base).items():
            if isinstance(slot, MemberDescriptorType) and hasattr(value, name):
                yield name, getattr(value, name)


def _quoted(key: Any) -> str:
    return '"' + key + '"' if isinstance(key, str) else repr(key)
