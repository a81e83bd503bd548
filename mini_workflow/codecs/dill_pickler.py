"""Pickle values that the fast pickler cannot, such as a class made in a function, by dill, which is slow.

Import this module only when it is needed, since it imports dill. Its name has to contain "dill", because
dill reads the module of a pickler's class to decide whether it may use its own shortcuts.
"""

from __future__ import annotations

import io
import pickle
import threading
import warnings
from types import FunctionType, ModuleType
from typing import Any, Final, cast
from weakref import WeakSet

import dill  # pyright: ignore[reportMissingTypeStubs]

from mini_workflow.class_names import MAIN, is_main
from mini_workflow.codecs.forbidden import Refused, refusal
from mini_workflow.codecs.functions import make_module
from mini_workflow.codecs.local_classes import (
    Reference,
    adopt,
    find_local_class,
    is_alive,
    is_local_class,
    reference_to,
)
from mini_workflow.codecs.names import (
    find,
    globals_named,
    is_importable,
    module_named,
    name_of_globals,
    type_of,
)
from mini_workflow.codecs.picklers import reference

_dill: Any = cast(Any, dill)
_Pickler: Any = _dill.Pickler
_Unpickler: Any = _dill.Unpickler

PROTOCOL: Final = 5

_WITH_CLASSES: Final = b"mwl1"
"""The beginning of bytes with local classes: their references and their code, then the value."""

_quiet: Final = threading.RLock()


class RefusingPickler(_Pickler):
    """dill with its default settings, except for references into the user's modules.

    dill copies the globals of a captured module and rebuilds the functions and classes of the main script;
    here they are written by reference, like those of any other module. Local classes are written by their
    tokens, or as code with `as_code`; `met` collects them. Raises Refused for objects that dill would
    silently accept.
    """

    def __init__(self, file: io.BytesIO, met: dict[str, type[Any]], *, as_code: bool) -> None:
        _Pickler.__init__(self, file, PROTOCOL)
        self._met = met
        self._as_code = as_code
        # dill binds the main module when it is imported, which may be too early.
        self._main: ModuleType = module_named(MAIN)

    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        """Refuse by type, and write references; leave everything else to dill."""
        kind = type_of(obj)
        if id(obj) not in self.memo:
            if kind is dict:
                home = name_of_globals(obj)
                if home is not None:
                    return self.save_reduce(globals_named, (home,), obj=obj)
            elif kind is ModuleType:
                return self.save_reduce(make_module, (obj.__name__,), obj=obj)
            elif kind is FunctionType or isinstance(obj, type):
                if is_importable(obj):
                    found = reference(obj)
                    if found is not NotImplemented:
                        return self.save_reduce(*found, obj=obj)
                elif is_local_class(obj):
                    token = reference_to(obj).token
                    self._met[token] = obj
                    if not self._as_code:
                        return self.save_reduce(find_local_class, (token,), obj=obj)
            else:
                noun = refusal(kind)
                if noun is not None:
                    raise Refused(noun)
        return _Pickler.save(self, obj, save_persistent_id)


class MainAwareUnpickler(_Unpickler):
    """dill's unpickler, which finds the main script under either of its names."""

    def __init__(self, file: io.BytesIO) -> None:
        _Unpickler.__init__(self, file)
        self._main: ModuleType = module_named(MAIN)

    def find_class(self, module: str, name: str) -> Any:
        """Find a class; in the main script by either name of it."""
        if is_main(module):
            return find(module, name)
        return _Unpickler.find_class(self, module, name)


def dump(value: object) -> bytes:
    """Return a value pickled by dill. Raises any error of dill, and PicklingError for a local class that
    cannot be rebuilt.
    """
    # dill warns before it raises. The lock protects the filters of warnings, which are global.
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore", _dill.PicklingWarning)
        used: dict[str, type[Any]] = {}
        data = _dump(value, used, as_code=False)
        if not used:
            return data
        met: dict[str, type[Any]] = {}
        # `met` is complete when it is pickled, after the classes.
        code = _dump((list(used.values()), met), met, as_code=True)
    if any(kind not in _sound for kind in met.values()):
        _try_out(code, met)
    references = [tuple(reference_to(kind)) for kind in used.values()]
    return _WITH_CLASSES + pickle.dumps((references, code, data), PROTOCOL)


def _dump(value: object, met: dict[str, type[Any]], *, as_code: bool) -> bytes:
    out = io.BytesIO()
    RefusingPickler(out, met, as_code=as_code).dump(value)
    return out.getvalue()


_sound: WeakSet[type[Any]] = WeakSet()
"""Local classes that were once rebuilt from their code without loss."""


_NOT_MISSED: Final = frozenset(
    {"__annotations__", "__annotate_func__", "__annotations_cache__", "__orig_bases__"}
    | {"__firstlineno__", "__static_attributes__", "__slotnames__"}
)
"""Attributes that only describe a class, or cache data in it. dill leaves them out of a named tuple."""


def _try_out(code: bytes, met: dict[str, type[Any]]) -> None:
    # Some metaclasses can be pickled, but make no class from the result.
    try:
        again: dict[str, type[Any]] = MainAwareUnpickler(io.BytesIO(code)).load()[1]
        lost = [
            kind
            for token, kind in met.items()
            if vars(kind).keys() - vars(again[token]).keys() - _NOT_MISSED
        ]
    except Exception as error:
        raise pickle.PicklingError(
            f"a local class cannot be rebuilt: {type(error).__name__}: {error}"
        ) from error
    if lost:
        raise pickle.PicklingError(f"{lost[0].__qualname__} cannot be rebuilt without loss")
    _sound.update(met.values())


def load(data: bytes, *, by_name: bool = False) -> Any:
    """Return the value of `dump`. Raises any error of dill.

    With `by_name`, local classes of an earlier process may be found by their names.
    """
    if not data.startswith(_WITH_CLASSES):
        return MainAwareUnpickler(io.BytesIO(data)).load()
    references, code, data = pickle.loads(memoryview(data)[len(_WITH_CLASSES) :])
    rebuilt: dict[str, type[Any]] = {}  # keeps the classes alive until the value is loaded
    if not all(is_alive(Reference(*reference), by_name=by_name) for reference in references):
        rebuilt = MainAwareUnpickler(io.BytesIO(code)).load()[1]
        for token, kind in rebuilt.items():
            adopt(token, kind)
    return MainAwareUnpickler(io.BytesIO(data)).load()
