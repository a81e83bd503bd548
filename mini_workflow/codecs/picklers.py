"""Pickle values and functions by the fast pickler of C, which refuses forbidden objects."""

from __future__ import annotations

import io
import pickle
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from mini_workflow.class_names import MAIN, SPAWNED_MAIN, is_main, main_name, name_of
from mini_workflow.codecs.forbidden import Refused, refusal
from mini_workflow.codecs.functions import (
    make_module,
    marshalled,
    reduce_cell,
    reduce_function,
    reduce_method,
    unmarshalled,
)
from mini_workflow.codecs.names import find, is_importable, type_of

PROTOCOL: Final = 5  # as in Python 3.8 to 3.13: a newer Python must not write what an older reads

_MAIN: Final = MAIN.encode()
_SPAWNED_MAIN: Final = SPAWNED_MAIN.encode()


def reference(named: Any) -> Any:
    """Return the reduction that pickles a class or function of the main script by its importable name;
    NotImplemented for others, which are pickled by name as usual.
    """
    if named.__module__ in (MAIN, SPAWNED_MAIN) and is_importable(named):
        return find, (main_name(), named.__qualname__)
    return NotImplemented


class DataPickler(pickle.Pickler):
    """Pickles data, and functions and classes by reference. Raises Refused."""

    def reducer_override(self, obj: Any) -> Any:
        """Refuse by type; leave everything else to the pickler."""
        kind = type_of(obj)
        if kind is FunctionType or issubclass(kind, type):
            return reference(obj)
        noun = refusal(kind)
        if noun is not None:
            raise Refused(noun)
        return NotImplemented


class CallPickler(pickle.Pickler):
    """Pickles data and functions; functions that cannot be imported, by value. Raises Refused."""

    def reducer_override(self, obj: Any) -> Any:
        """Reduce functions and their parts, refuse by type, and leave everything else to the pickler."""
        kind = type_of(obj)
        if kind is FunctionType:
            return reference(obj) if is_importable(obj) else reduce_function(obj)
        if kind is CellType:
            return reduce_cell(obj)
        if issubclass(kind, type):
            return reference(obj)
        if kind is MethodType:
            return reduce_method(obj)
        if kind is ModuleType:
            return make_module, (obj.__name__,)
        if kind is CodeType:
            return unmarshalled, (marshalled(obj),)
        noun = refusal(kind)
        if noun is not None:
            raise Refused(noun)
        return NotImplemented


class _MainAwareUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if is_main(module_name):
            return find(module_name, global_name)
        return super().find_class(module_name, global_name)


def dump_data(value: object) -> bytes:
    """Return a pickled value, which any later Python can read. Raises any error of the pickler."""
    out = io.BytesIO()
    DataPickler(out, PROTOCOL).dump(value)
    return out.getvalue()


def dump_call(value: object) -> bytes:
    """Return a pickled value with functions in it, which only this version of Python can read. Raises any
    error of the pickler.
    """
    out = io.BytesIO()
    CallPickler(out, PROTOCOL).dump(value)
    return out.getvalue()


def load(data: bytes) -> Any:
    """Return the value of `dump_data` or `dump_call`. Raises any error of the unpickler."""
    if _MAIN in data or _SPAWNED_MAIN in data or main_name().encode() in data:
        return _MainAwareUnpickler(io.BytesIO(data)).load()
    return pickle.loads(data)


def type_name(value: object) -> str:
    """Return a value's type for messages: ``module.qualname``, without the module of a builtin."""
    module, _, qualname = name_of(type(value)).partition(":")
    return qualname if module == "builtins" else f"{module}.{qualname}"
