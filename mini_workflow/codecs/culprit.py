"""Finds the part of a value that makes a pickler fail, so that the error can name it.

Runs only after a failure. Every part is tried by itself, from the outside in; the innermost that
still fails is the culprit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import CellType, FunctionType, MethodType
from typing import Any, Final, cast

from mini_workflow.codecs.refusals import Refused, refusal

MAX_STEPS: Final = 20
"""How deep the search goes."""

Fault = Callable[[Any], Exception | None]
"""Tries to pickle a value; what went wrong, or None."""


def find_culprit(value: Any, fault: Fault, error: Exception) -> tuple[str, Any, Exception]:
    """The path from the value to the culprit, the culprit, and what is wrong with it.

    `error` is what went wrong with the whole.
    """
    path = ""
    seen = {id(value)}
    for _ in range(MAX_STEPS):
        if isinstance(error, Refused) and refusal(type(value)) is not None:
            break
        for step, part in _parts(value):
            if id(part) in seen:
                continue
            seen.add(id(part))
            found = fault(part)
            if found is not None:
                path += step
                value = part
                error = found
                break
        else:
            break
    return path, value, error


def captured(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The variables that a function captures, by name; those that are not yet set are left out."""
    cells: tuple[CellType, ...] = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in cast(dict[Any, Any], value).items():
            yield f"[{_quoted(key)}]", item
            yield f".keys()[{_quoted(key)}]", key
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(cast(list[Any], value)):
            yield f"[{index}]", item
    elif isinstance(value, (set, frozenset)):
        for item in cast(set[Any], value):
            yield "{...}", item
    elif isinstance(value, functools.partial):
        partial = cast("functools.partial[Any]", value)
        yield ".func", partial.func
        for index, item in enumerate(partial.args):
            yield f".args[{index}]", item
        for key, item in partial.keywords.items():
            yield f".keywords[{_quoted(key)}]", item
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, FunctionType):
        for name, item in captured(value):
            yield f" captures {name!r}", item
        for item in value.__defaults__ or ():
            yield " has a default", item
        for name, item in (value.__kwdefaults__ or {}).items():
            yield f" has a default for {name!r}", item
        for name, item in vars(value).items():
            yield f".{name}", item
    else:
        if not isinstance(value, type):
            yield " is an instance of", type(value)
        try:
            attributes = vars(value)
        except TypeError:
            attributes = {}
        for name, item in attributes.items():
            if not isinstance(value, type) or not name.startswith("__"):
                yield f".{name}", item


def _quoted(key: Any) -> str:
    return '"' + key + '"' if isinstance(key, str) else repr(key)
