"""The slow pickler: dill, for what the fast one cannot do, such as a class made in a function.

Import this module only when it is needed: it imports dill. Its name has to contain "dill", because
dill asks for the module of a pickler's class to learn whether it may use its own shortcuts.
"""

from __future__ import annotations

import io
import threading
import warnings
from types import FunctionType, ModuleType
from typing import Any, Final, cast

import dill  # pyright: ignore[reportMissingTypeStubs]

from mini_workflow.codecs.functions import make_module
from mini_workflow.codecs.names import (
    MAIN,
    SPAWNED_MAIN,
    find,
    globals_named,
    is_importable,
    module_named,
    name_of_globals,
    type_of,
)
from mini_workflow.codecs.refusals import Refused, refusal

_dill: Any = cast(Any, dill)
_Pickler: Any = _dill.Pickler
_Unpickler: Any = _dill.Unpickler

PROTOCOL: Final = 5

_quiet: Final = threading.RLock()


class RefusingPickler(_Pickler):
    """dill with its default settings, except for references into the user's modules.

    dill copies the globals of a captured module and rebuilds the functions and classes of the main
    script; here they go by reference, as those of any other module. Raises Refused for what dill
    would silently take.
    """

    def __init__(self, file: io.BytesIO) -> None:
        _Pickler.__init__(self, file, PROTOCOL)
        # dill binds the main module when it is imported, which may be too early.
        self._main: ModuleType = module_named(MAIN)

    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        """Refuse by type, write references; everything else goes dill's way."""
        kind = type_of(obj)
        if id(obj) not in self.memo:
            if kind is dict:
                home = name_of_globals(obj)
                if home is not None:
                    return self.save_reduce(globals_named, (home,), obj=obj)
            elif kind is ModuleType:
                return self.save_reduce(make_module, (obj.__name__,), obj=obj)
            elif kind is FunctionType or isinstance(obj, type):
                if obj.__module__ in (MAIN, SPAWNED_MAIN) and is_importable(obj):
                    return self.save_global(obj)
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
        """As usual, but for the main script."""
        if module in (MAIN, SPAWNED_MAIN):
            return find(module, name)
        return _Unpickler.find_class(self, module, name)


def dump(value: object) -> bytes:
    """A value as dill. Raises whatever dill raises."""
    out = io.BytesIO()
    # dill warns of what it then raises as well. The lock is for the filters, which are global.
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore", _dill.PicklingWarning)
        RefusingPickler(out).dump(value)
    return out.getvalue()


def load(data: bytes) -> Any:
    """The value of `dump`. Raises whatever dill raises."""
    return MainAwareUnpickler(io.BytesIO(data)).load()
