"""Write Python functions as data: marshalled code, captured variables by value, globals by reference."""

from __future__ import annotations

import marshal
import pickle
import sys
from operator import attrgetter
from types import CellType, CodeType, FunctionType, GenericAlias, MethodType, ModuleType
from typing import Any, Final

from mini_workflow.class_names import module_name
from mini_workflow.codecs.names import (
    globals_named,
    is_importable,
    module_named,
    name_of_globals,
    type_of,
)

CODES_REMEMBERED: Final = 2048

# Code objects hash and compare by content, which is slow, so they are remembered by identity. An
# entry holds its code object, otherwise the identity could be given to another one.
_marshalled: dict[int, tuple[CodeType, bytes]] = {}
_unmarshalled: dict[bytes, CodeType] = {}


def marshalled(code: CodeType) -> bytes:
    """Return the bytes of a code object; they are valid for this version of Python only."""
    entry = _marshalled.get(id(code))
    if entry is not None:
        return entry[1]
    data = marshal.dumps(code)
    if len(_marshalled) >= CODES_REMEMBERED:
        _marshalled.clear()
    _marshalled[id(code)] = (code, data)
    return data


def unmarshalled(data: bytes) -> CodeType:
    """Return the code object of `marshalled` bytes."""
    code = _unmarshalled.get(data)
    if code is None:
        code = marshal.loads(data)
        if not isinstance(code, CodeType):
            raise ValueError("the bytes are not a code object")
        if len(_unmarshalled) >= CODES_REMEMBERED:
            _unmarshalled.clear()
        _unmarshalled[data] = code
    return code


_traits_in: Final = attrgetter(
    *("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__dict__")
)


class PlainFunction:
    """Functions that differ in their captured variables only: their `code` and the globals (`space`) of their
    module suffice to make them anew.
    """

    __slots__ = ("code", "module", "space", "takes_arguments", "traits")

    def __init__(
        self, code: CodeType, module: ModuleType, space: dict[str, Any], traits: tuple[Any, ...]
    ) -> None:
        """Take what they have in common. The `traits` are what `_traits_in` reads."""
        self.code = code
        self.module = module
        self.space = space
        self.traits = traits
        self.takes_arguments = bool(code.co_argcount or code.co_kwonlyargcount)


_last: PlainFunction | None = None
"""That of the last function: a workflow that starts many tasks mostly gives them functions of one code."""


def plain_function(function: FunctionType) -> PlainFunction | None:
    """Return what a function has in common with the others of its code; None if more than that is needed to
    make it anew, apart from its captured variables.
    """
    global _last
    last, space, traits = _last, function.__globals__, _traits_in(function)
    if (
        last is not None
        and last.code is function.__code__
        and last.space is space
        and last.traits == traits
        and sys.modules.get(traits[2]) is last.module
        # To read them takes long, since each is an audit event.
        and not (last.takes_arguments and (function.__defaults__ or function.__kwdefaults__))
    ):
        return last
    code = function.__code__
    name, qualname, home, doc, annotations, attributes = traits
    documented = code.co_consts[0] if code.co_consts else None
    module = sys.modules.get(home) if type(home) is str else None
    if (
        not (function.__defaults__ or function.__kwdefaults__ or annotations or attributes)
        and name == code.co_name
        and qualname == code.co_qualname
        and space.get("__name__") == home
        and doc == (documented if type(documented) is str else None)
        and module is not None
        and module.__dict__ is space
    ):
        # The dicts are the function's own, and may change.
        _last = PlainFunction(code, module, space, (*traits[:4], {}, {}))
        return _last
    return None


def traits_of(function: FunctionType, home: str) -> dict[str, Any] | None:
    """Return the traits of a function beyond its code, such as defaults, by attribute; None without any."""
    code = function.__code__
    traits: dict[str, Any] = {}
    if function.__defaults__:
        traits["__defaults__"] = function.__defaults__
    if function.__kwdefaults__:
        traits["__kwdefaults__"] = function.__kwdefaults__
    annotations = function.__annotations__
    if annotations:
        traits["__annotations__"] = {
            name: kind for name, kind in annotations.items() if _is_portable(kind)
        }
    if function.__name__ != code.co_name:
        traits["__name__"] = function.__name__
    if function.__qualname__ != code.co_qualname:
        traits["__qualname__"] = function.__qualname__
    if module_name(function.__module__) != home:
        traits["__module__"] = function.__module__
    documented = code.co_consts[0] if code.co_consts else None
    if function.__doc__ != (documented if isinstance(documented, str) else None):
        traits["__doc__"] = function.__doc__
    if function.__dict__:
        traits["__dict__"] = function.__dict__
    return traits or None


