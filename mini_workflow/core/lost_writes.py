"""Find what a task would write and lose: what functions that it takes along assign to variables of code that
still runs. A task works on copies, so that this code would never see it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, Final

from mini_workflow.core.calls import captured_write
from mini_workflow.errors import ClosureNotSerializable

_LOOKS: Final = 1_000
"""The number of captured objects that are looked at, for each call."""

_ITEMS: Final = 64
"""The items of a list, a tuple or a dict that is looked into. A longer one is data."""

_LOCALS: Final = ".<locals>."


def refuse_lost_writes(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raise ClosureNotSerializable if a function that the call captures, or that it is given, assigns a
    variable of a function that is running.
    """
    found = _found((function, *args, *kwargs.values()))
    if found is None:
        return
    writer, variable = found
    raise ClosureNotSerializable(
        f"{writer.__qualname__} assigns the captured variable {variable!r} (nonlocal), and a task takes it "
        "along to work on a copy, so the workflow would never see it: return the value, and assign it in "
        "the workflow",
        variable=variable,
    )


def _found(values: tuple[Any, ...]) -> tuple[FunctionType, str] | None:
    left, seen = list(values), set[int]()
    while left and len(seen) < _LOOKS:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) is FunctionType and "<" in value.__qualname__:
            variable = captured_write(value.__code__)
            if variable and _is_running(value.__code__, variable):
                return value, variable
        left.extend(_parts(value))
    return None


def _parts(value: Any) -> Iterator[Any]:
    """Iterate over the parts of a value that may be, or have, functions of one's own."""
    kind = value.__class__
    if kind is FunctionType:
        if "<" in value.__qualname__:
            yield from map(_content, value.__closure__ or ())
            yield from value.__defaults__ or ()
            yield from (value.__kwdefaults__ or {}).values()
    elif kind is MethodType:
        yield from (value.__func__, value.__self__)
    elif kind is functools.partial:
        yield from (value.func, *value.args, *value.keywords.values())
    elif kind in (list, tuple, dict):
        if len(value) <= _ITEMS:
            yield from value.values() if kind is dict else value
    elif isinstance(value, type):
        if _LOCALS in value.__qualname__:
            for item in vars(value).values():
                yield from _functions_of(item)
    elif _LOCALS in kind.__qualname__:
        yield kind
        yield from getattr(value, "__dict__", {}).values()


def _functions_of(attribute: Any) -> Iterator[Any]:
    if isinstance(attribute, property):
        yield from (attribute.fget, attribute.fset)
    elif isinstance(attribute, (staticmethod, classmethod)):
        yield attribute.__func__  # pyright: ignore[reportUnknownMemberType]
    elif isinstance(attribute, FunctionType):
        yield attribute


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that is not yet set
        return None


def _is_running(code: CodeType, variable: str) -> bool:
    """Return whether the function around that code which has the variable is running, and so would miss
    what the code assigns. One that has returned, such as a decorator, left it to the code alone.
    """
    around = code.co_qualname.rpartition(_LOCALS)[0]
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] documented, for this
    while frame is not None:
        runs = frame.f_code
        if runs.co_filename == code.co_filename:
            if f"{runs.co_qualname}.".startswith(f"{around}."):
                return True
            captures = (*runs.co_cellvars, *runs.co_freevars)
            if variable in captures and around.startswith(runs.co_qualname + _LOCALS):
                return True
        frame = frame.f_back
    return False
