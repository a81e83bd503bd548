"""Find classes and functions by their names, ``module:qualname``, as `class_names` writes them."""

from __future__ import annotations

import collections
import importlib
import sys
from collections.abc import Callable
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any, Final

from mini_workflow.class_names import MAIN, SPAWNED_MAIN, is_main, main_module, main_name, name_of
from mini_workflow.errors import PayloadNotReadable

_PROGRAMS: Final = frozenset({"this", "antigravity", "__hello__", "__phello__"})
"""Modules of the standard library whose import has an effect."""

_CONTAINERS: Final[tuple[type[Any], ...]] = (
    *(list, dict, set, frozenset, tuple, int, float, complex, bool, str, bytes, bytearray),
    *(collections.Counter, collections.OrderedDict, collections.deque),
)
_FACTORIES: Final = {f"{kind.__module__}:{kind.__qualname__}": kind for kind in _CONTAINERS}
"""The factories of a defaultdict that a stored value may name, besides the classes of values."""

type_of: Final[Callable[[object], type[Any]]] = type
"""`type`, declared so that type checkers do not narrow the class by the value."""


def is_local(named: Any) -> bool:
    """Return whether the class or function was made in a function, and so cannot be imported."""
    return "<locals>" in named.__qualname__


def module_named(name: str) -> ModuleType:
    """Return the module of that name, importing it if needed. Raises ImportError."""
    if is_main(name):
        return main_module()
    module = sys.modules.get(name)
    return importlib.import_module(name) if module is None else module


def globals_named(name: str) -> dict[str, Any]:
    """Return the live globals of a module, which functions made from captured code share.

    In a spawned process `multiprocessing` runs the script in a namespace of its own and copies the result
    into `__mp_main__`. The script's own functions use the first namespace, so it is preferred.
    """
    if is_main(name):
        copied = module_named(name).__dict__
        if copied.get("__name__") != SPAWNED_MAIN:
            return copied
        for value in list(copied.values()):
            if type(value) is FunctionType and value.__globals__.get("__name__") == SPAWNED_MAIN:
                return value.__globals__
        return copied
    return module_named(name).__dict__


def name_of_globals(space: dict[str, Any]) -> str | None:
    """Return the name of the module that has these globals, or None."""
    name = space.get("__name__")
    if name == SPAWNED_MAIN:
        return main_name() if "__builtins__" in space else None
    if not isinstance(name, str):
        return None
    module = sys.modules.get(name)
    if module is None or module.__dict__ is not space:
        return None
    return main_name() if name == MAIN else name


def find(module: str, qualname: str) -> Any:
    """Return the object of that qualified name in a module. Raises ImportError or AttributeError."""
    if is_main(module):
        for candidate in (SPAWNED_MAIN, MAIN):
            if candidate in sys.modules:
                try:
                    return _walk(sys.modules[candidate], qualname)
                except AttributeError:
                    continue
        raise AttributeError(
            f"the main script of this process has no {qualname!r}: put code that tasks use into a "
            "module that every process can import"
        )
    return _walk(module_named(module), qualname)


def _walk(start: object, qualname: str) -> Any:
    for part in qualname.split("."):
        start = getattr(start, part)
    return start


def is_importable(named: Any) -> bool:
    """Return whether an import of its name finds this very class or function."""
    qualname = named.__qualname__
    if "<" in qualname:
        return False
    module = sys.modules.get(named.__module__)
    if module is None:
        return False
    try:
        if "." not in qualname:
            return module.__dict__.get(qualname) is named or getattr(module, qualname) is named
        return _walk(module, qualname) is named
    except AttributeError:
        return False