def _is_portable(annotation: Any) -> bool:
    """Return whether an annotation can be pickled. Others are left out, so that no task fails by them."""
    kind = type_of(annotation)
    if annotation is None or kind is str:
        return True
    if isinstance(annotation, type) and kind is not GenericAlias:
        return is_importable(annotation)
    try:
        # Such as ``list[int] | None``, if its parts can be imported.
        pickle.dumps(annotation)
    except Exception:
        return False
    return True


def reduce_function(function: FunctionType) -> Any:
    """Return the reduction that pickles a function by value; NotImplemented if its globals are no module's.

    The captured variables stay cells, so that functions which share a variable still share it.
    """
    home = name_of_globals(function.__globals__)
    if home is None:
        return NotImplemented
    arguments = (marshalled(function.__code__), home, function.__closure__)
    traits = traits_of(function, home)
    if traits is None:
        return make_function, arguments
    # The traits come after the function, since they may refer to it.
    return make_function, arguments, traits, None, None, set_traits


def make_function(data: bytes, home: str, cells: tuple[CellType, ...] | None) -> FunctionType:
    """Return a function from `marshalled` code, with a module's live globals."""
    return FunctionType(unmarshalled(data), globals_named(home), None, None, cells)


def set_traits(function: FunctionType, traits: dict[str, Any]) -> None:
    """Give a function the traits of `traits_of`."""
    for name, value in traits.items():
        if name == "__dict__":
            function.__dict__.update(value)
        else:
            setattr(function, name, value)


LEAVES: Final = frozenset({int, str, float, bool, bytes, type(None)})
"""Types without parts, which every pickler takes as they are."""

Simple = tuple[bytes, str, tuple[Any, ...], "dict[str, Any] | None"]
"""A function that captures nothing but plain data: code, home, captured values, traits."""


def simple_parts(function: FunctionType) -> Simple | None:
    """Return the parts of a function that captures nothing but plain data, or None if it does not.

    Most tasks are such functions, and their parts need no special pickler.
    """
    contents: list[Any] = []
    try:
        for cell in function.__closure__ or ():
            content = cell.cell_contents
            if type(content) not in LEAVES and not is_plain_data(content):
                return None
            contents.append(content)
    except ValueError:  # a variable that is not yet set
        return None
    home = name_of_globals(function.__globals__)
    if home is None:
        return None
    traits = traits_of(function, home)
    if traits is not None:
        for value in traits.values():
            if not is_plain_data(value):
                return None
    return marshalled(function.__code__), home, tuple(contents), traits


def make_simple(parts: Simple) -> FunctionType:
    """Return the function of `simple_parts`."""
    data, home, contents, traits = parts
    cells = tuple(map(CellType, contents)) if contents else None
    function = FunctionType(unmarshalled(data), globals_named(home), None, None, cells)
    if traits is not None:
        set_traits(function, traits)
    return function


MAX_PLAIN_ITEMS: Final = 64
MAX_PLAIN_DEPTH: Final = 4


def is_plain_data(value: Any, room: int = MAX_PLAIN_DEPTH) -> bool:
    """Return whether a value is small and consists of builtin data only. Large values are not examined."""
    kind = type_of(value)
    if kind in LEAVES or (kind is type and value.__module__ == "builtins"):
        return True
    if room <= 0 or kind not in _CONTAINERS or len(value) > MAX_PLAIN_ITEMS:
        return False
    if kind is dict:
        for key in value:
            if type(key) not in LEAVES:
                return False
        value = value.values()
    for item in value:  # noqa: SIM110 - faster than all()
        if type(item) not in LEAVES and not is_plain_data(item, room - 1):
            return False
    return True


_CONTAINERS: Final = frozenset({list, dict, tuple, set, frozenset})


def reduce_cell(cell: CellType) -> Any:
    """Return the reduction that pickles a captured variable."""
    try:
        content = cell.cell_contents
    except ValueError:
        return make_cell, ()
    if type(content) in LEAVES:
        return make_cell, (content,)
    # The content comes after the cell, since a function may capture itself.
    return make_cell, (), content, None, None, set_cell


def make_cell(*content: Any) -> CellType:
    """Return a cell with that content, or an empty one."""
    return CellType(*content)


def set_cell(cell: CellType, content: Any) -> None:
    """Fill a cell."""
    cell.cell_contents = content


def reduce_method(method: MethodType) -> Any:
    """Return the reduction that pickles a bound method."""
    name = getattr(method.__func__, "__name__", "")
    if getattr(method.__self__, name, None) == method:
        return getattr, (method.__self__, name)
    return make_method, (method.__func__, method.__self__)


def make_method(function: Any, bound: Any) -> MethodType:
    """Return a method bound to an object."""
    return MethodType(function, bound)


def make_module(name: str) -> Any:
    """Return a module, importing it if needed."""
    return module_named(name)
