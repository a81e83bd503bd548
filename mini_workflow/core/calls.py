"""What a call calls: the name of a function, and for a lambda those that its code calls.

Read from the bytecode, so that comments and formatting make no difference.
"""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType
from typing import Any, Final
from zlib import crc32

LAMBDA: Final = "<lambda>"
"""What Python calls every lambda, and a task is called whose lambda calls nothing by a name."""

NAME_LENGTH: Final = 60
"""Characters of the default name of a lambda's task; the rest is cut. Our own bound."""

_REMEMBERED: Final = 2048
_NULL_COMES_LATER: Final = sys.version_info >= (3, 13)
"""Whether PUSH_NULL, which marks what is called, follows the load of it or comes before."""
_METHOD_MARKED: Final = sys.version_info >= (3, 12)
_BEGINS: Final = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FAST")
_FOLLOWS: Final = ("LOAD_ATTR", "LOAD_METHOD")


@dataclass(frozen=True, slots=True)
class Code:
    """What is known of a lambda's code: whom it `calls`, and a checksum of its other `details`,
    which are the names and the constants in it.
    """

    calls: str
    details: int


_known: dict[int, tuple[CodeType, Code]] = {}


def inner_function(function: Any) -> Any:
    """What is called in the end: behind partials, and the function of a method."""
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return function  # pyright: ignore[reportUnknownVariableType]


def is_lambda(function: Any) -> bool:
    """Whether it has no name but that of every lambda."""
    return getattr(inner_function(function), "__name__", None) == LAMBDA


def default_name(function: Callable[..., Any]) -> str:
    """What a task is called that is given no name."""
    inner = inner_function(function)
    name = getattr(inner, "__name__", None)
    if not isinstance(name, str):
        return type(inner).__name__
    if name == LAMBDA and (calls := name_of_call(inner)):
        return calls if len(calls) <= NAME_LENGTH else calls[: NAME_LENGTH - 3] + "..."
    return name


def name_of_call(function: Callable[..., Any]) -> str:
    """Whom it calls: its own name, with that of its class; for a lambda, those that it calls."""
    inner = inner_function(function)
    if isinstance(inner, MethodType):
        inner = inner.__func__
    if isinstance(inner, FunctionType) and inner.__name__ == LAMBDA:
        return about_code(inner.__code__).calls or LAMBDA
    name = getattr(inner, "__qualname__", None)
    if not isinstance(name, str):
        name = type(inner).__qualname__
    return name.rpartition("<locals>.")[2]


def about_code(code: CodeType) -> Code:
    """What is known of a lambda's code. Remembered, by identity."""
    entry = _known.get(id(code))
    if entry is not None:
        return entry[1]
    details = sorted({*_names(code), *map(repr, _constants(code))})
    about = Code(", ".join(_callees(code)), crc32("\n".join(details).encode("utf-8", "replace")))
    if len(_known) >= _REMEMBERED:
        _known.clear()
    _known[id(code)] = (code, about)
    return about


def _callees(code: CodeType) -> list[str]:
    """The dotted names that the code calls, each once, in the order in which they are loaded."""
    found: dict[str, None] = {}
    name, marked = "", False
    for step in dis.get_instructions(code):
        operation, calls = step.opname, False
        follows = operation in _FOLLOWS
        if marked and name and not follows:
            found[name] = None
            marked = False
        if operation.startswith(_BEGINS):
            name = step.argval if isinstance(step.argval, str) else ""
            calls = operation.startswith("LOAD_GLOBAL") and bool((step.arg or 0) & 1)
        elif follows:
            # What the attribute is of may have no name, as in "a b".split().
            name = f"{name}.{step.argval}" if name else str(step.argval)
            calls = operation == "LOAD_METHOD" or (_METHOD_MARKED and bool((step.arg or 0) & 1))
        elif operation == "PUSH_NULL":
            calls, marked = _NULL_COMES_LATER and bool(name), not _NULL_COMES_LATER
        else:
            if isinstance(step.argval, CodeType):
                found.update(dict.fromkeys(_callees(step.argval)))
        if calls:
            found[name] = None
            marked = False
        if calls or not (operation.startswith(_BEGINS) or follows):
            name = ""
    return list(found)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _constants(code: CodeType) -> Iterator[Any]:
    yield from _parts(code.co_consts)
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_SMALL_INT":
            yield step.argval


def _parts(constants: Any) -> Iterator[Any]:
    for constant in constants:
        if isinstance(constant, CodeType):
            yield from _constants(constant)
        elif isinstance(constant, (tuple, frozenset)):
            yield from _parts(constant)
        elif constant is not None and constant.__class__ is not bool:
            yield constant