def load(name: str) -> Any:
    """Return the object that `name_of` named. Raises PayloadNotReadable, with the name and the remedy."""
    module, separator, qualname = name.partition(":")
    if not separator:
        raise PayloadNotReadable(f"{name!r} is not of the form module:qualname")
    try:
        return find(module, qualname)
    except ImportError as error:
        raise PayloadNotReadable(
            f"cannot import module {module!r}, which holds {qualname!r}: {error}. Deploy the module "
            "under that name, or keep an alias where it used to be"
        ) from error
    except AttributeError as error:
        if module == MAIN:
            raise PayloadNotReadable(
                f"{name!r} was stored by a program that no name could import, and is not defined by "
                "this one: run that program, or define it in the main script of this process"
            ) from error
        raise PayloadNotReadable(
            f"module {module!r} has no {qualname!r}: it was renamed, moved or removed. Keep an "
            "alias under the old name until no execution holds a value of it"
        ) from error


def load_class(name: str) -> type[Any]:
    """Return the class that a stored value names: an exception, a dataclass, an enum, a pydantic model or a
    named tuple. Raises PayloadNotReadable for anything else.

    The name comes from outside, and the class may be called. So other classes are refused, and modules
    that run a program are not imported.
    """
    module, _, _ = name.partition(":")
    runs = module in _PROGRAMS or module.endswith(f".{MAIN}")
    if runs and module not in sys.modules and not is_main(module):
        raise PayloadNotReadable(
            f"a stored value names {name!r}, and importing {module!r} runs a program: do not trust "
            "the origin of this value"
        )
    return _value_class(name, load(name))


def load_known_class(name: str) -> type[Any]:
    """Return the class that a stored value names, if its module is imported already. Imports nothing.

    Raises PayloadNotReadable.
    """
    module, _, qualname = name.partition(":")
    for candidate in (SPAWNED_MAIN, MAIN) if is_main(module) else (module,):
        # By its __dict__: a module may import something when an attribute is read.
        found: Any = sys.modules.get(candidate)
        for part in qualname.split("."):
            found = getattr(found, "__dict__", {}).get(part)
        if found is not None:
            return _value_class(name, found)
    raise PayloadNotReadable(
        f"a stored value is of {name!r}, which is not imported here, and a view imports nothing by a "
        "stored name: import the module, or if you trust the origin of the value give --trust, or "
        "trust=True"
    )


def _value_class(name: str, found: object) -> type[Any]:
    if not isinstance(found, type):
        raise PayloadNotReadable(
            f"{name!r} is no longer a class but a {type(found).__qualname__}. Keep the class under "
            "the old name until no execution holds a value of it"
        )
    kind: type[Any] = found  # pyright: ignore[reportUnknownVariableType]
    if not is_value_class(kind):
        raise PayloadNotReadable(
            f"{name!r} is no exception, dataclass, enum, pydantic model or named tuple: keep it one "
            "until no execution holds a value of it. If it never was one, do not trust the origin of "
            "this value"
        )
    return kind


def is_value_class(kind: type[Any]) -> bool:
    """Return whether a stored value may name that class."""
    return (
        issubclass(kind, (BaseException, Enum))
        or hasattr(kind, "__dataclass_fields__")
        or is_model_class(kind)
        or (tuple in kind.__mro__ and isinstance(getattr(kind, "_fields", None), tuple))
    )


def factory_name(factory: object) -> str | None:
    """Return the name of the factory of a defaultdict, or None if a stored value may not name it."""
    if not isinstance(factory, type) or not is_importable(factory):
        return None
    name = name_of(factory)
    return name if name in _FACTORIES or is_value_class(factory) else None


def load_factory(name: str, load: Callable[[str], type[Any]]) -> type[Any]:
    """Return the class that `factory_name` named; `load` finds it. Raises PayloadNotReadable."""
    return _FACTORIES.get(name) or load(name)


def is_model_class(kind: type[Any]) -> bool:
    """Return whether a class is a pydantic model."""
    pydantic = sys.modules.get("pydantic")
    model: Any = getattr(pydantic, "BaseModel", None)
    return isinstance(model, type) and issubclass(kind, model)
